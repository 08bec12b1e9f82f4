//! Does what the protocol decides: fetches, runs, keeps and lets go. Each task reports back with one input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal_executors::{Executor, StagedInput, Task};
use shoal_protocol::id::{BlobHash, ExecutionId, JobId, PeerId};
use shoal_protocol::limits::MAX_TEXT_BYTES;
use shoal_protocol::machine::{Finished, Input};
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::task::{Claim, Content, ContentKind, Engine, Failure, Invocation};
use shoal_protocol::time::Millis;
use shoal_store::blobs::{Blobs, ResultFiles, ResultPart};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::driver::Event;
use crate::network::Network;
use crate::pins;

/// What a program may leave beside what it wrote: names of files and the like, in bytes.
const RESULT_SLACK_BYTES: u64 = 16 << 20;

/// The executors of a node.
pub(crate) type Executors = Arc<BTreeMap<ExecutorKind, Arc<dyn Executor>>>;

/// Performs what takes time.
#[derive(Clone)]
pub(crate) struct Hands {
    pub(crate) blobs: Blobs,
    pub(crate) network: Network,
    pub(crate) executors: Executors,
    pub(crate) work_dir: PathBuf,
    pub(crate) inbox: mpsc::Sender<Event>,
    pub(crate) runs: Runs,
    #[cfg(debug_assertions)]
    pub(crate) misbehaviour: Option<crate::config::Misbehaviour>,
}

/// The executions that this node holds: who may read their logs, and how to stop them.
#[derive(Default, Clone)]
pub(crate) struct Runs(Arc<Mutex<BTreeMap<ExecutionId, Run>>>);

/// One execution that this node holds.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Whom it is for.
    pub(crate) requester: PeerId,
    /// Where its program writes.
    pub(crate) dir: PathBuf,
    /// Fires when it is not wanted any more, or has ended.
    pub(crate) over: CancellationToken,
}

