//! A partition that was run again, as the API tells it.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use shoal_protocol::id::{BlobHash, ExecutionId, PeerId};
use shoal_protocol::record::ExecutionState;

use crate::replay::{Compared, Difference, Replay};

/// What came of running a partition again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReplayView {
    /// Which partition.
    pub partition_index: u32,
    /// How the program ended here, in words.
    pub outcome: String,
    /// Its exit code; 1 for a trap.
    pub exit_code: i32,
    /// The hash of its result here.
    pub result_hash: BlobHash,
    /// How long it ran, in milliseconds.
    pub run_millis: u64,
    /// Fuel that it used.
    pub fuel_used: u64,
    /// The most memory that it held at once, in bytes.
    pub peak_memory_bytes: u64,
    /// Host calls that it made.
    pub host_calls: u64,
    /// The digest of those calls, in hexadecimal.
    pub host_calls_digest: String,
    /// Whether the believed result is the same; none if no result is believed.
    pub agrees: Option<bool>,
    /// The executions that revealed something.
    pub executions: Vec<ComparedView>,
}

/// What an execution revealed, beside that.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ComparedView {
    /// The execution.
    #[serde(rename = "ExecutionID")]
    pub execution_id: ExecutionId,
    /// Its worker.
    #[serde(rename = "PeerID")]
    pub peer_id: PeerId,
    /// What became of it.
    pub state: ExecutionState,
    /// Whether the outcome is the same, and what the job compares of the result.
    pub same_result: bool,
    /// Whether the program made the same host calls, as the worker says.
    pub same_host_calls: bool,
    /// Files in which the results differ; none if they are not here to be compared.
    pub differences: Option<Vec<DifferenceView>>,
}

/// A file in which two results differ.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DifferenceView {
    /// Its name in the result.
    pub name: String,
    /// The first byte that differs; none if only one of them has the file.
    pub offset: Option<u64>,
}

impl From<&Replay> for ReplayView {
    fn from(replay: &Replay) -> Self {
        let believed = replay.executions.iter().find(|one| one.state == ExecutionState::Agreed);
        Self {
            partition_index: replay.partition,
            outcome: replay.claim.outcome.to_string(),
            exit_code: replay.claim.outcome.exit_code(),
            result_hash: replay.claim.result,
            run_millis: replay.run_ms,
            fuel_used: replay.account.fuel,
            peak_memory_bytes: replay.account.memory_bytes,
            host_calls: replay.account.calls,
            host_calls_digest: HEXLOWER.encode(&replay.account.calls_digest),
            agrees: believed.map(|one| one.same_result),
            executions: replay.executions.iter().map(ComparedView::from).collect(),
        }
    }
}

impl From<&Compared> for ComparedView {
    fn from(compared: &Compared) -> Self {
        let differences = compared.differences.as_ref();
        Self {
            execution_id: compared.execution,
            peer_id: compared.worker,
            state: compared.state,
            same_result: compared.same_result,
            same_host_calls: compared.same_calls,
            differences: differences.map(|found| found.iter().map(DifferenceView::from).collect()),
        }
    }
}

impl From<&Difference> for DifferenceView {
    fn from(difference: &Difference) -> Self {
        Self { name: difference.name.clone(), offset: difference.offset }
    }
}
