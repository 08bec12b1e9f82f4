//! Invitations into a private mesh: a secret that a ticket carries, and that lets some nodes in for some time.
//!
//! Whoever holds the mesh's key keeps what follows from the secret, and counts. A newcomer proves that it knows the secret
//! without saying it: the proof is bound to one connection, so that a recorded one is worth nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{InvitationId, PeerId};
use crate::limits::{MAX_INVITATION_MS, MAX_USES};
use crate::membership::{Certificate, Revocation};
use crate::time::{Millis, Time};

/// What an invited newcomer knows and nobody else.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub [u8; 16]);

/// What its issuer keeps of the secret: enough to check a proof.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ProofKey([u8; 32]);

/// An invitation, at its issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its name.
    pub id: InvitationId,
    proof_key: ProofKey,
    /// From when on it lets nobody in.
    pub expires: Time,
    /// How many nodes it lets in.
    pub uses: u32,
    /// Whom it has let in.
    pub used: Vec<PeerId>,
    /// Whether its issuer has taken it back.
    pub withdrawn: bool,
}

/// What a newcomer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The invitation that it has.
    pub id: InvitationId,
    /// That it knows its secret.
    pub proof: [u8; 32],
}

/// What a newcomer hears that has proved that it knows the secret. Others hear nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is a member now.
    Welcome {
        /// This says so.
        certificate: Certificate,
        /// Who is a member no more.
        revoked: Vec<Revocation>,
    },
    /// It is not.
    Refused(Refusal),
}

/// Why an invitation lets a newcomer in no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Its time is over.
    #[error("the invitation has expired")]
    Expired,
    /// It has let in as many as it may.
    #[error("the invitation has been used up: it was for {0} node(s)")]
    UsedUp(u32),
    /// Its issuer has taken it back.
    #[error("the invitation was withdrawn")]
    Withdrawn,
    /// The newcomer was a member before, and was sent away.
    #[error("this node's key was revoked in that mesh; a node with a new key could be invited")]
    Revoked,
    /// The issuer cannot take in anybody now.
    #[error("the node that issued the invitation cannot take in anybody now")]
    Unavailable,
}

/// Why there is no such invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfRange {
    /// It would let in nobody, or too many.
    #[error("an invitation is for 1 to {MAX_USES} nodes, not {0}")]
    Uses(u32),
    /// It would be good for no time, or for too long.
    #[error("an invitation is good for some time, up to {} days", MAX_INVITATION_MS / 86_400_000)]
    Time,
}

impl Secret {
    /// What the invitation is called.
    pub fn id(&self) -> InvitationId {
        let hash = blake3::derive_key("shoal 1 invitation", &self.0);
        InvitationId(std::array::from_fn(|i| hash[i]))
    }

    /// What a newcomer says over the connection that `binding` belongs to.
    pub fn request(&self, binding: &[u8; 32]) -> Request {
        Request { id: self.id(), proof: self.proof_key().proof(binding) }
    }

    fn proof_key(&self) -> ProofKey {
        ProofKey(blake3::derive_key("shoal 1 invitation proof", &self.0))
    }
}

impl ProofKey {
    fn proof(&self, binding: &[u8; 32]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, binding).as_bytes()
    }
}

impl Invitation {
    /// An invitation with this secret, for so many nodes and so long.
    pub fn new(secret: &Secret, uses: u32, good_for: Millis, now: Time) -> Result<Self, OutOfRange> {
        if uses == 0 || uses > MAX_USES {
            return Err(OutOfRange::Uses(uses));
        }
        if good_for == 0 || good_for > MAX_INVITATION_MS {
            return Err(OutOfRange::Time);
        }
        let (id, proof_key) = (secret.id(), secret.proof_key());
        Ok(Self { id, proof_key, expires: now + good_for, uses, used: Vec::new(), withdrawn: false })
    }

