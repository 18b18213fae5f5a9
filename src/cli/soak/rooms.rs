//! The server: rooms in which matches end and others begin, and what it counts.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::SoakOptions;
use super::sample::Sample;
use crate::cli::game::Game;
use crate::cli::options::{CliError, RoomArguments};
use crate::cli::system::{OTHER_FILES, instant};
use crate::host::gateway::{Access, GatewayLimits, ShardConfig, threads_for};
use crate::host::{Host, HostHandle, HostLimits, HostOptions, KeepOptions, Lobby, OrderError, Template, TickReport};
use crate::store::Pressure;

/// How many bots a process has at most: what one thread plays on the half of a core that a busy server leaves it.
const BOTS_PER_PROCESS: u32 = 500;

/// The same of bots that predict.
const PREDICTING_PER_PROCESS: u32 = 250;

/// Files that a bot has open at most: its socket, and one by which it asks whether anybody is there still.
const FILES_PER_BOT: u64 = 2;

/// How many more seats there are than bots in a room at a time, where they come and go: one that has just left is sometimes still counted.
const SLACK: f64 = 1.02;

/// How long a room goes on after its match has ended, so that everybody sees the end.
const AFTERMATH: Duration = Duration::from_secs(3);

/// How long it waits before it tries again to open a room.
const AGAIN: Duration = Duration::from_secs(1);

/// How long those who are there have to hear that it is over.
const FAREWELL: Duration = Duration::from_secs(5);

/// Some of the rooms, and the bots who play in them: those of one process, which ask for any room of one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) template: String,
    pub(super) rooms: u32,
    pub(super) bots: u32,
}

impl Part {
    /// How many seats a room has, so that those who are there at a time just fill all rooms: who wants any is led to the fullest that has a free seat. Who
    /// finds none asks again.
    fn seats(&self, stay: u32, away: u32) -> usize {
        let (stay, away) = (f64::from(stay), f64::from(away));
        let there = if stay > 0.0 { (stay / (stay + away) * SLACK).min(1.0) } else { 1.0 };
        (f64::from(self.bots) * there / f64::from(self.rooms)).ceil().max(1.0) as usize
    }
}

/// How many bots a process has at most that may have so many files open, if there is a limit.
pub(super) fn bots_per_process(predict: bool, files: Option<u64>) -> u32 {
    let by_thread = if predict { PREDICTING_PER_PROCESS } else { BOTS_PER_PROCESS };
    let by_files = files.map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES) / FILES_PER_BOT);
    by_thread.min(u32::try_from(by_files).unwrap_or(u32::MAX)).max(1)
}

/// As many parts as there are processes with bots, each of which has at most so many. Every part has a room.
pub(super) fn parts(rooms: u32, bots: u32, bots_max: u32) -> Vec<Part> {
    let count = bots.div_ceil(bots_max.max(1)).clamp(1, rooms.max(1));
    let share = |all: u32, number: u32| all / count + u32::from(number < all % count);
    let part = |number: u32| Part { template: format!("soak{}", number + 1), rooms: share(rooms, number), bots: share(bots, number) };
    (0..count).map(part).collect()
}

/// A host with its rooms.
pub(super) struct Rooms {
    host: Host,
    opened: Arc<AtomicU64>,
}

