//! Runs the store's collector when asked, not only at its interval.
//!
//! iroh-blobs offers no call for it: its loop is *pause, ask what else to protect, collect, again*. So its pause is
//! next to nothing, and the question is where the loop really waits: for the interval, or for somebody who asks.
//! That it comes to ask again also tells that the run before is over.

use std::sync::Arc;
use std::time::Duration;

use iroh_blobs::store::{GcConfig, ProtectCb, ProtectOutcome};
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
}

/// What the store's loop has done.
#[derive(Debug, Default, Clone, Copy)]
struct Done {
    /// How many of the runs that were asked for are over.
    answered: u64,
    /// How many runs are over, asked for or not.
    runs: u64,
    /// Whether one is under way.
    running: bool,
}

/// The side of the store's loop. It goes with the store, and whoever waits for a run is told.
struct Turn {
    interval: Duration,
    asked: watch::Receiver<u64>,
    done: watch::Sender<Done>,
    /// What there is to say when the current run is over.
    next: Done,
}

/// A collector, and the configuration that makes a store follow it.
pub(super) fn collector(interval: Duration) -> (Collector, GcConfig) {
    let (asked, asked_by) = watch::channel(0);
    let (done_by, done) = watch::channel(Done::default());
    let turn = Arc::new(Mutex::new(Turn { interval, asked: asked_by, done: done_by, next: Done::default() }));
    let add_protected: ProtectCb = Arc::new(move |_live| {
        let turn = Arc::clone(&turn);
        Box::pin(async move {
            turn.lock().await.next().await;
            ProtectOutcome::Continue
        })
    });
    (Collector { asked, done }, GcConfig { interval: PAUSE, add_protected: Some(add_protected) })
}

impl Collector {
    /// Waits for a run that began after this call.
    pub(super) async fn run(&self) -> Result<(), StoreFailed> {
        let mut mine = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            mine = *asked;
        });
        self.wait(|done| done.answered >= mine).await
    }

    /// How many runs are over, while none is under way. If the answer is the same before something is guarded and
    /// after it was found to be there, no run can have begun in between, and every later one sees the guard.
    pub(super) fn at_rest(&self) -> Option<u64> {
        let done = *self.done.borrow();
        (!done.running).then_some(done.runs)
    }

    /// Waits for a run that began after this call, without asking for it.
    #[cfg(test)]
    pub(super) async fn interval(&self) -> Result<(), StoreFailed> {
        let runs = self.done.borrow().runs;
        // The one that is running now began before.
        self.wait(move |done| done.runs >= runs + 2).await
    }

    async fn wait(&self, enough: impl Fn(&Done) -> bool) -> Result<(), StoreFailed> {
        let mut done = self.done.clone();
        let waited = tokio::time::timeout(LONGEST_RUN, done.wait_for(enough)).await;
        waited.map_err(failed)?.map_err(failed)?;
        Ok(())
    }
}

impl Turn {
    /// Ends one run and waits until it is time for the next.
    async fn next(&mut self) {
        self.done.send_replace(self.next);
        match tokio::time::timeout(self.interval, self.asked.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            // Nobody is left who could ask.
            Ok(Err(_)) => tokio::time::sleep(self.interval).await,
        }
        self.done.send_modify(|done| done.running = true);
        self.next = Done { answered: *self.asked.borrow_and_update(), runs: self.next.runs + 1, running: false };
    }
}
