//! What tests of a prediction share: a link as players have it, and what is to hold in the end.

use roomkeeper::predict::Predicted;
use roomkeeper::prelude::*;
use roomkeeper::sim::{LinkConditions, Sim};

pub fn bad_link() -> LinkConditions {
    LinkConditions { delay_millis: 75, jitter_millis: 30, loss: 0.02, ..LinkConditions::PERFECT }
}

pub fn id(name: &str) -> EntityId {
    EntityId::named(name)
}

pub fn predicted(sim: &mut Sim, name: &str) -> usize {
    let world = sim.client_mut(name).world_mut();
    world.query::<&Predicted>().iter(world).count()
}

/// Nobody was told of an entity twice, nothing that was predicted is left over, and all is as in the room.
pub fn assert_clean(sim: &mut Sim, clients: usize) {
    sim.settle();
    for name in sim.client_names() {
        assert_eq!(predicted(sim, &name), 0, "{name}");
        let told = sim.client_of(&name).told();
        assert!(told.diverged.is_empty(), "{name}: {:?}", told.diverged);
        let (mut added, count) = (told.added.clone(), told.added.len());
        added.sort_unstable();
        added.dedup();
        assert_eq!(added.len(), count, "{name} was told twice of an entity");
        assert_eq!(sim.client_of(&name).prediction().pending, 0, "{name}");
        assert_eq!(sim.client_of(&name).prediction().off, None, "{name}");
    }
    assert_eq!(sim.assert_converged(), clients);
}
