//! One run of a program with its files: inputs out of the blob store, what it leaves into it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shoal_executors::{Executor, Finished, PullRequest, Pulled, RunError, Stage, StagedInput, Task};
use shoal_protocol::id::BlobHash;
use shoal_protocol::limits::{MAX_BACKTRACE_BYTES, MAX_FAILURE_BYTES};
use shoal_protocol::task::{Account, Claim, Failure, Invocation};
use shoal_protocol::text;
use shoal_protocol::trace::{Trace, TraceRequest};
use shoal_store::blobs::{Blobs, Imported, ResultFiles, ResultPart};
use shoal_store::remove::remove_tree;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::pulling::Pulling;

/// The file in a run's folder that holds what must be known to take it up again.
pub(crate) const NOTE: &str = "note";

/// A run to perform.
pub(crate) struct Run<'a> {
    /// A folder for this run alone: staged inputs lie in it, and what the program writes. One that is there already
    /// is removed first.
    pub(crate) dir: &'a Path,
    /// What to run.
    pub(crate) invocation: Invocation,
    /// Wall-clock limit.
    pub(crate) timeout: Duration,
    /// What it is to note of itself; nothing in an ordinary run.
    pub(crate) trace: Option<TraceRequest>,
    /// What the program may write where it lies; often nothing.
    pub(crate) writable: Vec<StagedInput>,
    /// Whether it is for a job of this node's, and where images come from; none for what is no container.
    pub(crate) images: Option<(bool, Pulling)>,
    /// Where it says how far it is.
    pub(crate) stage: watch::Sender<Stage>,
    /// What must be known to [`resume`](Run::resume) it, kept in the folder; often nothing.
    pub(crate) note: Vec<u8>,
    /// Ends it before its time.
    pub(crate) cancel: CancellationToken,
}

/// A run that ended with a vote.
pub(crate) struct Ran {
    pub(crate) claim: Claim,
    pub(crate) account: Account,
    pub(crate) run_ms: u64,
    /// What was asked for.
    pub(crate) trace: Option<Trace>,
    /// Protected until this is dropped.
    pub(crate) result: Imported,
}

impl Run<'_> {
    /// Performs it. `alter` sees standard output before it is hashed.
    pub(crate) async fn perform(
        mut self,
        executor: &dyn Executor,
        blobs: &Blobs,
        alter: impl FnOnce(&mut ResultPart) + Send,
    ) -> Result<Ran, Failure> {
        make_anew(self.dir.to_owned()).await.map_err(host)?;
        if !self.note.is_empty() {
            tokio::fs::write(self.dir.join(NOTE), &self.note).await.map_err(host)?;
        }
        let mut inputs = self.stage(blobs).await?;
        inputs.append(&mut self.writable);
        let modules = Modules { images: self.images.take(), ..Modules::new(blobs) };
        let (task, cancel) = self.task(inputs);
        let finished = executor.run(task, &modules, cancel).await.map_err(|error| error.failure())?;
        keep(finished, blobs, alter).await
    }

    /// Takes up what an earlier process began in the same folder.
    pub(crate) async fn resume(self, executor: &dyn Executor, blobs: &Blobs) -> Result<Ran, Failure> {
        let (task, cancel) = self.task(Vec::new());
        let finished = executor.resume(task, cancel).await.map_err(|error| error.failure())?;
        keep(finished, blobs, |_| {}).await
    }

    fn task(self, inputs: Vec<StagedInput>) -> (Task, CancellationToken) {
        let Run { dir, invocation, timeout, trace, stage, cancel, .. } = self;
        (Task { invocation, inputs, work_dir: dir.to_owned(), timeout, trace, stage }, cancel)
    }

    async fn stage(&self, blobs: &Blobs) -> Result<Vec<StagedInput>, Failure> {
        let mut inputs = Vec::new();
        for (index, mount) in self.invocation.inputs.iter().enumerate() {
            let folder = self.dir.join("inputs");
            tokio::fs::create_dir_all(&folder).await.map_err(host)?;
            let path = folder.join(index.to_string());
            blobs.stage(mount.content, &path).await.map_err(host)?;
            inputs.push(StagedInput { target: mount.target.clone(), path, writable: false });
        }
        Ok(inputs)
    }
}

