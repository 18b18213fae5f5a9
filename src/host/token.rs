//! Connect tokens: what a game's back end gives to a player so that a host lets it in.

use std::net::SocketAddr;
use std::time::Duration;

use renetcode::{ConnectToken, TokenGenerationError};
use thiserror::Error;

use crate::protocol::{Admission, AdmissionError, EntityId, TIMEOUT_SECONDS, TRANSPORT_ID};

/// The secret that issuer and host share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HostKey(pub [u8; 32]);

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostKey(..)")
    }
}

impl HostKey {
    /// A key from the system's source of chance.
    ///
    /// # Errors
    /// If the system has none.
    pub fn random() -> Result<Self, TokenError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self(key))
    }
}

/// Why a token could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// A name is too long.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// The system gives no chance.
    #[error("the system gives no random numbers: {0}")]
    Chance(#[from] getrandom::Error),
    /// The transport refuses, for want of an address for instance.
    #[error("the connect token can't be made: {0}")]
    Transport(#[from] TokenGenerationError),
    /// The token can't be written.
    #[error("the connect token can't be written: {0}")]
    Io(#[from] std::io::Error),
}

/// Makes connect tokens.
///
/// ```
/// use std::time::{SystemTime, UNIX_EPOCH};
///
/// use roomkeeper::host::{HostKey, TokenIssuer};
/// use roomkeeper::protocol::EntityId;
///
/// let issuer = TokenIssuer { key: HostKey::random()?, addresses: vec!["203.0.113.7:5000".parse()?], expire_seconds: 30 };
/// let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
/// // Who it is, the name that others see, and the only room that it is good for.
/// let token = issuer.issue(EntityId::named("account 4711"), "ann", Some("duel/blue"), now)?;
/// assert!(token.len() > 1_000); // for the player's client: `Credentials::Token(token)`
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenIssuer {
    /// The secret that it shares with the hosts.
    pub key: HostKey,
    /// The addresses at which players reach the host, as they stand in the token.
    pub addresses: Vec<SocketAddr>,
    /// For how long a token lets in, in seconds. Default of the command line: 30.
    pub expire_seconds: u64,
}

impl TokenIssuer {
    /// Makes a token for one connection of a player, at a time since the Unix epoch. It is to be kept secret, and used once.
    ///
    /// # Errors
    /// If a name is too long, or the system gives no random numbers.
    pub fn issue(&self, player: EntityId, name: &str, room: Option<&str>, now: Duration) -> Result<Vec<u8>, TokenError> {
        let client_id = fresh_client_id()?;
        let admission = Admission { client_id, player, name: name.to_owned(), room: room.map(str::to_owned) };
        let user_data = admission.encode()?;
        let addresses = self.addresses.clone();
        let token = ConnectToken::generate(
            now,
            TRANSPORT_ID,
            self.expire_seconds,
            client_id,
            TIMEOUT_SECONDS,
            addresses,
            Some(&user_data),
            &self.key.0,
        )?;
        let mut bytes = Vec::new();
        token.write(&mut bytes)?;
        Ok(bytes)
    }
}

/// A number that no other connection has.
fn fresh_client_id() -> Result<u64, TokenError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
