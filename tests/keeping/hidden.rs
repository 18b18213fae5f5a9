//! What is hidden stays hidden, wherever it comes from: after a restart, and when a scene is reset.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::host::{ConnectionId, HostLimits, Keeper, Lobby, Visitor, rerun};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Change, ClientMessage, FactSeq, Incoming, Protocol, RoomTick};
use roomkeeper::room::{Blueprint, Level, RoomClock, RoomOptions};
use roomkeeper::store::{Archive, MemoryStore, Store, WriterOptions};
use serde::{Deserialize, Serialize};

const RED: u64 = 1;
const BLUE: u64 = 2;

#[derive(Component, Serialize, Deserialize)]
struct Trap {
    of: u64,
}

fn protocol(app: &mut App) {
    app.sync::<Trap>("trap");
}

fn rules(app: &mut App) {
    app.audience_by(|trap: &Trap| Audience::mask(trap.of));
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn((EntityId::with_name("first"), Trap { of: RED }));
    });
    app.add_systems(FixedUpdate, |mut traps: Query<(Entity, &EntityId, &mut Trap)>, clock: Res<RoomClock>, mut commands: Commands| {
        for (entity, id, mut trap) in &mut traps {
            match clock.tick().0 {
                // It changes sides, and who may know of it with that.
                10 => trap.of = BLUE,
                // It is gone: a reset has to bring it back.
                30 if *id == EntityId::named("first") => commands.entity(entity).despawn(),
                _ => {}
            }
        }
    });
}

fn audiences(lobby: &mut Lobby) -> Vec<Option<Audience>> {
    let world = lobby.room_mut("arena").unwrap().world_mut();
    world.query::<(&Trap, Option<&Audience>)>().iter(world).map(|(_, audience)| audience.copied()).collect()
}

/// The room, new or as it was stored.
fn open(store: &MemoryStore, blueprint: &Blueprint) -> (Keeper, Lobby) {
    open_with(store, blueprint, RoomOptions::named("arena"))
}

fn open_with(store: &MemoryStore, blueprint: &Blueprint, options: RoomOptions) -> (Keeper, Lobby) {
    let mut keeper = Keeper::by_hand(Box::new(store.clone()), WriterOptions::default()).unwrap();
    let mut lobby = Lobby::new(HostLimits::default(), true);
    lobby.admit_room(keeper.room(blueprint, options).unwrap()).unwrap();
    (keeper, lobby)
}

fn tick(lobby: &mut Lobby, keeper: &mut Keeper, ticks: u32) {
    for _ in 0..ticks {
        let mut report = lobby.tick_room("arena").unwrap();
        keeper.record("arena", &mut report);
    }
    keeper.writer().sync().unwrap();
}

#[test]
fn an_audience_that_follows_from_a_component_is_there_after_a_restart_and_a_reset() {
    let (store, blueprint) = (MemoryStore::new(), Blueprint::new(protocol, rules));
    let (mut keeper, mut lobby) = open(&store, &blueprint);
    assert_eq!(audiences(&mut lobby), [Some(Audience::mask(RED))]);
    tick(&mut lobby, &mut keeper, 15);
    assert_eq!(audiences(&mut lobby), [Some(Audience::mask(BLUE))]);
    keeper.stop();

    let (mut keeper, mut lobby) = open(&store, &blueprint);
    assert_eq!(lobby.room("arena").unwrap().tick_now(), RoomTick(15));
    assert_eq!(audiences(&mut lobby), [Some(Audience::mask(BLUE))], "before anybody could have been told");
    let mut archive = Archive::new(store.reader().unwrap(), blueprint.protocol());
    let snippet = archive.save_snippet("arena", "then", RoomTick(15)).unwrap();
    tick(&mut lobby, &mut keeper, 20);
    assert_eq!(audiences(&mut lobby), []);
    assert!(lobby.push("arena", snippet.reset()));
    tick(&mut lobby, &mut keeper, 1);
    assert_eq!(audiences(&mut lobby), [Some(Audience::mask(BLUE))]);
}

