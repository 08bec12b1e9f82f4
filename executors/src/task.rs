//! What an executor is given and what it gives back.

use std::any::Any;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_protocol::id::{BlobHash, ImageId, ManifestDigest};
use shoal_protocol::image::Repository;
use shoal_protocol::limits::MAX_FAILURE_BYTES;
use shoal_protocol::message::{Amount, ExecutorKind};
use shoal_protocol::task::{Failure, Invocation, Outcome};
use shoal_protocol::text::ends;
use shoal_protocol::trace::{Trace, TraceRequest};
use tokio::io::AsyncRead;
use tokio::sync::watch;

use crate::wasi::calls::HostCalls;

/// Where an executor gets modules from.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// The content of `hash`. A blob of more than `max_bytes` is an error, and so is one that is not there.
    async fn read(&self, hash: BlobHash, max_bytes: u64) -> std::io::Result<Bytes>;

    /// The parts of an image of a registry, fetched if they are not here. Whoever has no registry has no image.
    async fn pull(&self, image: &PullRequest<'_>) -> Result<Pulled, RunError> {
        Err(RunError::InputMissing(format!("image {}: no registry is asked here", image.repository)))
    }

    /// The content of `hash` piece by piece, each checked before it is passed on.
    async fn open(&self, hash: BlobHash) -> std::io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        Ok(Box::new(std::io::Cursor::new(self.read(hash, u64::MAX).await?)))
    }
}

/// An image of a registry.
#[derive(Clone, Copy)]
pub struct PullRequest<'a> {
    /// Where it is.
    pub repository: &'a Repository,
    /// What it is called there.
    pub digest: ManifestDigest,
    /// What it must be.
    pub id: ImageId,
    /// What it must run on: `OS/ARCHITECTURE`.
    pub platform: &'a str,
    /// The most that may be transferred, in bytes.
    pub max_bytes: u64,
    /// Hears how much was transferred, often.
    pub told: &'a (dyn Fn(Amount) + Send + Sync),
}

/// An image of a registry whose parts are here, checked against their digests.
pub struct Pulled {
    /// Its configuration, whose hash is its id.
    pub config: Bytes,
    /// Its layers as they were transferred, from the bottom up, for [`Blobs::open`].
    pub layers: Vec<BlobHash>,
    /// Keeps them until it is dropped.
    pub guard: Box<dyn Any + Send + Sync>,
}

/// One run of an invocation.
#[derive(Debug, Clone)]
pub struct Task {
    /// What to run.
    pub invocation: Invocation,
    /// Its inputs, on disk; the program sees them read-only.
    pub inputs: Vec<StagedInput>,
    /// A folder that exists, is empty and belongs to this run alone.
    pub work_dir: PathBuf,
    /// Wall-clock limit, compilation included.
    pub timeout: Duration,
    /// What the run is to note of itself; nothing in an ordinary run.
    pub trace: Option<TraceRequest>,
    /// Where the executor says how far it is.
    pub stage: watch::Sender<Stage>,
}

/// How far a run is. Whoever looks sees the latest.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The program has not been started yet.
    #[default]
    Waiting,
    /// Its image is so far.
    Preparing(Amount),
    /// It runs. Modules are started at once, and nobody says so.
    Running,
}

/// An input that was fetched.
#[derive(Debug, Clone)]
pub struct StagedInput {
    /// Where the program finds it: an absolute path.
    pub target: String,
    /// The file or folder on disk.
    pub path: PathBuf,
    /// Whether the program may change it, where it lies. Only containers are given such.
    pub writable: bool,
}

/// A run that ended with a vote.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How the program ended.
    pub outcome: Outcome,
    /// What it left.
    pub outputs: Outputs,
    /// Wall-clock time of the program, without compilation.
    pub run: Duration,
    /// Fuel used, for people. Never compared: after a trap it is known to a slice.
    pub fuel_used: u64,
    /// The most linear memory that the program had, in bytes.
    pub peak_memory_bytes: u64,
    /// What it asked of its world. No part of the result: it tells where two results part.
    pub calls: HostCalls,
    /// What [`Task::trace`] asked for.
    pub trace: Option<Trace>,
    /// Where the program trapped, a function a line, for people: no part of the result.
    pub backtrace: Option<String>,
}

/// Files in the run's work folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    /// Standard output; none if nothing was printed there.
    pub stdout: Option<PathBuf>,
    /// Standard error; none if nothing was printed there.
    pub stderr: Option<PathBuf>,
    /// One file or folder for each result path, by its name and in the invocation's order. Each exists: a program
    /// that wrote nothing there leaves an empty folder.
    pub results: Vec<(String, PathBuf)>,
}

