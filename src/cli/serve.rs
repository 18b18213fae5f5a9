//! `serve`.

use std::any::Any;
use std::net::SocketAddr;
#[cfg(feature = "admin")]
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;

use super::config::{Config, Seed, Telling, Template};
use super::fleet::Fleet;
use super::game::{Game, start_log};
use super::options::{CliError, LinkArguments, LogArguments, ServeOptions, Survives};
use super::output::{room_time, say};
use super::signals;
#[cfg(feature = "admin")]
use super::token::make_key;
use super::token::{read_keys, read_or_make_keys};
#[cfg(feature = "admin")]
use crate::admin::{Admin, AdminKey, AdminOptions, KeyError, Tokens};
use crate::host::gateway::{Access, ShardConfig};
use crate::host::{
    self, Host, HostKey, HostOptions, KeepOptions, Keeper, Lobby, LogFormat, Logs, RoomInfo, Server, ServerError, ShareOptions, Tally,
    TickReport, TokenIssuer,
};
use crate::protocol::{EntityId, LinkConditions, LinkParseError, User, UserJoined};
use crate::room::{EntityIndex, Level, Recorded, RoomOptions};
#[cfg(feature = "nats")]
use crate::store::nats::NatsOptions;
use crate::store::{Durability, RoomHeader, place_for_people, share_at};

/// For how long a token lets in that nobody said it of, in seconds.
const TOKEN_SECONDS: u64 = 30;

/// Takes the keys that were read again.
type TakeKeys = Box<dyn Fn(Vec<HostKey>) + Send + Sync>;

/// Keys that were read again, for whoever takes them once the server has started.
#[derive(Default)]
struct NewKeys {
    take: Option<TakeKeys>,
    waiting: Option<Vec<HostKey>>,
}

/// What lets a server be looked into, until it is dropped.
type Looking = Option<Box<dyn Any>>;

/// Takes the key by which tokens are made.
type KeyOfTokens = Box<dyn Fn(HostKey) + Send + Sync>;

/// Who joined, if that is what a fact says.
pub(super) fn joined(fact: &str, json: &Value) -> Option<UserJoined> {
    (fact == "user_joined").then(|| UserJoined::deserialize(json).ok()).flatten()
}

pub(super) fn serve(game: &Game, options: &ServeOptions, log: &LogArguments) -> Result<(), CliError> {
    let telling = Telling::new(game, &options.flags, log, options.check);
    let mut config = telling.load()?.config;
    let logs = start_log(&config.log.filter, config.log.format)?;
    let story = Arc::new(AtomicBool::new(config.log.story));
    let new_keys = Arc::<Mutex<NewKeys>>::default();
    let begun = (config.log.format, config.listen.key.is_some());
    let reload = telling.has_file().then(|| read_again(telling, logs.clone(), begun, story.clone(), new_keys.clone()));
    let stop = signals::watch(config.stop.announce + config.stop.within, reload)?;
    let keys = config.listen.key.as_deref().map(read_or_make_keys).transpose()?.unwrap_or_default();
    Fleet::prepare(&mut config)?;
    let mut host = Host::bind(&shard_config(&config, &keys), host_options(&config))?;
    // Fewer may come where threads can't share a port.
    config.limits = *host.limits();
    host.accept_keys(&keys);
    if let Some(conditions) = &config.link.conditions {
        let bad = |error: LinkParseError| CliError::Argument { what: "link.conditions".to_owned(), detail: error.to_string() };
        let (conditions, seed) = (conditions.parse().map_err(bad)?, config.link.seed);
        say(&format!("a simulated link before each client: {conditions}, seed {seed}"));
        host.set_link(conditions, seed);
    }
    if let Some(bans) = &config.hosting.bans {
        host.keep_bans(bans).map_err(|error| CliError::Io { what: format!("the bans in {}", bans.display()), error })?;
    }
    let (telling, told) = (game.clone(), story);
    host.on_tick(Arc::new(move |room, report, lobby| {
        if told.load(Ordering::Relaxed) {
            tell_report(&telling, room, report, lobby);
        }
    }));
    let address = host.local_address().map_err(|error| CliError::Io { what: "the server's address".to_owned(), error })?;
    let rooms = open_rooms(game, &config, &mut host, address)?;
    let websocket = host.websocket_address().map_or_else(String::new, |address| format!(", and by WebSocket on tcp {address}"));
    say(&format!("{} serves {rooms} on udp {address}{websocket}", game.name));
    if config.listen.allow_unauthenticated {
        say("anybody may connect: players are not authenticated");
    }
    let tokens = keys.first().map(|key| TokenIssuer { key: *key, addresses: reached_at(&config, address), expire_seconds: TOKEN_SECONDS });
    let (admin, key_of_tokens) = administrate(game, &config, &mut host, logs, tokens)?;
    let handle = host.handle();
    let take: TakeKeys = Box::new(move |keys| {
        keys.first().into_iter().for_each(|key| key_of_tokens(*key));
        // A host that has stopped lets nobody in.
        let _ = handle.accept_keys(keys);
    });
    // Who changed them while the server started is not asked to say so again.
    change_keys(&new_keys, |new_keys| new_keys.take = Some(take));
    let fleet = Fleet::join(&config, host.handle())?;
    // Half of the time to say goodbye, half to write what is left.
    host.run(&stop, config.stop.within / 2);
    if host.ousted().is_some() {
        // No signal has set it a time, and a room that does not return from its game's code would keep it for ever.
        signals::end_after(config.stop.within);
    }
    drop(admin);
    let kept = host.stop_keeping();
    fleet.leave();
    let (Tally { counters: rooms, pace, .. }, (_, gateway)) = (host.totals(), host.counters());
    say(&format!(
        "stopped: {} joined, {} left, {} lost, {} commands, {} datagrams in, {} out; latest tick {:?} late, {} skipped",
        rooms.joined,
        rooms.left,
        rooms.timed_out,
        rooms.commands,
        gateway.datagrams_in,
        gateway.datagrams_out,
        pace.late.max(),
        pace.skipped
    ));
    what_came_of_it(host.ousted(), kept.and_then(|kept| kept.given_up))
}

