use std::path::PathBuf;

use proptest::prelude::*;

use super::form::Given;
use super::keys::{ROOM, SECTIONS, TEMPLATE, variable};
use super::load::{Flag, Loaded, Origin, Sources, resolve};
use super::print::print;
use super::settings::{Config, Room, Template};
use crate::host::gateway::{GatewayLimits, threads_for};
use crate::host::{Host, HostLimits};
use crate::store::WriterOptions;

const FILE: &str = "/etc/game/server.toml";

fn from_file(text: &str) -> Sources {
    Sources { file: Some((FILE.to_owned(), text.to_owned())), ..Sources::default() }
}

fn read(text: &str) -> Loaded {
    resolve(&from_file(text)).unwrap()
}

/// What is wrong, a line each, without the file's folder.
fn wrong(sources: &Sources) -> Vec<String> {
    let wrong = resolve(sources).unwrap_err();
    wrong.iter().map(|wrong| wrong.to_string().replace("/etc/game/", "")).collect()
}

fn flag(path: &str, text: &str) -> Flag {
    Flag { path: path.to_owned(), flag: format!("--set {path}"), given: Given::plain(text) }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_with_what_was_meant() {
    let text = "[listen]\nbind = \"127.0.0.1:1\"\nbnd = 1\n\n[limit]\n\n[templates.den]\nleve = \"\"\n\n[[rooms]]\nname = \"a\"\ntmplate = \"den\"\n";
    assert_eq!(
        wrong(&from_file(text)),
        [
            "server.toml:3: there is no key listen.bnd; did you mean bind?",
            "server.toml:5: there is no key limit; did you mean limits?",
            "server.toml:8: there is no key templates.den.leve; did you mean level?",
            "server.toml:12: there is no key rooms[0].tmplate; did you mean template?",
        ]
    );
    assert_eq!(
        wrong(&from_file("[stop]\nquickly = true\n")),
        ["server.toml:2: there is no key stop.quickly; known are announce, within"],
        "what is near nothing is told all that there is"
    );
}

#[test]
fn a_value_out_of_bounds_is_named_with_its_line_and_what_is_allowed() {
    let text = "[limits]\nsessions_max = 0\nqueue_bytes_max = \"4 MB\"\nseat_ticks = \"75ms\"\n[store]\nsurvives = \"fire\"\n[stop]\nwithin = 10\n\
        [log]\nfilter = \"roomkeeper=loud\"\n[listen]\nbind = \"localhost\"\n[link]\nconditions = \"loss=5\"\n[templates.default]\nseed = -1\n";
    let lines = wrong(&from_file(text));
    assert_eq!(lines.len(), 9, "{lines:#?}");
    for (line, wanted) in [
        "server.toml:2: limits.sessions_max = 0: a whole number from 1 to 65536 is wanted",
        "server.toml:3: limits.queue_bytes_max = \"4 MB\": an amount from 256 KiB to 1 GiB is wanted, as \"4 MiB\" or in bytes",
        "server.toml:4: limits.seat_ticks = \"75ms\": a number of ticks from 0 to 12096000 is wanted, or a time, as \"10s\", of whole ticks of 50 ms",
        "server.toml:6: store.survives = \"fire\": \"process-crash\" or \"power-loss\" is wanted",
        "server.toml:8: stop.within = 10: a time from 1s to 1h is wanted, with its unit: ms, s, min, h or d",
        "server.toml:10: log.filter = \"roomkeeper=loud\": ",
        "server.toml:12: listen.bind = \"localhost\": an address with a port is wanted",
        "server.toml:14: link.conditions = \"loss=5\": loss=5: a number with % is wanted, at most 100",
        "server.toml:16: templates.default.seed = -1: a whole number that is not negative is wanted, or \"random\"",
    ]
    .iter()
    .enumerate()
    {
        assert!(lines[line].starts_with(wanted), "{}\n{wanted}", lines[line]);
    }
}

#[test]
fn what_is_no_toml_is_named_with_its_line_each_of_it() {
    let lines = wrong(&from_file("[listen]\nbind = \n\n[limits\nsessions_max = 1\n"));
    assert!(lines.len() >= 2 && lines[0].starts_with("server.toml:2: ") && lines[1].starts_with("server.toml:4: "), "{lines:#?}");
    let twice = wrong(&from_file("[listen]\nkey = \"a\"\nkey = \"b\"\n"));
    assert!(twice[0].starts_with("server.toml:3: duplicate key"), "{twice:#?}");
}

#[test]
fn what_does_not_go_together_is_told_with_both_places() {
    let text = "[listen]\nkey = \"key\"\nallow_unauthenticated = true\n[store]\nseal_always = true\nseal_every_flushes = 20\n\
        [limits]\nmembers_per_room_max = 8\nrooms_max = 2\n[templates.den]\ncapacity = 9\n\
        [[rooms]]\nname = \"a\"\n[[rooms]]\nname = \"b\"\ntemplate = \"dn\"\n[[rooms]]\nname = \"a\"\n[[rooms]]\n";
    assert_eq!(
        wrong(&from_file(text)),
        [
            "server.toml:3: listen.allow_unauthenticated = true, but there is a listen.key, from /etc/game/server.toml:2: one of them is wanted",
            "server.toml:6: store.seal_every_flushes = 20: 1 is wanted, since store.seal_always = true, from /etc/game/server.toml:5",
            "server.toml:9: limits.rooms_max = 2: 4 rooms are to be opened",
            "server.toml:11: templates.den.capacity = 9: at most limits.members_per_room_max is wanted, 8, from /etc/game/server.toml:8",
            "server.toml:16: rooms[1].template = \"dn\": there is no such template; did you mean \"den\"?",
            "server.toml:18: rooms[2].name = \"a\": another name is wanted, there is such a room, from /etc/game/server.toml:13",
            "server.toml:19: rooms[3]: name is wanted",
        ]
        .map(|line| line.replace("/etc/game/", ""))
    );
    assert_eq!(
        wrong(&from_file("[listen]\nbind = \"0.0.0.0:5000\"\n")),
        [
            "server.toml:2: listen.bind = \"0.0.0.0:5000\": it can be reached from outside, so listen.key is wanted, or listen.allow_unauthenticated = true"
        ]
    );
    let flags = vec![flag("store.survives", "process-crash")];
    assert_eq!(
        wrong(&Sources { flags, ..Sources::default() }),
        ["flag --set store.survives: nothing is kept: a folder is wanted, by --data or store.data"]
    );
    let flags = vec![flag("nats.url", "nats://127.0.0.1")];
    assert_eq!(
        wrong(&Sources { flags, ..Sources::default() }),
        ["flag --set nats.url: nats.url: what is published is what is kept, so a folder is wanted, by --data or store.data"]
    );
}

#[test]
fn a_key_without_an_address_that_tokens_could_name_is_told_and_so_is_a_host_that_nobody_could_be_sent_to() {
    let text = "[listen]\nbind = \"0.0.0.0:5000\"\nkey = \"key\"\n[store]\ndata = \"postgres://rooms@db/game\"\n[share]\nhost = \"a\"\n";
    assert_eq!(
        wrong(&from_file(text)),
        [
            "server.toml:2: listen.bind = \"0.0.0.0:5000\": no token could name it, so listen.public_addresses is wanted, the addresses at which \
            players reach this server, since there is a listen.key, from server.toml:3",
            "server.toml:2: listen.bind = \"0.0.0.0:5000\": nobody could be sent to it by other servers, so share.address or \
            listen.public_addresses is wanted, since there is a share.host, from server.toml:7",
        ]
    );
    let named = text.replace("[store]", "public_addresses = [\"203.0.113.7:5000\"]\n[store]");
    assert!(resolve(&from_file(&named)).is_ok() && resolve(&from_file(&text.replace("0.0.0.0", "203.0.113.7"))).is_ok());
    let shared = format!("{text}address = \"203.0.113.7:5000\"\n");
    assert_eq!(wrong(&from_file(&shared)).len(), 1, "who is sent there has a token for no such address");
}

#[test]
fn keys_that_let_in_to_nothing_and_doors_without_a_key_are_told() {
    assert_eq!(
        wrong(&from_file("[admin]\nkey = \"a\"\ntoken_key = \"b\"\n")),
        [
            "server.toml:2: admin.key: there is no admin server that it could let in to, so admin.bind is wanted",
            "server.toml:3: admin.token_key: there is no admin server that it could let in to, so admin.bind is wanted",
        ]
    );
    assert_eq!(
        wrong(&from_file("[admin]\nbind = \"0.0.0.0:8080\"\ntoken_key = \"b\"\n")),
        [
            "server.toml:2: admin.bind = \"0.0.0.0:8080\": it can be reached from outside, so admin.key is wanted",
            "server.toml:3: admin.token_key: there is no key to make tokens with, so listen.key is wanted",
        ]
    );
}

#[test]
fn more_connections_than_the_gateway_can_hold_are_told_and_what_nobody_said_follows_from_its_threads() {
    assert_eq!(
        wrong(&from_file("[listen]\ngateway_threads = 2\n[limits]\nsessions_max = 513\n")),
        [
            "server.toml:4: limits.sessions_max = 513: at most 512 is wanted, limits.clients_max, 256, for each of 2 threads of the gateway, \
            from server.toml:2"
        ]
    );
    let flags = vec![flag("limits.sessions_max", "4097")];
    assert_eq!(
        wrong(&Sources { flags, ..Sources::default() }),
        ["flag --set limits.sessions_max: limits.sessions_max = 4097: at most 4096 is wanted, limits.clients_max, 256, \
            for each of 16 threads of the gateway"]
    );
    assert_eq!(
        wrong(&from_file("[listen]\ngateway_threads = 2\n[limits]\nsessions_max = 129\nclients_max = 64\n")),
        ["server.toml:4: limits.sessions_max = 129: at most 128 is wanted, limits.clients_max, 64, for each of 2 threads of the gateway, \
            from server.toml:5 and server.toml:2"]
    );
    let flags = vec![flag("listen.gateway_threads", "1")];
    let loaded = resolve(&Sources { flags, ..Sources::default() }).unwrap();
    assert_eq!(loaded.config.limits.sessions_max, 256);
    assert_eq!(loaded.origin("limits.sessions_max"), Origin::Flag("--set listen.gateway_threads".to_owned()));
    // Of fewer sessions fewer threads follow: six hold 900 of the 1,000, for which there would be five.
    let loaded = read("[limits]\nclients_max = 150\n");
    assert_eq!((loaded.config.limits.sessions_max, threads_for(600)), (600, 4));
    assert_eq!(loaded.origin("limits.sessions_max"), loaded.origin("limits.clients_max"));
    assert_eq!(read("[limits]\nclients_max = 170\n").config.limits.sessions_max, 1_000);
}

#[test]
fn a_name_that_nobody_could_ask_for_is_no_rooms() {
    let wanted = "a name of 1 to 64 bytes is wanted, without control characters, that does not end in \"/*\"";
    let long = "x".repeat(65);
    for (name, shown) in [("duel/*", "duel/*"), ("a\\nb", "a\\nb"), ("", ""), (long.as_str(), long.as_str())] {
        let text = format!("[[rooms]]\nname = \"{name}\"\n");
        assert_eq!(wrong(&from_file(&text)), [format!("server.toml:2: rooms[0].name = \"{shown}\": {wanted}")]);
    }
    let sources = Sources { also: vec!["duel/*".to_owned()], ..Sources::default() };
    assert_eq!(wrong(&sources), [format!("flag --also: rooms[1].name = \"duel/*\": {wanted}")]);
    assert_eq!(read(&format!("[[rooms]]\nname = \"{}\"\n", "x".repeat(64))).config.rooms.len(), 1);
}

#[test]
fn what_is_wrong_with_an_address_that_may_have_a_password_is_told_without_it() {
    let lines = wrong(&from_file("[store]\ndata = \"data\"\n[nats]\nurl = \"http://ann:secret@localhost\"\n"));
    assert!(lines.len() == 1 && lines[0].starts_with("server.toml:4: nats.url: an address as \"nats://host:4222\""), "{lines:?}");
    let flags = vec![flag("nats.url", "http://ann:secret@localhost")];
    let lines = wrong(&Sources { flags, ..Sources::default() });
    assert!(lines.iter().all(|line| !line.contains("secret")), "{lines:?}");
}

#[test]
fn a_flag_counts_more_than_the_environment_and_that_more_than_the_file() {
    let mut sources = from_file("[limits]\nsessions_max = 1\nrooms_max = 2\nmistakes_max = 3\n");
    let variables = [("ROOMKEEPER_LIMITS_ROOMS_MAX", "20"), ("ROOMKEEPER_LIMITS_MISTAKES_MAX", "30"), ("PATH", "/bin")];
    sources.environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    sources.flags = vec![flag("limits.mistakes_max", "300")];
    let loaded = resolve(&sources).unwrap();
    let limits = loaded.config.limits;
    assert_eq!((limits.sessions_max, limits.rooms_max, limits.mistakes_max, limits.grace_ticks), (1, 20, 300, 200));
    let printed = print(&loaded);
    for line in [
        "sessions_max = 1 # /etc/game/server.toml:2",
        "rooms_max = 20 # environment ROOMKEEPER_LIMITS_ROOMS_MAX",
        "mistakes_max = 300 # flag --set limits.mistakes_max",
        "grace_ticks = 200 # default",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}\n{printed}");
    }
}

