//! The node itself and the peers around it.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::Api;
use super::error::ApiError;
use super::extract::Asked;
use crate::network::PeerInfo;
use crate::views::{DoctorView, PeerView, RelayClientView, RelayView, SettingView, TicketView};
use crate::{NodeInfo, doctor};

pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/node", get(node))
        .route("/ticket", get(ticket))
        .route("/peers", get(peers))
        .route("/doctor", get(doctor))
        .route("/relays", get(relays))
        .route("/relay/clients", get(relay_clients))
        .route("/config", get(config))
}

async fn node(State(api): State<Api>) -> Json<NodeInfo> {
    Json(api.node().info())
}

/// For how long a ticket is good.
#[derive(Debug, Default, Deserialize)]
struct TicketQuery {
    /// In seconds; none for a ticket without an end.
    seconds: Option<u64>,
}

async fn ticket(State(api): State<Api>, Asked(query): Asked<TicketQuery>) -> Result<Json<TicketView>, ApiError> {
    if query.seconds == Some(0) {
        return Err(ApiError::malformed("a ticket that is good for no time lets nobody in"));
    }
    let good_for = query.seconds.map(|seconds| seconds.saturating_mul(1_000));
    Ok(Json(TicketView { ticket: api.node().ticket_for(good_for).to_string() }))
}

async fn peers(State(api): State<Api>) -> Json<Vec<PeerView>> {
    let of = |peer: &PeerInfo| PeerView { standing: api.node().standing(peer.peer), ..PeerView::from(peer) };
    Json(api.node().peers().iter().map(of).collect())
}

async fn doctor(State(api): State<Api>) -> Json<DoctorView> {
    Json(DoctorView::new(doctor::examine(api.node()).await))
}

async fn relays(State(api): State<Api>) -> Json<Vec<RelayView>> {
    Json(api.node().network().known_relays().iter().map(RelayView::from).collect())
}

async fn relay_clients(State(api): State<Api>) -> Result<Json<Vec<RelayClientView>>, ApiError> {
    let network = api.node().network();
    if network.own_relay().is_none() {
        return Err(ApiError::malformed("this node runs no relay: start it with `--relay`, or ask the node that does"));
    }
    Ok(Json(network.relay_clients().iter().map(RelayClientView::from).collect()))
}

async fn config(State(api): State<Api>) -> Json<Vec<SettingView>> {
    Json(api.0.settings.clone())
}
