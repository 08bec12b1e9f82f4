//! What a node may not forget: the states of jobs and executions, and what happened to them.
//!
//! A record is saved before the message that it causes is sent. Rebuilding the machine from its records is the
//! whole of recovery.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::commitment::{Commitment, Salt};
use crate::id::{BlobHash, ExecutionId, JobId, PeerId};
use crate::job::spec::{InputSource, Verification, VerificationKind};
use crate::limits::{MAX_ORIGIN_BYTES, MAX_PUBLISHED_DETAILS, MAX_TEXT_BYTES, MAX_URI_BYTES};
use crate::message::{Contact, ExecutorKind, Needs, Resources};
use crate::task::{Account, Claim, Content, Failure, Work};
use crate::time::{Millis, Time};
use crate::verdict::Vote;
use crate::{text, wire};

/// Something to save; it replaces what was saved under the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A job of this node.
    Job(Box<JobRecord>),
    /// An execution of one of this node's jobs, by another node.
    Execution(Box<ExecutionRecord>),
    /// Something that happened to a job of this node.
    Event(Event),
    /// An execution that this node does for another.
    Held(Box<HeldRecord>),
    /// Where a result of a job of this node was published.
    Publication(Box<Publication>),
    /// What this node thinks of a peer.
    Standing(PeerId, Standing),
}

/// A job, as its requester keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id.
    pub job: JobId,
    /// What was submitted.
    pub submission: Submission,
    /// When it was submitted.
    pub created: Time,
    /// When it last changed.
    pub modified: Time,
    /// What it is doing.
    pub state: JobState,
    /// Why it is in this state, for a person; empty when there is nothing to say.
    pub reason: String,
    /// Number of events so far.
    pub events: u32,
    /// Rounds of bidding so far.
    pub rounds: u32,
}

/// What a node is asked to get done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The specification as a person wrote it, completed with defaults: JSON text, opaque to the protocol.
    pub spec: String,
    /// Drawn by the submitting node; makes the job's id its own.
    pub nonce: u64,
    /// The encoded [`Work`].
    pub work: Vec<u8>,
    /// What a worker must offer.
    pub needs: Needs,
    /// Number of partitions, at least 1.
    pub partitions: u32,
    /// When a result is believed.
    pub policy: Policy,
    /// Higher goes first among the jobs of one requester.
    pub priority: i64,
    /// How long the job may wait for workers, in milliseconds after it was submitted; 0 to ask a few times only.
    pub queue_timeout_ms: Millis,
    /// How long the job may take, in milliseconds after it was submitted; 0 for no limit.
    pub total_timeout_ms: Millis,
    /// The most that one result can hold, in bytes.
    pub output_bytes: u64,
    /// Who runs it.
    pub placement: Placement,
    /// Whether results go somewhere else once they are here.
    pub publishes: bool,
    /// How long results are kept after the job's end, in milliseconds.
    pub retention_ms: Millis,
    /// What the inputs turned out to be, in the order of the specification: for people.
    pub inputs: Vec<InputRecord>,
}

/// What an input of a job turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// Where the program finds it.
    pub target: String,
    /// The type of its source.
    pub kind: String,
    /// What exactly was read, for a person; at most [`MAX_ORIGIN_BYTES`] bytes.
    pub origin: String,
    /// The content; none if it differs between partitions.
    pub content: Option<Content>,
    /// Bytes of all its parts together.
    pub bytes: u64,
    /// Number of parts: one, or one for each partition.
    pub parts: u32,
}

/// Who runs a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// Peers, after an auction; where nobody verifies, at last this node as well.
    Mesh,
    /// This node itself, for want of a mesh: whatever it allows others.
    Here,
}

/// When a result is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Independent executions that must agree, at least 1. One verifies nothing.
    pub agreement: u32,
    /// How many are started at once, at least `agreement`.
    pub executions: u32,
    /// How many votes dissent may buy, at least `executions`.
    pub max_executions: u32,
}

impl Policy {
    /// What a specification asks for, where it can be had: agreeing with oneself verifies nothing.
    pub fn new(verification: &Verification, placement: Placement) -> Self {
        let &Verification { kind, agreement, executions, max_executions, .. } = verification;
        match (kind, placement) {
            (VerificationKind::Quorum, Placement::Mesh) => Self { agreement, executions, max_executions },
            (VerificationKind::None, _) | (_, Placement::Here) => {
                Self { agreement: 1, executions: 1, max_executions: 1 }
            }
        }
    }
}

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JobState {
    /// Announced for the first time.
    Pending,
    /// Waiting for workers that are busy or not there yet.
    Queued,
    /// At least one execution was awarded.
    Running,
    /// Every partition has a believed result, and it is here.
    Completed,
    /// It will not get a result; the reason says why.
    Failed,
    /// Its owner stopped it.
    Stopped,
}

