//! How a thread of a gateway waits: for its socket, and for a word of the host.

use std::time::Duration;

#[cfg(not(unix))]
pub(super) use self::by_glances::{Waiter, Waker};
#[cfg(unix)]
pub(super) use self::by_system::{Waiter, Waker};

/// How long a thread waits for what does not wake it: a socket that the system does not know, or a host that has too much to read.
pub(super) const GLANCE: Duration = Duration::from_millis(1);

/// The system wakes the thread, whatever comes first.
#[cfg(unix)]
mod by_system {
    use std::io;
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};

    use super::super::shard::Shard;
    use super::GLANCE;

    pub(in crate::host::gateway) use mio::Waker;

    /// How long it waits at most. It is woken by datagrams and by the host.
    const NAP_MAX: Duration = Duration::from_millis(25);

    const WAKE: Token = Token(0);
    const SOCKET: Token = Token(1);

    /// The thread's end.
    pub(in crate::host::gateway) struct Waiter {
        poll: Poll,
        ready: Events,
        /// It is woken by datagrams.
        hears: bool,
    }

    impl Waiter {
        /// Who waits for a shard's socket, and what wakes it besides.
        pub(in crate::host::gateway) fn of(shard: &Shard) -> io::Result<(Self, Waker)> {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKE)?;
            let fd = shard.raw_fd();
            if let Some(fd) = fd {
                poll.registry().register(&mut SourceFd(&fd), SOCKET, Interest::READABLE)?;
            }
            Ok((Self { poll, ready: Events::with_capacity(8), hears: fd.is_some() }, waker))
        }

        /// How long it waits where nothing is due.
        pub(in crate::host::gateway) fn nap(&self) -> Duration {
            if self.hears { NAP_MAX } else { GLANCE }
        }

        /// Waits.
        pub(in crate::host::gateway) fn wait(&mut self, at_most: Duration) {
            // What it says is of no use: all is looked at in each round, whatever woke it.
            let _: io::Result<()> = self.poll.poll(&mut self.ready, Some(at_most));
        }
    }
}

/// Where nobody tells of datagrams: the thread looks for them again and again. It is woken by the host alone.
#[cfg(any(not(unix), test))]
mod by_glances {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::super::shard::Shard;
    use super::GLANCE;

    /// What wakes the thread: at its next glance.
    #[derive(Clone, Debug, Default)]
    pub(in crate::host::gateway) struct Waker(Arc<AtomicBool>);

    impl Waker {
        /// Wakes it, or lets it not wait when it next would.
        pub(in crate::host::gateway) fn wake(&self) -> io::Result<()> {
            self.0.store(true, Ordering::Release);
            Ok(())
        }
    }

    /// The thread's end.
    pub(in crate::host::gateway) struct Waiter(Waker);

    impl Waiter {
        /// Who waits for a shard's socket, and what wakes it besides.
        pub(in crate::host::gateway) fn of(_: &Shard) -> io::Result<(Self, Waker)> {
            let waker = Waker::default();
            Ok((Self(waker.clone()), waker))
        }

        /// How long it waits where nothing is due.
        pub(in crate::host::gateway) fn nap(&self) -> Duration {
            GLANCE
        }

        /// Waits.
        pub(in crate::host::gateway) fn wait(&mut self, at_most: Duration) {
            let glance = at_most.min(GLANCE);
            // By sleep, not by a condition: Windows would wait for that until the clock's next step, 15 ms later.
            if !self.0.0.swap(false, Ordering::AcqRel) && !glance.is_zero() {
                std::thread::sleep(glance);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{Access, ShardConfig};
    use super::super::counters::GatewayLimits;
    use super::super::shard::Shard;
    use super::*;

    #[test]
    fn where_the_system_does_not_tell_of_datagrams_nobody_waits_for_longer_than_a_glance_or_when_woken_at_all() {
        let bind = ([127, 0, 0, 1], 0).into();
        let config = ShardConfig { bind, public_addresses: Vec::new(), access: Access::Loopback, limits: GatewayLimits::default() };
        let shard = Shard::bind(&config, Duration::from_secs(1)).unwrap();
        let (mut waiter, waker) = by_glances::Waiter::of(&shard).unwrap();
        assert_eq!(waiter.nap(), GLANCE);
        waker.wake().unwrap();
        // For an hour, if it did: once since nobody wakes it any more, and once though it was woken before it waits.
        for _ in 0..2 {
            waiter.wait(Duration::from_secs(3_600));
        }
    }
}
