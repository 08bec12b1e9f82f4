//! `POST /blobs/fetch`: content from the mesh, with progress for whoever accepts a stream of events.
//!
//! A stream has `progress` frames with what is here, how fast it comes and from how many, then one frame that is the
//! blob, or an `error` frame.
//! Who goes away stops the fetch; what has arrived is not fetched again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
use super::progress::{self, Work};
use crate::network::Progress;
use crate::views::{BlobView, FetchRequest, FetchedView};

/// The most that is fetched for one request, in bytes.
const MAX_FETCH_BYTES: u64 = 1 << 42;
/// The time over which the rate is taken.
const PACE_WINDOW: Duration = Duration::from_secs(5);

pub(super) async fn fetch(
    State(api): State<Api>,
    headers: HeaderMap,
    Sent(request): Sent<FetchRequest>,
) -> Result<Response, ApiError> {
    let (told, progress) = watch::channel(Progress::default());
    let fetch: Work<BlobView> = Box::pin(have(api.clone(), request, told));
    if progress::is_wanted(&headers) {
        let mut pace = Pace::default();
        return progress::answer(&api, fetch, progress, move |progress| pace.view(progress, Instant::now()));
    }
    let _slot = api.stream_slot()?;
    Ok(Json(fetch.await?).into_response())
}

async fn have(api: Api, request: FetchRequest, told: watch::Sender<Progress>) -> Result<BlobView, ApiError> {
    let list_only = request.list_only;
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
            api.node().fetch_blob(content, providers, MAX_FETCH_BYTES, progress).await?
        }
    };
    Ok(keep(&api, Imported { content, bytes, guard }).await)
}

/// How fast a fetch goes, lately.
#[derive(Debug, Default)]
struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    fn view(&mut self, Progress { bytes, total, providers }: Progress, now: Instant) -> FetchedView {
        self.0.push_back((now, bytes));
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > PACE_WINDOW) {
            self.0.pop_front();
        }
        let (since, before) = self.0.front().copied().unwrap_or((now, bytes));
        let millis = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
        let bytes_per_second = (bytes.saturating_sub(before) * 1_000).checked_div(millis).unwrap_or(0);
        let left = total.map(|total| total.saturating_sub(bytes));
        let seconds_left = left.and_then(|left| left.checked_div(bytes_per_second));
        FetchedView { bytes, total_bytes: total, bytes_per_second, seconds_left, providers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut at = |second, bytes| {
            let progress = Progress { bytes, total: Some(10_000), providers: 1 };
            let view = pace.view(progress, start + Duration::from_secs(second));
            (view.bytes_per_second, view.seconds_left)
        };
        assert_eq!(at(0, 1_000), (0, None));
        assert_eq!(at(2, 3_000), (1_000, Some(7)));
        assert_eq!(at(60, 4_000), (0, None), "what was long ago tells nothing");
        assert_eq!(at(61, 4_100), (100, Some(59)));
    }
}
