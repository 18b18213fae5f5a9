//! `demo` and `bot`: bots that play over real UDP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::game::Game;
use super::options::{BotOptions, CliError, DemoOptions};
use super::output::{room_time, say};
use super::player::{Player, until};
use super::rooms::free_name;
use super::serve::{link_server, story_line};
use super::signals::stop_flag;
use super::system::instant;
use crate::client::{ConnectionState, Credentials, Replica, replica_state};
use crate::host::gateway::{Access, GatewayCounters, GatewayLimits, ShardConfig};
use crate::host::{HostCounters, HostLimits, KeepOptions, Lobby, Server};
use crate::protocol::{EntityId, Protocol, RoomTick, State};

/// How long a match goes on after it has ended, so that everybody sees the end.
const AFTERMATH: Duration = Duration::from_millis(1_500);

/// How long the links may take in the end to bring every replica what it lacks.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What the server's thread tells the others.
enum News {
    Line(String),
    Fact(String),
    Ended { tick: RoomTick, fact: String },
}

/// What each user's replica is to hold: all of the room, or what this one may know of it.
fn what_they_hold(lobby: &mut Lobby, room: &str) -> (RoomTick, BTreeMap<EntityId, State>) {
    let Some(open) = lobby.room(room) else { return Default::default() };
    let (tick, users): (RoomTick, Vec<EntityId>) = (open.tick_now(), open.members().iter().collect());
    let state = |user: EntityId| Some((user, lobby.connection_of(room, user).and_then(|connection| lobby.state_for(connection))?));
    (tick, users.into_iter().filter_map(state).collect())
}

/// What the server has to say in the end.
struct Outcome {
    /// All replicas were known to have everything.
    settled: bool,
    /// The room's last tick, and what each user is to hold of it.
    state: (RoomTick, BTreeMap<EntityId, State>),
    host: HostCounters,
    gateway: GatewayCounters,
    late: Duration,
    skipped: u64,
    /// Why what happened could not be kept, if it was to be.
    given_up: Option<String>,
}

pub(super) fn demo(game: &Game, options: &DemoOptions) -> Result<(), CliError> {
    let stop = stop_flag();
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = ShardConfig { bind, public_addresses: Vec::new(), access: Access::Loopback, limits: GatewayLimits::default() };
    let mut server = Server::bind(&config, HostLimits::default())?;
    link_server(&mut server, &options.link);
    let mut room_options = options.room.room_options(game)?;
    if let Some(folder) = &options.data {
        room_options.notes = true;
        let stored = server.keep(&KeepOptions::in_folder(folder))?.stored()?;
        // Each is a match of its own: one that is kept would go on, and may be over.
        room_options.name = free_name(&stored, &room_options.name);
    }
    let room = room_options.name.clone();
    server.open_room(&game.blueprint, room_options)?;
    let address = server.local_address().map_err(|error| CliError::Io { what: "the server's address".to_owned(), error })?;
    // Before it says that there is a match.
    drop(game.brain(0)?);
    say(&format!("{}: a match with {} bots over udp {address}, room {room}, seed {}", game.name, options.bots, options.room.seed));

    let over = AtomicBool::new(false);
    let (tell, news) = mpsc::channel();
    std::thread::scope(|scope| {
        let hosting = scope.spawn(|| host(game, &room, server, options.json, &over, &tell));
        let mut played = play(game, options, &room, address, &stop, &news);
        over.store(true, Ordering::Relaxed);
        // The bots rest. What is still on its way to them arrives.
        while !hosting.is_finished() {
            played.iter_mut().flat_map(|(players, ..)| players).for_each(|player| player.app.update());
            std::thread::sleep(Duration::from_millis(10));
        }
        let outcome = hosting.join().map_err(|_| CliError::Connection("the server's thread panicked".to_owned()))?;
        for line in news.try_iter().filter_map(|news| if let News::Line(line) = news { Some(line) } else { None }) {
            say(&line);
        }
        let (mut players, end, facts) = played?;
        let limit = (!stop.load(Ordering::Relaxed)).then_some(options.limit);
        summarize(&mut players, end, &facts, &outcome, limit)
    })
}

