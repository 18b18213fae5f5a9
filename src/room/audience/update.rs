//! How the viewers are brought up to date: what was touched, who looks, what moved, who met, who sees.

use bevy_ecs::prelude::*;

use super::bits::ones;
use super::grid::{Cover, Eye};
use super::places::Places;
use super::rule::SpectatorsSee;
use super::subject::Subject;
use super::viewers::{Sight, Viewers, Work};
use crate::protocol::{ComponentAudience, NetId, Protocol};
use crate::room::index::EntityIndex;

/// Cells are so large, in reaches of the viewer in the middle. Small ones follow the circle closely, large ones are fewer.
const CELL_REACHES: f32 = 0.5;

impl Viewers {
    /// Brings all of it up to date. To be called once after each tick of the room, and of one room only.
    pub fn update(&mut self, world: &mut World) {
        self.seats.iter_mut().flat_map(|seat| seat.lists()).for_each(Vec::clear);
        self.seats.iter_mut().for_each(|seat| seat.rights_changed = false);
        self.work.clear();
        self.forget_the_released();
        let mut places = std::mem::take(&mut *world.get_resource_or_init::<Places>());
        let now = world.increment_change_tick();
        let since = self.since.replace(now);
        self.read_touched(world, &places, since.is_none());
        if let (Some(since), Some(source), false) = (since, &mut places.source, self.near.is_empty()) {
            let moved = &mut self.work.places;
            source.moved(world, since, now, moved);
        }
        self.move_subjects();
        let of_components = || world.resource::<Protocol>().components.iter().any(|entry| entry.audience != ComponentAudience::Everyone);
        // Where everything is for everyone, who looks does not matter.
        if self.any_restricted() || !self.work.dirty.is_empty() || of_components() {
            self.look(world, &places);
            self.choose_cells(places.dimensions);
            self.meet();
            self.decide();
            self.tell_owners();
        }
        *world.resource_mut::<Places>() = places;
        let mut index = world.resource_mut::<EntityIndex>();
        self.released.iter().for_each(|id| index.set_restricted(NetId(*id), false));
        for seat in &mut self.seats {
            seat.fresh = false;
            seat.lists().into_iter().for_each(|list| list.sort_unstable());
        }
    }

    /// What became public was told to all by the last update, and is the business of the batch for all from then on.
    fn forget_the_released(&mut self) {
        for id in self.released.drain(..) {
            let Some(subject) = self.subjects.get_mut(id as usize) else { continue };
            subject.restricted = false;
            self.restricted.put(id, false);
            (0..self.seats.len() as u32).for_each(|viewer| self.sight.seen.put(viewer, id, false));
        }
    }

    /// Reads the entities of which something changed, or all of them.
    fn read_touched(&mut self, world: &mut World, places: &Places, all: bool) {
        let mut touched = std::mem::take(&mut world.resource_mut::<EntityIndex>().touched);
        if all {
            let slots = world.resource::<EntityIndex>().slots.len() as u32;
            (0..slots).for_each(|id| touched.set(id));
        }
        for id in touched.iter() {
            self.read_subject(world, places, id);
        }
        touched.clear();
        world.resource_mut::<EntityIndex>().touched = touched;
    }

    fn read_subject(&mut self, world: &World, places: &Places, id: u32) {
        let now = Subject::read(world, world.resource::<EntityIndex>(), NetId(id));
        if self.subjects.len() <= id as usize {
            self.subjects.resize(id as usize + 1, Subject::NOBODY);
        }
        let Some(subject) = self.subjects.get_mut(id as usize) else { return };
        let before = std::mem::replace(subject, now.clone());
        let same = before.entity == now.entity;
        let stays = before.shown && now.shown && same;
        if before.shown && !stays {
            self.part(id, before.restricted, same && now.restricted);
        }
        if stays && now.restricted && !before.restricted {
            // All who were there saw it.
            let seats = self.seats.iter().zip(0..).filter(|(seat, _)| seat.taken && !seat.fresh);
            seats.for_each(|(_, viewer)| self.sight.seen.put(viewer, id, true));
        }
        if stays && before.owner != now.owner {
            self.work.owners.push((NetId(id), before.owner, now.owner));
        }
        if now.shown && now.restricted {
            self.work.dirty.push(id);
        }
        if now.restricted && !now.audience.is_restricted() && !now.dead {
            self.released.push(id);
        }
        self.restricted.put(id, now.shown && now.restricted);
        self.near.put(id, now.is_near());
        if now.is_near() {
            let place = places.source.as_ref().zip(world.get_entity(now.entity).ok());
            self.work.places.push((NetId(id), place.and_then(|(source, entity)| source.place(entity))));
        } else {
            self.sight.grid.take_out(id);
            self.sight.forget_who_is_near(id);
        }
    }

