//! Those who look into a room, and what each of them sees.

use bevy_ecs::change_detection::Tick;
use bevy_ecs::prelude::*;

use super::bits::{Bits, Pairs, ones};
use super::grid::{Eye, Grid};
use super::places::Place;
use super::seat::Seat;
use super::subject::Subject;
use crate::protocol::{ComponentAudience, EntityId, NetId};

/// The number of a viewer: the lowest that is free. Numbers are small, so they can be places in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewerId(u32);

impl ViewerId {
    /// As a place in a table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Those who look into one room, and what each of them sees. Kept by whoever sends to them; a room has one of it, and it is brought up
/// to date after every tick.
///
/// What it lists is as of the last [`update`](Self::update), and about what the batch for all of that tick may not tell, the *restricted*:
/// [`entered`](Self::entered) and [`left`](Self::left), about entities that live; [`gone`](Self::gone), about those that ended. An entity
/// that becomes public counts as restricted for that tick still, and enters for whoever did not see it. Of what was public before and
/// is, nothing is said. All lists ascend.
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// use roomkeeper::protocol::{Incoming, NetId};
/// use roomkeeper::room::{Reach, Room, RoomOptions, Viewers};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Component, Serialize, Deserialize)]
/// struct Position([f32; 2]);
///
/// fn protocol(app: &mut App) {
///     app.sync::<Position>("position").latest();
/// }
/// fn rules(app: &mut App) {
///     app.places_by(|position: &Position| position.0);
/// }
///
/// let mut room = Room::new(RoomOptions::named("moor"), protocol, rules)?;
/// let ann = EntityId::named("ann");
/// room.tick([Incoming::Join { user: ann, name: "Ann".into() }])?;
/// let body = room.entity(ann).ok_or("Ann is not there")?;
/// let senses = Senses::new().with_reach(Reach { enter: 10.0, leave: 12.0 });
/// room.world_mut().entity_mut(body).insert((Position([0.0, 0.0]), senses));
/// let wisp = room.world_mut().spawn((Position([11.0, 0.0]), Audience::EVERYONE.near())).id();
///
/// let mut viewers = Viewers::new();
/// let viewer = viewers.add(Some(ann));
/// let mut tick = |x: f32| {
///     room.world_mut().entity_mut(wisp).insert(Position([x, 0.0]));
///     room.tick([])?;
///     viewers.update(room.world_mut());
///     let id = *room.world().get::<NetId>(wisp).ok_or("the wisp is not synced")?;
///     Ok::<_, Box<dyn std::error::Error>>((viewers.sees(viewer, id), viewers.entered(viewer).len(), viewers.left(viewer).len()))
/// };
/// assert_eq!(tick(11.0)?, (false, 0, 0));
/// assert_eq!(tick(9.0)?, (true, 1, 0));
/// assert_eq!(tick(11.0)?, (true, 0, 0)); // not near enough to enter, but to stay
/// assert_eq!(tick(13.0)?, (false, 0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Viewers {
    pub(super) seats: Vec<Seat>,
    pub(super) free: Vec<u32>,
    pub(super) subjects: Vec<Subject>,
    pub(super) sight: Sight,
    /// The restricted among the subjects; those of them that must be near.
    pub(super) restricted: Bits,
    pub(super) near: Bits,
    /// Those that became public.
    pub(super) released: Vec<u32>,
    /// When the world was last read; never, at first.
    pub(super) since: Option<Tick>,
    /// Somebody came or went since then.
    pub(super) people_changed: bool,
    pub(super) work: Work,
}

/// What of the viewers is looked at side by side, by their numbers.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) grid: Grid,
    pub(super) eyes: Vec<Eye>,
    pub(super) masks: Vec<u64>,
    /// Those who are there, and those who see everything, as bits.
    pub(super) there: Bits,
    pub(super) everything: Bits,
    /// Who stands behind an entity, and behind a user's id. Sorted.
    pub(super) bodies: Vec<(Entity, u32)>,
    pub(super) users: Vec<(EntityId, u32)>,
    /// Who is near what; who sees what.
    pub(super) within: Pairs,
    pub(super) seen: Pairs,
}

