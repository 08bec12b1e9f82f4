//! Server-sent events: those of a job, whose stream is taken up again where it broke, and those of an
//! answer that takes its time.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use shoal_protocol::id::JobId;
use shoal_protocol::record::Step;

use super::{Client, ClientError};
use crate::views::{ErrorView, EventView};

/// Largest frame, in bytes; an event's texts are short.
const MAX_FRAME_BYTES: usize = 1 << 20;
/// Silence after which a stream is given up: three times what the node allows itself.
const SILENCE: Duration = Duration::from_secs(30);
/// Times that a stream is taken up again without an event in between.
const MAX_RESUMES: u32 = 5;
/// Pause before a stream is taken up again.
const RESUME_PAUSE: Duration = Duration::from_millis(300);

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, ClientError>> + Send>>;

/// The events of a job, from the first until it is over.
pub struct Events {
    client: Client,
    job: JobId,
    next: u32,
    stream: Option<FrameStream>,
    resumes: u32,
    over: bool,
}

impl Events {
    pub(super) fn new(client: Client, job: JobId) -> Self {
        Self { client, job, next: 0, stream: None, resumes: 0, over: false }
    }

    /// The next event; none once the job is over.
    pub async fn next(&mut self) -> Result<Option<EventView>, ClientError> {
        while !self.over {
            match self.step().await {
                Ok(Some(event)) if event.sequence < self.next => {}
                Ok(Some(event)) => {
                    (self.next, self.resumes) = (event.sequence.saturating_add(1), 0);
                    self.over = event.step == Step::End;
                    return Ok(Some(event));
                }
                Ok(None) => self.over = true,
                Err(error @ (ClientError::Broken { .. } | ClientError::Unreachable { .. })) => {
                    self.resumes += 1;
                    if self.resumes > MAX_RESUMES {
                        return Err(error);
                    }
                    self.stream = None;
                    tokio::time::sleep(RESUME_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> Result<Option<EventView>, ClientError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let path = format!("/jobs/{}/events?from={}", self.job, self.next);
                self.stream.insert(FrameStream::open(&self.client, self.client.request(Method::GET, &path)).await?)
            }
        };
        let Some(frame) = stream.next().await? else { return Ok(None) };
        self.client.read_frame(&frame).map(Some)
    }
}

/// Waits for an answer that takes its time, and tells `progress` how far it is.
pub(super) async fn answered<T: DeserializeOwned, P: DeserializeOwned>(
    client: &Client,
    request: RequestBuilder,
    progress: &mut (dyn FnMut(P) + Send),
) -> Result<T, ClientError> {
    let mut stream = FrameStream::open(client, request).await?;
    while let Some(frame) = stream.next().await? {
        if frame.kind != "progress" {
            return client.read_frame(&frame);
        }
        progress(client.read_frame(&frame)?);
    }
    Err(ClientError::Broken { url: client.url.clone(), reason: "the stream ended before the answer".into() })
}

impl Client {
    fn read_frame<T: DeserializeOwned>(&self, frame: &Frame) -> Result<T, ClientError> {
        if frame.kind == "error" {
            let error = serde_json::from_str::<ErrorView>(&frame.data);
            let ErrorView { error } = error.map_err(|error| self.foreign(error.to_string()))?;
            let status = reqwest::StatusCode::INTERNAL_SERVER_ERROR;
            return Err(ClientError::Refused { status, code: error.code, message: error.message });
        }
        serde_json::from_str(&frame.data).map_err(|error| self.foreign(error.to_string()))
    }
}

/// Frames from an answer that lasts.
struct FrameStream {
    client: Client,
    pieces: Pieces,
    frames: Frames,
}

impl FrameStream {
    async fn open(client: &Client, request: RequestBuilder) -> Result<Self, ClientError> {
        let response = client.send(request.header(reqwest::header::ACCEPT, "text/event-stream")).await?;
        let pieces: Pieces = Box::pin(client.bytes(response));
        Ok(Self { client: client.clone(), pieces, frames: Frames::default() })
    }

    /// The next frame; none when the answer is over. A long silence is a break.
    async fn next(&mut self) -> Result<Option<Frame>, ClientError> {
        loop {
            if let Some(frame) = self.frames.pop() {
                return Ok(Some(frame));
            }
            match tokio::time::timeout(SILENCE, self.pieces.next()).await {
                Ok(Some(piece)) => {
                    self.frames.push(&piece?).map_err(|()| self.client.foreign("a frame is too long"))?;
                }
                Ok(None) => return Ok(None),
                Err(_) => {
                    let reason = format!("nothing was heard for {} s", SILENCE.as_secs());
                    return Err(ClientError::Broken { url: self.client.url.clone(), reason });
                }
            }
        }
    }
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Frame {
    kind: String,
    data: String,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
struct Frames {
    line: Vec<u8>,
    frame: Frame,
    done: VecDeque<Frame>,
}

impl Frames {
    fn push(&mut self, bytes: &[u8]) -> Result<(), ()> {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                byte => self.line.push(*byte),
            }
            if self.line.len() + self.frame.data.len() > MAX_FRAME_BYTES {
                return Err(());
            }
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<Frame> {
        self.done.pop_front()
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        let line = line.strip_suffix('\r').unwrap_or(&line);
        if line.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            // A comment alone, which keeps the stream alive, is no frame.
            if !frame.data.is_empty() {
                self.done.push_back(frame);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" if self.frame.data.is_empty() => self.frame.data.push_str(value),
            "data" => {
                self.frame.data.push('\n');
                self.frame.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.frame.kind),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[&str]) -> Vec<(String, String)> {
        let mut frames = Frames::default();
        pieces.iter().for_each(|piece| frames.push(piece.as_bytes()).unwrap());
        std::iter::from_fn(|| frames.pop()).map(|frame| (frame.kind, frame.data)).collect()
    }

    #[test]
    fn frames_are_found_wherever_the_stream_is_cut() {
        let text = "id: 1\ndata: {\"a\":1}\n\n:\n\nevent: error\r\ndata:x\r\ndata: ü\r\n\r\ndata: unfinished";
        let expected = vec![(String::new(), "{\"a\":1}".into()), ("error".into(), "x\nü".into())];
        assert_eq!(frames(&[text]), expected);
        for (cut, _) in text.char_indices() {
            assert_eq!(frames(&[&text[..cut], &text[cut..]]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let mut frames = Frames::default();
        assert!((0..10).any(|_| frames.push(&[b'x'; MAX_FRAME_BYTES / 4]).is_err()));
    }
}
