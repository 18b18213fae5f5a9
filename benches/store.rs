#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark, read by people")]
//! The store at work: 500 rooms that flush 20 operations and 2 facts each every 50 ms, on disk and on nothing; recovery; reading; seeking.
//!
//! Run: `cargo bench --bench store`. With `--features postgres` and `POSTGRES=postgres://user@host/database` that database is measured beside SQLite.
//! `SECONDS=10 cargo bench --bench store` lets the rooms run longer; `FOLDER=/path` puts the data elsewhere.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use cpu_time::ThreadTime;
use roomkeeper::host::{KeepOptions, Keeper, header_of};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{FactSeq, RoomTick};
use roomkeeper::room::{Blueprint, Room, RoomOptions};
use roomkeeper::store::{
    Archive, Chunk, ChunkKind, ComponentWrites, Durability, Flush, Head, Opening, RoomKey, Seal, SqliteStore, Store, TickRecord, Writer,
    WriterOptions, data_file,
};
use serde::{Deserialize, Serialize};

const ROOMS: usize = 500;

#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Position([f32; 3]);
#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Rotation([f32; 4]);
#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Health(i32);
#[derive(Clone, Serialize, Deserialize)]
struct Hit {
    who: EntityId,
    by: EntityId,
    damage: i32,
}

/// How many facts a room records in a tick.
#[derive(Resource)]
struct FactsPerTick(u32);

fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Rotation>("rotation").latest();
    app.sync::<Health>("health");
    app.stateless_fact::<Hit>("hit");
}

fn rules(facts: u32) -> impl Fn(&mut App) + Send + Sync + 'static {
    move |app| {
        app.insert_resource(FactsPerTick(facts));
        app.add_systems(Startup, |mut commands: Commands| {
            commands.spawn_batch((0..60).map(|n| (Position([n as f32; 3]), Rotation([0.5; 4]), Health(100))));
        });
        app.add_systems(FixedUpdate, stir);
    }
}

/// 20 of 60 entities change, another 20 each tick.
fn stir(mut things: Query<(&EntityId, &mut Position)>, clock: Res<RoomClock>, facts: Res<FactsPerTick>, mut record: Recorder) {
    let part = (clock.tick().0 % 3) as usize;
    let mut last = EntityId::NIL;
    for (id, mut position) in things.iter_mut().skip(part * 20).take(20) {
        position.0[0] += 0.125;
        last = *id;
    }
    for damage in 0..facts.0 {
        record.fact(Hit { who: last, by: last, damage: damage as i32 });
    }
}

