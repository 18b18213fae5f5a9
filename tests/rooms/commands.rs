//! What becomes of commands: obeyed at most once, rejected with a reason that its author alone hears, never trusted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use bytes::Bytes;
use roomkeeper::prelude::*;
use roomkeeper::protocol::limits::{COMMAND_BYTES_MAX, FACTS_PER_TICK_MAX};
use roomkeeper::protocol::{CommandId, LeaveReason, Producer};
use roomkeeper::room::{Answer, Incoming, Join, Room, RoomOptions, Verdict};
use roomkeeper::sim::Sim;
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Key;
#[derive(Serialize, Deserialize)]
struct Take {
    item: EntityId,
}
#[derive(Serialize, Deserialize)]
struct Walk {
    to: [f32; 2],
}
#[derive(Serialize, Deserialize)]
struct Stumble;
#[derive(Clone, Serialize, Deserialize)]
struct Taken {
    item: EntityId,
    by: EntityId,
}
#[derive(Clone, Serialize, Deserialize)]
struct Walked {
    by: EntityId,
}
#[derive(Serialize, Deserialize)]
struct Plant;
#[derive(Clone, Serialize, Deserialize)]
struct Planted {
    tree: EntityId,
}

fn protocol(app: &mut App) {
    app.sync::<Key>("key");
    app.sync_relationship::<OwnedBy>("owned_by");
    app.command::<Take>("take").command::<Walk>("walk").command::<Stumble>("stumble").command::<Plant>("plant");
    app.fact::<Taken>("taken").stateless_fact::<Walked>("walked").fact::<Planted>("planted");
}

fn decide_take(take: In<Issued<Take>>, index: Res<EntityIndex>, owners: Query<&OwnedBy>) -> Decision {
    let item = index.entity(take.item).filter(|item| owners.get(*item).is_err());
    if item.is_none() {
        return reject("already_taken");
    }
    accept(Taken { item: take.item, by: take.author_id })
}

fn own(taken: On<Happened<Taken>>, index: Res<EntityIndex>, mut commands: Commands) {
    if let (Some(item), Some(by)) = (index.entity(taken.item), index.entity(taken.by)) {
        commands.entity(item).insert(OwnedBy(by));
    }
}

fn decide_walk(walk: In<Issued<Walk>>) -> Decision {
    accept(Walked { by: walk.author_id })
}

fn decide_stumble(_: In<Issued<Stumble>>, keys: Query<&Key>) -> Decision {
    keys.get(Entity::PLACEHOLDER)?;
    reject("never")
}

fn decide_plant(plant: In<Issued<Plant>>) -> Decision {
    accept(Planted { tree: plant.new_id(0) })
}

fn grow(planted: On<Happened<Planted>>, mut commands: Commands) {
    commands.spawn((planted.tree, Key));
}

fn rules(app: &mut App) {
    app.decide(decide_take).decide(decide_walk).decide(decide_stumble).decide(decide_plant).apply(own).apply(grow);
}

fn sim() -> Sim {
    let mut sim = Sim::new(protocol, rules).client("ann").client("bob");
    sim.room_mut().world_mut().spawn((EntityId::named("key"), Key));
    sim.tick();
    sim
}

fn key() -> Take {
    Take { item: EntityId::named("key") }
}

#[test]
fn of_two_who_take_the_same_key_in_one_tick_one_gets_it() {
    let mut sim = sim();
    sim.issue("ann", &key()).issue("bob", &key()).run_ticks(2);
    assert_eq!(sim.facts(), ["taken"]);
    assert_eq!((sim.rejections("ann").len(), sim.rejections("bob").len()), (0, 1));
    // Once it is ann's, bob's command does not reach the handler any more.
    assert_eq!(sim.rejections("bob"), ["not_yours"]);
    sim.assert_converged();
}

#[test]
fn of_ten_thousand_races_for_an_item_each_has_one_winner_and_the_other_is_told() {
    let rules = |app: &mut App| {
        rules(app);
        // The game's own handler answers, not the check of ownership before it.
        app.may_name_others::<Take>();
    };
    let mut sim = Sim::new(protocol, rules).client("ann").client("bob");
    let mut taken = 0;
    for tick in 0..1_000_u32 {
        let items: Vec<EntityId> = (0..10).map(|n| EntityId::named(&format!("item{tick}-{n}"))).collect();
        let entities: Vec<Entity> = items.iter().map(|item| sim.room_mut().world_mut().spawn((*item, Key)).id()).collect();
        for (n, item) in items.iter().enumerate() {
            let (first, second) = if n % 2 == 0 { ("ann", "bob") } else { ("bob", "ann") };
            sim.issue(first, &Take { item: *item }).issue(second, &Take { item: *item });
        }
        sim.tick();
        taken += items.len();
        assert_eq!(sim.facts().len(), taken);
        entities.into_iter().for_each(|entity| assert!(sim.room_mut().world_mut().despawn(entity)));
    }
    let winners: BTreeSet<EntityId> = sim.facts_of::<Taken>().into_iter().map(|taken| taken.item).collect();
    assert_eq!(winners.len(), taken, "no item was taken twice");
    let told: Vec<&str> = sim.rejections("ann").into_iter().chain(sim.rejections("bob")).collect();
    assert!(told.len() == taken && told.iter().all(|code| *code == "already_taken"));
    sim.settle().assert_converged();
}