    /// Whether `request` was made with the secret, on the connection that `binding` belongs to.
    pub fn is_proved(&self, request: &Request, binding: &[u8; 32]) -> bool {
        // Hashes are compared in constant time.
        let expected = || blake3::Hash::from_bytes(self.proof_key.proof(binding));
        request.id == self.id && blake3::Hash::from_bytes(request.proof) == expected()
    }

    /// Whether it could let in one more.
    pub fn is_open(&self, now: Time) -> bool {
        !self.withdrawn && now < self.expires && self.used.len() < self.uses as usize
    }

    /// Lets `peer` in and counts it. Whoever was let in already is so again, without being counted: its first answer
    /// may have been lost.
    pub fn admit(&mut self, peer: PeerId, now: Time) -> Result<(), Refusal> {
        if self.withdrawn {
            return Err(Refusal::Withdrawn);
        }
        if self.expires <= now {
            return Err(Refusal::Expired);
        }
        if self.used.contains(&peer) {
            return Ok(());
        }
        if self.used.len() >= self.uses as usize {
            return Err(Refusal::UsedUp(self.uses));
        }
        self.used.push(peer);
        Ok(())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKey")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time(1_800_000_000_000);
    const DAY: Millis = 86_400_000;

    fn invitation(uses: u32) -> Invitation {
        Invitation::new(&Secret([7; 16]), uses, DAY, NOW).unwrap()
    }

    #[test]
    fn an_invitation_lets_in_as_many_as_it_says() {
        let mut invitation = invitation(2);
        assert_eq!(invitation.admit(PeerId([1; 32]), NOW), Ok(()));
        assert_eq!(invitation.admit(PeerId([1; 32]), NOW), Ok(()), "the same once more");
        assert_eq!(invitation.admit(PeerId([2; 32]), NOW), Ok(()));
        assert!(!invitation.is_open(NOW));
        assert_eq!(invitation.admit(PeerId([3; 32]), NOW), Err(Refusal::UsedUp(2)));
        assert_eq!(invitation.used.len(), 2);
    }

    #[test]
    fn an_invitation_ends_in_time_or_when_it_is_taken_back() {
        let mut late = invitation(1);
        assert_eq!(late.admit(PeerId([1; 32]), NOW + DAY), Err(Refusal::Expired));
        let mut withdrawn = Invitation { withdrawn: true, ..invitation(1) };
        assert_eq!(withdrawn.admit(PeerId([1; 32]), NOW), Err(Refusal::Withdrawn));
        assert!(!late.is_open(NOW + DAY) && !withdrawn.is_open(NOW) && late.is_open(NOW));
    }

    #[test]
    fn a_proof_is_good_on_its_connection_only() {
        let (secret, invitation) = (Secret([7; 16]), invitation(1));
        let request = secret.request(&[1; 32]);
        assert!(invitation.is_proved(&request, &[1; 32]));
        assert!(!invitation.is_proved(&request, &[2; 32]), "recorded elsewhere");
        assert!(!invitation.is_proved(&Secret([8; 16]).request(&[1; 32]), &[1; 32]));
        let guessed = Request { id: invitation.id, proof: [0; 32] };
        assert!(!invitation.is_proved(&guessed, &[1; 32]));
    }

    #[test]
    fn an_invitation_has_bounds() {
        let with = |uses, good_for| Invitation::new(&Secret([7; 16]), uses, good_for, NOW);
        assert_eq!(with(0, DAY), Err(OutOfRange::Uses(0)));
        assert_eq!(with(MAX_USES + 1, DAY), Err(OutOfRange::Uses(MAX_USES + 1)));
        assert_eq!(with(1, 0), Err(OutOfRange::Time));
        assert_eq!(with(1, MAX_INVITATION_MS + 1), Err(OutOfRange::Time));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?} {:?}", Secret([7; 16]), invitation(1));
        assert!(!shown.contains("7, 7") && !shown.contains("0707"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = crate::wire::parse::<Request>(&bytes);
            let _ = crate::wire::parse::<Answer>(&bytes);
        }
    }
}
