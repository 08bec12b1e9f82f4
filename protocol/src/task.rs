//! What a worker runs, and what may come of it.
//!
//! An [`Invocation`] holds everything that determines a result and nothing else, so its hash names a
//! computation for the whole mesh. [`Work`] is what a requester hands out: one invocation, cut into partitions.

mod compare;
mod docker;
pub mod network;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{BlobHash, InvocationId};
use crate::message::{ExecutorKind, Reason};
use crate::time::Millis;

pub use compare::{Compare, EXIT_CODE, STDERR, STDOUT, STREAMS};
pub use docker::{Docker, Image, ImageOrigin};
pub(crate) use docker::{is_mountable, is_platform};
pub use network::Network;

/// What a job's workers need to know. Its canonical encoding is the blob that an announcement names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The computation, without its partition.
    pub invocation: Invocation,
    /// Inputs that differ between partitions, in target order.
    pub divided: Vec<Divided>,
    /// How many partitions there are, at least 1; each is verified on its own.
    pub partitions: u32,
    /// Wall-clock limit of one run, in milliseconds. Reaching it is no vote.
    pub execution_timeout_ms: Millis,
    /// What of two results must agree. Here, so that workers know what they are judged by, and nobody changes it later.
    pub compare: Compare,
    /// The module that says whether two results agree that are not the same; none if they must be the same. Its
    /// requester runs it.
    pub validator: Option<BlobHash>,
}

/// Everything that determines a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// The engine and its program.
    pub engine: Engine,
    /// Environment variables, as the program sees them.
    pub environment: BTreeMap<String, String>,
    /// What is mounted read-only, in target order.
    pub inputs: Vec<Mount>,
    /// What each worker reads itself and mounts read-only, in target order: it may hold something else for each.
    pub unread: Vec<Unread>,
    /// What is collected afterwards, in name order.
    pub result_paths: Vec<ResultPath>,
    /// Deterministic limits.
    pub limits: Limits,
}

/// An engine and its program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    /// A WebAssembly module under a determinism profile.
    Wasm(Wasm),
    /// A program in a container.
    Docker(Docker),
}

/// A WebAssembly program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wasm {
    /// The determinism profile, for example `wasm-3`. Workers of another profile do not bid.
    pub profile: String,
    /// The entry module.
    pub module: BlobHash,
    /// Modules that the entry module imports, by import name, in name order.
    pub imports: Vec<ImportModule>,
    /// The exported function that is called, usually `_start`.
    pub entry_point: String,
    /// Arguments after `argv[0]`.
    pub arguments: Vec<String>,
}

/// A module that another one imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportModule {
    /// The import's module name.
    pub name: String,
    /// The module.
    pub module: BlobHash,
}

/// An input and where the program finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path, normalised, without `..`.
    pub target: String,
    /// What is mounted there: a file or a folder.
    pub content: Content,
}

/// An input that each worker reads itself, and where the program finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Absolute path, normalised, without `..`.
    pub target: String,
    /// The source, as JSON of a job file.
    pub source: String,
}

/// An input that differs between partitions, and where the program finds its part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divided {
    /// Absolute path, normalised, without `..`.
    pub target: String,
    /// The parts, one for each partition.
    pub parts: Vec<Content>,
}

/// A blob or a collection of blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Content {
    /// The root hash.
    pub hash: BlobHash,
    /// Whether the root is the content or a list of it.
    pub kind: ContentKind,
}

/// How the root hash of a [`Content`] is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ContentKind {
    /// One blob: a file.
    Raw,
    /// An iroh collection: a folder.
    Collection,
}

/// A file or folder that is part of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultPath {
    /// Its name in the result.
    pub name: String,
    /// Where the program writes it: an absolute path.
    pub path: String,
}

/// Limits that every machine reaches at the same point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory of the program, in bytes; of a container all its memory, files in memory included.
    pub memory_bytes: u64,
    /// Instructions, in units of the profile's fuel; 0 for a container, whose instructions nobody counts.
    pub fuel: u64,
    /// All that the program writes (result paths, scratch files, stdout, stderr), in bytes.
    pub output_bytes: u64,
}

