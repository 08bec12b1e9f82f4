//! How far an import has come, over all its files.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far an import has come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ImportProgress {
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Counts what is read, and tells somebody.
pub(super) struct Counted<'a> {
    read: AtomicU64,
    total: AtomicU64,
    told: &'a (dyn Fn(ImportProgress) + Send + Sync),
}

/// Counts one file of several.
pub(super) struct CountedFile<'a> {
    all: &'a Counted<'a>,
    read: u64,
}

impl Counted<'static> {
    /// Nobody wants to know.
    pub(super) fn unwatched() -> Self {
        Self::new(&|_| {})
    }
}

impl<'a> Counted<'a> {
    pub(super) fn new(told: &'a (dyn Fn(ImportProgress) + Send + Sync)) -> Self {
        Self { read: AtomicU64::new(0), total: AtomicU64::new(0), told }
    }

    /// So many bytes are to be read.
    pub(super) fn expect(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn file(&'a self) -> CountedFile<'a> {
        CountedFile { all: self, read: 0 }
    }
}

impl CountedFile<'_> {
    /// So many bytes of the file were read.
    pub(super) fn reach(&mut self, bytes: u64) {
        let more = bytes.saturating_sub(std::mem::replace(&mut self.read, bytes));
        let read = self.all.read.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        // A file that grew meanwhile has more than was expected.
        let total = self.all.total.load(Ordering::Relaxed).max(read);
        (self.all.told)(ImportProgress { bytes: read, total });
    }
}
