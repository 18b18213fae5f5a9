//! What a room needs besides its replicated state to go on where it was.

use std::collections::{BTreeMap, BTreeSet};

use super::codec::{CodecError, Reader, write_varint};
use super::ids::{CommandId, EntityId, FactSeq, RoomTick};
use super::incoming::{Incoming, Taken, Verdict};
use super::roster::read_uuid;

/// Most users in a room.
const MEMBERS_MAX: usize = 1 << 16;

/// What is added to the number of a user of whom nothing was taken since it came. Numbers of commands are less.
const SILENT: u64 = 1 << 32;

/// How many numbers a user could use up in a tick when the numbers of each stay began anew: so many messages of a client a host took.
const NUMBERS_PER_TICK: u32 = 64;

/// What changed in a tick of what no batch tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// Where the room's chance stands, if it moved.
    pub rng: Option<Box<[u8]>>,
    /// The serial number of the next id that the room mints.
    pub next_serial: u64,
}

/// Where a room stands besides its replicated state: its tick, its numbers, its chance, its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The tick that ran last.
    pub tick: RoomTick,
    /// The tick of the last batch. Between the two nothing changed.
    pub last_batch: RoomTick,
    /// The number of the next fact.
    pub next_seq: FactSeq,
    /// Where the room's chance stands; empty where it never moved.
    pub rng: Box<[u8]>,
    /// The serial number of the next id that the room mints.
    pub next_serial: u64,
    /// The users in the room, and the last command that it took of each; of who has said nothing yet, the number at which its stay began.
    pub members: BTreeMap<EntityId, CommandId>,
    /// The number at which the next stay begins: above those of all who have left.
    pub(crate) next_stay: CommandId,
    /// Those of the members of whom nothing was taken since they came.
    pub(crate) silent: BTreeSet<EntityId>,
}

