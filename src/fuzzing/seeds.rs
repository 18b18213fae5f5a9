//! Where a fuzzer begins: inputs made by what writes for real.

use bytes::Bytes;

use super::{game, host, ledger, replica, step, stored};
use crate::host::{HostKey, TokenIssuer};
use crate::protocol::{
    Admission, Availability, ClientMessage, CommandId, EntityId, FactSeq, Fingerprint, Incoming, ListedRoom, Refusal, Rejection, Resume,
    RoomId, RoomList, RoomTick, SeenTick, ServerMessage, State, Taken, VerdictMessage, snapshot_messages,
};

type Seeds = Vec<(&'static str, String, Vec<u8>)>;

/// Of each door by its name, each with a name of its own.
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Seeds::new();
    messages(&mut seeds);
    packets(&mut seeds);
    states(&mut seeds);
    sessions(&mut seeds);
    stores(&mut seeds);
    texts(&mut seeds);
    requests(&mut seeds);
    connections(&mut seeds);
    seeds
}

/// Adds one: a choice, then bytes.
fn add(seeds: &mut Seeds, door: &'static str, choice: u8, bytes: &[u8]) {
    let name = format!("seed-{}", seeds.iter().filter(|(name, ..)| *name == door).count());
    seeds.push((door, name, [&[choice], bytes].concat()));
}

fn messages(seeds: &mut Seeds) {
    let resume = Resume { room: RoomId::named("moor"), epoch: 7, tick: RoomTick(70_000), latest: RoomTick(300) };
    let hello = |resume| ClientMessage::Hello { fingerprint: Fingerprint(7), room: "moor".into(), spectate: false, resume };
    let command = |kind, payload: &'static [u8]| ClientMessage::Command {
        id: CommandId(3),
        kind,
        seen: Some(SeenTick(76_864)),
        payload: Bytes::from_static(payload),
    };
    let said = [
        hello(None),
        hello(Some(resume)),
        command(0, &[40]),
        command(1, &[3, b's', b'a', b'y', 0, 1, 0, 0, 128, 63]),
        command(2, &[1, 1, b'k', 2, 7, 8]),
        ClientMessage::Leave,
        ClientMessage::Diverged { tick: RoomTick(300) },
        ClientMessage::ListRooms { prefix: "duel/".into() },
    ];
    for message in &said {
        add(seeds, "envelope", 0, &message.encode());
    }
    let moor = ListedRoom { name: "moor".into(), taken: 1, seats: 300, availability: Availability::AtRest };
    let rejection = Some(Rejection::new("no_use").because("nothing to heal"));
    let mut told = vec![
        ServerMessage::Refused(Refusal::ProtocolDiffers(game::protocol().describe())),
        ServerMessage::Refused(Refusal::Rejected(Rejection::new("room_full"))),
        ServerMessage::Refused(Refusal::Elsewhere("10.0.0.7:5000".into())),
        ServerMessage::Verdicts { tick: RoomTick(9), verdicts: vec![VerdictMessage { id: CommandId(1), rejection }] },
        ServerMessage::Durable { tick: RoomTick(2) },
        ServerMessage::Rooms(RoomList { prefix: "m".into(), total: 2, rooms: vec![moor] }),
    ];
    let (room, user) = (RoomId::named("moor"), EntityId::named("ann"));
    told.push(ServerMessage::Welcome { room, epoch: 7, resumed: true, name: "moor".into(), user, last_command: CommandId(4) });
    for message in told.iter().filter_map(|message| message.encode().ok()) {
        add(seeds, "envelope", 1, &message);
    }
    let issuer = TokenIssuer {
        key: HostKey([7; 32]),
        addresses: vec![([127, 0, 0, 1], 5_000).into(), (std::net::Ipv6Addr::LOCALHOST, 5_001).into()],
        expire_seconds: 30,
    };
    if let Ok(token) = issuer.issue(user, "Ann", Some("moor"), std::time::Duration::from_secs(1_800_000_000)) {
        add(seeds, "envelope", 2, &token);
    }
    let admission = Admission { client_id: 7, player: user, name: "Ann".into(), room: Some("moor".into()) };
    if let Ok(bytes) = admission.encode() {
        add(seeds, "envelope", 3, &bytes);
    }
    add(seeds, "envelope", 3, serde_json::to_string(&game::protocol().describe()).unwrap_or_default().as_bytes());
    transport(seeds, &said);
}

