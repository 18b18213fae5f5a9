//! The chain of hashes over a room's ledger: whoever changes a fact or a refusal after the event breaks it there.
//!
//! `head(0) = SHA-256(room id)`, `head(n) = SHA-256(head(n-1), text of the n-th item)`. The items are the facts and refusals in the order
//! in which they were kept: tick by tick, facts first. Each item carries the first 8 bytes of its head, each chunk the whole head after it.

use sha2::{Digest, Sha256};

use crate::protocol::RoomId;

/// Where a chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain(pub(crate) [u8; 32]);

impl Chain {
    /// The beginning of a room's chain.
    pub(crate) fn new(room: RoomId) -> Self {
        Self(Sha256::digest(room.as_uuid().as_bytes()).into())
    }

    /// Adds an item; returns the mark that it carries.
    pub(crate) fn extend(&mut self, text: &[u8]) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(text);
        self.0 = hasher.finalize().into();
        self.mark()
    }

    /// The first 8 bytes.
    pub(crate) fn mark(&self) -> u64 {
        self.0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}
