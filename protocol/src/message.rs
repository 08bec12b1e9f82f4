//! What peers say to each other, in the order of a job's path.
//!
//! `Announce` and `Bid` are gossiped; everything else goes directly between the two peers concerned.

mod checks;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::commitment::{Commitment, Salt};
use crate::id::{BlobHash, ExecutionId, ImageId, InvocationId, JobId};
use crate::job::spec::{NetworkKind, Source};
use crate::task::{Account, Claim, Content, Failure};
use crate::time::{Millis, Time};
use crate::trace::{Rerun, TraceRequest};
use checks::{sound, text};

/// One thing said by one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Requester to all: who can run this?
    Announce(Announce),
    /// Worker to all: I can, at this cost.
    Bid(Bid),
    /// Worker to requester, when asked for reasons: I cannot, because.
    Refuse(Refuse),
    /// Requester to worker: run it. Sent again until it is answered.
    Award(Award),
    /// Worker to requester: still at it. Answers an award.
    Progress(Progress),
    /// Worker to requester: no vote will come of this execution.
    Fail(Fail),
    /// Worker to requester: done; this seals my answer. Sent again until it is answered.
    Commit(Commit),
    /// Requester to worker: open your commitment. Sent again until it is answered.
    RevealPlease(RevealPlease),
    /// Worker to requester: my answer.
    Reveal(Reveal),
    /// Requester to worker: this execution is over for me; release what you hold.
    Settle(Settle),
    /// Requester to worker: run it once more and note these things. Sent again until it is answered.
    TracePlease(TracePlease),
    /// Worker to requester: still at it, or what came of it.
    Trace(Trace),
}

/// A job and what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// The job.
    pub job: JobId,
    /// When it was said, by the requester's clock.
    pub at: Time,
    /// Which try this is, from 0. Bids are for one round.
    pub round: u32,
    /// How many executions are sought.
    pub wanted: u16,
    /// How many partitions they belong to; a worker runs each at most once.
    pub partitions: u32,
    /// Peers whose bids will not be taken: those that run the job already, and those that are distrusted.
    pub excluded: Vec<PeerPrefix>,
    /// Hash of the encoded work.
    pub work: BlobHash,
    /// What a worker must offer.
    pub needs: Needs,
    /// Bids are spread over this many milliseconds.
    pub window_ms: u32,
    /// Which [shard](crate::shard) around the requester it is for, from 0 (the mesh).
    pub level: u8,
    /// How many nodes the requester believes that shard has; the bid timers depend on it.
    pub mesh_size: u32,
    /// How many refusals with a reason the requester would like; 0 for none.
    pub refusals: u16,
    /// Where to reach the requester.
    pub contact: Contact,
}

/// The first bytes of a peer's id: enough to tell it that it is meant.
pub type PeerPrefix = [u8; 6];

/// What a worker must offer to run a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// The engine.
    pub executor: ExecutorKind,
    /// The engine's profile: the determinism profile for `Wasm`, the platform for `Docker`.
    pub profile: String,
    /// CPU, memory, disk and GPUs.
    pub resources: Resources,
    /// The largest inputs and modules, with their sizes in bytes.
    pub inputs: Vec<(Content, u64)>,
    /// Size of all inputs and modules together, in bytes.
    pub input_bytes: u64,
    /// Conditions on the worker's labels.
    pub constraints: Vec<Constraint>,
    /// Sources that the worker reads itself, each kind once.
    pub sources: Vec<SourceKind>,
    /// The image, for a container.
    pub image: Option<NeededImage>,
    /// Whom the program may reach.
    pub network: NetworkKind,
    /// What the requester calls it: a name as short as Docker shows it, `blob://HASH`, or nothing.
    pub image_name: String,
    /// How many different inputs are data rather than programs, beside those that the worker reads itself.
    pub data: u16,
    /// Which of `inputs` are data: the first is the lowest bit.
    pub data_bits: u8,
}

/// The image that a container is made of, as far as a worker must know before it bids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeededImage {
    /// What engines call it.
    pub id: ImageId,
    /// Where a worker gets it that does not have it.
    pub source: ImageSource,
    /// What such a worker downloads from a registry, in bytes; 0 where nobody knows, or where it is nothing.
    pub bytes: u64,
}

/// Where a worker gets an image that it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ImageSource {
    /// Nowhere.
    Nowhere,
    /// From peers: it is among the inputs.
    Peers,
    /// From a registry.
    Registry,
}

/// A kind of source outside of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SourceKind {
    /// Files on the web.
    Url,
    /// Objects of S3.
    S3,
    /// Content of IPFS.
    Ipfs,
    /// Paths of the worker's machine.
    Local,
}

/// An engine that a worker may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ExecutorKind {
    /// WebAssembly in a determinism profile.
    Wasm,
    /// A container.
    Docker,
}

impl ExecutorKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Wasm, Self::Docker];
}

/// An amount of each thing that an execution uses up while it runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU, in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Disk, in bytes.
    pub disk_bytes: u64,
    /// GPUs.
    pub gpus: u16,
}

