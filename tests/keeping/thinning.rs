//! Which checkpoints of a room are kept once they are old.

use crate::arena::blueprint;
use crate::promises::{play, reader, start};
use roomkeeper::protocol::RoomTick;
use roomkeeper::store::{Checkpoint, MemoryStore, Retention, Store};

#[test]
fn of_old_checkpoints_those_far_enough_apart_are_kept_and_the_newest_and_those_where_a_process_went_on() {
    let store = MemoryStore::new();
    drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 60));
    let (mut archive, mut raw) = (reader(&store), store.clone());
    let (key, fingerprint) = (archive.room("arena").unwrap().key, archive.protocol().fingerprint());
    let own: Vec<RoomTick> = raw.checkpoints(key).unwrap().into_iter().map(|(tick, _)| tick).collect();
    raw.drop_checkpoints(key, &own).unwrap();
    for (tick, resumed) in [(10, false), (20, false), (25, true), (30, false), (45, false), (50, false)] {
        raw.add_checkpoint(key, &Checkpoint { tick: RoomTick(tick), resumed, fingerprint, payload: Vec::new() }).unwrap();
    }
    let mut retention = Retention::default();
    retention.checkpoint_ticks = 20;
    assert_eq!(archive.compact("arena", retention, |_| {}).unwrap().deleted, 2);
    let kept: Vec<u32> = raw.checkpoints(key).unwrap().into_iter().map(|(tick, _)| tick.0).collect();
    // 20 is too near to 10. 25 stays where a process went on, and 30 is too near to it; 45 is just far enough. 50 is the newest.
    assert_eq!(kept, [10, 25, 45, 50]);
}
