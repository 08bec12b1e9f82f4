//! A stream that sends what the store reads in larger pieces: each write wakes the connection, and costs as much as
//! encrypting what it brings.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use iroh::endpoint::{SendStream, VarInt};

use super::Served;

/// Bytes that may wait to be sent together.
const MAX_WAITING: usize = 128 << 10;

/// Sends in batches.
#[derive(Debug)]
pub(super) struct Batched {
    stream: SendStream,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    sent_bytes: usize,
    most: usize,
    served: Arc<Served>,
}

impl Batched {
    /// Whoever is slowed down sends each piece at once, so that nobody takes it for silent.
    pub(super) fn new(stream: SendStream, served: Arc<Served>, is_limited: bool) -> Self {
        let most = if is_limited { 0 } else { MAX_WAITING };
        Self { stream, waiting: Vec::new(), waiting_bytes: 0, sent_bytes: 0, most, served }
    }

    /// Lets some bytes wait, or sends all that wait.
    ///
    /// No more waits than has been sent: so the first piece goes at once, and when the store comes to a gap, which
    /// resets the stream, at most half of what it had read is lost.
    async fn push(&mut self, bytes: Bytes) -> io::Result<()> {
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
        if self.waiting_bytes > self.sent_bytes.min(self.most) { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all_chunks(&mut self.waiting).await?;
        self.waiting.clear();
        self.sent_bytes = self.sent_bytes.saturating_add(std::mem::take(&mut self.waiting_bytes));
        Ok(())
    }
}

impl iroh_blobs::util::SendStream for Batched {
    async fn send_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        self.served.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.push(bytes).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Proofs and sizes, which are not counted.
        self.push(Bytes::copy_from_slice(bytes)).await
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.flush().await
    }

    fn reset(&mut self, code: VarInt) -> io::Result<()> {
        Ok(self.stream.reset(code)?)
    }

    async fn stopped(&mut self) -> io::Result<Option<VarInt>> {
        Ok(self.stream.stopped().await?)
    }

    fn id(&self) -> u64 {
        self.stream.id().index()
    }
}
