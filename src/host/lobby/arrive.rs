//! What brings those who come into a room to its state: a snapshot, or what they missed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{HostedRoom, Lobby};
use crate::host::session::{ConnectionId, Session, Stage};
use crate::protocol::{CommandId, EntityId, RoomTick, ServerMessage, snapshot_messages};
use crate::room::{Beholder, RoomFault, bytes_of, catch_up};

/// For how many replicas that are at different ticks the host works out in one tick what they missed. The others are sent the snapshot.
const WAYS_MAX: usize = 16;

/// What brings a replica to the state of a tick, by the ticks that it is at.
type Ways = BTreeMap<(RoomTick, RoomTick), Option<Vec<Bytes>>>;

impl Lobby {
    /// Sends one snapshot, encoded once, to all that arrive in this tick or need one again; but to those who still hold a state of the room what
    /// they missed, if that is less.
    pub(super) fn send_snapshots(&mut self, name: &str, tick: RoomTick) -> Option<RoomFault> {
        let hosted = self.rooms.get_mut(name)?;
        if hosted.arriving.is_empty() && !hosted.wanting {
            return None;
        }
        let mut arriving = std::mem::take(&mut hosted.arriving);
        let sessions = &mut self.sessions;
        let wants = |id: &&ConnectionId| sessions.get(id).is_some_and(|session| session.wants_snapshot);
        let (again, later): (Vec<ConnectionId>, Vec<ConnectionId>) =
            hosted.members.iter().filter(wants).partition(|id| sessions.get(id).is_some_and(|session| session.delivery.takes_snapshot()));
        hosted.wanting = !later.is_empty();
        if arriving.is_empty() && again.is_empty() {
            return None;
        }
        let secretive = hosted.room.is_secretive();
        let snapshot = if secretive { Ok(Bytes::new()) } else { hosted.room.snapshot() };
        let shared = match snapshot {
            Ok(snapshot) => snapshot_messages(&snapshot),
            Err(fault) => {
                self.fail(name, &fault);
                return Some(fault);
            }
        };
        let (mut ways, mut fault, replay_max) = (Ways::new(), None, self.limits.replay_bytes_max);
        self.counters.joined += arriving.len() as u64;
        let joined = arriving.len();
        arriving.retain(|connection| {
            let Some(session) = sessions.get_mut(connection) else { return false };
            let missed = find_way(hosted, session, (&shared, replay_max), &mut ways).unwrap_or_else(|failed| {
                fault.get_or_insert(failed);
                None
            });
            welcome(hosted, *connection, session, missed.is_some());
            tracing::info!(connection = connection.0, room = name, player = %session.visitor.player, "joined");
            hosted.members.insert(*connection);
            let Some(missed) = missed else { return true };
            missed.iter().for_each(|message| session.delivery.push(tick, message.clone()));
            session.delivery.snapshot_pushed(tick);
            false
        });
        self.counters.resumed += (joined - arriving.len()) as u64;
        self.counters.resyncs += again.len() as u64;
        for connection in arriving.iter().chain(&again) {
            let Some(session) = sessions.get_mut(connection) else { continue };
            session.wants_snapshot = false;
            session.last_snapshot_tick = tick.0;
            match session.viewer.filter(|_| secretive) {
                None => shared.iter().for_each(|message| session.push(message.clone())),
                Some(viewer) => {
                    let (viewers, writer) = (&hosted.viewers, &mut hosted.writer);
                    let (beholder, told) = (Beholder { viewers, viewer }, &mut session.told);
                    match hosted.room.with_world(|world| writer.write_snapshot(world, tick, beholder, told)) {
                        Ok(snapshot) => snapshot_messages(&snapshot).into_iter().for_each(|message| session.push(message)),
                        Err(failed) => {
                            fault = Some(failed);
                            break;
                        }
                    }
                }
            }
            session.delivery.snapshot_pushed(tick);
        }
        fault.inspect(|fault| self.fail(name, fault))
    }
}

/// The messages that bring a session's replica to the state of now, if they are less than a snapshot. None in a secretive room, where each
/// member was told its own.
fn find_way<'w>(
    hosted: &mut HostedRoom,
    session: &mut Session,
    (snapshot, replay_max): (&[Bytes], usize),
    ways: &'w mut Ways,
) -> Result<Option<&'w Vec<Bytes>>, RoomFault> {
    let (id, secretive) = (hosted.room.info().id, hosted.room.is_secretive());
    let offer = session.resume.take().filter(|offer| offer.epoch == hosted.epoch && offer.epoch != 0 && offer.room == id && !secretive);
    let Some(offer) = offer else { return Ok(None) };
    let at = (offer.tick, offer.latest.min(offer.tick));
    if ways.len() < WAYS_MAX && !ways.contains_key(&at) {
        let way = hosted.room.with_world(|world| catch_up(world, at.0, at.1, bytes_of(snapshot), replay_max))?;
        ways.insert(at, way);
    }
    Ok(ways.get(&at).and_then(Option::as_ref))
}

/// Tells somebody that it is in.
fn welcome(hosted: &mut HostedRoom, connection: ConnectionId, session: &mut Session, resumed: bool) {
    let user = if session.spectator { EntityId::NIL } else { session.visitor.player };
    let info = hosted.room.info();
    let last_command = hosted.room.members().last_command(user);
    if hosted.room.members().is_silent(user) && last_command > CommandId(0) {
        // Its client could take the number at which its stay begins for that of a command that it sent in an earlier one.
        let none = ServerMessage::Verdicts { tick: hosted.room.tick_now(), verdicts: Vec::new() };
        session.push(none.encode().unwrap_or_default());
    }
    let welcome = ServerMessage::Welcome { room: info.id, epoch: hosted.epoch, resumed, name: info.name.clone(), user, last_command };
    if let Ok(welcome) = welcome.encode() {
        session.push(welcome);
    }
    hosted.said.insert(connection, last_command);
    session.stage = Stage::Live;
}
