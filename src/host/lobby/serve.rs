//! What the members of a room are told of a tick, and sent.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::{HostedRoom, Lobby};
use crate::host::delivery::Offer;
use crate::protocol::limits::BATCH_MESSAGE_BYTES_MAX;
use crate::protocol::{NetId, PRIVATE_MESSAGE, Protocol, RoomTick, batch_message};
use crate::room::{Beholder, LatestValues, Outbox, Room, RoomFault, ViewerId, Viewers};

impl Lobby {
    /// Works out who of a room's members sees what.
    pub(super) fn look(&mut self, name: &str) -> Option<RoomFault> {
        let hosted = self.rooms.get_mut(name)?;
        for connection in &hosted.arriving {
            let Some(session) = self.sessions.get_mut(connection).filter(|session| session.viewer.is_none()) else { continue };
            session.viewer = Some(hosted.viewers.add((!session.spectator).then_some(session.visitor.player)));
        }
        let looked = work_out(&mut hosted.room, &mut hosted.viewers);
        looked.inspect_err(|fault| self.fail(name, fault)).err()
    }

    /// Queues the batch of a tick for all members, and before it, for each, what it alone is told.
    pub(super) fn tell(&mut self, name: &str, outbox: &Outbox) -> Option<RoomFault> {
        let hosted = self.rooms.get_mut(name)?;
        let message = outbox.ordered.as_ref().map(batch_message);
        let too_large = message.as_ref().is_some_and(|message| message.len() > BATCH_MESSAGE_BYTES_MAX);
        let HostedRoom { room, viewers, writer, members, wanting, .. } = hosted;
        let (sessions, counters, limits) = (&mut self.sessions, &mut self.counters, &self.limits);
        let secretive = room.is_secretive();
        if message.is_none() && !secretive {
            return None;
        }
        let mut private = Vec::new();
        let told = room.with_world(|world| {
            for connection in &*members {
                let Some(session) = sessions.get_mut(connection) else { continue };
                let changed_rights = secretive && session.viewer.is_some_and(|viewer| viewers.rights_changed(viewer));
                if too_large || changed_rights || session.delivery.is_clogged(limits.queue_bytes_max, outbox.tick) {
                    session.delivery.drop_superseded();
                    (session.wants_snapshot, *wanting) = (true, true);
                }
                if session.wants_snapshot {
                    // What happened in this tick is in the snapshot that follows.
                    continue;
                }
                if let Some(viewer) = session.viewer.filter(|_| secretive) {
                    private.clear();
                    private.push(PRIVATE_MESSAGE);
                    let (beholder, facts) = (Beholder { viewers, viewer }, (&outbox.facts[..], message.is_some()));
                    if writer.write(world, outbox.tick, beholder, &mut session.told, facts, &mut private) {
                        if private.len() > BATCH_MESSAGE_BYTES_MAX {
                            // A snapshot goes in pieces, and tells the same.
                            session.delivery.drop_superseded();
                            (session.wants_snapshot, *wanting) = (true, true);
                            continue;
                        }
                        session.delivery.push(outbox.tick, Bytes::copy_from_slice(&private));
                    }
                }
                if let Some(message) = &message {
                    session.delivery.push(outbox.tick, message.clone());
                    counters.batches += 1;
                }
            }
        });
        told.inspect_err(|fault| self.fail(name, fault)).err()
    }

    /// Puts together what the members of a room are sent in a tick.
    pub(super) fn serve(&mut self, name: &str, tick: RoomTick) -> Option<RoomFault> {
        let hosted = self.rooms.get_mut(name)?;
        let secretive = hosted.room.is_secretive();
        let HostedRoom { room, viewers, private, members, .. } = hosted;
        let (sessions, to_pump, now) = (&mut self.sessions, &mut self.served, self.now);
        let served = room.with_latest(|latest, world| {
            share_out(latest, world, viewers, private);
            for connection in &*members {
                let Some(session) = sessions.get_mut(connection) else { continue };
                session.served = now;
                let beholder = session.viewer.filter(|_| secretive).map(|viewer| Beholder { viewers, viewer });
                let mine = session.viewer.and_then(|viewer| private.get(viewer.index())).map_or(&[][..], Vec::as_slice);
                let user = (!session.spectator).then_some(session.visitor.player);
                session.delivery.round(now, tick, Some(Offer { latest: &mut *latest, world, beholder, private: mine, user }));
                if session.delivery.has_packets() {
                    to_pump.push(*connection);
                }
            }
        });
        served.inspect_err(|fault| self.fail(name, fault)).err()
    }
}

/// Works out, after a tick, which of those who look into a room sees what.
pub(in crate::host) fn work_out(room: &mut Room, viewers: &mut Viewers) -> Result<(), RoomFault> {
    room.with_world(|world| {
        viewers.update(world);
        let mut latest = world.resource_mut::<LatestValues>();
        viewers.released().iter().for_each(|id| latest.became_public(*id));
    })
}

/// Gives each viewer its share of what changed, travels in parts, and is not for everybody.
pub(in crate::host) fn share_out(latest: &LatestValues, world: &World, viewers: &Viewers, private: &mut Vec<Vec<(u32, u8)>>) {
    private.iter_mut().for_each(Vec::clear);
    for (id, ordinal) in latest.private() {
        let net_id = NetId(id);
        let entry = world.resource::<Protocol>().components.get(latest.component(ordinal));
        let audience = entry.map(|entry| entry.audience).unwrap_or_default();
        let mut give = |viewer: ViewerId| {
            if private.len() <= viewer.index() {
                private.resize_with(viewer.index() + 1, Vec::new);
            }
            if let Some(mine) = private.get_mut(viewer.index()).filter(|_| viewers.may_have(viewer, net_id, audience)) {
                mine.push((id, ordinal));
            }
        };
        if viewers.is_restricted(net_id) {
            viewers.viewers_of(net_id).for_each(&mut give);
        } else {
            viewers.everybody().for_each(&mut give);
        }
    }
}
