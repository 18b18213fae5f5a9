//! Facts on their way to NATS JetStream, on real servers that these tests start, stall and kill.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and works in real time"
)]

#[path = "../arena/mod.rs"]
mod arena;
#[path = "../binary/mod.rs"]
mod binary;
#[cfg(unix)]
#[path = "../certificate/mod.rs"]
mod certificate;
#[cfg(all(feature = "postgres", target_os = "linux"))]
#[expect(dead_code, reason = "the tests of PostgreSQL take more of it")]
#[path = "../postgres/server.rs"]
mod database;
#[path = "../installed/mod.rs"]
mod installed;
mod outside;
#[cfg(unix)]
mod served;
mod server;
#[cfg(all(feature = "postgres", target_os = "linux"))]
mod shared;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use arena::{blueprint, options, script};
use async_nats::jetstream::stream::Config;
use binary::{Folder, PATIENCE};
use outside::Outside;
use roomkeeper::host::{KeepOptions, Keeper, fork, header_of};
use roomkeeper::protocol::{FactSeq, RoomId, RoomTick};
use roomkeeper::room::Room;
use roomkeeper::store::nats::{NatsOptions, PublisherReport, ToldFact, named_by, subject_of};
use roomkeeper::store::{Archive, Durability, Flush, Handle, Head, Retention, Seal, SqliteStore, Store, StoredFact};
use server::Server;
use uuid::Uuid;

/// Names that would split a subject, widen it, or end it.
const ROOMS: [&str; 4] = ["main", "a.b.>", "*", "halls/of the/Ümläut %2E"];

/// How long a stream of these tests knows a double by its id.
const WINDOW: Duration = Duration::from_millis(100);

/// Rooms that are kept, and publish.
struct House {
    keeper: Keeper,
    rooms: Vec<(Room, Handle)>,
    tick: u32,
    /// Nobody comes, so what happens differs.
    is_empty: bool,
}

impl House {
    fn open(folder: &Path, rooms: &[&str], nats: &NatsOptions) -> Self {
        let mut keep = KeepOptions::in_folder(folder);
        keep.durability = Durability::ProcessCrash;
        let mut keeper = Keeper::open(&keep).unwrap();
        keeper.publish(nats).unwrap();
        let mut open = |name: &&str| {
            let room = keeper.room(&blueprint(), options(name)).unwrap();
            let handle = keeper.handle(name).unwrap();
            (room, handle)
        };
        let rooms: Vec<(Room, Handle)> = rooms.iter().map(&mut open).collect();
        let tick = rooms.first().map_or(0, |(room, _)| room.tick_now().0);
        Self { keeper, rooms, tick, is_empty: false }
    }

