//! What an older version of a game stored, a newer one loads where it can, and refuses with the exact difference where it can't.
//!
//! `tests/fixtures/ledger_1.room` was written by the game of the module `v1` with the first layout of the store. It is never written again: a
//! later layout must still read it. (`cargo test --test old_ledgers -- --ignored` writes one where there is none.)
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::host::{KeepOptions, Keeper, header_of};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{EvolveAppExt, FactSeq, RoomTick, Verdict};
use roomkeeper::room::{Blueprint, Incoming, Level, RoomOptions};
use roomkeeper::store::{
    Archive, Durability, MemoryStore, Opening, RecoveredScene, Retention, SqliteStore, StoreError, Writer, WriterOptions, copy_room,
    data_file,
};
use serde::{Deserialize, Serialize};

mod v1 {
    use super::*;

    #[derive(Component, Serialize, Deserialize)]
    pub struct Position(pub [f32; 2]);
    #[derive(Component, Serialize, Deserialize)]
    pub struct Hp(pub i32);
    #[derive(Component, Serialize, Deserialize)]
    pub struct Mood {
        pub angry: bool,
    }
    #[derive(Component, Serialize, Deserialize)]
    pub struct OldFlag(pub bool);
    #[derive(Clone, Serialize, Deserialize)]
    pub struct Hit {
        pub who: EntityId,
        pub damage: i32,
    }

    pub fn protocol(app: &mut App) {
        app.sync::<Position>("position");
        app.sync::<Hp>("hp");
        app.sync::<Mood>("mood");
        app.sync::<OldFlag>("old_flag");
        app.fact::<Hit>("hit");
    }

    pub fn rules(app: &mut App) {
        app.apply(|hit: On<Happened<Hit>>, index: Res<EntityIndex>, mut hp: Query<&mut Hp>| {
            if let Some(mut hp) = index.entity(hit.who).and_then(|who| hp.get_mut(who).ok()) {
                hp.0 -= hit.damage;
            }
        });
        app.add_systems(FixedUpdate, |clock: Res<RoomClock>, mut record: Recorder, mut things: Query<&mut Position>| {
            if clock.tick().0.is_multiple_of(10) {
                record.fact(Hit { who: EntityId::named("imp"), damage: 1 });
            }
            things.iter_mut().for_each(|mut position| position.0[0] += 0.25);
        });
    }
}

mod v2 {
    use super::*;
    pub use v1::Position;

    #[derive(Component, Serialize, Deserialize, PartialEq, Debug)]
    pub struct Health {
        pub now: i32,
        pub most: i32,
    }
    #[derive(Component, Serialize, Deserialize, PartialEq, Debug)]
    pub struct Mood {
        #[serde(alias = "angry")]
        pub furious: bool,
        #[serde(default)]
        pub hungry: bool,
    }
    #[derive(Clone, Serialize, Deserialize)]
    pub struct Struck {
        pub who: EntityId,
        pub by: i32,
    }

    pub fn protocol(app: &mut App) {
        app.sync::<Position>("position");
        app.sync::<Health>("health");
        app.sync::<Mood>("mood");
        app.stateless_fact::<Struck>("struck");
    }

    pub fn evolution(app: &mut App) {
        app.component_was("hp", "health").component_dropped("old_flag").fact_was("hit", "struck");
        app.upcast_component("health", |old| match old.as_i64() {
            Some(now) => serde_json::json!({ "now": now, "most": 50 }),
            None => old,
        });
        app.upcast_fact("struck", |mut old| {
            if let Some(fields) = old.as_object_mut()
                && let Some(damage) = fields.remove("damage")
            {
                fields.insert("by".to_owned(), damage);
            }
            old
        });
    }
}

const LEVEL: &str = r#"{"imp": {"position": [1, 2], "hp": 50, "mood": {"angry": true}, "old_flag": true}, "key": {"position": [3, 4]}}"#;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ledger_1.room")
}

