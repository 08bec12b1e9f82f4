//! `POST /blobs/fetch`: content from the mesh, with progress for whoever accepts a stream of events.
//!
//! A stream has `progress` frames with what is here, how fast it comes and from how many, then one frame that is the
//! blob, or an `error` frame.
//! Who goes away stops the fetch; what has arrived is not fetched again.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, stream};
use shoal_store::blobs::Imported;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Api;
use super::blobs::{keep, wanted};
use super::error::ApiError;
use super::events::{KEEP_ALIVE, failure};
use super::extract::Sent;
use crate::network::Progress;
use crate::views::{BlobView, FetchRequest, FetchedView};

/// The most that is fetched for one request, in bytes.
const MAX_FETCH_BYTES: u64 = 1 << 42;
/// Pause between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// The time over which the rate is taken.
const PACE_WINDOW: Duration = Duration::from_secs(5);

/// A fetch that is under way.
type Fetch = BoxFuture<'static, Result<BlobView, ApiError>>;

pub(super) async fn fetch(
    State(api): State<Api>,
    headers: HeaderMap,
    Sent(request): Sent<FetchRequest>,
) -> Result<Response, ApiError> {
    let (told, progress) = watch::channel(Progress::default());
    let stopping = api.stopping();
    let slot = api.stream_slot()?;
    let fetch: Fetch = Box::pin(have(api, request, told));
    if !wants_events(&headers) {
        return Ok(Json(fetch.await?).into_response());
    }
    let frames = frames(fetch, progress, slot).take_until(stopping);
    Ok(Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

async fn have(api: Api, request: FetchRequest, told: watch::Sender<Progress>) -> Result<BlobView, ApiError> {
    let list_only = request.list_only;
    let (content, providers) = wanted(&api, request)?;
    let blobs = api.node().blobs();
    if list_only {
        let (guard, bytes) = api.node().fetch_list(content.hash, providers).await?;
        return Ok(keep(&api, Imported { content, bytes, guard }));
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
    Ok(keep(&api, Imported { content, bytes, guard }))
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

fn frames(
    fetch: Fetch,
    progress: watch::Receiver<Progress>,
    slot: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Frame, Infallible>> + Send {
    stream::unfold(Some((fetch, progress, Pace::default(), slot)), async |state| {
        let (mut fetch, mut progress, mut pace, slot) = state?;
        tokio::select! {
            biased;
            ended = &mut fetch => Some((Ok(last(&ended)), None)),
            progressed = next(&mut progress) => {
                let frame = Frame::default().event("progress").json_data(pace.view(progressed, Instant::now()));
                Some((Ok(frame.unwrap_or_default()), Some((fetch, progress, pace, slot))))
            }
        }
    })
}

/// Waits for progress that was not reported yet; for ever, if there will be none.
async fn next(progress: &mut watch::Receiver<Progress>) -> Progress {
    tokio::time::sleep(REPORT_EVERY).await;
    match progress.changed().await {
        Ok(()) => *progress.borrow_and_update(),
        Err(_) => std::future::pending().await,
    }
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

fn last(ended: &Result<BlobView, ApiError>) -> Frame {
    match ended {
        Ok(blob) => Frame::default().json_data(blob).unwrap_or_else(|error| failure(&ApiError::internal(error))),
        Err(error) => failure(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::BodyDataStream;
    use shoal_protocol::id::BlobHash;
    use tokio::sync::{Semaphore, oneshot};

    use super::*;
    use crate::views::KindView;

    async fn read(body: &mut BodyDataStream) -> String {
        String::from_utf8(body.next().await.unwrap().unwrap().to_vec()).unwrap()
    }

    async fn fetching(ended: Result<BlobView, ApiError>) -> (String, String) {
        let (told, progress) = watch::channel(Progress::default());
        let (end, waiting) = oneshot::channel();
        let fetch: Fetch = Box::pin(async move {
            told.send_replace(Progress { bytes: 1_000, total: Some(9_000), providers: 2 });
            waiting.await.map_err(ApiError::internal)?
        });
        let slot = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let mut body = Sse::new(frames(fetch, progress, slot)).into_response().into_body().into_data_stream();
        let first = read(&mut body).await;
        end.send(ended).unwrap();
        let second = read(&mut body).await;
        assert!(body.next().await.is_none());
        (first, second)
    }

    #[tokio::test]
    async fn progress_is_told_before_the_blob_or_the_failure() {
        let blob = BlobView { hash: BlobHash([7; 32]), kind: KindView::File, bytes: 2_000, ticket: "blobx".into() };
        let (first, second) = fetching(Ok(blob)).await;
        let told = r#"{"Bytes":1000,"TotalBytes":9000,"BytesPerSecond":0,"Providers":2}"#;
        assert_eq!(first, format!("event: progress\ndata: {told}\n\n"));
        assert!(second.starts_with("data: {\"Hash\":\"0707") && second.contains("\"Bytes\":2000"), "{second}");

        let (_, second) = fetching(Err(ApiError::not_found("no peer has it"))).await;
        assert!(second.starts_with("event: error\n") && second.contains("no peer has it"), "{second}");
    }

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
