//! An answer that takes its time, for whoever accepts a stream of events: `progress` frames while it lasts, then one
//! frame that is the answer, or an `error` frame. Who goes away ends the work.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Api;
use super::error::ApiError;
use super::events::{KEEP_ALIVE, failure};

/// Pause between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Work that is under way.
pub(super) type Work<T> = BoxFuture<'static, Result<T, ApiError>>;

/// Whether the caller wants to hear of progress.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

/// Answers with the progress of some work, as `view` tells it, and what comes of it.
pub(super) fn answer<T, P, V>(
    api: &Api,
    work: Work<T>,
    progress: watch::Receiver<P>,
    view: impl FnMut(P) -> V + Send + 'static,
) -> Result<Response, ApiError>
where
    T: Serialize + 'static,
    P: Clone + Send + Sync + 'static,
    V: Serialize + 'static,
{
    let frames = frames(work, progress, view, api.stream_slot()?).take_until(api.stopping());
    Ok(Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn frames<T, P, V>(
    work: Work<T>,
    progress: watch::Receiver<P>,
    view: impl FnMut(P) -> V + Send,
    slot: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Frame, Infallible>> + Send
where
    T: Serialize + 'static,
    P: Clone + Send + Sync + 'static,
    V: Serialize + 'static,
{
    stream::unfold(Some((work, progress, view, slot)), async |state| {
        let (mut work, mut progress, mut view, slot) = state?;
        tokio::select! {
            biased;
            ended = &mut work => Some((Ok(last(&ended)), None)),
            reported = next(&mut progress) => {
                let frame = Frame::default().event("progress").json_data(view(reported));
                Some((Ok(frame.unwrap_or_default()), Some((work, progress, view, slot))))
            }
        }
    })
}

/// Waits for progress that was not reported yet; for ever, if there will be none.
async fn next<P: Clone>(progress: &mut watch::Receiver<P>) -> P {
    tokio::time::sleep(REPORT_EVERY).await;
    match progress.changed().await {
        Ok(()) => progress.borrow_and_update().clone(),
        Err(_) => std::future::pending().await,
    }
}

fn last<T: Serialize>(ended: &Result<T, ApiError>) -> Frame {
    match ended {
        Ok(answer) => Frame::default().json_data(answer).unwrap_or_else(|error| failure(&ApiError::internal(error))),
        Err(error) => failure(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::BodyDataStream;
    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    async fn read(body: &mut BodyDataStream) -> String {
        String::from_utf8(body.next().await.unwrap().unwrap().to_vec()).unwrap()
    }

    fn body(work: Work<u32>, progress: watch::Receiver<u32>, slots: &Arc<Semaphore>) -> BodyDataStream {
        let slot = Arc::clone(slots).try_acquire_owned().unwrap();
        Sse::new(frames(work, progress, |reported| reported, slot)).into_response().into_body().into_data_stream()
    }

    #[tokio::test]
    async fn progress_is_told_before_the_answer_or_the_failure() {
        let ends = [(Ok(7), "data: 7\n\n"), (Err(ApiError::not_found("no such thing")), "event: error\n")];
        for (ended, expected) in ends {
            let ((told, progress), (end, waiting)) = (watch::channel(0), oneshot::channel());
            let work: Work<u32> = Box::pin(async move {
                told.send_replace(5);
                waiting.await.map_err(ApiError::internal)?
            });
            let mut body = body(work, progress, &Arc::new(Semaphore::new(1)));
            assert_eq!(read(&mut body).await, "event: progress\ndata: 5\n\n");
            end.send(ended).unwrap();
            assert!(read(&mut body).await.starts_with(expected));
            assert!(body.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn who_goes_away_ends_the_work_and_frees_the_slot() {
        let (slots, (_told, progress)) = (Arc::new(Semaphore::new(1)), watch::channel(0));
        let (ends_with_work, ended) = oneshot::channel::<()>();
        let work: Work<u32> = Box::pin(async move {
            let _dropped_with_the_work = ends_with_work;
            std::future::pending().await
        });
        drop(body(work, progress, &slots));
        assert!(ended.await.is_err(), "the work was dropped");
        assert_eq!(slots.available_permits(), 1);
    }
}
