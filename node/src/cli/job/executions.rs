//! `shoal job executions`: who ran a job, and what each said.

use anyhow::Result;
use clap::Args;
use shoal_protocol::id::{BlobHash, ExecutionId, PeerId};

use crate::cli::output::{self, Ids, ListFlags, Rows};
use crate::cli::{Global, Status, connect};
use crate::views::ExecutionView;

/// Flags of `shoal job executions`.
#[derive(Debug, Args)]
pub(super) struct Executions {
    /// The job's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    output: ListFlags,
}

impl Executions {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let mut executions = connect::running(global).await?.executions(&self.id).await?;
        executions.truncate(self.limit.unwrap_or(usize::MAX));
        self.output.show(global.format, &executions, |executions, ids| rows(executions, ids))?;
        Ok(Status::Done)
    }
}

/// The executions of a job as a table.
pub(in crate::cli) fn table(executions: &[ExecutionView]) -> String {
    rows(executions, Ids::Short).text(true)
}

fn rows(executions: &[ExecutionView], ids: Ids) -> Rows<9> {
    let row = |execution: &ExecutionView| {
        let outcome = execution.outcome.clone().or_else(|| execution.failure.clone()).unwrap_or_default();
        let result = execution.result_hash.map_or_else(|| "-".into(), |hash| ids.of(&hash, BlobHash::short));
        let ran = execution.run_millis.map_or_else(|| "-".into(), |millis| format!("{millis} ms"));
        // A container has no fuel, and one that ended at once was not seen.
        let (fuel_used, peak) = (execution.fuel_used, execution.peak_memory_bytes);
        let fuel = fuel_used.filter(|fuel| *fuel > 0).map_or_else(|| "-".into(), fuel);
        let memory = peak.filter(|bytes| *bytes > 0).map_or_else(|| "-".into(), output::size);
        let partition = execution.partition_index.to_string();
        let state = format!("{:?}", execution.state);
        let id = ids.of(&execution.execution_id, ExecutionId::short);
        let peer = ids.of(&execution.peer_id, PeerId::short);
        [id, peer, partition, state, ran, fuel, memory, result, outcome]
    };
    let head = ["execution", "peer", "partition", "state", "ran", "fuel", "memory", "result", "outcome"];
    Rows::new(head, executions.iter().map(row))
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