/// A condition on a worker's label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what: none for `Exists` and `Absent`, at least one for `In` and `NotIn`, else exactly one.
    pub values: Vec<String>,
}

/// How a constraint compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// The label is there and is the value.
    Equals,
    /// The label is absent or is not the value.
    NotEquals,
    /// The label is one of the values.
    In,
    /// The label is absent or is none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    Absent,
    /// The label is an integer above the value.
    Greater,
    /// The label is an integer below the value.
    Less,
}

/// Where a peer can be reached; its id is the sender's.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// UDP addresses.
    pub addresses: Vec<SocketAddr>,
    /// URL of its relay.
    pub relay: Option<String>,
}

/// An offer to run a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    /// The job.
    pub job: JobId,
    /// The round that is answered.
    pub round: u32,
    /// How many executions it would take at once.
    pub slots: u16,
    /// What running it would cost here, from 0 (cheap) to [`MAX_COST`](crate::auction::MAX_COST).
    pub cost: u16,
    /// Who operates the worker, if declared: bids of one operator are not independent.
    pub operator: Option<String>,
    /// Where to reach the worker.
    pub contact: Contact,
    /// How long it waited since it heard the announcement, in milliseconds: what is left of the time between the two is
    /// what gossip took.
    pub waited_ms: u32,
}

/// Why a worker does not bid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    /// The job.
    pub job: JobId,
    /// The round that is answered.
    pub round: u32,
    /// Why.
    pub reason: Reason,
}

/// Why a worker does not bid, for a person to read once equal reasons are counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// It has not this engine.
    NoExecutor(ExecutorKind),
    /// Its engine has another profile, named here.
    OtherProfile(String),
    /// The job wants more than it will ever give: what, wanted, given.
    TooLarge(Resource, u64, u64),
    /// It could later, but its capacity is taken now.
    Busy,
    /// Its labels do not satisfy the constraint on this key.
    Constraint(String),
    /// Its operator does not want it.
    Policy(String),
    /// It does not read sources of this kind for others.
    NoSource(SourceKind),
    /// It offers enough disk, and others have filled it: wanted, free, in bytes.
    DiskFull(u64, u64),
    /// It does not have the image, and does not get it from there.
    NoImage(ImageSource),
    /// Its operator gives containers no such network.
    NoNetwork(NetworkKind),
    /// Its operator does not allow the image of this name.
    Image(String),
    /// Its operator does not allow jobs of this requester.
    Requester,
    /// Its operator allows no jobs without inputs.
    Stateless,
    /// Its operator allows only jobs whose data it has.
    NotLocal,
    /// The requester is not trusted, and has left so many finished executions unsettled.
    Unsettled(u32),
    /// So many finished executions wait here for the requester to settle them, which is all the credit it has.
    Owing(u32),
    /// It speaks this version of the protocol, which lacks something that the job needs.
    OtherVersion(u8),
}

/// One kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Resource {
    /// CPU, in thousandths of a core.
    Cpu,
    /// Memory, in bytes.
    Memory,
    /// Disk, in bytes.
    Disk,
    /// GPUs.
    Gpu,
}

/// An execution, and all that the worker needs to start it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Award {
    /// The job.
    pub job: JobId,
    /// The execution.
    pub execution: ExecutionId,
    /// Which partition it runs.
    pub partition: u32,
    /// Which attempt at this partition it is; job, partition and attempt make the execution's id.
    pub attempt: u32,
    /// The nonce that makes the job's id, so that the worker can check whose job it is.
    pub nonce: u64,
    /// The encoded work, at most [`MAX_WORK_BYTES`](crate::limits::MAX_WORK_BYTES).
    pub work: Vec<u8>,
    /// What it may use, as announced.
    pub resources: Resources,
    /// Where to reach the requester.
    pub contact: Contact,
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The job.
    pub job: JobId,
    /// The execution.
    pub execution: ExecutionId,
    /// What the worker is doing.
    pub stage: Stage,
    /// How much of that is done, where it can be said.
    pub amount: Option<Amount>,
}

/// How much is done of something, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// What is done.
    pub done_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// What a worker does between award and commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// It fetches modules and inputs.
    Fetching,
    /// It gets the image of a container.
    Preparing,
    /// It runs the program.
    Running,
}

/// The end of an execution without a vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fail {
    /// The job.
    pub job: JobId,
    /// The execution.
    pub execution: ExecutionId,
    /// Why.
    pub failure: Failure,
}

/// A sealed answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The job.
    pub job: JobId,
    /// The execution.
    pub execution: ExecutionId,
    /// The seal.
    pub commitment: Commitment,
    /// How long the run took, in milliseconds.
    pub run_ms: Millis,
}

/// A call to open a commitment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevealPlease {
    /// The job.
    pub job: JobId,
    /// The execution.
    pub execution: ExecutionId,
}

/// An opened commitment: signed, so it is evidence for or against the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reveal {
    /// The job.
    pub job: JobId,
    /// The execution.
    pub execution: ExecutionId,
    /// What was computed.
    pub invocation: InvocationId,
    /// What came of it.
    pub claim: Claim,
    /// Opens the commitment.
    pub salt: Salt,
    /// Size of the result collection, in bytes.
    pub result_bytes: u64,
    /// What the run used and called.
    pub account: Account,
}

