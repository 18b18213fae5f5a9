//! The admin server, over real HTTP beside a real host: what it tells, what it lets do, and whom it keeps out.
#![cfg(feature = "admin")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::beats::{Beat, Mark, Marked, Player, Sum, protocol};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::admin::{Admin, AdminError, AdminGame, AdminKey, AdminOptions, Tokens};
use roomkeeper::cli::{Actor, Eyes, Picture, Pilot, Shape, Tint, View};
use roomkeeper::client::{ConnectionState, Credentials};
use roomkeeper::host::gateway::{Access, GatewayLimits, ShardConfig};
use roomkeeper::host::{Host, HostKey, HostOptions, Keeper, Template, TokenIssuer};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{FactSeq, Refusal, RoomTick};
use roomkeeper::room::{Blueprint, RoomClock, RoomOptions};
use roomkeeper::sim::AroundCommits;
use roomkeeper::store::{Archive, MemoryStore, Store, StoreError, WriterOptions};
use serde_json::{Value, json};

/// 0 is rejected.
fn rules(app: &mut App) {
    app.decide(|mark: In<Issued<Mark>>| match mark.command.0 {
        0 => reject("nothing"),
        by => accept(Marked(by)),
    });
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn((EntityId::named("heart"), Beat(0), Sum::default()));
    });
    app.add_observer(|marked: On<Happened<Marked>>, mut sums: Query<&mut Sum>| {
        sums.iter_mut().for_each(|mut sum| sum.0 += marked.event().fact.0);
    });
    app.add_systems(FixedUpdate, |mut beats: Query<&mut Beat>, clock: Res<RoomClock>| {
        beats.iter_mut().for_each(|mut beat| beat.0 = clock.tick().0);
    });
}

fn draw(world: &mut World, eyes: &Eyes) -> Picture {
    let sums: Vec<(EntityId, u32)> = world.query::<(&EntityId, &Sum)>().iter(world).map(|(id, sum)| (*id, sum.0)).collect();
    let mut picture = Picture::default();
    for (id, sum) in sums {
        picture.shapes.push(Shape::mark([sum as f32, eyes.tick as f32], sum.to_string(), Tint::Red));
        picture.actors.push(Actor { id, name: "heart".to_owned() });
        picture.focus = (eyes.of == id).then_some([1.0, 2.0]);
    }
    picture
}

fn pilot() -> Pilot {
    Box::new(|_, _| {})
}

fn blueprint() -> Blueprint {
    Blueprint::new(protocol, rules)
}

fn game() -> AdminGame {
    let mut game = AdminGame::new("beats", blueprint());
    game.teller = Some(|fact, json, who| match fact {
        "marked" => Some(format!("{json} more")),
        "user_joined" => Some(format!("{} is here", who(json["user"].as_str()?))),
        _ => None,
    });
    game.view = Some(View { draw, pilot, client: |_| {}, keys: &[] });
    game.kinds = vec!["sum".to_owned()];
    game
}

#[expect(clippy::disallowed_methods, reason = "tests over real sockets take real time")]
fn now() -> Instant {
    Instant::now()
}

