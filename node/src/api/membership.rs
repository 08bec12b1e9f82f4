//! The private mesh that the node is in: who belongs to it, invitations, revocations.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use shoal_protocol::id::{InvitationId, PeerId};

use super::Api;
use super::error::ApiError;
use super::extract::Sent;
use crate::membership::{Membership, MembershipError};
use crate::views::time::rfc3339;
use crate::views::{InviteRequest, InvitedView, MeshView};

pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/mesh", get(show))
        .route("/mesh/invitations", post(invite))
        .route("/mesh/invitations/{id}", delete(uninvite))
        .route("/mesh/revoked/{peer}", put(revoke))
}

async fn show(State(api): State<Api>) -> Result<Json<MeshView>, ApiError> {
    let membership = membership(&api)?;
    Ok(Json(MeshView::new(membership, &api.node().network().members())))
}

async fn invite(State(api): State<Api>, Sent(request): Sent<InviteRequest>) -> Result<Json<InvitedView>, ApiError> {
    let membership = membership(&api)?;
    let (secret, invitation) = membership.invite(request.uses, request.seconds.saturating_mul(1_000))?;
    let mut ticket = api.node().ticket();
    (ticket.invitation, ticket.expires) = (Some(secret), Some(invitation.expires));
    let (id, uses, expires) = (invitation.id, invitation.uses, rfc3339(invitation.expires));
    Ok(Json(InvitedView { ticket: ticket.to_string(), id, expires, uses }))
}

async fn uninvite(State(api): State<Api>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let id: InvitationId = id.parse().map_err(|error| ApiError::malformed(format!("{error}")))?;
    membership(&api)?.uninvite(id)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke(State(api): State<Api>, Path(peer): Path<String>) -> Result<StatusCode, ApiError> {
    let peer: PeerId = peer.parse().map_err(|error| ApiError::malformed(format!("{error}")))?;
    let revocation = membership(&api)?.revoke(peer)?;
    api.node().network().spread(&revocation).await;
    Ok(StatusCode::NO_CONTENT)
}

fn membership(api: &Api) -> Result<&Membership, ApiError> {
    let mesh = &api.node().config().mesh;
    let missing = || ApiError::not_found(format!("the node is in the public mesh {mesh:?}, which has no members"));
    api.node().membership().ok_or_else(missing)
}

impl From<MembershipError> for ApiError {
    fn from(error: MembershipError) -> Self {
        let message = error.to_string();
        match error {
            MembershipError::NoInvitation(_) | MembershipError::Unknown(_) => Self::not_found(message),
            MembershipError::OutOfRange(_) => Self::malformed(message),
            MembershipError::Dir(_) | MembershipError::Damaged(_) | MembershipError::Randomness(_) => {
                Self::internal(message)
            }
            _ => Self::new(StatusCode::CONFLICT, "refused", message),
        }
    }
}
