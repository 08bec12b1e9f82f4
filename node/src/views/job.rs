//! Jobs, executions and events as `job describe`, `executions` and `history` show them.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shoal_protocol::id::{BlobHash, ExecutionId, JobId, PeerId};
use shoal_protocol::record::{
    Event, ExecutionRecord, ExecutionState, InputRecord, JobRecord, JobState, Publication, Step,
};
use shoal_protocol::time::Time;

use super::time::{nanos, rfc3339};
use super::verification::{self, VerificationView, exit_code};
use crate::query::ResultInfo;

/// A job, with all that is known of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobView {
    /// Its id.
    #[serde(rename = "JobID")]
    pub job_id: JobId,
    /// What people call it: its name, or its id.
    pub name: String,
    /// What it is doing.
    pub state: JobState,
    /// Why; empty when there is nothing to say.
    pub state_reason: String,
    /// The exit code: the largest of its partitions'; none before all are believed.
    pub exit_code: Option<i32>,
    /// Number of partitions.
    pub count: u32,
    /// When it was submitted, in nanoseconds.
    pub create_time: u64,
    /// When it last changed, in nanoseconds.
    pub modify_time: u64,
    /// What was submitted, complete with defaults.
    pub spec: Value,
    /// What its inputs turned out to be.
    pub inputs: Vec<InputView>,
    /// Its executions, by partition and attempt.
    pub executions: Vec<ExecutionView>,
    /// What is believed, and why.
    pub verification: VerificationView,
    /// Where its result is.
    pub result: Option<ResultView>,
}

/// A row of the job list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobSummary {
    /// Its id.
    #[serde(rename = "JobID")]
    pub job_id: JobId,
    /// What people call it.
    pub name: String,
    /// The type of its engine.
    pub engine: String,
    /// Its type.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What its result is believed by: `quorum`, or `none`.
    #[serde(default)]
    pub verification: String,
    /// What it is doing.
    pub state: JobState,
    /// Why.
    pub state_reason: String,
    /// When it was submitted, in nanoseconds.
    pub create_time: u64,
}

/// What an input turned out to be when the job was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InputView {
    /// Where the program finds it.
    pub target: String,
    /// The type of its source.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What exactly was read.
    pub origin: String,
    /// Its hash; none if it differs between partitions.
    pub hash: Option<BlobHash>,
    /// Its bytes; those of all its parts, if it is divided.
    pub bytes: u64,
    /// Number of its parts: one, or one for each partition; none if workers read it.
    pub parts: u32,
    /// Who read it: `requester`, or `worker`.
    pub read_by: String,
}

/// An execution.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecutionView {
    /// Its id.
    #[serde(rename = "ExecutionID")]
    pub execution_id: ExecutionId,
    /// Who runs it.
    #[serde(rename = "PeerID")]
    pub peer_id: PeerId,
    /// What it is doing.
    pub state: ExecutionState,
    /// Which partition it runs.
    pub partition_index: u32,
    /// Which attempt at the partition it is.
    pub attempt: u32,
    /// How the program ended, in words.
    pub outcome: Option<String>,
    /// Its exit code; 1 for a trap.
    pub exit_code: Option<i32>,
    /// The hash of its result.
    pub result_hash: Option<BlobHash>,
    /// The hash of what of its result is compared; none before that is known.
    #[serde(default)]
    pub compared_hash: Option<BlobHash>,
    /// The size of its result.
    pub result_bytes: Option<u64>,
    /// How long the program ran, in milliseconds.
    pub run_millis: Option<u64>,
    /// Fuel that it used, as its worker says; so are the next four.
    pub fuel_used: Option<u64>,
    /// The most memory that it held at once, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Host calls that it made.
    pub host_calls: Option<u64>,
    /// The digest of those calls, in hexadecimal: the same wherever an invocation is run honestly.
    pub host_calls_digest: Option<String>,
    /// What the sources held that the worker read itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs_read: Vec<BlobHash>,
    /// Where a trap happened.
    pub backtrace: Option<String>,
    /// Why it is no vote.
    pub failure: Option<String>,
    /// When it was awarded, in nanoseconds.
    pub create_time: u64,
    /// When it last changed, in nanoseconds.
    pub modify_time: u64,
}

/// Where a result is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResultView {
    /// The root hash of its collection; none if that cannot be put together any more.
    pub hash: Option<BlobHash>,
    /// A blob ticket, for anybody who is to fetch it.
    pub ticket: Option<String>,
    /// Until when its node keeps it, as RFC 3339 text.
    #[serde(default)]
    pub kept_until: String,
    /// Where else it was published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<PublishedView>,
}

