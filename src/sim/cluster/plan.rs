//! What goes wrong in a simulation, and when: worked out from its seed before it begins, so that it can be left out piece by piece.

use crate::protocol::LinkConditions;
use crate::room::RoomRng;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A player's link gets bad, and good again after so many steps.
    Link(usize, LinkConditions, u32),
    /// Nothing goes to a player or comes from it.
    Cut(usize, u32),
    /// A player's process stands still: what comes waits, and nothing is said.
    Freeze(usize, u32),
    /// A player says goodbye, and comes again.
    Leave(usize),
    /// A player sends what no client would.
    Hostile(usize, u32),
    /// A host is killed, and started again after so many steps.
    Crash(usize, Dying, u32),
    /// A host stands still while time passes, as after SIGSTOP.
    Stall(usize, u32),
    /// A host stands still and does not know that time passed, as a virtual machine that is moved.
    Suspend(usize, u32),
    /// A host's clock leaps ahead by so many steps.
    Leap(usize, u32),
    /// So many commits of a host fail; or are done, and only the answer is lost.
    Disk(usize, u32, bool),
    /// A host's disk takes nothing for so many steps.
    SlowDisk(usize, u32),
    /// Rows that a host reads are not what was written, now and then, for so many steps.
    Damage(usize, u32),
    /// A host can't reach the directory.
    Lonely(usize, u32),
}

/// Whom a fault befalls.
pub(super) enum Whose {
    Player(usize),
    Host(usize),
}

impl Fault {
    pub(super) fn whose(self) -> Whose {
        match self {
            Self::Link(nth, ..) | Self::Cut(nth, _) | Self::Freeze(nth, _) | Self::Leave(nth) | Self::Hostile(nth, _) => Whose::Player(nth),
            Self::Crash(nth, ..)
            | Self::Stall(nth, _)
            | Self::Suspend(nth, _)
            | Self::Leap(nth, _)
            | Self::Disk(nth, ..)
            | Self::SlowDisk(nth, _)
            | Self::Damage(nth, _)
            | Self::Lonely(nth, _) => Whose::Host(nth),
        }
    }
}

/// At which point of a write a host dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dying {
    /// Before it: what the rooms handed over is lost.
    Before,
    /// In it, and nothing of it is there.
    Within,
    /// In it, and it is there, which nobody heard.
    Answering,
    /// After it.
    After,
}

/// A fault, and in which step it begins.
pub type Planned = (u32, Fault);

/// How large a simulation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterSize {
    /// Hosts, which share the rooms. 1 to 16.
    pub hosts: usize,
    /// Rooms.
    pub rooms: usize,
    /// Players, who are spread over the rooms.
    pub players: usize,
    /// Steps of 50 ms with faults. After them it is waited until all is well again.
    pub steps: u32,
}

impl Default for ClusterSize {
    /// Two hosts, two rooms, four players, a minute.
    fn default() -> Self {
        Self { hosts: 2, rooms: 2, players: 4, steps: 1_200 }
    }
}

/// What goes wrong with this seed.
pub fn plan(size: &ClusterSize, seed: u64) -> Vec<Planned> {
    let mut rng = RoomRng::new(seed ^ 0x5eed_fa17);
    let (mut plan, mut step) = (Vec::new(), 0);
    // Some runs are quiet, some are not.
    let pause = 10 + rng.range(0..90);
    loop {
        step += 1 + rng.range(0..pause * 2);
        if step >= size.steps {
            return plan;
        }
        plan.push((step, fault(&mut rng, size)));
    }
}

fn fault(rng: &mut RoomRng, size: &ClusterSize) -> Fault {
    let some = |rng: &mut RoomRng, count: usize| rng.range(0..count.max(1) as u32) as usize;
    let (player, host) = (some(rng, size.players), some(rng, size.hosts));
    let long = |rng: &mut RoomRng, most: u32| 1 + rng.range(0..most);
    match rng.range(0..21) {
        0..4 => Fault::Link(player, bad_link(rng), long(rng, 300)),
        4 | 5 => Fault::Cut(player, long(rng, 200)),
        6 | 7 => Fault::Freeze(player, long(rng, 150)),
        8 => Fault::Leave(player),
        9 | 10 => Fault::Hostile(player, long(rng, 60)),
        11 | 12 => {
            let dying = [Dying::Before, Dying::Within, Dying::Answering, Dying::After];
            let dying = dying.get(some(rng, 4)).copied().unwrap_or(Dying::Before);
            Fault::Crash(host, dying, long(rng, 200))
        }
        13 => Fault::Stall(host, long(rng, 150)),
        14 => Fault::Suspend(host, long(rng, 150)),
        15 => Fault::Leap(host, long(rng, 200)),
        16 | 17 => Fault::Disk(host, long(rng, 8), rng.chance(0.5)),
        18 => Fault::SlowDisk(host, long(rng, 200)),
        19 => Fault::Damage(host, long(rng, 300)),
        _ => Fault::Lonely(host, long(rng, 120)),
    }
}

fn bad_link(rng: &mut RoomRng) -> LinkConditions {
    let mut conditions = LinkConditions::PERFECT;
    conditions.delay_millis = rng.range(0..200);
    conditions.jitter_millis = rng.range(0..60);
    conditions.loss = rng.unit_f32() * 0.3;
    conditions.duplication = rng.unit_f32() * 0.1;
    conditions.reordering = rng.unit_f32() * 0.1;
    conditions
}
