//! The keys whose tokens let in. They can be changed while clients are connected.
//!
//! The transport knows one key for good, so it is given one of its own that nobody else has. A connection request whose token was sealed with
//! a key that counts is sealed anew with that one before the transport sees it. The layout is that of a connection request of netcode 1.02:
//! its kind (0), version (13 bytes), protocol (8), expiry (8), nonce (24), and the token's secret part (1,024); the secret part is sealed by
//! XChaCha20-Poly1305, with version, protocol and expiry beside it as what is vouched for.
//!
//! Where there are no keys, tokens are sealed with one that everybody knows, so that anybody says how long they hold.
//!
//! A token lets in once. Both ends count their packets from nothing in each connection and seal them with the token's keys: what was recorded of one
//! would count in another by the same token, and what two packets of one number have in common would be there to see.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};

use crate::host::token::HostKey;

const VOUCHED: Range<usize> = 1..30;
const EXPIRY: Range<usize> = 22..30;
const NONCE: Range<usize> = 30..54;
const SECRET: Range<usize> = 54..1_062;
/// The number of the connection, with which the secret part begins.
const ID: Range<usize> = 54..62;
const TAG: Range<usize> = 1_062..1_078;

/// Most keys that count at a time.
pub const KEYS_MAX: usize = 8;

/// For how long it is remembered that a token was used: as long as one holds at most that a server makes for a back end.
const USED_FOR: Duration = Duration::from_secs(3_600);

/// What tokens are sealed with where anybody may connect.
const NO_KEY: HostKey = HostKey([0; 32]);

/// Where there are no keys: lets the token in a connection request run out at a time in seconds since the epoch, if it says a later one. The transport
/// remembers who asked to come in until then. False if that is not a token which anybody may make.
pub(super) fn run_out_by(request: &mut [u8], latest: u64) -> bool {
    let expiry = request.get(EXPIRY).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    expiry.is_some_and(|expiry| expiry <= latest || reseal(request, &NO_KEY, &NO_KEY, Some(latest)).is_some())
}

/// The keys that count, and the one that the transport knows.
#[derive(Debug)]
pub(super) struct KeyRing {
    own: HostKey,
    accepted: Vec<HostKey>,
    /// Who was let in by a token, as long as that may still be valid: one for each connection that stood.
    used: BTreeSet<u64>,
    /// Since when they are in there, the oldest first.
    used_since: VecDeque<(Duration, u64)>,
}

impl KeyRing {
    pub(super) fn new(own: HostKey, accepted: HostKey) -> Self {
        Self { own, accepted: vec![accepted], used: BTreeSet::new(), used_since: VecDeque::new() }
    }

    /// The key that the transport knows.
    pub(super) fn own(&self) -> HostKey {
        self.own
    }

    /// From now on these keys count, at most [`KEYS_MAX`].
    pub(super) fn accept(&mut self, keys: &[HostKey]) {
        self.accepted = keys.iter().copied().take(KEYS_MAX).collect();
    }

    /// Seals the token in a connection request anew, and says whose it is. `None` if it was sealed with no key that counts, or was changed since.
    pub(super) fn reseal(&self, request: &mut [u8]) -> Option<u64> {
        self.accepted.iter().find_map(|key| reseal(request, key, &self.own, None))
    }

    /// True if somebody was let in by the token with this number.
    pub(super) fn is_used(&self, id: u64) -> bool {
        self.used.contains(&id)
    }

    /// Takes note that somebody is let in by the token with this number. False if somebody was before.
    pub(super) fn take(&mut self, id: u64, now: Duration) -> bool {
        let is_first = self.used.insert(id);
        if is_first {
            self.used_since.push_back((now, id));
        }
        is_first
    }

    /// Forgets tokens that have run out since they were used.
    pub(super) fn forget(&mut self, now: Duration) {
        let oldest = now.saturating_sub(USED_FOR);
        while let Some((_, id)) = self.used_since.pop_front_if(|(since, _)| *since < oldest) {
            self.used.remove(&id);
        }
    }
}