#[test]
fn templates_and_rooms_are_told_by_all_three() {
    let mut sources =
        from_file("[templates.big-den]\nseed = 7\nlevel = \"levels/den.json\"\n[[rooms]]\nname = \"a\"\ntemplate = \"big-den\"\n");
    sources.level = Some("/game/own.json".into());
    let loaded = resolve(&sources).unwrap();
    let den = &loaded.config.templates["big-den"];
    assert_eq!(den.level.as_deref(), Some(std::path::Path::new("/etc/game/levels/den.json")), "from the file's own folder");
    assert_eq!(loaded.config.templates["default"].level.as_deref(), Some(std::path::Path::new("/game/own.json")));
    assert_eq!(loaded.config.rooms, [Room { name: "a".to_owned(), template: "big-den".to_owned() }]);

    sources.environment = [("ROOMKEEPER_TEMPLATES_BIG_DEN_SEED".to_owned(), "random".to_owned())].into();
    sources.flags = vec![Flag { path: "templates.*.notes".to_owned(), ..flag("templates.*.notes", "true") }];
    (sources.room, sources.also) = (Some("b".to_owned()), vec!["c".to_owned()]);
    let loaded = resolve(&sources).unwrap();
    assert_eq!(loaded.config.templates["big-den"].seed, super::Seed::Random);
    assert!(loaded.config.templates.values().all(|template| template.notes));
    assert_eq!(loaded.config.rooms, [Room::named("b"), Room::named("c")]);
    assert_eq!(loaded.origin("rooms[1].name"), Origin::Flag("--also".to_owned()));
}