    /// Tells those who saw an entity that it is gone, unless the batch for all does.
    fn part(&mut self, id: u32, was_restricted: bool, is_restricted: bool) {
        self.sight.forget_who_is_near(id);
        let mut row = std::mem::take(&mut self.work.row);
        row.clear();
        row.extend_from_slice(self.sight.seen.row(id));
        for (seat, viewer) in self.seats.iter_mut().zip(0..) {
            let saw = match was_restricted {
                true => row.get(viewer as usize / 64).is_some_and(|word| word >> (viewer % 64) & 1 != 0),
                false => is_restricted && seat.taken && !seat.fresh,
            };
            if saw {
                seat.gone.push(NetId(id));
                self.sight.seen.put(viewer, id, false);
            }
        }
        self.work.row = row;
    }

    fn move_subjects(&mut self) {
        for (id, place) in &self.work.places {
            if !self.near.contains(id.get()) {
                continue;
            }
            match place {
                Some(place) => self.sight.grid.put(id.get(), *place),
                None => self.sight.grid.take_out(id.get()),
            }
            self.work.moved.push(id.get());
        }
    }

    /// Asks each viewer what it sees with.
    fn look(&mut self, world: &World, places: &Places) {
        let spectators = world.get_resource::<SpectatorsSee>().copied().unwrap_or_default();
        let sight = &mut self.sight;
        let eyes = sight.eyes.iter_mut().zip(&mut sight.masks);
        for ((seat, viewer), (eye, mask)) in self.seats.iter_mut().zip(0..).zip(eyes) {
            if !seat.taken {
                continue;
            }
            let (rights, looks) = seat.look(world, places, spectators);
            if seat.fresh || rights != seat.rights {
                (seat.rights, seat.rights_changed, *mask) = (rights, true, rights.mask);
                sight.everything.put(viewer, rights.everything);
                self.work.rights.push(viewer);
            }
            if looks != *eye {
                self.work.reach_changed |= looks.pad() != eye.pad();
                *eye = looks;
                self.work.turned.push((viewer, false));
            }
        }
        if self.people_changed || !self.work.rights.is_empty() {
            self.people_changed = false;
            let taken = self.seats.iter().zip(0..).filter(|(seat, _)| seat.taken);
            let (bodies, users) = (&mut sight.bodies, &mut sight.users);
            bodies.clear();
            users.clear();
            for (seat, viewer) in taken {
                bodies.extend(seat.rights.body.map(|body| (body, viewer)));
                users.extend(seat.user.map(|user| (user, viewer)));
            }
            bodies.sort_unstable();
            users.sort_unstable();
        }
    }

    /// Sees to it that cells suit the viewers, and that each viewer looks into the cells around it.
    fn choose_cells(&mut self, dimensions: usize) {
        let (sight, work) = (&mut self.sight, &mut self.work);
        let mut cell = sight.grid.cell();
        if work.reach_changed {
            work.pads.extend(sight.eyes.iter().filter(|eye| !eye.is_blind()).map(Eye::pad));
            let middle = work.pads.len() / 2;
            if middle < work.pads.len() {
                let (_, median, _) = work.pads.select_nth_unstable_by(middle, f32::total_cmp);
                cell = (*median * CELL_REACHES).max(1e-6);
            }
        }
        if sight.grid.suit(self.seats.len().div_ceil(64), dimensions, cell) {
            // Nobody looks anywhere now: what was in sight is no longer found where they look.
            work.turned.iter_mut().for_each(|(_, elsewhere)| *elsewhere = true);
            for (seat, viewer) in self.seats.iter_mut().zip(0..) {
                seat.cover = Cover::Nothing;
                seat.buckets.clear();
                if !work.turned.iter().any(|(turned, _)| *turned == viewer) {
                    work.turned.push((viewer, false));
                }
            }
        }
        for (viewer, elsewhere) in &mut work.turned {
            let (Some(seat), Some(eye)) = (self.seats.get_mut(*viewer as usize), sight.eyes.get(*viewer as usize)) else { continue };
            let cover = sight.grid.cover(eye);
            if cover != seat.cover {
                *elsewhere = true;
                sight.grid.watch(*viewer, &seat.buckets, false);
                sight.grid.buckets_of(cover, &mut seat.buckets);
                sight.grid.watch(*viewer, &seat.buckets, true);
                seat.cover = cover;
            }
        }
    }