fn reseal(request: &mut [u8], from: &HostKey, to: &HostKey, expiry: Option<u64>) -> Option<u64> {
    let vouched: [u8; 29] = request.get(VOUCHED)?.try_into().ok()?;
    let nonce = *XNonce::from_slice(request.get(NONCE)?);
    let tag = *Tag::from_slice(request.get(TAG)?);
    // Of a key that is not the right one nothing is changed.
    XChaCha20Poly1305::new(&from.0.into()).decrypt_in_place_detached(&nonce, &vouched, request.get_mut(SECRET)?, &tag).ok()?;
    let id = u64::from_le_bytes(request.get(ID)?.try_into().ok()?);
    if let Some(expiry) = expiry {
        request.get_mut(EXPIRY)?.copy_from_slice(&expiry.to_le_bytes());
    }
    let vouched: [u8; 29] = request.get(VOUCHED)?.try_into().ok()?;
    let tag = XChaCha20Poly1305::new(&to.0.into()).encrypt_in_place_detached(&nonce, &vouched, request.get_mut(SECRET)?).ok()?;
    request.get_mut(TAG)?.copy_from_slice(&tag);
    Some(id)
}

#[cfg(test)]
mod tests {
    use renetcode::NetcodeClient;

    use super::*;
    use crate::host::TokenIssuer;
    use crate::protocol::EntityId;

    fn request(key: HostKey) -> Vec<u8> {
        let issuer = TokenIssuer { key, addresses: vec![([127, 0, 0, 1], 5_000).into()], expire_seconds: 30 };
        let token = issuer.issue(EntityId::named("ann"), "ann", None, Duration::from_secs(1_000)).unwrap();
        let connect_token = renetcode::ConnectToken::read(&mut &*token).unwrap();
        let authentication = renetcode::ClientAuthentication::Secure { connect_token };
        let mut client = NetcodeClient::new(Duration::from_secs(1_000), authentication).unwrap();
        client.update(Duration::from_secs(1)).unwrap().0.to_vec()
    }

    #[test]
    fn a_token_of_a_key_that_counts_is_sealed_anew_and_any_other_stays_as_it_is() {
        let [own, first, second, other] = [1, 2, 3, 4].map(|byte| HostKey([byte; 32]));
        let mut ring = KeyRing::new(own, first);
        let sealed_with_own = |request: &[u8]| reseal(&mut request.to_vec(), &own, &own, None).is_some();
        let mut from_first = request(first);
        assert!(ring.reseal(&mut from_first).is_some() && sealed_with_own(&from_first));
        for stranger in [second, other, own] {
            let mut before = request(stranger);
            let copy = before.clone();
            assert!(ring.reseal(&mut before).is_none() && before == copy, "the transport's own key is no way in either");
        }
        ring.accept(&[second, first]);
        assert!(ring.reseal(&mut request(first)).is_some() && ring.reseal(&mut request(second)).is_some());
        ring.accept(&[second]);
        assert!(ring.reseal(&mut request(first)).is_none(), "what counted once does so no longer");
        for place in [0_usize, 20, 29, 40, 54, 500, 1_061, 1_077] {
            let mut forged = request(second);
            forged[place] ^= 1;
            assert_eq!(ring.reseal(&mut forged).is_some(), place == 0, "byte {place}");
        }
        assert!(ring.reseal(&mut request(second)[..1_000]).is_none(), "cut off");
    }

    #[test]
    fn a_token_that_was_used_is_remembered_for_as_long_as_it_may_be_valid() {
        let [own, key] = [1, 2].map(|byte| HostKey([byte; 32]));
        let (mut ring, start) = (KeyRing::new(own, key), Duration::from_secs(10_000));
        let [first, second] = [1, 2].map(|_| ring.reseal(&mut request(key)).unwrap());
        assert!(first != second && !ring.is_used(first));
        assert!(ring.take(first, start) && !ring.take(first, start));
        assert!(ring.take(second, start + Duration::from_secs(1)));
        ring.forget(start + USED_FOR);
        assert!(ring.is_used(first) && ring.is_used(second));
        ring.forget(start + USED_FOR + Duration::from_secs(1));
        assert!(!ring.is_used(first) && ring.is_used(second));
        ring.forget(start + USED_FOR * 2);
        assert!(ring.used.is_empty() && ring.used_since.is_empty());
    }

    #[test]
    fn where_there_are_no_keys_a_token_runs_out_in_time_and_is_as_good_as_before() {
        // Made at 1,000 s for 30 s.
        let before = request(NO_KEY);
        let mut shorter = before.clone();
        assert!(run_out_by(&mut shorter, 1_010) && shorter[EXPIRY] == 1_010_u64.to_le_bytes());
        assert!(reseal(&mut shorter.clone(), &NO_KEY, &NO_KEY, None).is_some(), "the transport can read it");
        let mut kept = before.clone();
        assert!(run_out_by(&mut kept, 1_030) && kept == before, "it runs out in time by itself");
        let mut forged = request(HostKey([1; 32]));
        assert!(!run_out_by(&mut forged, 1_010));
        assert!(!run_out_by(&mut shorter[..20], 1_010), "cut off");
    }
}
