//! Streams of an iroh connection as libp2p substreams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::futures::{AsyncRead, AsyncWrite};

/// Application close code of an orderly end.
const CLOSED_BY_US: u32 = 0;

type Opening = BoxFuture<'static, Result<(SendStream, RecvStream), ConnectionError>>;

/// An iroh connection that libp2p opens and accepts streams on.
///
/// There is no address change to report: libp2p would replace an address that others can use by one that is valid
/// between these two peers only.
pub(crate) struct Muxer {
    connection: Connection,
    inbound: Option<Opening>,
    outbound: Option<Opening>,
    closing: Option<BoxFuture<'static, ConnectionError>>,
}

impl Muxer {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, inbound: None, outbound: None, closing: None }
    }
}

impl StreamMuxer for Muxer {
    type Substream = Substream;
    type Error = ConnectionError;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Substream, ConnectionError>> {
        let connection = self.connection.clone();
        let accept = || -> Opening { Box::pin(async move { connection.accept_bi().await }) };
        let streams = ready!(self.inbound.get_or_insert_with(accept).as_mut().poll(cx));
        self.inbound = None;
        Poll::Ready(streams.map(Substream::new))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Substream, ConnectionError>> {
        // The other side sees the stream with its first bytes; libp2p's negotiation always writes first.
        let connection = self.connection.clone();
        let open = || -> Opening { Box::pin(async move { connection.open_bi().await }) };
        let streams = ready!(self.outbound.get_or_insert_with(open).as_mut().poll(cx));
        self.outbound = None;
        Poll::Ready(streams.map(Substream::new))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let connection = self.connection.clone();
        let close = || -> BoxFuture<'static, ConnectionError> {
            connection.close(CLOSED_BY_US.into(), b"");
            Box::pin(async move { connection.closed().await })
        };
        match ready!(self.closing.get_or_insert_with(close).as_mut().poll(cx)) {
            ConnectionError::LocallyClosed | ConnectionError::ApplicationClosed(_) => Poll::Ready(Ok(())),
            error => Poll::Ready(Err(error)),
        }
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        Poll::Pending
    }
}

/// Both halves of a stream. Dropping it finishes the sending half, so a cut message looks like a complete one:
/// every protocol on top has to know its lengths.
pub(crate) struct Substream {
    send: SendStream,
    recv: RecvStream,
    finished: bool,
}

impl Substream {
    fn new((send, recv): (SendStream, RecvStream)) -> Self {
        Self { send, recv, finished: false }
    }
}

impl AsyncRead for Substream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.recv.poll_read(cx, buffer).map_err(io::Error::from)
    }
}

impl AsyncWrite for Substream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, bytes).map_err(io::Error::from)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection sends what is written by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Finishing twice is an error for QUIC and none for libp2p.
        if !self.finished {
            self.finished = true;
            self.send.finish().map_err(io::Error::from)?;
        }
        Poll::Ready(Ok(()))
    }
}