/// A host with an admin server, on threads of their own.
struct Running {
    admin: Option<Admin>,
    address: SocketAddr,
    game: SocketAddr,
    store: MemoryStore,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        Self::start_with(true, |_| {})
    }

    fn start_with(is_kept: bool, change: impl FnOnce(&mut AdminOptions)) -> Self {
        Self::start_for(Access::Loopback, is_kept, |options, _| change(options))
    }

    /// With admin options that may depend on where the host listens.
    fn start_for(access: Access, is_kept: bool, change: impl FnOnce(&mut AdminOptions, SocketAddr)) -> Self {
        Self::start_around(access, is_kept, change, |store| store)
    }

    /// With something around what the admin server reads.
    fn start_around(
        access: Access,
        is_kept: bool,
        change: impl FnOnce(&mut AdminOptions, SocketAddr),
        around: impl FnOnce(Box<dyn Store>) -> Box<dyn Store>,
    ) -> Self {
        let config =
            ShardConfig { bind: ([127, 0, 0, 1], 0).into(), public_addresses: Vec::new(), access, limits: GatewayLimits::default() };
        let mut host = Host::bind(&config, HostOptions::default()).unwrap();
        let store = MemoryStore::default();
        if is_kept {
            host.keep_by(Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap());
        }
        let options = RoomOptions { notes: true, ..RoomOptions::named("template") };
        host.template("beats", Template::new(blueprint(), options.clone()));
        host.open_room(&blueprint(), RoomOptions { name: "main".to_owned(), ..options }).unwrap();
        let mut options = AdminOptions::at(([127, 0, 0, 1], 0).into());
        change(&mut options, host.local_address().unwrap());
        let reader = host.keeper().map(|keeper| around(keeper.reader().unwrap()));
        let admin = Admin::start(options, game(), host.handle(), reader).unwrap();
        let (address, game, stop) = (admin.address(), host.local_address().unwrap(), Arc::new(AtomicBool::new(false)));
        let stops = stop.clone();
        let thread = std::thread::spawn(move || {
            host.run(&stops, Duration::from_secs(5));
            host.stop_keeping();
        });
        Self { admin: Some(admin), address, game, store, stop, thread: Some(thread) }
    }

    fn archive(&self) -> Archive {
        Archive::new(self.store.reader().unwrap(), blueprint().protocol())
    }

    fn get(&self, path: &str) -> Reply {
        send(self.address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    fn json(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        serde_json::from_str(&reply.body).unwrap()
    }

    fn order(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.order_with("", method, path, body)
    }

    /// With more headers, each with its end of line.
    fn order_with(&self, headers: &str, method: &str, path: &str, body: &Value) -> Reply {
        let body = body.to_string();
        let length = body.len();
        let fixed = format!("Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n");
        send(self.address, &format!("{method} {path} HTTP/1.1\r\n{fixed}{headers}\r\n{body}"))
    }

    /// The metrics, each by its name with its labels.
    fn metrics(&self) -> BTreeMap<String, f64> {
        let reply = self.get("/metrics");
        assert_eq!(reply.status, 200);
        let samples = reply.body.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    }

    fn refused(&self, why: &str) -> f64 {
        self.metrics()[&format!("roomkeeper_admin_refused_total{{why=\"{why}\"}}")]
    }

    /// Waits until something is so, while somebody may play.
    fn until(&self, what: &str, player: Option<&mut Player>, mut is_so: impl FnMut(&Self, Option<&mut Player>) -> bool) {
        let (begun, mut player) = (now(), player);
        while !is_so(self, player.as_deref_mut()) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not in 30 s");
            player.iter_mut().for_each(|player| player.0.update());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Somebody who has joined, marked so often, and is known to be stored.
    fn with_marks(&self, marks: &[u32]) -> Player {
        let mut ann = Player::connect(self.game, "ann", "main");
        self.until("ann is in", Some(&mut ann), |_, ann| ann.unwrap().state().is_in_room());
        let mut all = 0;
        for mark in marks {
            ann.mark(*mark);
            all += mark;
            self.until("it is marked and stored", Some(&mut ann), |_, ann| ann.unwrap().sum() == all);
        }
        let wanted = marks.iter().filter(|mark| **mark > 0).count();
        self.until("all of it is stored", Some(&mut ann), |running, _| {
            let facts = running.archive().facts("main", FactSeq(1), 1_000).unwrap_or_default();
            let head = running.archive().head("main").unwrap_or_default();
            facts.iter().filter(|fact| fact.kind == "marked").count() == wanted && head.is_some_and(|head| head.tick.0 > 20)
        });
        ann
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.admin.take());
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the host panicked");
    }
}

#[derive(Debug, Clone)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

/// Sends bytes as they are, and reads until the other end closes. Status 0 if it closes without a word.
fn send(address: SocketAddr, request: &str) -> Reply {
    send_bytes(address, request.as_bytes())
}

fn send_bytes(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Who is refused early may find its words not taken.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

#[test]
fn a_host_that_drains_is_alive_but_not_ready() {
    let running = Running::start();
    assert_eq!((running.get("/health").status, running.get("/ready").status), (200, 200));
    assert_eq!(running.metrics()["roomkeeper_draining"], 0.0);
    assert_eq!(running.order("POST", "/drain", &Value::Null).status, 202);
    running.until("it is not ready", None, |running, _| running.get("/ready").status == 503);
    assert_eq!(running.get("/health").status, 200);
    assert_eq!(running.metrics()["roomkeeper_draining"], 1.0);
    running.stop.store(true, Ordering::Relaxed);
    running.until("it has stopped", None, |running, _| running.get("/ready").body.contains("stopped"));
    assert_eq!(running.get("/health").status, 200, "its process is");
}

#[test]
fn metrics_count_what_happens_in_each_room_and_in_all_also_in_those_that_have_ended() {
    let running = Running::start();
    let mut ann = running.with_marks(&[3, 0, 4]);
    running.until("a second of figures", Some(&mut ann), |running, _| {
        let metrics = running.metrics();
        metrics["roomkeeper_room_commands_total{room=\"main\"}"] == 3.0 && metrics["roomkeeper_room_rtt_seconds_mean{room=\"main\"}"] > 0.0
    });
    let metrics = running.metrics();
    let of = |name: &str| metrics[name];
    assert_eq!((of("roomkeeper_rooms"), of("roomkeeper_members"), of("roomkeeper_connections")), (1.0, 1.0, 1.0));
    assert_eq!((of("roomkeeper_commands_total"), of("roomkeeper_commands_rejected_total")), (3.0, 1.0));
    assert_eq!(of("roomkeeper_room_commands_rejected_total{room=\"main\"}"), 1.0);
    for counts in ["roomkeeper_room_bytes_in_total{room=\"main\"}", "roomkeeper_room_packets_out_total{room=\"main\"}"] {
        assert!(of(counts) > 10.0, "{counts}");
    }
    assert!(of("roomkeeper_bytes_out_total") > of("roomkeeper_room_bytes_out_total{room=\"main\"}"), "the transport adds to it");
    assert!(of("roomkeeper_store_commit_seconds_count") > 1.0 && of("process_resident_memory_bytes") > 1e6);
    let ticks = of("roomkeeper_tick_duration_seconds_count");
    assert!(ticks > 10.0 && of("roomkeeper_room_tick_late_seconds_count{room=\"main\"}") >= 10.0);
    assert_eq!(of("roomkeeper_tick_duration_seconds_bucket{le=\"+Inf\"}"), ticks);
    // Buckets rise, and none has more than all.
    let bounds = ["0.0001", "0.001", "0.01", "0.1", "1", "+Inf"];
    let buckets = bounds.map(|bound| of(&format!("roomkeeper_tick_duration_seconds_bucket{{le=\"{bound}\"}}")));
    assert!(buckets.is_sorted() && buckets[5] == ticks, "{buckets:?}");
    assert_eq!(running.order("DELETE", "/rooms/main?why=the%20end", &Value::Null).status, 200);
    running.until("it is gone", Some(&mut ann), |running, _| running.metrics()["roomkeeper_rooms"] == 0.0);
    assert_eq!(ann.state(), ConnectionState::Refused(Refusal::RoomClosed("the end".to_owned()), Vec::new()));
    let after = running.metrics();
    assert!(!after.contains_key("roomkeeper_room_commands_total{room=\"main\"}"));
    assert_eq!(after["roomkeeper_commands_total"], 3.0, "what it counted outlives it");
    assert!(after["roomkeeper_tick_duration_seconds_count"] >= ticks);
}

/// The names of metrics in a text: what Prometheus adds to those of histograms and summaries is left out.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|symbol: char| !symbol.is_ascii_alphanumeric() && symbol != '_');
    let metrics = words.filter(|word| word.starts_with("roomkeeper_") || (word.starts_with("process_") && word.len() > 8));
    let bare = |word: &str| ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned();
    metrics.map(bare).collect()
}

#[test]
fn the_dashboard_and_the_manual_name_exactly_what_is_exported() {
    let running = Running::start();
    let reply = running.get("/metrics");
    assert!(reply.head.contains("text/plain; version=0.0.4"), "{}", reply.head);
    let declared = reply.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let exported: BTreeSet<String> = declared.map(str::to_owned).collect();
    assert_eq!(exported, names_in(&exported.iter().cloned().collect::<Vec<_>>().join(" ")), "names are as names are");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dashboard = std::fs::read_to_string(root.join("deploy/grafana.json")).unwrap();
    let parsed: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = parsed["panels"].as_array().unwrap();
    let asked: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(asked.len() > 10, "{}", asked.len());
    for expression in asked {
        let names = names_in(expression);
        assert!(!names.is_empty(), "{expression} names none");
        assert!(names.is_subset(&exported), "{expression} names what is not exported");
    }
    let manual = std::fs::read_to_string(root.join("docs/admin.md")).unwrap();
    let table: String = manual.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1)).collect();
    assert_eq!(names_in(&table), exported);
}

