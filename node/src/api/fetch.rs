//! `POST /blobs/fetch`: content from the mesh, with progress for whoever accepts a stream of events.
//!
//! A stream has `progress` frames with what is here, how fast it comes and from how many, then one frame that is the
//! blob, or an `error` frame.
//! Who goes away stops the fetch; what has arrived is not fetched again.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use shoal_store::blobs::Imported;
use tokio::sync::watch;

use super::Api;
use super::blobs::{keep, wanted};
use super::error::ApiError;
use super::extract::Sent;
use super::pace::Pace;
use super::progress::{self, Work};
use crate::network::Progress;
use crate::views::{BlobView, FetchRequest, FetchedView};

/// The most that is fetched for one request, in bytes.
const MAX_FETCH_BYTES: u64 = 1 << 42;

pub(super) async fn fetch(
    State(api): State<Api>,
    headers: HeaderMap,
    Sent(request): Sent<FetchRequest>,
) -> Result<Response, ApiError> {
    let (told, progress) = watch::channel(Progress::default());
    let fetch: Work<BlobView> = Box::pin(have(api.clone(), request, told));
    if progress::is_wanted(&headers) {
        let mut pace = Pace::default();
        return progress::answer(&api, fetch, progress, move |progress| view(&mut pace, progress));
    }
    let _slot = api.stream_slot()?;
    Ok(Json(fetch.await?).into_response())
}

async fn have(api: Api, request: FetchRequest, told: watch::Sender<Progress>) -> Result<BlobView, ApiError> {
    let (list_only, folder) = (request.list_only, request.folder);
    let (content, providers) = wanted(&api, request)?;
    let blobs = api.node().blobs();
    if list_only {
        let (guard, bytes) = api.node().fetch_list(content.hash, providers).await?;
        return Ok(keep(&api, Imported { content, bytes, guard }).await);
    }
    let guard = blobs.protect(content).await?;
    let bytes = match blobs.size(content).await {
        Ok(Some(bytes)) => bytes,
        _ => {
            let progress = |progress| {
                told.send_replace(progress);
            };
            match folder {
                Some(folder) => api.node().fetch_part(content, folder, providers, MAX_FETCH_BYTES, progress).await?,
                None => api.node().fetch_blob(content, providers, MAX_FETCH_BYTES, progress).await?,
            }
        }
    };
    Ok(keep(&api, Imported { content, bytes, guard }).await)
}

fn view(pace: &mut Pace, Progress { bytes, total, providers }: Progress) -> FetchedView {
    let (bytes_per_second, seconds_left) = pace.note(bytes, total, Instant::now());
    FetchedView { bytes, total_bytes: total, bytes_per_second, seconds_left, providers }
}