impl Runs {
    /// The execution, if its requester asks.
    pub(crate) fn of_requester(&self, execution: ExecutionId, requester: PeerId) -> Option<Run> {
        self.lock().get(&execution).filter(|run| run.requester == requester).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ExecutionId, Run>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hands {
    /// Fetches and pins what an execution needs.
    pub(crate) fn fetch(&self, execution: ExecutionId, contents: Vec<Content>, from: PeerId, max_bytes: u64) {
        let over = CancellationToken::new();
        let run = Run { requester: from, dir: self.dir(execution), over: over.clone() };
        self.runs.lock().insert(execution, run);
        let hands = self.clone();
        tokio::spawn(async move {
            let fetch = hands.fetch_all(execution, contents, from, max_bytes);
            if let Some(result) = over.run_until_cancelled(fetch).await {
                hands.tell(Input::Fetched(execution, result)).await;
            }
        });
    }

    /// Runs a program.
    pub(crate) fn execute(&self, execution: ExecutionId, requester: PeerId, invocation: Invocation, timeout: Millis) {
        let run = Run { requester, dir: self.dir(execution), over: CancellationToken::new() };
        self.runs.lock().insert(execution, run.clone());
        let hands = self.clone();
        tokio::spawn(async move {
            let result = hands.run(execution, &run, invocation, Duration::from_millis(timeout)).await;
            if !run.over.is_cancelled() {
                run.over.cancel();
                hands.tell(Input::Executed(execution, result)).await;
            }
        });
    }

    /// Stops fetching or running.
    pub(crate) fn abort(&self, execution: ExecutionId) {
        if let Some(run) = self.runs.lock().get(&execution) {
            run.over.cancel();
        }
    }

    /// Stops everything.
    pub(crate) fn stop_all(&self) {
        self.runs.lock().values().for_each(|run| run.over.cancel());
    }

    /// Lets go of what an execution fetched and made.
    pub(crate) fn release(&self, execution: ExecutionId) {
        self.runs.lock().remove(&execution);
        let hands = self.clone();
        tokio::spawn(async move {
            hands.unpin(&pins::execution(execution)).await;
            remove(hands.dir(execution)).await;
        });
    }

    /// Fetches and pins a result.
    pub(crate) fn collect(&self, job: JobId, partition: u32, result: BlobHash, max_bytes: u64, from: Vec<PeerId>) {
        let hands = self.clone();
        tokio::spawn(async move {
            let content = Content { hash: result, kind: ContentKind::Collection };
            let max_bytes = max_bytes.saturating_add(RESULT_SLACK_BYTES);
            let collected = async {
                hands.keep(&pins::result(job, partition), content, from, max_bytes).await?;
                // On disk before the workers are told to let go of it.
                hands.blobs.sync().await.map_err(|error| error.to_string())
            };
            hands.tell(Input::Collected(job, partition, collected.await)).await;
        });
    }

    /// Lets go of a job's inputs.
    pub(crate) fn end(&self, job: JobId) {
        let hands = self.clone();
        tokio::spawn(async move { hands.unpin(&pins::inputs(job)).await });
    }

    async fn fetch_all(
        &self,
        execution: ExecutionId,
        contents: Vec<Content>,
        from: PeerId,
        max_bytes: u64,
    ) -> Result<(), Failure> {
        let mut left = max_bytes;
        for (index, content) in contents.into_iter().enumerate() {
            let pin = pins::execution_input(execution, index);
            let size =
                self.keep(&pin, content, vec![from], left).await.map_err(|why| Failure::InputMissing(clip(why)))?;
            left = left.saturating_sub(size);
        }
        Ok(())
    }

    /// Pins content and fetches what is missing of it; returns its size.
    async fn keep(&self, pin: &str, content: Content, from: Vec<PeerId>, max_bytes: u64) -> Result<u64, String> {
        // Pinned before the first byte, so that no collection of garbage takes what has arrived.
        self.blobs.pin(pin, content).await.map_err(|error| error.to_string())?;
        let others = from.into_iter().filter(|peer| *peer != self.network.peer_id()).collect();
        self.network.fetch(content, others, max_bytes, |_| {}).await.map_err(|error| error.to_string())
    }

    async fn run(
        &self,
        execution: ExecutionId,
        run: &Run,
        invocation: Invocation,
        timeout: Duration,
    ) -> Result<Finished, Failure> {
        let Engine::Wasm(_) = &invocation.engine;
        let executor = self.executors.get(&ExecutorKind::Wasm).ok_or_else(|| host("no wasm executor"))?;
        remove(run.dir.clone()).await;
        let inputs = self.stage(&run.dir, &invocation).await?;
        let work_dir = run.dir.join("run");
        tokio::fs::create_dir_all(&work_dir).await.map_err(host)?;
        let task = Task { invocation, inputs, work_dir, timeout };
        let blobs = Modules(self.blobs.clone());
        let finished = executor.run(task, &blobs, run.over.clone()).await.map_err(|error| error.failure())?;
        let mut stdout = printed(finished.outputs.stdout);
        self.misbehave(&mut stdout);
        let stderr = printed(finished.outputs.stderr);
        let mut files = ResultFiles::new(finished.outcome.exit_code(), stdout, stderr);
        finished.outputs.results.into_iter().for_each(|(name, path)| files.push(name, ResultPart::Path(path)));
        let result = self.blobs.collect(files).await.map_err(host)?;
        self.blobs.pin(&pins::execution_result(execution), result.content).await.map_err(host)?;
        // On disk before it is committed to.
        self.blobs.sync().await.map_err(host)?;
        Ok(Finished {
            claim: Claim { outcome: finished.outcome, result: result.content.hash },
            result_bytes: result.bytes,
            run_ms: u64::try_from(finished.run.as_millis()).unwrap_or(u64::MAX),
        })
    }

    async fn stage(&self, dir: &Path, invocation: &Invocation) -> Result<Vec<StagedInput>, Failure> {
        let mut inputs = Vec::new();
        for (index, mount) in invocation.inputs.iter().enumerate() {
            let folder = dir.join("inputs");
            tokio::fs::create_dir_all(&folder).await.map_err(host)?;
            let path = folder.join(index.to_string());
            self.blobs.stage(mount.content, &path).await.map_err(host)?;
            inputs.push(StagedInput { target: mount.target.clone(), path });
        }
        Ok(inputs)
    }

    #[cfg(debug_assertions)]
    fn misbehave(&self, stdout: &mut ResultPart) {
        use crate::config::Misbehaviour;
        match self.misbehaviour {
            None | Some(Misbehaviour::DieAfter(_)) => {}
            Some(Misbehaviour::LieTogether) => *stdout = ResultPart::Bytes("a lie\n".into()),
            Some(Misbehaviour::LieAlone) => {
                *stdout = ResultPart::Bytes(format!("a lie of {}\n", self.network.peer_id()).into());
            }
        }
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "release builds are honest")]
    fn misbehave(&self, _: &mut ResultPart) {}

    async fn unpin(&self, prefix: &str) {
        if let Err(error) = self.blobs.unpin_prefix(prefix).await {
            tracing::warn!(prefix, %error, "not unpinned");
        }
    }

    async fn tell(&self, input: Input) {
        // The driver is gone only when the node stops.
        let _ = self.inbox.send(Event::Input(input)).await;
    }

    fn dir(&self, execution: ExecutionId) -> PathBuf {
        self.work_dir.join(execution.to_string())
    }
}

/// Modules for an executor, from the blob store.
pub(crate) struct Modules(pub(crate) Blobs);

#[async_trait::async_trait]
impl shoal_executors::Blobs for Modules {
    async fn read(&self, hash: BlobHash, max_bytes: u64) -> std::io::Result<bytes::Bytes> {
        self.0.read(hash, max_bytes).await.map_err(std::io::Error::other)
    }
}

/// What a program printed to a stream, which has a file only if that is not nothing.
fn printed(path: Option<PathBuf>) -> ResultPart {
    path.map_or_else(|| ResultPart::Bytes(bytes::Bytes::new()), ResultPart::Path)
}

/// Removes a folder with everything in it, staged read-only files too.
async fn remove(dir: PathBuf) {
    match tokio::fs::remove_dir_all(&dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(dir = %dir.display(), %error, "not removed");
        }
        _ => {}
    }
}

fn host(error: impl std::fmt::Display) -> Failure {
    Failure::HostFailed(clip(error.to_string()))
}

/// Shortens a reason to what a message may carry.
fn clip(mut words: String) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(words.len())).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
    words.truncate(end);
    words
}