impl Standing {
    /// Follows the room through one tick.
    ///
    /// In what was recorded before numbers went on from stay to stay the first command of a stay may have any number, as in the room.
    pub(crate) fn follow(&mut self, tick: RoomTick, has_batch: bool, facts: u64, taken: &[Taken], trail: &Trail) {
        self.tick = tick;
        if has_batch {
            self.last_batch = tick;
        }
        self.next_seq = FactSeq(self.next_seq.0.max(1).saturating_add(facts));
        if let Some(rng) = &trail.rng {
            self.rng.clone_from(rng);
        }
        self.next_serial = trail.next_serial;
        for Taken { incoming, verdict } in taken {
            match incoming {
                Incoming::Join { user, .. } if *verdict == Some(Verdict::Accepted) => {
                    self.members.insert(*user, self.next_stay);
                    self.silent.insert(*user);
                }
                Incoming::Leave { user, .. } => {
                    self.silent.remove(user);
                    let last = self.members.remove(user);
                    self.next_stay = last.map_or(self.next_stay, |last| self.next_stay.max(last.stay_after()));
                }
                Incoming::Command { user, id, .. } if *id > CommandId(0) => {
                    let is_first = self.silent.remove(user);
                    if let Some(last) = self.members.get_mut(user) {
                        *last = if is_first { *id } else { (*last).max(*id) };
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for number in [u64::from(self.tick.0), u64::from(self.last_batch.0), self.next_seq.0, self.next_serial, self.rng.len() as u64] {
            write_varint(number, out);
        }
        out.extend_from_slice(&self.rng);
        // No user has the nil id: it stands for whoever comes next.
        write_varint(self.members.len() as u64 + 1, out);
        for (user, command) in std::iter::once((&EntityId::NIL, &self.next_stay)).chain(&self.members) {
            out.extend_from_slice(user.as_uuid().as_bytes());
            let silent = if self.silent.contains(user) { SILENT } else { 0 };
            write_varint(silent + u64::from(command.0), out);
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (tick, last_batch) = (RoomTick(input.varint_u32("tick")?), RoomTick(input.varint_u32("tick")?));
        let (next_seq, next_serial) = (FactSeq(input.varint()?), input.varint()?);
        let size = input.count("bytes of chance", 64)?;
        let rng = input.bytes(size)?.into();
        let (at, mut members, mut silent) = (input.at(), BTreeMap::new(), BTreeSet::new());
        for _ in 0..input.count("members", MEMBERS_MAX + 1)? {
            let (user, at, number) = (EntityId::from_uuid(read_uuid(input)?), input.at(), input.varint()?);
            let too_large = |_| CodecError::TooLarge { what: "command", value: number, max: SILENT + u64::from(u32::MAX), at };
            members.insert(user, CommandId(u32::try_from(number & !SILENT).map_err(too_large)?));
            if number & SILENT != 0 {
                silent.insert(user);
            }
        }
        silent.remove(&EntityId::NIL);
        let next_stay = members.remove(&EntityId::NIL).unwrap_or_else(|| above_all(tick));
        if members.len() > MEMBERS_MAX {
            return Err(CodecError::TooLarge { what: "members", value: members.len() as u64, max: MEMBERS_MAX as u64, at });
        }
        Ok(Self { tick, last_batch, next_seq, rng, next_serial, members, next_stay, silent })
    }
}

/// A number above those that anybody had who was in a room up to a tick, where none was stored: by as much as is left for those who come.
fn above_all(tick: RoomTick) -> CommandId {
    CommandId(tick.0.saturating_mul(NUMBERS_PER_TICK)).min(CommandId::STAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::LeaveReason;

    fn ann() -> EntityId {
        EntityId::named("ann")
    }

    #[test]
    fn who_was_refused_at_the_door_is_no_member() {
        let join = || Incoming::Join { user: ann(), name: "Ann".to_owned() };
        let rejected = Verdict::Rejected(crate::protocol::Rejection::new("full"));
        for (verdict, is_member) in [(Some(Verdict::Accepted), true), (Some(rejected), false), (None, false)] {
            let mut standing = Standing::default();
            standing.follow(RoomTick(1), false, 0, &[Taken { incoming: join(), verdict }], &Trail::default());
            assert_eq!(standing.members.contains_key(&ann()), is_member);
        }
    }

    /// A standing that has followed what came in, each thing in a tick of its own.
    fn followed(incoming: impl IntoIterator<Item = Incoming>) -> Standing {
        let mut standing = Standing::default();
        for (tick, incoming) in (1..).zip(incoming) {
            let taken = [Taken { incoming, verdict: Some(Verdict::Accepted) }];
            standing.follow(RoomTick(tick), false, 0, &taken, &Trail::default());
        }
        standing
    }

    fn join() -> Incoming {
        Incoming::Join { user: ann(), name: "ann".to_owned() }
    }

    fn leave() -> Incoming {
        Incoming::Leave { user: ann(), reason: LeaveReason::Left }
    }

    fn command(number: u32) -> Incoming {
        Incoming::Command { user: ann(), id: CommandId(number), kind: 0, seen: None, payload: bytes::Bytes::new() }
    }

    fn written(standing: &Standing) -> Vec<u8> {
        let mut bytes = Vec::new();
        standing.write(&mut bytes);
        bytes
    }

    #[test]
    fn a_checkpoint_says_where_the_next_stay_begins() {
        let standing = followed([join(), command(1), command(7), leave(), join(), command(9)]);
        assert_eq!((standing.next_stay, standing.members[&ann()]), (CommandId(8), CommandId(9)));
        assert_eq!(Standing::read(&mut Reader::new(&written(&standing))), Ok(standing));
        let silent = followed([join(), command(3), leave(), join(), leave()]);
        assert_eq!(Standing::read(&mut Reader::new(&written(&silent))), Ok(silent.clone()));
        assert_eq!(silent.next_stay, CommandId(5), "a stay has a number of its own, even if nothing is said in it");
        let silent = followed([join(), command(3), leave(), join()]);
        assert_eq!(Standing::read(&mut Reader::new(&written(&silent))), Ok(silent.clone()));
        assert_eq!((silent.members[&ann()], silent.silent.contains(&ann())), (CommandId(4), true));
    }

    #[test]
    fn where_a_checkpoint_says_nothing_of_it_the_next_stay_begins_above_all_that_could_have_been() {
        let standing = Standing { tick: RoomTick(70), ..Standing::default() };
        let mut bytes = written(&standing);
        // As it was written before: nobody was in the room, and nothing stood for who comes next.
        bytes.truncate(bytes.len() - 18);
        bytes.push(0);
        let read = Standing::read(&mut Reader::new(&bytes)).unwrap();
        assert_eq!((read.next_stay, read.members.len()), (CommandId(70 * 64), 0));
        assert_eq!(Standing::read(&mut Reader::new(&written(&read))), Ok(read));
        assert!(above_all(RoomTick(u32::MAX)) < CommandId(u32::MAX / 2 + 1));
    }

    #[test]
    fn who_uses_up_all_numbers_uses_up_nobody_elses() {
        assert_eq!(followed([join(), command(u32::MAX), leave()]).next_stay, CommandId::STAY_MAX);
    }

    #[test]
    fn what_was_recorded_when_numbers_began_anew_is_followed_as_it_was() {
        let standing = followed([join(), command(1), command(7), leave(), join(), command(1), command(2)]);
        assert_eq!((standing.next_stay, standing.members[&ann()]), (CommandId(8), CommandId(2)));
    }
}
