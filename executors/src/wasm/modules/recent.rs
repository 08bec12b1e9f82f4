//! The modules in memory: a slot for each, filled once however many ask for it, and forgotten when it is long unused
//! and memory is short.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::future::{BoxFuture, Shared};
use shoal_protocol::id::BlobHash;
use tokio::sync::OnceCell;

use super::{Compiled, NoModule};

/// Modules and refusals that are remembered, whatever their size.
const MAX_SLOTS: usize = 1024;

/// The last used modules.
pub(super) struct Recent {
    slots: BTreeMap<BlobHash, (u64, Arc<Slot>)>,
    uses: u64,
    limit_bytes: usize,
}

/// One module, or what is being done to get it.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) known: OnceCell<Known>,
    compilation: Mutex<Option<Compilation>>,
    waiting: AtomicUsize,
}

/// What is known of a module.
#[derive(Clone)]
pub(super) enum Known {
    Compiled(Compiled),
    /// It is refused, for good or for some time.
    Refused(NoModule, Option<Instant>),
}

/// Compiling that goes on as long as anybody waits for it.
pub(super) type Compilation = Shared<BoxFuture<'static, Result<Compiled, NoModule>>>;

/// Somebody waits for a slot to be filled.
pub(super) struct Waiting(Arc<Slot>);

impl Recent {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { slots: BTreeMap::new(), uses: 0, limit_bytes }
    }

    /// The slot of a module, which is now the last used one.
    pub(super) fn slot(&mut self, hash: BlobHash) -> Arc<Slot> {
        self.uses += 1;
        let (used, slot) = self.slots.entry(hash).or_default();
        *used = self.uses;
        if slot.has_lapsed() {
            *slot = Arc::default();
        }
        let slot = Arc::clone(slot);
        if self.slots.len() > MAX_SLOTS {
            self.evict();
        }
        slot
    }

    /// Forgets the longest unused modules beyond the limits; who runs one keeps it.
    pub(super) fn evict(&mut self) {
        let mut bytes: usize = self.slots.values().map(|(_, slot)| slot.bytes()).sum();
        while self.slots.len() > 1 && (bytes > self.limit_bytes || self.slots.len() > MAX_SLOTS) {
            let oldest = self.slots.iter().min_by_key(|(_, (used, _))| *used).map(|(hash, _)| *hash);
            let removed = oldest.and_then(|hash| self.slots.remove(&hash));
            bytes -= removed.map_or(0, |(_, slot)| slot.bytes());
        }
    }
}

impl Slot {
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(Arc::clone(self))
    }

    /// What somebody began who may be gone since.
    pub(super) fn compilation(&self) -> MutexGuard<'_, Option<Compilation>> {
        self.compilation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> usize {
        match self.known.get() {
            Some(Known::Compiled(compiled)) => compiled.bytes(),
            _ => 0,
        }
    }

    fn has_lapsed(&self) -> bool {
        matches!(self.known.get(), Some(Known::Refused(_, Some(until))) if *until <= Instant::now())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            // The last who waited: what still compiles is not wanted, and what is compiled is in its slot.
            let compilation = self.0.compilation().take();
            drop(compilation);
        }
    }
}
