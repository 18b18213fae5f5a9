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
    use std::sync::{Arc, Condvar, Mutex, PoisonError};
    use std::time::Duration;

    use super::super::shard::Shard;
    use super::GLANCE;

    #[derive(Debug, Default)]
    struct Bell {
        is_rung: Mutex<bool>,
        rings: Condvar,
    }

    /// What wakes the thread.
    #[derive(Debug)]
    pub(in crate::host::gateway) struct Waker(Arc<Bell>);

    impl Waker {
        /// Wakes it, or lets it not wait when it next would.
        pub(in crate::host::gateway) fn wake(&self) -> io::Result<()> {
            *self.0.is_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.0.rings.notify_one();
            Ok(())
        }
    }

    /// The thread's end.
    pub(in crate::host::gateway) struct Waiter(Arc<Bell>);

    impl Waiter {
        /// Who waits for a shard's socket, and what wakes it besides.
        pub(in crate::host::gateway) fn of(_: &Shard) -> io::Result<(Self, Waker)> {
            let bell = Arc::<Bell>::default();
            Ok((Self(Arc::clone(&bell)), Waker(bell)))
        }

        /// How long it waits where nothing is due.
        pub(in crate::host::gateway) fn nap(&self) -> Duration {
            GLANCE
        }

        /// Waits.
        pub(in crate::host::gateway) fn wait(&mut self, at_most: Duration) {
            let mut is_rung = self.0.is_rung.lock().unwrap_or_else(PoisonError::into_inner);
            let glance = at_most.min(GLANCE);
            if !*is_rung && !glance.is_zero() {
                let waited = self.0.rings.wait_timeout(is_rung, glance);
                is_rung = waited.map_or_else(|error| error.into_inner().0, |(is_rung, _)| is_rung);
            }
            *is_rung = false;
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
