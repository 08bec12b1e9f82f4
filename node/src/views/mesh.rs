//! A private mesh, as one of its members knows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shoal_protocol::id::{InvitationId, MeshKey, PeerId};
use shoal_protocol::invitation::Invitation;
use shoal_protocol::time::Time;

use super::time::rfc3339;
use crate::membership::Membership;

/// A private mesh, as one of its members knows it. Times are RFC 3339 text in UTC.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MeshView {
    /// Its name.
    pub name: String,
    /// The public half of its key.
    pub key: MeshKey,
    /// Whether the secret half is here, so that this node can invite and revoke.
    pub holds_key: bool,
    /// Until when this node is a member, unless that is renewed; none if it is none any more.
    pub expires: Option<String>,
    /// Why it is none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Members that this node knows of: all that it let in, and those that are connected.
    pub members: Vec<MemberView>,
    /// Who was sent away.
    pub revoked: Vec<RevokedView>,
    /// Invitations of this node, oldest first.
    pub invitations: Vec<InvitationView>,
}

/// A member.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MemberView {
    /// Who it is.
    #[serde(rename = "PeerID")]
    pub peer_id: PeerId,
    /// Until when, unless that is renewed.
    pub expires: String,
    /// Whether it is this node itself.
    pub this_node: bool,
    /// Whether it is connected now.
    pub connected: bool,
}

/// A peer that was sent away.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RevokedView {
    /// Who it is.
    #[serde(rename = "PeerID")]
    pub peer_id: PeerId,
    /// When its last certificate has expired, and this is forgotten.
    pub until: String,
}

/// An invitation, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InvitationView {
    /// Its name.
    #[serde(rename = "ID")]
    pub id: InvitationId,
    /// `open`, `expired`, `used up` or `withdrawn`.
    pub state: String,
    /// Until when it is good.
    pub expires: String,
    /// How many nodes it lets in.
    pub uses: u32,
    /// Whom it has let in.
    pub used: Vec<PeerId>,
}

/// What `POST /mesh/invitations` takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct InviteRequest {
    /// For how long it is good, in seconds.
    pub seconds: u64,
    /// How many nodes it lets in.
    pub uses: u32,
}

/// A new invitation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InvitedView {
    /// The ticket that carries it, one word. Whoever has it can come in.
    pub ticket: String,
    /// Its name.
    #[serde(rename = "ID")]
    pub id: InvitationId,
    /// Until when it is good.
    pub expires: String,
    /// How many nodes it lets in.
    pub uses: u32,
}

impl MeshView {
    /// What `membership` knows, while `connected` are connected, each with the end of its certificate.
    pub(crate) fn new(membership: &Membership, connected: &[(PeerId, Time)]) -> Self {
        let (known, standing, now) = (membership.records(), membership.standing(), membership.now());
        let own = standing.as_ref().ok().map(|own| (own.peer, own.expires));
        let mut members: BTreeMap<PeerId, Time> = known.members.iter().copied().chain(own).collect();
        members.extend(connected.iter().copied());
        let member = |(peer_id, expires): (PeerId, Time)| MemberView {
            peer_id,
            expires: rfc3339(expires),
            this_node: peer_id == membership.me(),
            connected: connected.iter().any(|(peer, _)| *peer == peer_id),
        };
        let revoked = known.revoked.iter();
        Self {
            name: membership.name().to_owned(),
            key: membership.key(),
            holds_key: membership.holds_key(),
            expires: own.map(|(_, expires)| rfc3339(expires)),
            ended: standing.err().map(|reason| reason.to_string()),
            members: members.into_iter().map(member).collect(),
            revoked: revoked.map(|of| RevokedView { peer_id: of.peer, until: rfc3339(of.until) }).collect(),
            invitations: known.invitations.into_iter().map(|of| InvitationView::new(of, now)).collect(),
        }
    }
}

impl InvitationView {
    fn new(invitation: Invitation, now: Time) -> Self {
        let state = match () {
            () if invitation.is_open(now) => "open",
            () if invitation.withdrawn => "withdrawn",
            () if invitation.expires <= now => "expired",
            () => "used up",
        };
        let Invitation { id, expires, uses, used, .. } = invitation;
        Self { id, state: state.to_owned(), expires: rfc3339(expires), uses, used }
    }
}
