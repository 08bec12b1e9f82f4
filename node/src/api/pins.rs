//! Pins: names that people give to content so that it stays.
//!
//! A person's pins live below `user/`, apart from those of jobs, which nobody removes by hand.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use shoal_protocol::task::Content;
use shoal_store::blobs::Pin;

use super::Api;
use super::error::ApiError;
use super::extract::Sent;
use crate::views::PinView;
use crate::views::time::rfc3339;

/// Where a person's pins are.
const USER: &str = "user/";

pub(super) fn router() -> Router<Api> {
    Router::new().route("/pins", get(list)).route("/pins/{*name}", put(pin).delete(unpin))
}

async fn list(State(api): State<Api>) -> Result<Json<Vec<PinView>>, ApiError> {
    let pins = api.node().blobs().pins_with_prefix(USER).await?;
    Ok(Json(pins.iter().map(view).collect()))
}

async fn pin(
    State(api): State<Api>,
    Path(name): Path<String>,
    Sent(request): Sent<PinView>,
) -> Result<Json<PinView>, ApiError> {
    let content = Content::from(&request);
    let blobs = api.node().blobs();
    // A pin of what is not here would keep nothing, and say so to nobody.
    if blobs.size(content).await?.is_none() {
        let message = format!("{} is not complete here: add it, or fetch it with `shoal blob get`", content.hash);
        return Err(ApiError::not_found(message));
    }
    let full_name = format!("{USER}{name}");
    let until = request.for_seconds.map(|seconds| blobs.now() + seconds.saturating_mul(1_000));
    match until {
        Some(until) => blobs.pin_until(&full_name, content, until).await?,
        None => blobs.pin(&full_name, content).await?,
    }
    blobs.sync().await?;
    api.node().0.announcer.pinned(content).await;
    api.leases().release(content);
    Ok(Json(view(&Pin { name: full_name, content, until })))
}

async fn unpin(State(api): State<Api>, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    let blobs = api.node().blobs();
    if !blobs.unpin(&format!("{USER}{name}")).await? {
        return Err(ApiError::not_found(format!("there is no pin {name}; `shoal blob list` shows pins")));
    }
    blobs.sync().await?;
    api.node().0.announcer.look().await;
    Ok(StatusCode::NO_CONTENT)
}

fn view(pin: &Pin) -> PinView {
    let name = pin.name.strip_prefix(USER).unwrap_or(&pin.name).to_owned();
    let until = pin.until.map(rfc3339);
    PinView { name, hash: pin.content.hash, kind: pin.content.kind.into(), for_seconds: None, until }
}
