//! A job's events as a stream: first what happened, then what happens, until the job is over.
//!
//! Nothing is lost or told twice in between: the feed listens before it reads the history, goes by sequence
//! numbers, and reads the history again wherever it misses one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use shoal_protocol::id::JobId;
use shoal_protocol::record::{Event, Step};
use shoal_store::state::StateError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use super::Api;
use super::error::ApiError;
use super::extract::Asked;
use crate::views::EventView;

/// Pause after which a silent stream says that it is still there.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Reads a job's events from a sequence number on.
type History = Box<dyn Fn(u32) -> Result<Vec<Event>, StateError> + Send>;

#[derive(Deserialize)]
pub(super) struct From {
    from: Option<u32>,
}

/// `GET /jobs/{id}/events`: from `?from=`, or after `Last-Event-ID`, or from the beginning.
pub(super) async fn events(
    State(api): State<Api>,
    Path(id): Path<String>,
    Asked(query): Asked<From>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let job = api.node().resolve_job(&id)?;
    let from = match query.from {
        Some(from) => from,
        None => after_last(&headers)?,
    };
    let slot = api.stream_slot()?;
    // In this order: whatever the history does not have yet will be heard.
    let live = api.node().subscribe();
    let over = api.node().job(job)?.ok_or_else(|| ApiError::no_job(job))?.state.is_over();
    let node = api.node().clone();
    let mut feed = Feed::new(job, from, live, Box::new(move |from| node.history(job, from)));
    feed.catch_up()?;
    feed.over = over && feed.queue.is_empty();
    let frames = feed.into_stream(slot).take_until(api.stopping());
    Ok(Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn after_last(headers: &HeaderMap) -> Result<u32, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(0) };
    let last: Option<u32> = value.to_str().ok().and_then(|text| text.parse().ok());
    match last {
        Some(last) => Ok(last.saturating_add(1)),
        None => Err(ApiError::new(StatusCode::BAD_REQUEST, "malformed", "Last-Event-ID is not a sequence number")),
    }
}

/// The events of one job, in order and each once.
struct Feed {
    job: JobId,
    /// The next sequence number to tell.
    next: u32,
    live: broadcast::Receiver<Event>,
    history: History,
    queue: VecDeque<Event>,
    over: bool,
}

impl Feed {
    fn new(job: JobId, from: u32, live: broadcast::Receiver<Event>, history: History) -> Self {
        Self { job, next: from, live, history, queue: VecDeque::new(), over: false }
    }

    /// The next event; none once the job is over or the node stops.
    async fn next(&mut self) -> Result<Option<Event>, StateError> {
        loop {
            while let Some(event) = self.queue.pop_front() {
                if event.sequence >= self.next {
                    self.next = event.sequence.saturating_add(1);
                    self.over |= event.step == Step::End;
                    return Ok(Some(event));
                }
            }
            if self.over {
                return Ok(None);
            }
            match self.live.recv().await {
                Ok(event) if event.job != self.job => {}
                Ok(event) if event.sequence == self.next => self.queue.push_back(event),
                // Between what was read and what is heard something is missing: it is saved by now.
                Ok(event) if event.sequence > self.next => self.catch_up()?,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => self.catch_up()?,
                Err(broadcast::error::RecvError::Closed) => return Ok(None),
            }
        }
    }

    fn catch_up(&mut self) -> Result<(), StateError> {
        self.queue.extend((self.history)(self.next)?);
        Ok(())
    }

    fn into_stream(self, slot: OwnedSemaphorePermit) -> impl Stream<Item = Result<Frame, Infallible>> + Send {
        stream::unfold(Some((self, slot)), async |state| {
            let (mut feed, slot) = state?;
            match feed.next().await {
                Ok(Some(event)) => Some((Ok(frame(&event)), Some((feed, slot)))),
                Ok(None) => None,
                Err(error) => Some((Ok(failure(&ApiError::from(error))), None)),
            }
        })
    }
}

fn frame(event: &Event) -> Frame {
    let frame = Frame::default().id(event.sequence.to_string());
    frame.json_data(EventView::from(event)).unwrap_or_else(|error| failure(&ApiError::internal(error)))
}

/// An error as a frame of a stream that has begun.
pub(super) fn failure(error: &ApiError) -> Frame {
    Frame::default().event("error").json_data(error.view()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use shoal_protocol::time::Time;

    use super::*;

    const JOB: JobId = JobId([1; 16]);

    fn event(job: JobId, sequence: u32, step: Step) -> Event {
        Event { job, sequence, at: Time(0), step, execution: None, peer: None, detail: String::new() }
    }

    struct World {
        saved: Arc<Mutex<Vec<Event>>>,
        say: broadcast::Sender<Event>,
    }

    impl World {
        fn new(capacity: usize) -> Self {
            Self { saved: Arc::default(), say: broadcast::channel(capacity).0 }
        }

        fn save(&self, sequence: u32, step: Step) {
            self.saved.lock().unwrap().push(event(JOB, sequence, step));
        }

        fn happen(&self, sequence: u32, step: Step) {
            self.save(sequence, step);
            let _ = self.say.send(event(JOB, sequence, step));
        }

        fn feed(&self, from: u32) -> Feed {
            let (live, saved) = (self.say.subscribe(), Arc::clone(&self.saved));
            let history = move |from| {
                let saved = saved.lock().unwrap();
                Ok(saved.iter().filter(|event| event.sequence >= from).cloned().collect())
            };
            Feed::new(JOB, from, live, Box::new(history))
        }
    }

    async fn told(mut feed: Feed) -> Vec<u32> {
        let mut sequences = Vec::new();
        while let Some(event) = feed.next().await.unwrap() {
            sequences.push(event.sequence);
        }
        sequences
    }

    #[tokio::test]
    async fn history_and_what_follows_are_told_once_and_in_order() {
        let world = World::new(16);
        world.happen(0, Step::Submit);
        let mut feed = world.feed(0);
        // Heard and saved before the history is read: it is in both.
        world.happen(1, Step::Announce);
        feed.catch_up().unwrap();
        world.happen(2, Step::Bid);
        let _ = world.say.send(event(JobId([2; 16]), 3, Step::End));
        world.happen(3, Step::End);
        world.happen(4, Step::Bid);
        assert_eq!(told(feed).await, [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn a_listener_that_falls_behind_reads_the_history_again() {
        let world = World::new(2);
        let mut feed = world.feed(0);
        feed.catch_up().unwrap();
        (0..9).for_each(|sequence| world.happen(sequence, Step::Bid));
        world.happen(9, Step::End);
        assert_eq!(told(feed).await, (0..10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_gap_is_filled_from_the_history() {
        let world = World::new(16);
        let feed = world.feed(0);
        // Saved, but never heard.
        world.save(0, Step::Submit);
        world.save(1, Step::Announce);
        world.happen(2, Step::End);
        assert_eq!(told(feed).await, [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_resumed_feed_begins_where_it_is_told_to() {
        let world = World::new(16);
        world.save(0, Step::Submit);
        world.save(1, Step::Announce);
        let mut feed = world.feed(1);
        feed.catch_up().unwrap();
        world.happen(2, Step::End);
        assert_eq!(told(feed).await, [1, 2]);
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", "7".parse().unwrap());
        assert_eq!(after_last(&headers).unwrap(), 8);
        headers.insert("last-event-id", "x".parse().unwrap());
        assert!(after_last(&headers).is_err());
    }
}
