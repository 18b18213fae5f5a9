//! What an operator lets happen: a fact of the game, of the server and of no author.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use roomkeeper::prelude::*;
use roomkeeper::protocol::limits::{EVENT_BYTES_MAX, EVENTS_PER_TICK_MAX};
use roomkeeper::protocol::{Incoming, Producer};
use roomkeeper::room::{Level, Room, Verdict};
use roomkeeper::sim::Sim;

use crate::arena::{Health, LEVEL, blueprint, options, protocol, rules, state_of};

fn event(name: &str, fact: &str) -> Incoming {
    Incoming::Event { name: name.to_owned(), fact: fact.to_owned() }
}

fn health(room: &Room, name: &str) -> i32 {
    room.world().get::<Health>(room.entity(EntityId::named(name)).unwrap()).unwrap().0
}

#[test]
fn an_operators_event_is_a_fact_of_the_server_and_is_handled_as_any_other() {
    let mut sim = Sim::new(protocol, rules).seed(7).level(Level::from_text("arena.json", LEVEL)).client("ann").client("bob");
    sim.settle();
    sim.lobby_mut().push("sim", event("healed", r#"{"who": "ann", "by": 20}"#));
    sim.lobby_mut().push("sim", event("door_opened", r#"{"by": "ann", "door": "door_a"}"#));
    sim.tick();
    assert_eq!(health(sim.room(), "ann"), 70);
    let told: Vec<_> = sim.ledger().iter().filter(|fact| ["healed", "door_opened"].contains(&&*fact.name)).collect();
    assert_eq!(told.len(), 2);
    for fact in told {
        assert_eq!((&fact.producer, fact.author, fact.command, fact.cause), (&Producer::Server, None, None, None), "{fact:?}");
    }
    sim.settle();
    assert_eq!(sim.assert_converged(), 2);
}

/// What a room says to something that it takes in beside a twin that takes in nothing: it must end up as the twin does.
fn refusal(incoming: Incoming) -> Rejection {
    let [mut room, mut twin] = [(); 2].map(|()| blueprint().room(options("arena")).unwrap());
    let (outbox, other) = (room.tick([incoming]).unwrap(), twin.tick([]).unwrap());
    assert_eq!(outbox.batch, other.batch);
    assert_eq!((outbox.facts.len(), state_of(&mut room).hash()), (other.facts.len(), state_of(&mut twin).hash()));
    match outbox.taken.first().unwrap().verdict.clone() {
        Some(Verdict::Rejected(rejection)) => rejection,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_that_can_not_be_is_refused_in_words_and_changes_nothing() {
    let (name, long, deep) = ("é".repeat(300), " ".repeat(EVENT_BYTES_MAX + 1), "[".repeat(EVENT_BYTES_MAX));
    let cases = [
        ("healde", "{}", "unknown_fact", "\"healde\"; there are: door_opened, healed, spark_born"),
        ("", "{}", "unknown_fact", "there are: door_opened"),
        (name.as_str(), "{}", "unknown_fact", "at most 64 bytes"),
        ("heal", r#"{"by": 1}"#, "unknown_fact", "there are"),
        ("healed", "", "malformed", "healed: EOF"),
        ("healed", "null", "malformed", "healed: invalid type: null"),
        ("healed", r#"{"who": "crate"}"#, "malformed", "missing field `by` at line 1 column"),
        ("healed", r#"{"who": "crate", "by": "much"}"#, "malformed", "invalid type: string \"much\""),
        ("healed", r#"{"who": "crate", "by": 1} 2"#, "malformed", "trailing"),
        ("healed", deep.as_str(), "malformed", "healed: "),
        ("healed", long.as_str(), "too_large", "16384"),
        ("healed", r#"{"who": "nobody", "by": 1}"#, "no_such_entity", "healed names "),
        ("door_opened", r#"{"by": "nobody", "door": "door_a"}"#, "no_such_entity", "is not in the room"),
        ("user_joined", r#"{"user": "crate", "name": "crate"}"#, "not_an_event", "user_joined"),
        ("scene_reset", r#"{"snippet": "x"}"#, "not_an_event", "scene_reset"),
    ];
    for (name, fact, code, words) in cases {
        let Rejection { code: said, detail } = refusal(event(name, fact));
        assert!(said == code && detail.contains(words), "{name} {fact:.40}: {said}: {detail}");
    }
    // A number that is too large for its type is none.
    let endless = refusal(event("spark_born", r#"{"spark": "crate", "at": [1e300, 0]}"#));
    assert!(["malformed", "not_finite"].contains(&&*endless.code), "{endless}");
}

#[test]
fn no_more_events_happen_in_a_tick_than_its_limit_allows() {
    let mut room = blueprint().room(options("arena")).unwrap();
    let heal = || event("healed", r#"{"who": "crate", "by": 1}"#);
    let outbox = room.tick((0..=EVENTS_PER_TICK_MAX).map(|_| heal())).unwrap();
    let (last, others) = outbox.taken.split_last().unwrap();
    assert!(others.iter().all(|taken| taken.verdict == Some(Verdict::Accepted)));
    assert!(matches!(&last.verdict, Some(Verdict::Rejected(why)) if why.code == "too_many_events"), "{last:?}");
    assert_eq!(health(&room, "crate"), 7 + EVENTS_PER_TICK_MAX as i32);
    let outbox = room.tick([heal()]).unwrap();
    assert_eq!(outbox.taken.first().unwrap().verdict, Some(Verdict::Accepted), "the next tick has its own");
}