/// By which something is found in a packet.
type Mark = [u8; 12];

const OPEN: Mark = *b"qwertyuiopas";
const HIDDEN: Mark = *b"zxcvbnmlkjhg";

#[derive(Component, Serialize, Deserialize)]
struct Kind(Mark);

fn with_audiences(app: &mut App) {
    app.sync::<Kind>("kind");
    app.sync_audience();
}

/// Something hidden by nothing but the hand of a rule.
fn hide_by_hand(app: &mut App) {
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn((EntityId::with_name("open"), Kind(OPEN)));
        commands.spawn((EntityId::with_name("hidden"), Kind(HIDDEN), Audience::OWNER));
    });
}

fn audience_of(lobby: &Lobby, name: &str) -> Option<Audience> {
    let room = lobby.room("arena").unwrap();
    room.world().get::<Audience>(room.entity(EntityId::named(name)).unwrap()).copied()
}

/// Whether somebody who comes now is sent the two marks.
fn sent_to_newcomer(lobby: &mut Lobby, keeper: &mut Keeper, number: u64) -> (bool, bool) {
    let fingerprint = lobby.room("arena").unwrap().world().resource::<Protocol>().fingerprint();
    let (connection, name) = (ConnectionId(number), format!("newcomer{number}"));
    lobby.connected(connection, Visitor { player: EntityId::named(&name), name, room: None });
    lobby.message(connection, &ClientMessage::Hello { fingerprint, room: "arena".to_owned(), spectate: false, resume: None }.encode());
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for nth in 0..10 {
        lobby.advance(Duration::from_millis(number * 1_000 + nth * 50));
        tick(lobby, keeper, 1);
        lobby.pump(|to, own, shared| {
            if to == connection {
                packets.push([own, shared].concat());
            }
        });
    }
    let sent = |mark: &Mark| packets.iter().any(|packet| packet.windows(12).any(|window| window == mark));
    (sent(&OPEN), sent(&HIDDEN))
}