/// An execution, as the job's requester keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionRecord {
    /// The job.
    pub job: JobId,
    /// Its id.
    pub execution: ExecutionId,
    /// Which partition it runs.
    pub partition: u32,
    /// Which attempt at the partition it is, from 0.
    pub attempt: u32,
    /// Who runs it.
    pub worker: PeerId,
    /// Where the worker said it can be reached.
    pub contact: Contact,
    /// The group of workers that are not independent of this one; none if it stands for itself.
    pub group: Option<String>,
    /// What it is doing.
    pub state: ExecutionState,
    /// When it was awarded.
    pub awarded: Time,
    /// When its state last changed.
    pub modified: Time,
    /// Its seal, and how long the run took in milliseconds.
    pub committed: Option<(Commitment, Millis)>,
    /// What it revealed, and the size of its result in bytes.
    pub revealed: Option<(Claim, u64)>,
    /// What it said of its run when it revealed.
    pub account: Option<Account>,
    /// The signed message that revealed it: evidence.
    pub evidence: Vec<u8>,
    /// Why it is no vote; of one that agreed, why its result does not stand for those that did.
    pub failure: Option<Failure>,
    /// What of its result is compared, as the hash of a folder with that alone; none before that is known.
    pub compared: Option<BlobHash>,
}

/// What an execution is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ExecutionState {
    /// Its worker was told.
    Awarded,
    /// Its worker fetches modules and inputs.
    Fetching,
    /// Its worker gets the image of a container.
    Preparing,
    /// The program runs.
    Running,
    /// Its answer is sealed.
    Committed,
    /// Its answer is open.
    Revealed,
    /// Its answer is the result.
    Agreed,
    /// Its answer is not the result.
    Dissented,
    /// It is no vote.
    Failed,
    /// It was not wanted any more.
    Cancelled,
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The job.
    pub job: JobId,
    /// Its place in the job's history, from 0.
    pub sequence: u32,
    /// When.
    pub at: Time,
    /// Which step of the path.
    pub step: Step,
    /// The execution concerned.
    pub execution: Option<ExecutionId>,
    /// The peer concerned.
    pub peer: Option<PeerId>,
    /// More, for a person.
    pub detail: String,
}

/// The steps of a job's path that its history tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// The job was saved.
    Submit,
    /// Peers were asked.
    Announce,
    /// A peer offered.
    Bid,
    /// A peer told why it does not offer.
    Refuse,
    /// Too few offers: the job waits.
    Queue,
    /// A worker was picked.
    Award,
    /// A worker fetches.
    Fetch,
    /// A worker gets the image of a container.
    Prepare,
    /// A worker runs the program.
    Execute,
    /// A worker sealed its answer.
    Commit,
    /// A worker opened its answer.
    Reveal,
    /// An execution ended without a vote.
    Fail,
    /// Answers were compared.
    Verify,
    /// The result was fetched.
    Result,
    /// The result was published.
    Publish,
    /// The job ended.
    End,
}

/// The result of one partition, published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The job.
    pub job: JobId,
    /// Which partition's result it is.
    pub partition: u32,
    /// The execution whose result it is.
    pub execution: ExecutionId,
    /// Where it is.
    pub published: Published,
}

/// Where a result is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its address, which is a source of inputs as it is; at most [`MAX_URI_BYTES`] bytes.
    pub uri: String,
    /// More about it: checksums, versions. At most [`MAX_PUBLISHED_DETAILS`] of at most [`MAX_TEXT_BYTES`] bytes.
    pub details: BTreeMap<String, String>,
}

/// An execution that this node does for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRecord {
    /// The job.
    pub job: JobId,
    /// The execution.
    pub execution: ExecutionId,
    /// Whose job it is.
    pub requester: PeerId,
    /// Where the requester said it can be reached.
    pub contact: Contact,
    /// Which partition it runs.
    pub partition: u32,
    /// The encoded [`Work`].
    pub work: Vec<u8>,
    /// What it may use.
    pub resources: Resources,
    /// When it was awarded.
    pub awarded: Time,
    /// The answer, once there is one.
    pub answer: Option<Answer>,
}

/// A worker's answer, and what seals it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What came of the run.
    pub claim: Claim,
    /// Size of the result, in bytes.
    pub result_bytes: u64,
    /// How long the run took, in milliseconds.
    pub run_ms: Millis,
    /// What it used and called.
    pub account: Account,
    /// The secret of its seal.
    pub salt: Salt,
}