/// What the transport's own channels make of messages.
fn transport(seeds: &mut Seeds, said: &[ClientMessage]) {
    let config = crate::protocol::connection_config();
    let (mut client, mut host) = (renet::RenetClient::new(config.clone()), renet::RenetServer::new(config));
    client.set_connected();
    host.add_connection(1);
    let (mut from_client, mut from_host) = (Vec::new(), Vec::new());
    for message in said.iter().cycle().take(20) {
        client.send_message(crate::protocol::CHANNEL, message.encode());
        for payload in client.get_packets_to_send() {
            step(2, &payload, &mut from_client);
            let _ = host.process_packet_from(&payload, 1);
        }
        for payload in host.get_packets_to_send(1).into_iter().flatten() {
            step(2, &payload, &mut from_host);
            client.process_packet(&payload);
        }
        step(1, &[], &mut from_client);
    }
    step(2, &[16, 1, 0, 5], &mut from_client);
    add(seeds, "gate", 0, &from_client);
    add(seeds, "gate", 1, &from_host);
    let mut datagrams = Vec::new();
    step(0, &[&[0][..], &[7; 1_077]].concat(), &mut datagrams);
    step(0, &[&[0x15, 9][..], &[7; 40]].concat(), &mut datagrams);
    add(seeds, "gate", 0, &datagrams);
}

fn packets(seeds: &mut Seeds) {
    for packet in replica::packets() {
        add(seeds, "packet", 0, packet);
        // Its head has four bytes while the ticks are few.
        if let Some((head, frames)) = packet.split_at_checked(4) {
            add(seeds, "packet", 0, &[head, &[crate::protocol::PADDING; 3], frames].concat());
        }
        let bytes = Bytes::from(packet.clone());
        for frame in crate::protocol::read_packet(&bytes).map(|(.., frames)| frames).into_iter().flatten() {
            if let crate::protocol::Frame::Part(part) = frame {
                add(seeds, "packet", 1, &part);
            }
        }
    }
    let report = crate::protocol::Report { seq: 7, newest: 900, hold_millis: 12, bits: vec![0xff, 3, 0x80] };
    add(seeds, "packet", 2, &report.encode());
}

fn states(seeds: &mut Seeds) {
    let protocol = game::protocol();
    let (ticks, _) = stored::as_bytes();
    let mut reader = crate::protocol::Reader::new(&ticks);
    let mut batches = Vec::new();
    while let Ok(kept) = crate::store::read_tick(&mut reader) {
        kept.batch.into_iter().for_each(|batch| step(0, &batch, &mut batches));
    }
    add(seeds, "batch", 0, &batches);
    // One entity of each: created, updated in each way, deleted.
    let state = game::state();
    let mut own = Vec::new();
    let text = OPERATIONS.iter().map(|text| format!("[{text}]"));
    let mut at = state.clone();
    for text in text {
        let json: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_default();
        let operations: Vec<_> = json.iter().filter_map(|json| crate::protocol::Operation::from_envelope(json).ok()).flatten().collect();
        let tick = RoomTick(at.tick().0 + 1);
        let batch = crate::protocol::encode_operations(&protocol, &at, &operations, tick).unwrap_or_else(|error| panic!("{text}: {error}"));
        let followed = at.follow(&protocol, &batch);
        assert!(followed.is_ok(), "{followed:?}");
        step(0, &batch, &mut own);
        add(seeds, "json", 0, text.as_bytes());
    }
    step(3, &[at.tick().0 as u8 + 1, 0], &mut own);
    add(seeds, "batch", 1, &own);
    for state in [&State::new(state.room()), state, &at] {
        let snapshot = Bytes::from(state.to_snapshot(&protocol, RoomTick(9), FactSeq(4)));
        add(seeds, "snapshot", 0, &snapshot);
        let long = Bytes::from(snapshot.repeat(40));
        let mut pieces = Vec::new();
        snapshot_messages(&long).iter().chain(&snapshot_messages(&snapshot)).for_each(|message| step(0, message, &mut pieces));
        add(seeds, "snapshot", 1, &pieces);
    }
    let mut values = Vec::new();
    for (component, value) in at.entities().values().flat_map(|entity| &entity.components) {
        step(*component as u8, value, &mut values);
    }
    seeds.push(("values", "all".to_owned(), values));
}

