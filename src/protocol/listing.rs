//! Which rooms a host has, as it tells those who are in none yet: what a player's list of rooms is made of.

use super::codec::{CodecError, Reader, write_text, write_varint};
use super::limits::{NAME_BYTES_MAX, ROOMS_LISTED_MAX};

/// The least that a room takes in a list, in bytes: its name with its size, two numbers, whether it is open.
const ROOM_BYTES_MIN: usize = 5;

/// Whether a room is there already for who joins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It is open.
    Open,
    /// It rests in the store, as it was; who joins wakes it.
    AtRest,
    /// There is no such room yet: who joins is led to one of its kind that has a free seat, or to a new one.
    OnDemand,
}

/// A room, as a host tells of it to who asks which there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRoom {
    /// Its name, by which it is joined. One that is made on demand has the name `NAME/*`.
    pub name: String,
    /// How many seats are taken. Of one that is made on demand, none.
    pub taken: u32,
    /// How many seats there are in all, for members and spectators.
    pub seats: u32,
    /// Whether it is there already.
    pub availability: Availability,
}

impl ListedRoom {
    /// A room with so many seats, of which so many are taken.
    #[cfg(feature = "host")]
    pub(crate) fn new(name: impl Into<String>, (taken, seats): (usize, usize), availability: Availability) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self { name: name.into(), taken: count(taken), seats: count(seats), availability }
    }
}

/// The rooms of a host whose names begin with something.
///
/// A few bytes from a host can't claim much: what [`ServerMessage::decode`](super::ServerMessage::decode) keeps of a list of `n` bytes is at most 16 `n`, and
/// a list names at most [`ROOMS_LISTED_MAX`](super::limits::ROOMS_LISTED_MAX) rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomList {
    /// What was asked for: what the names begin with.
    pub prefix: String,
    /// How many such rooms there are in all.
    pub total: u32,
    /// They, by name, in the order of their bytes. Where there are more than are told, those that are made on demand come before those that are open, and
    /// these before those at rest, of each kind the first by name; a longer prefix finds the others.
    pub rooms: Vec<ListedRoom>,
}

impl RoomList {
    /// The answer to who asks for names that begin with `prefix`, of rooms that are sorted by name.
    pub fn of(prefix: &str, sorted: &[ListedRoom]) -> Self {
        let begin = sorted.partition_point(|room| room.name.as_str() < prefix);
        let found = sorted.get(begin..).unwrap_or_default();
        let found = found.get(..found.partition_point(|room| room.name.starts_with(prefix))).unwrap_or_default();
        let total = u32::try_from(found.len()).unwrap_or(u32::MAX);
        Self { prefix: prefix.to_owned(), total, rooms: Self::choose(found) }
    }

    /// As many of these as a list may have, by name: what is open is not to be hidden by what was left at rest.
    fn choose(found: &[ListedRoom]) -> Vec<ListedRoom> {
        if found.len() <= ROOMS_LISTED_MAX {
            return found.to_vec();
        }
        let kinds = [Availability::OnDemand, Availability::Open, Availability::AtRest].into_iter();
        let by_kind = kinds.flat_map(|kind| found.iter().filter(move |room| room.availability == kind));
        let mut rooms: Vec<ListedRoom> = by_kind.take(ROOMS_LISTED_MAX).cloned().collect();
        rooms.sort_by(|one, other| one.name.cmp(&other.name));
        rooms
    }

    /// Appends it, without the kind of message.
    ///
    /// # Errors
    /// If it has more rooms than a list may.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let count = self.rooms.len();
        if count > ROOMS_LISTED_MAX {
            return Err(CodecError::TooLarge { what: "rooms in a list", value: count as u64, max: ROOMS_LISTED_MAX as u64, at: 0 });
        }
        write_text(&self.prefix, out);
        write_varint(u64::from(self.total), out);
        write_varint(count as u64, out);
        for room in &self.rooms {
            write_text(&room.name, out);
            write_varint(u64::from(room.taken), out);
            write_varint(u64::from(room.seats), out);
            out.push(match room.availability {
                Availability::Open => 0,
                Availability::AtRest => 1,
                Availability::OnDemand => 2,
            });
        }
        Ok(())
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// If it is malformed, has more rooms than a list may, or names that no room of that list can have.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let prefix = reader.text("beginning of names", NAME_BYTES_MAX)?.to_owned();
        let total = reader.varint_u32("number of rooms")?;
        let at = reader.at();
        let count = reader.count("rooms in a list", ROOMS_LISTED_MAX.min(reader.rest().len() / ROOM_BYTES_MIN))?;
        if count as u64 > u64::from(total) {
            return Err(CodecError::TooLarge { what: "rooms in a list", value: count as u64, max: u64::from(total), at });
        }
        let mut rooms: Vec<ListedRoom> = Vec::with_capacity(count);
        for _ in 0..count {
            let at = reader.at();
            let name = reader.text("room", NAME_BYTES_MAX)?;
            let is_after = rooms.last().is_none_or(|last| last.name.as_str() < name);
            if !can_be_listed(name) || !name.starts_with(&prefix) || !is_after {
                return Err(CodecError::Value { at, detail: format!("{name:?} has no place in a list of rooms") });
            }
            let (taken, seats) = (reader.varint_u32("seats taken")?, reader.varint_u32("seats")?);
            let at = reader.at();
            let availability = match reader.byte()? {
                0 => Availability::Open,
                1 => Availability::AtRest,
                2 => Availability::OnDemand,
                other => return Err(CodecError::Unknown { what: "availability of a room", value: u64::from(other), at }),
            };
            rooms.push(ListedRoom { name: name.to_owned(), taken, seats, availability });
        }
        Ok(Self { prefix, total, rooms })
    }
}

