//! What is saved of a membership, in one file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use shoal_protocol::id::{InvitationId, MeshKey, PeerId};
use shoal_protocol::invitation::Invitation;
use shoal_protocol::membership::{Certificate, Revocations};
use shoal_protocol::time::Time;
use shoal_protocol::wire::canonical;

/// First byte of the file: how the rest is written.
const VERSION: u8 = 1;

/// All that a node knows of one of its private meshes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) key: MeshKey,
    pub(super) certificate: Option<Certificate>,
    pub(super) revoked: Revocations,
    /// Peers that said that they can renew certificates.
    pub(super) renewers: BTreeSet<PeerId>,
    /// At a holder of the key: what it has issued, oldest first.
    pub(super) invitations: Vec<Invitation>,
    /// At a holder of the key: members, and when their certificates end.
    pub(super) members: BTreeMap<PeerId, Time>,
}

impl Record {
    pub(super) fn new(key: MeshKey) -> Self {
        Self {
            key,
            certificate: None,
            revoked: Revocations::default(),
            renewers: BTreeSet::new(),
            invitations: Vec::new(),
            members: BTreeMap::new(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        [vec![VERSION], canonical(self)].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (record, rest) = postcard::take_from_bytes(rest).ok()?;
        (*version == VERSION && rest.is_empty()).then_some(record)
    }

    /// Takes back that an invitation let `peer` in.
    pub(super) fn forget_use(&mut self, id: InvitationId, peer: PeerId) {
        if let Some(invitation) = self.invitations.iter_mut().find(|invitation| invitation.id == id) {
            invitation.used.retain(|used| *used != peer);
        }
    }
}