const OPERATIONS: [&str; 5] = [
    r#"{"op": "create", "entity_id": "lamp", "components": {"heat": 2.5, "mark": null, "health": 9, "position": [1, 2]}}"#,
    r#"{"op": "inc_max", "entity_id": "lamp", "components": {"health": {"by": 10, "max": 100}}}, {"op": "dec", "entity_id": "lamp", "components": {"heat": 1}}"#,
    r#"{"op": "set", "entity_id": "door_a", "components": {"door": {"Ajar": 3}, "owned_by": "lamp"}}, {"op": "dec_min", "entity_id": "lamp", "components": {"health": {"by": 3, "min": 0}}}"#,
    r#"{"op": "delete", "entity_id": "door_b", "components": {"mark": null}}"#,
    r#"{"op": "delete", "entity_id": "lamp"}"#,
];

fn sessions(seeds: &mut Seeds) {
    for reorder in [false, true] {
        seeds.push(("replica", format!("reorder-{reorder}"), replica::seed(reorder)));
    }
    // All that was sent before, then one more packet, and a part, and messages.
    let mut late = Vec::new();
    step(0, replica::packets().last().map_or(&[], Vec::as_slice), &mut late);
    step(1, &[14, 2, 0, 0, 1, 0], &mut late);
    step(2, &[14, 9, 5, 4, 15, 0], &mut late);
    step(3, &[4, 30, 0], &mut late);
    step(3, &[7, 31, 64 + 4, 1, 0], &mut late);
    step(4, &[50], &mut late);
    add(seeds, "replica", replica::packets().len() as u8, &late);
    for secretive in [false, true] {
        seeds.push(("host", format!("secretive-{secretive}"), host::seed(secretive)));
    }
}

