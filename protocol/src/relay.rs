//! Relays of a mesh: who says that it runs one and where, and which of them a node uses.
//!
//! A relay carries bytes that it cannot read between peers that cannot reach each other directly. Any member can run
//! one and says so with an [`Announcement`], which is believed only after a probe: the server at that address has
//! shown that it holds the announcer's key.

mod address;

mod directory;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::id::{MeshId, MeshKey, PeerId};
use crate::limits::{MAX_CLOCK_SKEW_MS, MAX_RELAY_URL_BYTES, RELAY_ANNOUNCEMENT_MS};
use crate::membership::Seal;
use crate::time::Time;

pub use address::{Host, InvalidRelay, RelayAddress};
pub use directory::{Directory, Entry, Origin};

/// Bytes of the question to a relay whose it is.
pub const CHALLENGE_BYTES: usize = 32;

/// A peer says that it runs a relay for the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Who runs it.
    pub by: PeerId,
    /// Where it is, as [`RelayAddress`] writes it.
    pub url: String,
    /// When this was signed.
    pub issued: Time,
    seal: Seal,
}

/// Why an announcement is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// Its address is none, or not in the one form that is signed.
    #[error("the relay's address is not one")]
    Address,
    /// It was not signed by whom it names, or for another mesh.
    #[error("the announcement is not signed by its peer for this mesh")]
    Signature,
    /// Its time is over, or its clock is wrong.
    #[error("the announcement is of another time")]
    Time,
}

impl Announcement {
    /// Says that the owner of `key` runs a relay at `address`.
    pub fn new(key: &SigningKey, mesh: MeshId, address: &RelayAddress, now: Time) -> Self {
        let by = PeerId(key.verifying_key().to_bytes());
        let url = address.to_string();
        let seal = Seal::new(key, &signed_bytes(mesh, by, &url, now));
        Self { by, url, issued: now, seal }
    }

    /// The relay's address, if the announcement is to be believed at this time.
    pub fn check(&self, mesh: MeshId, now: Time) -> Result<RelayAddress, NotBelieved> {
        let address: RelayAddress = self.url.parse().map_err(|_| NotBelieved::Address)?;
        // One form only: else one relay could be announced as many.
        if self.url.len() > MAX_RELAY_URL_BYTES || address.to_string() != self.url {
            return Err(NotBelieved::Address);
        }
        if self.issued.since(now) > MAX_CLOCK_SKEW_MS || now.since(self.issued) > RELAY_ANNOUNCEMENT_MS {
            return Err(NotBelieved::Time);
        }
        let bytes = signed_bytes(mesh, self.by, &self.url, self.issued);
        if self.seal.is_of(MeshKey(self.by.0), &bytes) { Ok(address) } else { Err(NotBelieved::Signature) }
    }
}

fn signed_bytes(mesh: MeshId, by: PeerId, url: &str, issued: Time) -> Vec<u8> {
    [&b"shoal 1 relay"[..], &mesh.0, &by.0, &issued.0.to_le_bytes(), url.as_bytes()].concat()
}

/// What a relay answers when it is asked whose it is: a signature that nobody but its owner can make, over a question
/// that nobody knew before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof(Seal);

impl Proof {
    /// The owner of `key` answers.
    pub fn new(key: &SigningKey, mesh: MeshId, challenge: &[u8; CHALLENGE_BYTES]) -> Self {
        Self(Seal::new(key, &proven_bytes(mesh, challenge)))
    }

    /// Whether `owner` answered.
    pub fn is_of(&self, owner: PeerId, mesh: MeshId, challenge: &[u8; CHALLENGE_BYTES]) -> bool {
        self.0.is_of(MeshKey(owner.0), &proven_bytes(mesh, challenge))
    }
}

fn proven_bytes(mesh: MeshId, challenge: &[u8; CHALLENGE_BYTES]) -> Vec<u8> {
    [&b"shoal 1 relay proof"[..], &mesh.0, challenge].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{canonical, parse};

    const NOW: Time = Time(1_800_000_000_000);
    const MESH: MeshId = MeshId([4; 32]);

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn announcement() -> Announcement {
        Announcement::new(&key(1), MESH, &"http://192.0.2.1:3340".parse().unwrap(), NOW)
    }

    #[test]
    fn an_announcement_is_good_for_its_mesh_and_its_time() {
        let said = announcement();
        let address: RelayAddress = "http://192.0.2.1:3340".parse().unwrap();
        assert_eq!(said.check(MESH, NOW), Ok(address.clone()));
        assert_eq!(said.check(MESH, NOW + RELAY_ANNOUNCEMENT_MS), Ok(address));
        assert_eq!(said.check(MESH, NOW + (RELAY_ANNOUNCEMENT_MS + 1)), Err(NotBelieved::Time));
        assert_eq!(said.check(MESH, NOW - (MAX_CLOCK_SKEW_MS + 1)), Err(NotBelieved::Time));
        assert_eq!(said.check(MeshId([5; 32]), NOW), Err(NotBelieved::Signature));
    }

    #[test]
    fn nobody_announces_for_another_or_in_another_form() {
        let other = Announcement { by: PeerId(key(2).verifying_key().to_bytes()), ..announcement() };
        assert_eq!(other.check(MESH, NOW), Err(NotBelieved::Signature));
        let moved = Announcement { url: "http://192.0.2.2:3340/".into(), ..announcement() };
        assert_eq!(moved.check(MESH, NOW), Err(NotBelieved::Signature));
        for url in ["http://192.0.2.1:3340", "http://192.0.2.1:3340/path", "ftp://192.0.2.1/", ""] {
            let odd = Announcement { url: url.into(), ..announcement() };
            assert_eq!(odd.check(MESH, NOW), Err(NotBelieved::Address), "{url}");
        }
    }

    #[test]
    fn the_longest_announcement_fits_into_gossip() {
        let url = format!("https://{}:65535", "a".repeat(MAX_RELAY_URL_BYTES - "https://:65535/".len()));
        let said = Announcement::new(&key(1), MESH, &url.parse().unwrap(), Time::NEVER);
        assert!(canonical(&said).len() <= crate::limits::MAX_RELAY_ANNOUNCEMENT_BYTES);
    }

    #[test]
    fn a_proof_is_of_its_owner_and_of_its_question() {
        let proof = Proof::new(&key(1), MESH, &[7; CHALLENGE_BYTES]);
        let owner = PeerId(key(1).verifying_key().to_bytes());
        assert!(proof.is_of(owner, MESH, &[7; CHALLENGE_BYTES]));
        assert!(!proof.is_of(owner, MESH, &[8; CHALLENGE_BYTES]));
        assert!(!proof.is_of(owner, MeshId([5; 32]), &[7; CHALLENGE_BYTES]));
        assert!(!proof.is_of(PeerId(key(2).verifying_key().to_bytes()), MESH, &[7; CHALLENGE_BYTES]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(said) = parse::<Announcement>(&bytes) {
                prop_assert!(said.check(MESH, NOW).is_err());
            }
        }

        #[test]
        fn a_changed_byte_is_not_believed(at in 0..200_usize, flip in 1..=255_u8) {
            let mut bytes = canonical(&announcement());
            let at = at % bytes.len();
            bytes[at] ^= flip;
            if let Ok(said) = parse::<Announcement>(&bytes) {
                prop_assert!(said.check(MESH, NOW).is_err());
            }
        }
    }
}