/// True if a list can name a room of that name: one that can be asked for, and shown as it is.
pub(crate) fn can_be_listed(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::packet::STREAM_MESSAGE_BYTES_MAX;
    use proptest::prelude::*;

    fn room(name: &str) -> ListedRoom {
        ListedRoom { name: name.to_owned(), taken: u32::MAX, seats: u32::MAX, availability: Availability::AtRest }
    }

    fn written(list: &RoomList) -> Vec<u8> {
        let mut out = Vec::new();
        list.write(&mut out).unwrap();
        out
    }

    #[test]
    fn the_longest_list_fits_a_message_and_a_longer_one_is_not_written() {
        let all: Vec<ListedRoom> = (0..=ROOMS_LISTED_MAX).map(|nth| room(&format!("{nth:0>64}"))).collect();
        let list = RoomList::of(&"0".repeat(60), &all);
        assert_eq!((list.total as usize, list.rooms.len()), (ROOMS_LISTED_MAX + 1, ROOMS_LISTED_MAX));
        let bytes = written(&list);
        assert!(bytes.len() < STREAM_MESSAGE_BYTES_MAX / 10, "{}", bytes.len());
        assert_eq!(RoomList::read(&mut Reader::new(&bytes)), Ok(list));
        let too_long = RoomList { prefix: String::new(), total: u32::MAX, rooms: all };
        assert!(too_long.write(&mut Vec::new()).is_err());
    }

    #[test]
    fn rooms_at_rest_hide_none_that_is_open_or_made_on_demand() {
        let mut all: Vec<ListedRoom> = (0..2 * ROOMS_LISTED_MAX).map(|nth| room(&format!("a{nth:03}"))).collect();
        let mut of = |name: &str, availability| all.push(ListedRoom { availability, ..room(name) });
        of("z/*", Availability::OnDemand);
        of("z/blue", Availability::Open);
        let list = RoomList::of("", &all);
        assert_eq!((list.total as usize, list.rooms.len()), (2 * ROOMS_LISTED_MAX + 2, ROOMS_LISTED_MAX));
        let last: Vec<&str> = list.rooms.iter().rev().take(3).map(|room| room.name.as_str()).collect();
        assert_eq!(last, ["z/blue", "z/*", "a253"]);
        assert_eq!(RoomList::read(&mut Reader::new(&written(&list))), Ok(list));
    }

    #[test]
    fn names_that_begin_so_are_found_and_no_others() {
        let all: Vec<ListedRoom> = ["a", "duel", "duel/*", "duel/blue", "duel0", "e"].map(room).into();
        let names = |prefix: &str| RoomList::of(prefix, &all).rooms.into_iter().map(|room| room.name).collect::<Vec<_>>();
        assert_eq!(names("duel/"), ["duel/*", "duel/blue"]);
        assert_eq!((names("").len(), names("f").len(), names("e"), names("dueling").len()), (6, 0, vec!["e".to_owned()], 0));
    }

    #[test]
    fn a_list_that_no_host_would_tell_is_refused() {
        let list = |prefix: &str, names: &[&str]| {
            let rooms: Vec<ListedRoom> = names.iter().map(|name| room(name)).collect();
            written(&RoomList { prefix: prefix.to_owned(), total: rooms.len() as u32, rooms })
        };
        assert!(RoomList::read(&mut Reader::new(&list("a", &["a", "ab"]))).is_ok());
        for (prefix, names) in [("", "b a"), ("", "a a"), ("b", "a"), ("", ""), ("", "\u{1b}[2J")] {
            let names: Vec<&str> = names.split(' ').collect();
            let read = RoomList::read(&mut Reader::new(&list(prefix, &names)));
            assert!(matches!(read, Err(CodecError::Value { .. })), "{names:?}: {read:?}");
        }
        // More than there are in all, and more than the bytes can hold.
        assert!(RoomList::read(&mut Reader::new(&[0, 1, 2, 1, b'a', 0, 0, 0, 1, b'b', 0, 0, 0])).is_err());
        assert!(RoomList::read(&mut Reader::new(&[0, 240, 240, 1, b'a', 0, 0, 0])).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            if let Ok(list) = RoomList::read(&mut reader) {
                let again = RoomList::of(&list.prefix, &list.rooms);
                prop_assert_eq!(again.rooms, list.rooms);
            }
        }
    }
}
