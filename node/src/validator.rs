//! Asks a job's validator whether two results agree: a module that sees both as folders, and says it by its exit code.
//!
//! It runs here, where nobody else has to be believed, under the profile of modules, which makes it say the same each
//! time. It is bounded, and sees nothing but the two results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shoal_executors::{Executor, Finished, PROFILE, RunError, StagedInput, Task};
use shoal_protocol::id::{BlobHash, JobId};
use shoal_protocol::limits::{
    MAX_TEXT_BYTES, VALIDATOR_FUEL, VALIDATOR_MEMORY_BYTES, VALIDATOR_MS, VALIDATOR_OUTPUT_BYTES,
};
use shoal_protocol::machine::{Ballot, Comparison, Unvalidated};
use shoal_protocol::task::{Compare, Content, ContentKind, Engine, Invocation, Limits, Outcome, Wasm};
use shoal_protocol::text;
use shoal_store::blobs::{Blobs, Guard};
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::comparing::unfit;
use crate::network::{FetchError, Network};
use crate::query::ListError;
use crate::room;
use crate::runner::{Modules, remove};

/// Validators that run at once: nobody sets memory aside for them.
const AT_ONCE: usize = 2;
/// What one run may use.
const LIMITS: Limits =
    Limits { memory_bytes: VALIDATOR_MEMORY_BYTES, fuel: VALIDATOR_FUEL, output_bytes: VALIDATOR_OUTPUT_BYTES };
/// Where the program finds the results.
const TARGETS: [&str; 2] = ["/a", "/b"];
/// What a result may hold beside what the program wrote: names of files and the like, in bytes.
const RESULT_SLACK_BYTES: u64 = 16 << 20;

/// Runs validators. A clone is the same.
#[derive(Clone)]
pub(crate) struct Validators {
    blobs: Blobs,
    network: Network,
    executor: Arc<dyn Executor>,
    work_dir: PathBuf,
    limits: Limits,
    turns: Arc<Semaphore>,
    jobs: Arc<Mutex<BTreeMap<JobId, CancellationToken>>>,
}

/// What to ask.
pub(crate) struct Question {
    pub(crate) validator: BlobHash,
    pub(crate) compare: Compare,
    pub(crate) max_bytes: u64,
    pub(crate) pair: [Ballot; 2],
}

/// What of a result is shown.
struct Side {
    content: Content,
    bytes: u64,
    _guards: Vec<Guard>,
}