/// What is found in the course of an update, kept for its buffers.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Subjects whose rules have to be asked again.
    pub(super) dirty: Vec<u32>,
    /// Subjects that may have moved.
    pub(super) moved: Vec<u32>,
    pub(super) places: Vec<(NetId, Option<Place>)>,
    /// Viewers that may see other things by their rights.
    pub(super) rights: Vec<u32>,
    /// Viewers that look from elsewhere; whether into other cells.
    pub(super) turned: Vec<(u32, bool)>,
    pub(super) reach_changed: bool,
    /// Pairs that came together or parted.
    pub(super) pairs: Vec<(u32, u32)>,
    pub(super) owners: Vec<(NetId, Option<Entity>, Option<Entity>)>,
    pub(super) row: Vec<u64>,
    pub(super) changes: Vec<(u32, bool)>,
    pub(super) pads: Vec<f32>,
}

impl Default for Viewers {
    fn default() -> Self {
        Self::new()
    }
}

impl Viewers {
    /// Nobody yet.
    pub fn new() -> Self {
        let sight = Sight {
            grid: Grid::new(),
            eyes: Vec::new(),
            masks: Vec::new(),
            there: Bits::default(),
            everything: Bits::default(),
            bodies: Vec::new(),
            users: Vec::new(),
            within: Pairs::default(),
            seen: Pairs::default(),
        };
        Self {
            seats: Vec::new(),
            free: Vec::new(),
            subjects: Vec::new(),
            sight,
            restricted: Bits::default(),
            near: Bits::default(),
            released: Vec::new(),
            since: None,
            people_changed: false,
            work: Work::default(),
        }
    }

    /// Adds one who is a user of the room, or watches it as a spectator. At its first update all that is restricted and that it sees
    /// enters; until then it sees what is public. Several may be the same user.
    pub fn add(&mut self, user: Option<EntityId>) -> ViewerId {
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        let number = self.free.pop().unwrap_or_else(|| {
            self.seats.push(Seat::default());
            self.sight.eyes.push(Eye::BLIND);
            self.sight.masks.push(0);
            self.seats.len() as u32 - 1
        });
        if let Some(seat) = self.seats.get_mut(number as usize) {
            *seat = Seat::new(user);
        }
        self.sight.there.set(number);
        let words = self.seats.len().div_ceil(64);
        self.sight.within.widen(words);
        self.sight.seen.widen(words);
        self.people_changed = true;
        ViewerId(number)
    }

    /// Takes one out. Its number is given to the next one.
    pub fn remove(&mut self, viewer: ViewerId) {
        let Some(seat) = self.seats.get_mut(viewer.index()).filter(|seat| seat.taken) else { return };
        let seat = std::mem::take(seat);
        let (sight, number) = (&mut self.sight, viewer.0);
        sight.grid.watch(number, &seat.buckets, false);
        for pairs in [&mut sight.within, &mut sight.seen] {
            let entities: Vec<u32> = pairs.column(number).map(|column| column.iter().collect()).unwrap_or_default();
            entities.into_iter().for_each(|entity| pairs.put(number, entity, false));
        }
        sight.there.unset(number);
        sight.everything.unset(number);
        if let (Some(eye), Some(mask)) = (sight.eyes.get_mut(viewer.index()), sight.masks.get_mut(viewer.index())) {
            (*eye, *mask) = (Eye::BLIND, 0);
        }
        self.free.push(number);
        self.people_changed = true;
    }

    fn seat(&self, viewer: ViewerId) -> Option<&Seat> {
        self.seats.get(viewer.index()).filter(|seat| seat.taken)
    }

    fn subject(&self, id: NetId) -> Option<&Subject> {
        self.subjects.get(id.get() as usize).filter(|subject| subject.shown)
    }

    /// True if it sees the entity, public or not.
    pub fn sees(&self, viewer: ViewerId, id: NetId) -> bool {
        let there = self.subject(id).filter(|_| self.seat(viewer).is_some());
        there.is_some_and(|subject| !subject.restricted || self.sight.seen.contains(viewer.0, id.get()))
    }

