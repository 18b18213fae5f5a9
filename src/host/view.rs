//! Who knew what: what a member of a room, or a spectator, had been told by a tick.
//!
//! No log is kept of what each member was sent. A room is deterministic and what came in is stored, so the room is run again with one
//! more pair of eyes: they look from the tick in which the member came, are told what the lobby would have told them, by the same code,
//! and take it at once. What they hold then is what the member had been told, with the memory that `near` has of who was near.
//!
//! What depends on the way is not in it: what was lost, or late, or put off because the way was narrow, counts as told.

use std::collections::BTreeSet;

use thiserror::Error;

use super::keeper::KeepError;
use super::lobby::{share_out, work_out};
use super::rerun::{Again, AgainTick};
use crate::protocol::{EntityId, Incoming, NetId, PartSource, Protocol, RoomTick, State, StateError, Taken, Verdict, Versions};
use crate::room::{Beholder, Blueprint, Outbox, PrivateWriter, Room, RoomError, RoomFault, ToldReferences, ViewerId, Viewers};
use crate::store::{Archive, StoreError};

/// How many ticks are read at once, backwards.
const TICKS_AT_ONCE: u32 = 600;

/// Why it can't be told what somebody had been told.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ViewError {
    /// What is stored can't be read, or the room can't be built.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// What was told can't be taken: a fault of this library.
    #[error("what was told does not follow from what was told before: {0}")]
    State(#[from] StateError),
    /// The user was not in the room.
    #[error("{user} was not in room {room:?} at tick {tick}: {}", stays_in_words(.stays))]
    NotThere {
        /// Who.
        user: EntityId,
        /// The room.
        room: String,
        /// The tick.
        tick: RoomTick,
        /// The ticks in which it came, and those in which it left, as far as the ledger is kept.
        stays: Vec<(Option<RoomTick>, Option<RoomTick>)>,
    },
    /// The user's seat was kept for it after the end of a process, but its client had not come back yet.
    #[error(
        "{user} had no connection at tick {tick}: room {room:?} went on in another process after tick {since}, and it had not come back"
    )]
    Away {
        /// Who.
        user: EntityId,
        /// The room.
        room: String,
        /// The tick.
        tick: RoomTick,
        /// The last tick of the process that it had been connected to.
        since: RoomTick,
    },
    /// The user came before what is kept begins.
    #[error("{user} came to room {room:?} before tick {first}, where what is kept begins: what it was told since then can't be worked out")]
    NotKept {
        /// Who.
        user: EntityId,
        /// The room.
        room: String,
        /// The first tick that is kept.
        first: RoomTick,
    },
    /// The room does not run again as it ran.
    #[error(
        "room {room:?} does not run again as it did from tick {tick} on, so what was told after that can't be worked out; `replay` says why"
    )]
    Differs {
        /// The room.
        room: String,
        /// The first tick whose batch is another one.
        tick: RoomTick,
    },
}

impl From<StoreError> for ViewError {
    fn from(error: StoreError) -> Self {
        Self::Keep(error.into())
    }
}

impl From<RoomFault> for ViewError {
    fn from(fault: RoomFault) -> Self {
        Self::Keep(RoomError::from(fault).into())
    }
}

fn stays_in_words(stays: &[(Option<RoomTick>, Option<RoomTick>)]) -> String {
    let stay = |(came, left): &(Option<RoomTick>, Option<RoomTick>)| match (came, left) {
        (Some(came), Some(left)) => format!("from tick {came} to tick {left}"),
        (Some(came), None) => format!("from tick {came} on"),
        (None, Some(left)) => format!("until tick {left}"),
        (None, None) => String::new(),
    };
    match stays {
        [] => "it never was, as far as the ledger is kept".to_owned(),
        _ => format!("it was there {}", stays.iter().map(stay).collect::<Vec<_>>().join(", ")),
    }
}

