//! An executor without an engine, for tests: it answers with what it was told to answer.

use std::time::Duration;

use async_trait::async_trait;
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::task::{Engine, Outcome};
use tokio_util::sync::CancellationToken;

use crate::{Blobs, CheckError, Executor, Finished, HostCalls, Outputs, RunError, Task};

/// Ends every task alike, with a given outcome and standard output; leaves every result path an empty folder.
#[derive(Debug, Clone)]
pub struct FakeExecutor {
    /// How every program ends.
    pub outcome: Outcome,
    /// What every program prints.
    pub stdout: Vec<u8>,
    /// How long every program runs, in the runtime's time.
    pub run: Duration,
}

impl Default for FakeExecutor {
    fn default() -> Self {
        Self { outcome: Outcome::Exited(0), stdout: Vec::new(), run: Duration::ZERO }
    }
}

#[async_trait]
impl Executor for FakeExecutor {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Wasm
    }

    async fn check(&self, _: &Engine, _: &dyn Blobs) -> Result<(), CheckError> {
        Ok(())
    }

    async fn run(&self, task: Task, _: &dyn Blobs, cancel: CancellationToken) -> Result<Finished, RunError> {
        tokio::select! {
            () = cancel.cancelled() => return Err(RunError::Cancelled),
            () = tokio::time::sleep(task.timeout), if task.timeout < self.run => {
                return Err(RunError::TimedOut(task.timeout));
            }
            () = tokio::time::sleep(self.run) => {}
        }
        let outputs = self.write(&task).map_err(|error| RunError::HostFailed(error.to_string()))?;
        Ok(Finished {
            outcome: self.outcome,
            outputs,
            run: self.run,
            fuel_used: 0,
            peak_memory_bytes: 0,
            calls: HostCalls { digest: *blake3::hash(b"").as_bytes(), count: 0 },
            trace: None,
            backtrace: None,
        })
    }
}

impl FakeExecutor {
    fn write(&self, task: &Task) -> std::io::Result<Outputs> {
        std::fs::write(task.stdout(), &self.stdout)?;
        let mut results = Vec::new();
        for (index, result) in task.invocation.result_paths.iter().enumerate() {
            let path = task.work_dir.join(format!("result-{index}"));
            std::fs::create_dir(&path)?;
            results.push((result.name.clone(), path));
        }
        Ok(Outputs { stdout: Some(task.stdout()), stderr: None, results })
    }
}
