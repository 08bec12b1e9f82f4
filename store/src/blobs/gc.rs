//! Has the store's collector remove what it is told to, when it is asked.
//!
//! iroh-blobs offers no call for it: its loop is *pause, ask what else to protect, collect, again*. So its pause is
//! next to nothing, and the question is where the loop really waits for somebody who asks. The answer to it is all
//! but the victims, of which those that somebody pins or guards in the meantime stay as well. That the loop comes to
//! ask again also tells that the run before is over; and that it asks at all, on which threads the store runs.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex as SyncMutex, OnceLock, PoisonError};
use std::time::Duration;

use iroh_blobs::Hash;
use iroh_blobs::api::Store;
use iroh_blobs::store::{GcConfig, ProtectCb, ProtectOutcome};
use shoal_protocol::id::BlobHash;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};

use super::{StoreFailed, failed};

/// The pause that iroh-blobs makes itself.
const PAUSE: Duration = Duration::from_millis(1);
/// Longest wait for a run that was asked for. The loop ends for good, and silently, when a run fails.
const LONGEST_RUN: Duration = Duration::from_secs(300);

/// Asks for runs. A clone asks the same store.
#[derive(Debug, Clone)]
pub(super) struct Collector {
    /// How many runs were asked for.
    asked: watch::Sender<u64>,
    /// What came of it.
    done: watch::Receiver<Done>,
    shared: Arc<Shared>,
    /// Whose turn it is to ask.
    turn: Arc<Mutex<()>>,
}

/// What the collector and the store's loop tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// The store, once it is open.
    store: OnceLock<Store>,
    /// The store's threads, once its loop has asked for the first time.
    threads: OnceLock<Handle>,
    /// What the next run removes.
    victims: SyncMutex<BTreeSet<BlobHash>>,
}

/// What the store's loop has done.
#[derive(Debug, Default, Clone, Copy)]
struct Done {
    /// How many of the runs that were asked for are over.
    answered: u64,
    /// Whether one is under way.
    running: bool,
}

/// The side of the store's loop. It goes with the store, and whoever waits for a run is told.
struct Turn {
    asked: watch::Receiver<u64>,
    done: watch::Sender<Done>,
    shared: Arc<Shared>,
    /// What there is to say when the current run is over.
    next: Done,
}

/// A collector, and the configuration that makes a store follow it.
pub(super) fn collector() -> (Collector, GcConfig) {
    let (asked, asked_by) = watch::channel(0);
    let (done_by, done) = watch::channel(Done::default());
    let shared = Arc::<Shared>::default();
    let turn = Turn { asked: asked_by, done: done_by, shared: Arc::clone(&shared), next: Done::default() };
    let (turn, asking) = (Arc::new(Mutex::new(turn)), Arc::clone(&shared));
    let add_protected: ProtectCb = Arc::new(move |live| {
        asking.threads.get_or_init(Handle::current);
        let turn = Arc::clone(&turn);
        // In a task of its own, because the store's answers cannot be shared between threads, as this has to be.
        let next = tokio::spawn(async move { turn.lock().await.next().await });
        Box::pin(async move {
            match next.await {
                Ok(Some(others)) => {
                    live.extend(others);
                    ProtectOutcome::Continue
                }
                Ok(None) | Err(_) => ProtectOutcome::Abort,
            }
        })
    });
    let collector = Collector { asked, done, shared, turn: Arc::default() };
    (collector, GcConfig { interval: PAUSE, add_protected: Some(add_protected) })
}

impl Collector {
    /// Says which store it is. Without one nothing is removed.
    pub(super) fn attach(&self, store: Store) {
        let _ = self.shared.store.set(store);
    }

    /// The threads that the store runs on, which it keeps to itself.
    pub(super) async fn threads(&self) -> Result<Handle, StoreFailed> {
        self.done.clone().changed().await.map_err(failed)?;
        Ok(self.shared.threads.get().cloned().unwrap_or_else(Handle::current))
    }

    /// Removes those of `victims` that neither a pin nor a guard keeps.
    pub(super) async fn remove(&self, victims: BTreeSet<BlobHash>) -> Result<(), StoreFailed> {
        let _turn = self.turn.lock().await;
        *self.shared.victims.lock().unwrap_or_else(PoisonError::into_inner) = victims;
        let mut mine = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            mine = *asked;
        });
        let mut done = self.done.clone();
        let waited = tokio::time::timeout(LONGEST_RUN, done.wait_for(|done| done.answered >= mine)).await;
        waited.map_err(failed)?.map_err(failed)?;
        Ok(())
    }

    /// How many runs are over, while none is under way. If the answer is the same before something is guarded and
    /// after it was found to be there, no run can have begun in between, and every later one sees the guard.
    pub(super) fn at_rest(&self) -> Option<u64> {
        let done = *self.done.borrow();
        (!done.running).then_some(done.answered)
    }
}

impl Turn {
    /// Ends one run and waits until the next is asked for; returns what that one has to spare, if it can be told.
    async fn next(&mut self) -> Option<HashSet<Hash>> {
        self.done.send_replace(self.next);
        if self.asked.changed().await.is_err() {
            // Nobody is left who could ask.
            tokio::time::sleep(LONGEST_RUN).await;
            return None;
        }
        self.done.send_modify(|done| done.running = true);
        self.next = Done { answered: *self.asked.borrow_and_update(), running: false };
        let victims = std::mem::take(&mut *self.shared.victims.lock().unwrap_or_else(PoisonError::into_inner));
        let all = self.shared.store.get()?.blobs().list().hashes().await.ok()?;
        Some(all.into_iter().filter(|hash| !victims.contains(&BlobHash(*hash.as_bytes()))).collect())
    }
}
