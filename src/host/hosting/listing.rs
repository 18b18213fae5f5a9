//! Tells those who are in no room yet which there are: those of templates that say so.

use std::collections::BTreeMap;

use super::Host;
use crate::protocol::{Availability, ListedRoom, can_be_listed};

impl Host {
    /// Tells those which rooms there are who asked. The rooms are gone through for this once in a second at most.
    pub(super) fn tell_rooms(&mut self) {
        if self.foyer.wants_rooms() {
            let rooms = self.listed_rooms();
            self.foyer.take_rooms(rooms);
        }
        self.foyer.tell_rooms();
    }

    /// The rooms that may be told of, by name: those that are open and don't end, those at rest, and those that who asks for any would have made. Of rooms
    /// that other hosts have nothing is said.
    fn listed_rooms(&self) -> Vec<ListedRoom> {
        let limits = &self.options.limits;
        let room = |name: &str, (taken, seats): (usize, usize), availability| {
            let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            (name.to_owned(), ListedRoom { name: name.to_owned(), taken: count(taken), seats: count(seats), availability })
        };
        let listed = |template: &str| self.templates.get(template).filter(|template| template.listed);
        let on_demand = self.templates.iter().filter(|(_, template)| template.listed && template.on_demand);
        let on_demand =
            on_demand.map(|(name, template)| room(&format!("{name}/*"), (0, template.seats_max(limits)), Availability::OnDemand));
        let resting = self.resting.iter().filter_map(|(name, resting)| {
            let template = listed(&resting.template)?;
            Some(room(name, (0, template.seats_max(limits)), Availability::AtRest))
        });
        let open = self.places.iter().filter(|(_, place)| place.template.listed && place.ending.is_none());
        let open = open.map(|(name, place)| room(name, (place.taken(), place.seats_max(limits)), Availability::Open));
        // Of two of a name, one that is open counts.
        let all: BTreeMap<String, ListedRoom> = on_demand.chain(resting).chain(open).collect();
        all.into_values().filter(|room| can_be_listed(&room.name)).collect()
    }
}