#[test]
fn a_variable_of_no_key_is_named_unless_it_is_not_ours() {
    let mut sources = Sources::default();
    for name in ["ROOMKEEPER_LISTEN_BNID", "ROOMKEEPER_TEST", "ROOMKEEPER_CONFIG"] {
        sources.environment.insert(name.to_owned(), "1".to_owned());
    }
    assert_eq!(wrong(&sources), ["environment ROOMKEEPER_LISTEN_BNID: there is no such key; did you mean ROOMKEEPER_LISTEN_BIND?"]);
    let flags = vec![flag("listen.bnid", "1")];
    assert_eq!(
        wrong(&Sources { flags, ..Sources::default() }),
        ["flag --set listen.bnid: there is no key \"listen.bnid\"; did you mean listen.bind?"]
    );
}

#[test]
fn what_kubernetes_tells_of_services_is_left_alone_and_nothing_that_only_looks_like_it() {
    let told = [
        ("ROOMKEEPER_STORE_SERVICE_HOST", "10.96.0.7"),
        ("ROOMKEEPER_STORE_SERVICE_PORT", "5432"),
        ("ROOMKEEPER_STORE_SERVICE_PORT_SQL", "5432"),
        ("ROOMKEEPER_STORE_PORT", "tcp://10.96.0.7:5432"),
        ("ROOMKEEPER_STORE_PORT_5432_TCP", "tcp://10.96.0.7:5432"),
        ("ROOMKEEPER_STORE_PORT_5432_TCP_PROTO", "tcp"),
        ("ROOMKEEPER_STORE_PORT_5432_TCP_PORT", "5432"),
        ("ROOMKEEPER_STORE_PORT_5432_TCP_ADDR", "fd00::7"),
        // There is a key of that name.
        ("ROOMKEEPER_AGONES_PORT", "tcp://10.96.0.7:9358"),
    ];
    let environment = |told: &[(&str, &str)]| {
        let environment = told.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sources { environment, ..Sources::default() }
    };
    let loaded = resolve(&environment(&told)).unwrap();
    assert_eq!(loaded.origin("agones.port"), Origin::Default);
    for (name, value) in [
        ("ROOMKEEPER_LISTEN_PORT", "6000"),
        ("ROOMKEEPER_ADMIN_PORT", "127.0.0.1:6000"),
        ("ROOMKEEPER_LISTEN_PORTS", "tcp"),
        ("ROOMKEEPER_STORE_PORTABLE", "true"),
        ("ROOMKEEPER_STORE_SERVICE_NAME", "sql"),
    ] {
        let lines = wrong(&environment(&[(name, value)]));
        assert!(matches!(&lines[..], [line] if line.contains(name) && line.contains("there is no such key")), "{lines:?}");
    }
}

