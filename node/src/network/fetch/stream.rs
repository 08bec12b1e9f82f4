//! A stream that is read in large pieces, which the pieces of a blob are cut from without copying them.

use std::io;

use bytes::{Bytes, BytesMut};
use iroh::endpoint::{RecvStream, VarInt};
use tokio::io::AsyncReadExt;

/// Bytes that are read at once.
const MAX_READ: usize = 256 << 10;

/// Reads ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    stream: RecvStream,
    here: BytesMut,
}

impl Ahead {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, here: BytesMut::new() }
    }

    /// Reads until so many bytes are here, or the stream ends.
    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.here.len() < length {
            if self.here.capacity() < length {
                self.here.reserve(length.max(MAX_READ));
            }
            if self.stream.read_buf(&mut self.here).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Reads so many bytes. A stream that ends in the middle is something else than one that ends before.
    async fn take(&mut self, length: usize) -> io::Result<BytesMut> {
        self.fill(length).await?;
        match self.here.len() {
            0 if length > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            here if here < length => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(self.here.split_to(length)),
        }
    }
}

impl iroh_blobs::util::RecvStream for Ahead {
    async fn recv_bytes(&mut self, length: usize) -> io::Result<Bytes> {
        self.fill(length).await?;
        Ok({
            let length = length.min(self.here.len());
            self.here.split_to(length).freeze()
        })
    }

    async fn recv_bytes_exact(&mut self, length: usize) -> io::Result<Bytes> {
        Ok(self.take(length).await?.freeze())
    }

    async fn recv_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        target.copy_from_slice(&self.take(target.len()).await?);
        Ok(())
    }

    fn stop(&mut self, code: VarInt) -> io::Result<()> {
        Ok(self.stream.stop(code)?)
    }

    fn id(&self) -> u64 {
        self.stream.id().index()
    }
}
