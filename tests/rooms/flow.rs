//! The flow of events, arrow by arrow: what is traced here stands in the order of the diagrams that the project was made from.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::ScheduleLabel;
use bevy_ecs::system::RunSystemOnce;
use roomkeeper::client::{Connection, HeadlessReplica, Issue, Replica, ReplicaPlugin, Sight};
use roomkeeper::prelude::*;
use roomkeeper::protocol::encode_operations;
use roomkeeper::protocol::{
    Accepted, ClientMessage, EntityAdded, EntityRemoved, LeaveReason, Op, Operation, Producer, Protocol, RoomTick, ServerMessage, State,
    VerdictMessage, batch_message, snapshot_messages,
};
use roomkeeper::room::{Answer, Incoming, Recorded, Room, RoomOptions, RoomRng, Verdict};
use roomkeeper::sim::{LinkConditions, Sim};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Position(i32);
#[derive(Component, Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Health(i32);
#[derive(Component, Serialize, Deserialize, Clone, PartialEq, Debug)]
struct BallState(String);
/// Pushes a thing. What it claims of its author and time is believed by nobody.
#[derive(Serialize, Deserialize)]
struct Push {
    thing: String,
    by: i32,
    player: String,
    tick: u32,
}
#[derive(Clone, Serialize, Deserialize)]
struct Pushed {
    thing: EntityId,
    by: i32,
}
#[derive(Clone, Serialize, Deserialize)]
struct BellRang {
    times: u32,
}
#[derive(Clone, Serialize, Deserialize)]
struct BallHit {
    ball: EntityId,
    victim: EntityId,
}
#[derive(Clone, Serialize, Deserialize, Debug, PartialEq)]
struct GameEnded {
    winner: String,
}

impl Quantity for Health {
    type Amount = i32;
    fn amount(&self) -> i32 {
        self.0
    }
    fn set_amount(&mut self, amount: i32) {
        self.0 = amount;
    }
}

fn protocol(app: &mut App) {
    app.sync::<Position>("position");
    app.sync::<Health>("health").quantity();
    app.sync::<BallState>("ball_state");
    app.command::<Push>("push").fact::<Pushed>("pushed").fact::<BellRang>("bell_rang").fact::<BallHit>("ball_hit");
    app.stateless_fact::<GameEnded>("game_ended");
}

/// What happened, in order, on both sides.
#[derive(Resource, Clone, Default)]
struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn decide_push(push: In<Issued<Push>>, trace: Res<Trace>) -> Decision {
    trace.note(format!("room: decides {} of {}", push.by, push.thing));
    if push.by == 0 {
        return reject("no_push");
    }
    accept(Pushed { thing: EntityId::named(&push.thing), by: push.by })
}

fn move_thing(pushed: On<Happened<Pushed>>, index: Res<EntityIndex>, mut places: Query<&mut Position>, trace: Res<Trace>) {
    trace.note("state: apply pushed");
    places.get_mut(index.entity(pushed.thing).unwrap()).unwrap().0 += pushed.by;
}

fn ring(clock: Res<RoomClock>, mut record: Recorder, trace: Res<Trace>) {
    if clock.tick().0 == 4 {
        trace.note("system: creates bell_rang");
        record.fact(BellRang { times: 3 });
    }
    if clock.tick().0 == 6 {
        record.fact(GameEnded { winner: "ann".into() });
    }
}

fn count_bell(rang: On<Happened<BellRang>>, mut bells: Query<&mut Position>, trace: Res<Trace>) {
    trace.note("state: apply bell_rang");
    bells.iter_mut().for_each(|mut bell| bell.0 += rang.times as i32);
}

fn burst(hit: On<Happened<BallHit>>, index: Res<EntityIndex>, mut balls: Query<&mut BallState>, mut health: Patch<Health>) {
    let (ball, victim) = (index.entity(hit.ball).unwrap(), index.entity(hit.victim).unwrap());
    balls.get_mut(ball).unwrap().0 = "hit".into();
    health.dec(victim, 1);
}