#[test]
fn no_two_keys_share_a_variable() {
    let mut sections: Vec<String> =
        SECTIONS.iter().flat_map(|section| section.keys.iter().map(|key| variable(&format!("{}.{}", section.name, key.name)))).collect();
    let count = sections.len();
    sections.sort();
    sections.dedup();
    assert_eq!(sections.len(), count);
}

/// The names of a structure's fields.
fn fields(value: impl std::fmt::Debug) -> Vec<String> {
    let text = format!("{value:?}");
    let (_, inner) = text.split_once('{').unwrap();
    inner.split(',').filter_map(|part| Some(part.split_once(':')?.0.trim().to_owned())).collect()
}

#[test]
fn each_limit_has_a_key() {
    let keys =
        |name: &str| SECTIONS.iter().find(|section| section.name == name).unwrap().keys.iter().map(|key| key.name).collect::<Vec<_>>();
    let limits = keys("limits");
    let all: Vec<String> = fields(HostLimits::default()).into_iter().chain(fields(GatewayLimits::default())).collect();
    assert!(all.len() > 15);
    assert_eq!(limits, all, "the keys of [limits] are the fields of both structures, in their order");
    assert_eq!(keys("store").len(), fields(WriterOptions::default()).len() + 3);
    assert_eq!(TEMPLATE.len(), fields(Template::new(None)).len());
    assert_eq!(ROOM.len(), fields(Room::named("main")).len());
}