impl Rooms {
    /// Opens all rooms, which are kept in a folder if there is one.
    pub(super) fn open(game: &Game, options: &SoakOptions, parts: &[Part], data: Option<&Path>) -> Result<Self, CliError> {
        let config = ShardConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            public_addresses: Vec::new(),
            access: Access::Loopback,
            limits: GatewayLimits::default(),
        };
        let (bots, rooms) = (options.bots as usize, options.rooms as usize);
        // Who was cut off is connected for some seconds more, and a room that ends is there for a moment beside the one that takes its place.
        let limits = HostLimits { sessions_max: bots * 2, rooms_max: rooms * 2, ..HostLimits::default() };
        let mut host = Host::bind(&config, HostOptions { limits, gateway_threads: threads_for(bots), ..HostOptions::default() })?;
        if let Some(data) = data {
            host.keep(&KeepOptions::in_folder(data))?;
        }
        let room = RoomArguments { room: String::new(), level: options.level.clone(), seed: options.seed, notes: false, check: false };
        let room = room.room_options(game)?;
        let opened = Arc::new(AtomicU64::new(0));
        renew_when_over(game, &mut host, &opened)?;
        for part in parts {
            let mut template = Template::new(game.blueprint.clone(), room.clone());
            template.members_max = Some(part.seats(options.stay, options.away));
            template.fresh_seeds = true;
            host.template(&part.template, template);
            for _ in 0..part.rooms {
                host.open(&next_room(&part.template, &opened), &part.template)?;
            }
        }
        Ok(Self { host, opened })
    }

    pub(super) fn address(&self) -> Result<SocketAddr, CliError> {
        self.host.local_address().map_err(|error| CliError::Io { what: "the server's address".to_owned(), error })
    }

    /// Leads those who have come. To be called some times in 50 ms.
    pub(super) fn round(&mut self) {
        self.host.round();
    }

    /// What the host tells of a sample. How late ticks began is told once.
    pub(super) fn count(&mut self) -> Sample {
        let (late, totals) = (self.host.take_pace(|_| true).late, self.host.totals());
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let [p50_millis, p99_millis, max_millis] = [late.quantile(0.5), late.quantile(0.99), late.max()].map(millis);
        let mut count = Sample {
            p50_millis,
            p99_millis,
            max_millis,
            opened: self.opened.load(Ordering::Relaxed),
            joined: totals.counters.joined,
            skipped: totals.pace.skipped,
            ticks: late.count(),
            ..Sample::default()
        };
        for members in self.host.rooms().iter().map(|room| room.status.members) {
            count.rooms += 1;
            count.played += u64::from(members > 0);
            count.members += members as u64;
        }
        count
    }

    /// How many rooms have stopped because their game failed.
    pub(super) fn failed(&self) -> u64 {
        self.host.totals().counters.room_faults
    }

    /// Looks whether the rooms go on.
    ///
    /// # Errors
    /// If they stand still because the store can't take any more: what is measured then says nothing.
    pub(super) fn check(&mut self) -> Result<(), CliError> {
        let Some(keeper) = self.host.keeper() else { return Ok(()) };
        let writer = keeper.writer();
        match writer.pressure() {
            Pressure::Full => Err(CliError::Lost(writer.failing().unwrap_or_else(|| "the store is slower than the rooms".to_owned()))),
            _ => Ok(()),
        }
    }

    /// Ends all rooms, and writes what is left.
    ///
    /// # Errors
    /// If not everything could be stored.
    pub(super) fn end(&mut self) -> Result<(), CliError> {
        self.host.drain(FAREWELL);
        let given_up = self.host.stop_keeping().and_then(|kept| kept.given_up);
        given_up.map_or(Ok(()), |reason| Err(CliError::Lost(reason)))
    }
}

/// A name that no room of a template has had.
fn next_room(template: &str, opened: &AtomicU64) -> String {
    format!("{template}/{}", opened.fetch_add(1, Ordering::Relaxed) + 1)
}

/// Lets a room whose match is over be closed, and another one take its place: in one that stands still nothing is tried out. Where the game does not say what
/// ends a match, rooms go on.
fn renew_when_over(game: &Game, host: &mut Host, opened: &Arc<AtomicU64>) -> Result<(), CliError> {
    let ends = game.ends.clone();
    if ends.is_empty() {
        return Ok(());
    }
    let (tell, over) = channel();
    host.on_tick(Arc::new(move |room: &str, report: &TickReport, _: &Lobby| {
        if report.facts.iter().any(|fact| ends.iter().any(|end| *end == *fact.name)) {
            // Nobody listens any more once the server has stopped.
            let _ = tell.send((room.to_owned(), instant()));
        }
    }));
    let (handle, opened) = (host.handle(), opened.clone());
    let renewing = std::thread::Builder::new().name("renewing".to_owned()).spawn(move || renew(&handle, &over, &opened));
    renewing.map(drop).map_err(|error| CliError::Io { what: "the thread that opens rooms".to_owned(), error })
}

