//! What a host does besides: it looks after the store, after those who are in no room, and after rooms that nobody is in; and it obeys.

use std::sync::atomic::Ordering;

use super::{Ending, Host, Part, Place, Route};
use crate::host::bans::Ban;
use crate::host::berth::{Mail, RoomStatus};
use crate::host::clock::unix_time;
use crate::host::handle::Order;
use crate::protocol::{LeaveReason, Refusal, Speed};
use crate::store::Pressure;

impl Host {
    /// Bans a player, and puts it out of all rooms.
    fn ban(&mut self, ban: Ban) -> std::io::Result<()> {
        let there = self.routes.iter().filter(|(_, route)| route.visitor.player == ban.player);
        for (connection, route) in there {
            match route.room.as_ref().and_then(|(room, _)| self.places.get(room)) {
                Some(place) => place.berth.send(Mail::TurnAway(*connection, ban.refusal())),
                None => self.foyer.turn_away(*connection, LeaveReason::Kicked, &ban.refusal()),
            }
        }
        self.bans.add(ban, unix_time())
    }

    /// Ends rooms that nobody has been in for long, but for those that somebody lets stand still, or go slower or faster.
    pub(super) fn put_to_rest(&mut self) {
        let Some(after) = self.options.rest_after else { return };
        let is_kept = self.keeper.is_some();
        let may_rest = |place: &Place| {
            let can = !place.template_name.is_empty() && (is_kept || place.template.on_demand);
            // How a room does takes longer to ask than who was led there. One that is paused would wake without its pause, and any at full speed.
            let is_unused = |status: RoomStatus| {
                status.members == 0 && status.away == 0 && !status.is_paused && status.speed == Speed::FULL && status.empty_for >= after
            };
            can && place.visitors == 0 && is_unused(place.berth.status())
        };
        let rest: Vec<String> = self.places.iter().filter(|(_, place)| may_rest(place)).map(|(name, _)| name.clone()).collect();
        let ending = if is_kept { Ending::Rest } else { Ending::Close };
        for name in rest {
            self.end(&name, Refusal::RoomClosed("nobody was in it".to_owned()), ending);
        }
    }

    pub(super) fn attend_store(&mut self) {
        let has_lapsed = self.tell_the_directory();
        let Some(keeper) = &mut self.keeper else { return };
        let lost = keeper.lost();
        let places = &self.places;
        keeper.take_up(|room, incoming| {
            let place = places.get(room).filter(|place| place.ending.is_none());
            place.map(|place| place.berth.send(Mail::Push(incoming))).is_some()
        });
        let pressure = keeper.writer().pressure();
        self.weather.refusing.store(pressure > Pressure::Easy, Ordering::Relaxed);
        // Whoever may have lost its rooms must not show them to anybody.
        let full = pressure == Pressure::Full || has_lapsed;
        if self.weather.halted.swap(full, Ordering::Relaxed) != full {
            match full {
                true if has_lapsed => tracing::error!("leases may have run out; the rooms stand still"),
                true => tracing::error!(why = keeper.writer().failing(), "the store can't take any more; the rooms stand still"),
                false => tracing::warn!("the rooms go on"),
            }
        }
        // Of what is about to be opened this tells what it was before: whose it is now the directory says.
        let lost = lost.into_iter().filter(|room| self.places.contains_key(room)).map(|room| (room, None)).collect();
        self.lose(lost);
    }

    /// Tells those who are in no room what there is to tell them.
    pub(super) fn attend_foyer(&mut self) {
        self.tell_rooms();
        let (routes, outlet) = (&self.routes, &mut self.outlet);
        let closed = self.foyer.pump(|connection, own, shared| {
            if let Some(route) = routes.get(&connection) {
                outlet.send(route.thread, connection, &[own, shared]);
            }
        });
        for connection in closed {
            if let Some(route) = routes.get(&connection) {
                outlet.close(route.thread, connection);
            }
        }
        outlet.flush();
    }

    pub(super) fn obey(&mut self, order: Order) {
        // Who asked and is gone has no use for the answer.
        match order {
            Order::Rooms(answer) => drop(answer.send(self.rooms())),
            Order::Counters(answer) => drop(answer.send((self.connections(), self.counters()))),
            Order::Players(answer) => {
                let plays = |route: &&Route| route.room.as_ref().is_some_and(|(_, part)| *part == Part::Plays);
                drop(answer.send(self.routes.values().filter(plays).map(|route| route.visitor.player).collect()));
            }
            Order::Overview(answer) => drop(answer.send(self.overview())),
            Order::Survey(answer) => drop(answer.send((self.rooms(), self.overview()))),
            Order::Visitors(answer) => {
                drop(answer.send(self.routes.values().map(|route| (route.visitor.player, route.visitor.name.clone())).collect()));
            }
            Order::Open { room, template, answer } => self.open_by_order(&room, &template, answer),
            Order::Close { room, why, answer } => {
                self.wanted.remove(&room);
                // One at rest is not woken any more by who asks for it, but where anybody may create it.
                let has_rested = self.resting.remove(&room).is_some();
                let why = Refusal::RoomClosed(why);
                let was_to_be = self.let_be(&room, &why);
                if was_to_be {
                    self.written(&room);
                }
                let _ = answer.send(was_to_be || self.end(&room, why, Ending::Close) || has_rested);
            }
            Order::Delete { room, answer } => self.delete_by_order(&room, answer),
            Order::Mail { room, mail, answer } => {
                let place = self.places.get(&room).filter(|place| place.ending.is_none());
                let _ = answer.send(place.map(|place| place.berth.send(mail)).is_some());
            }
            Order::Ban(ban, answer) => drop(answer.send(self.ban(ban).map_err(|error| error.to_string()))),
            Order::Unban(player, answer) => drop(answer.send(self.bans.remove(player).map_err(|error| error.to_string()))),
            Order::Bans(answer) => drop(answer.send(self.bans.all(unix_time()))),
            Order::Keys(keys) => self.accept_keys(&keys),
            Order::Refuse => self.draining = true,
        }
    }
}
