//! Conversations that end in the middle: by a goodbye, by messages that can't be read, in another room. What is over stays over, and nothing of it
//! is left half done.
#![expect(clippy::unwrap_used, reason = "tests")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bytes::Bytes;
use roomkeeper::client::{Connection, ConnectionState, IssueError, Replica, ReplicaPlugin, Unanswered, issue};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{CommandId, NetId, Protocol, RoomId, ServerMessage, batch_message, snapshot_messages};
use roomkeeper::room::{Room, RoomOptions};
use roomkeeper::sim::{LinkConditions, Sim, TIMEOUT_TICKS};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Noise(Vec<u8>);
#[derive(Component, Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Health(i16);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Burning(String);
#[derive(Serialize, Deserialize)]
struct Wave;
#[derive(Clone, Serialize, Deserialize)]
struct Waved;

fn protocol(app: &mut App) {
    app.sync::<Noise>("noise");
    app.sync::<Health>("health");
    app.sync::<Burning>("burning");
    app.command::<Wave>("wave").stateless_fact::<Waved>("waved");
}

fn rules(app: &mut App) {
    app.decide(|_: In<Issued<Wave>>| -> Decision { accept(Waved) });
}

fn deliver(sim: &mut Sim, message: Bytes) {
    sim.client_mut("ann").world_mut().resource_mut::<Connection>().deliver(message);
}

#[test]
fn who_leaves_while_a_snapshot_is_on_its_way_stays_away() {
    let link = LinkConditions { kbit_per_second: 1_000, delay_millis: 40, ..LinkConditions::PERFECT };
    let mut sim = Sim::new(protocol, rules).link(link);
    let mut rng = RoomRng::new(3);
    for _ in 0..1_000 {
        let noise = (0..256).map(|_| rng.range(0..256) as u8).collect();
        sim.room_mut().world_mut().spawn(Noise(noise));
    }
    sim.connect("ann", false);
    sim.tick_while(|sim| !matches!(sim.client_of("ann").state(), ConnectionState::Joining(share) if *share > 0.0));
    sim.client_mut("ann").world_mut().resource_mut::<Connection>().leave();
    for _ in 0..60 {
        sim.tick();
        assert_eq!(*sim.client_of("ann").state(), ConnectionState::Idle);
    }
    assert_eq!(sim.lobby_mut().member_count("sim"), 0);
    assert!(!sim.client_of("ann").world().resource::<Replica>().is_live());
    // It can think otherwise.
    sim.reconnect("ann", false).tick_while(|sim| !sim.client_of("ann").is_live());
    sim.settle();
    assert_eq!(sim.assert_converged(), 1);
}

#[test]
fn what_could_not_be_read_ends_it_for_the_first_reason_whatever_comes_later() {
    let mut sim = Sim::new(protocol, rules).client("ann");
    sim.room_mut().world_mut().spawn(Health(1));
    sim.run_ticks(3);
    deliver(&mut sim, Bytes::from_static(&[0xff]));
    sim.tick();
    let why = sim.client_of("ann").state().clone();
    assert!(matches!(why, ConnectionState::Broken(_)), "{why}");
    // Something else that can't be read, a whole snapshot, and what the host goes on to say.
    deliver(&mut sim, Bytes::from_static(&[0xfe, 1]));
    for message in snapshot_messages(&sim.room_mut().snapshot().unwrap()) {
        deliver(&mut sim, message);
    }
    for _ in 0..40 {
        sim.room_mut().world_mut().spawn(Health(2));
        sim.tick();
    }
    sim.client_mut("ann").world_mut().resource_mut::<Connection>().lost("the way is gone");
    sim.tick();
    assert_eq!(*sim.client_of("ann").state(), why);
    assert!(!sim.client_of("ann").world().resource::<Replica>().is_live());
    sim.reconnect("ann", false).tick_while(|sim| !sim.client_of("ann").is_live());
    sim.settle();
    assert_eq!(sim.assert_converged(), 1);
}

/// Ann, who is cut off, and the batch that she misses: one goes, one comes, one goes and comes again, one changes.
fn missed() -> (Sim, Bytes) {
    let mut sim = Sim::new(protocol, rules).client("ann");
    let world = sim.room_mut().world_mut();
    let lamp = world.spawn((EntityId::named("lamp"), Health(1))).id();
    let door = world.spawn((EntityId::named("door"), Health(2))).id();
    let statue = world.spawn((EntityId::named("statue"), Health(3), Burning("hot".to_owned()))).id();
    sim.run_ticks(5).vanish("ann");
    let world = sim.room_mut().world_mut();
    world.despawn(lamp);
    world.despawn(door);
    world.spawn((EntityId::named("door"), Health(4)));
    world.spawn((EntityId::named("crate"), Health(5)));
    world.entity_mut(statue).insert(Health(9)).remove::<Burning>();
    sim.tick();
    let batch = sim.batches().last().unwrap().1.clone();
    (sim, batch)
}