impl Validators {
    pub(crate) fn new(blobs: Blobs, network: Network, executor: Arc<dyn Executor>, work_dir: PathBuf) -> Self {
        let (turns, jobs) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::default());
        Self { blobs, network, executor, work_dir, limits: LIMITS, turns, jobs }
    }

    /// From now on a job has validators run; what this returns is fired at its end.
    pub(crate) fn begin(&self, job: JobId) -> CancellationToken {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).entry(job).or_default().clone()
    }

    /// Asks about two results of a partition. Where the validator says that they agree, it is asked again with the
    /// results exchanged: two results agree whichever comes first, or they do not.
    pub(crate) async fn ask(
        &self,
        (job, partition): (JobId, u32),
        question: Question,
        cancel: CancellationToken,
    ) -> Result<Comparison, Unvalidated> {
        let over = || Unvalidated::Host("the job is over".into());
        let turn = cancel.run_until_cancelled(self.turns.acquire()).await;
        let _turn = turn.ok_or_else(over)?.map_err(host)?;
        let [a, b] = question.pair;
        let a = cancel.run_until_cancelled(self.side(&question, a)).await.ok_or_else(over)??;
        let b = cancel.run_until_cancelled(self.side(&question, b)).await.ok_or_else(over)??;
        let dir = self.work_dir.join(format!("validate-{job}-{partition}"));
        let said = self.both_ways(&dir, question.validator, [&a, &b], cancel).await;
        remove(dir).await;
        said
    }

    /// A job is over: nobody waits for its validator.
    pub(crate) fn end(&self, job: JobId) {
        let token = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        token.into_iter().for_each(|token| token.cancel());
    }

    /// Stops everything.
    pub(crate) fn stop_all(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(CancellationToken::cancel);
    }

    /// Fetches a result, and makes a folder of what of it is compared.
    async fn side(&self, question: &Question, ballot: Ballot) -> Result<Side, Unvalidated> {
        let whole = Content { hash: ballot.result, kind: ContentKind::Collection };
        let max_bytes = question.max_bytes.saturating_add(RESULT_SLACK_BYTES);
        let guard = self.blobs.protect(whole).await.map_err(host)?;
        let bytes = match self.blobs.size(whole).await {
            Ok(Some(bytes)) if bytes <= max_bytes => bytes,
            _ => {
                let from = Some(ballot.worker).filter(|peer| *peer != self.network.peer_id()).into_iter().collect();
                let fetched = room::fetch((&self.network, &self.blobs), whole, from, max_bytes, |_| {}).await;
                fetched.map_err(|error| match error {
                    FetchError::Store { .. } => host(error),
                    error => Unvalidated::Result(ballot.execution, unfit(&ListError::Fetch(error))),
                })?
            }
        };
        if question.compare == Compare::All {
            return Ok(Side { content: whole, bytes, _guards: vec![guard] });
        }
        let mut files = self.blobs.entries(ballot.result).await.map_err(host)?;
        files.retain(|(name, _)| question.compare.holds(name));
        let part = self.blobs.compose(files).await.map_err(host)?;
        Ok(Side { content: part.content, bytes: part.bytes, _guards: vec![guard, part.guard] })
    }

    async fn both_ways(
        &self,
        dir: &Path,
        validator: BlobHash,
        [a, b]: [&Side; 2],
        cancel: CancellationToken,
    ) -> Result<Comparison, Unvalidated> {
        let bytes = a.bytes.saturating_add(b.bytes).saturating_add(2 * VALIDATOR_OUTPUT_BYTES);
        let _room = self.blobs.reserve(bytes).await.map_err(host)?;
        // What an earlier try left.
        remove(dir.to_owned()).await;
        tokio::fs::create_dir_all(dir).await.map_err(host)?;
        let paths = [dir.join("a"), dir.join("b")];
        for (side, path) in [a, b].into_iter().zip(&paths) {
            self.blobs.stage(side.content, path).await.map_err(host)?;
        }
        let [a, b] = paths;
        let there = self.run(dir.join("0"), validator, [a.clone(), b.clone()], cancel.clone()).await?;
        if !there.agree {
            return Ok(there);
        }
        let back = self.run(dir.join("1"), validator, [b, a], cancel).await?;
        Ok(if back.agree { there } else { back })
    }

    async fn run(
        &self,
        work_dir: PathBuf,
        validator: BlobHash,
        sides: [PathBuf; 2],
        cancel: CancellationToken,
    ) -> Result<Comparison, Unvalidated> {
        tokio::fs::create_dir_all(&work_dir).await.map_err(host)?;
        let inputs = TARGETS.into_iter().zip(sides);
        let inputs =
            inputs.map(|(target, path)| StagedInput { target: target.into(), path, writable: false }).collect();
        let timeout = Duration::from_millis(VALIDATOR_MS);
        let (stage, _) = watch::channel(shoal_executors::task::Stage::default());
        let invocation = invocation(validator, self.limits);
        let task = Task { invocation, inputs, work_dir, timeout, trace: None, stage };
        let ran = self.executor.run(task, &Modules::new(&self.blobs), cancel).await;
        judged(ran.map_err(failure)?).await
    }
}

/// How a validator is run.
fn invocation(validator: BlobHash, limits: Limits) -> Invocation {
    Invocation {
        engine: engine(validator),
        environment: BTreeMap::new(),
        inputs: Vec::new(),
        unread: Vec::new(),
        result_paths: Vec::new(),
        limits,
    }
}

/// The engine that runs it.
pub(crate) fn engine(validator: BlobHash) -> Engine {
    Engine::Wasm(Wasm {
        profile: PROFILE.to_owned(),
        module: validator,
        imports: Vec::new(),
        entry_point: "_start".into(),
        arguments: Vec::new(),
    })
}

/// What a run says, by its exit code.
async fn judged(ran: Finished) -> Result<Comparison, Unvalidated> {
    let words = printed(ran.outputs.stdout.as_deref()).await;
    match ran.outcome {
        Outcome::Exited(0) => Ok(Comparison { agree: true, words }),
        Outcome::Exited(1) => Ok(Comparison { agree: false, words }),
        outcome => {
            let more = printed(ran.outputs.stderr.as_deref()).await;
            let why = format!("{outcome}, and neither 0 (they agree) nor 1 (they do not): {more}");
            Err(Unvalidated::Validator(why.trim_end_matches(": ").to_owned()))
        }
    }
}

/// The beginning of what it printed, in one line.
async fn printed(path: Option<&Path>) -> String {
    let Some(path) = path else { return String::new() };
    let mut bytes = Vec::new();
    if let Ok(file) = tokio::fs::File::open(path).await {
        // What was read before an error is something.
        let _ = file.take(MAX_TEXT_BYTES as u64).read_to_end(&mut bytes).await;
    }
    let words = String::from_utf8_lossy(&bytes).replace(|c: char| c.is_control(), " ");
    text::beginning(words.trim(), MAX_TEXT_BYTES).to_owned()
}

fn failure(error: RunError) -> Unvalidated {
    match error {
        RunError::TimedOut(_) | RunError::Declined(_) => Unvalidated::Validator(format!("could not be run: {error}")),
        RunError::Cancelled | RunError::HostFailed(_) | RunError::InputMissing(_) => host(error),
    }
}

fn host(error: impl std::fmt::Display) -> Unvalidated {
    Unvalidated::Host(error.to_string())
}

#[cfg(test)]
mod tests;
