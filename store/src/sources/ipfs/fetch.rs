//! Gets blocks from whoever has them, and believes none before it is checked.
//!
//! The reader asks for one block after the other, as it comes to them. They are taken from an archive that arrives in
//! about that order; what an archive lacks is asked for alone. A provider that fails or lies is left for the next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::provider::{Archive, Provider};
use crate::ipfs::{Cid, Hash, RAW, inline, verify};

/// The most that is kept of blocks that came before their turn or may come again, in bytes.
const MAX_KEPT_BYTES: usize = 32 << 20;
/// What a kept block costs besides its bytes.
const KEPT_COST: usize = 512;
/// How much of an archive is read in search of one block, in bytes.
const MAX_SKIPPED_BYTES: usize = MAX_KEPT_BYTES;
/// The most blocks of one source, counted each time they are used: 16 TiB in blocks of today's size.
const MAX_BLOCKS: u64 = 1 << 24;

/// How long a provider is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For an answer: it may have to search for the content.
    pub(super) answer: Duration,
    /// For each block after that, whole.
    pub(super) block: Duration,
}

/// Why a block is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("nobody is known to ask")]
    Nobody,
    #[error("{}", .0.join("; "))]
    AllFailed(Vec<String>),
    #[error("it has more than {MAX_BLOCKS} blocks")]
    TooMany,
}

/// Gets the blocks of one source.
pub(super) struct Fetcher {
    /// Those that have not failed; the first is asked.
    providers: VecDeque<Arc<dyn Provider>>,
    patience: Patience,
    archive: Option<Archive>,
    /// Whether the first provider may have archives.
    archives: bool,
    kept: Kept,
    blocks: u64,
    failures: Vec<String>,
}

/// Verified blocks by their hash, the oldest of which make room.
#[derive(Default)]
struct Kept {
    blocks: BTreeMap<Hash, Bytes>,
    order: VecDeque<Hash>,
    bytes: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer: Duration::from_secs(30), block: Duration::from_secs(30) }
    }
}

impl Fetcher {
    pub(super) fn new(providers: impl IntoIterator<Item = Arc<dyn Provider>>, patience: Patience) -> Self {
        Self {
            providers: providers.into_iter().collect(),
            patience,
            archive: None,
            archives: true,
            kept: Kept::default(),
            blocks: 0,
            failures: Vec::new(),
        }
    }

    /// The bytes of a block. `way` is where the reader will go from there, if not everywhere.
    pub(super) async fn block(&mut self, cid: &Cid, way: &[String]) -> Result<Bytes, FetchError> {
        self.blocks += 1;
        if self.blocks > MAX_BLOCKS {
            return Err(FetchError::TooMany);
        }
        if let Some(bytes) = inline(cid).or_else(|| self.kept.get(cid)) {
            return Ok(bytes);
        }
        while let Some(provider) = self.providers.front().cloned() {
            match self.ask(&*provider, cid, way).await {
                Ok(bytes) => return Ok(bytes),
                Err(reason) => self.leave(&*provider, reason),
            }
        }
        Err(if self.failures.is_empty() { FetchError::Nobody } else { FetchError::AllFailed(self.failures.clone()) })
    }

    fn leave(&mut self, provider: &dyn Provider, reason: String) {
        tracing::debug!(%provider, reason, "left for the next");
        self.failures.push(format!("{provider}: {reason}"));
        self.providers.pop_front();
        self.archive = None;
        self.archives = true;
    }

    async fn ask(&mut self, provider: &dyn Provider, cid: &Cid, way: &[String]) -> Result<Bytes, String> {
        if let Some(bytes) = self.find(cid).await? {
            return Ok(bytes);
        }
        // An archive of one block is no gain.
        if self.archives && cid.codec() != RAW {
            self.archive = within(self.patience.answer, provider.archive(cid, way)).await?;
            let offered = self.archive.is_some();
            if let Some(bytes) = self.find(cid).await? {
                return Ok(bytes);
            }
            // One that does not begin with what was asked for would not the next time either.
            self.archives = !offered && !way.is_empty();
        }
        let bytes = within(self.patience.answer, provider.block(cid)).await?;
        verify(cid, &bytes).map_err(|error| format!("block {cid}: {error}"))?;
        self.kept.insert(cid, bytes.clone());
        Ok(bytes)
    }

    /// Looks for a block in the archive that is open. One that ends or breaks off is no fault: it is continued where
    /// the reader is. One with other bytes than it says is.
    async fn find(&mut self, cid: &Cid) -> Result<Option<Bytes>, String> {
        let mut skipped = 0;
        while let Some(archive) = &mut self.archive {
            let next = within(self.patience.block, async { Ok(archive.next().await) }).await?;
            match next {
                Ok(Some((found, bytes))) => {
                    verify(&found, &bytes).map_err(|error| format!("block {found}: {error}"))?;
                    self.kept.insert(&found, bytes.clone());
                    if found.hash() == cid.hash() {
                        return Ok(Some(bytes));
                    }
                    skipped += bytes.len() + KEPT_COST;
                }
                Ok(None) => self.archive = None,
                Err(error) => {
                    tracing::debug!(%error, "an archive ended early");
                    self.archive = None;
                }
            }
            if skipped > MAX_SKIPPED_BYTES {
                self.archive = None;
                self.archives = false;
            }
        }
        Ok(None)
    }
}

impl Kept {
    fn get(&self, cid: &Cid) -> Option<Bytes> {
        self.blocks.get(cid.hash()).cloned()
    }

    fn insert(&mut self, cid: &Cid, bytes: Bytes) {
        self.bytes += bytes.len() + KEPT_COST;
        if let Some(before) = self.blocks.insert(*cid.hash(), bytes) {
            self.bytes -= before.len() + KEPT_COST;
            return;
        }
        self.order.push_back(*cid.hash());
        while self.bytes > MAX_KEPT_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            let gone = self.blocks.remove(&oldest).map_or(0, |bytes| bytes.len() + KEPT_COST);
            self.bytes -= gone;
        }
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(time, work).await {
        Ok(done) => done,
        Err(_) => Err(format!("it does not answer within {time:?}")),
    }
}

#[cfg(test)]
mod tests;
