//! One ed25519 key under three names: ours, libp2p's and iroh's.
//!
//! The conversions lose nothing. Between our names and libp2p's no point of the curve is computed, since that takes a third
//! of checking a signature and every message of gossip would need several: bytes that are no key have a name there, and
//! nobody who can prove it.

use ed25519_dalek::SigningKey;
use iroh::{EndpointId, SecretKey};
use libp2p::identity::Keypair;
use shoal_protocol::id::PeerId;

/// The code of the multihash that holds its content itself: how libp2p writes an ed25519 key as an id.
const IDENTITY_MULTIHASH: u8 = 0;
/// What comes before the key in that content: a protobuf that says what kind of key follows, and its length.
const ED25519: [u8; 4] = [8, 1, 18, 32];

/// The libp2p name of a peer.
pub(crate) fn libp2p_id(peer: PeerId) -> libp2p::PeerId {
    let bytes = [&[IDENTITY_MULTIHASH, 36], &ED25519[..], peer.as_bytes()].concat();
    libp2p::PeerId::from_bytes(&bytes).expect("it is an id, if not of anybody")
}

/// The iroh name of a peer; none for 32 bytes that are no key.
pub(crate) fn endpoint_id(peer: PeerId) -> Option<EndpointId> {
    EndpointId::from_bytes(peer.as_bytes()).ok()
}

/// The peer that libp2p calls `id`; none if that is no ed25519 key, which no node of ours has.
pub(crate) fn peer_of_libp2p(id: &libp2p::PeerId) -> Option<PeerId> {
    if id.as_ref().code() != u64::from(IDENTITY_MULTIHASH) {
        return None;
    }
    let key = id.as_ref().digest().strip_prefix(&ED25519)?;
    key.try_into().ok().map(PeerId)
}

/// The peer that iroh calls `id`.
pub(crate) fn peer_of_endpoint(id: EndpointId) -> PeerId {
    PeerId(*id.as_bytes())
}

/// The peer that a key belongs to.
pub(crate) fn peer_of_key(key: &SigningKey) -> PeerId {
    PeerId(key.verifying_key().to_bytes())
}

/// The key in libp2p's form.
pub(crate) fn libp2p_keypair(key: &SigningKey) -> Keypair {
    Keypair::ed25519_from_bytes(key.to_bytes()).expect("any 32 bytes are an ed25519 seed")
}

/// The key in iroh's form.
pub(crate) fn iroh_key(key: &SigningKey) -> SecretKey {
    SecretKey::from_bytes(&key.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_same_name_everywhere() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let peer = peer_of_key(&key);
        assert_eq!(libp2p_id(peer), libp2p_keypair(&key).public().to_peer_id());
        assert_eq!(endpoint_id(peer), Some(iroh_key(&key).public()));
        assert_eq!(peer_of_libp2p(&libp2p_id(peer)), Some(peer));
        assert_eq!(endpoint_id(peer).map(peer_of_endpoint), Some(peer));
    }

    #[test]
    fn bytes_that_are_no_key_name_nobody() {
        // y = 2 is not on the curve.
        let mut bytes = [0; 32];
        bytes[0] = 2;
        assert_eq!(endpoint_id(PeerId(bytes)), None);
        assert_eq!(peer_of_libp2p(&libp2p_id(PeerId(bytes))), Some(PeerId(bytes)), "it has a name, and nobody has it");
    }

    #[test]
    fn names_that_are_no_ed25519_keys_are_of_nobody() {
        let hashed = [&[0x12, 32][..], &[7; 32]].concat();
        let other_kind = [&[IDENTITY_MULTIHASH, 36, 8, 2, 18, 32][..], &[7; 32]].concat();
        let short = [&[IDENTITY_MULTIHASH, 35][..], &ED25519, &[7; 31]].concat();
        for bytes in [hashed, other_kind, short] {
            let id = libp2p::PeerId::from_bytes(&bytes).unwrap();
            assert_eq!(peer_of_libp2p(&id), None, "{id}");
        }
    }
}
