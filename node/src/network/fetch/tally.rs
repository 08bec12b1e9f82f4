//! How far a fetch has come, and whether it may go on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use shoal_protocol::id::BlobHash;

use super::Fetcher;
use super::survey::Survey;

/// How far a fetch has come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes in all, as far as the providers say; none while that is not known of every file.
    pub total: Option<u64>,
    /// Peers that are sending now.
    pub providers: u32,
}

/// There is more than is allowed.
#[derive(Debug)]
pub(super) struct TooMuch;

/// Counts what arrives.
pub(super) struct Tally<'a> {
    hash: BlobHash,
    max_bytes: u64,
    fetcher: &'a Fetcher,
    report: &'a (dyn Fn(Progress) + Send + Sync),
    here: AtomicU64,
    known: AtomicU64,
    providers: AtomicU32,
    unsized_parts: Mutex<BTreeSet<u64>>,
}

impl<'a> Tally<'a> {
    /// Counts up to `max_bytes` of `hash`, no faster than `fetcher` may.
    pub(super) fn new(
        hash: BlobHash,
        max_bytes: u64,
        fetcher: &'a Fetcher,
        report: &'a (dyn Fn(Progress) + Send + Sync),
    ) -> Self {
        Self {
            hash,
            max_bytes,
            fetcher,
            report,
            here: AtomicU64::new(0),
            known: AtomicU64::new(0),
            providers: AtomicU32::new(0),
            unsized_parts: Mutex::default(),
        }
    }

    /// Adds what is here already.
    pub(super) fn add(&self, survey: &mut Survey) -> Result<(), TooMuch> {
        self.known.fetch_add(survey.known, Ordering::Relaxed);
        self.unsized_parts().append(&mut survey.unsized_parts);
        let before = self.here.fetch_add(survey.here, Ordering::Relaxed);
        if before.saturating_add(survey.here) > self.max_bytes { Err(TooMuch) } else { Ok(()) }
    }

    /// How large a provider says that a blob is.
    pub(super) fn sized(&self, offset: u64, bytes: u64) {
        if self.unsized_parts().remove(&offset) {
            let add = |known: u64| Some(known.saturating_add(bytes));
            let _ = self.known.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
    }

    /// So many bytes have arrived. Waits while that is faster than allowed.
    pub(super) async fn count(&self, bytes: u64) -> Result<(), TooMuch> {
        if bytes == 0 {
            return Ok(());
        }
        let here = self.here.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if here > self.max_bytes {
            return Err(TooMuch);
        }
        self.fetcher.fetched.fetch_add(bytes, Ordering::Relaxed);
        (self.report)(self.progress());
        self.fetcher.limit.pass(self.hash, bytes).await;
        Ok(())
    }

    /// Says that the number of peers that are sending has changed.
    pub(super) fn providers(&self, number: usize) {
        self.providers.store(u32::try_from(number).unwrap_or(u32::MAX), Ordering::Relaxed);
        (self.report)(self.progress());
    }

    /// Bytes that are here.
    pub(super) fn here(&self) -> u64 {
        self.here.load(Ordering::Relaxed)
    }

    fn progress(&self) -> Progress {
        let total = self.unsized_parts().is_empty().then(|| self.known.load(Ordering::Relaxed));
        Progress { bytes: self.here(), total, providers: self.providers.load(Ordering::Relaxed) }
    }

    fn unsized_parts(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.unsized_parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
