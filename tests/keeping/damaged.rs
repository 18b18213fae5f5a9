//! A damaged row is found and named, and hides nothing that can be read beside it.

use crate::arena::blueprint;
use crate::disk::{archive, copy_of, crashed, open_damaged};
use roomkeeper::protocol::{FactSeq, RoomTick};
use roomkeeper::store::{Archive, MemoryStore, copy_room, data_file};

#[test]
fn what_stands_before_a_damaged_row_of_the_journal_is_read_checked_and_copied_as_far_as_a_host_would_go_on() {
    let data = crashed("damaged_journal", 63);
    let file = rusqlite::Connection::open(data_file(&data)).unwrap();
    let flushes: Result<Vec<i64>, _> =
        file.prepare("SELECT flush FROM journal ORDER BY flush").unwrap().query_map([], |row| row.get(0)).unwrap().collect();
    let flushes = flushes.unwrap();
    assert!(flushes.len() > 2, "{flushes:?}");
    // After the last seal.
    let flush = flushes.iter().rev().nth(1).copied().unwrap();
    assert_eq!(file.execute("UPDATE journal SET sum = ~sum WHERE flush = ?1", [flush]).unwrap(), 1);
    drop(file);
    let goes_on = open_damaged(&copy_of(&data, "damaged_journal_opened")).1.unwrap().unwrap();

    let mut archive = archive(&data);
    let head = archive.head("arena").unwrap().unwrap();
    assert_eq!(head.tick, goes_on);
    assert!(head.tick < RoomTick(63));
    let verified = archive.verify("arena", |_| {}).unwrap();
    let place = format!("the journal of flush {flush}");
    assert!(matches!(&verified.findings[..], [finding] if finding.place == place), "{:?}", verified.findings);
    assert_eq!(archive.ticks("arena", RoomTick(0), head.tick).unwrap().len() as u64, verified.ticks);
    assert!(archive.state_at("arena", head.tick).is_ok());
    // Whoever asks for more is not told that this is all.
    for error in [
        archive.ticks("arena", RoomTick(0), RoomTick(63)).map(drop).unwrap_err(),
        archive.facts("arena", FactSeq(1), usize::MAX).map(drop).unwrap_err(),
        archive.refusals("arena", RoomTick(0)).map(drop).unwrap_err(),
    ] {
        assert!(error.is_damage() && error.to_string().contains(&place), "{error}");
    }

    let mut copy = MemoryStore::new();
    copy_room(&mut archive, "arena", &mut copy, |_| {}).unwrap();
    let mut copied = Archive::new(Box::new(copy), blueprint().protocol());
    assert_eq!(copied.head("arena").unwrap().unwrap(), head);
    assert_eq!(copied.verify("arena", |_| {}).unwrap().findings, []);
}
