//! From a specification to a job: sources become blobs, the modules are checked, and everything is guarded before
//! the protocol hears of it. A job that is refused leaves nothing behind.

use std::collections::BTreeSet;

use shoal_executors::docker::ImageError;
use shoal_executors::{CheckError, Executor};
use shoal_protocol::id::JobId;
use shoal_protocol::job::spec::Job;
use shoal_protocol::job::units::Seconds;
use shoal_protocol::job::{self, CompileError, Problem, Problems, resolve};
use shoal_protocol::message::Needs;
use shoal_protocol::record::{InputRecord, Placement, Policy, Submission};
use shoal_protocol::task::{Content, ContentKind, Engine, Work};
use shoal_protocol::wire::canonical;
use shoal_store::blobs::Guard;
use shoal_store::sources::DataError;
use tokio::sync::oneshot;

use crate::driver::{Event, TooManyJobs};
use crate::inputs::{Inputs, Program, Watcher};
use crate::kept::Owner;
use crate::network::FetchError;
use crate::node::{Node, StartError, random};
use crate::publish;
use crate::runner::Modules;
use crate::validator;

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
    /// A validator cannot be run.
    #[error("the validator: {0}")]
    Validator(CheckError),
    /// An image cannot be run.
    #[error("image {0}: {1}")]
    Image(String, String),
    /// An image cannot be looked up.
    #[error(transparent)]
    Engine(#[from] ImageError),
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
    inputs: Vec<InputRecord>,
    guards: Vec<Guard>,
}

impl Node {
    /// Takes a job. Returns once it is durable; `watch` hears how far its inputs are.
    pub async fn submit(&self, job: Job, placement: Placement, watch: Watcher<'_>) -> Result<JobId, SubmitError> {
        let ready = Box::pin(self.prepare(&job, watch)).await?;
        let node = self.clone();
        // Whoever asked may go away: from here on the job is either taken with all that it needs, or not at all.
        let take = tokio::spawn(async move { node.take(&job, ready, placement).await });
        take.await.map_err(store)?
    }

    /// Does all that submitting does, and keeps nothing.
    pub async fn validate(&self, job: &Job, watch: Watcher<'_>) -> Result<(), SubmitError> {
        self.prepare(job, watch).await.map(drop)
    }

    async fn take(&self, job: &Job, ready: Ready, placement: Placement) -> Result<JobId, SubmitError> {
        let retention = job.task.publisher.retention().unwrap_or(self.0.config.retention.usual);
        let submission = submission(job, &ready, placement, retention, u64::from_le_bytes(random()?));
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

    async fn prepare(&self, job: &Job, watch: Watcher<'_>) -> Result<Ready, SubmitError> {
        job::validate(job).map_err(CompileError::from)?;
        job::check_support(job).map_err(CompileError::from)?;
        check_retention(job, self.0.config.retention.most)?;
        let Inputs { resolved, records, mut guards } = self.inputs(job, watch).await?;
        let Program { profile, image, guards: more } = self.program(job, watch).await?;
        guards.extend(more);
        let (work, needs) = job::compile(job, &resolve::Resolved { profile, image, inputs: resolved })?;
        let guarded: BTreeSet<Content> = guards.iter().map(Guard::content).collect();
        let validator = work.validator.map(|hash| Content { hash, kind: ContentKind::Raw });
        for content in work.contents().into_iter().chain(validator).filter(|content| !guarded.contains(content)) {
            guards.push(self.blobs().protect(content).await.map_err(store)?);
        }
        let modules = Modules::new(self.blobs());
        if let Engine::Wasm(_) = &work.invocation.engine {
            self.0.executor.check(&work.invocation.engine, &modules).await?;
        }
        if let Some(validator) = work.validator {
            let checked = self.0.executor.check(&validator::engine(validator), &modules).await;
            checked.map_err(SubmitError::Validator)?;
        }
        Ok(Ready { work, needs, inputs: records, guards })
    }
}

/// For how long it wants its results kept is for the node to grant, not for the mesh.
fn check_retention(job: &Job, most: Seconds) -> Result<(), CompileError> {
    match job.task.publisher.retention() {
        Some(wanted) if wanted > most => {
            let path = "Job.Tasks[0].Publisher.Params.Retention";
            let reason = format!("is {wanted}, but this node keeps results for at most {most} (max_retention)");
            Err(Problems(vec![Problem::new(path, reason, "write less, or leave it out")]).into())
        }
        _ => Ok(()),
    }
}

fn submission(job: &Job, ready: &Ready, placement: Placement, retention: Seconds, nonce: u64) -> Submission {
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
        retention_ms: retention.millis(),
        inputs: ready.inputs.clone(),
    }
}

pub(crate) fn store(error: impl std::fmt::Display) -> SubmitError {
    SubmitError::Store(error.to_string())
}
