//! One request to one provider: what arrives is verified, counted and handed to the store as it comes.

use std::num::NonZeroU64;
use std::pin::pin;
use std::time::{Duration, Instant};

use bao_tree::io::BaoContentItem;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, poll_immediate};
use futures_util::stream::FuturesUnordered;
use iroh::endpoint::{Connection, ReadError};
use iroh_blobs::Hash;
use iroh_blobs::get::fsm::{
    self, AtBlobContent, AtBlobHeader, AtConnected, AtEndBlob, BlobContentNext, ConnectedNext, DecodeError, EndBlobNext,
};
use iroh_blobs::protocol::{ERR_LIMIT, ERR_PERMISSION};

use super::Fetcher;
use super::claim::Claim;
use super::pieces::{Closed, Pieces};
use super::stream::Ahead;
use super::tally::{Tally, TooMuch};

/// A provider that sends nothing for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Blobs of one request that may wait to be written.
const MAX_UNWRITTEN: usize = 32;

/// What is wrong with a provider, or with the whole fetch.
#[derive(Debug)]
pub(super) enum Failure {
    /// It has not got the blob, or will not give it.
    NotThere,
    /// It has too much to do.
    Busy,
    /// It stopped in the middle, or its connection did.
    BrokeOff(String),
    /// What it sent is not what was asked for.
    Corrupt(String),
    /// There is more than is allowed.
    TooMuch,
    /// Our own store failed.
    Store(String),
}

/// One request.
pub(super) struct Lane<'a> {
    pub(super) fetcher: &'a Fetcher,
    pub(super) connection: Connection,
    /// What is asked for by name: its children go by their place.
    pub(super) root: Hash,
    pub(super) claim: Claim,
    pub(super) tally: &'a Tally<'a>,
}

/// Writes that are under way.
type Writes = FuturesUnordered<BoxFuture<'static, Result<(), String>>>;
type Content = AtBlobContent<Ahead>;
type Ended = AtEndBlob<Ahead>;

