//! From a specification to a job: sources become blobs, the modules are checked, and everything is guarded before
//! the protocol hears of it. A job that is refused leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use shoal_executors::{CheckError, Executor};
use shoal_protocol::id::{BlobHash, JobId};
use shoal_protocol::job::spec::{Job, Source};
use shoal_protocol::job::{self, CompileError, resolve};
use shoal_protocol::message::Needs;
use shoal_protocol::record::{Placement, Policy, Submission};
use shoal_protocol::task::{Content, ContentKind, Work};
use shoal_protocol::wire::canonical;
use shoal_store::blobs::{Guard, Status};
use shoal_store::sources::{Asker, DataError, Request};
use tokio::sync::oneshot;

use crate::driver::{Event, TooManyJobs};
use crate::kept::Owner;
use crate::network::FetchError;
use crate::node::{Node, StartError, random};
use crate::publish;
use crate::runner::Modules;

/// The most that one input blob may hold, in bytes.
const MAX_INPUT_BYTES: u64 = 1 << 42;

/// Why a job was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It cannot be run: breaks a rule, or asks for what this build does not have.
    #[error(transparent)]
    Invalid(#[from] CompileError),
    /// An input cannot be read.
    #[error("input {target}: {reason}")]
    Source {
        /// Where the program would find it.
        target: String,
        /// What is wrong.
        reason: DataError,
    },
    /// An input blob cannot be had.
    #[error("input {target}: {reason}; add it with `shoal blob add`, or check the hash")]
    Missing {
        /// Where the program would find it.
        target: String,
        /// Why it cannot be had.
        reason: FetchError,
    },
    /// A module cannot be run.
    #[error(transparent)]
    Module(#[from] CheckError),
    /// There are too many open jobs.
    #[error(transparent)]
    Busy(#[from] TooManyJobs),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The blob store or the disk failed.
    #[error("the node cannot keep the job's inputs: {0}")]
    Store(String),
    /// The system gives no randomness.
    #[error(transparent)]
    Randomness(#[from] StartError),
}

/// A job that could be run, with guards on all its content.
struct Ready {
    work: Work,
    needs: Needs,
    guards: Vec<Guard>,
}

impl Node {
    /// Takes a job. Returns once it is durable.
    pub async fn submit(&self, job: Job, placement: Placement) -> Result<JobId, SubmitError> {
        let ready = self.prepare(&job).await?;
        let submission = submission(&job, &ready, placement, u64::from_le_bytes(random()?));
        let id = submission.job(self.peer_id());
        let owner = Owner::Job(id);
        self.0.kept.begin(owner);
        ready.guards.into_iter().for_each(|guard| self.0.kept.keep(owner, guard));
        // The inputs must be on disk before the job is: after a crash nobody else has them.
        self.blobs().sync().await.map_err(store)?;
        let (answer, taken) = oneshot::channel();
        let submit = Event::Submit(Box::new(submission), answer);
        self.0.inbox.send(submit).await.map_err(|_| SubmitError::Stopping)?;
        let taken = taken.await.map_err(|_| SubmitError::Stopping)?;
        if taken.is_err() {
            self.0.kept.end(owner);
        }
        Ok(taken?)
    }

    /// Does all that submitting does, and keeps nothing.
    pub async fn validate(&self, job: &Job) -> Result<(), SubmitError> {
        self.prepare(job).await.map(drop)
    }

    async fn prepare(&self, job: &Job) -> Result<Ready, SubmitError> {
        job::validate(job).map_err(CompileError::from)?;
        job::check_support(job).map_err(CompileError::from)?;
        let mut guards = Vec::new();
        let mut inputs = Vec::new();
        let folders = resolve::module_folders(job);
        for (index, input) in job.task.input_sources.iter().enumerate() {
            let (content, guard) = self.obtain(&input.source, &input.target).await?;
            guards.push(guard);
            let bytes = self.blobs().size(content).await.map_err(store)?.unwrap_or_default();
            let listed = content.kind == ContentKind::Collection && folders.contains(&index);
            let files = if listed { self.files(content.hash).await? } else { BTreeMap::new() };
            inputs.push(resolve::ResolvedInput { content, bytes, files });
        }
        let resolved = resolve::Resolved { profile: self.0.executor.profile().to_owned(), inputs };
        let (work, needs) = job::compile(job, &resolved)?;
        let guarded: BTreeSet<Content> = guards.iter().map(Guard::content).collect();
        for content in work.invocation.contents().into_iter().filter(|content| !guarded.contains(content)) {
            guards.push(self.blobs().protect(content).await.map_err(store)?);
        }
        self.0.executor.check(&work.invocation.engine, &Modules(self.blobs().clone())).await?;
        Ok(Ready { work, needs, guards })
    }

    /// Makes sure that a source's content is here.
    async fn obtain(&self, source: &Source, target: &str) -> Result<(Content, Guard), SubmitError> {
        match source {
            Source::Blob(blob) => {
                let content = Content { hash: blob.hash, kind: blob.kind };
                let guard = self.blobs().protect(content).await.map_err(store)?;
                if !matches!(self.blobs().status(content).await, Ok(Status::Complete { .. })) {
                    let missing = |reason| SubmitError::Missing { target: target.to_owned(), reason };
                    self.fetch_blob(content, Vec::new(), MAX_INPUT_BYTES, |_| {}).await.map_err(missing)?;
                }
                Ok((content, guard))
            }
            source => {
                let unreadable = |reason| SubmitError::Source { target: target.to_owned(), reason };
                let request = Request {
                    source,
                    asker: Asker::Owner,
                    max_bytes: MAX_INPUT_BYTES,
                    partitions: 1,
                    progress: &|_| {},
                };
                let mut obtained = self.0.sources.obtain(&request).await.map_err(unreadable)?;
                let imported = obtained.parts.remove(0);
                Ok((imported.content, imported.guard))
            }
        }
    }

    async fn files(&self, folder: BlobHash) -> Result<BTreeMap<String, (BlobHash, u64)>, SubmitError> {
        let mut files = BTreeMap::new();
        for file in self.blobs().files(folder).await.map_err(store)? {
            files.insert(file.name, (file.hash, file.status.bytes()));
        }
        Ok(files)
    }
}

fn submission(job: &Job, ready: &Ready, placement: Placement, nonce: u64) -> Submission {
    let timeouts = &job.task.timeouts;
    Submission {
        spec: serde_json::to_string(job).expect("a job is plain data"),
        nonce,
        work: canonical(&ready.work),
        needs: ready.needs.clone(),
        partitions: ready.work.partitions,
        policy: Policy::new(&job.verification, placement),
        priority: job.priority,
        queue_timeout_ms: timeouts.queue_secs.saturating_mul(1_000),
        total_timeout_ms: timeouts.total_secs.saturating_mul(1_000),
        output_bytes: ready.work.invocation.limits.output_bytes,
        placement,
        publishes: publish::leaves_mesh(&job.task.publisher),
    }
}

fn store(error: impl std::fmt::Display) -> SubmitError {
    SubmitError::Store(error.to_string())
}