#[test]
fn a_rejection_reaches_its_author_only() {
    let mut sim = sim();
    sim.issue("bob", &Take { item: EntityId::named("nothing") }).run_ticks(2);
    assert_eq!(sim.rejections("bob"), ["no_such_entity"]);
    assert!(sim.rejections("ann").is_empty());
    assert!(sim.facts().is_empty());
}

#[test]
fn a_command_may_not_name_another_player_nor_what_is_theirs() {
    let mut sim = sim();
    sim.issue("bob", &Take { item: EntityId::named("ann") }).run_ticks(2);
    sim.issue("ann", &key()).run_ticks(2).issue("bob", &key()).run_ticks(2);
    assert_eq!(sim.rejections("bob"), ["not_yours", "not_yours"]);
    // What its owner lets go is anybody's.
    let item = sim.room().entity(EntityId::named("key")).unwrap();
    sim.room_mut().world_mut().entity_mut(item).remove::<OwnedBy>();
    sim.issue("bob", &key()).run_ticks(2);
    assert_eq!(sim.facts(), ["taken", "taken"]);
}

#[test]
fn a_command_on_something_hidden_of_another_player_is_answered_as_one_on_nothing() {
    let mut sim = sim();
    let ann = sim.room().entity(EntityId::named("ann")).unwrap();
    sim.room_mut().world_mut().spawn((EntityId::named("stash"), Key, OwnedBy(ann), Audience::OWNER));
    sim.tick();
    for item in ["stash", "nothing"] {
        sim.issue("bob", &Take { item: EntityId::named(item) }).run_ticks(2);
    }
    assert_eq!(sim.rejections("bob"), ["no_such_entity", "no_such_entity"]);
    // To its owner it is there.
    sim.issue("ann", &Take { item: EntityId::named("stash") }).run_ticks(2);
    assert_eq!(sim.rejections("ann"), ["already_taken"]);
}

#[test]
fn what_a_leaver_owned_is_anybodys() {
    let mut sim = sim();
    sim.issue("ann", &key()).run_ticks(2).leave("ann");
    sim.run_ticks(2).issue("bob", &key()).run_ticks(2);
    assert_eq!(sim.facts(), ["taken", "taken"]);
    sim.assert_converged();
}

#[test]
fn a_number_that_is_none_is_refused() {
    let mut sim = sim();
    sim.issue("ann", &Walk { to: [f32::NAN, 0.0] }).issue("ann", &Walk { to: [0.0, f32::INFINITY] }).run_ticks(2);
    assert_eq!(sim.rejections("ann"), ["not_finite", "not_finite"]);
}

#[test]
fn an_error_in_a_handler_is_told_without_its_text() {
    let mut sim = sim();
    sim.issue("ann", &Stumble).run_ticks(2);
    let rejected = &sim.client_of("ann").told().rejected;
    assert_eq!((rejected[0].code.as_str(), rejected[0].detail.as_str()), ("internal", ""));
}

