//! Agones: a host that is a game server of a fleet tells the sidecar beside it that it is ready, that it lives, what rooms and players it has.
//!
//! It speaks the sidecar's REST form (`sdk.proto` and `beta.proto` of Agones 1.61, by `google.api.http`), on the port that Agones puts into
//! `AGONES_SDK_HTTP_PORT`. The SDK's own crate is not used: it can only be built where `protoc` is installed.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::clock::instant;
use super::handle::{HostHandle, OrderError};

/// How often the sidecar is told and asked. Agones wants to hear something every 5 s by default.
const EVERY: Duration = Duration::from_secs(1);

/// How long an answer of the sidecar is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many players are told of at a time.
const PLAYERS_AT_ONCE: usize = 64;

/// After how many rounds `ready` is said again, if it did not become so.
const AGAIN_AFTER: u32 = 10;

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// How a host takes part in a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgonesOptions {
    /// The sidecar's port on this machine.
    pub port: u16,
    /// After which time without players a game server that was allocated is ready again for others. Without it, it stays as it is until it ends.
    pub ready_again_after: Option<Duration>,
    /// How many rooms it may have, for the counter `rooms`.
    pub rooms_max: usize,
    /// How many players, for the list `players`, of which Agones takes 1,000 at most.
    pub players_max: usize,
}

/// The port of the sidecar, if this process runs as a game server of a fleet.
pub fn sidecar_port() -> Option<u16> {
    std::env::var("AGONES_SDK_HTTP_PORT").ok()?.parse().ok()
}

/// Why the sidecar was not told, or not asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AgonesError {
    /// It can't be reached, or does not answer.
    #[error("the Agones sidecar on port {port} does not answer {path}: {error}")]
    Silent {
        /// Its port.
        port: u16,
        /// What was asked.
        path: String,
        /// What went wrong.
        error: Box<ureq::Error>,
    },
    /// It refused.
    #[error("the Agones sidecar answers {path} by {status}: {body}")]
    Refused {
        /// What was asked.
        path: String,
        /// The status.
        status: u16,
        /// What it says.
        body: String,
    },
    /// Its answer is none.
    #[error("the Agones sidecar's answer to {path} can't be read: {error}")]
    Malformed {
        /// What was asked.
        path: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// It was not told where players reach this server.
    #[error("the Agones sidecar has not said in {} s where players reach this server", .0.as_secs())]
    NoAddress(Duration),
    /// The system gives no thread.
    #[error("the thread that speaks with Agones can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the sidecar says of the game server.
#[derive(Debug, Default, Deserialize)]
struct GameServer {
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    state: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    addresses: Vec<MachineAddress>,
    #[serde(default)]
    ports: Vec<Port>,
}

/// One of the addresses that a machine has, as Kubernetes tells them: by which name of a kind.
#[derive(Debug, Deserialize)]
struct MachineAddress {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    address: String,
}

impl Status {
    /// The machine's number. Where machines have names `address` is one, and the numbers stand beside it.
    fn ip(&self) -> Option<IpAddr> {
        let of = |kind: &str| self.addresses.iter().filter(|one| one.kind == kind).find_map(|one| one.address.parse().ok());
        // One that has a name for the world is not reached from there by its number in the cluster.
        let is_public = self.addresses.iter().any(|one| one.kind == "ExternalDNS");
        self.address.parse().ok().or_else(|| of("ExternalIP")).or_else(|| of("InternalIP").filter(|_| !is_public))
    }
}

#[derive(Debug, Deserialize)]
struct Port {
    port: u16,
}

/// The sidecar.
#[derive(Debug)]
struct Sidecar {
    agent: ureq::Agent,
    port: u16,
}

impl Sidecar {
    fn new(port: u16) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).proxy(None).build();
        Self { agent: config.into(), port }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<String, AgonesError> {
        let silent = |error: ureq::Error| AgonesError::Silent { port: self.port, path: path.to_owned(), error: Box::new(error) };
        let body = body.map_or_else(String::new, Value::to_string);
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path}", self.port))
            .header("content-type", "application/json")
            .body(body)
            .map_err(|error| silent(error.into()))?;
        let mut answer = self.agent.run(request).map_err(silent)?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().map_err(silent)?;
        if status.is_success() {
            return Ok(body);
        }
        let body = body.chars().take(200).collect();
        Err(AgonesError::Refused { path: path.to_owned(), status: status.as_u16(), body })
    }

    fn game_server(&self) -> Result<GameServer, AgonesError> {
        let path = "/gameserver";
        let body = self.ask("GET", path, None)?;
        serde_json::from_str(&body).map_err(|error| AgonesError::Malformed { path: path.to_owned(), error })
    }
}

