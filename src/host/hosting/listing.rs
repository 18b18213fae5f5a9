//! Tells those who are in no room yet which there are: those of templates that say so.

use super::Host;
use crate::protocol::{Availability, ListedRoom, can_be_listed};

impl Host {
    /// Tells those which rooms there are who asked. The rooms are gone through for this once in a second at most, and where they are very many so seldom that it
    /// takes little of this thread's time.
    pub(super) fn tell_rooms(&mut self) {
        if self.foyer.wants_rooms() {
            let begun = self.scheduler.now();
            let rooms = self.listed_rooms();
            self.foyer.take_rooms(rooms, self.scheduler.now().saturating_sub(begun));
        }
        self.foyer.tell_rooms();
    }

    /// The rooms that may be told of, by name: those that are open and don't end, those at rest, and those that who asks for any would have made. Of rooms
    /// that other hosts have nothing is said, nor of those whose template was guessed: they may have been made by one that is not listed.
    fn listed_rooms(&self) -> Vec<ListedRoom> {
        let limits = &self.options.limits;
        let is_known = |name: &str| can_be_listed(name) && !self.guessed.contains(name);
        let listed = |template: &str| self.templates.get(template).filter(|template| template.listed);
        let on_demand = self.templates.iter().filter(|(_, template)| template.listed && template.on_demand);
        let on_demand =
            on_demand.map(|(name, template)| ListedRoom::new(format!("{name}/*"), (0, template.seats_max(limits)), Availability::OnDemand));
        let on_demand = on_demand.filter(|room| can_be_listed(&room.name));
        let resting = self.resting.iter().filter_map(|(name, resting)| {
            let template = listed(&resting.template).filter(|_| is_known(name))?;
            Some(ListedRoom::new(name, (0, template.seats_max(limits)), Availability::AtRest))
        });
        let open = self.places.iter().filter(|(name, place)| place.template.listed && place.ending.is_none() && is_known(name));
        let open = open.map(|(name, place)| ListedRoom::new(name, (place.taken(), place.seats_max(limits)), Availability::Open));
        // What is open does not rest. What could not be opened may rest under any name.
        let mut all: Vec<ListedRoom> = open.chain(on_demand).chain(resting).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all.dedup_by(|later, first| later.name == first.name);
        all
    }
}