fn stores(seeds: &mut Seeds) {
    let (ticks, journal) = stored::as_bytes();
    add(seeds, "frame", 0, &journal);
    add(seeds, "frame", 1, &journal);
    seeds.push(("chunk", "match".to_owned(), crate::store::pack(&ticks)));
    seeds.push(("chunk", "first".to_owned(), crate::store::pack(ticks.get(..200).unwrap_or(&ticks))));
    seeds.push(("chunk", "zeros".to_owned(), crate::store::pack(&[0; 9_000])));
    add(seeds, "frame", 2, &ticks);
    let mut reader = crate::protocol::Reader::new(&ticks);
    while let Ok(kept) = crate::store::read_tick(&mut reader) {
        for taken in kept.taken {
            let mut out = Vec::new();
            taken.write(&mut out);
            add(seeds, "frame", 4, &out);
        }
    }
    let mut out = Vec::new();
    let incoming = Incoming::Revert {
        seq: FactSeq(3),
        changes: vec![crate::protocol::Change { entity: "crate".into(), component: "health".into(), before: None, after: Some(7.into()) }],
    };
    let event = Incoming::Event { name: "healed".into(), fact: r#"{"who": "crate", "by": 20}"#.into() };
    for incoming in [incoming, event] {
        out.clear();
        Taken { incoming, verdict: None }.write(&mut out);
        add(seeds, "frame", 4, &out);
    }
    let item = r#"{"t":1,"k":"healed","p":"user","a":"ann","c":3,"w":1,"r":"no_use","m":"nothing","d":{"who":"ann","by":20},"h":"0123456789abcdef"}"#;
    add(seeds, "frame", 5, item.as_bytes());
    let rows = ledger::seed();
    let mut checkpoint = Vec::new();
    crate::protocol::Standing::default().write(&mut checkpoint);
    checkpoint.extend_from_slice(&game::state().to_snapshot(&game::protocol(), RoomTick(0), FactSeq(1)));
    add(seeds, "frame", 3, &checkpoint);
    seeds.push(("tables", "match".to_owned(), rows));
    seeds.push(("tables", "journal".to_owned(), ledger::seed_with_journal()));
    for (choice, at) in [(0, 24), (1, 100), (0, 4_096), (1, 8_192), (0, 20_000), (1, 40_000), (7, 9_000), (0, 60_000)] {
        let [low, middle, high, _] = u32::to_le_bytes(at);
        add(seeds, "sqlite", choice, &[low, middle, high, 0x5a]);
    }
}

fn texts(seeds: &mut Seeds) {
    add(seeds, "scene", 0, game::LEVEL.as_bytes());
    add(seeds, "scene", 1, game::LEVEL.as_bytes());
    add(seeds, "scene", 1, br#"{"ann": {"health": 3}, "crate": {"ttl": {"millis": 500, "since": 3}}}"#);
    let changes = r#"[{"entity": "crate", "component": "health", "before": 7, "after": null}, {"entity": "door_a", "component": "door", "before": "Open", "after": "Closed"}]"#;
    add(seeds, "scene", 2, changes.as_bytes());
    let healed = [r#"healed {"who": "crate", "by": 20}"#, r#"healed {"who": "nobody", "by": 1}"#];
    let said = r#"said {"by": "ann", "text": "hi", "thing": "ann"}"#;
    healed.into_iter().chain([said]).for_each(|event| add(seeds, "scene", 3, event.as_bytes()));
    add(seeds, "json", 1, game::LEVEL.as_bytes());
    add(seeds, "json", 2, br#"{"crate": {"health": "7", "door": "\"Closed\""}}"#);
    for value in ["7", r#"{"at": {"$entity": null}, "others": []}"#, r#"{"who": "ann", "by": 3}"#, "[0.5, 1e3]"] {
        add(seeds, "json", 3, value.as_bytes());
    }
    for name in ["main@-30s", "main@1200", "main@02:05", "main@-1.5m", "loss=5%,delay=80ms,jitter=10ms", "4g", "perfect"] {
        add(seeds, "json", 4, name.as_bytes());
    }
    for name in ["7d5f31c0-6d1b-5c8e-9a47-2f1e60a2b3c4", "postgres://a@b/c", "0123456789abcdef", "roomkeeper=debug,warn"] {
        add(seeds, "json", 5, name.as_bytes());
    }
    let file = std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/server.toml")).unwrap_or_default();
    add(seeds, "config", 0, &file);
    let uncommented: Vec<&[u8]> = file.split(|byte| *byte == b'\n').map(|line| line.strip_prefix(b"# ").unwrap_or(line)).collect();
    add(seeds, "config", 0, &uncommented.join(&b'\n'));
    add(
        seeds,
        "config",
        0,
        b"[limits]\nsessions_max = 8\n[templates.den]\nseed = \"random\"\n[[rooms]]\nname = \"a\"\ntemplate = \"den\"\n",
    );
    add(seeds, "config", 1, b"limits.sessions_max=8\nstop.within=1min\ntemplates.*.seed=3\nlink.conditions=loss=5%");
    add(seeds, "config", 2, b"ROOMKEEPER_LIMITS_SESSIONS_MAX=8\nROOMKEEPER_LOG_FILTER=warn");
}

fn requests(seeds: &mut Seeds) {
    let paths = [
        "GET /",
        "GET /health",
        "GET /ready",
        "GET /metrics",
        "GET /host",
        "GET /rooms",
        "GET /rooms/moor",
        "GET /rooms/moor/members",
        "GET /rooms/moor/ticks",
        "GET /rooms/moor/state?tick=3&by=kind",
        "GET /rooms/moor/bytes",
        "GET /rooms/moor/picture?tick=2&ticks=3&every=2&follow=ann",
        "GET /rooms/moor/diff?from=1&to=9",
        "GET /rooms/moor/facts?from=1&limit=5&kind=healed&told=true",
        "GET /rooms/moor/facts?until=9",
        "GET /rooms/moor/history?entity=ann&component=health",
        "GET /rooms/moor/why?entity=ann&component=health&tick=8",
        "GET /rooms/moor/snippets",
        "GET /bans",
        "GET /inspector/inspector.js",
        "DELETE /rooms/moor?why=bye",
        "DELETE /bans/ann",
        "POST /drain",
    ];
    for path in paths {
        let request = format!("{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdef\r\n\r\n");
        add(seeds, "http", 0, request.as_bytes());
    }
    let bodies = [
        ("rooms", r#"{"room": "attic", "template": "den"}"#),
        ("rooms/moor/kick", r#"{"player": "ann", "why": "bye"}"#),
        ("rooms/moor/pause", r#"{"paused": true}"#),
        ("rooms/moor/step", r#"{"ticks": 3}"#),
        ("rooms/moor/reset", r#"{"snippet": "start"}"#),
        ("rooms/moor/snippet", r#"{"label": "now", "tick": 3}"#),
        ("rooms/moor/revert", r#"{"fact": 3}"#),
        ("rooms/moor/event", r#"{"name": "healed", "fact": {"who": "crate", "by": 20}}"#),
        ("bans", r#"{"player": "ann", "why": "bye", "seconds": 60}"#),
    ];
    for (path, body) in bodies {
        let request = format!(
            "POST /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nOrigin: http://localhost\r\n\r\n{body}",
            body.len()
        );
        add(seeds, "http", 1, request.as_bytes());
    }
    let basic =
        "GET /host HTTP/1.1\r\nHost: [::1]:80\r\nAuthorization: Basic YW55Ym9keTowMTIzNDU2Nzg5YWJjZGVm\r\nSec-Fetch-Site: none\r\n\r\n";
    add(seeds, "http", 0, basic.as_bytes());
    let chunked = "PUT /log HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n13\r\n{\"filter\": \"warn\"} \r\n0\r\n\r\n";
    add(seeds, "http", 1, chunked.as_bytes());
}

/// What the other end of a WebSocket connection says; after it this end sends something, which the other takes.
fn connections(seeds: &mut Seeds) {
    let asks: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let grants: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let refuses: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    // Of a client, masked by nothing: a datagram, a longer one, one in two parts with a ping between them, a pong, a text, a goodbye.
    let short: &[u8] = &[0x82, 0x83, 0, 0, 0, 0, 1, 2, 3];
    let long = [&[0x82, 0xfe, 0x01, 0x2c, 0, 0, 0, 0][..], &[7; 300]].concat();
    let longer = [&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0x05, 0xdc, 0, 0, 0, 0][..], &[8; 1_500]].concat();
    let parts: &[u8] = &[0x02, 0x81, 0, 0, 0, 0, 1, 0x89, 0x82, 0, 0, 0, 0, 5, 6, 0x80, 0x81, 0, 0, 0, 0, 2];
    let pong: &[u8] = &[0x8a, 0x80, 0, 0, 0, 0];
    let text: &[u8] = &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    let goodbye: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
    // The same of a host, which masks nothing.
    let plain: &[u8] = &[0x82, 3, 1, 2, 3, 0x89, 1, 9, 0x02, 1, 1, 0x80, 1, 2];
    let claims: &[u8] = &[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0];
    let (begin, rest) = asks.split_at(40);
    let (head, body) = short.split_at(4);
    let said: [(u8, &[&[u8]]); 12] = [
        (0, &[asks, short]),
        (0, &[begin, rest, short, &long]),
        (0, &[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]),
        (0, &[&[0xff; 64]]),
        (1, &[short, &long, &longer]),
        (1, &[parts, pong, short]),
        (1, &[head, body, text]),
        (1, &[short, goodbye, short]),
        (2, &[plain, plain]),
        (2, &[claims]),
        (3, &[grants, plain]),
        (3, &[refuses]),
    ];
    for (choice, pieces) in said {
        let mut steps = Vec::new();
        for piece in pieces {
            step(0, piece, &mut steps);
        }
        step(2, &[5; 900], &mut steps);
        step(3, &[0; 20], &mut steps);
        for piece in pieces {
            step(1, piece, &mut steps);
        }
        add(seeds, "websocket", choice, &steps);
    }
}