/// The server's thread.
fn host(game: &Game, room: &str, mut server: Server, json: bool, over: &AtomicBool, tell: &mpsc::Sender<News>) -> Outcome {
    let opening: Vec<_> = server.lobby().room(room).map(|room| room.opening().facts.clone()).unwrap_or_default();
    for fact in opening {
        let _ = tell.send(News::Fact(fact.name.to_string()));
    }
    while !over.load(Ordering::Relaxed) {
        let wait = server.round(&mut |room, report, lobby| {
            for fact in &report.facts {
                let line = match json {
                    true => Some(serde_json::json!({ "tick": fact.tick, "seq": fact.seq, "fact": &*fact.name, "data": fact.to_json().unwrap_or_default() }).to_string()),
                    false => story_line(game, room, fact, lobby),
                };
                // A receiver that is gone has stopped listening, which is its right.
                let _ = line.map(|line| tell.send(News::Line(line)));
                let _ = tell.send(News::Fact(fact.name.to_string()));
                if game.ends.iter().any(|end| *end == *fact.name) {
                    let _ = tell.send(News::Ended { tick: fact.tick, fact: fact.name.to_string() });
                }
            }
        });
        std::thread::sleep(wait.min(Duration::from_millis(10)));
    }
    let settled = server.settle(CATCH_UP);
    let state = what_they_hold(server.lobby_mut(), room);
    let given_up = server.stop_keeping().and_then(|kept| kept.given_up);
    let (host, gateway) = server.counters();
    let (late, skipped) = server.lateness();
    Outcome { settled, state, host, gateway, late, skipped, given_up }
}

type Played = (Vec<Player>, Option<(RoomTick, String)>, BTreeMap<String, u32>);

/// Lets the bots play until the match has ended, and tells the story meanwhile.
fn play(
    game: &Game,
    options: &DemoOptions,
    room: &str,
    address: SocketAddr,
    stop: &AtomicBool,
    news: &mpsc::Receiver<News>,
) -> Result<Played, CliError> {
    let mut players = Vec::new();
    for number in 1..=options.bots {
        let name = format!("bot{number}");
        let seed = options.room.seed.wrapping_mul(1_000).wrapping_add(u64::from(number));
        players.push(Player::connect(game, &Credentials::unauthenticated(address, &name), room, &name, seed)?);
    }
    let started = instant();
    let (mut next, mut end, mut ended_at) = (started, None, None::<Instant>);
    let mut facts: BTreeMap<String, u32> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) && started.elapsed() < Duration::from_secs(options.limit) {
        if ended_at.is_some_and(|at| at.elapsed() > AFTERMATH) {
            break;
        }
        for player in &mut players {
            player.play();
            if player.state().is_over() {
                return Err(CliError::Connection(format!("{}: {}", player.name, player.state())));
            }
        }
        for item in news.try_iter() {
            match item {
                News::Line(line) => say(&line),
                News::Fact(fact) => *facts.entry(fact).or_default() += 1,
                News::Ended { tick, fact } => {
                    end.get_or_insert((tick, fact));
                    ended_at.get_or_insert_with(instant);
                }
            }
        }
        until(&mut next);
    }
    Ok((players, end, facts))
}