    /// All viewers.
    pub fn everybody(&self) -> impl Iterator<Item = ViewerId> + '_ {
        self.seats.iter().zip(0..).filter(|(seat, _)| seat.taken).map(|(_, number)| ViewerId(number))
    }

    /// The restricted entities that it sees.
    pub fn seen(&self, viewer: ViewerId) -> impl Iterator<Item = NetId> + '_ {
        self.sight.seen.column(viewer.0).into_iter().flat_map(Bits::iter).map(NetId)
    }

    /// Those who see a restricted entity.
    pub fn viewers_of(&self, id: NetId) -> impl Iterator<Item = ViewerId> + '_ {
        ones(self.sight.seen.row(id.get()).iter().copied()).map(ViewerId)
    }

    /// What came into its sight: it has to be told all of it, as of a create.
    pub fn entered(&self, viewer: ViewerId) -> &[NetId] {
        self.seat(viewer).map_or(&[], |seat| &seat.entered)
    }

    /// What lives on, out of its sight: it has to be told a delete.
    pub fn left(&self, viewer: ViewerId) -> &[NetId] {
        self.seat(viewer).map_or(&[], |seat| &seat.left)
    }

    /// What died, or was disabled, in its sight, and was restricted then: no batch for all tells of that. It has to be told a delete.
    /// The number may stand for another entity already.
    pub fn gone(&self, viewer: ViewerId) -> &[NetId] {
        self.seat(viewer).map_or(&[], |seat| &seat.gone)
    }

    /// What was there before, public or not, and has become its own. Not listed where its [rights changed](Self::rights_changed).
    pub fn gained(&self, viewer: ViewerId) -> &[NetId] {
        self.seat(viewer).map_or(&[], |seat| &seat.gained)
    }

    /// What is still there, but is its own no longer. Not listed where its [rights changed](Self::rights_changed).
    pub fn lost(&self, viewer: ViewerId) -> &[NetId] {
        self.seat(viewer).map_or(&[], |seat| &seat.lost)
    }

    /// True if its mask changed, or who it is: which components it may have has to be asked anew for all that it sees.
    pub fn rights_changed(&self, viewer: ViewerId) -> bool {
        self.seat(viewer).is_some_and(|seat| seat.rights_changed)
    }

    /// True if it is the user that owns the entity, or is it. Known only where it matters: in a room in which something is restricted, or
    /// some component is not for everyone.
    pub fn is_owner(&self, viewer: ViewerId, id: NetId) -> bool {
        self.subject(id).zip(self.seat(viewer)).is_some_and(|(subject, seat)| subject.is_own(seat.rights.body))
    }

    /// Its mask.
    pub fn mask(&self, viewer: ViewerId) -> u64 {
        self.seat(viewer).map_or(0, |seat| seat.rights.mask)
    }

    /// Whether it may have a component of an entity, if it sees the entity.
    pub fn may_have(&self, viewer: ViewerId, id: NetId, audience: ComponentAudience) -> bool {
        let Some(seat) = self.seat(viewer) else { return false };
        match audience {
            ComponentAudience::Everyone => true,
            ComponentAudience::Mask(mask) if mask & seat.rights.mask != 0 => true,
            ComponentAudience::Mask(_) | ComponentAudience::Owner => seat.rights.everything || self.is_owner(viewer, id),
        }
    }

    /// True if the batch for all of this tick did not tell of the entity.
    pub fn is_restricted(&self, id: NetId) -> bool {
        self.restricted.contains(id.get())
    }

    /// True if there is any such entity.
    pub fn any_restricted(&self) -> bool {
        !self.restricted.is_empty()
    }

    /// Those that became public in this tick.
    pub(crate) fn released(&self) -> &[u32] {
        &self.released
    }

    /// The restricted entities, as bits.
    pub(crate) fn restricted_words(&self) -> &[u64] {
        self.restricted.words()
    }

    /// The restricted entities that one does not see, as bits.
    pub(crate) fn hidden_from(&self, viewer: ViewerId) -> Vec<u64> {
        let seen = self.sight.seen.column(viewer.0).map(Bits::words).unwrap_or_default();
        let seen = seen.iter().copied().chain(std::iter::repeat(0));
        self.restricted.words().iter().zip(seen).map(|(restricted, seen)| restricted & !seen).collect()
    }

    /// True if one is the user with that id.
    pub(crate) fn is_user(&self, viewer: ViewerId, user: EntityId) -> bool {
        self.seat(viewer).is_some_and(|seat| seat.user == Some(user))
    }

    /// True if one sees an entity, or saw it until it ended in this tick.
    pub(crate) fn knew(&self, viewer: ViewerId, id: NetId) -> bool {
        self.sees(viewer, id) || self.gone(viewer).binary_search(&id).is_ok()
    }
}
