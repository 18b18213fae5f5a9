//! A damaged row is found and named, and hides nothing that can be read beside it.

use crate::arena::blueprint;
use crate::disk::{archive, copy_of, crashed, open_damaged};
use crate::promises::{play, start};
use crate::store::folder;
use roomkeeper::protocol::{FactSeq, RoomTick};
use roomkeeper::store::{Archive, Durability, MemoryStore, SqliteStore, copy_room, data_file};

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

#[test]
fn a_checkpoint_and_a_table_of_the_state_that_say_otherwise_than_the_batches_are_found_though_their_sums_are_right() {
    let data = folder("forged_states");
    let writer = start(Box::new(SqliteStore::open(&data, Durability::ProcessCrash).unwrap()));
    drop(play(&writer, &blueprint(), "arena", 3_000));
    drop(writer.stop());
    assert_eq!(archive(&data).verify("arena", |_| {}).unwrap().findings, []);
    let file = rusqlite::Connection::open(data_file(&data)).unwrap();
    // A checkpoint in the middle has what one had that was earlier.
    let sql = "SELECT tick, fingerprint, payload FROM checkpoint WHERE resumed = 0 ORDER BY tick";
    let rows: Result<Vec<(i64, i64, Vec<u8>)>, _> =
        file.prepare(sql).unwrap().query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap().collect();
    let rows = rows.unwrap();
    assert!(rows.len() > 2, "{} checkpoints", rows.len());
    let ((_, _, older), (tick, fingerprint, _)) = (&rows[0], &rows[1]);
    let seed = fingerprint.wrapping_add(2 * tick).cast_unsigned();
    let sum = twox_hash::XxHash3_64::oneshot_with_seed(seed, older).cast_signed();
    let sql = "UPDATE checkpoint SET payload = ?1, sum = ?2 WHERE tick = ?3";
    assert_eq!(file.execute(sql, rusqlite::params![older, sum, tick]).unwrap(), 1);
    let found = |data| {
        let findings = archive(data).verify("arena", |_| {}).unwrap().findings;
        findings.into_iter().map(|finding| finding.place).collect::<Vec<_>>()
    };
    assert_eq!(found(&data), [format!("the checkpoint of tick {tick}")]);
    // The table of the state has one value more, and then one less.
    let (entity, value): (String, String) = file
        .query_row("SELECT entity_id, component FROM component WHERE component_name = 'health' LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let sql = "UPDATE component SET component = ?1 WHERE component_name = 'health' AND entity_id = ?2";
    assert_eq!(file.execute(sql, [format!("{value}1"), entity.clone()]).unwrap(), 1);
    let table = format!("the table of components, {entity}");
    assert!(found(&data).contains(&table), "{:?}", found(&data));
    assert_eq!(file.execute("DELETE FROM component WHERE component_name = 'health' AND entity_id = ?1", [&entity]).unwrap(), 1);
    assert!(found(&data).contains(&table), "{:?}", found(&data));
}
