//! Which mesh a node is in: a public one, or a private one that it belongs to or is invited into.

use shoal_protocol::id::{MeshKey, PeerId};
use shoal_protocol::time::Time;
use shoal_store::data_dir::DataDir;
use shoal_store::meshes::MeshDir;

use super::StartError;
use crate::clock::Clock;
use crate::membership::{Membership, MembershipError};
use crate::network::NetworkConfig;
use crate::network::join;
use crate::network::ticket::{Ticket, TicketError};
use crate::views::time::rfc3339;

/// The node's membership of the mesh that `network` names, if that is private. A newcomer with an invitation gets one
/// first, from whoever issued it. Tickets whose time is over are left out of `network`, if they are not needed.
pub(super) async fn membership(
    dir: &DataDir,
    me: PeerId,
    clock: Clock,
    network: &mut NetworkConfig,
) -> Result<Option<Membership>, StartError> {
    let known = Membership::open(dir, &network.mesh, me, clock)?;
    let key = key_of(known.as_ref(), &network.join)?;
    let now = clock.now();
    let expired = network.join.iter().find(|ticket| ticket.is_expired(now)).and_then(|ticket| ticket.expires);
    network.join.retain(|ticket| !ticket.is_expired(now));
    let standing = known.as_ref().map(Membership::standing).transpose();
    let stands = matches!(standing, Ok(Some(_)));
    let invitation = network.join.iter().find_map(|ticket| Some((ticket.clone(), ticket.invitation?)));
    match (key, invitation, expired) {
        _ if stands => {
            warn_of(expired);
            tracing::info!(mesh = %network.mesh, "in a private mesh");
            Ok(known)
        }
        (Some(key), Some((ticket, secret)), _) => {
            // Its folder is free again, for the new membership. What could not be kept is not asked for.
            drop(known);
            drop(MeshDir::lock(dir, &ticket.mesh).map_err(MembershipError::from)?);
            let welcome = join::redeem(network, &ticket, &secret).await?;
            let membership = Membership::enter(dir, (&ticket.mesh, key), me, clock, welcome)?;
            tracing::info!(mesh = %ticket.mesh, "joined a private mesh");
            Ok(Some(membership))
        }
        (_, _, Some(at)) if has_no_other_way(network) || key.is_some() => Err(TicketError::Expired(at).into()),
        (Some(_), None, _) => match standing {
            Err(ended) => Err(ended.into()),
            Ok(_) => Err(TicketError::NoInvitation(network.mesh.clone()).into()),
        },
        (None, _, _) => {
            warn_of(expired);
            // Whoever mistypes the name of a private mesh should see what came of it.
            tracing::info!(mesh = %network.mesh, "in a public mesh, which anybody can join");
            Ok(None)
        }
    }
}

/// Tells of a ticket that is not used, where the node does without.
fn warn_of(expired: Option<Time>) {
    if let Some(at) = expired {
        tracing::warn!(expired = rfc3339(at), "a ticket has expired, and is not used");
    }
}

/// Whether nothing leads into the mesh but tickets that have expired.
fn has_no_other_way(network: &NetworkConfig) -> bool {
    network.join.is_empty() && network.known_peers.is_empty() && network.join_peers.is_empty()
}

/// The key that all tickets and what is known agree on; none for a public mesh.
fn key_of(known: Option<&Membership>, tickets: &[Ticket]) -> Result<Option<MeshKey>, TicketError> {
    let Some(key) = known.map(Membership::key).map(Some).or_else(|| Some(tickets.first()?.key)) else {
        return Ok(None);
    };
    tickets.iter().try_for_each(|ticket| ticket.clone().for_key(key).map(drop))?;
    Ok(key)
}

impl From<TicketError> for StartError {
    fn from(error: TicketError) -> Self {
        Self::Network(error.into())
    }
}

impl From<MembershipError> for StartError {
    fn from(error: MembershipError) -> Self {
        Self::Membership(Box::new(error))
    }
}