fn folder(name: &str) -> PathBuf {
    let base = std::env::var("FOLDER").map_or_else(|_| std::env::temp_dir().join("roomkeeper-bench"), PathBuf::from);
    let folder = base.join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Runs all rooms at 20 Hz for a while; the processor time of a room's tick, hand-over included.
fn run(rooms: &mut [Room], seconds: u64, mut hand_over: impl FnMut(usize, TickRecord)) -> (Duration, u32) {
    let (began, mut busy, mut late, mut rounds) = (Instant::now(), Duration::ZERO, 0, 0_u32);
    while began.elapsed() < Duration::from_secs(seconds) {
        let start = ThreadTime::now();
        for (at, room) in rooms.iter_mut().enumerate() {
            hand_over(at, room.tick([]).unwrap().into());
        }
        busy += start.elapsed();
        rounds += 1;
        let due = Duration::from_millis(50) * rounds;
        late += u32::from(began.elapsed() > due);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    (busy / (rounds * rooms.len() as u32).max(1), late)
}

fn five_hundred_rooms(seconds: u64) {
    let blueprint = Blueprint::new(protocol, rules(2));
    let options = |at: usize| RoomOptions { notes: true, ..RoomOptions::named(format!("room{at:03}")) };
    let mut bare: Vec<Room> = (0..ROOMS).map(|at| blueprint.room(options(at)).unwrap()).collect();
    // Both ways alternate, so that a noisy neighbour disturbs both.
    let data = folder("rooms");
    let keep = KeepOptions::in_folder(&data);
    let mut keeper = Keeper::open(&keep).unwrap();
    let mut kept: Vec<Room> = (0..ROOMS).map(|at| keeper.room(&blueprint, options(at)).unwrap()).collect();
    let handles: Vec<_> = kept.iter().map(|room| keeper.handle(&room.info().name).unwrap()).collect();
    keeper.writer().sync().unwrap();
    let before = keeper.writer().report();
    let (mut without, mut with, mut late, mut wall) = (Vec::new(), Vec::new(), 0, Duration::ZERO);
    for _ in 0..4 {
        without.push(run(&mut bare, seconds, |_, record| drop(record)).0);
        let began = Instant::now();
        let (busy, missed) = run(&mut kept, seconds, |at, record| handles.get(at).unwrap().record(record));
        wall += began.elapsed();
        with.push(busy);
        late += missed;
    }
    let report = keeper.writer().report();
    let (without, with) = (without.iter().sum::<Duration>() / 4, with.iter().sum::<Duration>() / 4);
    let busy = report.busy.saturating_sub(before.busy);
    println!("{ROOMS} rooms, 20 operations and 2 facts each every 50 ms, {} s on disk:", wall.as_secs());
    println!(
        "  a room's tick      {with:?} stored, {without:?} on nothing: {:+.1} %",
        (with.as_secs_f64() / without.as_secs_f64() - 1.0) * 100.0
    );
    println!(
        "  the writer         {:.1} % of a core; longest commit {:?}; rounds that were late: {late}",
        busy.as_secs_f64() / wall.as_secs_f64() * 100.0,
        report.commit_max
    );
    // As a crash leaves it: copied while the writer runs, but not while it writes, which would mix two states of the files.
    let ticks = kept.first().unwrap().tick_now();
    while handles.iter().any(|handle| handle.durable() < Some(ticks)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    let crashed = folder("crashed");
    std::fs::create_dir_all(&crashed).unwrap();
    for file in ["rooms.sqlite", "rooms.sqlite-wal", "mark"] {
        std::fs::copy(data.join(file), crashed.join(file)).unwrap();
    }
    drop(keeper);
    let size = std::fs::metadata(data_file(&data)).unwrap().len();
    println!("  on disk            {:.0} bytes a room and tick", size as f64 / ROOMS as f64 / f64::from(ticks.0));
    let began = Instant::now();
    let mut keeper = Keeper::open(&KeepOptions::in_folder(&crashed)).unwrap();
    let back: Vec<Room> = (0..ROOMS).map(|at| keeper.room(&blueprint, options(at)).unwrap()).collect();
    println!("  recovery           {:?} for all of them, at tick {}", began.elapsed(), back.first().unwrap().tick_now());
}

fn play(name: &str, facts: u32, ticks: u32) -> (PathBuf, Blueprint) {
    let data = folder(name);
    let blueprint = Blueprint::new(protocol, rules(facts));
    let store = SqliteStore::open(&data, Durability::ProcessCrash).unwrap();
    let writer = Writer::start(Box::new(store), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
    let options = RoomOptions { notes: true, ..RoomOptions::named("room") };
    let mut room = blueprint.room(options.clone()).unwrap();
    let handle = writer.open(header_of(&options), blueprint.protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    for tick in 0..ticks {
        handle.record(room.tick([]).unwrap().into());
        if tick % 20 == 0 {
            writer.sync().unwrap();
        }
    }
    drop(writer);
    (data, blueprint)
}

fn a_million_facts() {
    let (data, blueprint) = play("facts", 500, 2_000);
    let mut archive = Archive::new(Box::new(SqliteStore::read(&data).unwrap()), blueprint.protocol());
    let began = Instant::now();
    let facts = archive.facts("room", FactSeq(1), usize::MAX).unwrap();
    println!("{} facts read in {:?}", facts.len(), began.elapsed());
}

fn an_hour() {
    let (data, blueprint) = play("hour", 2, 72_000);
    let mut archive = Archive::new(Box::new(SqliteStore::read(&data).unwrap()), blueprint.protocol());
    for compacted in [false, true] {
        if compacted {
            let done = archive.compact("room", Default::default(), |_| {}).unwrap();
            println!(
                "compacted: {} chunks of {} kB became {} of {} kB",
                done.chunks_before,
                done.bytes_before / 1_000,
                done.chunks_after,
                done.bytes_after / 1_000
            );
        }
        let mut times: Vec<Duration> = (1..=200_u32)
            .map(|n| {
                let tick = RoomTick(n.wrapping_mul(2_654_435_761) % 72_000);
                let began = Instant::now();
                archive.state_at("room", tick).unwrap();
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        let (half, most, all) = (percentile(&times, 50), percentile(&times, 95), percentile(&times, 100));
        println!("the state at a random tick of 72,000, compacted {compacted}: p50 {half:?}, p95 {most:?}, max {all:?}");
    }
}

/// Appends a number of less than 2,288 as the store writes it.
fn small(number: usize, out: &mut Vec<u8>) {
    match number.checked_sub(240).filter(|over| *over > 0) {
        None => out.push(number as u8),
        Some(over) => out.extend([(over / 256 + 241) as u8, (over % 256) as u8]),
    }
}

/// The flush of some rooms: 700 bytes of each, as of 20 operations and 2 facts; one room in 20 seals a second, with 60 components.
fn flush_of(store: &mut dyn Store, keys: &[RoomKey], number: u64) -> Flush {
    let mut flush = Flush { number, journal_done: number.saturating_sub(20), ..Flush::default() };
    let (sealed, framed): (Vec<RoomKey>, Vec<RoomKey>) = keys.iter().partition(|key| (key.0.unsigned_abs() + number).is_multiple_of(20));
    small(framed.len(), &mut flush.frame);
    for key in framed {
        small(key.0 as usize, &mut flush.frame);
        small(700, &mut flush.frame);
        flush.frame.extend((0..700_u64).map(|byte| (byte * number) as u8));
    }
    let template = store.rooms().unwrap().remove(0);
    for key in sealed {
        let (tick, fingerprint) = (RoomTick(number as u32), template.fingerprint);
        let chunk = |payload| Chunk { from: number, to: number, tick_from: tick, tick_to: tick, fingerprint, payload };
        let fact = r#"{"t":1,"k":"hit","p":"system:stir","d":{"who":"a","by":"b","damage":7}}"#;
        let facts = format!("[{}]", vec![fact; 40].join(",")).into_bytes();
        let ticks: Vec<u8> = (0..10_000_u64).map(|byte| (byte * number / 7) as u8).collect();
        let values = (0..60).map(|entity| (format!("entity{entity}"), "position".to_owned(), Some(format!("[{number},1.0,2.0]"))));
        // The table of components follows each five seconds.
        let components = (key.0.unsigned_abs() / 20).wrapping_add(number / 20).is_multiple_of(5).then(|| ComponentWrites {
            tick,
            values: values.collect(),
            ..ComponentWrites::default()
        });
        let chunks = vec![(ChunkKind::Facts, chunk(facts)), (ChunkKind::Ticks, chunk(ticks))];
        let head = Head { tick, seq: FactSeq(number) };
        flush.seals.push(Seal { key, head, chain: template.chain, fingerprint, chunks, components, checkpoint: None });
    }
    flush
}

/// How long a flush of 300 rooms takes, one after the other.
fn flushes(name: &str, store: &mut dyn Store) {
    let protocol = Blueprint::new(protocol, rules(0)).protocol().describe();
    let keys: Vec<_> =
        (0..300).map(|at| store.enter(&header_of(&RoomOptions::named(format!("flush{at:03}"))), &protocol).unwrap()).collect();
    let first = store.last_flush().unwrap() + 1;
    let all: Vec<Flush> = (first..first + 400).map(|number| flush_of(store, &keys, number)).collect();
    let (began, mut took) = (Instant::now(), Vec::new());
    for flush in &all {
        let began = Instant::now();
        store.commit(flush).unwrap();
        took.push(began.elapsed());
    }
    let each = all.len() as f64 / began.elapsed().as_secs_f64();
    took.sort_unstable();
    println!(
        "a flush of 300 rooms, {name}: {:?}, p99 {:?}, longest {:?}; {each:.0} a second",
        percentile(&took, 50),
        percentile(&took, 99),
        percentile(&took, 100)
    );
}

#[cfg(feature = "postgres")]
fn flushes_in_postgres() {
    use roomkeeper::store::{Directory, PostgresDirectory, PostgresOptions, PostgresStore};
    let Ok(address) = std::env::var("POSTGRES") else { return };
    let place = |name: &str| {
        let mut place = PostgresOptions::at(&address);
        place.schema = format!("bench_{name}_{}", std::process::id());
        place
    };
    flushes("PostgreSQL", &mut PostgresStore::open(&place("alone")).unwrap());
    let leased = place("leased");
    let mut directory = PostgresDirectory::join(&leased, "bench", "bench", Duration::from_secs(600)).unwrap();
    for at in 0..300 {
        directory.claim(&format!("flush{at:03}")).unwrap();
    }
    flushes("PostgreSQL with leases", &mut PostgresStore::open_as(&leased, "bench", directory.leases()).unwrap());
}

fn main() {
    flushes("SQLite", &mut SqliteStore::open(folder("flushes"), Durability::PowerLoss).unwrap());
    #[cfg(feature = "postgres")]
    flushes_in_postgres();
    let seconds = std::env::var("SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(5);
    five_hundred_rooms(seconds);
    a_million_facts();
    an_hour();
}
