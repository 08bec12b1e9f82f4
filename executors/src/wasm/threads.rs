//! Threads with stack enough for programs: few, kept for a while between runs.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinError;

use super::engines::MAX_RUNS;
use super::profile::THREAD_STACK_BYTES;

/// How long a thread waits for its next program. Its stack is given back when it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A pool of threads: the blocking ones of a runtime that does nothing else, because theirs is the only pool at hand
/// whose stacks have a size of our choice.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    pub(super) fn new() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .thread_name("wasm")
            .thread_stack_size(THREAD_STACK_BYTES)
            .max_blocking_threads(MAX_RUNS as usize)
            .thread_keep_alive(KEEP_ALIVE)
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Does `work` on a thread of the pool.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let runtime = self.0.as_ref().expect("threads are there until they are dropped");
        runtime.spawn_blocking(work).await
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Dropping a runtime waits, which is not allowed where we may be dropped.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