fn rules(app: &mut App) {
    app.init_resource::<Trace>().decide(decide_push).apply(move_thing).apply(count_bell).apply(burst).add_systems(FixedUpdate, ring);
}

/// A room and a client's app, with every message between them in hand.
struct Stage {
    room: Room,
    app: App,
    trace: Trace,
    user: EntityId,
}

impl Stage {
    fn new() -> Self {
        let trace = Trace::default();
        let in_room = trace.clone();
        let rules = move |app: &mut App| {
            app.insert_resource(in_room);
            rules(app);
        };
        let mut room = Room::new(RoomOptions { notes: true, ..RoomOptions::named("stage") }, protocol, rules).unwrap();
        room.world_mut().spawn((EntityId::named("bell"), Name::new("bell"), Position(0), Health(10)));
        let mut app = App::new();
        app.add_plugins(ReplicaPlugin).insert_resource(trace.clone());
        protocol(&mut app);
        app.add_observer(|added: On<EntityAdded>, names: Query<&Name>, trace: Res<Trace>| {
            trace.note(format!("client: added {}", names.get(added.entity).map_or("somebody", |name| name.as_str())));
        });
        app.add_observer(|removed: On<EntityRemoved>, trace: Res<Trace>, places: Query<&Position>| {
            trace.note(format!("client: removed, still at {}", places.get(removed.entity).unwrap().0));
        });
        app.add_observer(|changed: On<ComponentChanged<Position>>, places: Query<&Position>, trace: Res<Trace>| {
            let (old, new) = (changed.old.as_ref().unwrap().0, places.get(changed.entity).unwrap().0);
            trace.note(format!("client: position {old} to {new}"));
        });
        app.add_observer(|pushed: On<Happened<Pushed>>, replica: Res<Replica>, places: Query<&Position>, trace: Res<Trace>| {
            let at = places.get(replica.entity(pushed.thing).unwrap()).unwrap().0;
            trace.note(format!("client: callback of pushed, it is at {at}"));
        });
        app.add_observer(|_: On<Happened<BellRang>>, trace: Res<Trace>| trace.note("client: callback of bell_rang"));
        app.add_observer(|_: On<Accepted>, trace: Res<Trace>| trace.note("client: accepted"));
        app.add_observer(|rejected: On<Rejected>, trace: Res<Trace>| trace.note(format!("client: rejected {}", rejected.code)));
        Self { room, app, trace, user: EntityId::named("ann") }
    }

    fn deliver(&mut self, message: bytes::Bytes) {
        self.app.world_mut().resource_mut::<Connection>().deliver(message);
    }

    /// The first diagram: the client joins, the server answers with the starting state, the client draws it.
    fn join(&mut self) {
        self.app.world_mut().resource_scope(|world, mut connection: Mut<Connection>| {
            connection.join(world.resource::<Protocol>(), "stage", false);
        });
        let hello = self.app.world_mut().resource_mut::<Connection>().next_outgoing().unwrap();
        assert!(matches!(ClientMessage::decode(&hello).unwrap(), ClientMessage::Hello { .. }));
        self.trace.note("client to server: join");
        let outbox = self.room.tick([Incoming::Join { user: self.user, name: "ann".into() }]).unwrap();
        assert_eq!(outbox.answers, [Answer::Join { user: self.user, verdict: Verdict::Accepted }]);
        let room = self.room.info().id;
        let welcome = ServerMessage::Welcome {
            room,
            epoch: 0,
            resumed: false,
            name: "stage".into(),
            user: self.user,
            last_command: Default::default(),
        };
        self.deliver(welcome.encode().unwrap());
        for message in snapshot_messages(&self.room.snapshot().unwrap()) {
            self.trace.note("server to client: snapshot");
            self.deliver(message);
        }
        self.app.update();
    }

    fn issue(&mut self, by: i32) {
        let push = Push { thing: "bell".into(), by, player: "somebody else".into(), tick: 30_000 };
        let issue = move |mut issue: Issue| issue.send(&push).map(drop);
        self.app.world_mut().run_system_once(issue).unwrap().unwrap();
    }

