//! What a connection says of itself, and asks for.

use bevy_app::App;
use bevy_ecs::system::SystemState;

use super::super::issuing::{Issue, IssueError};
use super::*;
use crate::protocol::{EntityId, FactSeq, ProtocolAppExt, State};

/// A snapshot of an empty room.
fn snapshot(world: &World, tick: u32) -> SnapshotChunk {
    let replica = world.resource::<Replica>();
    let bytes = Bytes::from(State::new(replica.room).to_snapshot(world.resource::<Protocol>(), RoomTick(tick), FactSeq(1)));
    SnapshotChunk { size: bytes.len(), at: 0, packed: 0, bytes }
}

fn said(world: &mut World) -> Vec<Bytes> {
    world.resource_mut::<Connection>().outgoing.drain(..).collect()
}

#[test]
fn a_connection_that_is_lost_says_why_once_and_only_where_there_was_one() {
    let mut connection = Connection::default();
    connection.lost("nothing was there");
    assert_eq!(*connection.state(), ConnectionState::Idle);
    connection.state = ConnectionState::Live;
    connection.lost("the wire was cut");
    connection.lost("it is gone");
    assert_eq!(*connection.state(), ConnectionState::Broken("the wire was cut".to_owned()));
}

#[test]
fn of_accepted_commands_those_are_told_to_be_stored_that_are() {
    #[derive(Resource, Default)]
    struct Stored(Vec<(u32, u32)>);

    let mut app = App::new();
    app.add_plugins(super::super::ReplicaPlugin).init_resource::<Stored>();
    app.add_observer(|durable: On<Durable>, mut stored: ResMut<Stored>| stored.0.push((durable.id.0, durable.tick.0)));
    let world = app.world_mut();
    world.resource_mut::<Connection>().accepted.extend([(1, 5), (2, 7), (3, 9)].map(|(id, tick)| (CommandId(id), RoomTick(tick))));
    for (tick, stored) in [(4, &[][..]), (7, &[(1, 5), (2, 7)]), (8, &[]), (9, &[(3, 9)])] {
        handle(world, ServerMessage::Durable { tick: RoomTick(tick) }).unwrap();
        assert_eq!(std::mem::take(&mut world.resource_mut::<Stored>().0), stored, "tick {tick}");
    }
}

#[test]
fn who_is_sent_more_values_than_can_wait_asks_once_for_a_snapshot_and_stays_in_the_room() {
    let mut app = App::new();
    app.add_plugins(super::super::ReplicaPlugin);
    let world = app.world_mut();
    let mut replica = world.resource_mut::<Replica>();
    (replica.live, replica.whole, replica.tick) = (true, true, RoomTick(10));
    world.resource_mut::<Connection>().state = ConnectionState::Live;
    let flood = |world: &mut World, tick: u32| {
        // It needs the batch of its own tick, and says nothing.
        let part = Arrival::Part(RoomTick(tick), Bytes::from_static(&[1, 0]));
        world.resource_mut::<Connection>().incoming.extend(std::iter::repeat_n(part, 20_000));
        receive(world);
    };
    let asks = |tick| ClientMessage::Diverged { tick: RoomTick(tick) }.encode();
    flood(world, 60);
    assert_eq!(said(world), [asks(60)]);
    assert_eq!(*world.resource::<Connection>().state(), ConnectionState::Live);
    assert!(!world.resource::<Replica>().whole && world.resource::<Connection>().inflow.lacks_parts());
    // One that is older does not have them.
    let older = snapshot(world, 50);
    take_chunk(world, &older).unwrap();
    assert_eq!(said(world), [asks(60)]);
    let newer = snapshot(world, 60);
    take_chunk(world, &newer).unwrap();
    assert!(said(world).is_empty() && world.resource::<Replica>().whole);
    assert!(!world.resource::<Connection>().inflow.lacks_parts());
    // While it waits for its first snapshot too many may come as well.
    world.resource_mut::<Replica>().live = false;
    flood(world, 90);
    assert!(said(world).is_empty(), "it is on its way");
    let first = snapshot(world, 80);
    take_chunk(world, &first).unwrap();
    assert_eq!(said(world), [asks(90)]);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Wave;

/// A client that is in a room in which one can wave.
fn waving() -> App {
    let mut app = App::new();
    app.add_plugins(super::super::ReplicaPlugin).command::<Wave>("wave");
    app.world_mut().resource_mut::<Replica>().user = EntityId::named("ann");
    app.world_mut().resource_mut::<Connection>().state = ConnectionState::Live;
    app
}

#[test]
fn of_commands_that_a_host_never_confirms_or_never_answers_the_last_4096_are_remembered() {
    let mut app = waving();
    let world = app.world_mut();
    let verdicts = (1..=5_000).map(|id| VerdictMessage { id: CommandId(id), rejection: None }).collect();
    handle(world, ServerMessage::Verdicts { tick: RoomTick(9), verdicts }).unwrap();
    let mut state = SystemState::<Issue>::new(world);
    let mut issue = state.get_mut(world).unwrap();
    for _ in 0..5_000 {
        issue.send(&Wave).unwrap();
    }
    let connection = world.resource::<Connection>();
    assert_eq!((connection.accepted.len(), connection.accepted.front()), (4_096, Some(&(CommandId(905), RoomTick(9)))));
    assert_eq!((connection.unanswered.len(), connection.unanswered.front()), (4_096, Some(&CommandId(905))));
}

#[test]
fn a_command_of_1024_bytes_is_sent_and_a_larger_one_is_not() {
    let mut app = waving();
    let world = app.world_mut();
    let mut state = SystemState::<Issue>::new(world);
    let mut issue = state.get_mut(world).unwrap();
    assert_eq!(issue.send_encoded(0, vec![0_u8; 1_024].into()), Ok(CommandId(1)));
    let refused = issue.send_encoded(0, vec![0_u8; 1_025].into());
    assert!(matches!(refused, Err(IssueError::Codec(CodecError::Encode { .. }))), "{refused:?}");
    assert_eq!((said(world).len(), world.resource::<Connection>().last_command), (1, 1));
}