/// Where the result of a partition was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishedView {
    /// Which partition's result it is.
    pub partition_index: u32,
    /// The publisher's type.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The execution whose result it is.
    #[serde(rename = "ExecutionID")]
    pub execution_id: ExecutionId,
    /// A source of inputs, as it is.
    #[serde(rename = "URI")]
    pub uri: String,
    /// More about it.
    pub details: BTreeMap<String, String>,
}

/// Something that happened to a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventView {
    /// Its place in the job's history, from 0.
    pub sequence: u32,
    /// When, as RFC 3339 text.
    pub time: String,
    /// Which step of the path.
    pub step: Step,
    /// The execution concerned.
    #[serde(rename = "ExecutionID")]
    pub execution_id: Option<ExecutionId>,
    /// The peer concerned.
    #[serde(rename = "PeerID")]
    pub peer_id: Option<PeerId>,
    /// More, for a person.
    pub detail: String,
}

impl JobView {
    /// The view of a job and its executions.
    pub fn new(job: &JobRecord, executions: &[ExecutionRecord], result: Option<ResultInfo>) -> Self {
        let spec = spec(job);
        let result = result.map(|result| ResultView::new(result, &spec));
        let verification = VerificationView::new(job, &spec, executions);
        Self {
            job_id: job.job,
            name: name(job, &spec),
            state: job.state,
            state_reason: job.reason.clone(),
            exit_code: exit_code(&verification.partitions),
            count: job.submission.partitions,
            create_time: nanos(job.created),
            modify_time: nanos(job.modified),
            inputs: job.submission.inputs.iter().map(InputView::from).collect(),
            executions: executions.iter().map(ExecutionView::from).collect(),
            verification,
            result,
            spec,
        }
    }

    /// The exit code for people: a program that was stopped has none of its own, so they are told why.
    pub fn exit_in_words(&self) -> Option<String> {
        let code = self.exit_code?;
        let mut agreed = self.executions.iter().filter(|one| one.state == ExecutionState::Agreed);
        let trap = agreed.find_map(|one| one.outcome.as_ref().filter(|outcome| outcome.starts_with("trapped")));
        let trap = trap.filter(|_| code == 1).map(|trap| format!(" ({trap})")).unwrap_or_default();
        Some(format!("{code}{trap}"))
    }

    /// Whether it has a believed result and every program ended well.
    pub fn is_success(&self) -> bool {
        self.state == JobState::Completed && self.exit_code == Some(0)
    }
}

impl From<&JobRecord> for JobSummary {
    fn from(job: &JobRecord) -> Self {
        let spec = spec(job);
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            job_id: job.job,
            name: name(job, &spec),
            engine: text(spec.pointer("/Tasks/0/Engine/Type")),
            kind: text(spec.get("Type")),
            verification: verification::kind(job, &spec),
            state: job.state,
            state_reason: job.reason.clone(),
            create_time: nanos(job.created),
        }
    }
}

impl From<&InputRecord> for InputView {
    fn from(input: &InputRecord) -> Self {
        Self {
            target: input.target.clone(),
            kind: input.kind.clone(),
            origin: input.origin.clone(),
            hash: input.content.map(|content| content.hash),
            bytes: input.bytes,
            parts: input.parts,
            read_by: if input.parts == 0 { "worker" } else { "requester" }.into(),
        }
    }
}

impl From<&ExecutionRecord> for ExecutionView {
    fn from(execution: &ExecutionRecord) -> Self {
        let claim = execution.revealed.map(|(claim, _)| claim);
        let account = execution.account.as_ref();
        Self {
            execution_id: execution.execution,
            peer_id: execution.worker,
            state: execution.state,
            partition_index: execution.partition,
            attempt: execution.attempt,
            outcome: claim.map(|claim| claim.outcome.to_string()),
            exit_code: claim.map(|claim| claim.outcome.exit_code()),
            result_hash: execution.result(),
            compared_hash: execution.compared,
            result_bytes: execution.revealed.map(|(_, bytes)| bytes),
            run_millis: execution.committed.map(|(_, millis)| millis),
            fuel_used: account.map(|account| account.fuel),
            peak_memory_bytes: account.map(|account| account.memory_bytes),
            host_calls: account.map(|account| account.calls),
            host_calls_digest: account.map(|account| HEXLOWER.encode(&account.calls_digest)),
            inputs_read: account.map(|account| account.inputs.clone()).unwrap_or_default(),
            backtrace: account.map(|account| account.backtrace.clone()).filter(|frames| !frames.is_empty()),
            failure: execution.failure.as_ref().map(ToString::to_string),
            create_time: nanos(execution.awarded),
            modify_time: nanos(execution.modified),
        }
    }
}

