//! Who belongs to a private mesh: certificates and revocations, both signed by the mesh's key.
//!
//! Two members show each other a [`Hello`] before anything else is said, and then tell each other [`News`]: revocations
//! that the other has not heard of and, from whoever holds the mesh's key, a fresh certificate. A certificate names the
//! peer that it is for, and the connection proves who that is, so a copy is worth nothing.
//!
//! Revocations are a set that only grows until they end: members merge what they hear in any order, and several holders
//! of the key need not agree on anything.

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::id::{MeshId, MeshKey, PeerId};
use crate::limits::{CERTIFICATE_MS, MAX_REVOKED, RENEW_AFTER_MS};
use crate::time::Time;
use crate::wire::canonical;

/// What the certificates of one private mesh are checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority {
    mesh: MeshId,
    key: MeshKey,
}

/// An ed25519 signature, in two halves.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal([[u8; 32]; 2]);

/// The mesh's key says that a peer is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Who is a member.
    pub peer: PeerId,
    /// When this was signed.
    pub issued: Time,
    /// From when on it is worth nothing.
    pub expires: Time,
    seal: Seal,
}

/// The mesh's key says that a peer is a member no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Who was a member.
    pub peer: PeerId,
    /// When this may be forgotten: every certificate of the peer has expired.
    pub until: Time,
    seal: Seal,
}

/// Why a peer is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAMember {
    /// The certificate is of somebody else.
    #[error("the certificate is of another peer")]
    OtherPeer,
    /// It is not signed by this mesh's key.
    #[error("the certificate is not signed by this mesh's key")]
    Signature,
    /// Its time is over.
    #[error("the certificate has expired")]
    Expired,
    /// The peer was a member.
    #[error("the peer was revoked")]
    Revoked,
}

/// What two members show each other first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// That the sender is a member.
    pub certificate: Certificate,
    /// Whether the sender says that it can renew certificates.
    pub renews: bool,
    /// [`Revocations::digest`] of those that it knows.
    pub revoked: [u8; 32],
}

/// What members tell each other next.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// A fresh certificate for the receiver.
    pub certificate: Option<Certificate>,
    /// All revocations that the sender knows, if the receiver knows others.
    pub revoked: Vec<Revocation>,
}

/// Who was revoked, as far as a member knows.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations(BTreeMap<PeerId, Revocation>);

impl Authority {
    /// The private mesh called `name` that belongs to `key`.
    pub fn new(name: &str, key: MeshKey) -> Self {
        Self { mesh: MeshId::private(name, key), key }
    }

    /// The mesh's id.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The public half of the mesh's key.
    pub fn key(&self) -> MeshKey {
        self.key
    }

    /// A certificate for `peer`, from now on. `key` is the secret half of the mesh's key.
    pub fn certify(&self, key: &SigningKey, peer: PeerId, now: Time) -> Certificate {
        let (issued, expires) = (now, now + CERTIFICATE_MS);
        let seal = Seal::new(key, &self.certificate_bytes(peer, issued, expires));
        Certificate { peer, issued, expires, seal }
    }

    /// The end of `peer`'s membership. No certificate that was signed before now outlives it.
    pub fn revoke(&self, key: &SigningKey, peer: PeerId, now: Time) -> Revocation {
        let until = now + CERTIFICATE_MS;
        Revocation { peer, until, seal: Seal::new(key, &self.revocation_bytes(peer, until)) }
    }

    /// Whether `certificate` makes `peer` a member at this time.
    pub fn check(&self, certificate: &Certificate, peer: PeerId, now: Time) -> Result<(), NotAMember> {
        let Certificate { peer: named, issued, expires, seal } = certificate;
        if *named != peer {
            return Err(NotAMember::OtherPeer);
        }
        if !seal.is_of(self.key, &self.certificate_bytes(peer, *issued, *expires)) {
            return Err(NotAMember::Signature);
        }
        if now < *expires { Ok(()) } else { Err(NotAMember::Expired) }
    }

    /// Whether this mesh's key signed `revocation`.
    pub fn is_signed(&self, revocation: &Revocation) -> bool {
        revocation.seal.is_of(self.key, &self.revocation_bytes(revocation.peer, revocation.until))
    }

    fn certificate_bytes(&self, peer: PeerId, issued: Time, expires: Time) -> Vec<u8> {
        let times = [issued.0.to_le_bytes(), expires.0.to_le_bytes()].concat();
        [&b"shoal 1 certificate"[..], &self.mesh.0, &peer.0, &times].concat()
    }

