//! Facts on their way to NATS JetStream, at least once and with ids that make it exactly once, for projections outside the process.
//!
//! A [`Publisher`] has a thread of its own, which follows the ledger: what goes out is durable, and a server that is gone for an hour costs no
//! memory. Of each room one fact at a time is on its way, so the stream has a room's facts in the order of their numbers, whatever fails.
//! Where it stands is told by the stream itself, by its last message of the room, and by the store, where a position is kept beside those of
//! other projections. A consumer reads each message as a [`ToldFact`] and counts it by [`Counted`]: see `docs/nats.md`.
//!
//! ```no_run
//! // Not run: it wants a NATS server.
//! use roomkeeper::store::nats::{Count, Counted, ToldFact};
//!
//! /// A projection that counts facts by their kind. Its view and its positions are kept together: here in memory, in earnest in one transaction.
//! fn take(view: &mut std::collections::BTreeMap<String, u64>, counted: &mut Counted, payload: &[u8]) -> Result<(), serde_json::Error> {
//!     let fact = ToldFact::read(payload)?;
//!     match counted.count(&fact) {
//!         Count::New => {}
//!         Count::After { missing } => eprintln!("{missing} facts of {} were deleted before they were told", fact.room),
//!         Count::Double => return Ok(()),
//!     }
//!     *view.entry(fact.kind).or_default() += 1;
//!     Ok(())
//! }
//! ```

mod fact;
mod failure;
mod line;
mod options;
mod publisher;
mod session;
mod subject;
mod work;

pub use self::fact::{Count, Counted, ToldFact};
pub use self::failure::NatsError;
pub use self::options::NatsOptions;
pub use self::publisher::{Publisher, PublisherReport};
pub use self::subject::{named_by, subject_of};

/// The program of the manual, so that it is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/nats.md")]
struct Manual;
