//! What the server does; a client runs it too, to foresee what its commands will do.

use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::predict::PredictedUpdate;
use roomkeeper::prelude::*;
use roomkeeper::protocol::User;
use roomkeeper::room::every;

use crate::protocol::{Apples, Basket, Head, Headed, Heading, Pick, Picked, Position};

const TREES: [[f32; 2]; 3] = [[4.0, 1.0], [-3.0, 3.0], [0.0, -4.0]];
const APPLES_MAX: u32 = 5;
const REACH: f32 = 1.5;
const METRES_A_SECOND: f32 = 3.0;

pub fn rules(app: &mut App) {
    app.apply(welcome).decide(decide_head).apply(head).decide(decide_pick).apply(pick);
    app.add_systems(Startup, plant);
    app.add_systems(FixedUpdate, (walk, grow.run_if(every(Duration::from_secs(5)))));
    // Clients foresee it between two commands.
    app.add_systems(PredictedUpdate, walk);
}

fn plant(mut commands: Commands) {
    for (n, place) in TREES.into_iter().enumerate() {
        let name = format!("tree{n}");
        commands.spawn((EntityId::with_name(&name), Position(place), Apples(APPLES_MAX)));
    }
}

fn welcome(joined: On<Happened<UserJoined>>, mut commands: Commands) {
    let user = User { name: joined.name.clone() };
    commands.spawn((joined.user, user, Position([0.0, 0.0]), Heading::default(), Basket(0)));
}

/// Decides, and changes nothing.
fn decide_head(head: In<Issued<Head>>) -> Decision {
    let [x, y] = head.command.0;
    let length = (x * x + y * y).sqrt().max(1.0);
    accept(Headed { who: head.author_id, to: [x / length, y / length] })
}

/// Changes, and decides nothing.
fn head(headed: On<Happened<Headed>>, index: Res<EntityIndex>, mut walkers: Query<&mut Heading>) {
    if let Some(mut heading) = index.entity(headed.who).and_then(|who| walkers.get_mut(who).ok()) {
        heading.0 = headed.to;
    }
}

fn decide_pick(pick: In<Issued<Pick>>, people: Query<&Position>, trees: Query<(&EntityId, &Position, &Apples)>) -> Decision {
    let [x, y] = people.get(pick.author)?.0;
    let near = |at: &Position| {
        let (dx, dy) = (at.0[0] - x, at.0[1] - y);
        dx * dx + dy * dy < REACH * REACH
    };
    // The order of a query is not the same everywhere: the least id is.
    match trees.iter().filter(|(_, at, _)| near(at)).min_by_key(|(id, ..)| **id) {
        None => reject("too_far"),
        Some((.., Apples(0))) => reject("none_ripe"),
        Some((tree, ..)) => accept(Picked { who: pick.author_id, tree: *tree }),
    }
}

fn pick(picked: On<Happened<Picked>>, index: Res<EntityIndex>, mut trees: Query<&mut Apples>, mut baskets: Query<&mut Basket>) -> Result {
    if let (Some(tree), Some(who)) = (index.entity(picked.tree), index.entity(picked.who)) {
        trees.get_mut(tree)?.0 -= 1;
        baskets.get_mut(who)?.0 += 1;
    }
    Ok(())
}

fn walk(mut walkers: Query<(&mut Position, &Heading)>) {
    let step = METRES_A_SECOND * RoomClock::STEP.as_secs_f32();
    for (mut at, heading) in walkers.iter_mut().filter(|(_, heading)| heading.0 != [0.0, 0.0]) {
        at.0 = [at.0[0] + heading.0[0] * step, at.0[1] + heading.0[1] * step];
    }
}

fn grow(mut trees: Query<&mut Apples>) {
    trees.iter_mut().filter(|apples| apples.0 < APPLES_MAX).for_each(|mut apples| apples.0 += 1);
}