/// Why a run ended without a vote.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The wall-clock limit passed.
    #[error("execution timeout reached after {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// Somebody cancelled it.
    #[error("cancelled")]
    Cancelled,
    /// The machine failed, not the program.
    #[error("the worker's machine failed: {0}")]
    HostFailed(String),
    /// An input or module is not there.
    #[error("input missing: {0}")]
    InputMissing(String),
    /// This executor does not take such a task: another profile, or mounts that contradict each other.
    #[error("declined: {0}")]
    Declined(String),
}

/// Why an engine is refused at submit.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A module could not be read.
    #[error("module {0} cannot be read: {1}; add it with `blob add` or name the right file")]
    Unreadable(BlobHash, std::io::Error),
    /// The bytes are not a WebAssembly module.
    #[error("module {0} is not a WebAssembly module ({1}); compile the program for wasm32-wasi (wasm32-wasip1)")]
    NotWasm(BlobHash, String),
    /// A component, a text module, or one with shared memory.
    #[error("module {0} is {1}, which this engine does not run: {2}")]
    WrongKind(BlobHash, &'static str, &'static str),
    /// It is for another executor.
    #[error("this executor runs {0} programs, and this is one for {1}")]
    OtherEngine(ExecutorKind, ExecutorKind),
    /// More of something than the profile allows.
    #[error("module {module} has {have} {what}, more than the {limit} that the profile allows; split the program")]
    TooMuch {
        /// The module.
        module: BlobHash,
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        have: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The profile differs.
    #[error("determinism profile {0:?} is unknown; this build runs {1:?}")]
    Profile(String, &'static str),
    /// Imports that nobody provides, and what to do about it.
    #[error("module {0} imports what nobody provides: {1}; {2}")]
    UnknownImports(BlobHash, String, &'static str),
    /// An import that is provided as something else.
    #[error("module {module} imports {import} as {wanted}, but it is {given}; build both for the same interface")]
    ImportType {
        /// The module.
        module: BlobHash,
        /// What it imports.
        import: String,
        /// As what.
        wanted: String,
        /// What that is.
        given: String,
    },
    /// Interfaces of a component that nobody provides.
    #[error(
        "component {0} imports {1}, which this engine does not provide: programs have cli, clocks, filesystem, io and \
         random of WASI 0.2, and no network; build it without the rest"
    )]
    UnknownInterfaces(BlobHash, String),
    /// A component that is no command, or another entry point than a command's.
    #[error(
        "component {module} cannot be started at {name:?}: commands export wasi:cli/run@0.2 and are started there; \
         it exports {exports}"
    )]
    NoCommand {
        /// The component.
        module: BlobHash,
        /// The entry point that was asked for; `_start` stands for a command's.
        name: String,
        /// What it exports.
        exports: String,
    },
    /// Import modules that need each other in a circle, or that share a name.
    #[error("import module {0:?} {1}")]
    ImportModules(String, &'static str),
    /// The entry point takes arguments, returns something, or is no function.
    #[error("module {module} exports {name:?} as {is}; an entry point is a function without parameters and results")]
    EntryPointType {
        /// The module.
        module: BlobHash,
        /// The entry point that was asked for.
        name: String,
        /// What it is.
        is: String,
    },
    /// The entry point is missing.
    #[error("module {module} has no entry point {name:?} without parameters and results; it exports: {exports}")]
    EntryPoint {
        /// The module.
        module: BlobHash,
        /// The entry point that was asked for.
        name: String,
        /// Functions that could be one.
        exports: String,
    },
}

impl Task {
    /// Where standard output goes, from the first byte on.
    pub fn stdout(&self) -> PathBuf {
        self.work_dir.join("stdout")
    }

    /// Where standard error goes, from the first byte on.
    pub fn stderr(&self) -> PathBuf {
        self.work_dir.join("stderr")
    }
}

impl RunError {
    /// A run that ended with its node.
    pub(crate) fn cut_off() -> Self {
        RunError::HostFailed("the node was restarted during the run".into())
    }

    /// The failure as the protocol tells it, within its size limits.
    pub fn failure(&self) -> Failure {
        match self {
            RunError::TimedOut(_) => Failure::TimedOut,
            RunError::Cancelled => Failure::Cancelled,
            RunError::HostFailed(why) => Failure::HostFailed(ends(why, MAX_FAILURE_BYTES)),
            RunError::InputMissing(why) => Failure::InputMissing(ends(why, MAX_FAILURE_BYTES)),
            RunError::Declined(why) => Failure::Declined(ends(why, MAX_FAILURE_BYTES)),
        }
    }
}
