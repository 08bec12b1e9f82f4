//! What a job's program prints, as plain bytes; with `follow` until it has ended.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use shoal_protocol::id::{ExecutionId, JobId};
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::error::ApiError;
use super::extract::Asked;
use crate::{LogChunk, LogsError};

/// Pause before a program that printed nothing new is asked again.
const POLL: Duration = Duration::from_millis(200);
/// Times that a log of a job that is over is asked for before it is given up.
const MAX_TRIES: u32 = 15;

/// Which of a program's streams.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    #[default]
    Stdout,
    Stderr,
}

#[derive(Debug, Deserialize)]
pub(super) struct Query {
    #[serde(default)]
    stream: Which,
    execution: Option<ExecutionId>,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    offset: u64,
}

/// `GET /jobs/{id}/logs`: one stream of one execution, or of the one that tells most.
pub(super) async fn logs(
    State(api): State<Api>,
    Path(id): Path<String>,
    Asked(query): Asked<Query>,
) -> Result<Response, ApiError> {
    let job = api.node().resolve_job(&id)?;
    let slot = api.stream_slot()?;
    let mut tail = Tail { api: api.clone(), job, query, tries: 0, over: false };
    // The first piece decides between an error and an answer, unless there is time to wait for one.
    let first = if tail.query.follow { None } else { Some(tail.read().await?) };
    let first = stream::iter(first.map(|chunk| Ok(Bytes::from(chunk.bytes))));
    let body = Body::from_stream(first.chain(tail.into_stream(slot)).take_until(api.stopping()));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

struct Tail {
    api: Api,
    job: JobId,
    query: Query,
    /// Vain tries since the job is over.
    tries: u32,
    over: bool,
}

impl Tail {
    /// The next piece, which may be empty.
    async fn read(&mut self) -> Result<LogChunk, LogsError> {
        let stream = match self.query.stream {
            Which::Stdout => crate::Stream::Stdout,
            Which::Stderr => crate::Stream::Stderr,
        };
        let chunk = self.api.node().logs(self.job, self.query.execution, stream, self.query.offset).await?;
        // From here on the same execution, whichever may tell more later.
        self.query.execution = Some(chunk.execution);
        self.query.offset = chunk.offset + chunk.bytes.len() as u64;
        self.over = chunk.end || (chunk.bytes.is_empty() && !self.query.follow);
        Ok(chunk)
    }

    /// The next piece that is not empty; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        while !self.over {
            match self.read().await {
                Ok(chunk) if !chunk.bytes.is_empty() => return Ok(Some(chunk.bytes.into())),
                Ok(_) if self.over => break,
                Ok(_) => {}
                Err(error) if self.is_hopeless()? => return Err(error.into()),
                // Not awarded yet, or the worker is away for a moment, or its result is on its way here.
                Err(error) => tracing::debug!(job = %self.job, %error, "no log yet"),
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(None)
    }

    /// Whether waiting brings no log: the job is over, and what it left had time to come.
    fn is_hopeless(&mut self) -> Result<bool, ApiError> {
        let is_over = self.api.node().job(self.job)?.is_none_or(|job| job.state.is_over());
        self.tries += u32::from(is_over);
        Ok(!self.query.follow || self.tries > MAX_TRIES)
    }

    fn into_stream(self, slot: OwnedSemaphorePermit) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(Some((self, slot)), async |state| {
            let (mut tail, slot) = state?;
            match tail.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some((tail, slot)))),
                Ok(None) => None,
                // The answer has begun: breaking it off is all that can still be said.
                Err(error) => Some((Err(io::Error::other(error.view().error.message)), None)),
            }
        })
    }
}
