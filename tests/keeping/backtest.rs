//! Other rules, tried on matches that were recorded: which come out otherwise, from when on, and what happens more often.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::host::{BacktestError, Keeper, Outcomes, backtest, header_of};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{FactSeq, Incoming, RoomTick};
use roomkeeper::room::{Blueprint, Level, Room, RoomOptions};
use roomkeeper::store::{Archive, MemoryStore, Opening, Retention, Store, Writer, WriterOptions};
use serde::{Deserialize, Serialize};

use crate::arena::{self, Avatar, Healed, LEVEL, blueprint, options, script};
use crate::promises::{play, reader, start};

/// So seldom that it does not happen.
const NEVER: u32 = u32::MAX;

/// Who is in the room gets better, each time that so many ticks have passed.
fn heal_all(app: &mut App, every: u32) {
    app.add_systems(Update, move |clock: Res<RoomClock>, users: Query<&EntityId, With<Avatar>>, mut record: Recorder| {
        let mut users: Vec<EntityId> = users.iter().copied().collect();
        users.sort_unstable();
        for who in users.into_iter().filter(|_| clock.tick().0.is_multiple_of(every)) {
            record.fact(Healed { who, by: 1 });
        }
    });
}

/// The arena with that rule besides.
fn healing(every: u32) -> Blueprint {
    Blueprint::new(arena::protocol, move |app| {
        arena::rules(app);
        heal_all(app, every);
    })
}

#[derive(Serialize, Deserialize)]
struct Wave;
#[derive(Component, Serialize, Deserialize)]
struct Mood(u8);

/// The same by a later protocol, in which the commands have other numbers.
fn newer(every: u32) -> Blueprint {
    let protocol = |app: &mut App| {
        app.command::<Wave>("wave");
        arena::protocol(app);
        app.sync::<Mood>("mood");
    };
    Blueprint::new(protocol, move |app| {
        arena::rules(app);
        app.decide(|_: In<Issued<Wave>>| -> Decision { reject("nobody_waves") });
        heal_all(app, every);
    })
}

/// The arena with a fault that shows once somebody is there.
fn fragile() -> Blueprint {
    Blueprint::new(arena::protocol, |app| {
        arena::rules(app);
        app.add_systems(Update, |clock: Res<RoomClock>, users: Query<&EntityId, With<Avatar>>| {
            assert!(users.is_empty() || clock.tick().0 < 77, "nobody thought of that");
        });
    })
}

/// Nobody comes.
fn nobody(_: &Room, _: u32) -> Vec<Incoming> {
    Vec::new()
}