    fn play(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.tick += 1;
            for (room, handle) in &mut self.rooms {
                let incoming = if self.is_empty { Vec::new() } else { script(room, self.tick) };
                handle.record(room.tick(incoming).unwrap().into());
            }
        }
    }

    fn report(&self) -> PublisherReport {
        self.keeper.publisher().unwrap().report()
    }

    fn until(&self, what: &str, is: impl Fn(&PublisherReport) -> bool) -> PublisherReport {
        let began = Instant::now();
        loop {
            let report = self.report();
            if is(&report) {
                return report;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {report:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Writes everything, and waits until the stream has it to the last fact of each room.
    fn settle(&self, server: &Server) {
        self.keeper.writer().sync().unwrap();
        let began = Instant::now();
        for (room, _) in &self.rooms {
            let name = &room.info().name;
            let head = ledger(self, name).last().map(|fact| fact.seq.0);
            while server.last(name) != head {
                assert!(began.elapsed() < PATIENCE, "{name} stands at {:?} of {head:?}: {:?}", server.last(name), self.report());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Waits until the store knows how far the stream has come.
    fn is_noted(&self) {
        let (mut archive, began) = (archive(self), Instant::now());
        for (room, _) in &self.rooms {
            let (name, head) = (&room.info().name, ledger(self, &room.info().name).last().unwrap().seq);
            let key = archive.room(name).unwrap().key;
            while archive.store().cursor("nats ROOMKEEPER roomkeeper.facts", key).unwrap().is_none_or(|(seq, _)| seq < head) {
                assert!(began.elapsed() < PATIENCE, "{:?}", self.report());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn archive(house: &House) -> Archive {
    Archive::new(house.keeper.reader().unwrap(), blueprint().protocol())
}

fn ledger(house: &House, room: &str) -> Vec<StoredFact> {
    archive(house).facts(room, FactSeq(1), usize::MAX).unwrap()
}

fn id_of(room: &str) -> Uuid {
    RoomId::named(room).as_uuid()
}

/// The stream has the whole ledger of each room: each fact once, in order, word by word, and nothing else.
fn stream_is_ledger(server: &Server, ledgers: &BTreeMap<String, Vec<StoredFact>>) -> usize {
    let messages = server.messages();
    let mut told: BTreeMap<String, Vec<ToldFact>> = BTreeMap::new();
    for (subject, id, fact) in messages {
        assert_eq!(named_by("roomkeeper.facts", &subject), Some((fact.room.clone(), fact.kind.clone())), "{subject}");
        assert_eq!((fact.id, id), (id_of(&fact.room), format!("{}-{}", id_of(&fact.room), fact.seq)));
        told.entry(fact.room.clone()).or_default().push(fact);
    }
    for (room, ledger) in ledgers {
        let told = told.remove(room).unwrap_or_default();
        assert_eq!(
            told.iter().map(|fact| fact.seq).collect::<Vec<_>>(),
            ledger.iter().map(|fact| fact.seq.0).collect::<Vec<_>>(),
            "each fact of {room} once and in order"
        );
        for (told, fact) in told.iter().zip(ledger) {
            let author = fact.author.map(|author| author.to_string());
            assert_eq!((told.tick, &told.kind, &told.producer, &told.author), (fact.tick.0, &fact.kind, &fact.producer, &author));
            assert_eq!((told.command, told.cause), (fact.command.map(|id| id.0), fact.cause.map(|cause| cause.0)));
            assert_eq!(told.data.get(), fact.data.get());
        }
    }
    assert!(told.is_empty(), "{:?}", told.keys());
    ledgers.values().map(Vec::len).sum()
}

fn ledgers(house: &House, rooms: &[&str]) -> BTreeMap<String, Vec<StoredFact>> {
    rooms.iter().map(|room| ((*room).to_owned(), ledger(house, room))).collect()
}

#[test]
fn facts_of_several_rooms_arrive_once_each_and_in_order_whatever_the_rooms_are_called() {
    let Some(server) = Server::start() else { return };
    let folder = Folder::new("names");
    let mut house = House::open(&folder.0, &ROOMS, &server.options());
    house.play(300);
    house.settle(&server);
    let facts = stream_is_ledger(&server, &ledgers(&house, &ROOMS));
    let report = house.until("it is counted", |report| report.published == facts as u64 && report.waiting == 0);
    assert!(facts > 200 && report.is_connected, "{facts} {report:?}");
    assert_eq!((report.doubles, report.missing, report.failures, report.rooms_refused, report.failing), (0, 0, 0, 0, None));
    // Who wants the facts of one room, or of one kind, is told no others.
    for room in ROOMS {
        let wanted = subject_of("roomkeeper.facts", room, "door_opened");
        let doors = server.with_stream(async |_, stream| stream.get_last_raw_message_by_subject(&wanted).await.unwrap());
        let fact = ToldFact::read(&doors.payload).unwrap();
        assert_eq!((fact.room.as_str(), fact.kind.as_str()), (room, "door_opened"));
        assert!(fact.get::<arena::DoorOpened>().is_ok());
    }
    // What happens from now on comes from memory, and soon.
    house.play(100);
    house.settle(&server);
    assert!(stream_is_ledger(&server, &ledgers(&house, &ROOMS)) > facts);
    house.keeper.stop();
}

#[test]
fn nats_killed_again_and_again_under_load_misses_nothing_and_doubles_nothing() {
    let Some(mut server) = Server::start() else { return };
    server.make_stream(WINDOW);
    let folder = Folder::new("killed");
    let mut house = House::open(&folder.0, &ROOMS, &server.options());
    let outside = Outside::start(server.url());
    let (mut killed, mut slowest) = (0, Duration::ZERO);
    for round in 0..1_200 {
        let began = Instant::now();
        house.play(1);
        slowest = slowest.max(began.elapsed());
        std::thread::sleep(Duration::from_millis(4));
        match round % 300 {
            100 => {
                // In the middle of it: something is on its way.
                server.kill();
                killed += 1;
            }
            200 => server.run(),
            _ => {}
        }
    }
    house.settle(&server);
    let report = house.report();
    let facts = stream_is_ledger(&server, &ledgers(&house, &ROOMS));
    let began = Instant::now();
    while outside.view().facts.values().map(Vec::len).sum::<usize>() < facts {
        assert!(began.elapsed() < PATIENCE, "{:?} of {facts}", outside.view());
        std::thread::sleep(Duration::from_millis(20));
    }
    let view = outside.view();
    for room in ROOMS {
        assert!(view.facts[&id_of(room)].iter().copied().eq(1..=ledger(&house, room).len() as u64), "{room}: {view:?}");
    }
    assert_eq!((view.missing, report.missing, report.rooms_refused), (0, 0, 0));
    assert!(report.failures >= killed && facts > 900, "{report:?}, {facts} facts");
    eprintln!(
        "{facts} facts, NATS killed {killed} times; {} came twice and counted once; slowest round {slowest:?}; {report:?}",
        view.doubles
    );
}

#[test]
fn nats_that_is_absent_or_hangs_keeps_nobody_waiting_and_is_found_later() {
    let Some(mut server) = Server::new() else { return };
    let folder = Folder::new("absent");
    let mut nats = server.options();
    nats.last_words = Duration::from_millis(200);
    let mut house = House::open(&folder.0, &ROOMS, &nats);
    house.play(200);
    house.keeper.writer().sync().unwrap();
    assert!(house.rooms.iter().all(|(_, handle)| handle.durable() == Some(RoomTick(200))));
    let all: u64 = ROOMS.iter().map(|room| ledger(&house, room).len() as u64).sum();
    let report = house.until("it waits", |report| report.waiting == all);
    assert!(report.failing.as_ref().is_some_and(|why| why.contains("can't be reached")) && !report.is_connected, "{report:?}");
    server.run();
    house.settle(&server);
    stream_is_ledger(&server, &ledgers(&house, &ROOMS));
    // One that hangs is noticed too, and so is that it goes on.
    server.stall();
    house.play(200);
    house.keeper.writer().sync().unwrap();
    assert!(house.rooms.iter().all(|(_, handle)| handle.durable() == Some(RoomTick(400))));
    house.until("it is noticed", |report| report.failing.is_some());
    server.go_on();
    house.settle(&server);
    stream_is_ledger(&server, &ledgers(&house, &ROOMS));
    // Nor does it keep a process from ending.
    server.stall();
    house.play(100);
    let began = Instant::now();
    house.keeper.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    server.go_on();
}

#[test]
fn a_process_that_starts_again_tells_nothing_twice_however_long_ago_it_was() {
    let Some(server) = Server::start() else { return };
    server.make_stream(WINDOW);
    let folder = Folder::new("again");
    for _ in 0..3 {
        let mut house = House::open(&folder.0, &ROOMS, &server.options());
        house.play(120);
        // What is written last is published before it ends.
        house.keeper.stop();
        std::thread::sleep(WINDOW * 3);
    }
    let house = House::open(&folder.0, &ROOMS, &server.options());
    assert_eq!(house.tick, 360);
    let facts = stream_is_ledger(&server, &ledgers(&house, &ROOMS));
    house.is_noted();
    assert_eq!((house.report().published, house.report().doubles), (0, 0), "of {facts} facts");
    house.keeper.stop();

    // The position is kept: where the stream has let its messages go, they are not told again.
    server.with_stream(async |_, stream| assert!(stream.purge().await.unwrap().success));
    let mut house = House::open(&folder.0, &ROOMS, &server.options());
    house.play(60);
    house.settle(&server);
    let told = server.messages();
    let before: BTreeMap<Uuid, u64> =
        ROOMS.iter().map(|room| (id_of(room), ledger(&house, room).iter().filter(|fact| fact.tick.0 <= 360).count() as u64)).collect();
    assert!(!told.is_empty() && told.iter().all(|(_, _, fact)| fact.seq > before[&fact.id]), "{told:?}");

    // Another stream of the name is told everything.
    server.with_stream(async |jetstream, _| assert!(jetstream.delete_stream("ROOMKEEPER").await.unwrap().success));
    house.play(60);
    house.settle(&server);
    stream_is_ledger(&server, &ledgers(&house, &ROOMS));
    house.keeper.stop();
}

#[test]
fn a_stream_that_somebody_made_anew_in_a_quiet_moment_is_told_everything() {
    let Some(server) = Server::start() else { return };
    server.make_stream(WINDOW);
    let folder = Folder::new("anew");
    let mut house = House::open(&folder.0, &ROOMS, &server.options());
    house.play(60);
    house.settle(&server);
    server.with_stream(async |jetstream, _| assert!(jetstream.delete_stream("ROOMKEEPER").await.unwrap().success));
    server.make_stream(WINDOW);
    house.play(60);
    house.settle(&server);
    stream_is_ledger(&server, &ledgers(&house, &ROOMS));
    house.keeper.stop();
}

#[test]
fn rooms_that_nobody_opens_again_are_told_to_their_end() {
    let Some(mut server) = Server::new() else { return };
    let folder = Folder::new("left");
    let mut house = House::open(&folder.0, &ROOMS, &server.options());
    house.play(100);
    let began = Instant::now();
    house.keeper.stop();
    assert!(began.elapsed() < Duration::from_secs(5));
    server.run();
    let house = House::open(&folder.0, &["another"], &server.options());
    let all: Vec<&str> = ROOMS.iter().copied().chain(["another"]).collect();
    house.keeper.writer().sync().unwrap();
    let facts: usize = ledgers(&house, &all).values().map(Vec::len).sum();
    house.until("what was left is told", |report| report.published == facts as u64);
    stream_is_ledger(&server, &ledgers(&house, &all));
}

#[test]
fn facts_that_were_deleted_before_they_were_published_are_counted_and_named() {
    let Some(mut server) = Server::new() else { return };
    let folder = Folder::new("deleted");
    let mut house = House::open(&folder.0, &["main", "other"], &server.options());
    for _ in 0..4 {
        house.play(100);
        house.keeper.writer().sync().unwrap();
    }
    let mut retention = Retention::default();
    (retention.facts, retention.chunk_ticks) = (Some(150), 1);
    archive(&house).compact("main", retention, |_| {}).unwrap();
    let kept = ledger(&house, "main");
    let missing = kept[0].seq.0 - 1;
    assert!(missing > 10);
    let outside = Outside::start(server.url());
    server.run();
    house.settle(&server);
    assert_eq!(house.report().missing, missing);
    stream_is_ledger(&server, &ledgers(&house, &["main", "other"]));
    let all = kept.len() + ledger(&house, "other").len();
    let began = Instant::now();
    while outside.view().facts.values().map(Vec::len).sum::<usize>() < all {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(outside.view().missing, missing, "an outside projection knows it too");
}

#[test]
fn a_stream_with_the_facts_of_another_ledger_is_left_alone() {
    let Some(server) = Server::start() else { return };
    let (first, second) = (Folder::new("first"), Folder::new("second"));
    let mut house = House::open(&first.0, &["main"], &server.options());
    house.play(100);
    house.keeper.stop();
    let before = server.messages().len();
    // The data is deleted, the stream is not: a room of that name begins anew.
    let mut house = House::open(&second.0, &["main", "fresh"], &server.options());
    house.is_empty = true;
    house.play(1);
    let report = house.until("it is refused", |report| report.rooms_refused == 1);
    assert_eq!(report.failing, None, "other rooms go on");
    house.play(400);
    house.keeper.writer().sync().unwrap();
    let fresh = ledger(&house, "fresh").len();
    house.until("the other room is told", |report| report.published == fresh as u64);
    let told = server.messages();
    assert_eq!(told.iter().filter(|(_, _, fact)| fact.room == "main").count(), before, "nothing was mixed");
    house.keeper.stop();
    // By another prefix it is told.
    let mut elsewhere = server.options();
    (elsewhere.stream, elsewhere.prefix) = ("SECOND".to_owned(), "second.facts".to_owned());
    let house = House::open(&second.0, &["main", "fresh"], &elsewhere);
    let wanted = ledger(&house, "main").len() + fresh;
    let report = house.until("all is told", |report| report.published == wanted as u64);
    assert_eq!(report.rooms_refused, 0);
}

#[test]
fn a_room_with_the_name_of_a_deleted_one_is_told_behind_it_under_an_id_of_its_own() {
    let Some(server) = Server::start() else { return };
    let folder = Folder::new("deleted");
    let mut house = House::open(&folder.0, &["main"], &server.options());
    house.play(100);
    house.settle(&server);
    house.keeper.stop();
    let before = server.messages().len();
    let mut store = SqliteStore::open(&folder.0, Durability::ProcessCrash).unwrap();
    let key = store.room("main").unwrap().unwrap().key;
    assert!(store.delete(key, Duration::ZERO).unwrap());
    drop(store);
    let mut told = 0;
    for ticks in [60, 40] {
        let mut house = House::open(&folder.0, &["main"], &server.options());
        house.play(ticks);
        house.keeper.writer().sync().unwrap();
        let more = ledger(&house, "main").len() - told;
        let report = house.until("it is told", |report| report.published == more as u64);
        assert_eq!((report.rooms_refused, report.doubles), (0, 0));
        told += more;
        house.keeper.stop();
    }
    let messages = server.messages();
    let own: Vec<u64> = messages.iter().filter(|(_, _, fact)| fact.id != id_of("main")).map(|(_, _, fact)| fact.seq).collect();
    assert_eq!(own, (1..=told as u64).collect::<Vec<_>>());
    assert_eq!(messages.len(), before + told);
}

/// No server is there: what is published waits.
fn nowhere() -> NatsOptions {
    let mut nats = NatsOptions::at("nats://127.0.0.1:1");
    nats.last_words = Duration::ZERO;
    nats
}

/// Lets a room live in a folder for some ticks while nothing is published, and ends it. Returns how many facts it has.
fn leave_behind(folder: &Path, room: &str, ticks: u32) -> usize {
    let mut house = House::open(folder, &[room], &nowhere());
    house.is_empty = true;
    house.play(ticks);
    house.keeper.writer().sync().unwrap();
    let facts = ledger(&house, room).len();
    house.keeper.stop();
    facts
}

#[test]
fn a_room_that_nobody_has_open_is_refused_for_as_long_as_the_stream_has_the_facts_of_another_ledger() {
    let Some(server) = Server::start() else { return };
    server.make_stream(WINDOW);
    let (first, second) = (Folder::new("closed-first"), Folder::new("closed-second"));
    let mut house = House::open(&first.0, &["longer", "shorter"], &server.options());
    house.play(100);
    house.settle(&server);
    let before = ["longer", "shorter"].map(|room| ledger(&house, room).len());
    house.keeper.stop();
    // The data is deleted, the stream is not: rooms of these names begin anew while NATS is away, and end.
    let (longer, shorter) = (leave_behind(&second.0, "longer", 600), leave_behind(&second.0, "shorter", 20));
    assert!(longer > before[0] && (1..before[1]).contains(&shorter), "{longer} and {shorter} facts, where the stream has {before:?}");
    let mut house = House::open(&second.0, &["another"], &server.options());
    house.play(20);
    house.settle(&server);
    house.until("both are refused", |report| report.rooms_refused == 2);
    // They are counted for as long as they are refused, and not for a moment.
    std::thread::sleep(Duration::from_millis(500));
    let report = house.report();
    assert_eq!((report.rooms_refused, report.waiting, report.failing), (2, (longer + shorter) as u64, None));
    let told = server.messages();
    assert_eq!(told.iter().filter(|(_, _, fact)| fact.room != "another").count(), before[0] + before[1], "nothing was mixed");
    for room in ["longer", "shorter"] {
        let subject = format!("roomkeeper.facts.{room}.*");
        server.with_stream(async |_, stream| assert!(stream.purge().filter(subject).await.unwrap().success));
    }
    house.until("they are told", |report| (report.rooms_refused, report.waiting) == (0, 0));
    stream_is_ledger(&server, &ledgers(&house, &["longer", "shorter", "another"]));
    house.keeper.stop();
}

#[test]
fn many_rooms_that_are_refused_keep_none_that_was_left_from_its_turn() {
    const REFUSED: usize = 1_100;
    let Some(server) = Server::start() else { return };
    server.make_stream(WINDOW);
    let folder = Folder::new("many");
    let (protocol, mut flush) = (blueprint().protocol().describe(), Flush { number: 1, ..Flush::default() });
    let mut store = SqliteStore::open(&folder.0, Durability::ProcessCrash).unwrap();
    let rooms: Vec<String> = (0..REFUSED).map(|number| format!("duel-{number}")).collect();
    for room in &rooms {
        let key = store.enter(&header_of(&options(room)), &protocol).unwrap();
        let stored = store.room(room).unwrap().unwrap();
        let (chain, fingerprint, head) = (stored.chain, stored.fingerprint, Head { tick: RoomTick(1), seq: FactSeq(1) });
        flush.seals.push(Seal { key, head, chain, fingerprint, chunks: Vec::new(), components: None, checkpoint: None });
    }
    store.commit(&flush).unwrap();
    drop(store);
    server.ask(async |jetstream| {
        for room in &rooms {
            let subject = subject_of("roomkeeper.facts", room, "door_opened");
            jetstream.publish(subject, "no fact".into()).await.unwrap().await.unwrap();
        }
    });
    // It was created after all of them.
    let facts = leave_behind(&folder.0, "last", 20);
    assert!(facts > 0);
    let mut house = House::open(&folder.0, &["open"], &server.options());
    house.play(20);
    house.settle(&server);
    let wanted = ((facts + ledger(&house, "open").len()) as u64, REFUSED as u64, REFUSED as u64);
    house.until("all others are told", |report| (report.published, report.rooms_refused, report.waiting) == wanted);
    house.keeper.stop();
}

#[test]
fn a_stream_that_does_not_take_facts_is_named_and_taken_once_it_does() {
    let Some(server) = Server::start() else { return };
    let config = |subject: &str| Config { name: "ROOMKEEPER".to_owned(), subjects: vec![subject.to_owned()], ..Config::default() };
    server.ask(async |jetstream| drop(jetstream.create_stream(config("orders.>")).await.unwrap()));
    let folder = Folder::new("subjects");
    let mut house = House::open(&folder.0, &["main"], &server.options());
    house.play(50);
    let report = house.until("it is named", |report| report.failing.is_some());
    let why = report.failing.unwrap();
    assert!(why.contains("does not take roomkeeper.facts.*.*, it takes orders.>") && !report.is_connected, "{why}");
    server.ask(async |jetstream| drop(jetstream.update_stream(config("roomkeeper.>")).await.unwrap()));
    house.settle(&server);
    stream_is_ledger(&server, &ledgers(&house, &["main"]));
}

#[test]
fn a_stream_that_is_full_holds_facts_up_and_loses_none() {
    let Some(server) = Server::start() else { return };
    let config = |most: i64| Config {
        name: "ROOMKEEPER".to_owned(),
        subjects: vec!["roomkeeper.facts.>".to_owned()],
        max_messages: most,
        discard: async_nats::jetstream::stream::DiscardPolicy::New,
        ..Config::default()
    };
    server.ask(async |jetstream| drop(jetstream.create_stream(config(20)).await.unwrap()));
    let folder = Folder::new("full");
    let mut house = House::open(&folder.0, &["main", "other"], &server.options());
    house.play(200);
    house.keeper.writer().sync().unwrap();
    let report = house.until("it is full", |report| report.failing.is_some() && report.published == 20);
    assert!(report.failing.as_ref().unwrap().contains("maximum messages exceeded"), "{report:?}");
    server.ask(async |jetstream| drop(jetstream.update_stream(config(-1)).await.unwrap()));
    house.settle(&server);
    stream_is_ledger(&server, &ledgers(&house, &["main", "other"]));
}

#[test]
fn a_fork_that_is_served_beside_its_original_is_told_under_an_id_of_its_own_and_neither_loses_a_fact() {
    // The stream knows doubles for two minutes, by room and number: both rooms go on with the same numbers well within that.
    let Some(server) = Server::start() else { return };
    let folder = Folder::new("forked");
    let mut house = House::open(&folder.0, &["main"], &server.options());
    house.play(150);
    house.settle(&server);
    house.keeper.stop();
    let mut into = SqliteStore::open(&folder.0, Durability::ProcessCrash).unwrap();
    let mut archive = Archive::new(into.reader().unwrap(), blueprint().protocol());
    fork(&mut archive, "main", RoomTick(110), "again", &mut into).unwrap();
    drop((archive, into));

    let mut house = House::open(&folder.0, &["main", "again"], &server.options());
    house.play(150);
    house.settle(&server);
    let (messages, mut ids) = (server.messages(), Vec::new());
    for room in ["main", "again"] {
        let told: Vec<&ToldFact> = messages.iter().map(|(_, _, fact)| fact).filter(|fact| fact.room == room).collect();
        let kept = ledger(&house, room);
        assert!(told.iter().map(|fact| fact.seq).eq(kept.iter().map(|fact| fact.seq.0)), "{room}: {told:?}");
        assert!(told.iter().all(|fact| fact.id == told[0].id), "{room} has one id");
        ids.push((told[0].id, told[0].seq));
    }
    assert_eq!(ids[0], (id_of("main"), 1));
    assert!(ids[1].0 != id_of("main") && ids[1].1 > 1, "it goes on with the numbers, and not with the id: {ids:?}");
    let report = house.report();
    assert_eq!((report.doubles, report.missing, report.rooms_refused), (0, 0, 0), "{report:?}");
    house.keeper.stop();

    // It is known again in another process, too.
    let mut house = House::open(&folder.0, &["main", "again"], &server.options());
    house.play(50);
    house.settle(&server);
    let report = house.report();
    assert_eq!((report.doubles, report.missing, report.rooms_refused), (0, 0, 0), "{report:?}");
    house.keeper.stop();
}

/// The rooms in a folder, read beside whoever writes it.
#[cfg(unix)]
fn ledgers_in(folder: &Path, rooms: &[&str]) -> BTreeMap<String, Vec<StoredFact>> {
    let mut archive = Archive::new(roomkeeper::store::reader_at(folder).unwrap(), blueprint().protocol());
    rooms.iter().map(|room| ((*room).to_owned(), archive.facts(room, FactSeq(1), usize::MAX).unwrap())).collect()
}
