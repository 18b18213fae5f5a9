//! Who a connection is, as it stands in the 256 bytes of its connect token that only its issuer can write.

use thiserror::Error;
use uuid::Uuid;

use super::codec::{CodecError, Reader, write_text};
use super::ids::EntityId;
use super::limits::{NAME_BYTES_MAX, USER_NAME_BYTES_MAX};
use super::roster::read_uuid;

/// The size of the place in a token.
pub const USER_DATA_BYTES: usize = 256;

const MAGIC: &[u8; 4] = b"rk01";

/// Who a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The number of the connection: fresh for each, so that a player who comes back is not taken for the connection that
    /// it lost. It stands here too because the transport does not bind it to the rest.
    pub client_id: u64,
    /// The player.
    pub player: EntityId,
    /// The name that others see.
    pub name: String,
    /// The room that the token is good for; any if there is none.
    pub room: Option<String>,
}

/// Why an admission is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// A name is too long.
    #[error("the {what} {name:?} is longer than {max} bytes")]
    TooLong {
        /// Which name.
        what: &'static str,
        /// The name.
        name: String,
        /// The most that is allowed.
        max: usize,
    },
    /// The bytes are not one.
    #[error("the token's user data are not ours: {0}")]
    Malformed(#[from] CodecError),
}

impl Admission {
    /// The form in a token.
    ///
    /// # Errors
    /// If a name is too long.
    pub fn encode(&self) -> Result<[u8; USER_DATA_BYTES], AdmissionError> {
        let room = self.room.as_deref().unwrap_or_default();
        for (what, name, max) in [("user name", self.name.as_str(), USER_NAME_BYTES_MAX), ("room name", room, NAME_BYTES_MAX)] {
            if name.len() > max {
                return Err(AdmissionError::TooLong { what, name: name.to_owned(), max });
            }
        }
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.client_id.to_le_bytes());
        out.extend_from_slice(self.player.as_uuid().as_bytes());
        write_text(&self.name, &mut out);
        write_text(room, &mut out);
        out.resize(USER_DATA_BYTES, 0);
        Ok(out.try_into().unwrap_or([0; USER_DATA_BYTES]))
    }

    /// Reads the form in a token.
    ///
    /// # Errors
    /// If it is malformed, or anything but zeros follows it.
    pub fn decode(bytes: &[u8; USER_DATA_BYTES]) -> Result<Self, AdmissionError> {
        let mut reader = Reader::new(bytes);
        if reader.bytes(4)? != MAGIC {
            return Err(CodecError::Unknown { what: "kind of token", value: u64::from(bytes[0]), at: 0 }.into());
        }
        let client_id = u64::from_le_bytes(reader.bytes(8)?.try_into().unwrap_or_default());
        let player: Uuid = read_uuid(&mut reader)?;
        let name = reader.text("user name", USER_NAME_BYTES_MAX)?.to_owned();
        let room = reader.text("room name", NAME_BYTES_MAX)?.to_owned();
        let left = reader.rest();
        if left.iter().any(|byte| *byte != 0) {
            return Err(CodecError::TrailingBytes { at: reader.at(), left: left.len() }.into());
        }
        let room = (!room.is_empty()).then_some(room);
        Ok(Self { client_id, player: EntityId::from_uuid(player), name, room })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admission_survives_its_token() {
        let admission = Admission { client_id: 7, player: EntityId::named("ann"), name: "Ann".into(), room: Some("lobby".into()) };
        let mut bytes = admission.encode().unwrap();
        assert_eq!(Admission::decode(&bytes), Ok(admission));
        bytes[255] = 1;
        assert!(Admission::decode(&bytes).is_err());
        assert!(Admission::decode(&[0; USER_DATA_BYTES]).is_err());
    }

    #[test]
    fn names_that_are_as_long_as_they_may_be_fit_a_token_and_longer_ones_are_refused() {
        let named = |name: usize, room: usize| Admission {
            client_id: 7,
            player: EntityId::named("ann"),
            name: "n".repeat(name),
            room: Some("r".repeat(room)),
        };
        let longest = named(32, 64);
        assert_eq!(Admission::decode(&longest.encode().unwrap()), Ok(longest));
        assert!(matches!(named(33, 64).encode(), Err(AdmissionError::TooLong { what: "user name", max: 32, .. })));
        assert!(matches!(named(32, 65).encode(), Err(AdmissionError::TooLong { what: "room name", max: 64, .. })));
    }
}
