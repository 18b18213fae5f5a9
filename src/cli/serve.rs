//! `serve` and `token`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::Value;

use super::config::{Config, DEFAULT, Seed, Telling, Template};
use super::game::{Game, start_log};
use super::options::{CliError, LinkArguments, LogArguments, ServeOptions, Survives, TokenOptions};
use super::signals;
use crate::client::unix_time;
use crate::host::gateway::{Access, ShardConfig};
use crate::host::{HostKey, KeepOptions, Lobby, LogFormat, Logs, Server, ServerError, TickReport, TokenIssuer};
use crate::protocol::{EntityId, LinkConditions, LinkParseError, User, UserJoined};
use crate::room::{EntityIndex, Level, Recorded, RoomOptions};
use crate::store::Durability;

/// A flag that Ctrl-C, SIGTERM and SIGHUP set.
pub(super) fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = stop.clone();
    // It fails where it was set before, by an earlier verb in the same process; that one then keeps its own.
    let _ = ctrlc::set_handler(move || set.store(true, Ordering::Relaxed));
    stop
}

/// Who joined, if that is what a fact says.
pub(super) fn joined(fact: &str, json: &Value) -> Option<UserJoined> {
    (fact == "user_joined").then(|| UserJoined::deserialize(json).ok()).flatten()
}

/// Prints a line. A reader that closed its end, `head` for instance, stops nothing.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

pub(super) fn serve(game: &Game, options: &ServeOptions, log: &LogArguments) -> Result<(), CliError> {
    let telling = Telling::new(game, &options.flags, log, options.check);
    let config = telling.load()?.config;
    let logs = start_log(&config.log.filter, config.log.format)?;
    let story = Arc::new(AtomicBool::new(config.log.story));
    let reload = telling.has_file().then(|| log_again(telling, logs, (config.log.format, story.clone())));
    let stop = signals::watch(config.stop.within, reload)?;
    let mut server = Server::bind_threads(&shard_config(&config)?, config.limits, config.listen.gateway_threads.into())?;
    // Half of the time to say goodbye, half to write what is left.
    server.set_farewell(config.stop.within / 2);
    if let Some(conditions) = &config.link.conditions {
        let bad = |error: LinkParseError| CliError::Argument { what: "link.conditions".to_owned(), detail: error.to_string() };
        link(&mut server, conditions.parse().map_err(bad)?, config.link.seed);
    }
    open_rooms(game, &config, &mut server)?;
    let address = server.local_address().map_err(|error| CliError::Io { what: "the server's address".to_owned(), error })?;
    let rooms = server.lobby().room_names().collect::<Vec<_>>().join(", ");
    say(&format!("{} serves {rooms} on udp {address}", game.name));
    if config.listen.allow_unauthenticated {
        say("anybody may connect: players are not authenticated");
    }
    server.run(&stop, |room, report, lobby| {
        if story.load(Ordering::Relaxed) {
            tell_report(game, room, report, lobby);
        }
    });
    let kept = server.stop_keeping();
    let (host, gateway) = server.counters();
    let (late, skipped) = server.lateness();
    say(&format!(
        "stopped: {} joined, {} left, {} lost, {} commands, {} datagrams in, {} out; latest tick {late:?} late, {skipped} skipped",
        host.joined, host.left, host.timed_out, host.commands, gateway.datagrams_in, gateway.datagrams_out
    ));
    let given_up = kept.and_then(|kept| kept.given_up);
    given_up.map_or(Ok(()), |reason| Err(CliError::Lost(reason)))
}

/// Opens the rooms of the configuration, and those that were stored.
fn open_rooms(game: &Game, config: &Config, server: &mut Server) -> Result<(), CliError> {
    let mut rooms: Vec<(String, &Template)> = Vec::new();
    for room in &config.rooms {
        rooms.extend(config.templates.get(&room.template).map(|template| (room.name.clone(), template)));
    }
    let keep = keep_options(config);
    if let Some(keep) = &keep {
        let keeper = server.keep(keep)?;
        keeper.found().iter().for_each(|finding| say(&format!("found: {finding}")));
        let stored = keeper.stored()?.into_iter().filter(|header| header.forked_from.is_none()).map(|header| header.name);
        // What a stored room was made from is stored with it.
        let stored: Vec<String> = stored.filter(|name| !rooms.iter().any(|(known, _)| known == name)).collect();
        let default = config.templates.get(DEFAULT);
        rooms.extend(stored.into_iter().filter_map(|name| Some((name, default?))));
    }
    for (name, template) in &rooms {
        let options = room_options(name, template, keep.is_some())?;
        let seed = options.seed;
        match server.open_room(&game.blueprint, options) {
            // One room whose data is damaged keeps no other from being served.
            Err(ServerError::Keep(error)) if rooms.len() > 1 => {
                say(&format!("{name} is not served: {error}"));
                continue;
            }
            opened => opened?,
        }
        if let Some(capacity) = template.capacity {
            server.lobby_mut().set_capacity(name, capacity);
        }
        let tick = server.lobby().room(name).map_or(0, |room| room.tick_now().0);
        if tick > 0 {
            say(&format!("{name} goes on at {}, tick {tick}", room_time(tick)));
        } else if template.seed == Seed::Random {
            say(&format!("{name} begins with seed {seed}"));
        }
    }
    Ok(())
}