/// How a run ended, where every machine must agree: a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The program returned (0) or exited with a code.
    Exited(i32),
    /// The program was stopped by its own mistake or a deterministic limit.
    Trapped(Trap),
}

/// Why a program was stopped, where every machine must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Trap {
    /// `unreachable`, or an abort.
    Unreachable,
    /// Memory, table or array access out of bounds.
    OutOfBounds,
    /// Integer overflow, division by zero, or a bad conversion.
    Arithmetic,
    /// An indirect call to nothing, or to another signature.
    BadCall,
    /// The fuel limit.
    OutOfFuel,
    /// An exception that nobody caught.
    Uncaught,
    /// The module could not be instantiated: its own initialisation is out of bounds, or its needs exceed the limits.
    Instantiation,
    /// Any other deterministic trap of the profile.
    Other,
    /// The metered stack: calls nested too deeply.
    StackExhausted,
    /// A container's memory limit.
    OutOfMemory,
    /// A container wrote more than its job allows, or more files.
    OutOfDisk,
}

/// Why a run ended without a vote. It is tried again elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Failure {
    /// The wall-clock limit was reached.
    TimedOut,
    /// The worker's machine failed: out of memory or disk, native stack exhausted, an engine error.
    HostFailed(String),
    /// An input or module could not be fetched in time.
    InputMissing(String),
    /// The worker cannot take the award after all.
    Declined(String),
    /// The requester cancelled it.
    Cancelled,
    /// The worker was not heard of for too long.
    Lost,
    /// It had not committed when enough others had.
    TooLate,
    /// It committed and never opened its commitment: a fault of the worker.
    Unrevealed,
    /// What it revealed is not what it had committed to: a fault of the worker.
    FalseReveal,
    /// The result that it revealed could not be fetched from it: a fault of the worker.
    Withheld,
    /// The result that it revealed is no result of a run that ended as it said: a lie of the worker.
    FalseResult,
    /// The worker's operator does not want the job: it is not given to this worker again.
    Refused(String),
    /// The worker speaks this version of the protocol, and has not understood the award: it is not given to it again.
    OtherVersion(u8),
}

/// What a worker says came of a run: how it ended and the hash of its result collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// How the program ended.
    pub outcome: Outcome,
    /// The iroh collection of `stdout`, `stderr`, `exitCode` and each result path, in name order.
    pub result: BlobHash,
}

/// What a worker tells of a run beside its claim: for people, and to find where two runs of one invocation parted.
///
/// It is the worker's word alone, and nothing is believed or refused because of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Fuel used.
    pub fuel: u64,
    /// Most memory held at once, in bytes.
    pub memory_bytes: u64,
    /// Calls of host functions.
    pub calls: u64,
    /// A digest of all calls with their arguments and results, in order.
    pub calls_digest: [u8; 32],
    /// What the sources held that the worker read itself, in the order of the invocation.
    pub inputs: Vec<BlobHash>,
    /// Where a trap happened, innermost frame first, a line each; at most
    /// [`MAX_BACKTRACE_BYTES`](crate::limits::MAX_BACKTRACE_BYTES) bytes. Empty without a trap.
    pub backtrace: String,
}

impl Work {
    /// The invocation of one partition: the common one, told which part it is, with its parts of what is divided.
    pub fn partition(&self, index: u32) -> Invocation {
        let mut invocation = self.invocation.clone();
        let part = |divided: &Divided| {
            let content = *divided.parts.get(index as usize)?;
            Some(Mount { target: divided.target.clone(), content })
        };
        invocation.inputs.extend(self.divided.iter().filter_map(part));
        invocation.inputs.sort_by(|a, b| a.target.cmp(&b.target));
        let environment = &mut invocation.environment;
        environment.insert("BACALHAU_PARTITION_INDEX".into(), index.to_string());
        environment.insert("BACALHAU_PARTITION_COUNT".into(), self.partitions.to_string());
        invocation
    }

    /// Every blob that some partition needs.
    pub fn contents(&self) -> Vec<Content> {
        let parts = self.divided.iter().flat_map(|divided| &divided.parts).copied();
        self.invocation.contents().into_iter().chain(parts).collect()
    }

