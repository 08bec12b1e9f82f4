//! The node itself and the peers around it.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use super::Api;
use crate::NodeInfo;
use crate::views::{PeerView, SettingView, TicketView};

pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/node", get(node))
        .route("/ticket", get(ticket))
        .route("/peers", get(peers))
        .route("/config", get(config))
}

async fn node(State(api): State<Api>) -> Json<NodeInfo> {
    Json(api.node().info())
}

async fn ticket(State(api): State<Api>) -> Json<TicketView> {
    Json(TicketView { ticket: api.node().ticket().to_string() })
}

async fn peers(State(api): State<Api>) -> Json<Vec<PeerView>> {
    Json(api.node().peers().iter().map(PeerView::from).collect())
}

async fn config(State(api): State<Api>) -> Json<Vec<SettingView>> {
    Json(api.0.settings.clone())
}