    /// Finds out who is near what.
    fn meet(&mut self) {
        let work = &mut self.work;
        for id in &work.moved {
            self.sight.meet_entity(*id, &mut work.pairs);
        }
        for (viewer, elsewhere) in &work.turned {
            let Some(seat) = self.seats.get(*viewer as usize) else { continue };
            self.sight.meet_viewer(*viewer, *elsewhere, &seat.buckets, &mut work.changes, &mut work.pairs);
        }
    }

    /// Finds out who sees what, where that may have changed.
    fn decide(&mut self) {
        let mut row = std::mem::take(&mut self.work.row);
        for id in std::mem::take(&mut self.work.dirty) {
            self.decide_for_all(id, &mut row);
        }
        self.work.row = row;
        for viewer in std::mem::take(&mut self.work.rights) {
            for id in self.restricted.iter().collect::<Vec<_>>() {
                self.decide_for(viewer, id);
            }
        }
        let mut pairs = std::mem::take(&mut self.work.pairs);
        for (viewer, id) in &pairs {
            self.decide_for(*viewer, *id);
        }
        pairs.clear();
        self.work.pairs = pairs;
    }

    /// Asks an entity's rules for all viewers at once.
    fn decide_for_all(&mut self, id: u32, row: &mut Vec<u64>) {
        let Some(subject) = self.subjects.get(id as usize) else { return };
        self.sight.row_of(subject, id, row);
        let before = self.sight.seen.row(id).iter().copied().chain(std::iter::repeat(0));
        let changed: Vec<u64> = row.iter().zip(before).map(|(now, before)| now ^ before).collect();
        for viewer in ones(changed.into_iter()) {
            let sees = row.get(viewer as usize / 64).is_some_and(|word| word >> (viewer % 64) & 1 != 0);
            self.settle(viewer, id, sees);
        }
    }

    /// Asks an entity's rules for one viewer.
    fn decide_for(&mut self, viewer: u32, id: u32) {
        let (Some(subject), Some(seat)) = (self.subjects.get(id as usize), self.seats.get(viewer as usize)) else { return };
        if !subject.shown || !subject.restricted || !seat.taken {
            return;
        }
        let rights = &seat.rights;
        let admitted = subject.audience.admits(rights.mask) && (!subject.is_near() || self.sight.within.contains(viewer, id));
        let revealed = || seat.user.is_some_and(|user| subject.revealed.binary_search(&user).is_ok());
        let sees = admitted || rights.everything || subject.is_own(rights.body) || revealed();
        self.settle(viewer, id, sees);
    }

    fn settle(&mut self, viewer: u32, id: u32, sees: bool) {
        let Some(seat) = self.seats.get_mut(viewer as usize) else { return };
        if self.sight.seen.contains(viewer, id) != sees {
            self.sight.seen.put(viewer, id, sees);
            seat.tell(NetId(id), sees);
        }
    }

    /// Tells whose own an entity became or ceased to be.
    fn tell_owners(&mut self) {
        for (id, before, now) in std::mem::take(&mut self.work.owners) {
            for (owner, gained) in [(before, false), (now, true)] {
                let Some(owner) = owner else { continue };
                for viewer in self.sight.viewers_behind(owner) {
                    let seat = self.seats.get_mut(viewer as usize).filter(|seat| !seat.rights_changed);
                    // What is the user itself is its own in any case.
                    let itself = self.subjects.get(id.get() as usize).is_some_and(|subject| subject.entity == owner);
                    if let Some(seat) = seat.filter(|_| !itself) {
                        if gained { &mut seat.gained } else { &mut seat.lost }.push(id);
                    }
                }
            }
        }
    }
}

impl Work {
    fn clear(&mut self) {
        self.dirty.clear();
        self.moved.clear();
        self.places.clear();
        self.rights.clear();
        self.turned.clear();
        self.reach_changed = false;
        self.pairs.clear();
        self.owners.clear();
        self.changes.clear();
        self.pads.clear();
    }
}