/// Takes the place of rooms that are over, one after the other, until the host is gone.
fn renew(handle: &HostHandle, over: &Receiver<(String, Instant)>, opened: &AtomicU64) {
    for (room, since) in over {
        std::thread::sleep(AFTERMATH.saturating_sub(since.elapsed()));
        let Some((template, _)) = room.split_once('/') else { continue };
        match handle.close(&room, "the match is over") {
            // One that tells of its end twice is gone by then.
            Err(OrderError::NoRoom(_)) => continue,
            Err(OrderError::Stopped) => return,
            // It is obeyed all the same, if nobody has answered yet.
            Ok(_) | Err(_) => {}
        }
        // There are to be as many rooms as before, however busy the host is now.
        loop {
            match handle.open(&next_room(template, opened), template) {
                Err(OrderError::Stopped) => return,
                // It is obeyed all the same: asked for once more, there would be a room too many for good.
                Ok(()) | Err(OrderError::NoAnswer) => break,
                Err(error) => tracing::warn!(%room, %error, "no other room takes its place yet"),
            }
            std::thread::sleep(AGAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_all_rooms_and_all_bots_and_none_has_too_many() {
        for (rooms, bots, most, processes) in [
            (300, 1_000, 500, 2),
            (300, 1_000, 480, 3),
            (300, 1_000, 250, 4),
            (2, 6, 500, 1),
            (1, 1_000, 500, 1),
            (2, 1_000, 250, 2),
            (7, 501, 500, 2),
            (300, 1, 500, 1),
            (2_048, 1_000, 500, 2),
        ] {
            let parts = parts(rooms, bots, most);
            assert_eq!(parts.len(), processes);
            assert_eq!(parts.iter().map(|part| part.rooms).sum::<u32>(), rooms);
            assert_eq!(parts.iter().map(|part| part.bots).sum::<u32>(), bots);
            assert!(parts.iter().all(|part| part.rooms > 0 && part.bots > 0), "{parts:?}");
            assert!(parts.iter().all(|part| part.bots <= most) || parts.len() == rooms as usize, "{parts:?}");
        }
    }

    #[test]
    fn no_process_has_more_bots_than_it_has_time_or_files_for() {
        assert_eq!((bots_per_process(false, None), bots_per_process(true, None)), (500, 250));
        assert_eq!((bots_per_process(false, Some(20_000)), bots_per_process(true, Some(20_000))), (500, 250));
        // A usual limit, where it can't be raised.
        assert_eq!((bots_per_process(false, Some(1_024)), bots_per_process(true, Some(1_024))), (480, 250));
        assert_eq!(bots_per_process(false, Some(10)), 1);
    }

    #[test]
    fn there_are_seats_for_all_who_are_there_at_a_time_and_hardly_more() {
        let seats = |rooms, bots, stay, away| Part { template: "soak1".to_owned(), rooms, bots }.seats(stay, away);
        // All stay.
        assert_eq!(seats(75, 250, 0, 3), 4);
        assert_eq!(seats(2, 6, 0, 0), 3);
        assert_eq!(seats(2, 6, 20, 0), 3);
        // Of 250 about 217 are there, of 500 about 435.
        assert_eq!(seats(75, 250, 20, 3), 3);
        assert_eq!(seats(150, 500, 20, 3), 3);
        assert_eq!(seats(2, 6, 2, 1), 3);
        assert_eq!(seats(100, 3, 20, 3), 1);
    }

    #[test]
    fn no_room_has_the_name_of_another() {
        let opened = AtomicU64::new(0);
        let names = [("soak1", "soak1/1"), ("soak1", "soak1/2"), ("soak2", "soak2/3")];
        assert!(names.iter().all(|(template, name)| next_room(template, &opened) == *name));
    }
}