#[test]
fn defaults_are_within_their_own_bounds() {
    let loaded = resolve(&Sources::default()).unwrap();
    let again = read(&print(&loaded));
    assert_eq!(again.config, loaded.config);
}

fn text() -> impl Strategy<Value = String> {
    // What could break a quoted string, a comment, or a line.
    prop_oneof!["[a-z]{1,12}", "[ -~]{1,12}", r#"["'\\#\n\t\r\u{7f}é☃=\[\]]{1,8}"#]
}

fn path() -> impl Strategy<Value = Option<PathBuf>> {
    proptest::option::of("(/[a-z #\"'\\\\é\n]{1,8}){1,3}".prop_map(|path| path.trim_end().into()))
}

prop_compose! {
    fn template()(level in path(), seed in any::<Option<u64>>(), capacity in proptest::option::of(1_usize..=8), flags in any::<[bool; 3]>()) -> Template {
        let [notes, check, deny_ambiguity] = flags;
        let seed = seed.map_or(super::Seed::Random, super::Seed::Fixed);
        Template { seed, capacity, notes, check, deny_ambiguity, ..Template::new(level) }
    }
}

/// Values that may stand in a key, as somebody would write them.
fn values(name: &str) -> BoxedStrategy<String> {
    match name {
        "bind" => (any::<[u8; 3]>(), any::<u16>()).prop_map(|([a, b, c], port)| format!("127.{a}.{b}.{c}:{port}")).boxed(),
        "public_addresses" => proptest::collection::vec((any::<std::net::IpAddr>(), any::<u16>()), 0..4)
            .prop_map(|all| {
                all.into_iter().map(|(ip, port)| std::net::SocketAddr::from((ip, port)).to_string()).collect::<Vec<_>>().join(",")
            })
            .boxed(),
        "survives" => prop_oneof![Just("process-crash"), Just("power-loss")].prop_map_into().boxed(),
        "format" => prop_oneof![Just("json"), Just("text")].prop_map_into().boxed(),
        "filter" => prop_oneof![Just("warn,roomkeeper::host=debug"), Just("off"), Just("info")].prop_map_into().boxed(),
        "conditions" => prop_oneof![Just(""), Just("train,loss=10%"), Just("rtt=120ms")].prop_map_into().boxed(),
        "flush_every" | "within" | "announce" => (1_000_u32..60_000).prop_map(|millis| format!("{millis} ms")).boxed(),
        "buffer" => (64_u64..1 << 24).prop_map(|kilobytes| format!("{kilobytes} KiB")).boxed(),
        "key" | "data" => path().prop_map(|path| path.map_or_else(String::new, |path| path.to_string_lossy().into_owned())).boxed(),
        "rest_after" | "ready_again_after" | "lease" => (1_000_u32..60_000).prop_map(|millis| format!("{millis} ms")).boxed(),
        "websocket" => any::<u16>().prop_map(|port| format!("127.0.0.1:{port}")).boxed(),
        // Of an address that others reach a key would be wanted, but only by what starts it.
        "address" => any::<u16>().prop_map(|port| format!("203.0.113.7:{port}")).boxed(),
        // Rooms are shared by a database.
        "host" => Just(String::new()).boxed(),
        "url" => prop_oneof![Just("nats://127.0.0.1:4222"), Just("tls://one,nats://two:4333")].prop_map_into().boxed(),
        "bans" | "token_key" | "credentials" => {
            path().prop_map(|path| path.map_or_else(String::new, |path| path.to_string_lossy().into_owned())).boxed()
        }
        "story" | "seal_always" => any::<bool>().prop_map(|on| on.to_string()).boxed(),
        "allow_unauthenticated" | "seal_every_flushes" | "components_every_ticks" => Just(String::new()).boxed(),
        "queue_bytes_max" | "bytes_per_second_max" => (262_144_u32..=1 << 30).prop_map(|bytes| bytes.to_string()).boxed(),
        "gateway_threads" => (0_u8..=16).prop_map(|threads| threads.to_string()).boxed(),
        // One thread holds as many.
        "sessions_max" => (1_u32..=64).prop_map(|many| many.to_string()).boxed(),
        "clients_max" => (64_u32..=256).prop_map(|many| many.to_string()).boxed(),
        "members_per_room_max" => (8_u32..=65_536).prop_map(|many| many.to_string()).boxed(),
        _ => (1_u32..=256).prop_map(|many| many.to_string()).boxed(),
    }
}

/// A value for each key that has one of its own, or none.
fn flags() -> impl Strategy<Value = Vec<Flag>> {
    let keys: Vec<(String, &'static str)> =
        SECTIONS.iter().flat_map(|section| section.keys.iter().map(|key| (format!("{}.{}", section.name, key.name), key.name))).collect();
    let each: Vec<_> = keys.into_iter().map(|(path, name)| (Just(path), values(name), any::<bool>())).collect();
    each.prop_map(|all| {
        let told = all
            .into_iter()
            .filter(|(path, value, told)| *told && (!value.is_empty() || ["listen.key", "link.conditions"].contains(&path.as_str())));
        // What `store` says is for a folder, and what `admin` says for its server, and for tokens.
        let needed = [("store.data", "/data"), ("listen.key", "/key"), ("admin.bind", "127.0.0.1:8080")];
        needed
            .into_iter()
            .map(|(path, value)| flag(path, value))
            .chain(told.map(|(path, value, _)| flag(&path, &value)))
            .filter(|flag| !needed.iter().any(|(path, _)| *path == flag.path) || flag.given != Given::plain(""))
            .collect()
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same_configuration(
        flags in flags(),
        templates in proptest::collection::btree_map("[a-z0-9-]{1,9}", template(), 0..4),
        names in proptest::collection::btree_set(text().prop_filter("no room's name", |name| Host::check_name(name).is_ok()), 1..6),
        file in text(),
    ) {
        let mut sources = Sources { flags, ..Sources::default() };
        if let Some(rooms) = sources.flags.iter_mut().find(|flag| flag.path == "limits.rooms_max") {
            rooms.given = Given::plain(100);
        }
        let mut loaded = resolve(&sources).unwrap();
        let kinds: Vec<String> = loaded.config.templates.keys().chain(templates.keys()).cloned().collect();
        loaded.config.templates.extend(templates);
        let room = |(at, name): (usize, String)| Room { name, template: kinds[at % kinds.len()].clone() };
        loaded.config.rooms = names.into_iter().enumerate().map(room).collect();
        // A comment must not break whatever the file is called.
        loaded.origins.insert("listen.bind".to_owned(), Origin::File { name: file.into(), line: 1 });
        let printed = print(&loaded);
        let again = resolve(&from_file(&printed));
        prop_assert!(again.is_ok(), "{:#?}\n{printed}", again.unwrap_err());
        let again: Config = again.unwrap().config;
        prop_assert_eq!(&again, &loaded.config, "{}", printed);
        prop_assert_eq!(print(&read(&printed)).lines().count(), printed.lines().count());
    }
}
