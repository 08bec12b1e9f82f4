//! What travels directly between two nodes: sealed protocol messages, and requests for the log of a run.

use serde::{Deserialize, Serialize};
use shoal_protocol::id::ExecutionId;

/// Largest piece of a log in one answer, in bytes.
pub(crate) const MAX_LOG_BYTES: usize = 64 << 10;

/// Most messages that go together.
pub(crate) const MAX_TOGETHER: usize = 32;
/// What they may hold together, in bytes: room for one of the largest, or many small ones.
pub(crate) const MAX_TOGETHER_BYTES: usize = 16 << 10;

/// What one node asks of another.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Sealed messages, at most [`MAX_TOGETHER`]; the answer is empty and only says that they arrived.
    Messages(Vec<Vec<u8>>),
    /// A piece of a log; the answer is a [`LogPiece`].
    Log(LogRequest),
}

/// Names a piece of a log.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct LogRequest {
    /// Of which execution.
    pub execution: ExecutionId,
    /// Which of its streams.
    pub stream: Stream,
    /// From which byte on.
    pub offset: u64,
}

/// An output stream of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogPiece {
    /// At most [`MAX_LOG_BYTES`].
    pub bytes: Vec<u8>,
    /// Whether nothing will follow.
    pub end: bool,
}

impl Stream {
    /// Its name in a result.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    shoal_protocol::wire::canonical(value)
}

/// Decodes what a peer sent.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}