/// The fixture as the data of a host.
fn data(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(fixture(), data_file(&folder)).unwrap();
    folder
}

#[test]
#[ignore = "writes the fixture where there is none"]
fn write_the_fixture() {
    let blueprint = Blueprint::new(v1::protocol, v1::rules);
    let store = MemoryStore::new();
    let writer = Writer::start(Box::new(store.clone()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
    let options = RoomOptions { level: Some(Level::from_text("old.json", LEVEL)), notes: true, ..RoomOptions::named("old") };
    let mut room = blueprint.room(options.clone()).unwrap();
    let handle = writer.open(header_of(&options), blueprint.protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    for tick in 1..=100 {
        let joins = if tick == 7 { vec![Incoming::Join { user: EntityId::named("ann"), name: "ann".into() }] } else { Vec::new() };
        let outbox = room.tick(joins).unwrap();
        handle.record(outbox.into());
    }
    drop(writer.stop());
    let mut archive = Archive::new(Box::new(store), blueprint.protocol());
    copy_room(&mut archive, "old", &mut SqliteStore::create_file(fixture()).unwrap(), |_| {}).unwrap();
}

#[test]
fn the_version_that_wrote_it_reads_it_exactly() {
    let mut archive =
        Archive::new(Box::new(SqliteStore::read(data("old_same")).unwrap()), Blueprint::new(v1::protocol, v1::rules).protocol());
    assert_eq!(archive.verify("old", |_| {}).unwrap().findings, []);
    let recovered = archive.recover("old").unwrap();
    assert!(matches!(recovered.scene, Some(RecoveredScene::Exact(_))));
    assert_eq!(recovered.standing.tick, RoomTick(100));
}

#[test]
fn a_newer_game_goes_on_with_it() {
    let folder = data("old_newer");
    let blueprint = Blueprint::new(
        |app: &mut App| {
            v2::protocol(app);
            v2::evolution(app);
        },
        |_| {},
    );
    for round in 0..2 {
        let mut keeper = Keeper::open(&KeepOptions::in_folder(&folder)).unwrap();
        let mut room = keeper.room(&blueprint, RoomOptions::named("old")).unwrap();
        assert_eq!(room.tick_now(), RoomTick(100 + round));
        let imp = room.entity(EntityId::named("imp")).unwrap();
        assert_eq!(room.world().get::<v2::Health>(imp), Some(&v2::Health { now: 40, most: 50 }));
        assert_eq!(room.world().get::<v2::Mood>(imp), Some(&v2::Mood { furious: true, hungry: false }));
        assert!(room.entity(EntityId::named("ann")).is_some() && room.members().contains(EntityId::named("ann")), "ann's seat was kept");
        let outbox = room.tick([]).unwrap();
        let handle = keeper.handle("old").unwrap();
        handle.record(outbox.into());
        assert!(keeper.stop().given_up.is_none());
    }
    let mut archive = Archive::new(Box::new(SqliteStore::read(&folder).unwrap()), blueprint.protocol());
    let facts = archive.facts("old", FactSeq(1), usize::MAX).unwrap();
    let hit = facts.iter().find(|fact| fact.kind == "hit").unwrap();
    let (kind, data) = archive.protocol().evolve_fact(&hit.kind, hit.json());
    assert_eq!((kind.as_str(), serde_json::from_value::<v2::Struck>(data).unwrap().by), ("struck", 1));
    // What the older version wrote is not damaged, and is not followed as if this one had written it.
    let verified = archive.verify("old", |_| {}).unwrap();
    assert_eq!((verified.findings, verified.foreign, verified.unchained), (Vec::new(), Some(RoomTick(100)), 0));
    let end = RoomTick(102);
    assert!(matches!(archive.state_at("old", RoomTick(0)), Err(StoreError::Protocol { .. })));
    assert!(matches!(archive.state_at("old", RoomTick(57)), Err(StoreError::Protocol { .. })));
    assert!(matches!(archive.history("old", "imp", None, RoomTick(0), end), Err(StoreError::Protocol { .. })));
    assert!(matches!(archive.changes_of("old", hit.seq), Err(StoreError::Protocol { .. })));
    assert!(matches!(archive.why("old", "imp", "health", end), Err(StoreError::Protocol { .. })));
    // From where this one went on, all is told.
    assert_eq!(archive.history("old", "imp", Some("health"), RoomTick(101), end).unwrap().len(), 0);
    let mut cursor = archive.cursor("old", RoomTick(100)).unwrap();
    assert_eq!(cursor.advance(2).unwrap(), end);
    assert!(matches!(cursor.seek(RoomTick(99)), Err(StoreError::Protocol { .. })));
}

#[test]
fn the_older_version_follows_its_own_ticks_up_to_those_of_the_newer_one() {
    let folder = data("old_and_newer");
    let mut keeper = Keeper::open(&KeepOptions::in_folder(&folder)).unwrap();
    let mut room = keeper.room(&newer(), RoomOptions::named("old")).unwrap();
    for _ in 0..3 {
        let outbox = room.tick([]).unwrap();
        keeper.handle("old").unwrap().record(outbox.into());
    }
    assert!(keeper.stop().given_up.is_none());
    let older = Blueprint::new(v1::protocol, v1::rules);
    let mut archive = Archive::new(Box::new(SqliteStore::read(&folder).unwrap()), older.protocol());
    assert!(archive.state_at("old", RoomTick(60)).is_ok());
    let mut cursor = archive.cursor("old", RoomTick(60)).unwrap();
    (61..=99).for_each(|_| drop(cursor.forward().unwrap()));
    assert_eq!(cursor.tick(), RoomTick(99));
    assert!(matches!(archive.state_at("old", RoomTick(103)), Err(StoreError::Protocol { .. })));
    // What the newer one wrote it can't check, and says so.
    let findings = archive.verify("old", |_| {}).unwrap().findings;
    assert!(findings.iter().any(|finding| finding.what.contains("another protocol wrote them")), "{findings:?}");
    // The newer one can.
    let mut archive = Archive::new(Box::new(SqliteStore::read(&folder).unwrap()), newer().protocol());
    assert_eq!(archive.verify("old", |_| {}).unwrap().findings, []);
    assert!(archive.state_at("old", RoomTick(103)).is_ok());
}

#[test]
fn a_crash_right_after_the_change_of_version_loses_nothing() {
    let (folder, crashed) = (data("old_crash"), data("old_crashed"));
    let blueprint = Blueprint::new(
        |app: &mut App| {
            v2::protocol(app);
            v2::evolution(app);
        },
        |_| {},
    );
    let mut keeper = Keeper::open(&KeepOptions::in_folder(&folder)).unwrap();
    let mut room = keeper.room(&blueprint, RoomOptions::named("old")).unwrap();
    let handle = keeper.handle("old").unwrap();
    for _ in 0..3 {
        let outbox = room.tick([]).unwrap();
        handle.record(outbox.into());
    }
    while handle.durable() < Some(RoomTick(103)) {
        std::thread::yield_now();
    }
    for file in ["rooms.sqlite", "rooms.sqlite-wal", "mark"] {
        std::fs::copy(folder.join(file), crashed.join(file)).unwrap();
    }
    let mut archive = Archive::new(Box::new(SqliteStore::read(&folder).unwrap()), blueprint.protocol());
    let key = archive.room("old").unwrap().key;
    assert!(archive.store().checkpoints(key).unwrap().contains(&(RoomTick(100), true)), "it went on from tick 100, not later");
    let mut keeper = Keeper::open(&KeepOptions::in_folder(&crashed)).unwrap();
    assert_eq!(keeper.room(&blueprint, RoomOptions::named("old")).unwrap().tick_now(), RoomTick(103));
}

#[test]
fn one_that_can_not_read_it_says_exactly_why() {
    let folder = data("old_refused");
    let blueprint = Blueprint::new(v2::protocol, |_| {});
    let checked = Archive::new(Box::new(SqliteStore::read(&folder).unwrap()), blueprint.protocol()).check_schema("old").unwrap();
    assert!(checked.0.len() >= 4 && checked.1.len() == 2, "{checked:?}");
    let mut keeper = Keeper::open(&KeepOptions::in_folder(&folder)).unwrap();
    let error = keeper.room(&blueprint, RoomOptions::named("old")).unwrap_err().to_string();
    for words in [
        "imp.hp: no component has that name now",
        "imp.old_flag",
        "component \"hp\" is stored, but not in the protocol",
        "component \"health\" is new",
    ] {
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
    drop(keeper);
    // Nothing of it was touched.
    let mut archive = Archive::new(Box::new(SqliteStore::read(&folder).unwrap()), Blueprint::new(v1::protocol, v1::rules).protocol());
    assert_eq!(archive.recover("old").unwrap().standing.tick, RoomTick(100));
}

/// The game of today, which knows what it was.
fn newer() -> Blueprint {
    Blueprint::new(
        |app: &mut App| {
            v2::protocol(app);
            v2::evolution(app);
        },
        // Something happens in each tick.
        |app: &mut App| {
            app.add_systems(FixedUpdate, |mut things: Query<&mut v2::Position>| {
                things.iter_mut().for_each(|mut position| position.0[0] += 0.25);
            });
        },
    )
}

#[test]
fn nobody_is_told_that_it_is_safe_to_go_on_with_a_room_whose_process_was_killed() {
    let (store, older) = (MemoryStore::new(), Blueprint::new(v1::protocol, v1::rules));
    let writer = Writer::by_hand(Box::new(store.clone()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
    let options = RoomOptions { level: Some(Level::from_text("old.json", LEVEL)), ..RoomOptions::named("old") };
    let mut room = older.room(options.clone()).unwrap();
    let handle = writer.open(header_of(&options), older.protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    writer.sync().unwrap();
    handle.record(room.tick([]).unwrap().into());
    writer.step();
    writer.abandon();
    let mut archive = Archive::new(Box::new(store.clone()), newer().protocol());
    assert!(archive.check_schema("old").unwrap().1.is_empty(), "each value could be read");
    assert_eq!(archive.ticks_behind("old").unwrap(), 1);
    assert!(matches!(archive.recover("old"), Err(StoreError::Protocol { .. })));
    // The version that wrote it ends in order.
    let mut keeper = Keeper::by_hand(Box::new(store), WriterOptions::default()).unwrap();
    assert_eq!(keeper.room(&older, RoomOptions::named("old")).unwrap().tick_now(), RoomTick(1));
    assert!(keeper.stop().given_up.is_none());
    assert_eq!(archive.ticks_behind("old").unwrap(), 0);
    assert!(archive.recover("old").is_ok());
}

#[test]
fn a_room_is_made_smaller_by_a_newer_version_too() {
    let (store, older, newer) = (MemoryStore::new(), Blueprint::new(v1::protocol, v1::rules), newer());
    let mut seldom = WriterOptions::default();
    seldom.checkpoint_every = 20;
    let writer = Writer::by_hand(Box::new(store.clone()), seldom, |finding| panic!("{finding}")).unwrap();
    let options = RoomOptions { level: Some(Level::from_text("old.json", LEVEL)), ..RoomOptions::named("old") };
    let mut room = older.room(options.clone()).unwrap();
    let handle = writer.open(header_of(&options), older.protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    for tick in 1..=100_u32 {
        handle.record(room.tick([]).unwrap().into());
        if tick.is_multiple_of(10) {
            writer.sync().unwrap();
        }
    }
    drop(writer.stop());
    let mut keeper = Keeper::by_hand(Box::new(store.clone()), WriterOptions::default()).unwrap();
    let mut room = keeper.room(&newer, RoomOptions::named("old")).unwrap();
    for _ in 0..30 {
        keeper.handle("old").unwrap().record(room.tick([]).unwrap().into());
    }
    assert!(keeper.stop().given_up.is_none());
    let mut archive = Archive::new(Box::new(store.clone()), newer.protocol());
    let key = archive.room("old").unwrap().key;
    let own = archive.store().checkpoints(key).unwrap();
    assert!(own.contains(&(RoomTick(50), false)) && !own.contains(&(RoomTick(60), false)), "{own:?}");
    let mut theirs = Archive::new(Box::new(store), older.protocol());
    let then = theirs.state_at("old", RoomTick(57)).unwrap().hash();
    let mut retention = Retention::default();
    // The cut is tick 65, of the older one, whose chunk begins with 61.
    retention.ticks = Some(65);
    let compacted = archive.compact("old", retention, |_| {}).unwrap();
    assert!(compacted.deleted > 0 && compacted.chunks_after < compacted.chunks_before, "{compacted:?}");
    assert_eq!(archive.first_kept("old").unwrap(), RoomTick(50));
    assert!(archive.state_at("old", RoomTick(130)).is_ok());
    assert_eq!(archive.verify("old", |_| {}).unwrap().findings, []);
    assert_eq!(theirs.state_at("old", RoomTick(57)).unwrap().hash(), then);
    assert!(matches!(theirs.state_at("old", RoomTick(49)), Err(StoreError::NoTick { .. })));
    // Once the cut is in its own ticks, it is as always.
    retention.ticks = Some(10);
    archive.compact("old", retention, |_| {}).unwrap();
    assert!(archive.first_kept("old").unwrap() >= RoomTick(100));
    assert_eq!(archive.verify("old", |_| {}).unwrap().findings, []);
}

#[test]
fn a_newer_version_resets_a_room_to_a_snippet_of_the_older_one() {
    let folder = data("old_snippet");
    let older = Blueprint::new(v1::protocol, v1::rules);
    let mut archive = Archive::new(Box::new(SqliteStore::read(&folder).unwrap()), older.protocol());
    let saved = archive.save_snippet("old", "ten", RoomTick(10)).unwrap();
    assert_eq!(archive.snippet("old", "ten").unwrap(), saved);
    let store = SqliteStore::open(&folder, Durability::ProcessCrash).unwrap();
    let mut keeper = Keeper::by_hand(Box::new(store), WriterOptions::default()).unwrap();
    let mut room = keeper.room(&newer(), RoomOptions::named("old")).unwrap();
    keeper.writer().step();
    let key = archive.room("old").unwrap().key;
    archive.store().ask(key, "reset", "ten").unwrap();
    (0..8).for_each(|_| keeper.writer().step());
    let asked = keeper.writer().asked();
    let outbox = room.tick(asked.into_iter().map(|asked| asked.incoming)).unwrap();
    assert!(matches!(outbox.taken.as_slice(), [taken] if taken.verdict == Some(Verdict::Accepted)), "{:?}", outbox.taken);
    let imp = room.entity(EntityId::named("imp")).unwrap();
    assert_eq!(room.world().get::<v2::Health>(imp), Some(&v2::Health { now: 49, most: 50 }));
    assert_eq!(room.world().get::<v2::Mood>(imp), Some(&v2::Mood { furious: true, hungry: false }));
    // Whoever reads it by the newer version finds that version's components; one of its own stays as it is.
    let mut archive = Archive::new(Box::new(SqliteStore::read(&folder).unwrap()), newer().protocol());
    let read = archive.snippet("old", "ten").unwrap();
    let imp = read.entities.get("imp").unwrap();
    assert!(imp.contains_key("health") && !imp.contains_key("hp"), "{read:?}");
    archive.store().save_snippet(key, &read).unwrap();
    assert_eq!(archive.snippet("old", "ten").unwrap(), read);
}
