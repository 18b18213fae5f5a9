//! A host with a room, and what three connections say to it.

use std::time::Duration;

use bytes::Bytes;

use super::{Steps, chosen, game, reached, step};
use crate::client::Receiver;
use crate::host::{ConnectionId, HostLimits, Lobby, Visitor};
use crate::protocol::{ClientMessage, CommandId, EntityId, LeaveReason, Resume, RoomId, RoomTick, SeenTick, WIRE_VERSION};

const NAMES: [&str; 3] = ["ann", "bob", "eve"];

fn connect(lobby: &mut Lobby, nth: u8) {
    let name = NAMES.get(usize::from(nth)).copied().unwrap_or_default();
    lobby.connected(ConnectionId(u64::from(nth)), Visitor { player: EntityId::named(name), name: name.to_owned(), room: None });
}

fn hello(secretive: bool, spectate: bool, resume: Option<Resume>) -> Bytes {
    let fingerprint = game::blueprint(secretive).protocol().fingerprint();
    ClientMessage::Hello { fingerprint, room: "moor".into(), spectate, resume }.encode()
}

/// The seed of this door: somebody joins, acts, reports, goes, and comes back.
pub(super) fn seed(secretive: bool) -> Vec<u8> {
    let mut out = vec![u8::from(secretive)];
    let resume = Resume { room: RoomId::named("moor"), epoch: 7, tick: RoomTick(2), latest: RoomTick(2) };
    step(0, &hello(secretive, false, None), &mut out);
    step(1, &hello(secretive, true, None), &mut out);
    step(16, &[2], &mut out);
    for (id, payload) in [(1, &[40][..]), (2, &[0]), (3, &[3, b's', b'a', b'y', 0, 0])] {
        let command = ClientMessage::Command {
            id: CommandId(id),
            kind: usize::from(id == 3),
            seen: Some(SeenTick(300)),
            payload: payload.to_vec().into(),
        };
        step(0, &command.encode(), &mut out);
    }
    step(16, &[3], &mut out);
    step(12, &[], &mut out);
    step(0, &ClientMessage::Diverged { tick: RoomTick(3) }.encode(), &mut out);
    step(20, &[60], &mut out);
    step(24, &[], &mut out);
    step(0, &hello(secretive, false, Some(resume)), &mut out);
    step(16, &[9], &mut out);
    step(0, &ClientMessage::Leave.encode(), &mut out);
    out
}

/// A greeting as one of today's version and protocol: what is kept of inputs is to outlive both. One that says a protocol of zeros stays as it is.
pub(super) fn of_today(message: &mut [u8], secretive: bool) {
    if let [1, version, rest @ ..] = message
        && let Some(fingerprint) = rest.first_chunk_mut::<8>().filter(|told| **told != [0; 8])
    {
        *version = WIRE_VERSION as u8;
        *fingerprint = game::blueprint(secretive).protocol().fingerprint().0.to_le_bytes();
    }
}

pub(super) fn host(data: &[u8]) {
    reached(play(data) > 0);
}

/// Gives how many were in the room at once.
fn play(data: &[u8]) -> usize {
    let (choice, data) = chosen(data);
    let mut lobby = Lobby::new(HostLimits::default(), choice & 2 != 0);
    lobby.begin_epoch(7);
    if choice & 4 != 0 {
        lobby.can_read_pasts();
    }
    let opened = lobby.open_room(game::blueprint(choice & 1 != 0), game::options(game::LEVEL));
    assert!(opened.is_ok(), "{opened:?}");
    let (mut now, mut receiver) = (Duration::from_secs(1), Receiver::default());
    (0..3).for_each(|nth| connect(&mut lobby, nth));
    let (mut ticks, mut most) = (0, 0);
    for (kind, bytes) in Steps(data) {
        let (who, first) = (kind % 4 % 3, chosen(bytes).0);
        match kind / 4 % 8 {
            // What the transport's channel gives has at most so many bytes.
            0..=2 => {
                let mut message = bytes.get(..1_200).unwrap_or(bytes).to_vec();
                of_today(&mut message, choice & 1 != 0);
                lobby.message(ConnectionId(u64::from(who)), &message.into());
            }
            3 => {
                let report = receiver.next_report(now);
                report.iter().for_each(|report| lobby.message(ConnectionId(0), report));
            }
            4 => {
                for _ in 0..(first % 8 + 1).min(200_u8.saturating_sub(ticks)) {
                    ticks += 1;
                    now += Duration::from_millis(50);
                    lobby.advance(now);
                    let report = lobby.tick_room("moor");
                    assert!(report.is_none_or(|report| report.fault.is_none()), "a stranger stopped a room");
                    let _ = lobby.past_requests();
                    lobby.pump(|to, own, shared| {
                        if to == ConnectionId(0) {
                            let taken = receiver.take(now, &[own, shared].concat().into());
                            assert!(taken.is_ok(), "{taken:?}");
                        }
                    });
                }
            }
            5 => {
                now += Duration::from_millis(u64::from(first));
                lobby.advance(now);
            }
            6 => {
                lobby.disconnected(ConnectionId(u64::from(who)), LeaveReason::Timeout);
                if who == 0 {
                    receiver = Receiver::default();
                }
                connect(&mut lobby, who);
            }
            _ => lobby.durable("moor", RoomTick(u32::from(first))),
        }
        most = most.max(lobby.room("moor").map_or(0, |room| room.members().iter().count()));
    }
    if let Some(room) = lobby.room_mut("moor") {
        let _ = game::state_of(room);
    }
    most
}