/// The end of an execution, as its requester sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// The job.
    pub job: JobId,
    /// The execution.
    pub execution: ExecutionId,
    /// What became of it.
    pub ending: Ending,
}

/// What became of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ending {
    /// Its result is the job's result, and its requester has it.
    Agreed {
        /// For how long the requester would like the result to be kept, in milliseconds.
        keep_ms: Millis,
    },
    /// Its result is not the job's result.
    Dissented,
    /// No result was agreed on, or it came too late to count.
    Unused,
    /// The requester does not want it any more: stop if it still runs.
    Cancelled,
}

/// A wish to look into an execution that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracePlease {
    /// The execution, as it was awarded.
    pub award: Award,
    /// Tells the requests about one execution apart: drawn by chance, so that a restarted requester does not repeat one.
    pub number: u64,
    /// What the run is to note.
    pub request: TraceRequest,
}

/// The answer to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The job.
    pub job: JobId,
    /// The execution.
    pub execution: ExecutionId,
    /// The request that is answered.
    pub number: u64,
    /// How far it is.
    pub answer: TraceAnswer,
}

/// How far a run is that is looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TraceAnswer {
    /// It runs.
    Running,
    /// It has ended.
    Done(Box<Rerun>),
    /// Nothing comes of it.
    Failed(Failure),
}

/// What is wrong with a message whose signature is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is out of bounds")]
pub struct OutOfBounds(&'static str);

impl Message {
    /// The job that it is about.
    pub fn job(&self) -> JobId {
        match self {
            Message::Announce(m) => m.job,
            Message::Bid(m) => m.job,
            Message::Refuse(m) => m.job,
            Message::Award(m) => m.job,
            Message::Progress(m) => m.job,
            Message::Fail(m) => m.job,
            Message::Commit(m) => m.job,
            Message::RevealPlease(m) => m.job,
            Message::Reveal(m) => m.job,
            Message::Settle(m) => m.job,
            Message::TracePlease(m) => m.award.job,
            Message::Trace(m) => m.job,
        }
    }

    /// The word for its step on a job's path.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Announce(_) => "announce",
            Message::Bid(_) => "bid",
            Message::Refuse(_) => "refuse",
            Message::Award(_) => "award",
            Message::Progress(_) => "progress",
            Message::Fail(_) => "fail",
            Message::Commit(_) => "commit",
            Message::RevealPlease(_) => "reveal-please",
            Message::Reveal(_) => "reveal",
            Message::Settle(_) => "settle",
            Message::TracePlease(_) => "trace-please",
            Message::Trace(_) => "trace",
        }
    }

    /// Whether it is said to the whole mesh rather than to one peer.
    pub fn is_gossip(&self) -> bool {
        matches!(self, Message::Announce(_) | Message::Bid(_))
    }

    /// Checks every bound that the encoding itself does not set.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        match self {
            Message::Announce(m) => m.check(),
            Message::Bid(m) => {
                text("operator", m.operator.as_deref().unwrap_or_default())?;
                m.contact.check()
            }
            Message::Refuse(m) => m.reason.check(),
            Message::Award(m) => m.check(),
            Message::Fail(m) => m.failure.check(),
            Message::Reveal(m) => m.account.check(),
            Message::TracePlease(m) => {
                sound("trace request", m.request.is_sound())?;
                m.award.check()
            }
            Message::Trace(m) => m.answer.check(),
            Message::Progress(m) => sound("amount", m.amount.is_none_or(Amount::is_sound)),
            Message::Commit(_) | Message::RevealPlease(_) | Message::Settle(_) => Ok(()),
        }
    }
}

impl Amount {
    /// How many tenths are done.
    pub(crate) fn tenths(self) -> u8 {
        let tenths = u128::from(self.done_bytes) * 10 / u128::from(self.total_bytes.max(1));
        u8::try_from(tenths).unwrap_or(10).min(10)
    }
}

impl Needs {
    /// The data that is named.
    pub fn named_data(&self) -> impl Iterator<Item = &Content> {
        let is_data = |index: usize| {
            u32::try_from(index).is_ok_and(|bit| (self.data_bits.checked_shr(bit).unwrap_or(0)) & 1 == 1)
        };
        self.inputs.iter().enumerate().filter(move |(index, _)| is_data(*index)).map(|(_, (content, _))| content)
    }
}

impl SourceKind {
    /// Every kind, with its name on the command line.
    pub const ALL: [(&str, Self); 4] =
        [("url", Self::Url), ("s3", Self::S3), ("ipfs", Self::Ipfs), ("local", Self::Local)];

    /// The kind of a source; none of content that is the same wherever it is read.
    pub fn of(source: &Source) -> Option<Self> {
        match source {
            Source::UrlDownload(_) => Some(Self::Url),
            Source::S3(_) => Some(Self::S3),
            Source::Ipfs(_) => Some(Self::Ipfs),
            Source::LocalDirectory(_) => Some(Self::Local),
            Source::Blob(_) | Source::Inline(_) => None,
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}