    /// Carries commands up, ticks, carries the answers and the batch down. Gives the facts of the tick.
    fn tick(&mut self) -> Vec<Recorded> {
        let mut incoming = Vec::new();
        while let Some(message) = self.app.world_mut().resource_mut::<Connection>().next_outgoing() {
            let ClientMessage::Command { id, kind, seen, payload } = ClientMessage::decode(&message).unwrap() else { panic!("a command") };
            self.trace.note("client to server: command");
            incoming.push(Incoming::Command { user: self.user, id, kind, seen, payload });
        }
        let outbox = self.room.tick(incoming).unwrap();
        for answer in outbox.answers {
            let Answer::Command { id, verdict, .. } = answer else { panic!("a verdict") };
            let rejection = match verdict {
                Verdict::Accepted => None,
                Verdict::Rejected(rejection) => Some(rejection),
            };
            self.trace.note("server to client: verdict");
            let verdicts = vec![VerdictMessage { id, rejection }];
            self.deliver(ServerMessage::Verdicts { tick: outbox.tick, verdicts }.encode().unwrap());
        }
        if let Some(batch) = outbox.batch {
            self.trace.note("server to client: batch");
            self.deliver(batch_message(&batch));
        }
        self.app.update();
        outbox.facts
    }
}

#[test]
fn d1_a_client_joins_gets_the_starting_state_and_draws_it() {
    let mut stage = Stage::new();
    stage.join();
    let told = stage.trace.take();
    assert_eq!(told[..2], ["client to server: join", "server to client: snapshot"]);
    let mut drawn = told[2..].to_vec();
    drawn.sort();
    assert_eq!(drawn, ["client: added bell", "client: added somebody"]);
    // The next batch follows without a gap.
    stage.tick();
    assert!(stage.app.world().resource::<Replica>().is_live());
}

#[test]
fn a_snapshot_over_a_stale_state_takes_away_what_is_not_in_it_and_tells_just_that() {
    let mut stage = Stage::new();
    stage.room.world_mut().spawn((EntityId::named("lamp"), Name::new("lamp"), Position(7)));
    stage.join();
    stage.trace.take();
    // The client hears nothing of this.
    let bell = stage.room.entity(EntityId::named("bell")).unwrap();
    stage.room.world_mut().despawn(bell);
    stage.room.world_mut().spawn((EntityId::named("rope"), Name::new("rope"), Position(8)));
    stage.room.tick([]).unwrap();
    for message in snapshot_messages(&stage.room.snapshot().unwrap()) {
        stage.deliver(message);
    }
    stage.app.update();
    assert_eq!(stage.trace.take(), ["client: added rope", "client: removed, still at 0"]);
    let replica = stage.app.world().resource::<Replica>();
    assert_eq!(replica.len(), 3, "the lamp, the rope and ann");
    assert!(replica.entity(EntityId::named("bell")).is_none());
}