/// What a user of a room had been told by a tick, the tick's own news included: the state that its replica holds once all of that has
/// arrived. Without a user, what a spectator had been. In a room without secrets that is the state of the room.
///
/// Runs the room again from its creation, or from the last time a process went on with it; `progress` hears the ticks.
///
/// # Errors
/// If the user was not there, had not come back after a restart, or came before what is kept begins; if the room does not run again as it
/// ran; if what is stored can't be read.
pub fn view_of(
    archive: &mut Archive,
    blueprint: &Blueprint,
    name: &str,
    user: Option<EntityId>,
    tick: RoomTick,
    mut progress: impl FnMut(RoomTick),
) -> Result<State, ViewError> {
    let stored = archive.room(name)?;
    archive.check_tick(&stored, tick)?;
    let came = user.map(|user| arrival(archive, name, user, tick)).transpose()?;
    let before = RoomTick(came.unwrap_or(tick).0.saturating_sub(1));
    let (mut again, _) = Again::begin(archive, blueprint, name, (before, tick))?;
    if let Some((user, _)) = user.zip(came).filter(|(_, came)| *came <= again.at) {
        return Err(ViewError::NotKept { user, room: name.to_owned(), first: again.at });
    }
    let protocol = blueprint.protocol();
    let mut eyes = Eyes::default();
    if user.is_none() {
        // What spectators see follows from the state alone: it does not matter when they came.
        eyes.open(None);
    }
    if again.at >= tick {
        eyes.look(&mut again.room, &protocol, &Outbox { tick: again.at, ..Outbox::default() })?;
    }
    while again.at < tick {
        let AgainTick { kept, outbox, resumed } = again.tick(None)?;
        if kept.batch != outbox.batch {
            return Err(ViewError::Differs { room: name.to_owned(), tick: kept.tick });
        }
        if resumed.is_some() {
            // Another process knew nothing of who had been near.
            eyes = Eyes::default();
        }
        if eyes.viewer.is_none() && came.is_none_or(|came| came == again.at) {
            eyes.open(user);
        }
        eyes.look(&mut again.room, &protocol, &outbox)?;
        if again.is_at_a_mark() {
            progress(again.at);
        }
    }
    let mut state = eyes.state.unwrap_or_else(|| State::new(stored.header.id()));
    state.set_tick(tick);
    Ok(state)
}

/// The tick in which the user came who was there at a tick, or its last connection did.
fn arrival(archive: &mut Archive, name: &str, user: EntityId, tick: RoomTick) -> Result<RoomTick, ViewError> {
    let room = archive.room(name)?;
    let first = archive.first_kept(name)?;
    let checkpoints = archive.store().checkpoints(room.key)?;
    let resumed = checkpoints.into_iter().filter(|(at, resumed)| *resumed && *at < tick).map(|(at, _)| at).max();
    // Whoever was there before then is told nothing until its client has come back.
    let floor = resumed.unwrap_or_default().max(first);
    let mut end = tick;
    while end > floor {
        let start = RoomTick(end.0.saturating_sub(TICKS_AT_ONCE)).max(floor);
        for kept in archive.ticks(name, RoomTick(start.0 + 1), end)?.iter().rev() {
            match kept.taken.iter().rev().find_map(|taken| comes(taken, user)) {
                Some(true) => return Ok(kept.tick),
                Some(false) => return not_there(archive, name, user, tick),
                None => {}
            }
        }
        end = start;
    }
    let room_name = name.to_owned();
    let (_, standing) = archive.stand_at(&room, tick)?;
    match resumed.filter(|resumed| *resumed >= first) {
        _ if !standing.members.contains_key(&user) => not_there(archive, name, user, tick),
        Some(since) => Err(ViewError::Away { user, room: room_name, tick, since }),
        None => Err(ViewError::NotKept { user, room: room_name, first }),
    }
}

/// Whether a user came by what was taken in, or left.
fn comes(taken: &Taken, user: EntityId) -> Option<bool> {
    let accepted = taken.verdict == Some(Verdict::Accepted);
    match taken.incoming {
        Incoming::Join { user: who, .. } if who == user && accepted => Some(true),
        Incoming::Return { user: who } if who == user => Some(true),
        Incoming::Leave { user: who, .. } if who == user && accepted => Some(false),
        _ => None,
    }
}

fn not_there<T>(archive: &mut Archive, name: &str, user: EntityId, tick: RoomTick) -> Result<T, ViewError> {
    let mut stays: Vec<(Option<RoomTick>, Option<RoomTick>)> = Vec::new();
    for fact in archive.facts(name, crate::protocol::FactSeq(1), usize::MAX)?.iter().filter(|fact| fact.author == Some(user)) {
        match fact.kind.as_str() {
            "user_joined" => stays.push((Some(fact.tick), None)),
            "user_left" => match stays.last_mut().filter(|(_, left)| left.is_none()) {
                Some((_, left)) => *left = Some(fact.tick),
                None => stays.push((None, Some(fact.tick))),
            },
            _ => {}
        }
    }
    Err(ViewError::NotThere { user, room: name.to_owned(), tick, stays })
}

