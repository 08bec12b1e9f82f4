//! `shoal job executions`: who ran a job, and what each said.

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect};
use crate::views::ExecutionView;

/// Flags of `shoal job executions`.
#[derive(Debug, Args)]
pub(super) struct Executions {
    /// The job's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    output: OutputFlag,
}

impl Executions {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let executions = connect::running(global).await?.executions(&self.id).await?;
        output::show(self.output.format(global.format), &executions, |executions| table(executions))?;
        Ok(Status::Done)
    }
}

pub(super) fn table(executions: &[ExecutionView]) -> String {
    let row = |execution: &ExecutionView| {
        let outcome = execution.outcome.clone().or_else(|| execution.failure.clone()).unwrap_or_default();
        let result = execution.result_hash.map_or_else(|| "-".into(), |hash| hash.short());
        let ran = execution.run_millis.map_or_else(|| "-".into(), |millis| format!("{millis} ms"));
        let partition = execution.partition_index.to_string();
        let state = format!("{:?}", execution.state);
        [execution.execution_id.short(), execution.peer_id.short(), partition, state, ran, result, outcome]
    };
    output::table(["execution", "peer", "partition", "state", "ran", "result", "outcome"], executions.iter().map(row))
}
