//! How rooms end, and with them the host.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Host;
use super::deleting::Deleting;
use super::share::Ask;
use crate::host::berth::Mail;
use crate::host::clock::instant;
use crate::host::keeper::Keeper;
use crate::host::session::ConnectionId;
use crate::protocol::Refusal;
use crate::store::WriterReport;

/// How long the thread that leads people sleeps at most. It is woken by the gateway, by orders, and by rooms that end.
const NAP_MAX: Duration = Duration::from_millis(20);

/// How long those who are in no room have to hear that the host stops.
const FAREWELL: Duration = Duration::from_millis(300);

/// Why a room was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nobody is in it; it may be woken again.
    Rest,
    /// Somebody wanted it, or the host stops.
    Close,
    /// Its game has failed.
    Fault,
    /// Its lease ran out: what is not stored of it does not count.
    Lost,
}

impl Host {
    /// Runs until `stop`, or until another process has the name by which this host [shares](Self::share) its rooms, so that none of them is its own any more;
    /// then rooms are told to end, and it returns once all have, or after so long. [`ousted`](Self::ousted) says which of both it was.
    pub fn run(&mut self, stop: &AtomicBool, within: Duration) {
        while !stop.load(Ordering::Relaxed) && self.ousted.is_none() {
            self.round();
            std::thread::park_timeout(NAP_MAX);
        }
        self.draining = true;
        let begun = instant();
        // Whose rooms are another one's has nobody left who could play on meanwhile.
        while begun.elapsed() < self.options.announce_stop && self.ousted.is_none() {
            self.round();
            std::thread::park_timeout(NAP_MAX);
        }
        self.drain(within);
    }

    /// Refuses newcomers, tells all who are there that the host stops, and waits until all rooms have ended, or for so long. True if all have.
    pub fn drain(&mut self, within: Duration) -> bool {
        self.draining = true;
        self.open_no_more();
        self.let_strangers_go();
        let begun = instant();
        // Where another host takes rooms over, they are written and given back first: players go on there.
        let mut hands_over = self.keeper.is_some() && self.sharing.as_ref().is_some_and(|sharing| sharing.peer().is_some());
        if hands_over {
            let open = self.places.values().filter(|place| place.ending.is_none());
            open.for_each(|place| place.berth.send(Mail::HandOver));
        } else {
            self.shut_down_rooms(true);
        }
        let mut are_told = !hands_over;
        while !self.places.is_empty() && begun.elapsed() < within {
            // Where the store or the directory fails a room is never given back, and who is in it would hear nothing at all.
            if hands_over && begun.elapsed() >= within / 2 {
                hands_over = false;
                self.shut_down_rooms(false);
            }
            // Those that are written may be another's at any moment, and then it is said where.
            if !are_told && begun.elapsed() >= within / 4 * 3 {
                are_told = true;
                self.shut_down_rooms(true);
            }
            self.round();
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let all_ended = self.places.is_empty();
        self.say_goodbye();
        self.weather.complaints.tell(Duration::MAX);
        all_ended
    }

    /// Ends the rooms that were not told to end yet, those that are about to be given away too or not. Those who are in them can go on nowhere: the rooms are
    /// still this host's.
    fn shut_down_rooms(&mut self, given_too: bool) {
        let given = self.sharing.as_ref().map(|sharing| &sharing.given).filter(|_| !given_too);
        let is_kept = |name: &String| given.is_some_and(|given| given.contains(name));
        for (_, place) in self.places.iter_mut().filter(|(name, place)| place.ending.is_none() && !is_kept(name)) {
            place.ending = Some(Ending::Close);
            place.berth.send(Mail::End(Refusal::ShuttingDown));
        }
    }

    /// Tells those who are in no room that the host stops: who has not said yet which one it wants, and who waits for one.
    pub(super) fn let_strangers_go(&mut self) {
        let (why, foyer) = (self.farewell(), &self.foyer);
        let strangers = self.routes.iter_mut().filter(|(connection, route)| route.room.is_none() && foyer.may_ask(**connection));
        let strangers: Vec<ConnectionId> = strangers
            .map(|(connection, route)| {
                route.waits = None;
                *connection
            })
            .collect();
        strangers.into_iter().for_each(|connection| self.send_away(connection, &why));
    }

    /// Lets those who are in no room hear that the host stops.
    fn say_goodbye(&mut self) {
        let begun = instant();
        // Those who came since others were told, and wanted none of the rooms.
        self.let_strangers_go();
        while !self.routes.is_empty() && begun.elapsed() < FAREWELL {
            self.round();
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Writes what is to be kept and stops keeping.
    pub fn stop_keeping(&mut self) -> Option<WriterReport> {
        // What is being built is let be. It is waited for once all is written: its reading may take long.
        self.open_no_more();
        self.deleting = Deleting::default();
        let report = self.keeper.take().map(Keeper::stop);
        drop(self.opener.take());
        // Now that everything is written, others may have what is left.
        drop(self.sharing.take());
        report
    }

    /// A room's game has failed: it ends by itself.
    pub(super) fn failed(&mut self, name: &str) {
        if let Some(place) = self.places.get_mut(name) {
            place.ending.get_or_insert(Ending::Fault);
        }
    }

    /// A room has ended: by order, by its game's fault, or because nobody was in it.
    pub(super) fn ended(&mut self, name: &str, written: bool) {
        let Some(place) = self.places.remove(name) else { return };
        self.ended.add(&place.berth.status());
        if let Some(sharing) = self.sharing.as_ref().filter(|sharing| sharing.holds(name)) {
            if place.ending == Some(Ending::Lost) {
                // Nobody else was there to take it: it is this host's again, by a new lease.
                self.is_given(name.to_owned());
            } else if written {
                // Otherwise the writer still has something of it to write, and who wants the room is to come here.
                sharing.ask(Ask::Release(name.to_owned()));
            }
        }
        let has_failed = place.ending == Some(Ending::Fault) && self.keeper.is_some() && self.sharing.is_none();
        if has_failed {
            // Whoever asks for it again has it go on from what is stored, and it may fail at once: not as often as somebody asks.
            self.put_off(name);
        }
        // One that nobody could make anew would be gone until the host is.
        let is_only = || !place.template_name.is_empty() && self.template_for_new(name).is_none();
        if (place.ending == Some(Ending::Rest) && self.sharing.is_none()) || (has_failed && is_only()) {
            tracing::info!(room = name, "at rest");
            self.rest(name, place.template_name);
        }
        let there = self.routes.iter_mut().filter(|(_, route)| route.room.as_ref().is_some_and(|(room, _)| room == name));
        for (connection, route) in there {
            // Who is still here came too late for its last words. It hears that the connection is over; who was in a room before asks again.
            route.room = None;
            self.outlet.close(route.thread, *connection);
        }
        self.outlet.flush();
        self.take_waiting(name).into_iter().for_each(|(connection, wait)| self.knock(connection, wait.hello));
    }

    pub(super) fn end(&mut self, name: &str, why: Refusal, ending: Ending) -> bool {
        let Some(place) = self.places.get_mut(name) else { return false };
        if place.ending.is_some() && ending != Ending::Lost {
            return false;
        }
        place.ending = Some(ending);
        place.berth.send(if ending == Ending::Lost { Mail::Lose(why) } else { Mail::End(why) });
        true
    }
}