/// Takes what a program left into the blob store. `alter` sees standard output before it is hashed.
async fn keep(finished: Finished, blobs: &Blobs, alter: impl FnOnce(&mut ResultPart) + Send) -> Result<Ran, Failure> {
    let mut stdout = printed(finished.outputs.stdout);
    alter(&mut stdout);
    let stderr = printed(finished.outputs.stderr);
    let mut files = ResultFiles::new(finished.outcome.exit_code(), stdout, stderr);
    finished.outputs.results.into_iter().for_each(|(name, path)| files.push(name, ResultPart::Path(path)));
    let result = blobs.collect(files).await.map_err(host)?;
    let account = Account {
        fuel: finished.fuel_used,
        memory_bytes: finished.peak_memory_bytes,
        calls: finished.calls.count,
        calls_digest: finished.calls.digest,
        inputs: Vec::new(),
        backtrace: text::beginning(&finished.backtrace.unwrap_or_default(), MAX_BACKTRACE_BYTES).to_owned(),
    };
    let claim = Claim { outcome: finished.outcome, result: result.content.hash };
    let run_ms = u64::try_from(finished.run.as_millis()).unwrap_or(u64::MAX);
    Ok(Ran { claim, account, run_ms, trace: finished.trace, result })
}

/// What a program printed to a stream, which has a file only if that is not nothing.
fn printed(path: Option<PathBuf>) -> ResultPart {
    path.map_or_else(|| ResultPart::Bytes(bytes::Bytes::new()), ResultPart::Path)
}

/// Modules for an executor, from the blob store, and images.
pub(crate) struct Modules {
    blobs: Blobs,
    /// Whether it is for a job of this node's, and where images come from; none for what is no container.
    images: Option<(bool, Pulling)>,
}

impl Modules {
    /// Modules alone.
    pub(crate) fn new(blobs: &Blobs) -> Self {
        Self { blobs: blobs.clone(), images: None }
    }
}

#[async_trait::async_trait]
impl shoal_executors::Blobs for Modules {
    async fn read(&self, hash: BlobHash, max_bytes: u64) -> std::io::Result<bytes::Bytes> {
        self.blobs.read(hash, max_bytes).await.map_err(std::io::Error::other)
    }

    async fn open(&self, hash: BlobHash) -> std::io::Result<Box<dyn tokio::io::AsyncRead + Send + Unpin>> {
        Ok(Box::new(self.blobs.reader(hash)))
    }

    async fn pull(&self, image: &PullRequest<'_>) -> Result<Pulled, RunError> {
        match &self.images {
            Some((own, pulling)) => pulling.pull(*own, image).await,
            None => Err(RunError::InputMissing(format!("image {}: no registry is asked here", image.repository))),
        }
    }
}

/// Makes an empty folder, in one turn on a thread that may block.
async fn make_anew(dir: PathBuf) -> std::io::Result<()> {
    let make = move || {
        if let Err(error) = std::fs::create_dir(&dir) {
            if error.kind() != std::io::ErrorKind::AlreadyExists {
                return std::fs::create_dir_all(&dir);
            }
            remove_tree(&dir)?;
            std::fs::create_dir(&dir)?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(make).await.map_err(std::io::Error::other)?
}

/// Removes a folder with everything in it, staged read-only files too.
pub(crate) async fn remove(dir: PathBuf) {
    let path = dir.clone();
    let removed = tokio::task::spawn_blocking(move || remove_tree(&path)).await;
    if let Err(error) = removed.map_err(std::io::Error::other).flatten() {
        tracing::warn!(dir = %dir.display(), %error, "not removed");
    }
}

/// The machine's own failure, as the protocol tells it.
pub(crate) fn host(error: impl std::fmt::Display) -> Failure {
    Failure::HostFailed(reason(&error.to_string()))
}

/// Shortens a reason to what a message may carry.
pub(crate) fn reason(words: &str) -> String {
    text::ends(words, MAX_FAILURE_BYTES)
}