/// Where players reach this game server, as the cluster has it: the machine's address and the port that was chosen. Waits until it is known.
///
/// # Errors
/// If it is not known in time.
pub fn public_address(port: u16, patience: Duration) -> Result<SocketAddr, AgonesError> {
    let (sidecar, begun) = (Sidecar::new(port), instant());
    loop {
        let asked = sidecar.game_server();
        if let Ok(GameServer { status }) = &asked
            && let (Some(ip), Some(Port { port })) = (status.ip(), status.ports.first())
        {
            return Ok(SocketAddr::new(ip, *port));
        }
        if begun.elapsed() >= patience {
            return Err(asked.err().unwrap_or(AgonesError::NoAddress(patience)));
        }
        std::thread::sleep(EVERY.min(patience));
    }
}

/// How a host is, as far as a fleet wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    rooms: usize,
    players: BTreeSet<String>,
    draining: bool,
}

/// What the sidecar is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Health,
    Ready,
    Allocate,
    Draining,
    Rooms(usize),
    RoomsMax,
    PlayersMax,
    Came(String),
    Went(String),
}

/// Decides what the sidecar is told. It knows what it was told, and no clock but that of its rounds.
#[derive(Debug, Default)]
struct Steward {
    ready_again_after: Option<u32>,
    /// How many rounds ago `ready` was said.
    asked_ready: Option<u32>,
    /// For how many rounds it has been allocated and empty.
    empty_for: u32,
    rooms: Option<usize>,
    players: BTreeSet<String>,
    told_rooms_max: bool,
    told_players_max: bool,
    told_draining: bool,
    /// The fleet has no counter, or no list, of that name.
    no_rooms: bool,
    no_players: bool,
}

impl Steward {
    fn words(&mut self, state: &str, standing: &Standing) -> Vec<Word> {
        let mut words = vec![Word::Health];
        let is_allocated = state == "Allocated";
        self.empty_for = if is_allocated && standing.players.is_empty() { self.empty_for + 1 } else { 0 };
        match state {
            "Ready" if !standing.players.is_empty() => words.push(Word::Allocate),
            "Allocated" if self.ready_again_after.is_some_and(|after| self.empty_for > after) && !standing.draining => {
                words.push(Word::Ready);
            }
            "Ready" | "Allocated" | "Reserved" | "RequestReady" | "Shutdown" | "Unhealthy" | "Error" => {}
            // It has not been ready yet.
            _ if self.asked_ready.is_none_or(|ago| ago >= AGAIN_AFTER) && !standing.draining => words.push(Word::Ready),
            _ => self.asked_ready = self.asked_ready.map(|ago| ago + 1),
        }
        if standing.draining && !self.told_draining {
            words.push(Word::Draining);
        }
        if !self.no_rooms {
            words.extend((!self.told_rooms_max).then_some(Word::RoomsMax));
            words.extend((self.rooms != Some(standing.rooms)).then_some(Word::Rooms(standing.rooms)));
        }
        if !self.no_players {
            words.extend((!self.told_players_max).then_some(Word::PlayersMax));
            let went = self.players.difference(&standing.players).take(PLAYERS_AT_ONCE);
            words.extend(went.cloned().map(Word::Went));
            let came = standing.players.difference(&self.players).take(PLAYERS_AT_ONCE);
            words.extend(came.cloned().map(Word::Came));
        }
        words
    }

    /// Notes that something was said, and what came of it. What was not, because the sidecar fell silent before its turn came, is not noted. A refusal of
    /// what the fleet does not have is said once and not tried again.
    fn said(&mut self, word: &Word, outcome: &Result<(), AgonesError>) {
        let refused = match outcome {
            Ok(()) => None,
            Err(AgonesError::Refused { status, .. }) => Some(*status),
            // It is tried again in the next round.
            Err(_) => return,
        };
        match word {
            // Whoever allocates it from now on has as long as whoever did before.
            Word::Ready => (self.asked_ready, self.empty_for) = (Some(0), 0),
            Word::RoomsMax => self.told_rooms_max = true,
            Word::PlayersMax => self.told_players_max = true,
            _ => {}
        }
        // What is there already, or is not there, is as it was meant to be.
        match (word, refused) {
            (Word::Rooms(_) | Word::RoomsMax, Some(404)) => self.no_rooms = true,
            (Word::PlayersMax, Some(404)) => self.no_players = true,
            (Word::Rooms(rooms), None) => self.rooms = Some(*rooms),
            (Word::Came(player), None | Some(409)) => drop(self.players.insert(player.clone())),
            (Word::Went(player), _) => drop(self.players.remove(player)),
            (Word::Draining, None) => self.told_draining = true,
            _ => {}
        }
    }
}

/// A host's part in a fleet. It ends when it is dropped; [`stop`](Self::stop) says so to Agones.
#[derive(Debug)]
pub struct Agones {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    port: u16,
}