#[test]
fn what_the_server_tells_of_the_past_is_what_the_ledger_tells() {
    let running = Running::start();
    let _ann = running.with_marks(&[3, 4, 5]);
    let mut archive = running.archive();
    let protocol = blueprint().protocol();
    let ticks = running.json("/rooms/main/ticks");
    let (first, last) = (ticks["first"].as_u64().unwrap() as u32, ticks["last"].as_u64().unwrap() as u32);
    assert!(first == 0 && last > 5 && ticks["facts"].as_u64() >= Some(4), "{ticks}");
    for tick in [first, last / 3, last / 2, last] {
        let state = archive.state_at("main", RoomTick(tick)).unwrap();
        let told = running.json(&format!("/rooms/main/state?tick={tick}"));
        assert_eq!((&told["tick"], &told["state"]), (&json!(tick), &state.to_json(&protocol).unwrap()));
        let told = running.json(&format!("/rooms/main/state?tick={tick}&by=kind"));
        assert_eq!(told["state"], state.to_kind_json(&protocol, &["sum".to_owned()]).unwrap());
        let told = running.json(&format!("/rooms/main/bytes?tick={tick}"));
        let bytes: usize = state.entities().values().flat_map(|entity| entity.components.values()).map(Vec::len).sum();
        assert_eq!(told["components"].as_array().unwrap().iter().map(|line| line["bytes"].as_u64().unwrap()).sum::<u64>(), bytes as u64);
    }
    let diff = archive.diff("main", RoomTick(1), RoomTick(last)).unwrap().changes;
    assert_eq!(running.json(&format!("/rooms/main/diff?from=1&to={last}"))["changes"], json!(diff));
    let why = archive.why("main", "heart", "sum", RoomTick(last)).unwrap().unwrap();
    let written = why.link.tick;
    let mut since = |since| archive.why_since("main", "heart", "sum", RoomTick(last), since).unwrap().map(|why| why.link.tick);
    assert_eq!([since(written), since(RoomTick(written.0 + 1))], [Some(written), None]);
    let told = running.json(&format!("/rooms/main/why?entity=heart&component=sum&tick={last}"));
    assert_eq!((&told["tick"], &told["before"], &told["after"]), (&json!(why.link.tick), &json!(7), &json!(12)));
    assert_eq!((&told["command"], &told["author"]), (&json!({ "command": "mark", "data": 5 }), &json!("ann")));
    assert_eq!((&told["facts"][0]["fact"], &told["facts"][0]["line"]), (&json!("marked"), &json!("5 more")));
    let history = running.json("/rooms/main/history?entity=heart&component=sum");
    let writes = archive.history("main", "heart", Some("sum"), RoomTick(0), RoomTick(last)).unwrap();
    assert_eq!(history["all"], json!(writes.len()));
    let values: Vec<&Value> = history["writes"].as_array().unwrap().iter().map(|write| &write["after"]).collect();
    assert_eq!(values, [&json!(0), &json!(3), &json!(7), &json!(12)]);
}