impl Sight {
    fn forget_who_is_near(&mut self, id: u32) {
        if self.within.row(id).iter().any(|word| *word != 0) {
            let near: Vec<u32> = ones(self.within.row(id).iter().copied()).collect();
            near.into_iter().for_each(|viewer| self.within.put(viewer, id, false));
        }
    }

    /// An entity that moved meets those it was near, and those who look where it is.
    fn meet_entity(&mut self, id: u32, pairs: &mut Vec<(u32, u32)>) {
        let first = pairs.len();
        let place = self.grid.place(id);
        let (near, watchers) = (self.within.row(id), self.grid.watchers_of(id));
        let (near, watchers) = (near.iter().copied().chain(std::iter::repeat(0)), watchers.iter().copied().chain(std::iter::repeat(0)));
        for (((near, watching), eyes), start) in near.zip(watchers).zip(self.eyes.chunks(64)).zip((0..).step_by(64)) {
            let mut either = near | watching;
            while either != 0 {
                let nth = either.trailing_zeros();
                either &= either - 1;
                let was = near >> nth & 1 != 0;
                let is = place.zip(eyes.get(nth as usize)).is_some_and(|(place, eye)| eye.sees(place, was));
                if is != was {
                    pairs.push((start + nth, id));
                }
            }
        }
        for (viewer, id) in pairs.iter().skip(first) {
            self.within.flip(*viewer, *id);
        }
    }

    /// A viewer that looks from elsewhere meets what it was near, and what is where it looks. What moved has been met already, and meeting
    /// it twice gives the same.
    fn meet_viewer(&mut self, viewer: u32, elsewhere: bool, buckets: &[u32], changes: &mut Vec<(u32, bool)>, pairs: &mut Vec<(u32, u32)>) {
        let (Some(eye), Some(near)) = (self.eyes.get(viewer as usize), self.within.column(viewer)) else { return };
        changes.clear();
        if elsewhere {
            let left = near.iter().filter(|id| !self.grid.place(*id).is_some_and(|place| eye.sees(place, true)));
            changes.extend(left.map(|id| (id, false)));
        }
        let (eye, near) = (*eye, near.words());
        for bucket in buckets {
            for item in self.grid.items(*bucket) {
                let was = near.get(item.entity as usize / 64).is_some_and(|word| word >> (item.entity % 64) & 1 != 0);
                let is = eye.sees(&item.place, was);
                if is != was {
                    changes.push((item.entity, is));
                }
            }
        }
        for (id, is) in changes.iter() {
            self.within.put(viewer, *id, *is);
            pairs.push((viewer, *id));
        }
    }

    /// All who see a restricted entity, as bits.
    fn row_of(&self, subject: &Subject, id: u32, row: &mut Vec<u64>) {
        row.clear();
        if subject.audience.is_everyone() {
            row.extend_from_slice(self.there.words());
        } else {
            let admitted = |masks: &[u64]| {
                let admits = masks.iter().map(|mask| u64::from(subject.audience.admits(*mask)));
                admits.zip(0..).fold(0, |word, (admits, nth)| word | admits << nth)
            };
            row.extend(self.masks.chunks(64).map(admitted));
        }
        if subject.is_near() {
            let near = self.within.row(id).iter().copied().chain(std::iter::repeat(0));
            row.iter_mut().zip(near).for_each(|(word, near)| *word &= near);
        }
        row.iter_mut().zip(self.everything.words()).for_each(|(word, everything)| *word |= everything);
        let mut add = |viewer: u32| {
            if let Some(word) = row.get_mut(viewer as usize / 64) {
                *word |= 1 << (viewer % 64);
            }
        };
        self.viewers_behind(subject.entity).for_each(&mut add);
        subject.owner.into_iter().flat_map(|owner| self.viewers_behind(owner)).for_each(&mut add);
        for user in &subject.revealed {
            let start = self.users.partition_point(|(other, _)| other < user);
            self.users.iter().skip(start).take_while(|(other, _)| other == user).for_each(|(_, viewer)| add(*viewer));
        }
    }

    fn viewers_behind(&self, body: Entity) -> impl Iterator<Item = u32> + '_ {
        let start = self.bodies.partition_point(|(other, _)| *other < body);
        self.bodies.iter().skip(start).take_while(move |(other, _)| *other == body).map(|(_, viewer)| *viewer)
    }
}