    fn revocation_bytes(&self, peer: PeerId, until: Time) -> Vec<u8> {
        [&b"shoal 1 revocation"[..], &self.mesh.0, &peer.0, &until.0.to_le_bytes()].concat()
    }
}

impl Certificate {
    /// Whether it is time to get a new one.
    pub fn is_due(&self, now: Time) -> bool {
        now.since(self.issued) >= RENEW_AFTER_MS
    }
}

impl Revocations {
    /// Whether `peer` was revoked.
    pub fn has(&self, peer: PeerId) -> bool {
        self.0.contains_key(&peer)
    }

    /// All of them, by peer.
    pub fn all(&self) -> impl Iterator<Item = &Revocation> {
        self.0.values()
    }

    /// Names the whole set, so that two members see whether they know the same.
    pub fn digest(&self) -> [u8; 32] {
        let all: Vec<&Revocation> = self.all().collect();
        blake3::derive_key("shoal 1 revocations", &canonical(&all))
    }

    /// Adds those of `heard` that `authority` has signed, and returns the peers that are newly revoked. A set beyond
    /// its bound keeps those that last longest.
    pub fn learn(
        &mut self,
        authority: &Authority,
        heard: impl IntoIterator<Item = Revocation>,
        now: Time,
    ) -> Vec<PeerId> {
        let mut new = Vec::new();
        for revocation in heard.into_iter().take(MAX_REVOKED) {
            let known = self.0.get(&revocation.peer).map(|known| known.until);
            let is_news = now < revocation.until && known.is_none_or(|known| known < revocation.until);
            if is_news && authority.is_signed(&revocation) {
                self.0.insert(revocation.peer, revocation);
                new.extend(known.is_none().then_some(revocation.peer));
            }
        }
        while self.0.len() > MAX_REVOKED {
            let first = self.0.values().min_by_key(|revocation| revocation.until).map(|first| first.peer);
            first.and_then(|peer| self.0.remove(&peer));
        }
        new.retain(|peer| self.has(*peer));
        new
    }