/// How a server has ended: by why another process has its name, if one has, and by why it could not store what happened last, if so.
fn what_came_of_it(ousted: Option<&str>, given_up: Option<String>) -> Result<(), CliError> {
    let lost = given_up.map(CliError::Lost);
    let Some(why) = ousted else { return lost.map_or(Ok(()), Err) };
    let lost = lost.map_or_else(String::new, |lost| format!("; {lost}"));
    Err(CliError::Argument { what: "share.host".to_owned(), detail: format!("{why}{lost}") })
}

fn host_options(config: &Config) -> HostOptions {
    HostOptions {
        limits: config.limits,
        gateway_threads: config.listen.gateway_threads.into(),
        websocket: config.listen.websocket,
        room_threads: config.hosting.room_threads.into(),
        rest_after: config.hosting.rest_after,
        announce_stop: config.stop.announce,
    }
}

/// Opens the rooms of the configuration, and those that were stored. Gives their names, for people.
fn open_rooms(game: &Game, config: &Config, host: &mut Host, address: SocketAddr) -> Result<String, CliError> {
    for (name, template) in &config.templates {
        let mut made = host::Template::new(game.blueprint.clone(), room_options(name, template, config.store.data.is_some())?);
        (made.members_max, made.on_demand, made.listed) = (template.capacity, template.on_demand, template.listed);
        (made.fresh_seeds, made.delete_after) = (template.seed == Seed::Random, template.delete_after);
        host.template(name, made);
    }
    let rooms: Vec<(String, String)> = config.rooms.iter().map(|room| (room.name.clone(), room.template.clone())).collect();
    let mut stored: Vec<String> = Vec::new();
    if let Some(name) = &config.share.host {
        share(config, host, name, address)?;
    } else if let Some(keep) = keep_options(config) {
        let keeper = host.keep(&keep)?;
        keeper.found().iter().for_each(|finding| tell_found(finding));
        let unnamed = keeper.stored()?.into_iter().filter(|header| !rooms.iter().any(|(known, _)| *known == header.name));
        let (forks, others): (Vec<RoomHeader>, Vec<RoomHeader>) = unnamed.partition(|header| header.forked_from.is_some());
        stored = others.into_iter().map(|header| header.name).collect();
        if !forks.is_empty() {
            let names: Vec<&str> = forks.iter().map(|header| header.name.as_str()).collect();
            say(&format!("forks are not served unless they are named: {}", names.join(", ")));
        }
    }
    publish(config, host)?;
    let mut unserved = Vec::new();
    for (name, template) in &rooms {
        match host.open(name, template) {
            // One room whose data is damaged keeps no other from being served. Its name is its own: who asks for it has it tried again.
            Err(ServerError::Keep(error)) if rooms.len() + stored.len() > 1 => {
                tell_not_served(name, &error);
                host.rest(name, template.clone());
                unserved.push(error);
                continue;
            }
            opened => opened?,
        }
        let Some(room) = host.room(name) else { continue };
        if room.status.tick.0 > 0 {
            tell_where_it_goes_on(&room);
        } else if config.templates.get(template).is_some_and(|template| template.seed == Seed::Random) {
            say(&format!("{name} begins with seed {}", room.seed));
        }
    }
    for name in &stored {
        // Nobody asked for it here: whatever is wrong with it, or if there is no place for it, the others are served.
        match host.take_up(name) {
            Err(ServerError::Keep(error)) if rooms.is_empty() && stored.len() == 1 => return Err(ServerError::Keep(error).into()),
            Err(error) => tell_not_served(name, &error),
            Ok(()) => host.room(name).iter().for_each(tell_where_it_goes_on),
        }
    }
    let (resting, open): (Vec<RoomInfo>, Vec<RoomInfo>) = host.rooms().into_iter().partition(|room| room.is_resting);
    if !resting.is_empty() {
        say(&format!("{} stored rooms rest until somebody asks for them", resting.len()));
    }
    // Nobody finds a server healthy that has none of its rooms.
    let has_none = open.is_empty() && unserved.len() == rooms.len() && !config.templates.values().any(|template| template.on_demand);
    if let Some(error) = unserved.pop().filter(|_| has_none) {
        return Err(ServerError::Keep(error).into());
    }
    let open: Vec<String> = open.into_iter().map(|room| room.name).collect();
    // The place may be a database's address, with a password in it.
    let shared = || format!("what it is given of the rooms in {}", config.store.data.as_deref().map(place_for_people).unwrap_or_default());
    Ok(if config.share.host.is_some() { shared() } else { open.join(", ") })
}

