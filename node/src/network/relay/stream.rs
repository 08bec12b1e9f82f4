//! A relay client's frames: counted, and read no faster than its rate and the relay's allow.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use iroh_relay::ExportKeyingMaterial;
use iroh_relay::protos::streams::StreamError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;
use tokio_websockets::{Message, WebSocketStream};

use super::clients::Account;

/// The frames of one client. What passes before it has said who it is is not counted: it is little.
pub(super) struct Frames<T> {
    socket: WebSocketStream<T>,
    account: Option<Arc<Account>>,
    /// Until then nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<T> Frames<T> {
    pub(super) fn new(socket: WebSocketStream<T>) -> Self {
        Self { socket, account: None, pause: None }
    }

    /// From now on what passes is on this account.
    pub(super) fn charge_to(&mut self, account: Arc<Account>) {
        self.account = Some(account);
    }

    fn came(&mut self, bytes: usize) {
        let Some(account) = &self.account else { return };
        let now = Instant::now();
        let from = account.received(bytes, now);
        self.pause = (from > now).then(|| Box::pin(tokio::time::sleep_until(from.into())));
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for Frames<T> {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        loop {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(StreamError::from_std(error)))),
                Some(Ok(message)) if message.is_close() => return Poll::Ready(None),
                Some(Ok(message)) if message.is_binary() => {
                    let bytes = Bytes::from(message.into_payload());
                    self.came(bytes.len());
                    return Poll::Ready(Some(Ok(bytes)));
                }
                // Pings are answered below us, and nothing else is said here.
                Some(Ok(_)) => {}
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Sink<Bytes> for Frames<T> {
    type Error = StreamError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Pin::new(&mut self.socket).poll_ready(cx).map_err(StreamError::from_std)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> Result<(), StreamError> {
        if let Some(account) = &self.account {
            account.sent(bytes.len());
        }
        Pin::new(&mut self.socket).start_send(Message::binary(bytes)).map_err(StreamError::from_std)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(StreamError::from_std)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(StreamError::from_std)
    }
}

/// Clients sign a challenge instead, which takes a round trip more.
impl<T> ExportKeyingMaterial for Frames<T> {
    fn export_keying_material<O: AsMut<[u8]>>(&self, _: O, _: &[u8], _: Option<&[u8]>) -> Option<O> {
        None
    }
}
