//! The process with the clients: `capacity-clients`, which `capacity` starts.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::cli::beat::{Beat, FRAME_BEATS, TICK_BEATS};
use crate::cli::game::Game;
use crate::cli::options::CliError;
use crate::cli::output::say;
use crate::cli::player::Player;
use crate::cli::system::{instant, until_input_ends};
use crate::client::{ConnectionState, Credentials, LinkStatus, Receiver, UdpLink, unix_time};
use crate::host::process::processor;
use crate::host::{Priority, give_way};
use crate::protocol::{ClientMessage, Fingerprint, ServerMessage};

/// How often there is news.
const NEWS_EVERY: Duration = Duration::from_millis(200);

/// How often a listener's transport acknowledges, a little less than a tick.
const FLUSH_EVERY: Duration = Duration::from_millis(45);

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ClientsOptions {
    /// The server.
    #[arg(long)]
    pub(super) server: SocketAddr,
    /// How many rooms.
    #[arg(long)]
    pub(super) rooms: u32,
    /// How many members each.
    #[arg(long)]
    pub(super) members: u32,
    /// One member of so many plays; 0 for none.
    #[arg(long)]
    pub(super) bot_every: u32,
}

/// What the process with the clients says, a line of JSON at a time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct News {
    /// When, in microseconds since it started.
    pub(super) at: u64,
    /// How many clients have their room's snapshot and are connected.
    pub(super) live: u32,
    /// How many were refused or lost.
    pub(super) lost: u32,
    /// Why the first of them was.
    pub(super) why: String,
    /// What it had of the processor, in microseconds.
    pub(super) cpu: Option<u64>,
}

/// The name of a room, as both processes know it.
pub(super) fn room_name(number: u32) -> String {
    format!("room{number}")
}

/// A member that receives and reports but keeps no replica.
struct Listener {
    link: UdpLink,
    receiver: Receiver,
    room: String,
    greeted: bool,
    live: bool,
    flushed: Duration,
    over: Option<String>,
}

impl Listener {
    fn connect(server: SocketAddr, room: String, name: &str) -> Result<Self, CliError> {
        let link = UdpLink::connect(&Credentials::unauthenticated(server, name), unix_time())?;
        let receiver = Receiver::default();
        Ok(Self { link, receiver, room, greeted: false, live: false, flushed: Duration::ZERO, over: None })
    }

    fn look(&mut self, fingerprint: Fingerprint) {
        if self.over.is_none()
            && let Err(why) = self.try_look(fingerprint)
        {
            (self.over, self.live) = (Some(why), false);
        }
    }

    fn try_look(&mut self, fingerprint: Fingerprint) -> Result<(), String> {
        let now = unix_time();
        self.link.receive(now);
        while let Some(packet) = self.link.next_packet() {
            for message in self.receiver.take(now, &packet).map_err(|error| error.to_string())? {
                match ServerMessage::decode(&message).map_err(|error| error.to_string())? {
                    ServerMessage::Refused(refusal) => return Err(refusal.to_string()),
                    ServerMessage::Chunk(chunk) => {
                        let piece = if chunk.packed == 0 { chunk.bytes.len() } else { chunk.packed };
                        self.live |= chunk.at + piece == chunk.size;
                    }
                    _ => {}
                }
            }
        }
        match self.link.status() {
            LinkStatus::Connecting => return Ok(()),
            LinkStatus::Disconnected(reason) => return Err(reason),
            LinkStatus::Connected if self.greeted => {}
            LinkStatus::Connected => {
                self.greeted = true;
                let hello = ClientMessage::Hello { fingerprint, room: self.room.clone(), spectate: false, resume: None };
                self.link.send(hello.encode()).map_err(|error| error.to_string())?;
            }
        }
        if let Some(report) = self.receiver.next_report(now) {
            self.link.send_packet(&report);
        }
        if now.saturating_sub(self.flushed) >= FLUSH_EVERY {
            self.flushed = now;
            self.link.flush();
        }
        Ok(())
    }
}

/// All clients of the process.
struct Crowd<'a> {
    game: &'a Game,
    options: &'a ClientsOptions,
    fingerprint: Fingerprint,
    listeners: Vec<Listener>,
    bots: Vec<Player>,
}

impl Crowd<'_> {
    /// Lets one more client connect. It takes turns with the rooms, so that they fill alike.
    fn grow(&mut self, number: u32) -> Result<(), CliError> {
        let (rooms, every) = (self.options.rooms, self.options.bot_every);
        let (room, seat) = (room_name(number % rooms), number / rooms);
        let (name, server) = (format!("member{number}"), self.options.server);
        if every > 0 && seat.is_multiple_of(every) {
            self.bots.push(Player::connect(self.game, &Credentials::unauthenticated(server, &name), &room, &name, u64::from(number))?);
        } else {
            self.listeners.push(Listener::connect(server, room, &name)?);
        }
        Ok(())
    }

    /// Those whose turn it is have it.
    fn take_turns(&mut self, beat: &Beat) {
        let fingerprint = self.fingerprint;
        // Who only listens looks about as often as a game draws.
        beat.turns(&mut self.listeners, FRAME_BEATS).for_each(|listener| listener.look(fingerprint));
        beat.turns(&mut self.bots, TICK_BEATS).for_each(Player::play);
    }

    fn news(&self, at: Duration) -> News {
        let cpu = processor().map(|time| time.as_micros() as u64);
        let mut news = News { at: at.as_micros() as u64, cpu, ..News::default() };
        let listeners = self.listeners.iter().map(|listener| (listener.live, listener.over.clone()));
        let bots = self.bots.iter().map(|bot| match bot.state() {
            ConnectionState::Live | ConnectionState::Degraded => (true, None),
            state @ (ConnectionState::Refused(..) | ConnectionState::Broken(_)) => (false, Some(state.to_string())),
            ConnectionState::Idle | ConnectionState::Connecting | ConnectionState::Joining(_) | ConnectionState::Reconnecting(_) => {
                (false, None)
            }
        });
        for (live, over) in listeners.chain(bots) {
            news.live += u32::from(live);
            if let Some(why) = over {
                news.lost += 1;
                news.why = if news.why.is_empty() { why } else { news.why };
            }
        }
        news
    }
}

/// Keeps the clients until the standard input ends.
pub(in crate::cli) fn clients(game: &Game, options: &ClientsOptions) -> Result<(), CliError> {
    let stop = until_input_ends();
    let fingerprint = game.protocol().fingerprint();
    let mut crowd = Crowd { game, options, fingerprint, listeners: Vec::new(), bots: Vec::new() };
    let (wanted, started) = (options.rooms * options.members, instant());
    let (mut count, mut beat, mut told, mut all_in) = (0, Beat::begin(), None::<Duration>, false);
    while !stop.load(Ordering::Relaxed) {
        if count < wanted && beat.lets_in() {
            crowd.grow(count)?;
            count += 1;
        }
        crowd.take_turns(&beat);
        let now = started.elapsed();
        if told.is_none_or(|told| now >= told + NEWS_EVERY) {
            told = Some(now);
            let news = crowd.news(now);
            say(&serde_json::to_string(&news).unwrap_or_default());
            if news.live == wanted && !std::mem::replace(&mut all_in, true) {
                give_way(Priority::Players);
            }
        }
        beat.wait();
    }
    crowd.listeners.iter_mut().for_each(|listener| listener.link.disconnect());
    crowd.bots.iter_mut().for_each(Player::hang_up);
    Ok(())
}
