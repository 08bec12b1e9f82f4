//! A request and its answer on a stream: lengths first, and never more than allowed.
//!
//! ```text
//! request:  length 4 ‖ bytes
//! answer:   0 ‖ length 4 ‖ bytes
//!           1                                       busy
//!           2 ‖ version 1 ‖ length 4 ‖ places       not understood
//! ```
//!
//! A stream that is cut looks finished, so a length that is not filled is an error. Memory follows what has arrived,
//! not what was promised.

use std::io;
use std::sync::Arc;

use libp2p::StreamProtocol;
use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::request_response::Codec;
use shoal_protocol::limits::MAX_DIRECT_BYTES;
use tokio::sync::Semaphore;

/// A request, in bytes.
pub const MAX_REQUEST_BYTES: usize = MAX_DIRECT_BYTES + 256;
/// An answer, in bytes.
pub const MAX_ANSWER_BYTES: usize = 256 * 1_024;

/// Requests that may be half read at once, in bytes, over all peers. Small ones always may.
const READING_BYTES: usize = 64 << 20;
/// A request up to this size needs no allowance to be read.
const SMALL_BYTES: usize = 2_048;

const ANSWERED: u8 = 0;
const BUSY: u8 = 1;
const NOT_UNDERSTOOD: u8 = 2;
/// Places in an answer that says what was not understood.
const MAX_PLACES: usize = 256;

/// What came of a request at the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was handled; this is the answer.
    Bytes(Vec<u8>),
    /// It was not looked at: too much to do, or too much from this peer.
    Busy,
    /// The other side speaks another version.
    NotUnderstood(NotUnderstood),
}

/// What a peer did not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotUnderstood {
    /// The version that it speaks.
    pub(crate) version: u8,
    /// Which of the messages in the request, by their places; none for the whole request.
    pub(crate) places: Vec<u8>,
}

/// The codec of direct messages. Clones share the allowance for half-read requests.
#[derive(Debug, Clone)]
pub(crate) struct DirectCodec {
    reading: Arc<Semaphore>,
}

impl Default for DirectCodec {
    fn default() -> Self {
        Self { reading: Arc::new(Semaphore::new(READING_BYTES)) }
    }
}

impl Codec for DirectCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let length = read_length(io, MAX_REQUEST_BYTES).await?;
        // Whoever promises much and sends it slowly must not hold the memory of all.
        let allowance = if length <= SMALL_BYTES { 0 } else { u32::try_from(length).unwrap_or(u32::MAX) };
        let _held =
            self.reading.try_acquire_many(allowance).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        read_bytes(io, length).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut status = [0];
        io.read_exact(&mut status).await?;
        match status {
            [ANSWERED] => {
                let length = read_length(io, MAX_ANSWER_BYTES).await?;
                Ok(Answer::Bytes(read_bytes(io, length).await?))
            }
            [BUSY] => Ok(Answer::Busy),
            [NOT_UNDERSTOOD] => {
                let mut version = [0];
                io.read_exact(&mut version).await?;
                let length = read_length(io, MAX_PLACES).await?;
                let (version, places) = (version[0], read_bytes(io, length).await?);
                Ok(Answer::NotUnderstood(NotUnderstood { version, places }))
            }
            [other] => Err(io::Error::new(io::ErrorKind::InvalidData, format!("unknown answer status {other}"))),
        }
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let bytes = with_length(Vec::with_capacity(4 + request.len()), &request, MAX_REQUEST_BYTES)?;
        io.write_all(&bytes).await?;
        io.close().await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: Answer) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let bytes = match answer {
            Answer::Bytes(bytes) => with_length(vec![ANSWERED], &bytes, MAX_ANSWER_BYTES)?,
            Answer::Busy => vec![BUSY],
            Answer::NotUnderstood(NotUnderstood { version, places }) => {
                with_length(vec![NOT_UNDERSTOOD, version], &places, MAX_PLACES)?
            }
        };
        io.write_all(&bytes).await?;
        io.close().await
    }
}

/// `head ‖ length ‖ bytes`, in one piece so that it leaves in one packet.
fn with_length(mut head: Vec<u8>, bytes: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= limit);
    head.extend(length.ok_or_else(|| too_large(bytes.len(), limit))?.to_be_bytes());
    head.extend(bytes);
    Ok(head)
}

async fn read_length<T: AsyncRead + Unpin>(io: &mut T, limit: usize) -> io::Result<usize> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > limit { Err(too_large(length, limit)) } else { Ok(length) }
}

async fn read_bytes<T: AsyncRead + Unpin>(io: &mut T, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} of {length} bytes came", bytes.len())));
    }
    Ok(bytes)
}

fn too_large(length: usize, limit: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes are more than the {limit} allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::futures::io::Cursor;

    const PROTOCOL: StreamProtocol = StreamProtocol::new("/test");

    async fn sent(request: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut wire = Cursor::new(Vec::new());
        DirectCodec::default().write_request(&PROTOCOL, &mut wire, request).await?;
        Ok(wire.into_inner())
    }

    async fn received(wire: Vec<u8>) -> io::Result<Vec<u8>> {
        DirectCodec::default().read_request(&PROTOCOL, &mut Cursor::new(wire)).await
    }

    #[tokio::test]
    async fn requests_and_answers_survive_the_wire() {
        for request in [vec![], vec![7; MAX_REQUEST_BYTES]] {
            assert_eq!(received(sent(request.clone()).await.unwrap()).await.unwrap(), request);
        }
        let strange = |places| Answer::NotUnderstood(NotUnderstood { version: 7, places });
        let answers = [Answer::Busy, strange(vec![]), strange(vec![0, 31])];
        for answer in answers.into_iter().chain([0, MAX_ANSWER_BYTES].map(|length| Answer::Bytes(vec![7; length]))) {
            let mut wire = Cursor::new(Vec::new());
            DirectCodec::default().write_response(&PROTOCOL, &mut wire, answer.clone()).await.unwrap();
            let mut wire = Cursor::new(wire.into_inner());
            assert_eq!(DirectCodec::default().read_response(&PROTOCOL, &mut wire).await.unwrap(), answer);
        }
    }

    #[tokio::test]
    async fn an_oversize_request_is_neither_sent_nor_read() {
        assert!(sent(vec![0; MAX_REQUEST_BYTES + 1]).await.is_err());
        let mut wire = u32::MAX.to_be_bytes().to_vec();
        wire.extend([0; 9]);
        assert_eq!(received(wire).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_cut_request_is_not_a_short_one() {
        let mut wire = sent(vec![7; 100]).await.unwrap();
        wire.truncate(50);
        assert_eq!(received(wire).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
