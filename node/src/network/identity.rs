//! One ed25519 key under three names: ours, libp2p's and iroh's.
//!
//! The conversions lose nothing. They fail only for 32 bytes that are no point of the curve, or for a libp2p id
//! that is not an ed25519 key: no node of ours has such a name.

use ed25519_dalek::SigningKey;
use iroh::{EndpointId, SecretKey};
use libp2p::identity::{Keypair, PublicKey, ed25519};
use shoal_protocol::id::PeerId;

/// The code of the multihash that holds its content itself: how libp2p writes an ed25519 key as an id.
const IDENTITY_MULTIHASH: u64 = 0;

/// The libp2p name of a peer.
pub(crate) fn libp2p_id(peer: PeerId) -> Option<libp2p::PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(peer.as_bytes()).ok()?;
    Some(libp2p::PeerId::from_public_key(&PublicKey::from(key)))
}

/// The iroh name of a peer.
pub(crate) fn endpoint_id(peer: PeerId) -> Option<EndpointId> {
    EndpointId::from_bytes(peer.as_bytes()).ok()
}

/// The peer that libp2p calls `id`.
pub(crate) fn peer_of_libp2p(id: &libp2p::PeerId) -> Option<PeerId> {
    if id.as_ref().code() != IDENTITY_MULTIHASH {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(id.as_ref().digest()).ok()?.try_into_ed25519().ok()?;
    Some(PeerId(key.to_bytes()))
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
        assert_eq!(libp2p_id(peer), Some(libp2p_keypair(&key).public().to_peer_id()));
        assert_eq!(endpoint_id(peer), Some(iroh_key(&key).public()));
        assert_eq!(libp2p_id(peer).and_then(|id| peer_of_libp2p(&id)), Some(peer));
        assert_eq!(endpoint_id(peer).map(peer_of_endpoint), Some(peer));
    }

    #[test]
    fn bytes_that_are_no_key_name_nobody() {
        // y = 2 is not on the curve.
        let mut bytes = [0; 32];
        bytes[0] = 2;
        assert_eq!(endpoint_id(PeerId(bytes)), None);
        assert_eq!(libp2p_id(PeerId(bytes)), None);
    }
}