fn record(store: &MemoryStore, options: &RoomOptions, ticks: u32, script: fn(&Room, u32) -> Vec<Incoming>) {
    let writer = Writer::by_hand(Box::new(store.clone()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
    let mut room = blueprint().room(options.clone()).unwrap();
    let handle = writer.open(header_of(options), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    for tick in 1..=ticks {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
    }
    writer.sync().unwrap();
}

/// Three matches: one to which nobody came, one as the script has it, and one on another level.
fn recorded() -> MemoryStore {
    let store = MemoryStore::new();
    record(&store, &options("hall"), 200, nobody);
    record(&store, &options("arena"), 300, script);
    let level = Some(Level::from_text("somewhere/yard.json", LEVEL));
    record(&store, &RoomOptions { level, ..options("yard") }, 200, script);
    store
}

fn names<const N: usize>(rooms: [&str; N]) -> Vec<String> {
    Vec::from(rooms.map(str::to_owned))
}

/// How often a fact happened, as recorded and now.
fn times(outcomes: &Outcomes, fact: &str) -> (u64, u64) {
    let times = outcomes.facts.get(fact).copied().unwrap_or_default();
    (times.recorded, times.now)
}

#[test]
fn unchanged_rules_give_what_was_recorded() {
    let mut archive = reader(&recorded());
    let (rooms, mut heard) = (names(["hall", "arena", "yard"]), Vec::new());
    let tried = backtest(&mut archive, &blueprint(), &rooms, None, |room, tick| heard.push((room, tick.0)));
    assert!(tried.is_same(), "{tried:?}");
    assert_eq!(heard, [(0, 0), (0, 200), (1, 0), (1, 300), (2, 0), (2, 200)]);
    assert!(tried.rooms.iter().all(|room| room.from == RoomTick(0) && room.same_end == Some(true)), "{tried:?}");
    let all = tried.in_all();
    assert_eq!((all.rooms, all.differ), (3, 0));
    assert!(all.facts.values().chain(all.refused.values()).all(|times| times.recorded > 0 && times.change() == 0), "{all:?}");
    let stored: usize = rooms.iter().map(|room| archive.facts(room, FactSeq(1), usize::MAX).unwrap().len()).sum();
    assert_eq!(all.facts.values().map(|times| times.now).sum::<u64>(), stored as u64, "each fact counts once, those of tick 0 too");
    assert!(all.refused.contains_key("open_already") && all.refused.contains_key("already_joined"), "{all:?}");
}

#[test]
fn a_changed_rule_shows_in_which_matches_it_changes_the_outcome() {
    let mut archive = reader(&recorded());
    let tried = backtest(&mut archive, &healing(50), &names(["hall", "arena", "yard"]), None, |_, _| {});
    assert!(tried.failed.is_empty() && !tried.is_same(), "{tried:?}");
    let first = tried.rooms.iter().map(|room| room.difference.as_ref().map(|difference| difference.tick.0));
    assert_eq!(first.collect::<Vec<_>>(), [None, Some(50), Some(50)]);
    let ends = tried.rooms.iter().map(|room| room.same_end);
    assert_eq!(ends.collect::<Vec<_>>(), [Some(true), Some(false), Some(false)]);
    let what = &tried.rooms[1].difference.as_ref().unwrap().what;
    assert!(what.contains(".health is ") && what.ends_with(" now"), "{what}");
    // Three times by a command; and now ann and bob five times by the rule, and ann once more after bob has left.
    let all = tried.in_all();
    assert_eq!((times(&all, "healed"), all.facts["healed"].change()), ((3 + 2, 14 + 10), 19));
    assert_eq!(all.facts["spark_born"].change(), 0, "chance takes the same course");
    let levels = tried.by_level();
    assert_eq!(levels.keys().map(Option::as_deref).collect::<Vec<_>>(), [Some("arena.json"), Some("yard.json")]);
    let (arena, yard) = (&levels[&Some("arena.json".to_owned())], &levels[&Some("yard.json".to_owned())]);
    assert_eq!((arena.rooms, arena.differ, times(arena, "healed")), (2, 1, (3, 14)));
    assert_eq!((yard.rooms, yard.differ, times(yard, "healed")), (1, 1, (2, 10)));
}

#[test]
fn a_room_that_cannot_be_run_does_not_end_the_others() {
    let mut store = recorded();
    store.enter(&header_of(&options("new")), &blueprint().protocol().describe()).unwrap();
    let rooms = names(["nowhere", "arena", "new", "hall"]);
    let tried = backtest(&mut reader(&store), &fragile(), &rooms, None, |_, _| {});
    assert_eq!(tried.rooms.iter().map(|room| room.room.as_str()).collect::<Vec<_>>(), ["hall"]);
    assert!(tried.rooms[0].difference.is_none() && !tried.is_same(), "{tried:?}");
    let failed: Vec<(&str, String)> = tried.failed.iter().map(|(room, error)| (room.as_str(), error.to_string())).collect();
    let said = [("nowhere", "there is no room \"nowhere\""), ("arena", "tick 77"), ("arena", "nobody thought of that"), ("new", "no tick")];
    for (room, words) in said {
        assert!(failed.iter().any(|(failed, why)| *failed == room && why.contains(words)), "{room}: {words:?} in {failed:?}");
    }
    assert_eq!((failed.len(), tried.in_all().rooms), (3, 1));
}

#[test]
fn a_room_goes_on_in_another_process_as_it_did_until_it_comes_out_otherwise() {
    let store = MemoryStore::new();
    for ticks in [1..=60, 61..=90] {
        let mut keeper = Keeper::by_hand(Box::new(store.clone()), WriterOptions::default()).unwrap();
        let mut room = keeper.room(&blueprint(), options("arena")).unwrap();
        for tick in ticks {
            let incoming = script(&room, tick);
            keeper.handle("arena").unwrap().record(room.tick(incoming).unwrap().into());
        }
        assert!(keeper.stop().given_up.is_none());
    }
    let (mut archive, rooms) = (reader(&store), names(["arena"]));
    assert!(backtest(&mut archive, &blueprint(), &rooms, None, |_, _| {}).is_same());
    let tried = backtest(&mut archive, &healing(50), &rooms, None, |_, _| {});
    assert_eq!(tried.rooms[0].difference.as_ref().unwrap().tick, RoomTick(50));
    assert_eq!(tried.rooms[0].same_end, Some(false), "what came before the restart is not forgotten by it");
}

#[test]
fn a_room_without_its_beginning_begins_with_what_is_kept() {
    let store = MemoryStore::new();
    drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 300));
    let (mut archive, rooms) = (reader(&store), names(["arena"]));
    let mut retention = Retention::default();
    (retention.ticks, retention.chunk_ticks) = (Some(100), 20);
    archive.compact("arena", retention, |_| {}).unwrap();
    let first = archive.first_kept("arena").unwrap();
    assert!(first > RoomTick(100));
    let tried = backtest(&mut archive, &blueprint(), &rooms, None, |_, _| {});
    assert!(tried.is_same() && tried.rooms[0].from == first, "{tried:?}");
    let facts = archive.facts("arena", FactSeq(1), usize::MAX).unwrap();
    let sparks = facts.iter().filter(|fact| fact.kind == "spark_born" && fact.tick > first).count() as u64;
    assert_eq!(times(&tried.in_all(), "spark_born"), (sparks, sparks));
    assert!(!tried.in_all().facts.contains_key("user_joined"), "they came before");
    // There it can't begin from something else.
    let mut other_chance = |options: &mut RoomOptions| -> Result<(), String> {
        options.seed += 1;
        Ok(())
    };
    let tried = backtest(&mut archive, &blueprint(), &rooms, Some(&mut other_chance), |_, _| {});
    assert!(matches!(&tried.failed[..], [(_, BacktestError::NoBeginning(at))] if *at == first), "{tried:?}");
    // Nor can it be compared with what is not kept.
    retention.facts = Some(50);
    archive.compact("arena", retention, |_| {}).unwrap();
    let tried = backtest(&mut archive, &blueprint(), &rooms, None, |_, _| {});
    assert!(matches!(&tried.failed[..], [(_, BacktestError::NoFacts(_))]), "{tried:?}");
}

#[test]
fn a_room_that_another_protocol_stored_is_compared_by_its_facts() {
    let store = recorded();
    let rooms = names(["hall", "arena"]);
    let mut archive = Archive::new(store.reader().unwrap(), newer(NEVER).protocol());
    let tried = backtest(&mut archive, &newer(NEVER), &rooms, None, |_, _| {});
    assert!(tried.is_same() && tried.rooms.iter().all(|room| room.same_end.is_none()), "{tried:?}");
    let all = tried.in_all();
    assert_eq!((times(&all, "healed"), times(&all, "door_opened")), ((3, 3), (2, 2)), "commands are found by their names");
    let tried = backtest(&mut archive, &newer(50), &rooms, None, |_, _| {});
    let first: Vec<_> = tried.rooms.iter().map(|room| room.difference.clone()).collect();
    assert!(first[0].is_none(), "{first:?}");
    let difference = first[1].as_ref().unwrap();
    assert!(difference.tick == RoomTick(50) && difference.what.contains("is none recorded, healed {"), "{difference:?}");
    // What was asked for must be something that can be asked for.
    let deaf = |app: &mut App| {
        app.sync::<arena::Health>("health");
    };
    let tried = backtest(&mut archive, &Blueprint::new(deaf, |_| {}), &rooms, None, |_, _| {});
    assert!(tried.rooms.is_empty() && tried.failed.len() == 2);
    let why = tried.failed[1].1.to_string();
    assert!(why.contains("command \"open\" is stored, but not in the protocol"), "{why}");
}

#[test]
fn rooms_can_start_from_something_else() {
    let mut archive = reader(&recorded());
    let mut sturdy = |options: &mut RoomOptions| -> Result<(), String> {
        if options.name == "yard" {
            return Err("this crate stays as it is".to_owned());
        }
        let level = options.level.as_ref().ok_or("no level")?;
        options.level = Some(Level::from_text(level.name(), level.text().replace("\"health\": 7", "\"health\": 9")));
        Ok(())
    };
    let tried = backtest(&mut archive, &blueprint(), &names(["arena", "yard"]), Some(&mut sturdy), |_, _| {});
    let difference = tried.rooms[0].difference.as_ref().unwrap();
    assert_eq!((difference.tick, difference.what.as_str()), (RoomTick(0), "crate.health is 7 recorded, 9 now"));
    assert_eq!(tried.rooms[0].same_end, Some(false));
    assert!(tried.in_all().facts.values().all(|times| times.change() == 0), "nobody minds");
    assert!(matches!(&tried.failed[..], [(room, error)] if room == "yard" && error.to_string() == "this crate stays as it is"));
    // Whoever changes nothing gets what was recorded.
    let mut nothing = |_: &mut RoomOptions| -> Result<(), String> { Ok(()) };
    assert!(backtest(&mut archive, &blueprint(), &names(["arena", "yard"]), Some(&mut nothing), |_, _| {}).is_same());
}