#[test]
fn new_ids_are_never_twice_the_same_and_never_nobody_s() {
    let mut sim = sim();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.extend(sim.room_mut().world_mut().run_system_once(|mut record: Recorder| [record.new_id(), record.new_id()]).unwrap());
        sim.tick();
    }
    assert!(ids.iter().all(|id| *id != EntityId::NIL), "{ids:?}");
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn a_fact_is_stamped_by_the_room() {
    let mut sim = sim();
    sim.issue("ann", &Walk { to: [1.0, 1.0] }).run_ticks(2);
    let fact = sim.ledger().iter().find(|fact| &*fact.name == "walked").unwrap();
    assert_eq!((fact.producer.clone(), fact.author, fact.command), (Producer::User, Some(EntityId::named("ann")), Some(CommandId(1))));
    let seqs: Vec<u64> = sim.ledger().iter().map(|fact| fact.seq.0).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[test]
fn who_leaves_and_joins_again_never_makes_an_id_that_was_there() {
    let mut sim = sim();
    for stay in 0..4 {
        for _ in 0..=stay {
            sim.issue("ann", &Plant);
        }
        sim.issue("bob", &Plant).run_ticks(2).leave("ann").join("ann");
    }
    sim.issue("ann", &Plant).run_ticks(2);
    let trees: BTreeSet<EntityId> = sim.facts_of::<Planted>().into_iter().map(|planted| planted.tree).collect();
    assert_eq!((sim.facts_of::<Planted>().len(), trees.len()), (15, 15));
    let commands: BTreeSet<_> = sim.ledger().iter().filter_map(|fact| fact.author.zip(fact.command)).collect();
    assert_eq!(commands.len(), 15, "no number of a user comes twice: {commands:?}");
    // Each tree is the one that its fact names, and none was given another id because that was taken.
    assert!(trees.iter().all(|tree| sim.room().entity(*tree).is_some()));
    sim.settle().assert_converged();
}

#[test]
fn a_spectator_sees_everything_and_can_do_nothing() {
    let mut sim = sim();
    sim.connect("eve", true).run_ticks(3);
    assert!(sim.client_of("eve").is_live());
    assert!(sim.try_issue("eve", &key()).is_err());
    sim.issue("ann", &key()).run_ticks(2);
    assert_eq!(sim.assert_converged(), 3);
}

/// A room with one member, spoken to without a client.
fn bare_room() -> (Room, EntityId) {
    let mut room = Room::new(RoomOptions::named("bare"), protocol, rules).unwrap();
    let user = EntityId::named("ann");
    room.tick([Incoming::Join { user, name: "ann".into() }]).unwrap();
    (room, user)
}

#[test]
fn more_may_come_and_go_at_once_than_a_tick_can_tell() {
    let (mut room, _) = bare_room();
    let users: Vec<EntityId> = (0..FACTS_PER_TICK_MAX + 100).map(|n| EntityId::named(&format!("user{n}"))).collect();
    for _ in 0..4 {
        let out: Vec<EntityId> = users.iter().copied().filter(|user| !room.members().contains(*user)).collect();
        room.tick(out.iter().map(|user| Incoming::Join { user: *user, name: String::new() })).unwrap();
    }
    assert_eq!(room.members().iter().len(), users.len() + 1);
    room.tick(users.iter().map(|user| Incoming::Leave { user: *user, reason: LeaveReason::Timeout })).unwrap();
    for _ in 0..3 {
        room.tick([]).unwrap();
    }
    assert_eq!(room.members().iter().len(), 1);
}

fn command(user: EntityId, id: u32, kind: usize, payload: &[u8]) -> Incoming {
    Incoming::Command { user, id: CommandId(id), kind, seen: None, payload: Bytes::copy_from_slice(payload) }
}

fn codes(room: &mut Room, incoming: Vec<Incoming>) -> Vec<String> {
    let outbox = room.tick(incoming).unwrap();
    let code = |answer| match answer {
        Answer::Command { verdict: Verdict::Rejected(rejection), .. } => rejection.code,
        Answer::Command { .. } => "accepted".to_owned(),
        Answer::Join { .. } => "join".to_owned(),
    };
    outbox.answers.into_iter().map(code).collect()
}

#[test]
fn bytes_that_are_no_command_are_told_so() {
    let (mut room, user) = bare_room();
    let incoming = vec![
        command(user, 1, 99, &[]),
        command(user, 2, 1, &[1, 2, 3]),
        command(user, 3, 1, &[0; 9]),
        command(user, 4, 1, &[0; 2_000]),
        command(user, 5, 1, &[0; 8]),
        command(user, 6, 1, &[0; COMMAND_BYTES_MAX]),
        command(user, 7, 1, &[0; COMMAND_BYTES_MAX + 1]),
    ];
    let expected = ["unknown_command", "malformed", "malformed", "too_large", "accepted", "malformed", "too_large"];
    assert_eq!(codes(&mut room, incoming), expected);
}

#[test]
fn a_user_has_an_id_and_a_name_of_32_bytes_at_most() {
    let (mut room, _) = bare_room();
    let mut join = |user, name: &str| match room.tick([Incoming::Join { user, name: name.to_owned() }]).unwrap().answers.remove(0) {
        Answer::Join { verdict: Verdict::Rejected(rejection), .. } => rejection.code,
        _ => "in".to_owned(),
    };
    let bob = EntityId::named("bob");
    assert_eq!(join(EntityId::NIL, "nobody"), "bad_user");
    assert_eq!(join(bob, &"b".repeat(33)), "bad_user");
    assert_eq!(join(bob, &"b".repeat(32)), "in");
    assert_eq!(join(bob, "bob"), "already_joined");
}

#[test]
fn a_command_that_comes_twice_is_obeyed_once() {
    let (mut room, user) = bare_room();
    let same = || command(user, 1, 1, &[0; 8]);
    assert_eq!(codes(&mut room, vec![same(), same()]), ["accepted"]);
    assert!(codes(&mut room, vec![same()]).is_empty());
}

#[test]
fn the_numbers_of_a_stay_begin_above_those_of_all_who_have_left() {
    let (mut room, ann) = bare_room();
    let bob = EntityId::named("bob");
    let join = |user| Incoming::Join { user, name: "somebody".into() };
    let leave = |user| Incoming::Leave { user, reason: LeaveReason::Left };
    assert_eq!(codes(&mut room, vec![command(ann, 1, 1, &[0; 8]), command(ann, 40, 1, &[0; 8])]), ["accepted", "accepted"]);
    room.tick([join(bob), leave(ann)]).unwrap();
    assert_eq!(room.members().last_command(bob), CommandId(0), "nobody had left yet");
    room.tick([leave(bob), join(bob), join(ann)]).unwrap();
    assert_eq!([ann, bob].map(|user| room.members().last_command(user)), [CommandId(41); 2]);
    assert_eq!(codes(&mut room, vec![command(ann, 42, 1, &[0; 8]), command(ann, 42, 1, &[0; 8])]), ["accepted"]);
    assert_eq!([ann, bob].map(|user| room.members().last_command(user)), [CommandId(42), CommandId(41)]);
}

#[test]
fn what_a_join_makes_has_another_id_in_each_stay() {
    let rules = |app: &mut App| {
        rules(app);
        app.decide(|join: In<Issued<Join>>| -> Decision { accept(Planted { tree: join.new_id(0) }) });
    };
    let mut room = Room::new(RoomOptions::named("bare"), protocol, rules).unwrap();
    let (user, mut trees) = (EntityId::named("ann"), BTreeSet::new());
    for _ in 0..3 {
        let mut facts = room.tick([Incoming::Join { user, name: "ann".into() }]).unwrap().facts;
        let first = room.members().last_command(user).0 + 1;
        facts.extend(room.tick([command(user, first, 3, &[])]).unwrap().facts);
        trees.extend(facts.iter().filter_map(|fact| fact.get::<Planted>()).map(|planted| planted.tree));
        room.tick([Incoming::Leave { user, reason: LeaveReason::Left }]).unwrap();
    }
    assert_eq!(trees.len(), 6);
}

#[test]
fn a_flood_of_commands_is_cut_at_the_limit_of_a_tick() {
    let (mut room, user) = bare_room();
    let flood = (1..=100).map(|id| command(user, id, 1, &[0; 8])).collect();
    let codes = codes(&mut room, flood);
    assert_eq!(codes.iter().filter(|code| *code == "accepted").count(), 32);
    assert_eq!(codes.iter().filter(|code| *code == "too_many_commands").count(), 68);
}

#[test]
fn a_room_that_all_its_members_flood_at_once_goes_on_and_each_has_its_share() {
    for by_turns in [false, true] {
        let (mut room, _) = bare_room();
        let users: Vec<EntityId> = (0..256).map(|n| EntityId::named(&format!("user{n}"))).collect();
        room.tick(users.iter().map(|user| Incoming::Join { user: *user, name: "one of many".into() })).unwrap();
        // What was taken in one tick is nothing to the next ones.
        for first in [1, 41] {
            let mut flood: Vec<(u32, EntityId)> = users.iter().flat_map(|user| (first..first + 32).map(move |id| (id, *user))).collect();
            if by_turns {
                flood.sort_by_key(|(id, _)| *id);
            }
            let outbox = room.tick(flood.iter().map(|(id, user)| command(*user, *id, 1, &[0; 8]))).unwrap();
            let mut obeyed = BTreeSet::new();
            for answer in &outbox.answers {
                match answer {
                    Answer::Command { user, verdict: Verdict::Accepted, .. } => {
                        obeyed.insert(*user);
                    }
                    Answer::Command { verdict: Verdict::Rejected(rejection), .. } => assert_eq!(rejection.code, "room_is_busy"),
                    Answer::Join { .. } => {}
                }
            }
            assert_eq!((outbox.answers.len(), obeyed.len()), (256 * 32, 256), "by turns: {by_turns}, from {first}");
            // A quarter of what a tick may have is anybody's: here 32 for each of the first 32, or by turns four for each. Of the next quarter each
            // may have a 257th, which is three, with what it had of the first.
            let expected = FACTS_PER_TICK_MAX / 4 + if by_turns { 0 } else { (256 - 32) * 3 };
            assert_eq!(outbox.facts.len(), expected, "by turns: {by_turns}, from {first}");
            // Its number was used up all the same.
            assert_eq!(codes(&mut room, vec![command(*users.last().unwrap(), first + 32, 1, &[0; 8])]), ["accepted"]);
        }
    }
}

#[test]
fn who_has_not_joined_is_not_heard() {
    let (mut room, _) = bare_room();
    assert!(codes(&mut room, vec![command(EntityId::named("stranger"), 1, 1, &[0; 8])]).is_empty());
}