impl Agones {
    /// Tells the sidecar once a second that the host lives, as long as it answers; that it is ready; that it is allocated once somebody plays in
    /// it; how many rooms it has (counter `rooms`) and who plays (list `players`), where the fleet has these.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(options: &AgonesOptions, host: HostHandle) -> Result<Self, AgonesError> {
        let (stop, stops) = channel();
        let after = options.ready_again_after.map(|after| (after.as_millis() / EVERY.as_millis()).try_into().unwrap_or(u32::MAX));
        let steward = Steward { ready_again_after: after, ..Steward::default() };
        let (sidecar, maxima) = (Sidecar::new(options.port), (options.rooms_max, options.players_max));
        let work = move || attend(&sidecar, steward, maxima, &host, &stops);
        let thread = std::thread::Builder::new().name("agones".to_owned()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread), port: options.port })
    }

    /// Says that this game server ends: Agones puts another one in its place. To be called once all is stored, since the whole pod is ended then.
    ///
    /// # Errors
    /// If the sidecar does not take it.
    pub fn stop(mut self) -> Result<(), AgonesError> {
        self.end();
        Sidecar::new(self.port).ask("POST", "/shutdown", Some(&json!({}))).map(drop)
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Agones {
    fn drop(&mut self) {
        self.end();
    }
}

fn standing(host: &HostHandle) -> Result<Standing, OrderError> {
    let rooms = host.rooms()?.iter().filter(|room| !room.is_resting).count();
    let players = host.players()?.into_iter().map(|player| player.to_string()).collect();
    Ok(Standing { rooms, players, draining: host.overview()?.is_draining })
}

fn attend(sidecar: &Sidecar, mut steward: Steward, maxima: (usize, usize), host: &HostHandle, stops: &Receiver<()>) {
    let mut complained = None;
    loop {
        let told = match standing(host) {
            // A host that does not answer is not healthy: after some seconds without a word Agones replaces it.
            Err(error) => Err(error.to_string()),
            Ok(standing) => tell(sidecar, &mut steward, maxima, &standing).map_err(|error| error.to_string()),
        };
        if let Err(why) = told.as_ref()
            && complained.as_ref() != Some(why)
        {
            tracing::warn!("the fleet is not told how this server is: {why}");
        }
        complained = told.err();
        if stops.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Tells all there is to tell, and gives what went wrong first.
fn tell(
    sidecar: &Sidecar,
    steward: &mut Steward,
    (rooms_max, players_max): (usize, usize),
    standing: &Standing,
) -> Result<(), AgonesError> {
    let state = sidecar.game_server()?.status.state;
    let mut first = Ok(());
    for word in steward.words(&state, standing) {
        let (method, path, body) = match &word {
            Word::Health => ("POST", "/health", json!({})),
            Word::Ready => ("POST", "/ready", json!({})),
            Word::Allocate => ("POST", "/allocate", json!({})),
            Word::Draining => ("PUT", "/metadata/label", json!({ "key": "roomkeeper-draining", "value": "true" })),
            Word::Rooms(rooms) => ("PATCH", "/v1beta1/counters/rooms", json!({ "count": rooms.to_string() })),
            Word::RoomsMax => ("PATCH", "/v1beta1/counters/rooms", json!({ "capacity": rooms_max.to_string() })),
            Word::PlayersMax => ("PATCH", "/v1beta1/lists/players", json!({ "capacity": players_max.min(1_000).to_string() })),
            Word::Came(player) => ("POST", "/v1beta1/lists/players:addValue", json!({ "value": player })),
            Word::Went(player) => ("POST", "/v1beta1/lists/players:removeValue", json!({ "value": player })),
        };
        let outcome = sidecar.ask(method, path, Some(&body)).map(drop);
        steward.said(&word, &outcome);
        match &outcome {
            Err(error @ AgonesError::Refused { .. }) if word != Word::Health => tracing::debug!("{error}"),
            Err(AgonesError::Silent { .. }) => return outcome,
            _ => first = first.and(outcome),
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(players: &[&str]) -> Standing {
        Standing { rooms: 1, players: players.iter().map(|name| (*name).to_owned()).collect(), draining: false }
    }

    /// What is said in a state, all of which goes well.
    fn round(steward: &mut Steward, state: &str, standing: &Standing) -> Vec<Word> {
        let words = steward.words(state, standing);
        words.iter().for_each(|word| steward.said(word, &Ok(())));
        words.into_iter().filter(|word| *word != Word::Health).collect()
    }

    #[test]
    fn it_is_ready_once_then_allocated_while_somebody_plays_and_ready_again_after_a_while_alone() {
        let mut steward = Steward { ready_again_after: Some(3), ..Steward::default() };
        let first = round(&mut steward, "Scheduled", &with(&[]));
        assert_eq!(first, [Word::Ready, Word::RoomsMax, Word::Rooms(1), Word::PlayersMax]);
        for _ in 0..AGAIN_AFTER {
            assert_eq!(round(&mut steward, "Scheduled", &with(&[])), [], "it was said, and is not forgotten");
        }
        assert_eq!(round(&mut steward, "Scheduled", &with(&[])), [Word::Ready]);
        assert_eq!(round(&mut steward, "Ready", &with(&[])), []);
        assert_eq!(round(&mut steward, "Ready", &with(&["ann"])), [Word::Allocate, Word::Came("ann".to_owned())]);
        assert_eq!(round(&mut steward, "Allocated", &with(&["ann"])), []);
        assert_eq!(round(&mut steward, "Allocated", &with(&[])), [Word::Went("ann".to_owned())]);
        // Whoever allocated it may have players on their way.
        assert_eq!(round(&mut steward, "Allocated", &with(&[])), []);
        assert_eq!(round(&mut steward, "Allocated", &with(&[])), []);
        assert_eq!(round(&mut steward, "Allocated", &with(&[])), [Word::Ready]);
    }

    #[test]
    fn where_machines_have_names_their_numbers_count() {
        let ip = |json: &str| serde_json::from_str::<GameServer>(json).unwrap().status.ip().map(|ip| ip.to_string());
        let public = r#"{"status": {"address": "ec2-1-2-3-4.compute.amazonaws.com", "addresses": [
            {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "ExternalIP", "address": "1.2.3.4"},
            {"type": "ExternalDNS", "address": "ec2-1-2-3-4.compute.amazonaws.com"}]}}"#;
        assert_eq!(ip(public).as_deref(), Some("1.2.3.4"));
        assert_eq!(ip(r#"{"status": {"address": "5.6.7.8"}}"#).as_deref(), Some("5.6.7.8"));
        let private = r#"{"status": {"address": "ip-10-0-0-1.internal", "addresses": [
            {"type": "InternalDNS", "address": "ip-10-0-0-1.internal"}, {"type": "InternalIP", "address": "10.0.0.1"}]}}"#;
        assert_eq!(ip(private).as_deref(), Some("10.0.0.1"));
        assert_eq!(ip(r#"{"status": {"address": "somewhere"}}"#), None);
    }

    #[test]
    fn one_that_is_allocated_anew_as_soon_as_it_is_ready_again_waits_as_long_for_its_players() {
        let told = Steward { told_rooms_max: true, told_players_max: true, rooms: Some(1), ..Steward::default() };
        let mut steward = Steward { ready_again_after: Some(3), ..told };
        let mut said = || round(&mut steward, "Allocated", &with(&[]));
        assert_eq!([said(), said(), said()], [vec![], vec![], vec![]]);
        assert_eq!(said(), [Word::Ready]);
        // It was ready between two looks: players may be on their way.
        assert_eq!([said(), said(), said()], [vec![], vec![], vec![]]);
        assert_eq!(said(), [Word::Ready]);
    }

    #[test]
    fn one_that_drains_says_so_and_is_not_ready_again() {
        let mut steward =
            Steward { ready_again_after: Some(0), told_rooms_max: true, told_players_max: true, rooms: Some(1), ..Steward::default() };
        let draining = Standing { draining: true, ..with(&[]) };
        assert_eq!(round(&mut steward, "Allocated", &draining), [Word::Draining]);
        assert_eq!(round(&mut steward, "Allocated", &draining), []);
        assert_eq!(round(&mut steward, "Scheduled", &draining), []);
    }

    #[test]
    fn what_the_fleet_does_not_have_is_not_tried_again_and_what_was_not_heard_is() {
        let mut steward = Steward::default();
        let refused = || Err(AgonesError::Refused { path: String::new(), status: 404, body: String::new() });
        let silent = || Err(AgonesError::NoAddress(PATIENCE));
        let words = steward.words("Ready", &with(&["ann"]));
        for word in &words {
            steward.said(word, &if matches!(word, Word::Rooms(_) | Word::RoomsMax) { refused() } else { silent() });
        }
        let again = round(&mut steward, "Allocated", &with(&["ann"]));
        assert_eq!(again, [Word::PlayersMax, Word::Came("ann".to_owned())]);
    }

    #[test]
    fn what_was_not_said_because_the_sidecar_fell_silent_is_said_in_the_next_round() {
        let mut steward = Steward::default();
        let words = steward.words("Scheduled", &with(&[]));
        assert_eq!(words.first(), Some(&Word::Health));
        steward.said(&Word::Health, &Err(AgonesError::NoAddress(PATIENCE)));
        assert_eq!(steward.words("Scheduled", &with(&[])), words);
        assert_eq!(round(&mut steward, "Scheduled", &with(&[])), [Word::Ready, Word::RoomsMax, Word::Rooms(1), Word::PlayersMax]);
        assert_eq!(round(&mut steward, "Scheduled", &with(&[])), []);
    }
}
