//! Which jobs of this node are remembered: those that are not over, and the latest so many that are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shoal_protocol::record::Record;
use shoal_store::blobs::Blobs;
use shoal_store::state::{State, StateError};
use tokio::sync::Notify;

use crate::pins;
use crate::records::{self, Listed};

/// Jobs that are forgotten together: one write to the disk is for many.
const TOGETHER: u64 = 64;

/// Forgets jobs. A clone is the same.
#[derive(Clone)]
pub(crate) struct History(Arc<Inner>);

struct Inner {
    state: Arc<State>,
    blobs: Blobs,
    /// How many that are over are remembered.
    limit: u64,
    /// How many there are.
    over: AtomicU64,
    news: Notify,
}

impl History {
    /// Remembers `limit` jobs beside those that are `open`.
    pub(crate) fn new(state: Arc<State>, blobs: Blobs, limit: u64, open: &[Record]) -> Result<Self, StateError> {
        let open = open.iter().filter(|record| matches!(record, Record::Job(_))).count();
        let over = AtomicU64::new(records::count(&state)?.saturating_sub(open as u64));
        Ok(Self(Arc::new(Inner { state, blobs, limit, over, news: Notify::new() })))
    }

    /// One more job is over.
    pub(crate) fn ended(&self) {
        self.0.over.fetch_add(1, Ordering::Relaxed);
        self.0.news.notify_one();
    }

    /// Forgets the oldest jobs as others end, until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            if let Err(error) = self.trim().await {
                tracing::warn!(%error, "old jobs are still remembered");
            }
            self.0.news.notified().await;
        }
    }

    async fn trim(&self) -> Result<(), StateError> {
        // A few more than allowed, so that not every end of a job costs a write.
        if self.surplus() <= TOGETHER.min(self.0.limit / 16) {
            return Ok(());
        }
        while self.surplus() > 0 {
            let most = self.surplus().min(TOGETHER);
            let oldest = self.on_disk(move |state| records::oldest_over(state, most)).await?;
            let Some(last) = oldest.last().copied() else { return Ok(()) };
            self.0.over.fetch_sub(oldest.len() as u64, Ordering::Relaxed);
            for Listed { job, .. } in &oldest {
                // A pin that stays keeps too much, and nothing else is wrong with it.
                if let Err(error) = self.0.blobs.unpin_prefix(&pins::of_job(*job)).await {
                    tracing::warn!(%job, %error, "the result of a forgotten job stays pinned");
                }
            }
            tracing::debug!(jobs = oldest.len(), last = %last.job, "forgotten");
            self.on_disk(move |state| records::forget_jobs(state, &oldest)).await?;
        }
        Ok(())
    }

    fn surplus(&self) -> u64 {
        self.0.over.load(Ordering::Relaxed).saturating_sub(self.0.limit)
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        act: impl FnOnce(&State) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let state = Arc::clone(&self.0.state);
        tokio::task::spawn_blocking(move || act(&state)).await.expect("reading and writing records does not panic")
    }
}
