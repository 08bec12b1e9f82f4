//! What is believed of a job and of each of its partitions, and why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::record::{ExecutionRecord, ExecutionState, JobRecord, Placement};
use shoal_protocol::task::Work;
use shoal_protocol::wire;

/// What is believed of a job, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VerificationView {
    /// `quorum` or `none`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Independent executions that must agree.
    pub agreement: u32,
    /// How many are started at once.
    pub executions: u32,
    /// How many dissent may buy.
    pub max_executions: u32,
    /// What of two results must agree: `all`, `outputs`, or one part. The rest is one execution's word.
    #[serde(default)]
    pub compare: String,
    /// The module that says whether two results agree that are not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<BlobHash>,
    /// Executions that agree with the result, over all partitions.
    pub agreed: u32,
    /// Executions that do not.
    pub dissented: u32,
    /// Who does not.
    pub dissenters: Vec<PeerId>,
    /// The believed result's hash; with several partitions see [`Self::partitions`].
    pub result_hash: Option<BlobHash>,
    /// Whether independent executions agree on every partition.
    pub verified: bool,
    /// Whether workers read inputs themselves, so that they may have run on different ones.
    pub read_by_workers: bool,
    /// Whether executions of one partition did run on different ones, as their workers say.
    pub inputs_differ: bool,
    /// The same for each partition.
    pub partitions: Vec<PartitionView>,
}

/// What is believed of a partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PartitionView {
    /// Which.
    pub partition_index: u32,
    /// Executions that agree with the result.
    pub agreed: u32,
    /// Executions that do not.
    pub dissented: u32,
    /// The believed result's hash.
    pub result_hash: Option<BlobHash>,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// Whether independent executions agree.
    pub verified: bool,
}

impl VerificationView {
    pub(super) fn new(job: &JobRecord, spec: &Value, executions: &[ExecutionRecord]) -> Self {
        let policy = job.submission.policy;
        let needed = is_independent(job).then_some(policy.agreement);
        let partitions: Vec<PartitionView> =
            (0..job.submission.partitions).map(|index| PartitionView::new(index, executions, needed)).collect();
        let dissenters = executions.iter().filter(|one| one.state == ExecutionState::Dissented);
        Self {
            kind: kind(job, spec),
            agreement: policy.agreement,
            executions: policy.executions,
            max_executions: policy.max_executions,
            validator: wire::parse::<Work>(&job.submission.work).ok().and_then(|work| work.validator),
            compare: spec.pointer("/Verification/Compare").and_then(Value::as_str).unwrap_or("all").to_owned(),
            agreed: partitions.iter().map(|partition| partition.agreed).sum(),
            dissented: partitions.iter().map(|partition| partition.dissented).sum(),
            dissenters: dissenters.map(|one| one.worker).collect(),
            result_hash: match partitions.as_slice() {
                [only] => only.result_hash,
                _ => None,
            },
            verified: !partitions.is_empty() && partitions.iter().all(|partition| partition.verified),
            read_by_workers: job.submission.inputs.iter().any(|input| input.parts == 0),
            inputs_differ: (0..job.submission.partitions).any(|index| inputs_differ(index, executions)),
            partitions,
        }
    }

    /// Whether the result is verified, and by what.
    pub fn in_words(&self) -> String {
        match (self.read_by_workers, self.inputs_differ) {
            (false, _) => self.agreement_in_words(),
            (true, false) => format!("{}; each worker read inputs itself", self.agreement_in_words()),
            (true, true) => {
                format!("{}; each worker read inputs itself, and not all read the same", self.agreement_in_words())
            }
        }
    }

    fn agreement_in_words(&self) -> String {
        let (agreed, votes) = (self.agreed, self.agreed + self.dissented);
        match (self.verified, agreed) {
            (true, _) => format!("yes: {agreed} of {votes} executions agree{}", self.compared_in_words()),
            (false, 0) => "no: there is no believed result".into(),
            (false, _) if self.agreement < 2 => "no: one execution verifies nothing".into(),
            (false, _) => format!("no: {agreed} of {votes} executions agree, {} must", self.agreement),
        }
    }

    /// On what they agree, if that is not everything.
    fn compared_in_words(&self) -> String {
        let compared = match self.compare.as_str() {
            "" | "all" => String::new(),
            "outputs" => " on the result paths; what was printed is one execution's word".into(),
            part => format!(" on {part}; the rest is one execution's word"),
        };
        let judge = self.validator.map(|hash| format!(", says validator {},", hash.short())).unwrap_or_default();
        format!("{judge}{compared}").trim_end_matches(',').to_owned()
    }
}

impl PartitionView {
    /// The view of one partition; `needed` executions must agree, if any number of them verifies something.
    fn new(index: u32, executions: &[ExecutionRecord], needed: Option<u32>) -> Self {
        let here = || executions.iter().filter(|one| one.partition == index);
        let mut states: BTreeMap<ExecutionState, u32> = BTreeMap::new();
        here().for_each(|one| *states.entry(one.state).or_default() += 1);
        let count = |state| states.get(&state).copied().unwrap_or_default();
        let claim = here().find(|one| one.is_believed()).and_then(ExecutionRecord::claim);
        Self {
            partition_index: index,
            agreed: count(ExecutionState::Agreed),
            dissented: count(ExecutionState::Dissented),
            result_hash: claim.map(|claim| claim.result),
            exit_code: claim.map(|claim| claim.outcome.exit_code()),
            verified: needed.is_some_and(|needed| count(ExecutionState::Agreed) >= needed),
        }
    }
}

/// What results of a job are believed by: `quorum`, or `none`.
pub(super) fn kind(job: &JobRecord, spec: &Value) -> String {
    let usual = if is_independent(job) { "quorum" } else { "none" };
    spec.pointer("/Verification/Type").and_then(Value::as_str).unwrap_or(usual).to_owned()
}

/// Whether more than one has to agree, each on a machine of its own.
fn is_independent(job: &JobRecord) -> bool {
    job.submission.policy.agreement > 1 && job.submission.placement == Placement::Mesh
}

/// Whether executions of a partition read different inputs.
fn inputs_differ(index: u32, executions: &[ExecutionRecord]) -> bool {
    let here = executions.iter().filter(|one| one.partition == index);
    let mut read = here.filter_map(|one| one.account.as_ref()).map(|account| &account.inputs);
    let first = read.next();
    read.any(|inputs| Some(inputs) != first)
}

/// A failure of one partition is a failure of the job: the code that is farthest from success.
pub(super) fn exit_code(partitions: &[PartitionView]) -> Option<i32> {
    let codes: Option<Vec<i32>> = partitions.iter().map(|partition| partition.exit_code).collect();
    codes?.into_iter().max_by_key(|code| code.unsigned_abs())
}