#[test]
fn an_audience_that_is_stored_is_there_after_a_restart_and_a_reset_though_it_was_set_by_hand() {
    let (store, blueprint) = (MemoryStore::new(), Blueprint::new(with_audiences, hide_by_hand));
    let (mut keeper, mut lobby) = open(&store, &blueprint);
    tick(&mut lobby, &mut keeper, 5);
    assert_eq!(sent_to_newcomer(&mut lobby, &mut keeper, 1), (true, false));
    let saved = lobby.room("arena").unwrap().tick_now();
    keeper.stop();

    let (mut keeper, mut lobby) = open(&store, &blueprint);
    assert!(lobby.room("arena").unwrap().is_secretive(), "before anybody could have been told");
    assert_eq!((audience_of(&lobby, "open"), audience_of(&lobby, "hidden")), (None, Some(Audience::OWNER)));
    assert_eq!(sent_to_newcomer(&mut lobby, &mut keeper, 2), (true, false));
    let mut archive = Archive::new(store.reader().unwrap(), blueprint.protocol());
    let then = archive.save_snippet("arena", "then", saved).unwrap().reset();
    // By hand, and from before audiences were stored.
    let state = format!(r#"{{"open": {{"kind": {OPEN:?}}}, "hidden": {{"kind": {HIDDEN:?}}}}}"#);
    let bare = Incoming::Reset { label: "bare".to_owned(), saved_at: saved, members: Vec::new(), state };
    let changes: [fn(EntityWorldMut<'_>); 3] = [
        |hidden| hidden.despawn(),
        |mut hidden| {
            hidden.remove::<Audience>();
        },
        |mut hidden| {
            hidden.insert(Kind([7; 12]));
        },
    ];
    for ((change, reset), newcomer) in changes.into_iter().zip([then.clone(), then, bare]).zip(3..) {
        let room = lobby.room_mut("arena").unwrap();
        let hidden = room.entity(EntityId::named("hidden")).unwrap();
        change(room.world_mut().entity_mut(hidden));
        tick(&mut lobby, &mut keeper, 2);
        assert!(lobby.push("arena", reset));
        tick(&mut lobby, &mut keeper, 1);
        assert_eq!(audience_of(&lobby, "hidden"), Some(Audience::OWNER));
        assert_eq!(sent_to_newcomer(&mut lobby, &mut keeper, newcomer), (true, false));
    }
}

#[test]
fn what_was_hidden_once_is_named_as_a_conflict_though_nobody_looks_when_it_is_run_again() {
    let protocol = |app: &mut App| {
        app.sync::<Kind>("kind");
    };
    let rules = |app: &mut App| {
        app.add_systems(Startup, |mut commands: Commands| {
            commands.spawn((EntityId::with_name("open"), Kind(OPEN), Audience::OWNER));
        });
        app.add_systems(FixedUpdate, |hidden: Query<Entity, With<Audience>>, clock: Res<RoomClock>, mut commands: Commands| {
            for entity in hidden.iter().filter(|_| clock.tick().0 == 5) {
                commands.entity(entity).remove::<Audience>();
            }
        });
    };
    let (store, blueprint) = (MemoryStore::new(), Blueprint::new(protocol, rules));
    let (mut keeper, mut lobby) = open(&store, &blueprint);
    assert_eq!(sent_to_newcomer(&mut lobby, &mut keeper, 1), (true, false));
    let changed = Change { entity: "open".to_owned(), component: "kind".to_owned(), before: None, after: Some("something else".into()) };
    assert!(lobby.push("arena", Incoming::Revert { seq: FactSeq(1), changes: vec![changed] }));
    tick(&mut lobby, &mut keeper, 1);
    let last = lobby.room("arena").unwrap().tick_now();
    keeper.stop();
    let mut archive = Archive::new(store.reader().unwrap(), blueprint.protocol());
    let facts = archive.facts("arena", FactSeq(1), usize::MAX).unwrap();
    let reverted = facts.iter().find(|fact| fact.kind == "reverted").unwrap();
    assert_eq!(reverted.json()["conflicts"], serde_json::json!(["open.kind"]));
    let run = rerun(&mut archive, &blueprint, "arena", (RoomTick(0), last), None, |_| {}).unwrap();
    assert_eq!((run.ticks, run.difference), (last.0, None));
}

/// Hidden wherever it comes from, until somebody shows it.
#[derive(Component, Serialize, Deserialize)]
#[require(Audience = Audience::OWNER)]
struct Card;
/// Hidden as its side says, until somebody says otherwise.
#[derive(Component, Serialize, Deserialize)]
struct Flag(u64);

#[test]
fn what_was_shown_by_hand_is_shown_in_a_room_that_goes_on() {
    let protocol = |app: &mut App| {
        app.sync::<Card>("card");
        app.sync::<Flag>("flag");
        app.sync_audience();
    };
    let rules = |app: &mut App| {
        app.audience_by(|flag: &Flag| Audience::mask(flag.0));
        app.add_systems(Startup, |mut commands: Commands| {
            commands.spawn((EntityId::with_name("hidden"), Card));
            commands.spawn((EntityId::with_name("shown"), Card)).remove::<Audience>();
            commands.spawn((EntityId::with_name("flag"), Flag(RED)));
            commands.spawn((EntityId::with_name("bare"), Flag(RED)));
        });
    };
    let (store, blueprint) = (MemoryStore::new(), Blueprint::new(protocol, rules));
    let all = |lobby: &Lobby| ["hidden", "shown", "flag", "bare"].map(|name| audience_of(lobby, name));
    let (mut keeper, mut lobby) = open(&store, &blueprint);
    tick(&mut lobby, &mut keeper, 3);
    let room = lobby.room_mut("arena").unwrap();
    for (name, change) in [("flag", Some(Audience::EVERYONE)), ("bare", None)] {
        let entity = room.entity(EntityId::named(name)).unwrap();
        let mut entity = room.world_mut().entity_mut(entity);
        match change {
            Some(audience) => drop(entity.insert(audience)),
            None => drop(entity.remove::<Audience>()),
        }
    }
    tick(&mut lobby, &mut keeper, 1);
    assert_eq!(all(&lobby), [Some(Audience::OWNER), None, Some(Audience::EVERYONE), None]);
    keeper.stop();
    let (mut keeper, mut lobby) = open(&store, &blueprint);
    assert_eq!(all(&lobby), [Some(Audience::OWNER), None, Some(Audience::EVERYONE), None]);
    tick(&mut lobby, &mut keeper, 1);
    assert_eq!(all(&lobby), [Some(Audience::OWNER), None, Some(Audience::EVERYONE), None]);
}

fn flags(app: &mut App) {
    app.sync::<Flag>("flag");
    app.sync_audience();
}

/// The same in a later version, so that a stored state is loaded as JSON.
fn newer_flags(app: &mut App) {
    flags(app);
    app.sync::<Kind>("kind");
}

#[test]
fn a_stored_audience_stands_in_a_level_after_a_reset_and_in_a_newer_version_until_what_it_would_follow_from_changes() {
    let rules = |app: &mut App| {
        app.audience_by(|flag: &Flag| Audience::mask(flag.0));
    };
    let set = |lobby: &mut Lobby, side: u64| {
        let room = lobby.room_mut("arena").unwrap();
        let flag = room.entity(EntityId::named("flag")).unwrap();
        room.world_mut().get_mut::<Flag>(flag).unwrap().0 = side;
    };
    let text = r#"{"flag": {"audience": {"everyone": true, "mask": 0, "near": false}, "flag": 1}}"#;
    let options = RoomOptions { level: Some(Level::from_text("flags.json", text)), ..RoomOptions::named("arena") };
    let (store, blueprint) = (MemoryStore::new(), Blueprint::new(flags, rules));
    let (shown, hidden) = (Some(Audience::EVERYONE), Some(Audience::mask(BLUE)));

    let (mut keeper, mut lobby) = open_with(&store, &blueprint, options.clone());
    tick(&mut lobby, &mut keeper, 3);
    assert_eq!(audience_of(&lobby, "flag"), shown);
    let mut archive = Archive::new(store.reader().unwrap(), blueprint.protocol());
    let reset = archive.save_snippet("arena", "then", RoomTick(3)).unwrap().reset();
    for despawn in [false, true] {
        set(&mut lobby, BLUE);
        tick(&mut lobby, &mut keeper, 1);
        assert_eq!(audience_of(&lobby, "flag"), hidden, "since it changed sides it follows again");
        if despawn {
            let room = lobby.room_mut("arena").unwrap();
            let flag = room.entity(EntityId::named("flag")).unwrap();
            room.world_mut().despawn(flag);
            tick(&mut lobby, &mut keeper, 1);
        }
        assert!(lobby.push("arena", reset.clone()));
        for _ in 0..2 {
            tick(&mut lobby, &mut keeper, 1);
            assert_eq!(audience_of(&lobby, "flag"), shown);
        }
    }
    keeper.stop();
    let (mut keeper, mut lobby) = open_with(&store, &Blueprint::new(newer_flags, rules), options);
    for _ in 0..2 {
        assert_eq!(audience_of(&lobby, "flag"), shown);
        tick(&mut lobby, &mut keeper, 1);
    }
    set(&mut lobby, BLUE);
    tick(&mut lobby, &mut keeper, 1);
    assert_eq!(audience_of(&lobby, "flag"), hidden);
}
