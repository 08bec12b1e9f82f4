//! Blobs are read as a stream in which every piece is checked before it is passed on.

use std::fmt;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::future::ready as now;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use iroh_blobs::api::blobs::{EncodedItem, ExportBaoOptions};
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt};
use shoal_protocol::id::BlobHash;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use super::{Blobs, iroh};

/// Pieces of 16 KiB that are read ahead.
const READ_AHEAD: usize = 8;

/// Reads a blob from any place on (`AsyncRead` and `AsyncSeek`, the latter not from the end).
pub struct BlobReader {
    blobs: Blobs,
    hash: BlobHash,
    position: u64,
    pieces: Option<BoxStream<'static, io::Result<Bytes>>>,
    rest: Bytes,
}

impl Blobs {
    /// Reads a blob piece by piece. Parts that are not here are errors, and so are bytes that are not the blob's.
    pub fn reader(&self, hash: BlobHash) -> BlobReader {
        BlobReader { blobs: self.clone(), hash, position: 0, pieces: None, rest: Bytes::new() }
    }

    /// The bytes of a blob from `from` on.
    pub(super) fn pieces(&self, hash: BlobHash, from: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let references = Arc::clone(&self.references);
        let options = ExportBaoOptions { hash: iroh(hash), ranges: ChunkRanges::bytes(from..) };
        let items = self.store.blobs().export_bao_with_opts(options, READ_AHEAD).stream();
        items.filter_map(move |item| {
            now(match item {
                EncodedItem::Leaf(mut leaf) => {
                    // Whole chunks are read, and the last one even when nothing was asked for.
                    let before = usize::try_from(from.saturating_sub(leaf.offset)).unwrap_or(usize::MAX);
                    leaf.data.advance(before.min(leaf.data.len()));
                    (!leaf.data.is_empty()).then_some(Ok(leaf.data))
                }
                EncodedItem::Error(error) => {
                    let error = io::Error::from(error);
                    let why = references.why(hash, error.kind() == io::ErrorKind::InvalidData);
                    Some(Err(why.map_or(error, io::Error::other)))
                }
                EncodedItem::Size(_) | EncodedItem::Parent(_) | EncodedItem::Done => None,
            })
        })
    }
}

impl AsyncRead for BlobReader {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            let begin = || this.blobs.pieces(this.hash, this.position).fuse().boxed();
            match ready!(this.pieces.get_or_insert_with(begin).poll_next_unpin(context)) {
                Some(piece) => this.rest = piece?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(into.remaining()));
        into.put_slice(&piece);
        this.position += piece.len() as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for BlobReader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        let position = position.ok_or(io::ErrorKind::Unsupported)?;
        if position != self.position {
            (self.position, self.pieces, self.rest) = (position, None, Bytes::new());
        }
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader").field("hash", &self.hash).field("position", &self.position).finish_non_exhaustive()
    }
}
