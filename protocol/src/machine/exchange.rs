//! What goes into a machine and what comes out.

use crate::id::{BlobHash, ExecutionId, JobId, PeerId};
use crate::inquiry::Inquiry;
use crate::message::{Amount, Announce, Contact, Message, Resources};
use crate::record::{Placement, Published, Record, Submission};
use crate::shard::Audience;
use crate::task::{Claim, Compare, Content, Failure, Invocation};
use crate::time::{Millis, Time};
use crate::trace::{Rerun, TraceRequest};
use crate::wire::Sealed;
use crate::worker::Finished;

/// What the world tells a node.
#[derive(Debug, Clone)]
pub enum Input {
    /// A person wants this done. The job's id is [`Submission::job`].
    Submit(Box<Submission>),
    /// A person does not want it any more.
    Stop(JobId),
    /// A peer said something, directly or by gossip.
    Heard(Sealed),
    /// This node said something to a peer, which speaks this other version and has not understood it.
    NotUnderstood(PeerId, Sealed, u8),
    /// A peer announced a job, for which this node has this.
    Announced(Sealed, Means),
    /// What [`Output::Price`] came to: what this node has for that job of its own.
    Priced(Box<Announce>, Means),
    /// What [`Output::Fetch`] came to.
    Fetched(ExecutionId, Result<(), Failure>),
    /// How far an execution is with its image.
    Preparing(ExecutionId, Amount),
    /// The program of an execution has been started. Only containers need be told of: a module starts at once.
    Started(ExecutionId),
    /// What [`Output::Execute`] or [`Output::Resume`] came to.
    Executed(ExecutionId, Result<Finished, Failure>),
    /// What [`Output::Examine`] came to: what is compared of the result, as the hash of a folder with that alone.
    Examined(JobId, ExecutionId, Result<BlobHash, Unfit>),
    /// What [`Output::Validate`] came to for these two executions of a partition.
    Validated(JobId, u32, [ExecutionId; 2], Result<Comparison, Unvalidated>),
    /// What [`Output::Collect`] came to; the error is for a person.
    Collected(JobId, u32, Result<(), String>),
    /// What [`Output::Publish`] came to: where the result is, if that is somewhere else; the error is for a person.
    Published(JobId, u32, Result<Option<Published>, String>),
    /// A person looks into an execution of a job of this node; what comes of it is [`Output::Traced`].
    Inquire(Box<Inquiry>),
    /// Nobody wants to know that any more.
    EndInquiry(ExecutionId),
    /// What [`Output::Rerun`] came to.
    Reran(ExecutionId, Result<Box<Rerun>, Failure>),
    /// A peer sent something else than the blob that it was asked for.
    Corrupt(PeerId),
    /// This node was asleep or halted until now: that it heard nobody says nothing of anybody.
    Away,
    /// The deadline has come.
    Tick,
}

/// A result to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ballot {
    /// Of which execution.
    pub execution: ExecutionId,
    /// Who has it.
    pub worker: PeerId,
    /// The result's collection.
    pub result: BlobHash,
}

/// What a validator says of two results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Whether they agree.
    pub agree: bool,
    /// What it printed, for a person.
    pub words: String,
}

/// Why a validator says nothing; for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unvalidated {
    /// One of the results is not there to be compared.
    Result(ExecutionId, Unfit),
    /// The validator failed, as it would anywhere.
    Validator(String),
    /// This machine failed.
    Host(String),
}

/// Why a result cannot be compared with others; for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It, or the list of its files, cannot be had now.
    Missing(String),
    /// It is no result of a run that ended as its worker said.
    False(String),
}

/// What a node has for an announced job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    /// Bytes of its inputs that are not here.
    pub missing_bytes: u64,
    /// Bytes that its executions could have on the disk now: at least what one needs, or all that there is.
    pub disk_bytes: u64,
    /// Whether it has the image, gets it, or needs none.
    pub has_image: bool,
    /// Whether all the data that it names is here.
    pub data_here: bool,
}

