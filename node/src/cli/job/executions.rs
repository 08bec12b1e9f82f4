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
        // Nobody measures a container's.
        let (fuel_used, peak) = (execution.fuel_used, execution.peak_memory_bytes);
        let fuel = fuel_used.filter(|fuel| *fuel > 0).map_or_else(|| "-".into(), fuel);
        let memory = peak.filter(|bytes| *bytes > 0).map_or_else(|| "-".into(), output::size);
        let partition = execution.partition_index.to_string();
        let state = format!("{:?}", execution.state);
        let (id, peer) = (execution.execution_id.short(), execution.peer_id.short());
        [id, peer, partition, state, ran, fuel, memory, result, outcome]
    };
    let head = ["execution", "peer", "partition", "state", "ran", "fuel", "memory", "result", "outcome"];
    output::table(head, executions.iter().map(row))
}

/// Fuel for people: `1.234 M`.
fn fuel(fuel: u64) -> String {
    match fuel {
        0..1_000_000 => fuel.to_string(),
        1_000_000..1_000_000_000 => format!("{}.{:03} M", fuel / 1_000_000, fuel / 1_000 % 1_000),
        _ => format!("{}.{:03} G", fuel / 1_000_000_000, fuel / 1_000_000 % 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuel_is_short() {
        let table = [(0, "0"), (999_999, "999999"), (1_234_567, "1.234 M"), (1_002_000_000_000, "1002.000 G")];
        for (number, expected) in table {
            assert_eq!(fuel(number), expected);
        }
    }
}