fn room_options(name: &str, template: &Template, kept: bool) -> Result<RoomOptions, CliError> {
    let seed = match template.seed {
        Seed::Fixed(seed) => seed,
        Seed::Random => HostKey::random()?.0.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes)),
    };
    Ok(RoomOptions {
        seed,
        level: template.level.as_ref().map(Level::open).transpose()?,
        // The ledger is to tell why anything changed.
        notes: template.notes || kept,
        check: template.check,
        deny_ambiguity: template.deny_ambiguity,
        ..RoomOptions::named(name)
    })
}

fn shard_config(config: &Config) -> Result<ShardConfig, CliError> {
    let listen = &config.listen;
    let access = match (&listen.key, listen.allow_unauthenticated) {
        (Some(path), _) => Access::Tokens(read_or_make_key(path)?),
        (None, true) => Access::Anybody,
        (None, false) => Access::Loopback,
    };
    Ok(ShardConfig { bind: listen.bind, public_addresses: listen.public_addresses.clone(), access, limits: config.gateway })
}

fn keep_options(config: &Config) -> Option<KeepOptions> {
    let mut options = KeepOptions::in_folder(config.store.data.as_ref()?);
    options.durability = match config.store.survives {
        Survives::ProcessCrash => Durability::ProcessCrash,
        Survives::PowerLoss => Durability::PowerLoss,
    };
    options.writer = config.store.writer;
    Some(options)
}

/// Reads the configuration again for what it says of the log. What is wrong in it changes nothing.
fn log_again(telling: Telling, logs: Logs, (format, story): (LogFormat, Arc<AtomicBool>)) -> signals::Reload {
    Box::new(move || match telling.load() {
        Err(error) => tracing::error!("the configuration was not read again: {error}"),
        Ok(loaded) => {
            let log = loaded.config.log;
            if log.format != format {
                tracing::warn!("another log.format counts only from the next start on");
            }
            story.store(log.story, Ordering::Relaxed);
            if let Err(error) = logs.set_filter(&log.filter) {
                tracing::error!("the log goes on as it was: {error}");
            }
        }
    })
}

/// Puts the simulated link before a server's socket, if one is asked for.
pub(super) fn link_server(server: &mut Server, arguments: &LinkArguments) {
    if let Some(conditions) = arguments.link {
        link(server, conditions, arguments.link_seed);
    }
}

fn link(server: &mut Server, conditions: LinkConditions, seed: u64) {
    say(&format!("a simulated link before each client: {conditions}, seed {seed}"));
    server.set_link(conditions, seed);
}

/// Prints the facts of a tick as lines of the story.
pub(super) fn tell_report(game: &Game, room: &str, report: &TickReport, lobby: &Lobby) {
    for fact in &report.facts {
        if let Some(line) = story_line(game, room, fact, lobby) {
            say(&line);
        }
    }
    if let Some(fault) = &report.fault {
        say(&format!("[{room}] {fault}"));
    }
}

/// A fact as a line of the story, with the room's time in front.
pub(super) fn story_line(game: &Game, room: &str, fact: &Recorded, lobby: &Lobby) -> Option<String> {
    let json = fact.to_json().unwrap_or_default();
    let who = |id: &str| {
        let id = EntityId::parse(id);
        let Some(world) = lobby.room(room).map(|room| room.world()) else { return id.to_string() };
        let index = world.resource::<EntityIndex>();
        let user = index.entity(id).and_then(|entity| world.get::<User>(entity));
        user.map_or_else(|| index.display(id), |user| user.name.clone())
    };
    let sentence = game.tell(&fact.name, &json, &who)?;
    Some(format!("{} {sentence}", room_time(fact.tick.0)))
}

/// A tick as minutes and seconds of room time.
pub(super) fn room_time(tick: u32) -> String {
    let tenths = tick / 2;
    format!("{:02}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
}

/// Reads a key, or makes one that only its owner can read.
pub(super) fn read_or_make_key(path: &Path) -> Result<HostKey, CliError> {
    let io = |error| CliError::Io { what: format!("the key file {}", path.display()), error };
    match std::fs::read_to_string(path) {
        Ok(text) => parse_key(&text).ok_or_else(|| CliError::Argument {
            what: format!("the key file {}", path.display()),
            detail: "it does not hold 64 hexadecimal digits".to_owned(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = HostKey::random()?;
            let text: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(path).and_then(|mut file| writeln!(file, "{text}")).map_err(io)?;
            Ok(key)
        }
        Err(error) => Err(io(error)),
    }
}

fn parse_key(text: &str) -> Option<HostKey> {
    let text = text.trim();
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).filter_map(|pair| Some(pair.first()? << 4 | pair.last()?)).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64).map(HostKey)
}

pub(super) fn token(options: &TokenOptions) -> Result<(), CliError> {
    let key = read_or_make_key(&options.key)?;
    let issuer = TokenIssuer { key, addresses: vec![options.server], expire_seconds: options.expires };
    let token = issuer.issue(EntityId::named(&options.player), &options.player, options.room.as_deref(), unix_time())?;
    let what = format!("the token file {}", options.out.display());
    std::fs::write(&options.out, token).map_err(|error| CliError::Io { what, error })?;
    say(&format!("a token for {} is in {}; it lets in once, within {} s", options.player, options.out.display(), options.expires));
    Ok(())
}