/// A pair of eyes that looks into a room, and takes what it is told at once.
#[derive(Default)]
struct Eyes {
    /// All who look into the room: nobody else.
    viewers: Viewers,
    viewer: Option<ViewerId>,
    writer: PrivateWriter,
    told: ToldReferences,
    private: Vec<Vec<(u32, u8)>>,
    source: PartSource,
    versions: Versions,
    /// What it holds; nothing until it was sent a snapshot.
    state: Option<State>,
}

impl Eyes {
    /// From the next look on it looks as this user, or as a spectator.
    fn open(&mut self, user: Option<EntityId>) {
        self.viewer = Some(self.viewers.add(user));
    }

    /// Looks at a tick that ran, as the lobby lets its members.
    fn look(&mut self, room: &mut Room, protocol: &Protocol, outbox: &Outbox) -> Result<(), ViewError> {
        work_out(room, &mut self.viewers)?;
        let Some(viewer) = self.viewer else { return Ok(()) };
        let secretive = room.is_secretive();
        let begins = self.state.is_none() || (secretive && self.viewers.rights_changed(viewer));
        let secrets_for = secretive.then_some(viewer);
        let mut state =
            if begins { self.begin(room, protocol, outbox.tick, secrets_for)? } else { self.follow(room, protocol, outbox, secrets_for)? };
        self.take_latest(room, protocol, outbox.tick, viewer, &mut state)?;
        self.state = Some(state);
        Ok(())
    }

    /// Takes a snapshot: its own, in a room with secrets.
    fn begin(&mut self, room: &mut Room, protocol: &Protocol, tick: RoomTick, secrets_for: Option<ViewerId>) -> Result<State, ViewError> {
        let snapshot = match secrets_for {
            None => room.snapshot()?,
            Some(viewer) => {
                let beholder = Beholder { viewers: &self.viewers, viewer };
                room.with_world(|world| self.writer.write_snapshot(world, tick, beholder, &mut self.told))?
            }
        };
        let state = State::from_snapshot(protocol, room.info().id, &snapshot)?;
        self.versions.clear();
        state.entities().keys().for_each(|id: &NetId| self.versions.created(*id, state.tick()));
        Ok(state)
    }

    /// Takes the batch for all, and what is told to it alone.
    fn follow(&mut self, room: &mut Room, protocol: &Protocol, outbox: &Outbox, secrets_for: Option<ViewerId>) -> Result<State, ViewError> {
        let mut state = self.state.take().unwrap_or_else(|| State::new(room.info().id));
        let mut private = Vec::new();
        if let Some(viewer) = secrets_for {
            let (beholder, facts) = (Beholder { viewers: &self.viewers, viewer }, (&outbox.facts[..], outbox.ordered.is_some()));
            let (writer, told) = (&mut self.writer, &mut self.told);
            if !room.with_world(|world| writer.write(world, outbox.tick, beholder, told, facts, &mut private))? {
                private.clear();
            }
        }
        let private = (!private.is_empty()).then_some(&private[..]);
        match (&outbox.ordered, private) {
            (Some(batch), private) => drop(state.follow_with(protocol, batch, (private, Some(&mut self.versions)))?),
            (None, Some(private)) => drop(state.follow_private(protocol, private, &mut self.versions)?),
            (None, None) => {}
        }
        Ok(state)
    }

    /// Takes the values that travel in parts.
    fn take_latest(
        &mut self,
        room: &mut Room,
        protocol: &Protocol,
        tick: RoomTick,
        viewer: ViewerId,
        state: &mut State,
    ) -> Result<(), ViewError> {
        let (viewers, private, source) = (&self.viewers, &mut self.private, &mut self.source);
        let parts = room.with_latest(|latest, world| {
            share_out(latest, world, viewers, private);
            let mine = private.get_mut(viewer.index()).map(std::mem::take).unwrap_or_default();
            let mine: BTreeSet<(u32, u8)> = mine.into_iter().collect();
            for (id, ordinal) in mine {
                if latest.encode(world, id, ordinal).is_some() {
                    latest.stage(source, id, ordinal);
                }
            }
            let mut parts = latest.parts().to_vec();
            // Nothing has to wait for a batch here.
            latest.write(source, |_| 0, &mut parts);
            parts
        })?;
        for part in parts {
            state.take_part(protocol, (tick, &part.body), &mut self.versions)?;
        }
        Ok(())
    }
}
