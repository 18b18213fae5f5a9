//! A test kit: a room, its clients and the links between them in one process, without a clock.
//!
//! Game developers test their rules with it; nearly all of our own tests use it.
//!
//! May use: everything but sockets and threads. Never: the wall clock.

mod around;
mod client;
mod cluster;
mod kit;
mod link;

pub use self::around::AroundCommits;
pub use self::client::{SimClient, Told};
pub use self::cluster::{CheckClient, Cluster, ClusterSize, Dying, Failure, Fault, MakeBrain, Planned, Tally, plan};
pub use self::kit::{Sim, TIMEOUT_TICKS};
pub use self::link::{RESEND_MILLIS, ReliableLane};
pub use crate::protocol::LinkConditions;
