//! The game in a terminal: what there is to see, and what the keys ask for.

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::cli::{Actor, Eyes, Key, Keys, Picture, Pilot, Shape, Tint, View};
use roomkeeper::client::{InterpolateAppExt, Shown, issue};
use roomkeeper::prelude::*;
use roomkeeper::protocol::User;

use crate::protocol::{Apples, Basket, Head, Pick, Position, positions};

pub fn view() -> View {
    View { draw, pilot, client, keys: &[("wasd, arrows", "walk"), ("space", "pick an apple")] }
}

/// What moves is drawn between the room's values.
fn client(app: &mut App) {
    app.interpolate(positions());
}

fn draw(world: &mut World, eyes: &Eyes) -> Picture {
    let mut picture = Picture { title: "orchard".to_owned(), ..Picture::default() };
    let mut things = world.query::<(&EntityId, &Position, Option<&Shown<Position>>, Option<&Apples>, Option<(&User, &Basket)>)>();
    for (id, at, shown, apples, somebody) in things.iter(world) {
        // A recorded match is looked at without `Shown`.
        let at = shown.map_or(at, |shown| &shown.0).0;
        if let Some(apples) = apples {
            picture.shapes.push(Shape::disc(at, 0.9, Tint::Green));
            picture.shapes.push(Shape::mark(at, apples.0.to_string(), Tint::Red));
        }
        if let Some((user, basket)) = somebody {
            picture.shapes.push(Shape::mark(at, "@", if *id == eyes.of { Tint::White } else { Tint::Grey }));
            picture.actors.push(Actor { id: *id, name: user.name.clone() });
            picture.facts.push((user.name.clone(), format!("{} apples", basket.0)));
            picture.focus = picture.focus.or((*id == eyes.of).then_some(at));
        }
    }
    picture.actors.sort_by_key(|actor| actor.id);
    picture.facts.sort();
    picture
}

fn pilot() -> Pilot {
    let walk: [&[Key]; 4] =
        [&[Key::Char('d'), Key::Right], &[Key::Char('w'), Key::Up], &[Key::Char('a'), Key::Left], &[Key::Char('s'), Key::Down]];
    let mut heading = [0.0, 0.0];
    Box::new(move |world: &mut World, keys: &Keys| {
        let (wanted, picks) = (keys.direction(walk), keys.struck.contains(&Key::Char(' ')));
        let turns = wanted != heading;
        heading = wanted;
        // A command that can't be sent, because the connection just ended, need not be.
        let _ = turns.then(|| issue(world, &Head(wanted)));
        let _ = picks.then(|| issue(world, &Pick));
    })
}
