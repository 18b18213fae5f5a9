//! Why facts can't be told at the moment.

use thiserror::Error;

use super::super::error::StoreError;

/// Why facts can't be published. Addresses in it are without passwords.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NatsError {
    /// The address is none.
    #[error("{detail}; as nats://host:4222 or tls://host:4222 is wanted, several with commas between them")]
    Address {
        /// What is wrong with it.
        detail: String,
    },
    /// A name is none of a stream, or of subjects.
    #[error("{what} {name:?}: {wanted} is wanted")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wanted.
        wanted: &'static str,
    },
    /// The file with the credentials can't be used.
    #[error("the credentials in {place}: {detail}")]
    Credentials {
        /// The file.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The system gives no thread, or no poller.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// No server can be reached, or none lets us in.
    #[error("{servers} can't be reached: {detail}")]
    Unreachable {
        /// The servers.
        servers: String,
        /// What the client says.
        detail: String,
    },
    /// The connection is gone.
    #[error("{servers}: the connection broke")]
    Broken {
        /// The servers.
        servers: String,
    },
    /// The stream is not there and can't be made, or can't be asked.
    #[error("the stream {stream:?}: {detail}")]
    Stream {
        /// Its name.
        stream: String,
        /// What the server says.
        detail: String,
    },
    /// The stream would not take facts.
    #[error(
        "the stream {stream:?} does not take {wanted}, it takes {takes}: add that to its subjects, or name another nats.stream or nats.prefix"
    )]
    Subjects {
        /// Its name.
        stream: String,
        /// The subjects that are wanted.
        wanted: String,
        /// The subjects that it has.
        takes: String,
    },
    /// The stream never says what it has.
    #[error("the stream {stream:?} is configured not to acknowledge (no_ack): nothing can be known to be in it")]
    Unacknowledged {
        /// Its name.
        stream: String,
    },
    /// A fact was not taken, or not known to be.
    #[error("the fact {seq} of room {room:?} was not taken: {detail}")]
    Refused {
        /// The room.
        room: String,
        /// The fact.
        seq: u64,
        /// What the server says.
        detail: String,
    },
    /// The ledger can't be read.
    #[error("the ledger can't be read: {0}")]
    Store(#[from] StoreError),
}
