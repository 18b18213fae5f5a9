//! One contestant with one workload: connects everybody, plays, and notes what each tick cost.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::crew::{Crew, Tapped};
use super::{BEGIN, Bare, Cost, Entry, Newcomer, Server, Setting, TICK, Trace};
use crate::measure::{self, quantile};
use crate::workload::{Changes, Play, Script, Workload};

/// Ticks before those that count.
const WARM_UP: usize = 50;

/// Joins that do not count.
const JOIN_WARM_UP: usize = 2;

/// Ticks of rest between two joins. The last of them tell what a tick without a join costs.
const REST: usize = 12;

/// After so many ticks everybody should hold the world.
const PATIENCE: usize = 600;

/// Every so many members one has its datagrams measured, the first being one of them.
const TAPPED: usize = 16;

/// What was measured in one round: nanoseconds, and bytes and datagrams per member and tick (or join).
#[derive(Default)]
pub struct Samples {
    /// The whole tick, less the same game without replication.
    pub server: Vec<f64>,
    /// What of it went into receiving. Empty for joins, and where nobody knows.
    pub receive: Vec<f64>,
    /// What of it the game needed to find out who sees what.
    pub sight: Vec<f64>,
    /// Bytes in datagrams.
    pub bytes: Vec<f64>,
    /// Datagrams.
    pub datagrams: Vec<f64>,
    /// How many datagrams the system dropped in what was measured because a socket's buffer was full, if it says so.
    pub dropped: Option<u64>,
}

impl Samples {
    fn note(&mut self, cost: &Cost, off_ns: f64, sizes: &[&[u16]]) {
        self.server.push(cost.server_ns as f64 - off_ns);
        self.receive.extend(cost.receive_ns.map(|ns| ns as f64));
        self.sight.push(cost.sight_ns as f64);
        let members = sizes.len().max(1) as f64;
        self.bytes.push(sizes.iter().copied().flatten().map(|&size| f64::from(size)).sum::<f64>() / members);
        self.datagrams.push(sizes.iter().map(|sizes| sizes.len() as f64).sum::<f64>() / members);
    }
}

struct Session<'a> {
    entry: &'a Entry,
    workload: Workload,
    server: Box<dyn Server>,
    crew: Crew,
    now: Duration,
    numbers: u64,
    members: usize,
}

/// A round of one contestant. What members were sent is noted in the trace.
pub fn round(entry: &Entry, workload: &Workload, before: &Rc<Trace>) -> (Samples, Trace) {
    let setting = Setting { workload: *workload, trace: Rc::clone(before) };
    let server = (entry.server)(&setting);
    let mut session = Session { entry, workload: *workload, server, crew: Crew::new(), now: BEGIN, numbers: 0, members: 0 };
    // A floor sends a join to somebody who is there already.
    let joiner = usize::from(workload.play == Play::Join && session.server.truth(0).is_none());
    for member in 0..workload.clients + joiner {
        session.join(member.is_multiple_of(TAPPED) || member == workload.clients);
    }
    session.settle();
    for _ in 0..REST {
        session.tick(&Changes::default());
    }
    session.check();
    let (mut samples, mut trace): (Samples, Trace) = Default::default();
    // Of the joins of the set-up some are dropped: where clients leave their sockets' buffers as they are.
    let before = dropped_datagrams();
    if workload.play == Play::Join {
        session.joins(&mut samples, &mut trace);
    } else {
        session.plays(&mut samples, &mut trace);
    }
    samples.dropped = before.zip(dropped_datagrams()).map(|(before, after)| after - before);
    (samples, trace)
}