    /// Whether everything that is divided has a part for each partition, and the engine can be given what it names.
    pub fn is_sound(&self) -> bool {
        let divided = self.divided.iter().all(|divided| divided.parts.len() == self.partitions as usize);
        let fits = match &self.invocation.engine {
            Engine::Wasm(_) => true,
            Engine::Docker(docker) => docker.is_sound() && docker::fits(self),
        };
        self.partitions > 0 && divided && fits && self.compare.is_sound(&self.invocation.result_paths)
    }
}

impl Invocation {
    /// The computation's name for the whole mesh.
    pub fn id(&self) -> InvocationId {
        InvocationId(blake3::derive_key("shoal 1 invocation", &crate::wire::canonical(self)))
    }

    /// Every blob that a worker must have before it can run this: modules or the image first, then inputs.
    pub fn contents(&self) -> Vec<Content> {
        let raw = |hash| Content { hash, kind: ContentKind::Raw };
        let program = self.engine.blobs().map(raw);
        program.chain(self.inputs.iter().map(|mount| mount.content)).collect()
    }
}

impl Engine {
    /// Which engine it is.
    pub fn kind(&self) -> ExecutorKind {
        match self {
            Engine::Wasm(_) => ExecutorKind::Wasm,
            Engine::Docker(_) => ExecutorKind::Docker,
        }
    }

    /// What the engine has to be: the determinism profile, or the platform.
    pub fn profile(&self) -> &str {
        match self {
            Engine::Wasm(wasm) => &wasm.profile,
            Engine::Docker(docker) => &docker.platform,
        }
    }

    /// The blobs that are the program.
    fn blobs(&self) -> impl Iterator<Item = BlobHash> {
        let (module, imports, image) = match self {
            Engine::Wasm(wasm) => (Some(wasm.module), wasm.imports.as_slice(), None),
            Engine::Docker(docker) => (None, [].as_slice(), docker.image.blob()),
        };
        module.into_iter().chain(imports.iter().map(|import| import.module)).chain(image)
    }
}

impl Failure {
    /// Whether the worker does not take the job, so that it is not asked again.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Failure::Refused(_) | Failure::OtherVersion(_))
    }

    /// Whether it shows that the worker does not do what it says.
    pub fn is_fault(&self) -> bool {
        matches!(self, Failure::Unrevealed | Failure::FalseReveal | Failure::Withheld | Failure::FalseResult)
    }
}

impl Outcome {
    /// The exit code that a person sees: the program's own, or 1 for a trap.
    pub fn exit_code(self) -> i32 {
        match self {
            Outcome::Exited(code) => code,
            Outcome::Trapped(_) => 1,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exited(code) => write!(f, "exited with code {code}"),
            Outcome::Trapped(trap) => write!(f, "trapped: {trap}"),
        }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trap::Unreachable => "unreachable code reached",
            Trap::OutOfBounds => "access out of bounds",
            Trap::Arithmetic => "integer overflow, division by zero or bad conversion",
            Trap::BadCall => "bad indirect call",
            Trap::OutOfFuel => "fuel limit reached",
            Trap::Uncaught => "uncaught exception",
            Trap::Instantiation => "module could not be instantiated within its limits",
            Trap::Other => "other trap",
            Trap::StackExhausted => "stack exhausted",
            Trap::OutOfMemory => "memory limit reached",
            Trap::OutOfDisk => "limit of what it may write reached",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::TimedOut => f.write_str("execution timeout reached"),
            Failure::HostFailed(why) => write!(f, "the worker's machine failed: {why}"),
            Failure::InputMissing(why) => write!(f, "input missing: {why}"),
            Failure::Declined(why) => write!(f, "declined: {why}"),
            Failure::Cancelled => f.write_str("cancelled"),
            Failure::Lost => f.write_str("worker not heard of"),
            Failure::TooLate => f.write_str("not committed when enough others had"),
            Failure::Unrevealed => f.write_str("committed but never revealed"),
            Failure::FalseReveal => f.write_str("revealed something else than it committed to"),
            Failure::Withheld => f.write_str("its result could not be fetched"),
            Failure::FalseResult => f.write_str("its result is not that of a run that ended as it said"),
            Failure::Refused(why) => write!(f, "refused: {why}"),
            Failure::OtherVersion(version) => write!(f, "refused: it {}", Reason::OtherVersion(*version)),
        }
    }
}
