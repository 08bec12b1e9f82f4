//! Where two runs part, as the API tells it.

use serde::{Deserialize, Serialize};
use shoal_protocol::id::{BlobHash, ExecutionId, PeerId};
use shoal_protocol::trace::{Checkpoint, Finding, Rerun};

use crate::diff::Diff;

/// Where the run of an execution parts from the node's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DiffView {
    /// Which partition.
    pub partition_index: u32,
    /// The execution.
    #[serde(rename = "ExecutionID")]
    pub execution_id: ExecutionId,
    /// Its worker.
    #[serde(rename = "PeerID")]
    pub peer_id: PeerId,
    /// Whether the run there is the same as here: outcome, result, calls and memory.
    pub same: bool,
    /// Whether the run there came to what the worker had revealed.
    pub as_revealed: bool,
    /// What came of it on this node.
    pub here: RunView,
    /// What came of it at the worker.
    pub there: RunView,
    /// Among the host calls.
    pub host_calls: FindingView,
    /// Among the checkpoints.
    pub checkpoints: FindingView,
}

/// What came of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunView {
    /// How the program ended, in words.
    pub outcome: String,
    /// The hash of its result.
    pub result_hash: BlobHash,
    /// Fuel that it used.
    pub fuel_used: u64,
    /// Host calls that it made.
    pub host_calls: u64,
    /// Checkpoints that it passed.
    pub checkpoints: u64,
    /// The first call that differs: name, arguments, bytes moved, result. None if there is no such call in this run.
    pub call: Option<String>,
    /// The first checkpoint that differs. None if there is no such checkpoint in this run.
    pub checkpoint: Option<CheckpointView>,
}

/// Where a program was at a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckpointView {
    /// Fuel used until then.
    pub fuel_used: u64,
    /// Host calls made until then.
    pub host_calls: u64,
    /// Size of its memory, in bytes.
    pub memory_bytes: u64,
    /// The functions that it was in, innermost first, a line each.
    pub backtrace: String,
}

/// What a search came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum FindingView {
    /// There is no difference.
    Same,
    /// The first that differs, counted from 0.
    First(u64),
    /// One of the two runs did not do again what it had done before.
    Unsteady,
}

impl From<&Diff> for DiffView {
    fn from(diff: &Diff) -> Self {
        Self {
            partition_index: diff.partition,
            execution_id: diff.execution,
            peer_id: diff.worker,
            same: diff.is_same(),
            as_revealed: diff.as_revealed,
            here: RunView::from(&diff.here),
            there: RunView::from(&diff.there),
            host_calls: diff.calls.into(),
            checkpoints: diff.checkpoints.into(),
        }
    }
}

impl From<&Rerun> for RunView {
    fn from(run: &Rerun) -> Self {
        Self {
            outcome: run.claim.outcome.to_string(),
            result_hash: run.claim.result,
            fuel_used: run.account.fuel,
            host_calls: run.account.calls,
            checkpoints: run.trace.checkpoints_passed,
            call: run.trace.call.clone(),
            checkpoint: run.trace.checkpoint.as_ref().map(CheckpointView::from),
        }
    }
}

impl From<&Checkpoint> for CheckpointView {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self {
            fuel_used: checkpoint.fuel,
            host_calls: checkpoint.calls,
            memory_bytes: checkpoint.memory_bytes,
            backtrace: checkpoint.backtrace.clone(),
        }
    }
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> Self {
        match finding {
            Finding::Same => FindingView::Same,
            Finding::First(first) => FindingView::First(first),
            // A search that has ended looks into nothing any more.
            Finding::Unsteady | Finding::Within(_) => FindingView::Unsteady,
        }
    }
}