    /// Forgets those whose peers have no certificate that is still good.
    pub fn expire(&mut self, now: Time) {
        self.0.retain(|_, revocation| now < revocation.until);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is revoked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Seal {
    pub(crate) fn new(key: &SigningKey, bytes: &[u8]) -> Self {
        let signature = key.sign(bytes);
        Self([*signature.r_bytes(), *signature.s_bytes()])
    }

    pub(crate) fn is_of(&self, key: MeshKey, bytes: &[u8]) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&key.0) else { return false };
        key.verify_strict(bytes, &Signature::from_components(self.0[0], self.0[1])).is_ok()
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::parse;

    const NOW: Time = Time(1_800_000_000_000);

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn authority(name: &str, seed: u8) -> Authority {
        Authority::new(name, MeshKey(key(seed).verifying_key().to_bytes()))
    }

    fn peer(n: u16) -> PeerId {
        PeerId(std::array::from_fn(|i| n.to_le_bytes().get(i).copied().unwrap_or(7)))
    }

    #[test]
    fn a_certificate_is_good_for_its_peer_its_mesh_and_its_time() {
        let home = authority("home", 1);
        let certificate = home.certify(&key(1), peer(5), NOW);
        assert_eq!(home.check(&certificate, peer(5), NOW), Ok(()));
        assert_eq!(home.check(&certificate, peer(5), NOW + (CERTIFICATE_MS - 1)), Ok(()));
        assert_eq!(home.check(&certificate, peer(5), NOW + CERTIFICATE_MS), Err(NotAMember::Expired));
        assert_eq!(home.check(&certificate, peer(6), NOW), Err(NotAMember::OtherPeer));
        for other in [authority("lab", 1), authority("home", 2)] {
            assert_eq!(other.check(&certificate, peer(5), NOW), Err(NotAMember::Signature));
        }
        let longer = Certificate { expires: NOW + 2 * CERTIFICATE_MS, ..certificate };
        assert_eq!(home.check(&longer, peer(5), NOW), Err(NotAMember::Signature));
        let renamed = Certificate { peer: peer(6), ..certificate };
        assert_eq!(home.check(&renamed, peer(6), NOW), Err(NotAMember::Signature));
    }

    #[test]
    fn a_mesh_key_that_is_no_point_signs_nothing() {
        let broken = Authority::new("home", MeshKey([2; 32]));
        let certificate = broken.certify(&key(1), peer(5), NOW);
        assert_eq!(broken.check(&certificate, peer(5), NOW), Err(NotAMember::Signature));
    }

    #[test]
    fn a_certificate_is_renewed_long_before_it_expires() {
        let certificate = authority("home", 1).certify(&key(1), peer(5), NOW);
        assert!(!certificate.is_due(NOW + (RENEW_AFTER_MS - 1)));
        assert!(certificate.is_due(NOW + RENEW_AFTER_MS));
    }

    #[test]
    fn only_the_meshs_key_revokes_and_only_once() {
        let home = authority("home", 1);
        let mut revoked = Revocations::default();
        let genuine = home.revoke(&key(1), peer(5), NOW);
        let forged = home.revoke(&key(2), peer(6), NOW);
        let foreign = authority("lab", 1).revoke(&key(1), peer(7), NOW);
        let certificate_as_revocation = Revocation { peer: peer(8), ..genuine };
        let heard = [genuine, forged, foreign, certificate_as_revocation];
        assert_eq!(revoked.learn(&home, heard, NOW), [peer(5)]);
        assert_eq!(revoked.learn(&home, [genuine], NOW), []);
        assert!(revoked.has(peer(5)) && revoked.len() == 1);
    }

    #[test]
    fn a_revocation_ends_when_every_certificate_of_its_peer_has() {
        let home = authority("home", 1);
        let mut revoked = Revocations::default();
        let before = home.certify(&key(1), peer(5), NOW);
        let revocation = home.revoke(&key(1), peer(5), NOW);
        revoked.learn(&home, [revocation], NOW);
        revoked.expire(NOW + (CERTIFICATE_MS - 1));
        assert!(revoked.has(peer(5)));
        revoked.expire(before.expires);
        assert!(revoked.is_empty());
        assert_eq!(revoked.learn(&home, [revocation], before.expires), [], "nobody can bring it back");
    }

    #[test]
    fn a_full_set_keeps_what_lasts_longest() {
        let home = authority("home", 1);
        let mut revoked = Revocations::default();
        let at = |n: u16| home.revoke(&key(1), peer(n), NOW + u64::from(n));
        let most = u16::try_from(MAX_REVOKED).unwrap();
        revoked.learn(&home, (0..most).map(at), NOW);
        assert_eq!(revoked.learn(&home, [at(most)], NOW), [peer(most)]);
        assert!(revoked.len() == MAX_REVOKED && !revoked.has(peer(0)) && revoked.has(peer(1)));
        let news =
            News { certificate: Some(home.certify(&key(1), peer(5), NOW)), revoked: revoked.all().copied().collect() };
        assert!(canonical(&news).len() <= crate::limits::MAX_NEWS_BYTES);
    }

    #[test]
    fn a_hello_fits() {
        let certificate = authority("home", 1).certify(&key(1), PeerId([255; 32]), Time::NEVER);
        let hello = Hello { certificate, renews: true, revoked: [255; 32] };
        assert!(canonical(&hello).len() <= crate::limits::MAX_HELLO_BYTES);
    }

    proptest! {
        #[test]
        fn sets_agree_whatever_the_order(mut order in Just((0..12_u16).collect::<Vec<_>>()).prop_shuffle(), split in 0..12_usize) {
            let home = authority("home", 1);
            let all = |peers: &[u16]| -> Vec<Revocation> {
                peers.iter().map(|n| home.revoke(&key(1), peer(n % 8), NOW + u64::from(*n))).collect()
            };
            let mut one = Revocations::default();
            one.learn(&home, all(&order), NOW);
            order.rotate_left(split);
            let mut two = Revocations::default();
            two.learn(&home, all(&order[..split]), NOW);
            two.learn(&home, all(&order[split..]), NOW);
            prop_assert_eq!(one.digest(), two.digest());
        }

        #[test]
        fn a_changed_byte_is_no_certificate(at in 0..120_usize, flip in 1..=255_u8) {
            let home = authority("home", 1);
            let certificate = home.certify(&key(1), peer(5), NOW);
            let mut bytes = canonical(&certificate);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            if let Ok(changed) = parse::<Certificate>(&bytes) {
                prop_assert!(home.check(&changed, changed.peer, NOW).is_err());
            }
        }

        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse::<Hello>(&bytes);
            let _ = parse::<News>(&bytes);
            let _ = parse::<Revocation>(&bytes);
        }
    }
}