/// How many datagrams the system has dropped because a socket's buffer was full, if it says so.
fn dropped_datagrams() -> Option<u64> {
    let snmp = std::fs::read_to_string("/proc/net/snmp").ok()?;
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp:"));
    let place = lines.next()?.split_whitespace().position(|name| name == "RcvbufErrors")?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

impl Session<'_> {
    fn join(&mut self, tapped: bool) {
        self.numbers += 1;
        self.members += 1;
        let newcomer = Newcomer { server: self.server.address(), number: self.numbers, play: self.workload.play, now: self.now };
        self.crew.join(self.entry.client, newcomer, tapped);
    }

    fn tick(&mut self, changes: &Changes) -> (Cost, Tapped) {
        self.now += TICK;
        let cost = self.server.tick(self.now, changes);
        (cost, self.crew.tick(self.now))
    }

    fn expected(&self, member: usize) -> usize {
        self.server.truth(member).map_or(1, |truth| truth.len())
    }

    /// Ticks until everybody holds what it is to hold.
    fn settle(&mut self) {
        let expected: Vec<usize> = (0..self.members).map(|member| self.expected(member)).collect();
        for _ in 0..PATIENCE {
            self.tick(&Changes::default());
            if self.crew.held() == expected {
                return;
            }
        }
        panic!("{} on {}: not everybody came in", self.entry.name, self.workload.name);
    }

    fn check(&self) {
        let whole = self.workload.play != Play::Walk;
        let Some(first) = self.server.truth(0).map(Arc::new) else { return };
        let truths = (0..self.members).map(|member| match self.server.truth(member) {
            Some(truth) if !whole => Arc::new(truth),
            _ => Arc::clone(&first),
        });
        self.crew.check(truths.collect());
    }

    fn bare(&self) -> Option<measure::Bare> {
        match self.entry.bare {
            Bare::App(app) => Some(measure::Bare::new(Some(app), None, &self.workload)),
            Bare::World => Some(measure::Bare::new(None, None, &self.workload)),
            Bare::Nothing => None,
        }
    }

    fn plays(&mut self, samples: &mut Samples, trace: &mut Trace) {
        let mut script = Script::new(&self.workload);
        let mut bare = self.bare();
        let mut played = Vec::new();
        for n in 0..WARM_UP + self.workload.samples {
            let changes = script.next_tick();
            let (cost, tapped) = self.tick(&changes);
            played.push(changes);
            if n < WARM_UP {
                continue;
            }
            samples.note(&cost, 0.0, &tapped.iter().map(|(_, sizes)| sizes.as_slice()).collect::<Vec<_>>());
            // One member after the other: they may see different parts of the world.
            let nth = n % tapped.len().max(1);
            trace.ticks.extend(tapped.into_iter().nth(nth).map(|(_, sizes)| sizes));
        }
        for _ in 0..REST {
            self.tick(&Changes::default());
        }
        self.check();
        if let Some(bare) = &mut bare {
            let bare: Vec<u64> = played.iter().map(|changes| bare.server_tick(changes)).collect();
            let bare = quantile(&bare[WARM_UP..], 0.5);
            samples.server.iter_mut().for_each(|ns| *ns -= bare);
        }
    }

    fn joins(&mut self, samples: &mut Samples, trace: &mut Trace) {
        for n in 0..JOIN_WARM_UP + self.workload.samples {
            let rest: Vec<u64> = (0..REST).map(|_| self.tick(&Changes::default()).0.server_ns).collect();
            let rest_ns = quantile(&rest[REST / 2..], 0.5);
            let replayed = self.server.replay_join();
            if replayed.is_none() {
                self.join(true);
            }
            let (cost, ticks) = self.join_cost(replayed);
            if n == 0 {
                self.check();
            }
            if n >= JOIN_WARM_UP {
                samples.note(&cost, rest_ns * ticks.len() as f64, &[&ticks.concat()]);
                trace.join = ticks;
            }
            if replayed.is_none() {
                self.crew.leave();
                self.members -= 1;
            }
        }
    }

    /// All ticks of a join, and what the one who joins was sent in each.
    fn join_cost(&mut self, replayed: Option<usize>) -> (Cost, Vec<Vec<u16>>) {
        let (last, mut sum, mut sizes) = (self.members - 1, Cost::default(), Vec::new());
        let expected = self.expected(last);
        // When it holds the world its last acknowledgements are still on their way.
        let mut left = replayed.map(|ticks| ticks + 1);
        for n in 0..PATIENCE {
            let (cost, mut tapped) = self.tick(&Changes::default());
            sum.server_ns += cost.server_ns;
            sizes.push(tapped.pop().filter(|(member, _)| *member == last).map(|(_, sizes)| sizes).unwrap_or_default());
            left = match left {
                Some(0) => return (sum, sizes),
                Some(ticks) => Some(ticks - 1),
                None => (self.crew.held().last() == Some(&expected)).then_some(1),
            };
            assert!(n + 1 < PATIENCE, "{} on {}: somebody never came in", self.entry.name, self.workload.name);
        }
        (sum, sizes)
    }
}
