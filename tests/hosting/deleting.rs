//! Rooms are deleted while their host runs: by its templates' word, and by an operator's.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use crate::beats::Player;
use crate::host::{Running, in_room, now, on_demand, until};
use roomkeeper::client::ConnectionState;
use roomkeeper::host::{HostOptions, OrderError, Template};
use roomkeeper::protocol::Refusal;
use roomkeeper::store::{MemoryStore, Store};

fn resting_soon() -> HostOptions {
    let mut options = HostOptions { rest_after: Some(Duration::from_millis(300)), ..HostOptions::default() };
    options.limits.grace_ticks = 0;
    options
}

/// Somebody is in a room, marks it, and leaves it.
#[expect(clippy::indexing_slicing, reason = "a test fails by panicking")]
fn visit(running: &Running, room: &str, by: u32) {
    let mut player = Player::connect(running.address, "ann", room);
    until("she is in", &mut [&mut player], in_room);
    assert_eq!(player.sum(), 0, "{room} is new");
    player.mark(by);
    until("it is marked", &mut [&mut player], |all| all[0].sum() == by);
    player.leave();
    until("it rests", &mut [], |_| running.handle().rooms().unwrap().iter().all(|info| info.name != room || info.is_resting));
}

#[test]
fn a_room_that_nobody_uses_is_deleted_after_the_time_that_its_template_says_and_no_other() {
    let mut store = MemoryStore::new();
    let running = Running::start(resting_soon(), Some(store.clone()), |host| {
        host.template("duel", Template { delete_after: Some(Duration::from_secs(2)), ..on_demand(2) });
        host.template("hall", on_demand(2));
    });
    let mut stays = Player::connect(running.address, "bob", "duel/red");
    until("he is in", &mut [&mut stays], in_room);
    stays.mark(7);
    stays.0.update();
    visit(&running, "hall/blue", 41);
    stays.0.update();
    visit(&running, "duel/blue", 42);
    stays.0.update();
    let rested = now();
    let first = store.room("duel/blue").unwrap().unwrap();
    until("it is deleted", &mut [&mut stays], |_| !running.names().contains(&"duel/blue".to_owned()));
    assert!(rested.elapsed() > Duration::from_secs(1), "it was kept for its time");
    assert!(store.room("duel/blue").unwrap().is_none());
    // Whoever asks for it gets a new one, which is not taken for it.
    visit(&running, "duel/blue", 43);
    let again = store.room("duel/blue").unwrap().unwrap();
    assert!(again.key != first.key && again.header.id() != first.header.id());
    // What is in use, and what is of another template, is there.
    assert_eq!(stays.sum(), 7);
    assert!(stays.state().is_in_room() && store.room("duel/red").unwrap().is_some());
    assert!(running.status("hall/blue").is_resting && store.room("hall/blue").unwrap().is_some());
    assert!(running.stop());
}

#[test]
fn an_operator_deletes_a_room_that_is_not_open_and_who_comes_then_gets_a_new_one() {
    let mut store = MemoryStore::new();
    let running = Running::start(resting_soon(), Some(store.clone()), |host| host.template("duel", on_demand(2)));
    let handle = running.handle();
    assert_eq!(handle.delete("duel/blue"), Err(OrderError::NoRoom("duel/blue".to_owned())));
    let mut player = Player::connect(running.address, "ann", "duel/blue");
    until("she is in", &mut [&mut player], in_room);
    player.mark(42);
    until("it is marked", &mut [&mut player], |all| all[0].sum() == 42);
    let refused = handle.delete("duel/blue").unwrap_err().to_string();
    assert!(refused.contains("it is open: close it first"), "{refused}");
    handle.close("duel/blue", "for good").unwrap();
    until("she is told", &mut [&mut player], |all| matches!(all[0].state(), ConnectionState::Refused(Refusal::RoomClosed(_), _)));
    // It may be ending yet, or not all written.
    until("it is deleted", &mut [], |_| match handle.delete("duel/blue") {
        Err(OrderError::Refused(why)) => {
            assert!(why.contains("try again"), "{why}");
            false
        }
        deleted => deleted.map(|()| true).unwrap(),
    });
    assert!(store.room("duel/blue").unwrap().is_none() && running.names().is_empty());
    assert_eq!(handle.delete("duel/blue"), Err(OrderError::NoRoom("duel/blue".to_owned())));
    visit(&running, "duel/blue", 1);
    assert!(running.stop());
}

#[test]
fn where_nothing_is_kept_there_is_nothing_to_delete() {
    let running = Running::start(HostOptions::default(), None, |host| host.template("duel", on_demand(2)));
    assert_eq!(running.handle().delete("duel/blue"), Err(OrderError::Refused("rooms are not kept here".to_owned())));
    assert!(running.stop());
}
