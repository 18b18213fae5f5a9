//! `serve` and `token`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::Value;

use super::game::Game;
use super::options::{CliError, LinkArguments, ServeOptions, TokenOptions};
use crate::client::unix_time;
use crate::host::{HostKey, Lobby, Server, ServerError, TickReport, TokenIssuer};
use crate::protocol::{EntityId, User, UserJoined};
use crate::room::{EntityIndex, Recorded, RoomOptions};

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

pub(super) fn serve(game: &Game, options: &ServeOptions) -> Result<(), CliError> {
    let stop = stop_flag();
    let mut server = Server::bind_threads(&options.shard_config()?, options.limits(), options.gateway_threads.into())?;
    link_server(&mut server, &options.link);
    let mut first = options.room.room_options(game)?;
    let mut names: Vec<String> = std::iter::once(&options.room.room).chain(&options.also).cloned().collect();
    if let Some(keep) = options.keep_options() {
        // The ledger is to tell why anything changed.
        first.notes = true;
        let keeper = server.keep(&keep)?;
        keeper.found().iter().for_each(|finding| say(&format!("found: {finding}")));
        let stored = keeper.stored()?.into_iter().filter(|header| header.forked_from.is_none()).map(|header| header.name);
        let stored: Vec<String> = stored.filter(|name| !names.contains(name)).collect();
        names.extend(stored);
    }
    for name in &names {
        let opened = server.open_room(&game.blueprint, RoomOptions { name: name.clone(), ..first.clone() });
        match opened {
            // One room whose data is damaged keeps no other from being served.
            Err(ServerError::Keep(error)) if names.len() > 1 => {
                say(&format!("{name} is not served: {error}"));
                continue;
            }
            opened => opened?,
        }
        let tick = server.lobby().room(name).map_or(0, |room| room.tick_now().0);
        if tick > 0 {
            say(&format!("{name} goes on at {}, tick {tick}", room_time(tick)));
        }
    }
    let address = server.local_address().map_err(|error| CliError::Io { what: "the server's address".to_owned(), error })?;
    let rooms = server.lobby().room_names().collect::<Vec<_>>().join(", ");
    say(&format!("{} serves {rooms} on udp {address}", game.name));
    if options.allow_unauthenticated {
        say("anybody may connect: players are not authenticated");
    }
    server.run(&stop, |room, report, lobby| {
        if options.story {
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

/// Puts the simulated link before a server's socket, if one is asked for.
pub(super) fn link_server(server: &mut Server, arguments: &LinkArguments) {
    if let Some(conditions) = arguments.link {
        say(&format!("a simulated link before each client: {conditions}, seed {}", arguments.link_seed));
        server.set_link(conditions, arguments.link_seed);
    }
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
