//! The README's fragments of programs, with what makes programs of them around: its lines stand here as they stand there, and compile.
#![allow(dead_code, unused_variables, clippy::allow_attributes, clippy::print_stdout, reason = "they are compiled, and not run")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{ConnectionChanged, Credentials, InterpolateAppExt, UdpTransport, Unanswered};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Angles, Codec, Interpolation};
use roomkeeper::room::{Rewind, RewindAppExt};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone)]
struct Position([f32; 2]);
#[derive(Component, Serialize, Deserialize, Clone)]
struct Aim([f32; 2]);
#[derive(Component, Serialize, Deserialize)]
struct Hand(u8);
#[derive(Component)]
struct Trap;
#[derive(Serialize, Deserialize)]
struct Fire;
#[derive(Serialize, Deserialize, Clone)]
struct Hit;

const RED: u64 = 1;

fn told(app: &mut App, world: &mut World, at: [f32; 2]) {
    app.sync::<Position>("position").latest();                     // newer values supersede older ones: nothing waits for a lost packet
    app.sync_with("aim", Angles::<2>::new(12).via(|aim: &Aim| aim.0, Aim)).latest();   // twelve bits an angle
    app.sync::<Hand>("hand").to_owner();                           // a component that the owner of its entity alone is told
    app.places_by(|position: &Position| position.0);               // what being near means
    app.sync_audience();                                           // what is hidden by hand is hidden after a restart, too

    world.spawn((Position(at), Audience::EVERYONE.near()));        // whoever is near sees it
    world.spawn((Trap, Audience::mask(RED)));                      // the red team sees it
}

mod predicted {
    use super::{Deserialize, Serialize};
    use bevy_ecs::prelude::*;

    use bevy_app::prelude::*;
    use roomkeeper::client::{ReplicaPlugin, UdpPlugin};
    use roomkeeper::predict::{Mispredicted, PredictAppExt, PredictPlugin, PredictedUpdate};

    #[derive(Component, Serialize, Deserialize, Clone)]
    struct Position(f32);

    fn protocol(_: &mut App) {}

    fn fly() {}

    fn client(app: &mut App) {
        app.add_plugins((ReplicaPlugin, UdpPlugin, PredictPlugin::new(protocol, rules)));
        protocol(app);
        app.predict_smoothly::<Position>(                          // small corrections fade in a tenth of a second, others snap
            |at, from, to, share| Position(at.0 + (to.0 - from.0) * share),
            |a, b| (a.0 - b.0).abs(),
            2.0,
        );
        app.add_observer(|wrong: On<Mispredicted>| println!("{wrong:?}"));
    }

    fn rules(app: &mut App) {
        app.add_systems(FixedUpdate, fly).add_systems(PredictedUpdate, fly);   // what happens between two commands
    }
}

fn fetch_token() -> std::task::Poll<Result<Credentials, String>> {
    std::task::Poll::Pending
}

fn comes_back(app: &mut App, transport: &mut UdpTransport) {
    app.add_observer(|changed: On<ConnectionChanged>| println!("{}", changed.state));   // connecting, joining 40 %, in the room, reconnecting, ...
    app.add_observer(|lost: On<Unanswered>| println!("{} arrived: {}", lost.id, lost.arrived));   // a command of which no answer will come
    transport.renew_by(fetch_token);                               // a connect token is good for one connection: where the next is from, to whichever host
}

mod shown {
    use super::*;

    fn positions() -> Interpolation<Position> {                    // both sides
        Interpolation::linear(|position: &Position| position.0, Position).teleport_beyond(5.0)
    }
    fn both(app: &mut App) {
        app.interpolate(positions());                                  // the client: draw `Shown<Position>`, smooth at any frame rate; one's own as predicted
        app.rewindable(positions());                                   // the server: it remembers 200 ms
    }

    fn decide_fire(fire: In<Issued<Fire>>, past: Rewind<Position>, things: Query<(Entity, &Position)>) -> Decision {
        let seen = things.iter().filter_map(|(thing, now)| past.at(thing, fire.seen, now));   // where its author saw them
        // ...
        if seen.count() > 0 { accept(Hit) } else { reject("nobody_there") }
    }
}