/// Says how it ended, and whether every replica equals the room. `limit` is how long it was waited, in seconds; nothing if it was stopped.
fn summarize(
    players: &mut [Player],
    end: Option<(RoomTick, String)>,
    facts: &BTreeMap<String, u32>,
    outcome: &Outcome,
    limit: Option<u64>,
) -> Result<(), CliError> {
    let mut equal = 0;
    for player in players.iter_mut() {
        let (user, (tick, states)) = (player.app.world().resource::<Replica>().user(), &outcome.state);
        let state = replica_state(player.app.world_mut()).ok();
        let (Some(room), Some(replica)) = (states.get(&user), state) else { continue };
        let protocol = player.app.world().resource::<Protocol>();
        match room.difference(protocol, &replica) {
            None => equal += 1,
            Some(difference) => {
                let at = player.app.world().resource::<Replica>().tick();
                say(&format!("{} at tick {at} differs from the room at tick {tick}: {difference}", player.name));
            }
        }
    }
    say("");
    for (fact, count) in facts {
        say(&format!("{count:>6}  {fact}"));
    }
    let (host, gateway) = (outcome.host, outcome.gateway);
    say(&format!(
        "{} commands, {} batches sent, {} kB out, {} kB in; latest tick {:?} late, {} skipped",
        host.commands,
        host.batches,
        gateway.bytes_out / 1_000,
        gateway.bytes_in / 1_000,
        outcome.late,
        outcome.skipped
    ));
    say(&format!("{equal} of {} replicas equal the room", players.len()));
    if !outcome.settled {
        say(&format!("some had not come that far {} s after the end", CATCH_UP.as_secs()));
    }
    players.iter_mut().for_each(Player::hang_up);
    say(&how_it_ended(end, (equal, players.len()), outcome.given_up.as_deref(), limit)?);
    Ok(())
}

/// How it ended, in words, if all is well.
fn how_it_ended(
    end: Option<(RoomTick, String)>,
    (equal, of): (usize, usize),
    given_up: Option<&str>,
    limit: Option<u64>,
) -> Result<String, CliError> {
    if let Some(why) = given_up {
        return Err(CliError::Lost(why.to_owned()));
    }
    match (end, limit) {
        (Some(_), _) if equal < of => Err(CliError::Differ { differ: of - equal, of }),
        (Some((tick, fact)), _) => Ok(format!("the match ended with {fact} at {}", room_time(tick.0))),
        (None, Some(limit)) => Err(CliError::TimeUp(limit)),
        (None, None) => Err(CliError::Connection("it was stopped before the match had ended".to_owned())),
    }
}

pub(super) fn bot(game: &Game, options: &BotOptions) -> Result<(), CliError> {
    let stop = stop_flag();
    let mut players = Vec::new();
    for number in 1..=options.bots {
        let name = if number == 1 { options.name.clone() } else { format!("{}{number}", options.name) };
        players.push(Player::connect_by(game, &options.client, &name, number, u64::from(number))?);
    }
    let started = instant();
    let mut next = started;
    let limit = Duration::from_secs(if options.limit == 0 { u64::from(u32::MAX) } else { options.limit });
    let mut told = ConnectionState::Idle;
    while !stop.load(Ordering::Relaxed) && started.elapsed() < limit {
        for player in &mut players {
            player.play();
            match player.state() {
                ConnectionState::Refused(..) | ConnectionState::Broken(_) => {
                    return Err(CliError::Connection(format!("{}: {}", player.name, player.state())));
                }
                state if *state != told && player.name == options.name => {
                    say(&format!("{}: {state}", player.name));
                    told = state.clone();
                }
                _ => {}
            }
        }
        until(&mut next);
    }
    players.iter_mut().for_each(Player::hang_up);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_that_could_not_be_kept_or_was_stopped_has_not_ended_well() {
        let said = |ended: bool, given_up: Option<&str>, limit: Option<u64>| {
            let end = ended.then(|| (RoomTick(200), "level_won".to_owned()));
            how_it_ended(end, (3, 3), given_up, limit).map_err(|error| error.to_string())
        };
        assert_eq!(said(true, None, Some(300)).as_deref(), Ok("the match ended with level_won at 00:10.0"));
        assert_eq!(said(true, Some("no disk"), Some(300)).unwrap_err(), "what happened last could not be stored: no disk");
        assert_eq!(said(false, None, None).unwrap_err(), "it was stopped before the match had ended");
        assert_eq!(said(false, None, Some(300)).unwrap_err(), CliError::TimeUp(300).to_string());
    }
}