/// Tells it the log too: that is what is looked at where nobody has the server before him.
fn tell_found(finding: &str) {
    tracing::warn!(finding, "found");
    say(&format!("found: {finding}"));
}

fn tell_not_served(room: &str, error: &dyn std::error::Error) {
    tracing::error!(room, %error, "a room is not served");
    say(&format!("{room} is not served: {error}"));
}

fn tell_where_it_goes_on(room: &RoomInfo) {
    let tick = room.status.tick.0;
    say(&format!("{} goes on at {}, tick {tick}", room.name, room_time(tick)));
}

/// Where players reach a server, as tokens say it.
fn reached_at(config: &Config, address: SocketAddr) -> Vec<SocketAddr> {
    let public = &config.listen.public_addresses;
    if public.is_empty() { vec![address] } else { public.clone() }
}

#[cfg(feature = "admin")]
fn admin_key(path: &Path) -> Result<AdminKey, CliError> {
    if !path.exists() {
        make_key(path)?;
    }
    let bad = |error: KeyError| CliError::Argument { what: format!("the key file {}", path.display()), detail: error.to_string() };
    AdminKey::read(path).map_err(bad)
}

/// Lets the server be looked into, if that is wanted; it ends when what is given is dropped. Beside it what tells it another key for tokens.
#[cfg(feature = "admin")]
fn administrate(
    game: &Game,
    config: &Config,
    host: &mut Host,
    logs: Logs,
    tokens: Option<TokenIssuer>,
) -> Result<(Looking, KeyOfTokens), CliError> {
    let Some(bind) = config.admin.bind else { return Ok((None, Box::new(|_| ()))) };
    let bad = |what: String, detail: String| CliError::Argument { what, detail };
    let mut options = AdminOptions::at(bind);
    options.key = config.admin.key.as_deref().map(admin_key).transpose()?;
    options.token_key = config.admin.token_key.as_deref().map(admin_key).transpose()?;
    let tokens = tokens.map(Tokens::new);
    options.tokens = tokens.clone();
    options.set_log = Some(Arc::new(move |filter| logs.set_filter(filter).map_err(|error| error.to_string())));
    let reader = host.keeper().map(|keeper| keeper.reader()).transpose()?;
    let admin = Admin::start(options, game.admin(), host.handle(), reader);
    let admin = admin.map_err(|error| bad("admin.bind".to_owned(), error.to_string()))?;
    say(&format!("look into it at http://{}", admin.address()));
    Ok((Some(Box::new(admin)), Box::new(move |key| tokens.iter().for_each(|tokens| tokens.use_key(key)))))
}

#[cfg(not(feature = "admin"))]
fn administrate(_: &Game, config: &Config, _: &mut Host, _: Logs, _: Option<TokenIssuer>) -> Result<(Looking, KeyOfTokens), CliError> {
    let detail = "this server was built without roomkeeper's feature `admin`".to_owned();
    let none: KeyOfTokens = Box::new(|_| ());
    config.admin.bind.map_or(Ok((None, none)), |_| Err(CliError::Argument { what: "admin.bind".to_owned(), detail }))
}

