//! Runs what a worker was awarded.
//!
//! An [`Executor`] turns a [`Task`] (an invocation, its inputs on disk, a private folder) into [`Finished`]: an
//! outcome that is a vote, and output files. Whatever is no vote is a [`RunError`]. This crate knows neither the
//! network nor the store: blobs come through [`Blobs`], which the node implements.

pub mod task;

pub mod wasm;

pub mod docker;

mod wasi;

pub mod fake;

pub mod bench;

use async_trait::async_trait;
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::task::Engine;
use tokio_util::sync::CancellationToken;

pub use docker::{DockerConfig, DockerExecutor};
pub use task::{Blobs, CheckError, Finished, Outputs, PullRequest, Pulled, RunError, Stage, StagedInput, Task};
pub use wasi::calls::HostCalls;
pub use wasm::{PROFILE, WasmConfig, WasmExecutor};

/// An engine on a worker.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Which engine this is.
    fn kind(&self) -> ExecutorKind;

    /// Says at submit time whether `engine` can be run at all: its modules are read from `blobs` and inspected, not
    /// compiled. The error names the thing, the reason and the remedy.
    async fn check(&self, engine: &Engine, blobs: &dyn Blobs) -> Result<(), CheckError>;

    /// Runs `task` until it ends, its timeout passes or `cancel` fires. Standard output and error are written to
    /// [`Task::stdout`] and [`Task::stderr`] while the program runs.
    async fn run(&self, task: Task, blobs: &dyn Blobs, cancel: CancellationToken) -> Result<Finished, RunError>;

    /// Takes up the run of `task` that an earlier process of this node began in the same work folder, if it goes on, or
    /// went on to its end. Its inputs need not be staged.
    async fn resume(&self, _: Task, _: CancellationToken) -> Result<Finished, RunError> {
        Err(RunError::cut_off())
    }
}
