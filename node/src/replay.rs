//! Runs a partition of a job again, here and alone, and compares what comes of it with what its workers revealed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::id::{BlobHash, ExecutionId, JobId, PeerId};
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::record::{ExecutionRecord, ExecutionState, JobRecord};
use shoal_protocol::task::{Account, Claim, Content, ContentKind, Failure, Invocation, Work};
use shoal_protocol::trace::TraceRequest;
use shoal_protocol::wire;
use shoal_store::blobs::{FolderError, Guard, PinError, Status, StoreFailed};
use shoal_store::data_dir::DataDir;
use shoal_store::state::StateError;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use crate::comparing;
use crate::network::FetchError;
use crate::node::Node;
use crate::runner::{Ran, Run, host, remove};

/// The folder of replays in the folder of work: no execution has such a name.
const FOLDER: &str = "replay";
/// Most that is fetched for a replay, in bytes: the job was submitted here, so its inputs were here once.
const MAX_INPUT_BYTES: u64 = 1 << 42;
/// Bytes of two files that are compared at a time.
const COMPARED_BYTES: usize = 64 << 10;

/// What came of running a partition again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Which partition.
    pub partition: u32,
    /// What came of it here.
    pub claim: Claim,
    /// What it used and called.
    pub account: Account,
    /// How long it took, in milliseconds.
    pub run_ms: u64,
    /// The executions that revealed something, compared with that.
    pub executions: Vec<Compared>,
}

/// A worker's answer beside ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The execution.
    pub execution: ExecutionId,
    /// Its worker.
    pub worker: PeerId,
    /// What became of it.
    pub state: ExecutionState,
    /// Whether the outcome is the same, and what its job compares of the result.
    pub same_result: bool,
    /// Whether its program made the same host calls, as its worker says.
    pub same_calls: bool,
    /// Where the results differ, by file; none if its files are not here to be compared.
    pub differences: Option<Vec<Difference>>,
}

/// A file in which two results differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name in the result.
    pub name: String,
    /// The first byte that differs; none if only one of them has the file.
    pub offset: Option<u64>,
}