/// What this node thinks of a peer, from what it has seen itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Executions that agreed with the result.
    pub agreed: u32,
    /// Executions that did not.
    pub dissented: u32,
    /// Commitments never opened, or opened falsely; results withheld; dissent that may be chance.
    pub faults: u32,
    /// When it last dissented.
    pub dissented_at: Option<Time>,
    /// Executions of its jobs that it settled.
    pub settled: u32,
    /// Executions of its jobs that it let this node finish, and never settled.
    pub unsettled: u32,
    /// Awards that it had bid for, and did not answer.
    pub unstarted: u32,
    /// Times that it sent something else than the blob it was asked for.
    pub corrupt: u32,
    /// What counts against it, in thousandths, as it was when last noted; it fades.
    pub demerits: u32,
    /// When that was.
    pub noted_at: Time,
}

impl Record {
    /// The job or execution that the record is about, for logs.
    pub fn name(&self) -> String {
        match self {
            Record::Job(job) => job.job.to_string(),
            Record::Execution(execution) => execution.execution.to_string(),
            Record::Event(event) => format!("{}/{}", event.job, event.sequence),
            Record::Held(held) => held.execution.to_string(),
            Record::Publication(publication) => format!("{}/{}", publication.job, publication.partition),
            Record::Standing(peer, _) => peer.short(),
        }
    }
}

impl HeldRecord {
    /// Whether its program may have gone on while the node was away, or have ended by itself: a container outlives the
    /// node that started it.
    pub fn may_have_gone_on(&self) -> bool {
        let work = wire::parse::<Work>(&self.work);
        self.answer.is_none() && work.is_ok_and(|work| work.invocation.engine.kind() == ExecutorKind::Docker)
    }
}

impl JobRecord {
    /// Until when its results are kept; none before it is over.
    pub fn kept_until(&self) -> Option<Time> {
        self.state.is_over().then_some(self.modified + self.submission.retention_ms)
    }
}

impl InputRecord {
    /// Notes what `input` holds.
    pub fn new(input: &InputSource, origin: &str, parts: &[(Content, u64)]) -> Self {
        Self {
            target: input.target.clone(),
            kind: input.source.kind().to_owned(),
            origin: text::beginning(origin, MAX_ORIGIN_BYTES).to_owned(),
            content: if let [(only, _)] = parts { Some(*only) } else { None },
            bytes: parts.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes)),
            parts: u32::try_from(parts.len()).unwrap_or(u32::MAX),
        }
    }
}

impl Published {
    /// Where a result is; nothing if its address is longer than one may be. Details that are too long are left out.
    pub fn new(uri: String, mut details: BTreeMap<String, String>) -> Option<Self> {
        details.retain(|name, value| name.len().max(value.len()) <= MAX_TEXT_BYTES);
        while details.len() > MAX_PUBLISHED_DETAILS {
            details.pop_last();
        }
        (uri.len() <= MAX_URI_BYTES).then_some(Self { uri, details })
    }
}

impl JobState {
    /// Whether nothing more will happen.
    pub fn is_over(self) -> bool {
        matches!(self, JobState::Completed | JobState::Failed | JobState::Stopped)
    }
}

impl ExecutionState {
    /// Whether the worker has yet to commit.
    pub fn is_open(self) -> bool {
        use ExecutionState::{Awarded, Fetching, Preparing, Running};
        matches!(self, Awarded | Fetching | Preparing | Running)
    }

    /// Whether something more is expected of the worker.
    pub fn is_live(self) -> bool {
        self.is_open() || self == ExecutionState::Committed
    }

    /// Whether its answer is known and counts.
    pub fn is_vote(self) -> bool {
        matches!(self, ExecutionState::Revealed | ExecutionState::Agreed | ExecutionState::Dissented)
    }
}

impl ExecutionRecord {
    /// What it revealed, if that counts.
    pub fn claim(&self) -> Option<Claim> {
        self.revealed.filter(|_| self.state.is_vote()).map(|(claim, _)| claim)
    }

    /// The vote, if it is one and it is known what of it is compared.
    pub fn vote(&self) -> Option<Vote> {
        Some(Vote { outcome: self.claim()?.outcome, compared: self.compared? })
    }

    /// Whether its result may stand for those that agree.
    pub fn is_believed(&self) -> bool {
        self.state == ExecutionState::Agreed && self.failure.is_none()
    }

    /// The hash of its result, if it revealed one.
    pub fn result(&self) -> Option<BlobHash> {
        self.revealed.map(|(claim, _)| claim.result)
    }
}