#[test]
fn handlers_are_listed_and_counted() {
    let mut stage = Stage::new();
    stage.join();
    for by in [1, 0, 2] {
        stage.issue(by);
        stage.tick();
    }
    let handlers = stage.room.handlers();
    let of = |kind: &str| handlers.iter().find(|info| info.kind == kind).unwrap();
    assert!(of("push").handler.unwrap().ends_with("decide_push") && of("pushed").handler.unwrap().ends_with("move_thing"));
    assert_eq!((of("push").runs, of("push").rejected, of("pushed").runs, of("game_ended").handler), (3, 1, 2, None));
    assert_eq!(of("push").time, Duration::ZERO, "a room has no clock");
    stage.room.lend_clock(|| {
        static READINGS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Duration::from_millis(READINGS.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    });
    stage.issue(3);
    stage.tick();
    assert!(stage.room.handlers().iter().any(|info| info.kind == "push" && !info.time.is_zero()));
}

#[test]
fn a_handler_an_applier_and_the_patching_of_state_can_each_be_tested_alone() {
    // The handler: a system that takes a command and gives a decision.
    let mut world = World::new();
    world.init_resource::<Trace>();
    let author = world.spawn_empty().id();
    let command = Push { thing: "bell".into(), by: 0, player: String::new(), tick: 0 };
    let issued = Issued {
        command,
        author,
        author_id: EntityId::named("ann"),
        id: Default::default(),
        tick: Default::default(),
        seen: Default::default(),
    };
    let decision: Decision = world.run_system_once_with(decide_push, issued).unwrap();
    assert_eq!(decision.unwrap_err().code, "no_push");
    // The applier: an observer of the fact.
    let bell = world.spawn(Position(1)).id();
    world.add_observer(count_bell);
    world.trigger(Happened { fact: BellRang { times: 4 }, seq: Default::default(), tick: Default::default(), author: None });
    assert_eq!(world.get::<Position>(bell), Some(&Position(5)));
    // The patching: operations on a state that is plain data.
    let mut app = App::new();
    app.add_plugins(ReplicaPlugin);
    protocol(&mut app);
    let protocol = app.world().resource::<Protocol>();
    let json = serde_json::json!({"op": "create", "entity_id": "bell", "components": {"health": 95}});
    let mut state = State::new(roomkeeper::protocol::RoomId::named("alone"));
    for json in [json, serde_json::json!({"op": "inc_max", "entity_id": "bell", "components": {"health": {"by": 10, "max": 100}}})] {
        let operations = Operation::from_envelope(&json).unwrap();
        let batch = encode_operations(protocol, &state, &operations, RoomTick(state.tick().0 + 1)).unwrap();
        state.apply(protocol, &batch).unwrap();
    }
    assert_eq!(state.component(protocol, EntityId::named("bell"), "health"), Some(serde_json::json!(100)));
}

#[test]
fn obstacles_that_a_room_creates_by_chance_are_those_of_its_seed() {
    let obstacles = |seed: u64| {
        let scatter = |mut rng: ResMut<RoomRng>, mut commands: Commands| {
            for _ in 0..10 {
                commands.spawn(Position(rng.range(0..1_000_000) as i32));
            }
        };
        let rules = move |app: &mut App| {
            rules(app);
            app.add_systems(Startup, scatter);
        };
        let mut room = Room::new(RoomOptions { seed, ..RoomOptions::named("scattered") }, protocol, rules).unwrap();
        let opening = room.opening().clone();
        // They are in the first batch, as creates.
        let mut state = State::new(room.info().id);
        let operations = state.apply(room.world().resource::<Protocol>(), opening.batch.as_ref().unwrap()).unwrap();
        assert_eq!(operations.iter().filter(|operation| matches!(operation.op, Op::Create { .. })).count(), 10);
        room.snapshot().unwrap()
    };
    assert_eq!(obstacles(5), obstacles(5));
    assert_ne!(obstacles(5), obstacles(6));
}

#[test]
fn d2_an_event_is_created_applied_sent_and_then_its_subscribers_are_called() {
    let mut stage = Stage::new();
    stage.join();
    stage.trace.take();
    while stage.room.tick_now().0 < 4 {
        stage.tick();
    }
    assert_eq!(
        stage.trace.take(),
        [
            "system: creates bell_rang",
            "state: apply bell_rang",
            "server to client: batch",
            "client: position 0 to 3",
            "client: callback of bell_rang",
        ]
    );
}

#[test]
fn d3_d4_d6_a_command_becomes_a_fact_the_fact_state_and_the_state_a_batch_that_the_client_applies() {
    let mut stage = Stage::new();
    stage.join();
    stage.trace.take();
    stage.issue(5);
    let facts = stage.tick();
    assert_eq!(
        stage.trace.take(),
        [
            "client to server: command",
            "room: decides 5 of bell",
            "state: apply pushed",
            "server to client: verdict",
            "server to client: batch",
            "client: accepted",
            "client: position 0 to 5",
            "client: callback of pushed, it is at 5",
        ]
    );
    // Stamped by the room, whatever the client said of itself.
    let [fact] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!((&*fact.name, fact.author, &fact.producer), ("pushed", Some(stage.user), &Producer::User));
    assert_eq!((fact.tick, fact.command.is_some()), (stage.room.tick_now(), true));
    // One that is rejected leaves nothing.
    stage.issue(0);
    let facts = stage.tick();
    assert!(facts.is_empty());
    let told = ["client to server: command", "room: decides 0 of bell", "server to client: verdict", "client: rejected no_push"];
    assert_eq!(stage.trace.take(), told);
}

#[test]
fn d5_facts_become_operations_that_name_them_and_reach_the_client_as_they_are() {
    let mut sim = Sim::new(protocol, rules).options(|options| options.notes = true).client("ann");
    sim.room_mut().world_mut().spawn((EntityId::named("bell"), Name::new("bell"), Position(0), Health(10)));
    sim.tick();
    let mut state = sim.room_state();
    sim.issue("ann", &Push { thing: "bell".into(), by: 7, player: String::new(), tick: 0 }).tick();
    let fact = sim.ledger().last().unwrap();
    assert_eq!(&*fact.name, "pushed");
    let (_, batch) = sim.batches().last().unwrap();
    let operations = state.apply(sim.room().world().resource::<Protocol>(), batch).unwrap();
    let [operation] = &operations[..] else { panic!("{operations:?}") };
    assert_eq!(operation.note.as_deref(), Some("pushed"));
    assert!(matches!(&operation.op, Op::Update { component, value, .. } if component == "position" && *value == 7), "{operation:?}");
    assert_eq!(sim.assert_converged(), 1);
}

#[test]
fn notes_cost_nothing_where_nobody_asked_for_them() {
    let bytes = |notes: bool| {
        let mut sim = Sim::new(protocol, rules).options(|options| options.notes = notes).client("ann");
        sim.room_mut().world_mut().spawn((EntityId::named("bell"), Position(0)));
        sim.issue("ann", &Push { thing: "bell".into(), by: 7, player: String::new(), tick: 0 }).tick();
        sim.batches().last().unwrap().1.len()
    };
    // A byte for the one operation of the batch: the creation, which the push is part of.
    assert_eq!(bytes(true) - bytes(false), 1);
}

#[test]
fn a_fact_without_an_entity_is_kept_told_and_changes_nothing() {
    #[derive(Resource, Default)]
    struct Ends(Vec<GameEnded>);
    let mut sim = Sim::new(protocol, rules).client("ann");
    let app = sim.client_mut("ann").app_mut();
    app.init_resource::<Ends>();
    app.add_observer(|ended: On<Happened<GameEnded>>, mut ends: ResMut<Ends>| ends.0.push(ended.fact.clone()));
    sim.run_ticks(8);
    let ended = GameEnded { winner: "ann".into() };
    assert_eq!(sim.facts_of::<GameEnded>(), [&ended]);
    assert_eq!(sim.client_of("ann").world().resource::<Ends>().0, [ended]);
    let protocol = sim.room().world().resource::<Protocol>();
    let mut state = State::new(sim.room().info().id);
    for (tick, batch) in sim.batches() {
        let followed = state.follow(protocol, batch).unwrap();
        if followed.facts.iter().any(|fact| fact.name == "game_ended") {
            assert!(followed.operations.is_empty(), "in tick {tick}");
        }
    }
}

#[test]
fn who_comes_back_to_a_body_that_the_game_kept_has_that_one_and_no_other() {
    let rules = |app: &mut App| {
        app.apply(|_: On<Happened<UserLeft>>| {});
    };
    let mut room = Room::new(RoomOptions::named("inn"), |_: &mut App| {}, rules).unwrap();
    let (user, mut bodies) = (EntityId::named("ann"), Vec::new());
    for _ in 0..3 {
        room.tick([Incoming::Join { user, name: "ann".into() }]).unwrap();
        bodies.push(room.entity(user).unwrap());
        room.tick([Incoming::Leave { user, reason: LeaveReason::Left }]).unwrap();
    }
    let world = room.world_mut();
    let all: Vec<Entity> = world.query_filtered::<Entity, With<roomkeeper::protocol::User>>().iter(world).collect();
    assert!(all.len() == 1 && bodies.iter().all(|body| all.contains(body)), "{all:?}, {bodies:?}");
}

#[test]
fn a_change_is_told_once_a_batch_with_the_value_before_and_after() {
    #[derive(Resource, Default)]
    struct Seen(Vec<(Option<i32>, i32)>, usize);
    let mut sim = Sim::new(protocol, rules).client("ann");
    let id = EntityId::named("bell");
    let bell = sim.room_mut().world_mut().spawn((id, Position(0), Health(10))).id();
    sim.tick();
    let app = sim.client_mut("ann").app_mut();
    app.init_resource::<Seen>();
    app.add_observer(|changed: On<ComponentChanged<Health>>, health: Query<&Health>, mut seen: ResMut<Seen>| {
        seen.0.push((changed.old.as_ref().map(|old| old.0), health.get(changed.entity).unwrap().0));
    });
    // The same by Bevy's own change detection.
    app.add_systems(Update, |changed: Query<(), Changed<Health>>, mut seen: ResMut<Seen>| seen.1 += changed.iter().count());
    app.update();
    app.world_mut().resource_mut::<Seen>().1 = 0;
    let steps = move |mut health: Patch<Health>| {
        health.dec(bell, 1);
        health.inc(bell, 5);
        health.dec(bell, 2);
    };
    sim.room_mut().world_mut().run_system_once(steps).unwrap();
    sim.run_ticks(2);
    sim.room_mut().world_mut().get_mut::<Health>(bell).unwrap().0 = 3;
    sim.run_ticks(2);
    let seen = sim.client_of("ann").world().resource::<Seen>();
    assert_eq!((&seen.0[..], seen.1), (&[(Some(10), 12), (Some(12), 3)][..], 2));
}

#[test]
fn a_subscriber_may_end_its_subscription_within_its_callback() {
    #[derive(Resource, Default)]
    struct Calls(u32, u32);
    let mut sim = Sim::new(protocol, rules).client("ann");
    let bell = sim.room_mut().world_mut().spawn((EntityId::named("bell"), Position(0))).id();
    sim.tick();
    let world = sim.client_mut("ann").world_mut();
    world.init_resource::<Calls>();
    world.add_observer(|changed: On<ComponentChanged<Position>>, mut calls: ResMut<Calls>, mut commands: Commands| {
        calls.0 += 1;
        commands.entity(changed.observer()).despawn();
    });
    world.add_observer(|_: On<ComponentChanged<Position>>, mut calls: ResMut<Calls>| calls.1 += 1);
    for place in 1..4 {
        sim.room_mut().world_mut().get_mut::<Position>(bell).unwrap().0 = place;
        sim.tick();
    }
    let calls = sim.client_of("ann").world().resource::<Calls>();
    assert_eq!((calls.0, calls.1), (1, 3));
}

#[test]
fn a_client_without_bevy_is_told_the_same_as_one_with_it() {
    let mut stage = Stage::new();
    let mut app = App::new();
    app.add_plugins(ReplicaPlugin);
    protocol(&mut app);
    let mut headless = HeadlessReplica::new(app.world_mut().remove_resource().unwrap());
    stage.join();
    let welcome = ServerMessage::Welcome {
        room: stage.room.info().id,
        epoch: 0,
        resumed: false,
        name: "stage".into(),
        user: EntityId::NIL,
        last_command: Default::default(),
    };
    headless.deliver(Duration::ZERO, &welcome.encode().unwrap()).unwrap();
    for message in snapshot_messages(&stage.room.snapshot().unwrap()) {
        headless.deliver(Duration::ZERO, &message).unwrap();
    }
    stage.trace.take();
    stage.issue(4);
    while let Some(message) = stage.app.world_mut().resource_mut::<Connection>().next_outgoing() {
        let ClientMessage::Command { id, kind, seen, payload } = ClientMessage::decode(&message).unwrap() else { panic!("a command") };
        let visitor = stage.room.world_mut().spawn((EntityId::named("lamp"), Name::new("lamp"), Position(1))).id();
        let batch = stage.room.tick([Incoming::Command { user: stage.user, id, kind, seen, payload }]).unwrap().batch.unwrap();
        let message = batch_message(&batch);
        let sights = headless.deliver(Duration::ZERO, &message).unwrap();
        let [Sight::Batch(followed)] = &sights[..] else { panic!("{sights:?}") };
        // Entity creates, component updates, then the facts: as the observers hear it.
        assert!(matches!(&followed.operations[0].op, Op::Create { .. }) && matches!(&followed.operations[1].op, Op::Update { .. }));
        assert_eq!(followed.facts[0].name, "pushed");
        stage.deliver(message);
        stage.app.update();
        stage.room.world_mut().despawn(visitor);
    }
    let told = [
        "room: decides 4 of bell",
        "state: apply pushed",
        "client: added lamp",
        "client: position 0 to 4",
        "client: callback of pushed, it is at 4",
    ];
    assert_eq!(stage.trace.take(), told);
    let batch = stage.room.tick([]).unwrap().batch.unwrap();
    let sights = headless.deliver(Duration::ZERO, &batch_message(&batch)).unwrap();
    let [Sight::Batch(followed)] = &sights[..] else { panic!("{sights:?}") };
    assert_eq!(followed.operations[0].op, Op::Delete);
    stage.deliver(batch_message(&batch));
    stage.app.update();
    assert_eq!(stage.trace.take(), ["client: removed, still at 1"]);
}

#[test]
fn no_client_sees_a_hit_without_the_harm_over_a_lossy_link() {
    /// Hits seen, and those whose harm was not there yet.
    #[derive(Resource, Default)]
    struct Hits(i32, u32);
    let link = LinkConditions { delay_millis: 40, jitter_millis: 30, loss: 0.2, ..LinkConditions::PERFECT };
    let mut sim = Sim::new(protocol, rules).seed(3).link(link).client("ann");
    let victim = EntityId::named("victim");
    sim.room_mut().world_mut().spawn((victim, Position(0), Health(0)));
    sim.settle();
    let app = sim.client_mut("ann").app_mut();
    app.init_resource::<Hits>();
    app.add_observer(
        |changed: On<ComponentChanged<BallState>>,
         replica: Res<Replica>,
         states: Query<&BallState>,
         health: Query<&Health>,
         mut hits: ResMut<Hits>| {
            if states.get(changed.entity).unwrap().0 == "hit" && !changed.removed {
                hits.0 += 1;
                let harm = -health.get(replica.entity(EntityId::named("victim")).unwrap()).unwrap().0;
                hits.1 += u32::from(harm < hits.0);
            }
        },
    );
    for tick in 0..2_000_u32 {
        let world = sim.room_mut().world_mut();
        let balls: Vec<EntityId> = (0..5).map(|n| EntityId::named(&format!("ball{tick}-{n}"))).collect();
        for ball in &balls {
            world.spawn((*ball, BallState("flying".into()), Ttl::millis(200)));
        }
        if tick > 0 {
            let hit = move |mut record: Recorder| {
                for n in 0..5 {
                    record.fact(BallHit { ball: EntityId::named(&format!("ball{}-{n}", tick - 1)), victim });
                }
            };
            world.run_system_once(hit).unwrap();
        }
        sim.tick();
    }
    sim.settle();
    let hits = sim.client_of("ann").world().resource::<Hits>();
    assert_eq!((hits.0, hits.1), (1_999 * 5, 0));
    assert_eq!(sim.assert_converged(), 1);
}

#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
struct Turn;

#[test]
fn a_schedule_that_is_put_into_bevys_order_runs_in_a_room() {
    #[derive(Resource, Default)]
    struct Ran(Vec<&'static str>);
    let rules = |app: &mut App| {
        app.init_resource::<Ran>().init_schedule(Turn);
        app.add_systems(Turn, |mut ran: ResMut<Ran>| ran.0.push("turn"));
        app.add_systems(FixedUpdate, |mut ran: ResMut<Ran>| ran.0.push("update"));
        app.world_mut().resource_mut::<bevy_app::MainScheduleOrder>().insert_after(PreUpdate, Turn);
    };
    let mut room = Room::new(RoomOptions::named("turns"), |_| {}, rules).unwrap();
    for _ in 0..2 {
        room.tick([]).unwrap();
    }
    assert_eq!(room.world().resource::<Ran>().0, ["turn", "update", "turn", "update"]);
}