/// Why a partition was not run again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such job.
    #[error("this node has no job {0}; `shoal job list` shows those it has")]
    NotFound(JobId),
    /// The job has fewer partitions.
    #[error("job {job} has no partition {partition}: it has {partitions}, counted from 0")]
    Partition {
        /// The job.
        job: JobId,
        /// The partition that was asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// Workers read some of its inputs.
    #[error("the workers of job {0} read inputs themselves, which may hold something else now: it cannot be run again")]
    Unread(JobId),
    /// A container may do something else each time.
    #[error("job {0} is a container, which need not do the same twice: run it again as a job of its own")]
    Container(JobId),
    /// Another replay is under way.
    #[error("another job is being replayed or compared on this node: wait until that is done")]
    Busy,
    /// A module or input is nowhere any more.
    #[error("a module or input of the job cannot be had any more: {0}")]
    Input(#[from] FetchError),
    /// It ended without an answer here.
    #[error("the run ended without a result on this node: {0}")]
    Failed(Failure),
    /// A result cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Content cannot be protected.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The blob store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// A file of a result cannot be read.
    #[error("a result cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The state file cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Node {
    /// Runs `partition` of `job` again on this node and compares. It reserves no capacity; at one time one job is
    /// replayed or compared.
    pub async fn replay(&self, job: JobId, partition: u32) -> Result<Replay, ReplayError> {
        let record = self.job_with(job, partition)?;
        self.in_turn(async move |node: Node, cancel| node.replay_now(&record, partition, cancel).await).await?
    }

    /// A job that has such a partition.
    pub(crate) fn job_with(&self, job: JobId, partition: u32) -> Result<JobRecord, ReplayError> {
        let record = self.job(job)?.ok_or(ReplayError::NotFound(job))?;
        let partitions = record.submission.partitions;
        if partition < partitions { Ok(record) } else { Err(ReplayError::Partition { job, partition, partitions }) }
    }

    /// Does something that runs a job again, if nobody else does. Whoever gives the request up fires the token.
    pub(crate) async fn in_turn<T: Send + 'static, F>(
        &self,
        again: impl FnOnce(Node, CancellationToken) -> F,
    ) -> Result<T, ReplayError>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let turn = Arc::clone(&self.0.replaying).try_lock_owned().map_err(|_| ReplayError::Busy)?;
        let cancel = CancellationToken::new();
        let _stop = cancel.clone().drop_guard();
        let again = again(self.clone(), cancel);
        // Only the task knows when the program is gone and its folder is free again.
        let task = tokio::spawn(async move {
            let _turn = turn;
            again.await
        });
        task.await.map_err(|error| ReplayError::Failed(host(error)))
    }

    async fn replay_now(
        &self,
        job: &JobRecord,
        partition: u32,
        cancel: CancellationToken,
    ) -> Result<Replay, ReplayError> {
        let ran = self.run_again(job, partition, None, cancel).await?;
        let work: Option<Work> = wire::parse(&job.submission.work).ok();
        let compare = work.map(|work| work.compare).unwrap_or_default();
        let compared = comparing::compared(self.blobs(), ran.claim.result, &compare).await?;
        let mut executions = Vec::new();
        for execution in self.executions(job.job)?.iter().filter(|one| one.partition == partition) {
            executions.extend(self.compare(execution, &ran, compared).await?);
        }
        let Ran { claim, account, run_ms, .. } = ran;
        Ok(Replay { partition, claim, account, run_ms, executions })
    }

    /// Runs a partition here and alone.
    pub(crate) async fn run_again(
        &self,
        job: &JobRecord,
        partition: u32,
        trace: Option<TraceRequest>,
        cancel: CancellationToken,
    ) -> Result<Ran, ReplayError> {
        let work: Work = wire::parse(&job.submission.work).expect("a saved job has the work that we encoded");
        if !work.invocation.unread.is_empty() {
            return Err(ReplayError::Unread(job.job));
        }
        if work.invocation.engine.kind() != ExecutorKind::Wasm {
            return Err(ReplayError::Container(job.job));
        }
        let invocation = work.partition(partition);
        let _inputs = self.obtain_inputs(&invocation).await?;
        let dir = DataDir::new(&self.config().data_dir).work().join(FOLDER);
        let timeout = Duration::from_millis(work.execution_timeout_ms);
        let (stage, note) = Default::default();
        let (writable, images) = (Vec::new(), None);
        let run = Run { dir: &dir, invocation, timeout, trace, writable, images, stage, note, cancel };
        let ran = run.perform(self.0.executor.as_ref(), self.blobs(), |_| {}).await;
        remove(dir).await;
        ran.map_err(ReplayError::Failed)
    }

    async fn obtain_inputs(&self, invocation: &Invocation) -> Result<Vec<Guard>, ReplayError> {
        let mut guards = Vec::new();
        for content in invocation.contents() {
            guards.push(self.blobs().protect(content).await?);
            self.fetch_blob(content, Vec::new(), MAX_INPUT_BYTES, |_| {}).await?;
        }
        Ok(guards)
    }

    /// None for an execution that revealed nothing.
    async fn compare(
        &self,
        execution: &ExecutionRecord,
        ran: &Ran,
        compared: BlobHash,
    ) -> Result<Option<Compared>, ReplayError> {
        let Some((claim, _)) = execution.revealed else { return Ok(None) };
        let same_part = execution.compared == Some(compared) && claim.outcome == ran.claim.outcome;
        let calls = |account: &Account| (account.calls, account.calls_digest);
        Ok(Some(Compared {
            execution: execution.execution,
            worker: execution.worker,
            state: execution.state,
            same_result: claim == ran.claim || same_part,
            same_calls: execution.account.as_ref().map(calls) == Some(calls(&ran.account)),
            differences: self.differences(ran.claim.result, claim.result).await?,
        }))
    }

    async fn differences(&self, ours: BlobHash, theirs: BlobHash) -> Result<Option<Vec<Difference>>, ReplayError> {
        if ours == theirs {
            return Ok(Some(Vec::new()));
        }
        let content = Content { hash: theirs, kind: ContentKind::Collection };
        if !matches!(self.blobs().status(content).await, Ok(Status::Complete { .. })) {
            return Ok(None);
        }
        let (ours, theirs) = (self.names(ours).await?, self.names(theirs).await?);
        let mut differences = Vec::new();
        for (name, hash) in &ours {
            match theirs.get(name) {
                Some(other) if other == hash => {}
                Some(other) => {
                    let offset = Some(self.first_difference(*hash, *other).await?);
                    differences.push(Difference { name: name.clone(), offset });
                }
                None => differences.push(Difference { name: name.clone(), offset: None }),
            }
        }
        let only_theirs = theirs.into_keys().filter(|name| !ours.contains_key(name));
        differences.extend(only_theirs.map(|name| Difference { name, offset: None }));
        Ok(Some(differences))
    }

    async fn names(&self, folder: BlobHash) -> Result<BTreeMap<String, BlobHash>, FolderError> {
        Ok(self.blobs().files(folder).await?.into_iter().map(|file| (file.name, file.hash)).collect())
    }

    /// The first byte in which two blobs differ; where the shorter ends, if it begins the longer.
    async fn first_difference(&self, ours: BlobHash, theirs: BlobHash) -> std::io::Result<u64> {
        let (mut ours, mut theirs) = (self.blobs().reader(ours), self.blobs().reader(theirs));
        let mut offset = 0;
        loop {
            let (mine, other) = (piece(&mut ours).await?, piece(&mut theirs).await?);
            let same = mine.iter().zip(&other).take_while(|(mine, other)| mine == other).count();
            offset += same as u64;
            if same < mine.len().max(other.len()) || mine.is_empty() {
                return Ok(offset);
            }
        }
    }
}