/// What a node is to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make this durable before anything that follows.
    Save(Record),
    /// Remove what was saved under this key.
    Forget(Key),
    /// Say this to all of these, whether this node is one of them or not.
    Gossip(Audience, Message),
    /// Say this to one peer, which may be this node itself.
    Send(PeerId, Message),
    /// Find out what this node has for a job of its own that it might run itself; then say [`Input::Priced`].
    Price(Box<Announce>),
    /// Remember where a peer can be reached.
    Learn(PeerId, Contact),
    /// Ask whoever else has a say about a job. Then fetch and keep what the execution needs, and say
    /// [`Input::Fetched`].
    Fetch {
        /// For which execution.
        execution: ExecutionId,
        /// Of which job.
        job: JobId,
        /// Whose job it is, who surely has its modules and inputs.
        from: PeerId,
        /// Whether it has passed an auction, in which case others have a say. For want of a mesh, nobody else has.
        placement: Placement,
        /// What is to be run.
        invocation: Box<Invocation>,
        /// What the requester calls its image; nothing for a module.
        image_name: String,
        /// What it may use: with its disk, the most that modules and inputs may hold together.
        resources: Resources,
        /// Wall-clock limit of the run, in milliseconds.
        timeout_ms: Millis,
        /// Which partition it is, and of how many.
        partition: (u32, u32),
    },
    /// Run a program with what was fetched and read; then say [`Input::Executed`].
    Execute {
        /// As which execution.
        execution: ExecutionId,
        /// For whom: the only peer that may read its logs.
        requester: PeerId,
        /// What to run.
        invocation: Invocation,
        /// Wall-clock limit, in milliseconds.
        timeout_ms: Millis,
    },
    /// Take up a program that may have gone on while the node was away, if it did; then say [`Input::Executed`].
    Resume {
        /// As which execution.
        execution: ExecutionId,
        /// For whom: the only peer that may read its logs.
        requester: PeerId,
        /// What was run.
        invocation: Invocation,
        /// Wall-clock limit, in milliseconds from the program's start.
        timeout_ms: Millis,
        /// What it may have on the disk, in bytes.
        max_bytes: u64,
    },
    /// Stop fetching or running; nothing needs to be said.
    Abort(ExecutionId),
    /// Keep a result that was agreed on for a while, and let anybody have it.
    Keep {
        /// Of which execution.
        execution: ExecutionId,
        /// The result's collection.
        result: BlobHash,
        /// For how long, in milliseconds.
        keep_ms: Millis,
    },
    /// Let go of what an execution fetched and made.
    Release(ExecutionId),
    /// Find out what is compared of a result from the list of its files, and whether that has the exit code that was
    /// revealed; then say [`Input::Examined`].
    Examine {
        /// Of which job.
        job: JobId,
        /// Of which execution.
        execution: ExecutionId,
        /// Who has it.
        from: PeerId,
        /// What was revealed.
        claim: Claim,
        /// What is compared.
        compare: Compare,
    },
    /// Fetch two results, and ask a module whether they agree, in either order; then say [`Input::Validated`].
    Validate {
        /// Of which job.
        job: JobId,
        /// Of which partition.
        partition: u32,
        /// The module.
        validator: BlobHash,
        /// What it sees of the results.
        compare: Compare,
        /// The most that one result may hold, in bytes.
        max_bytes: u64,
        /// The results.
        pair: [Ballot; 2],
    },
    /// Fetch and keep a result; then say [`Input::Collected`].
    Collect {
        /// Of which job.
        job: JobId,
        /// Of which partition.
        partition: u32,
        /// The result's collection.
        result: BlobHash,
        /// The most it may hold, in bytes.
        max_bytes: u64,
        /// Workers that have it.
        from: Vec<PeerId>,
    },
    /// Publish a result that is here, where its job says; then say [`Input::Published`]. It may have been published
    /// before, under the same names.
    Publish {
        /// Of which job.
        job: JobId,
        /// Of which partition.
        partition: u32,
        /// The execution whose result it is.
        execution: ExecutionId,
        /// Who ran that.
        worker: PeerId,
        /// The result's collection.
        result: BlobHash,
        /// When it was believed, the same at each try.
        at: Time,
    },
    /// A job of this node is over: let go of its inputs, and keep its results no longer than until then.
    End(JobId, Time),
    /// Fetch what an execution of the past needs, run it once more, and note things; then say [`Input::Reran`].
    Rerun {
        /// As which execution.
        execution: ExecutionId,
        /// For whom.
        requester: PeerId,
        /// Modules and inputs.
        contents: Vec<Content>,
        /// The most they may hold together, in bytes.
        max_bytes: u64,
        /// What to run.
        invocation: Invocation,
        /// Wall-clock limit, in milliseconds.
        timeout_ms: Millis,
        /// What to note.
        request: TraceRequest,
    },
    /// What came of an inquiry: tell who inquired.
    Traced(ExecutionId, Result<Box<Rerun>, Failure>),
}

/// Names a record that is not needed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// An execution done for another.
    Held(ExecutionId),
    /// What is thought of a peer.
    Standing(PeerId),
}