impl ResultView {
    /// The view of a job's result; the publisher is in the job's specification.
    pub fn new(result: ResultInfo, spec: &Value) -> Self {
        let publisher = spec.pointer("/Tasks/0/Publisher/Type").and_then(Value::as_str).unwrap_or_default();
        let view = |publication: Publication| PublishedView {
            partition_index: publication.partition,
            kind: publisher.to_owned(),
            execution_id: publication.execution,
            uri: publication.published.uri,
            details: publication.published.details,
        };
        let published = result.published.into_iter().map(view).collect();
        let kept_until = rfc3339(result.kept_until);
        Self { hash: result.hash, ticket: result.ticket, kept_until, published }
    }
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        Self {
            sequence: event.sequence,
            time: rfc3339(event.at),
            step: event.step,
            execution_id: event.execution,
            peer_id: event.peer,
            detail: event.detail.clone(),
        }
    }
}

/// The moment of a view, back from its nanoseconds.
pub fn moment(nanos: u64) -> Time {
    Time(nanos / 1_000_000)
}

/// What was submitted. It was serialized here, so that text which is not JSON is shown rather than lost.
fn spec(job: &JobRecord) -> Value {
    serde_json::from_str(&job.submission.spec).unwrap_or_else(|_| Value::String(job.submission.spec.clone()))
}