/// The next bytes, fewer only at the end.
async fn piece(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(COMPARED_BYTES);
    reader.take(COMPARED_BYTES as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use shoal_store::blobs::{ResultFiles, ResultPart};

    use super::*;
    use crate::config::{Loaded, Settings};

    async fn node(dir: &std::path::Path) -> Node {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings { listen: Some(loopback), join: Some(Vec::new()), ..Settings::default() };
        let mut loaded = Loaded::new(dir, settings).unwrap();
        loaded.config.loopback_only = true;
        Box::pin(Node::start(loaded.config)).await.unwrap()
    }

    async fn result(node: &Node, stdout: Vec<u8>, stderr: &'static str, code: i32) -> shoal_store::blobs::Imported {
        let files = ResultFiles::new(code, ResultPart::Bytes(stdout.into()), ResultPart::Bytes(stderr.into()));
        node.blobs().collect(files).await.unwrap()
    }

    #[tokio::test]
    async fn differences_are_found_to_the_byte() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path()).await;
        let long = vec![7; 3 * COMPARED_BYTES];
        let mut other = long.clone();
        other[2 * COMPARED_BYTES + 5] = 8;
        let ours = result(&node, long.clone(), "", 0).await;
        let changed = result(&node, other, "", 0).await;
        let shorter = result(&node, long[..COMPARED_BYTES].to_vec(), "x", 0).await;
        let found = async |theirs: BlobHash| {
            let differences = node.differences(ours.content.hash, theirs).await.unwrap();
            differences.map(|all| all.into_iter().map(|one| (one.name, one.offset)).collect::<Vec<_>>())
        };
        let at = |name: &str, offset: usize| (name.to_owned(), Some(offset as u64));
        assert_eq!(found(ours.content.hash).await, Some(vec![]));
        assert_eq!(found(changed.content.hash).await, Some(vec![at("stdout", 2 * COMPARED_BYTES + 5)]));
        assert_eq!(found(shorter.content.hash).await, Some(vec![at("stderr", 0), at("stdout", COMPARED_BYTES)]));
        assert_eq!(found(BlobHash([9; 32])).await, None, "not here");
        node.shutdown().await;
    }

    #[tokio::test]
    async fn only_a_known_job_is_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path()).await;
        let error = node.replay(JobId([1; 16]), 0).await.unwrap_err();
        assert!(matches!(error, ReplayError::NotFound(_)), "{error}");
        node.shutdown().await;
    }
}
