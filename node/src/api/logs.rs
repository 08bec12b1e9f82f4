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
/// The most that is kept of a log whose last lines are asked for: lines can be of any length.
const MAX_LAST_BYTES: usize = 1 << 20;

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
    /// Begin with so many of the last lines.
    tail: Option<usize>,
}

/// `GET /jobs/{id}/logs`: one stream of one execution, or of the one that tells most.
pub(super) async fn logs(
    State(api): State<Api>,
    Path(id): Path<String>,
    Asked(query): Asked<Query>,
) -> Result<Response, ApiError> {
    let job = api.node().resolve_job(&id)?;
    let slot = api.stream_slot()?;
    let last = query.tail.map(|lines| LastLines { lines, bytes: Vec::new() });
    let mut tail = Tail { api: api.clone(), job, query, last, tries: 0, over: false };
    // The first piece decides between an error and an answer, unless there is time to wait for one.
    let first = if tail.query.follow { None } else { Some(tail.read().await?) };
    let first = stream::iter(first.map(Ok));
    let body = Body::from_stream(first.chain(tail.into_stream(slot)).take_until(api.stopping()));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

struct Tail {
    api: Api,
    job: JobId,
    query: Query,
    /// What is read is kept here until there is no more of it, if only its last lines are wanted.
    last: Option<LastLines>,
    /// Vain tries since the job is over.
    tries: u32,
    over: bool,
}

/// The last lines of what is pushed.
struct LastLines {
    lines: usize,
    bytes: Vec<u8>,
}

impl Tail {
    /// The next piece, which may be empty.
    async fn read(&mut self) -> Result<Bytes, LogsError> {
        let stream = match self.query.stream {
            Which::Stdout => crate::Stream::Stdout,
            Which::Stderr => crate::Stream::Stderr,
        };
        let chunk = self.api.node().logs(self.job, self.query.execution, stream, self.query.offset).await?;
        // From here on the same execution, whichever may tell more later.
        self.query.execution = Some(chunk.execution);
        self.query.offset = chunk.offset + chunk.bytes.len() as u64;
        self.over = chunk.end || (chunk.bytes.is_empty() && !self.query.follow);
        Ok(self.without_early_lines(chunk))
    }

    fn without_early_lines(&mut self, chunk: LogChunk) -> Bytes {
        let is_all = self.over || chunk.bytes.is_empty();
        let Some(mut last) = self.last.take() else { return chunk.bytes.into() };
        last.push(&chunk.bytes);
        if is_all {
            return last.bytes.into();
        }
        self.last = Some(last);
        Bytes::new()
    }

    /// The next piece that is not empty; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        while !self.over {
            match self.read().await {
                Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
                Ok(_) if self.over => break,
                Ok(_) if self.last.is_some() => continue,
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

impl LastLines {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let first = self.bytes.len().saturating_sub(MAX_LAST_BYTES).max(self.first_line());
        self.bytes.drain(..first);
    }

    /// Where the first of the last lines begins. A line may have no end yet.
    fn first_line(&self) -> usize {
        let ended = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let mut ends = ended.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index + 1);
        match self.lines.checked_sub(1) {
            Some(more) => ends.nth(more).unwrap_or_default(),
            None => self.bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(lines: usize, pieces: &[&str]) -> String {
        let mut last = LastLines { lines, bytes: Vec::new() };
        pieces.iter().for_each(|piece| last.push(piece.as_bytes()));
        String::from_utf8(last.bytes).unwrap()
    }

    #[test]
    fn the_last_lines_are_kept_however_they_come() {
        let table = [
            (2, &["a\nb\nc\n"][..], "b\nc\n"),
            (2, &["a\nb", "b\n", "c"], "bb\nc"),
            (1, &["a\n", "\n"], "\n"),
            (3, &["a\nb\n"], "a\nb\n"),
            (0, &["a\nb"], ""),
            (2, &[], ""),
        ];
        for (lines, pieces, expected) in table {
            assert_eq!(last(lines, pieces), expected, "{lines} of {pieces:?}");
        }
    }

    #[test]
    fn a_line_that_never_ends_is_cut() {
        let piece = "x".repeat(MAX_LAST_BYTES);
        assert_eq!(last(5, &[&piece, "y"]).len(), MAX_LAST_BYTES);
    }
}