impl Lane<'_> {
    /// Asks for what the claim has, and reads until it is there or others have taken the rest.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let mut writes = Writes::new();
        let read = self.read(&mut writes).await;
        // What has arrived counts, however the request ended.
        while let Some(written) = writes.next().await {
            written.map_err(Failure::Store)?;
        }
        read
    }

    async fn read(&self, writes: &mut Writes) -> Result<(), Failure> {
        let opened = heard(self.connection.open_bi()).await?;
        let (send, receive) = opened.map_err(|error| Failure::BrokeOff(text(error)))?;
        let (request, counters) = (self.claim.request(self.root), fsm::RequestCounters::default());
        let connected = AtConnected::new(tokio::time::Instant::now(), Ahead::new(receive), send, request, counters);
        let mut next = heard(connected.next()).await?.map_err(|error| Failure::BrokeOff(text(error)))?;
        loop {
            let (offset, header) = match next {
                ConnectedNext::StartRoot(start) => match self.claim.begin(0, Instant::now()) {
                    Some(_) => (0, start.next()),
                    None => return Ok(()),
                },
                ConnectedNext::StartChild(start) => match self.claim.begin(start.offset(), Instant::now()) {
                    Some(hash) => (start.offset(), start.next(hash)),
                    None => return Ok(()),
                },
                ConnectedNext::Closing(closing) => {
                    let closed = heard(closing.next()).await?;
                    return closed.map(drop).map_err(|error| Failure::BrokeOff(text(error)));
                }
            };
            let Some(end) = self.blob(offset, header, writes).await? else { return Ok(()) };
            next = match end.next() {
                EndBlobNext::MoreChildren(start) => ConnectedNext::StartChild(start),
                EndBlobNext::Closing(closing) => ConnectedNext::Closing(closing),
            };
        }
    }

    /// Reads one blob. None if its rest comes from somebody else.
    async fn blob(
        &self,
        offset: u64,
        header: AtBlobHeader<Ahead>,
        writes: &mut Writes,
    ) -> Result<Option<Ended>, Failure> {
        let hash = header.hash();
        let (content, size) = heard(header.next()).await?.map_err(|error| self.refused(error))?;
        self.claim.sized(size);
        self.tally.sized(offset, size);
        let Some(size) = NonZeroU64::new(size) else {
            if hash != Hash::EMPTY {
                return Err(Failure::Corrupt("it says that the blob is empty".into()));
            }
            let end = heard(content.drain()).await?.map_err(|error| self.undecodable(error))?;
            self.claim.end();
            return Ok(Some(end));
        };
        self.make_room(writes).await?;
        let (mut pieces, batches) = Pieces::new();
        let written = self.fetcher.store_threads.spawn(batches.write(self.fetcher.store.clone(), hash, size));
        writes.push(Box::pin(async move { written.await.map_err(text)? }));
        let read = self.content(content, &mut pieces).await;
        // Why that may fail is heard from the end of writing.
        let _ = pieces.flush().await;
        read
    }

    /// Reads what a blob consists of. None if its rest comes from somebody else.
    async fn content(&self, mut content: Content, pieces: &mut Pieces) -> Result<Option<Ended>, Failure> {
        loop {
            let item = match self.next(content, pieces).await? {
                BlobContentNext::Done(end) => {
                    self.claim.end();
                    return Ok(Some(end));
                }
                BlobContentNext::More((rest, item)) => {
                    content = rest;
                    item.map_err(|error| self.undecodable(error))?
                }
            };
            let (start, end) = span(&item);
            let more = if end > start { self.claim.arrived(start, end, Instant::now()) } else { Some(true) };
            let Some(more) = more else { return Ok(None) };
            pieces.add(item).await?;
            if self.fetcher.limit.is_limited() {
                pieces.flush().await?;
            }
            self.tally.count(end - start).await.map_err(|TooMuch| Failure::TooMuch)?;
            if !more {
                return Ok(None);
            }
        }
    }

    /// Waits for what comes next. Nothing is held back meanwhile: others may take over, and look for what is missing.
    async fn next(&self, content: Content, pieces: &mut Pieces) -> Result<BlobContentNext<Ahead>, Failure> {
        let mut next = pin!(content.next());
        if let Some(next) = poll_immediate(&mut next).await {
            return Ok(next);
        }
        pieces.flush().await?;
        heard(next).await
    }

    async fn make_room(&self, writes: &mut Writes) -> Result<(), Failure> {
        while writes.len() >= MAX_UNWRITTEN {
            writes.next().await.unwrap_or(Ok(())).map_err(Failure::Store)?;
        }
        Ok(())
    }

    fn refused(&self, error: fsm::AtBlobHeaderNextError) -> Failure {
        match error {
            fsm::AtBlobHeaderNextError::NotFound { .. } => Failure::NotThere,
            fsm::AtBlobHeaderNextError::Read { source, .. } => self.unreadable(&source),
        }
    }

    fn undecodable(&self, error: DecodeError) -> Failure {
        match error {
            DecodeError::ParentHashMismatch { .. } | DecodeError::LeafHashMismatch { .. } => {
                Failure::Corrupt(text(error))
            }
            DecodeError::Read { source, .. } => self.unreadable(&source),
            error => Failure::BrokeOff(text(error)),
        }
    }

    /// A stream that was reset on a live connection is an answer: the provider cannot or will not go on.
    fn unreadable(&self, error: &std::io::Error) -> Failure {
        let reset = error.get_ref().and_then(|inner| inner.downcast_ref::<ReadError>());
        match reset {
            Some(ReadError::Reset(code)) if *code == ERR_LIMIT => Failure::Busy,
            Some(ReadError::Reset(code)) if *code == ERR_PERMISSION => Failure::NotThere,
            Some(ReadError::Reset(_)) if self.connection.close_reason().is_none() => Failure::NotThere,
            _ => Failure::BrokeOff(format!("{error:#}")),
        }
    }
}

impl From<Closed> for Failure {
    fn from(_: Closed) -> Self {
        Failure::Store("it takes no more".into())
    }
}

/// The bytes of a blob that an item has: none if it only proves others.
fn span(item: &BaoContentItem) -> (u64, u64) {
    match item {
        BaoContentItem::Parent(_) => (0, 0),
        BaoContentItem::Leaf(leaf) => (leaf.offset, leaf.offset + leaf.data.len() as u64),
    }
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    format!("{error:#}")
}

/// Waits for a provider, but not for ever.
async fn heard<T>(step: impl Future<Output = T>) -> Result<T, Failure> {
    let silent = || Failure::BrokeOff(format!("the provider was silent for {} s", STALL_TIMEOUT.as_secs()));
    tokio::time::timeout(STALL_TIMEOUT, step).await.map_err(|_| silent())
}