#[test]
fn a_batch_that_breaks_off_anywhere_leaves_no_ghosts() {
    let length = missed().1.len();
    assert!(length > 30, "{length}");
    for cut in 0..length {
        let (mut sim, batch) = missed();
        deliver(&mut sim, batch_message(&batch.slice(..cut)));
        sim.tick();
        assert!(matches!(sim.client_of("ann").state(), ConnectionState::Broken(_)), "cut at {cut}: {}", sim.client_of("ann").state());
        sim.reconnect("ann", false).tick_while(|sim| !sim.client_of("ann").is_live());
        sim.settle();
        assert_eq!(sim.assert_converged(), 1, "cut at {cut}");
        let world = sim.client_mut("ann").world_mut();
        let all = world.query_filtered::<(), With<NetId>>().iter(world).count();
        assert_eq!(all, world.resource::<Replica>().len(), "cut at {cut}");
        let ids: Vec<EntityId> = world.query::<&EntityId>().iter(world).copied().collect();
        let told = sim.client_of("ann").told();
        for id in ids {
            let times = |all: &[EntityId]| all.iter().filter(|other| **other == id).count();
            assert_eq!(times(&told.added), times(&told.removed) + 1, "cut at {cut}, {id}");
        }
        let lamp = EntityId::named("lamp");
        assert!(told.added.contains(&lamp) && told.removed.contains(&lamp), "cut at {cut}");
    }
}

/// Whether commands that were not answered had arrived.
#[derive(Resource, Default)]
struct Lost(Vec<(CommandId, bool)>);

/// A client without a host.
fn client() -> App {
    let mut app = App::new();
    app.add_plugins(ReplicaPlugin).init_resource::<Lost>();
    protocol(&mut app);
    app.add_observer(|lost: On<Unanswered>, mut all: ResMut<Lost>| all.0.push((lost.id, lost.arrived)));
    app
}

/// Lets a client into an empty room that has seen so many of its user's commands.
fn let_in(app: &mut App, name: &str, last_command: u32) {
    app.world_mut().resource_scope(|world, mut connection: Mut<Connection>| connection.join(world.resource::<Protocol>(), name, false));
    let mut room = Room::new(RoomOptions::named(name), protocol, rules).unwrap();
    let welcome = ServerMessage::Welcome {
        room: RoomId::named(name),
        epoch: 0,
        resumed: false,
        name: name.to_owned(),
        user: EntityId::named("ann"),
        last_command: CommandId(last_command),
    };
    let mut connection = app.world_mut().resource_mut::<Connection>();
    connection.deliver(welcome.encode().unwrap());
    snapshot_messages(&room.snapshot().unwrap()).into_iter().for_each(|message| connection.deliver(message));
    app.update();
    assert_eq!(*app.world().resource::<Connection>().state(), ConnectionState::Live);
}

#[test]
fn what_was_asked_of_one_room_is_not_said_to_have_arrived_by_what_another_has_taken_in() {
    for (next, arrived) in [("hall", true), ("attic", false)] {
        let mut app = client();
        let_in(&mut app, "hall", 0);
        assert_eq!(issue(app.world_mut(), &Wave), Ok(CommandId(1)));
        let_in(&mut app, next, 5);
        assert_eq!(app.world().resource::<Lost>().0, [(CommandId(1), arrived)], "{next}");
        assert_eq!(issue(app.world_mut(), &Wave), Ok(CommandId(6)));
    }
}

#[test]
fn what_never_arrived_is_not_said_to_have_by_the_numbers_of_a_new_stay() {
    let mut sim = Sim::new(protocol, rules).limits(|limits| limits.grace_ticks = 0).client("ann").client("ben");
    let world = sim.client_mut("ann").world_mut();
    world.init_resource::<Lost>();
    world.add_observer(|lost: On<Unanswered>, mut all: ResMut<Lost>| all.0.push((lost.id, lost.arrived)));
    for _ in 0..20 {
        sim.issue("ben", &Wave);
    }
    sim.issue("ann", &Wave).run_ticks(3).leave("ben");
    // Cut off, she asks for more. Nothing of that arrives, and her seat is not kept.
    sim.vanish("ann").issue("ann", &Wave).run_ticks(TIMEOUT_TICKS + 5);
    sim.reconnect("ann", false).tick_while(|sim| !sim.client_of("ann").is_live());
    assert_eq!(sim.client_of("ann").world().resource::<Lost>().0, [(CommandId(2), false)]);
    // Her numbers go on above Ben's.
    assert_eq!(sim.try_issue("ann", &Wave), Ok(CommandId(22)));
}

#[test]
fn a_host_that_says_that_all_numbers_of_commands_are_used_up_stops_nothing_but_the_commands() {
    let mut app = client();
    let_in(&mut app, "hall", u32::MAX - 1);
    assert_eq!(issue(app.world_mut(), &Wave), Ok(CommandId(u32::MAX)));
    assert_eq!(issue(app.world_mut(), &Wave), Err(IssueError::UsedUp(u32::MAX)));
    app.update();
    assert_eq!(*app.world().resource::<Connection>().state(), ConnectionState::Live);
}
