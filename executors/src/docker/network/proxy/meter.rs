//! What passes through a proxy is counted, and comes to an end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{IDLE_WAIT, MAX_REQUESTS, Notes, Refusal};

/// What one container may still ask for.
#[derive(Debug)]
pub(super) struct Traffic {
    bytes_left: AtomicU64,
    requests_left: AtomicU64,
    notes: Notes,
}

/// A connection to a host: its bytes are counted, in both directions, and it ends when nothing passes.
#[derive(Debug)]
pub(super) struct Metered<S> {
    inner: S,
    traffic: Arc<Traffic>,
    idle: Pin<Box<Sleep>>,
}

impl Traffic {
    pub(super) fn new(bytes: u64, notes: Notes) -> Self {
        Self { bytes_left: bytes.into(), requests_left: MAX_REQUESTS.into(), notes }
    }

    /// Counts a connection or a request; returns whether there may be this one.
    pub(super) fn one_more(&self) -> bool {
        take(&self.requests_left, 1) >= 1
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.bytes_left.load(Ordering::Relaxed) == 0
    }

    /// Counts what has passed; returns whether there was room for it.
    fn passed(&self, bytes: usize) -> bool {
        let (before, bytes) = (take(&self.bytes_left, bytes as u64), bytes as u64);
        if before > 0 && before < bytes {
            self.notes.refused("more", &Refusal::UsedUp);
        }
        before >= bytes
    }

    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }
}

/// Takes what is there of `amount`, and returns what was there before.
fn take(left: &AtomicU64, amount: u64) -> u64 {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(amount))).unwrap_or(0)
}

impl<S> Metered<S> {
    pub(super) fn new(inner: S, traffic: Arc<Traffic>) -> Self {
        Self { inner, traffic, idle: Box::pin(tokio::time::sleep(IDLE_WAIT)) }
    }

    /// Counts what has passed, if something has, or looks whether nothing has for too long.
    fn passed<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>, bytes: usize) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending => {
                ready!(self.idle.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(Ok(_)) if !self.traffic.passed(bytes) => Poll::Ready(Err(io::Error::other(Refusal::UsedUp))),
            passed => {
                self.idle.as_mut().reset(Instant::now() + IDLE_WAIT);
                passed
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.passed(cx, polled, buffer.filled().len() - before)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        let written = if let Poll::Ready(Ok(written)) = &polled { *written } else { 0 };
        self.passed(cx, polled, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::notes;
    use super::*;

    #[tokio::test]
    async fn bytes_of_both_directions_count_until_there_are_no_more() {
        let (near, mut far) = tokio::io::duplex(100);
        let (notes, mut lines) = notes();
        let traffic = Arc::new(Traffic::new(15, notes));
        let mut near = Metered::new(near, Arc::clone(&traffic));
        near.write_all(&[0; 10]).await.unwrap();
        far.write_all(&[0; 10]).await.unwrap();
        assert!(!traffic.is_used_up());
        assert!(near.read(&mut [0; 10]).await.is_err());
        assert!(traffic.is_used_up());
        assert!(near.write_all(&[0; 1]).await.is_err());
        drop((near, traffic));
        assert!(lines.recv().await.unwrap().contains("has reached its Disk"));
        assert_eq!(lines.recv().await, None, "it is told once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_through_which_nothing_passes_ends() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut near = Metered::new(near, Arc::new(Traffic::new(100, notes().0)));
        let began = Instant::now();
        far.write_all(&[0; 10]).await.unwrap();
        tokio::time::advance(IDLE_WAIT / 2).await;
        assert_eq!(near.read(&mut [0; 10]).await.unwrap(), 10);
        let error = near.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= IDLE_WAIT + IDLE_WAIT / 2, "what passes keeps it alive");
    }

    #[test]
    fn requests_come_to_an_end() {
        let traffic = Traffic::new(0, notes().0);
        assert_eq!((0..2 * MAX_REQUESTS).filter(|_| traffic.one_more()).count() as u64, MAX_REQUESTS);
    }
}