fn name(job: &JobRecord, spec: &Value) -> String {
    let given = spec.get("Name").and_then(Value::as_str).filter(|name| !name.is_empty());
    given.map_or_else(|| job.job.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use shoal_protocol::commitment::Commitment;
    use shoal_protocol::job::spec::NetworkKind;
    use shoal_protocol::message::{Contact, ExecutorKind, Needs, Resources};
    use shoal_protocol::record::{Placement, Policy, Published, Submission};
    use shoal_protocol::task::{Claim, Failure, Outcome, Trap};

    use super::*;

    fn job(agreement: u32, partitions: u32, placement: Placement) -> JobRecord {
        let needs = Needs {
            executor: ExecutorKind::Wasm,
            profile: "wasm-1".into(),
            resources: Resources::default(),
            inputs: Vec::new(),
            input_bytes: 0,
            constraints: Vec::new(),
            sources: Vec::new(),
            image: None,
            network: NetworkKind::None,
            image_name: String::new(),
            data: 0,
            data_bits: 0,
        };
        let submission = Submission {
            spec: r#"{"Name": "count", "Type": "batch", "Tasks": [{"Engine": {"Type": "wasm"}}]}"#.into(),
            nonce: 1,
            work: Vec::new(),
            needs,
            partitions,
            policy: Policy { agreement, executions: 3, max_executions: 7 },
            priority: 0,
            queue_timeout_ms: 0,
            total_timeout_ms: 0,
            output_bytes: 0,
            placement,
            publishes: false,
            retention_ms: 86_400_000,
            inputs: Vec::new(),
        };
        JobRecord {
            job: JobId([1; 16]),
            submission,
            created: Time(1_000),
            modified: Time(2_000),
            state: JobState::Completed,
            reason: String::new(),
            events: 0,
            rounds: 1,
        }
    }

    fn execution(partition: u32, attempt: u8, state: ExecutionState, outcome: Outcome) -> ExecutionRecord {
        let letter = if state == ExecutionState::Dissented { 9 } else { 5 };
        ExecutionRecord {
            job: JobId([1; 16]),
            execution: ExecutionId([attempt; 16]),
            partition,
            attempt: attempt.into(),
            worker: PeerId([attempt; 32]),
            contact: Contact::default(),
            group: None,
            state,
            awarded: Time(1_100),
            modified: Time(1_900),
            committed: Some((Commitment([0; 32]), 12)),
            revealed: Some((Claim { outcome, result: BlobHash([letter; 32]) }, 64)),
            account: None,
            evidence: Vec::new(),
            failure: None,
            compared: Some(BlobHash([letter; 32])),
        }
    }

    const DONE: Outcome = Outcome::Exited(0);

    #[test]
    fn a_verified_job_names_its_result_and_its_dissenter() {
        let executions = [
            execution(0, 1, ExecutionState::Agreed, DONE),
            execution(0, 2, ExecutionState::Agreed, DONE),
            execution(0, 3, ExecutionState::Dissented, DONE),
        ];
        let view = JobView::new(&job(2, 1, Placement::Mesh), &executions, None);
        let verification = &view.verification;
        assert!(view.is_success() && verification.verified);
        assert_eq!((verification.agreed, verification.dissented), (2, 1));
        assert_eq!(verification.dissenters, [PeerId([3; 32])]);
        assert_eq!(verification.result_hash, Some(BlobHash([5; 32])));
    }

    #[test]
    fn one_execution_or_one_node_verifies_nothing() {
        let executions = [execution(0, 1, ExecutionState::Agreed, DONE), execution(0, 2, ExecutionState::Agreed, DONE)];
        assert!(!JobView::new(&job(1, 1, Placement::Mesh), &executions[..1], None).verification.verified);
        assert!(!JobView::new(&job(2, 1, Placement::Here), &executions, None).verification.verified);
        assert!(!JobView::new(&job(2, 1, Placement::Mesh), &executions[..1], None).verification.verified);
    }

    #[test]
    fn a_job_is_verified_when_every_partition_is() {
        let mut executions =
            vec![execution(0, 1, ExecutionState::Agreed, DONE), execution(0, 2, ExecutionState::Agreed, DONE)];
        let view = JobView::new(&job(2, 2, Placement::Mesh), &executions, None);
        assert!(!view.verification.verified && view.exit_code.is_none());

        let trap = Outcome::Trapped(Trap::Unreachable);
        executions.extend([3, 4].map(|attempt| execution(1, attempt, ExecutionState::Agreed, trap)));
        let view = JobView::new(&job(2, 2, Placement::Mesh), &executions, None);
        assert!(view.verification.verified);
        assert_eq!((view.exit_code, view.is_success()), (Some(1), false));
        assert_eq!(view.exit_in_words().as_deref(), Some("1 (trapped: unreachable code reached)"));
        assert_eq!(view.verification.result_hash, None);
    }

    #[test]
    fn the_keys_that_scripts_rely_on_are_there() {
        let mut failed = execution(0, 1, ExecutionState::Failed, DONE);
        (failed.revealed, failed.failure) = (None, Some(Failure::Lost));
        let published = Published { uri: "s3://b/k".into(), details: BTreeMap::new() };
        let publication = Publication { job: JobId([1; 16]), partition: 0, execution: ExecutionId([1; 16]), published };
        let (hash, ticket) = (Some(BlobHash([5; 32])), Some("blob…".into()));
        let result = ResultInfo { hash, kept_until: Time(86_402_000), ticket, published: vec![publication] };
        let json = serde_json::to_value(JobView::new(&job(2, 1, Placement::Mesh), &[failed], Some(result))).unwrap();
        let keys = ["JobID", "State", "StateReason", "Spec", "Inputs", "Executions", "Verification", "Result"];
        let of_execution = ["ExecutionID", "PeerID", "State", "ResultHash", "ExitCode", "PartitionIndex", "Failure"];
        let of_verification = ["Type", "Agreed", "Dissented", "ResultHash", "Verified"];
        let tables: [(&str, &[&str]); 5] = [
            ("", &keys),
            ("/Executions/0", &of_execution),
            ("/Verification", &of_verification),
            ("/Result", &["Hash", "Ticket", "KeptUntil", "Published"]),
            ("/Result/Published/0", &["PartitionIndex", "Type", "URI", "Details"]),
        ];
        for (place, keys) in tables {
            let object = json.pointer(place).and_then(Value::as_object).unwrap();
            keys.iter().for_each(|key| assert!(object.contains_key(*key), "{place}/{key}"));
        }
        assert_eq!(json["Result"]["KeptUntil"], "1970-01-02T00:00:02.000Z");
        assert_eq!(json["State"], "Completed");
        assert_eq!(json["JobID"], "j-01010101010101010101010101010101");
        assert_eq!(json["CreateTime"], 1_000_000_000_u64);
        assert_eq!(json["Executions"][0]["State"], "Failed");
        assert_eq!(json["Executions"][0]["ExitCode"], Value::Null);
        serde_json::from_value::<JobView>(json).unwrap();
    }

    #[test]
    fn a_row_of_the_list_knows_name_engine_and_type() {
        let row = JobSummary::from(&job(2, 1, Placement::Mesh));
        assert_eq!((row.name.as_str(), row.engine.as_str(), row.kind.as_str()), ("count", "wasm", "batch"));
        assert_eq!(row.verification, "quorum");
        assert_eq!(JobSummary::from(&job(1, 1, Placement::Here)).verification, "none");
    }
}