#[test]
fn facts_are_found_from_a_number_from_a_tick_up_to_one_and_by_who_made_them_happen() {
    let running = Running::start();
    let _ann = running.with_marks(&[3, 4, 5]);
    let all = running.archive().facts("main", FactSeq(1), 1_000).unwrap();
    let seqs = |asked: &str| -> Vec<u64> {
        let facts = running.json(&format!("/rooms/main/facts?{asked}"));
        facts["facts"].as_array().unwrap().iter().map(|fact| fact["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(seqs("from=1&limit=1000"), all.iter().map(|fact| fact.seq.0).collect::<Vec<_>>());
    let told = running.json("/rooms/main/facts?from=1&limit=1");
    let mut plain = told["facts"][0].clone();
    plain.as_object_mut().unwrap().remove("line");
    assert_eq!((&plain, &told["next"]), (&all[0].to_json(), &json!(2)));
    let marked: Vec<_> = all.iter().filter(|fact| fact.kind == "marked").collect();
    for (nth, fact) in marked.iter().enumerate() {
        assert_eq!(seqs(&format!("tick={}&limit=1&kind=marked", fact.tick)), [fact.seq.0]);
        assert_eq!(seqs(&format!("until={}&limit=1&kind=marked", fact.tick)), [fact.seq.0]);
        let before: Vec<u64> = marked[..nth].iter().map(|fact| fact.seq.0).collect();
        assert_eq!(seqs(&format!("until={}&limit=9&kind=marked", fact.tick.0 - 1)), before);
    }
    // From the last one on backwards: each answer says where to go on.
    let (mut back, mut to) = (Vec::new(), json!(all.len()));
    while !to.is_null() {
        let page = running.json(&format!("/rooms/main/facts?to={to}&limit=1&kind=marked"));
        back.extend(page["facts"].as_array().unwrap().iter().map(|fact| fact["seq"].as_u64().unwrap()));
        assert!(page["before"].as_u64() < to.as_u64() && page["is_cut"] == json!(false), "{page}");
        to = page["before"].clone();
    }
    assert_eq!(back, marked.iter().rev().map(|fact| fact.seq.0).collect::<Vec<_>>());
    for by in ["init", "user", "system", "server", "system:nobody", "us"] {
        let theirs: Vec<u64> = all.iter().filter(|fact| fact.producer.split(':').next() == Some(by)).map(|fact| fact.seq.0).collect();
        assert_eq!(seqs(&format!("from=1&limit=1000&by={by}")), theirs, "{by}");
        assert!(!theirs.is_empty() || !["init", "user"].contains(&by), "{by}");
    }
    let worth_telling = all.iter().filter(|fact| ["marked", "user_joined"].contains(&fact.kind.as_str())).count();
    assert_eq!(seqs("from=1&told=true").len(), worth_telling);
    assert!(running.get("/rooms/main/facts?until=999999&told=true").body.contains("ann is here"));
}

#[test]
fn pictures_are_what_the_game_draws_of_each_tick_and_of_each_room() {
    let running = Running::start();
    let _ann = running.with_marks(&[3, 4]);
    assert_eq!(running.order("POST", "/rooms", &json!({ "room": "beats/other" })).status, 201);
    let last = running.json("/rooms/main/ticks")["last"].as_u64().unwrap();
    let protocol = blueprint().protocol();
    let sum = |tick: u32| {
        let state = running.archive().state_at("main", RoomTick(tick)).unwrap();
        state.component(&protocol, EntityId::named("heart"), "sum").unwrap().as_u64().unwrap()
    };
    let told = running.json("/rooms/main/picture?tick=1&ticks=5&every=3");
    let frames = told["frames"].as_array().unwrap();
    assert_eq!(frames.iter().map(|frame| frame["tick"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 4, 7, 10, 13]);
    for tick in [1, last as u32 / 2, last as u32, 2] {
        let told = running.json(&format!("/rooms/main/picture?tick={tick}&follow=heart"));
        let picture = &told["frames"][0]["picture"];
        let mark = json!({ "at": [sum(tick) as f32, tick as f32], "form": { "mark": sum(tick).to_string() }, "tint": "red" });
        assert_eq!((&picture["shapes"], &picture["focus"]), (&json!([mark]), &json!([1.0, 2.0])));
        assert_eq!(picture["actors"][0]["id"], json!(EntityId::named("heart").to_string()));
        // Another room between, in which an entity of the same name is another one.
        running.until("the other room is stored", None, |running, _| running.get("/rooms/beats%2Fother/picture").status == 200);
        let other = running.json("/rooms/beats%2Fother/picture");
        assert_eq!(other["frames"][0]["picture"]["shapes"][0]["form"], json!({ "mark": "0" }));
    }
}

#[test]
fn an_operator_opens_pauses_steps_resets_reverts_kicks_and_closes() {
    let set = Arc::new(Mutex::new(String::new()));
    let sets = set.clone();
    let running = Running::start_with(true, |options| {
        options.set_log = Some(Arc::new(move |filter: &str| match filter {
            "nonsense" => Err("that is no filter".to_owned()),
            filter => {
                *sets.lock().unwrap() = filter.to_owned();
                Ok(())
            }
        }));
    });
    let mut ann = running.with_marks(&[3]);
    let tick = || running.json("/rooms/main")["tick"].as_u64().unwrap();
    let names = |running: &Running| -> Vec<String> {
        running.json("/rooms").as_array().unwrap().iter().map(|room| room["room"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(running.order("POST", "/rooms", &json!({ "room": "beats/a b", "template": "beats" })).status, 201);
    assert_eq!(names(&running), ["beats/a b", "main"]);
    assert_eq!(running.order("POST", "/rooms", &json!({ "room": "x", "template": "none" })).status, 409);
    assert_eq!(running.order("DELETE", "/rooms/beats%2Fa%20b", &Value::Null).status, 200);

    assert_eq!(running.order("POST", "/rooms/main/snippet", &json!({ "label": "three" })).status, 201);
    assert_eq!(running.json("/rooms/main/snippets")[0]["label"], json!("three"));
    ann.mark(4);
    running.until("it is seven", Some(&mut ann), |_, ann| ann.unwrap().sum() == 7);
    assert_eq!(running.order("POST", "/rooms/main/reset", &json!({ "snippet": "three" })).status, 202);
    running.until("it is three again", Some(&mut ann), |_, ann| ann.unwrap().sum() == 3);
    ann.mark(10);
    running.until("it is thirteen, and stored", Some(&mut ann), |running, ann| {
        ann.unwrap().sum() == 13 && running.archive().facts("main", FactSeq(1), 99).unwrap().last().unwrap().json() == json!(10)
    });
    let seq = running.archive().facts("main", FactSeq(1), 99).unwrap().last().unwrap().seq;
    assert_eq!(running.order("POST", "/rooms/main/revert", &json!({ "fact": seq })).status, 202);
    running.until("it is undone", Some(&mut ann), |_, ann| ann.unwrap().sum() == 3);
    assert_eq!(running.order("POST", "/rooms/main/revert", &json!({ "fact": 999_999 })).status, 409);

    assert_eq!(running.order("POST", "/rooms/main/step", &json!({})).status, 409, "it does not stand still");
    assert_eq!(running.order("POST", "/rooms/main/pause", &json!({ "paused": true })).status, 200);
    assert!(running.json("/rooms/main")["is_paused"].as_bool().unwrap());
    // What is told of it is as of half a second ago at most.
    let begun = now();
    running.until("its last tick is told", Some(&mut ann), |_, _| begun.elapsed() > Duration::from_millis(900));
    let stands_at = tick();
    let begun = now();
    running.until("a second", Some(&mut ann), |_, _| begun.elapsed() > Duration::from_secs(1));
    assert_eq!(tick(), stands_at, "it stands still");
    assert_eq!(running.order("POST", "/rooms/main/step", &json!({ "ticks": 7 })).status, 200);
    running.until("it goes on by seven", Some(&mut ann), |_, _| tick() == stands_at + 7);
    assert_eq!(running.order("POST", "/rooms/main/speed", &json!({ "speed": 0.5 })).status, 200);
    assert_eq!(running.json("/rooms/main")["speed"], 0.5);
    for wrong in [json!(0), json!(-1), json!(4.5), json!(1e300), json!("fast")] {
        assert_eq!(running.order("POST", "/rooms/main/speed", &json!({ "speed": wrong })).status, 400, "{wrong}");
    }
    assert_eq!(running.order("POST", "/rooms/main/speed", &json!({ "speed": 1 })).status, 200);
    assert_eq!(running.order("POST", "/rooms/main/pause", &json!({ "paused": false })).status, 200);
    running.until("it goes on", Some(&mut ann), |_, _| tick() > stands_at + 20);

    let members = running.json("/rooms/main/members");
    assert_eq!((&members[0]["name"], &members[0]["spectates"]), (&json!("ann"), &json!(false)));
    assert_eq!(running.order("POST", "/rooms/main/kick", &json!({ "player": "bob" })).status, 404);
    assert_eq!(running.order("POST", "/rooms/main/kick", &json!({ "player": "ann", "why": "enough" })).status, 200);
    running.until("ann is out", Some(&mut ann), |_, ann| {
        ann.unwrap().state() == ConnectionState::Refused(Refusal::Kicked("enough".to_owned()), Vec::new())
    });
    assert_eq!(running.order("POST", "/bans", &json!({ "player": "ann", "why": "enough", "seconds": 60 })).status, 201);
    let bans = running.json("/bans");
    assert_eq!((&bans[0]["player"], &bans[0]["why"]), (&json!(EntityId::named("ann").to_string()), &json!("enough")));
    assert_eq!(running.order("DELETE", "/bans/ann", &Value::Null).status, 200);
    assert_eq!((running.order("DELETE", "/bans/ann", &Value::Null).status, running.json("/bans")), (404, json!([])));
    assert_eq!(running.order("PUT", "/log", &json!({ "filter": "debug" })).status, 200);
    assert_eq!(*set.lock().unwrap(), "debug");
    assert_eq!(running.order("PUT", "/log", &json!({ "filter": "nonsense" })).status, 400);
    assert_eq!(running.order("DELETE", "/rooms/main", &Value::Null).status, 200);
    running.until("it is closed, but known", None, |running, _| !running.json("/rooms/main")["is_open"].as_bool().unwrap());
    assert!(running.get("/rooms/main/state?tick=1").status == 200, "its past can still be seen");
    assert_eq!(running.order("DELETE", "/rooms/main", &Value::Null).status, 404);

    // Of those that are only stored the last ones are told.
    assert_eq!(names(&running), ["beats/a b", "main"]);
    let one = running.json("/rooms?stored=1");
    assert_eq!((one.as_array().unwrap().len(), &one[0]["room"], &one[0]["is_stored"]), (1, &json!("beats/a b"), &json!(true)));
    assert_eq!(running.json("/rooms?stored=0"), json!([]));
    assert_eq!(running.get("/rooms?stored=-1").status, 400);
}

#[test]
fn an_operator_lets_a_fact_happen_or_is_told_what_is_wrong_with_it() {
    let running = Running::start();
    let mut ann = running.with_marks(&[3]);
    assert_eq!(running.json("/host")["facts"], json!(["marked"]));
    let wrong = [
        (json!({ "name": "marks", "fact": 4 }), "unknown_fact: \"marks\"; there are: marked"),
        (json!({ "name": "marked" }), "malformed: marked: invalid type: null"),
        (json!({ "name": "marked", "fact": "much" }), "malformed: marked: invalid type: string"),
        (json!({ "name": "marked", "fact": -1 }), "malformed: marked: invalid value"),
        (json!({ "name": "marked", "fact": vec![0; 9_000] }), "too_large"),
        (json!({ "name": "user_left", "fact": { "user": "ann", "reason": "left" } }), "not_an_event"),
        (json!({ "name": "", "fact": 4 }), "empty"),
        (json!({ "fact": 4 }), "missing field `name`"),
        (json!({ "name": "marked", "fact": 4, "tick": 7 }), "unknown field"),
    ];
    for (body, words) in wrong {
        let reply = running.order("POST", "/rooms/main/event", &body);
        assert!(reply.status == 400 && json_of(&reply)["message"].as_str().unwrap().contains(words), "{words}: {reply:?}");
    }
    assert_eq!(running.order("POST", "/rooms/none/event", &json!({ "name": "marked", "fact": 4 })).status, 404);
    assert_eq!(running.get("/rooms/main/event").status, 405);

    let reply = running.order("POST", "/rooms/main/event", &json!({ "name": "marked", "fact": 4 }));
    assert!(reply.status == 202 && json_of(&reply)["name"] == "marked", "{reply:?}");
    running.until("it has happened, and nothing else", Some(&mut ann), |_, ann| ann.unwrap().sum() == 7);
    running.until("it is stored", Some(&mut ann), |running, _| {
        let facts = running.archive().facts("main", FactSeq(1), 99).unwrap();
        facts.last().is_some_and(|fact| (&*fact.kind, &*fact.producer, fact.author, fact.json()) == ("marked", "server", None, json!(4)))
    });
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap()
}

#[test]
fn a_host_that_keeps_nothing_shows_the_present_and_says_that_there_is_no_past() {
    let running = Running::start_with(false, |_| {});
    running.until("some ticks", None, |running, _| running.json("/rooms/main")["tick"].as_u64() > Some(20));
    let told = running.json("/rooms/main/state");
    let heart = &told["state"][EntityId::named("heart").to_string()];
    assert_eq!(heart["sum"], json!(0));
    assert!(told["tick"].as_u64().unwrap() > 20 && heart["beat"] == told["tick"]);
    assert_eq!(running.json("/rooms/main/picture")["frames"][0]["picture"]["shapes"].as_array().unwrap().len(), 1);
    assert_eq!(running.get("/rooms/main/state?tick=1").status, 404);
    for past in ["facts", "diff?from=1&to=2", "why?entity=heart&component=sum", "history?entity=heart"] {
        let reply = running.get(&format!("/rooms/main/{past}"));
        assert!(reply.status == 404 && reply.body.contains("not_kept"), "{past}: {}", reply.body);
    }
    assert!(running.metrics().keys().all(|name| !name.starts_with("roomkeeper_store")));
}

#[test]
fn who_has_no_key_or_a_wrong_one_is_told_nothing_and_counted() {
    let running = Running::start_with(true, |options| options.key = Some(AdminKey::parse("key-that-is-long-enough").unwrap()));
    let ask = |path: &str, authorization: &str| {
        let line = if authorization.is_empty() { String::new() } else { format!("Authorization: {authorization}\r\n") };
        send(running.address, &format!("GET {path} HTTP/1.1\r\nHost: admin.example\r\n{line}Connection: close\r\n\r\n"))
    };
    let paths = ["/", "/inspector/main.js", "/metrics", "/rooms", "/rooms/main/state", "/nothing"];
    for path in paths {
        let reply = ask(path, "");
        assert_eq!(reply.status, 401, "{path}");
        assert!(reply.head.to_lowercase().contains("www-authenticate: basic") && !reply.body.contains("main"), "{path}: {reply:?}");
        for wrong in ["Bearer key-that-is-long-enougH", "Bearer", "Bearer key-that-is-long-enough-x", "key-that-is-long-enough"] {
            assert_eq!(ask(path, wrong).status, 401, "{path} {wrong}");
        }
    }
    assert_eq!((ask("/health", "").status, ask("/ready", "").status), (200, 200));
    // Whoever has shown no key holds no connection.
    for path in ["/health", "/ready", "/"] {
        let reply = send(running.address, &format!("GET {path} HTTP/1.1\r\nHost: admin.example\r\n\r\n"));
        assert!(reply.head.to_lowercase().contains("connection: close"), "{path}: {reply:?}");
    }
    let right = ask("/metrics", "Bearer key-that-is-long-enough");
    assert_eq!(right.status, 200);
    let refused = format!("roomkeeper_admin_refused_total{{why=\"key\"}} {}", paths.len() * 5 + 1);
    assert!(right.body.contains(&refused), "{refused}");
    // What a browser sends after it has asked for a password.
    assert_eq!(ask("/rooms", "Basic b3BlcmF0b3I6a2V5LXRoYXQtaXMtbG9uZy1lbm91Z2g=").status, 200);
}

#[test]
fn a_server_that_others_can_reach_does_not_start_without_a_key() {
    let running = Running::start();
    let handle = {
        let config = ShardConfig {
            bind: ([127, 0, 0, 1], 0).into(),
            public_addresses: Vec::new(),
            access: Access::Loopback,
            limits: GatewayLimits::default(),
        };
        Host::bind(&config, HostOptions::default()).unwrap().handle()
    };
    for bind in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let started = Admin::start(AdminOptions::at(bind.parse().unwrap()), game(), handle.clone(), None);
        assert!(matches!(started, Err(AdminError::Open(_))), "{bind}");
    }
    let mut options = AdminOptions::at("0.0.0.0:0".parse().unwrap());
    options.key = Some(AdminKey::parse("key-that-is-long-enough").unwrap());
    assert!(Admin::start(options, game(), handle.clone(), None).is_ok());
    let taken = Admin::start(AdminOptions::at(running.address), game(), handle, None);
    assert!(matches!(taken, Err(AdminError::Socket { .. })));
}

#[test]
fn a_foreign_web_page_can_not_drive_the_admin_server() {
    let running = Running::start();
    let port = running.address.port();
    let ask = |method: &str, path: &str, headers: &str| {
        send(running.address, &format!("{method} {path} HTTP/1.1\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n")).status
    };
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    assert_eq!(ask("GET", "/rooms", &own), 200);
    assert_eq!(ask("GET", "/rooms", &format!("{own}Origin: http://127.0.0.1:{port}\r\nSec-Fetch-Site: same-origin\r\n")), 200);
    // A name of its own that leads to this machine.
    for host in ["Host: evil.example\r\n", "Host: evil.example:8080\r\n", "Host: 127.0.0.1.evil.example\r\n", ""] {
        assert_ne!(ask("GET", "/rooms", host), 200, "{host:?}");
    }
    for foreign in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://127.0.0.1:1\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        for (method, path) in [("POST", "/drain"), ("DELETE", "/rooms/main"), ("GET", "/rooms/main/state"), ("GET", "/metrics")] {
            assert_eq!(ask(method, path, &format!("{own}{foreign}")), 403, "{method} {path} {foreign:?}");
        }
    }
    assert_eq!(ask("GET", "/", &format!("{own}Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n")), 200, "a link may lead to it");
    assert_eq!(ask("GET", "/rooms", &format!("{own}Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n")), 403);
    // A form can say what it likes, but not that it is JSON.
    let form = format!(
        "POST /rooms/main/pause HTTP/1.1\r\n{own}Content-Type: text/plain\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{{\"paused\":true}}"
    );
    assert_eq!(send(running.address, &form).status, 415);
    assert_eq!(running.get("/ready").status, 200, "nobody drained it");
    assert!(running.json("/rooms/main")["is_open"].as_bool().unwrap());
    assert!(running.refused("host") >= 3.0 && running.refused("origin") >= 20.0);
    let page = running.get("/");
    let policy = page.head.to_lowercase();
    assert!(
        policy.contains("default-src 'none'")
            && policy.contains("frame-ancestors 'none'")
            && policy.contains("x-content-type-options: nosniff"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe-inline") && !policy.contains("access-control-allow-origin"));
}

#[test]
fn the_page_and_all_that_it_loads_is_there_and_comes_from_nowhere_else() {
    let running = Running::start();
    let (mut wanted, mut seen) = (vec!["/".to_owned()], BTreeSet::new());
    while let Some(path) = wanted.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let reply = running.get(&path);
        assert_eq!(reply.status, 200, "{path}");
        assert!(!reply.body.replace("http://www.w3.org/2000/svg", "").contains("http"), "{path} names another place");
        assert!(!reply.body.contains("innerHTML") && !reply.body.contains("style=\"") && !reply.body.contains("onclick=\""), "{path}");
        let texts = reply.body.split('"').skip(1).step_by(2);
        wanted.extend(texts.filter(|text| text.starts_with("/inspector/")).map(str::to_owned));
        let modules = reply.body.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next());
        wanted.extend(modules.map(|module| format!("/inspector/{module}")));
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn long_and_slow_requests_are_cut_off_while_others_are_served() {
    let running = Running::start_with(true, |options| {
        options.slow_after = Duration::from_secs(4);
        options.connections_max = 12;
    });
    let post = |length: usize, body: &str| {
        format!(
            "POST /rooms/main/pause HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let long = "x".repeat(65_537);
    assert_eq!(send(running.address, &post(long.len(), &long)).status, 413);
    let chunks: String = (0..20).map(|_| format!("1000\r\n{}\r\n", "x".repeat(4_096))).collect();
    let chunked = format!(
        "POST /rooms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunks}0\r\n\r\n"
    );
    assert_eq!(send(running.address, &chunked).status, 413);
    let many: String = (0..100).map(|nth| format!("X-{nth}: x\r\n")).collect();
    assert_eq!(send(running.address, &format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")).status, 431);
    assert_eq!(running.refused("body"), 2.0);

    // Some who never end their headers, some who never end their bodies.
    let mut slow: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(running.address).unwrap()).collect();
    for (nth, stream) in slow.iter_mut().enumerate() {
        let begin = if nth % 2 == 0 { "GET /rooms HTTP/1.1\r\nHost: local".to_owned() } else { post(50, "{") };
        stream.write_all(begin.as_bytes()).unwrap();
    }
    let begun = now();
    assert_eq!(running.get("/rooms").status, 200, "others are served");
    assert!(begun.elapsed() < Duration::from_secs(3), "and not after those");
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "each was cut off");
    assert_eq!(running.refused("slow"), 8.0);

    // More than may be there at a time: those are closed without a word.
    running.until("it is full", None, |running, _| {
        let _held: Vec<TcpStream> = (0..12).map(|_| TcpStream::connect(running.address).unwrap()).collect();
        running.get("/health").status == 0
    });
    running.until("there is room again", None, |running, _| running.get("/health").status == 200);
    assert!(running.refused("connections") >= 1.0);
}

#[test]
fn no_path_and_no_body_makes_it_panic_or_fail() {
    let panics = Arc::new(AtomicBool::new(false));
    let notes = panics.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // Those of the test itself are told by the test.
        if std::thread::current().name().is_some_and(|name| name.starts_with("admin")) {
            notes.store(true, Ordering::Relaxed);
        }
        before(panic);
    }));
    let running = Running::start();
    let _ann = running.with_marks(&[1]);
    let mut chance = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = move |limit: usize| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        (chance % limit as u64) as usize
    };
    let rooms = ["main", "m%61in", "", "..", "%2e%2e%2f", "%ff", "%00", "a/b", "%F0%9F%92%A9", "\u{ff}", "main%0d%0aX:1", "none"];
    let things = [
        "state", "diff", "facts", "why", "history", "ticks", "picture", "bytes", "snippets", "members", "kick", "pause", "step", "reset",
        "snippet", "revert", "event", "nothing", "",
    ];
    let queries = [
        "",
        "?",
        "?tick=",
        "?tick=-1",
        "?tick=99999999999",
        "?tick=4294967295",
        "?tick=1&ticks=40&every=400",
        "?tick=0&ticks=0",
        "?from=9&to=1",
        "?from=0&to=4294967295",
        "?limit=0",
        "?limit=1000&from=18446744073709551615",
        "?until=4294967295",
        "?until=0&limit=3",
        "?entity=heart&component=sum",
        "?entity=%ff&component=x",
        "?entity=&component=",
        "?by=nothing",
        "?follow=%00",
        "?entity=heart&from=4294967295&to=0",
        "?tick=1&tick=2",
        "?%",
        "?a=%zz",
    ];
    let bodies = [
        "",
        "{}",
        "[]",
        "null",
        "{\"ticks\":-1}",
        "{\"paused\":1}",
        "{\"player\":\"\"}",
        "{\"snippet\":\"\\u0000\"}",
        "{\"label\":\"\"}",
        "{\"fact\":18446744073709551615}",
        "{\"name\":\"marked\",\"fact\":-1}",
        "{\"name\":\"user_left\"}",
        "{\"room\":\"\",\"template\":\"\"}",
        "{",
        "\u{0}",
    ];
    for _ in 0..600 {
        let (room, thing, query) = (rooms[below(rooms.len())], things[below(things.len())], queries[below(queries.len())]);
        let (method, body) = (["GET", "GET", "GET", "POST", "PUT", "HEAD", "BREW"][below(7)], bodies[below(bodies.len())]);
        let request = format!(
            "{method} /rooms/{room}/{thing}{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let reply = send(running.address, &request);
        assert!(reply.status >= 200 && reply.status < 500, "{request}: {reply:?}");
        if reply.status >= 400 && !reply.body.is_empty() {
            let told: Value = serde_json::from_str(&reply.body).unwrap();
            assert!(told["error"].is_string() && told["message"].is_string(), "{request}: {reply:?}");
        }
    }
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..below(300)).map(|_| below(256) as u8).collect();
        let mut stream = TcpStream::connect(running.address).unwrap();
        let _ = stream.write_all(&bytes);
    }
    // It may not have noticed yet that all of those are gone, and has as many as it may.
    running.until("it answers", None, |running, _| running.get("/health").status == 200);
    assert_eq!(running.json("/rooms/main/state?tick=1")["tick"], json!(1));
    assert!(!panics.load(Ordering::Relaxed), "a thread of the admin server panicked");
}

#[test]
fn a_back_end_fetches_tokens_by_a_key_that_is_good_for_nothing_else() {
    let key = HostKey::random().unwrap();
    let running = Running::start_for(Access::Tokens(key), false, |options, address| {
        options.key = Some(AdminKey::parse("the-operators-own-key").unwrap());
        options.token_key = Some(AdminKey::parse("what-the-back-end-has").unwrap());
        options.tokens = Some(Tokens::new(TokenIssuer { key, addresses: vec![address], expire_seconds: 30 }));
    });
    let (operator, back_end) = ("Authorization: Bearer the-operators-own-key\r\n", "Authorization: Bearer what-the-back-end-has\r\n");
    let ask = |headers: &str, body: Value| running.order_with(headers, "POST", "/tokens", &body);

    // Neither without a key, nor by the one for tokens to anything else.
    assert_eq!(ask("", json!({ "player": "ann" })).status, 401);
    assert_eq!(running.order_with(back_end, "GET", "/rooms", &Value::Null).status, 401);
    assert_eq!(running.order_with(back_end, "POST", "/bans", &json!({ "player": "ann", "why": "I say so" })).status, 401);
    assert_eq!(running.order_with(operator, "GET", "/rooms", &Value::Null).status, 200);

    for (number, headers) in [back_end, operator].into_iter().enumerate() {
        let reply = ask(headers, json!({ "player": format!("ann{number}"), "room": "main", "seconds": 20 }));
        assert_eq!(reply.status, 201, "{}", reply.body);
        let told: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(told["player"], EntityId::named(&format!("ann{number}")).to_string());
        assert_eq!(told["addresses"], json!([running.game.to_string()]));
        let token = BASE64_STANDARD.decode(told["token"].as_str().unwrap()).unwrap();
        let mut player = Player::by(&Credentials::Token(token), "main");
        let begun = now();
        while !player.state().is_in_room() {
            assert!(begun.elapsed() < Duration::from_secs(10), "not in: {:?}", player.state());
            player.0.update();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    // A ban holds here too, and what is asked for has bounds.
    assert_eq!(running.order_with(operator, "POST", "/bans", &json!({ "player": "eve", "why": "she cheats" })).status, 201);
    for (body, status, word) in [
        (json!({ "player": "eve" }), 403, "she cheats"),
        (json!({ "player": "" }), 400, "the player is empty"),
        (json!({ "player": "bob", "seconds": 0 }), 400, "1 to 3600 seconds"),
        (json!({ "player": "bob", "seconds": 100_000 }), 400, "1 to 3600 seconds"),
        (json!({ "player": "bob", "room": "r".repeat(200) }), 400, "room"),
        (json!({ "player": "bob", "level": 3 }), 400, "level"),
    ] {
        let reply = ask(back_end, body.clone());
        assert!(reply.status == status && reply.body.contains(word), "{body}: {} {}", reply.status, reply.body);
    }
    let bytes = ask(&format!("{back_end}Accept: application/octet-stream\r\n"), json!({ "player": "bob" }));
    assert!(bytes.status == 201 && bytes.head.contains("application/octet-stream"), "{}", bytes.head);
}

#[test]
fn a_host_that_lets_in_without_tokens_makes_none() {
    let running = Running::start();
    let reply = running.order("POST", "/tokens", &json!({ "player": "ann" }));
    assert!(reply.status == 501 && reply.body.contains("no_tokens"), "{}", reply.body);
}

/// Where those who read the store are counted, and held up while it is shut.
#[derive(Debug, Default)]
struct Gate {
    is_shut: AtomicBool,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        while self.is_shut.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn whoever_hangs_up_makes_no_place_for_another_reader_and_the_host_is_asked_all_the_while() {
    let gate = Arc::new(Gate::default());
    let passes = gate.clone();
    let reads = move |_: &'static str| -> Result<(), StoreError> {
        passes.pass();
        Ok(())
    };
    let around = move |store| -> Box<dyn Store> { Box::new(AroundCommits::new(store, |store, flush| store.commit(flush)).reading(reads)) };
    let running = Running::start_around(Access::Loopback, true, |_, _| {}, around);
    running.until("it is stored", None, |running, _| running.get("/rooms/main/state").status == 200);
    gate.is_shut.store(true, Ordering::SeqCst);
    let ask = || {
        let mut stream = TcpStream::connect(running.address).unwrap();
        stream.write_all(b"GET /rooms/main/state HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream
    };
    for _ in 0..8 {
        let asked = [ask(), ask()];
        running.until("two read", None, |_, _| gate.inside.load(Ordering::SeqCst) >= 2);
        // Time for a third to begin, if it may, and after they have hung up for the server to notice.
        std::thread::sleep(Duration::from_millis(100));
        drop(asked);
    }
    assert_eq!((running.get("/ready").status, running.get("/metrics").status), (200, 200), "neither has anything to do with the store");
    assert_eq!(gate.most.load(Ordering::SeqCst), 2);
    gate.is_shut.store(false, Ordering::SeqCst);
    running.until("it is read again", None, |running, _| running.get("/rooms/main/state").status == 200);
}

#[test]
fn what_is_counted_in_all_rooms_never_falls_while_rooms_end() {
    const ROOMS: usize = 200;
    let running = Running::start_with(false, |_| {});
    for nth in 0..ROOMS {
        assert_eq!(running.order("POST", "/rooms", &json!({ "room": format!("beats/{nth}") })).status, 201);
    }
    let ticks = |metrics: &BTreeMap<String, f64>| metrics["roomkeeper_tick_duration_seconds_count"];
    running.until("all have ticked", None, |running, _| ticks(&running.metrics()) > 20.0 * ROOMS as f64);
    let address = running.address;
    let close = move || {
        for nth in 0..ROOMS {
            let reply = send(address, &format!("DELETE /rooms/beats%2F{nth} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
            assert_eq!(reply.status, 200, "{}", reply.body);
        }
    };
    let closes = std::thread::spawn(close);
    let mut before = 0.0;
    let mut look = || {
        let metrics = running.metrics();
        assert!(ticks(&metrics) >= before, "{} after {before}", ticks(&metrics));
        before = ticks(&metrics);
        metrics["roomkeeper_rooms"]
    };
    while !closes.is_finished() {
        look();
    }
    closes.join().unwrap();
    running.until("all are gone", None, |_, _| look() == 1.0);
}

#[test]
fn who_is_let_in_to_no_room_is_counted() {
    let running = Running::start_with(false, |_| {});
    let refused = ConnectionState::Refused(Refusal::NoSuchRoom("nowhere".to_owned()), Vec::new());
    let mut ann = Player::connect(running.game, "ann", "nowhere");
    running.until("ann is refused", Some(&mut ann), |_, ann| ann.unwrap().state() == refused);
    let metrics = running.metrics();
    assert_eq!((metrics["roomkeeper_refused_total"], metrics["roomkeeper_refused_full_total"]), (1.0, 0.0));
}

#[test]
fn a_name_that_nobody_could_ask_for_is_no_rooms_and_any_room_is_still_found() {
    let running = Running::start_with(false, |_| {});
    let [longest, longer] = [64, 65].map(|bytes| "x".repeat(bytes));
    for name in ["", "beats/*", "beats/a/*", "beats/a\nb", longer.as_str()] {
        let reply = running.order("POST", "/rooms", &json!({ "room": name, "template": "beats" }));
        assert_eq!(reply.status, 400, "{name:?}: {}", reply.body);
        assert!(reply.body.contains("a name of 1 to 64 bytes is wanted"), "{name:?}: {}", reply.body);
    }
    assert_eq!(running.order("POST", "/rooms", &json!({ "room": "beats/1" })).status, 201);
    for name in ["ann", "bob"] {
        let mut player = Player::connect(running.game, name, "beats/*");
        running.until("it is in", Some(&mut player), |_, player| player.unwrap().state().is_in_room());
        assert_eq!(player.room(), "beats/1", "whoever wants any is led there");
    }
    assert_eq!(running.order("POST", "/rooms", &json!({ "room": longest })).status, 201);
}

#[test]
fn writes_are_told_from_the_last_on_and_where_to_go_on_before_them() {
    let running = Running::start();
    assert_eq!(running.order("POST", "/rooms/main/speed", &json!({ "speed": 4 })).status, 200);
    running.until("there are many writes", None, |running, _| {
        running.archive().head("main").unwrap_or_default().is_some_and(|head| head.tick.0 > 620)
    });
    let last = running.json("/rooms/main/ticks")["last"].as_u64().unwrap() as u32;
    let written = running.archive().history("main", "heart", Some("beat"), RoomTick(0), RoomTick(last)).unwrap();
    let mut told: Vec<(Value, Value)> = Vec::new();
    let (mut to, mut pages) = (json!(last), 0);
    while !to.is_null() {
        let page = running.json(&format!("/rooms/main/history?entity=heart&component=beat&to={to}"));
        let writes = page["writes"].as_array().unwrap();
        let up_to = written.iter().filter(|link| json!(link.tick).as_u64() <= to.as_u64()).count();
        assert_eq!((&page["from"], &page["to"], &page["all"]), (&json!(0), &to, &json!(up_to)));
        assert!(!writes.is_empty() && writes.len() <= 500, "{}", writes.len());
        told.splice(0..0, writes.iter().map(|write| (write["tick"].clone(), write["after"].clone())));
        (to, pages) = (page["before"].clone(), pages + 1);
    }
    let expected: Vec<(Value, Value)> = written.iter().map(|link| (json!(link.tick), json!(link.after))).collect();
    assert_eq!(told, expected, "all of it, once, in order");
    assert!(pages >= 2, "{pages}");
    let page = running.json("/rooms/main/history?entity=heart&component=beat&from=5&to=10");
    assert_eq!((&page["all"], &page["before"]), (&json!(6), &json!(4)));
}

#[test]
fn a_ban_hits_who_is_called_so_and_says_whether_it_was_there() {
    let key = HostKey::random().unwrap();
    let running = Running::start_for(Access::Tokens(key), false, |options, address| {
        options.tokens = Some(Tokens::new(TokenIssuer { key, addresses: vec![address], expire_seconds: 30 }));
    });
    let ask = |path: &str, body: &Value| {
        let reply = running.order("POST", path, body);
        (reply.status, serde_json::from_str::<Value>(&reply.body).unwrap())
    };
    // The token's player is not called as others see it.
    let (_, told) = ask("/tokens", &json!({ "player": "account 4711", "name": "dora" }));
    let token = BASE64_STANDARD.decode(told["token"].as_str().unwrap()).unwrap();
    let mut dora = Player::by(&Credentials::Token(token), "main");
    running.until("dora is in", Some(&mut dora), |_, dora| dora.unwrap().state().is_in_room());
    assert_eq!(ask("/bans", &json!({ "player": "dora", "why": "enough", "seconds": 0 })).0, 400);
    let (status, told) = ask("/bans", &json!({ "player": "dora", "why": "enough" }));
    let id = EntityId::named("account 4711").to_string();
    assert_eq!((status, &told["player"], &told["was_connected"]), (201, &json!(id), &json!(true)));
    running.until("dora is out", Some(&mut dora), |_, dora| {
        dora.unwrap().state() == ConnectionState::Refused(Refusal::Kicked("banned: enough".to_owned()), Vec::new())
    });
    let (status, told) = ask("/bans", &json!({ "player": "eve", "why": "she would", "seconds": 1 }));
    assert_eq!((status, &told["player"], &told["was_connected"]), (201, &json!(EntityId::named("eve").to_string()), &json!(false)));
    assert_eq!(running.order("DELETE", &format!("/bans/{id}"), &Value::Null).status, 200);
}

#[test]
fn who_is_called_as_somebody_else_is_put_out_by_its_id_and_nobody_by_a_name_that_several_have() {
    let key = HostKey::random().unwrap();
    let running = Running::start_for(Access::Tokens(key), false, |options, address| {
        options.tokens = Some(Tokens::new(TokenIssuer { key, addresses: vec![address], expire_seconds: 30 }));
    });
    let join = |account: &str| {
        let reply = running.order("POST", "/tokens", &json!({ "player": account, "name": "bob" }));
        let token = BASE64_STANDARD.decode(json_of(&reply)["token"].as_str().unwrap()).unwrap();
        let mut player = Player::by(&Credentials::Token(token), "main");
        running.until("bob is in", Some(&mut player), |_, player| player.unwrap().state().is_in_room());
        player
    };
    let (mut first, mut second) = (join("account 1"), join("account 2"));
    let [one, two] = ["account 1", "account 2"].map(|account| EntityId::named(account).to_string());
    let kick = |player: &str| running.order("POST", "/rooms/main/kick", &json!({ "player": player, "why": "enough" }));
    let members = |running: &Running| running.json("/rooms/main/members").as_array().unwrap().len();

    let several = kick("bob");
    assert!(several.status == 409 && several.body.contains(&one) && several.body.contains(&two), "{several:?}");
    assert_eq!(members(&running), 2, "both are there");
    assert_eq!(kick(&two).status, 200);
    let out = ConnectionState::Refused(Refusal::Kicked("enough".to_owned()), Vec::new());
    running.until("the second is out", Some(&mut second), |_, second| second.unwrap().state() == out);
    running.until("the first is alone", Some(&mut first), |running, _| members(running) == 1);
    assert!(first.state().is_in_room());
    // Now the name is enough.
    let only = kick("bob");
    assert_eq!((only.status, &json_of(&only)["player"]), (200, &json!(one)));
    running.until("the first is out", Some(&mut first), |_, first| first.unwrap().state() == out);
}

#[test]
fn of_a_kept_room_that_the_store_never_took_it_is_told_how_many_ticks_are_missing() {
    let broken = Arc::new(AtomicBool::new(true));
    let store = crate::host::fails_while(&broken, Box::new(MemoryStore::default()));
    let running = crate::host::Running::start(HostOptions::default(), None, |host| {
        host.keep_by(Keeper::start(Box::new(store), WriterOptions::default()).unwrap());
        host.open_room(&blueprint(), RoomOptions::named("main")).unwrap();
    });
    let admin = Admin::start(AdminOptions::at(([127, 0, 0, 1], 0).into()), game(), running.handle(), None).unwrap();
    let get = |path: &str| send(admin.address(), &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    let durable = || json_of(&get("/rooms/main"))["durable"].clone();
    let missing = || {
        let metrics = get("/metrics").body;
        let value = metrics.lines().find_map(|line| line.strip_prefix("roomkeeper_room_unstored_ticks{room=\"main\"} "));
        value.unwrap().parse::<f64>().unwrap()
    };
    crate::host::until("it has ticked for a while", &mut [], |_| missing() > 30.0);
    assert_eq!(durable(), json!(0));
    broken.store(false, Ordering::Relaxed);
    crate::host::until("it is stored", &mut [], |_| missing() < 20.0 && durable().as_u64() > Some(0));
    assert!(running.stop());
}
