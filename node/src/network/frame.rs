//! Values on one-way streams: a length of four bytes, and the canonical encoding.

use iroh::endpoint::{Connection, RecvStream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shoal_protocol::wire::{canonical, parse};

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The connection or the stream ended.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It is longer than it may be, or says something else.
    #[error("what was said is no part of a handshake")]
    Malformed,
}

/// A value as it travels.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    let bytes = canonical(value);
    let length = u32::try_from(bytes.len()).expect("values of a handshake are small");
    [&length.to_be_bytes()[..], &bytes].concat()
}

/// Sends frames on a stream of their own.
pub(super) async fn send(connection: &Connection, frames: &[&[u8]]) -> Result<(), FrameError> {
    let mut stream = connection.open_uni().await.map_err(broken)?;
    for frame in frames {
        stream.write_all(frame).await.map_err(broken)?;
    }
    stream.finish().map_err(broken)
}

/// The next stream that the other side opens.
pub(super) async fn accept(connection: &Connection) -> Result<RecvStream, FrameError> {
    connection.accept_uni().await.map_err(broken)
}

/// Reads one value of at most `most` bytes. A length beyond that is refused before anything is kept.
pub(super) async fn read<T: Serialize + DeserializeOwned>(
    stream: &mut RecvStream,
    most: usize,
) -> Result<T, FrameError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(broken)?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= most);
    let mut bytes = vec![0; length.ok_or(FrameError::Malformed)?];
    stream.read_exact(&mut bytes).await.map_err(broken)?;
    parse(&bytes).map_err(|_| FrameError::Malformed)
}

fn broken(error: impl std::fmt::Display) -> FrameError {
    FrameError::Broken(error.to_string())
}