/// Publishes the facts of the rooms, if that is wanted.
#[cfg(feature = "nats")]
fn publish(config: &Config, host: &mut Host) -> Result<(), CliError> {
    let (Some(url), Some(keeper)) = (&config.nats.url, host.keeper()) else { return Ok(()) };
    let mut options = NatsOptions::at(url);
    (options.stream, options.prefix) = (config.nats.stream.clone(), config.nats.prefix.clone());
    options.credentials = config.nats.credentials.clone();
    options.last_words = config.stop.within / 4;
    keeper.publish(&options).map_err(|error| CliError::Argument { what: "nats".to_owned(), detail: error.to_string() })
}

#[cfg(not(feature = "nats"))]
fn publish(config: &Config, _: &mut Host) -> Result<(), CliError> {
    let detail = "this server was built without roomkeeper's feature `nats`".to_owned();
    config.nats.url.as_ref().map_or(Ok(()), |_| Err(CliError::Argument { what: "nats.url".to_owned(), detail }))
}

/// Shares rooms with other servers, by a database that all have.
fn share(config: &Config, host: &mut Host, name: &str, address: SocketAddr) -> Result<(), CliError> {
    let Some(keep) = keep_options(config) else { return Ok(()) };
    let listen = &config.listen;
    let reached = config.share.address.or_else(|| listen.public_addresses.first().copied()).unwrap_or(address);
    let (store, directory) = share_at(&keep.folder, name, &reached.to_string(), config.share.lease)?;
    // The thread that renews the leases asks it too.
    let stored = store.reader_within(config.share.lease / 4)?;
    let keeper = host.keep_by(Keeper::start(store, keep.writer)?);
    keeper.found().iter().for_each(|finding| tell_found(finding));
    let options = ShareOptions { host: name.to_owned(), renew_every: config.share.lease / 4 };
    Ok(host.share(directory, Some(stored), &options)?)
}

fn room_options(name: &str, template: &Template, kept: bool) -> Result<RoomOptions, CliError> {
    let seed = match template.seed {
        Seed::Fixed(seed) => seed,
        // Each room of the template gets another one.
        Seed::Random => 0,
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

fn shard_config(config: &Config, keys: &[HostKey]) -> ShardConfig {
    let listen = &config.listen;
    let access = match (keys.first(), listen.allow_unauthenticated) {
        (Some(key), _) => Access::Tokens(*key),
        (None, true) => Access::Anybody,
        (None, false) => Access::Loopback,
    };
    ShardConfig { bind: listen.bind, public_addresses: listen.public_addresses.clone(), access, limits: config.gateway }
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

/// Reads the configuration again for what it says of the log, and the keys. What is wrong in it changes nothing. Which format the log has, and whether there are
/// keys, is as it was at the start.
fn read_again(
    telling: Telling,
    logs: Logs,
    (format, has_keys): (LogFormat, bool),
    story: Arc<AtomicBool>,
    new_keys: Arc<Mutex<NewKeys>>,
) -> signals::Reload {
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
            if loaded.config.listen.key.is_some() != has_keys {
                let until_then = if has_keys { "only who has a token is let in" } else { "players are let in without tokens" };
                tracing::warn!("whether there is a listen.key counts only from the next start on: until then {until_then}");
                return;
            }
            let Some(path) = loaded.config.listen.key else { return };
            // A file that is gone makes no new key: nobody has that one, and who comes with a token of the old one would stay outside.
            match read_keys(&path) {
                Ok(keys) => change_keys(&new_keys, |new_keys| new_keys.waiting = Some(keys)),
                Err(error) => tracing::error!("the keys stay as they were: {error}"),
            }
        }
    })
}

/// Changes something about new keys, and has those taken that wait, if anybody takes them yet.
fn change_keys(new_keys: &Mutex<NewKeys>, change: impl FnOnce(&mut NewKeys)) {
    let mut locked = new_keys.lock().unwrap_or_else(PoisonError::into_inner);
    let new_keys = &mut *locked;
    change(new_keys);
    let Some(take) = &new_keys.take else { return };
    let Some(keys) = new_keys.waiting.take() else { return };
    let count = keys.len();
    take(keys);
    // Who reads this may have a token made at once, and it is to be by the new key.
    tracing::info!(keys = count, "the keys were read again");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_whose_name_another_process_has_says_also_what_it_could_not_store() {
        let said = |ousted: Option<&str>, given_up: Option<&str>| {
            let came = what_came_of_it(ousted, given_up.map(str::to_owned));
            came.map_err(|error| error.to_string()).err()
        };
        assert_eq!(said(None, None), None);
        assert_eq!(said(None, Some("no disk")).as_deref(), Some("what happened last could not be stored: no disk"));
        assert_eq!(said(Some("it is gone"), None).as_deref(), Some("share.host: it is gone"));
        let both = "share.host: it is gone; what happened last could not be stored: no disk";
        assert_eq!(said(Some("it is gone"), Some("no disk")).as_deref(), Some(both));
    }
}
