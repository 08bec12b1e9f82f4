//! A job as its author describes it, complete with defaults.
//!
//! Serialized, it is Bacalhau's JSON: keys in PascalCase, amounts as texts, one task in a list. [`parse`] reads
//! that back to the same job.
//!
//! [`parse`]: crate::job::parse::parse

mod source;

use std::collections::BTreeMap;

pub use source::{
    BlobPublisher, BlobRoot, BlobSource, CreateAs, InlineSource, InputSource, IpfsSource, LocalSource, Publisher,
    Resolve, S3Partition, S3PartitionBy, S3Publisher, S3Source, Source, UrlSource,
};

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::job::paths::normalised;
use crate::job::units::{Bytes, Cpu, Gpus};
use crate::limits::{DEFAULT_CPU_MILLIS, DEFAULT_MEMORY_BYTES, DEFAULT_OUTPUT_BYTES, MAX_EXECUTIONS};
use crate::message::Operator;
use crate::task;

/// The namespace of a job that names none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The exported function that runs when a WASM job names none.
pub const DEFAULT_ENTRYPOINT: &str = "_start";
/// Prefix of a constraint's key that makes it a preference.
pub const SOFT_PREFIX: &str = "favour_";
/// Prefix of an environment value that is to be copied from the submitting host.
pub const HOST_VARIABLE_PREFIX: &str = "env:";

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What people call it; without one it goes by its id.
    pub name: Option<String>,
    /// The namespace in which its name means something.
    pub namespace: String,
    /// How its executions are spread and when they end.
    pub kind: JobKind,
    /// Higher goes first in a worker's queue.
    pub priority: i64,
    /// How many partitions it has; 0 for `ops` and `daemon`, which run everywhere.
    pub count: u32,
    /// Which workers may run it.
    pub constraints: Vec<Constraint>,
    /// What tools keep about it.
    pub meta: BTreeMap<String, String>,
    /// What people find it by.
    pub labels: BTreeMap<String, String>,
    /// What is run.
    pub task: Task,
    /// When its result is believed.
    pub verification: Verification,
}

/// How a job's executions are spread and when they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Runs to its end, `Count` times.
    Batch,
    /// Runs to its end, once on every matching node.
    Ops,
    /// Runs until stopped, `Count` times.
    Service,
    /// Runs until stopped, on every matching node.
    Daemon,
}

/// A condition on workers' labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// The label; with [`SOFT_PREFIX`] it is a preference.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub values: Vec<String>,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    /// Its name, `main` on the command line.
    pub name: String,
    /// The engine and its program.
    pub engine: Engine,
    /// Where results go.
    pub publisher: Publisher,
    /// Environment variables; a value `env:NAME` is the submitting host's variable.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What tools keep about it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// What the program reads, mounted read-only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub input_sources: Vec<InputSource>,
    /// What of the program's files is the result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub result_paths: Vec<ResultPath>,
    /// What one execution may use.
    pub resources: Resources,
    /// What network it has.
    pub network: Network,
    /// How long it may take.
    pub timeouts: Timeouts,
}

/// An engine and its program.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "Type", content = "Params", rename_all = "lowercase")]
pub enum Engine {
    /// A container.
    Docker(Docker),
    /// A WebAssembly program.
    Wasm(Wasm),
    /// Nothing; for tests.
    Noop,
}

/// A container's program.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Docker {
    /// The image's reference.
    pub image: String,
    /// Replaces the image's entry point.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
    /// `NAME=VALUE` each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment_variables: Vec<String>,
    /// Where it starts, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// `OS/ARCHITECTURE` that it is to run on; without one, that of whoever looks the image up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// A WebAssembly program.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Wasm {
    /// The target path of the input that is the program.
    pub entry_module: String,
    /// The exported function to call.
    pub entrypoint: String,
    /// Arguments after `argv[0]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
    /// Target paths of the inputs that are imported modules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub import_modules: Vec<String>,
}

/// A file or folder that is part of the result.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResultPath {
    /// Its name in the result.
    pub name: String,
    /// Where the program writes it, absolute.
    pub path: String,
}

/// What one execution may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// CPU.
    #[serde(rename = "CPU")]
    pub cpu: Cpu,
    /// Memory.
    #[serde(rename = "Memory")]
    pub memory: Bytes,
    /// Disk.
    #[serde(rename = "Disk")]
    pub disk: Bytes,
    /// GPUs.
    #[serde(rename = "GPU")]
    pub gpu: Gpus,
}

/// What network a program has.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// How much of it.
    #[serde(rename = "Type")]
    pub kind: NetworkKind,
    /// For `HTTP`: the hosts that may be asked; `.x.com` means all of `x.com`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// For `Host` and `Bridge`: ports that others may reach.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// How much network a program has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NetworkKind {
    /// None. Unlike Bacalhau's, our default.
    #[default]
    None,
    /// The host's own. Bacalhau's old `Full` is the same.
    Host,
    /// HTTP to the named domains.
    #[serde(rename = "HTTP")]
    Http,
    /// A network of its own with a way out.
    Bridge,
}

/// A port that others may reach.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    /// Its name, which is also the name of a variable.
    pub name: String,
    /// The host's port; 0 lets the worker choose.
    #[serde(rename = "Static")]
    pub fixed: u16,
    /// For `Bridge`: the port inside.
    pub target: u16,
    /// The host's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host_network: String,
}

/// How long a job may take, in seconds; 0 means that nothing is set.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// One execution.
    #[serde(rename = "ExecutionTimeout")]
    pub execution_secs: u64,
    /// Waiting for workers; 0: fail when there are none.
    #[serde(rename = "QueueTimeout")]
    pub queue_secs: u64,
    /// The whole job.
    #[serde(rename = "TotalTimeout")]
    pub total_secs: u64,
}

/// When a result is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Verification {
    /// By what.
    #[serde(rename = "Type")]
    pub kind: VerificationKind,
    /// Independent executions that must agree.
    pub agreement: u32,
    /// How many are started at once.
    pub executions: u32,
    /// How many dissent may buy before the job fails as disputed.
    pub max_executions: u32,
    /// What of two results must agree.
    #[serde(skip_serializing_if = "Compare::is_all")]
    pub compare: Compare,
    /// The target path of the input that is the module which says whether two results agree; it is not mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validator: Option<String>,
}

/// What of two results must agree, beside how the programs ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Compare {
    /// All of it.
    #[default]
    All,
    /// All result paths, and nothing that was printed.
    Outputs,
    /// One result path, by its name or its path, or `stdout`, `stderr` or `exitCode`.
    Part(String),
}

/// What makes a result believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerificationKind {
    /// Nothing: one execution's word.
    None,
    /// Agreement of independent executions.
    Quorum,
}

impl Job {
    /// A batch job of one task, with every default.
    pub fn new(task: Task) -> Self {
        let verification = Verification::for_engine(&task.engine);
        Self {
            name: None,
            namespace: DEFAULT_NAMESPACE.into(),
            kind: JobKind::Batch,
            priority: 0,
            count: 1,
            constraints: Vec::new(),
            meta: BTreeMap::new(),
            labels: BTreeMap::new(),
            task,
            verification,
        }
    }
}

impl Job {
    /// Whether an input is there for the validator alone, and no business of the program and its workers therefore.
    pub fn is_for_validator(&self, input: &InputSource) -> bool {
        let is_module = matches!(&self.task.engine, Engine::Wasm(wasm) if wasm.is_module(input));
        let validator = self.verification.validator.as_deref().and_then(normalised);
        !is_module && validator.is_some() && normalised(&input.target) == validator
    }
}

impl JobKind {
    /// The count of a job that gives none.
    pub fn default_count(self) -> u32 {
        if self.is_everywhere() { 0 } else { 1 }
    }

    /// Whether it runs on every matching node.
    pub fn is_everywhere(self) -> bool {
        matches!(self, JobKind::Ops | JobKind::Daemon)
    }

    /// Its name in a job file.
    pub fn name(self) -> &'static str {
        match self {
            JobKind::Batch => "batch",
            JobKind::Ops => "ops",
            JobKind::Service => "service",
            JobKind::Daemon => "daemon",
        }
    }
}

impl NetworkKind {
    /// Its name in a job file.
    pub fn name(self) -> &'static str {
        match self {
            NetworkKind::None => "None",
            NetworkKind::Host => "Host",
            NetworkKind::Http => "HTTP",
            NetworkKind::Bridge => "Bridge",
        }
    }
}

impl Task {
    /// A task called `main` without inputs and results.
    pub fn new(engine: Engine) -> Self {
        Self {
            name: "main".into(),
            engine,
            publisher: Publisher::Blob(BlobPublisher::default()),
            env: BTreeMap::new(),
            meta: BTreeMap::new(),
            input_sources: Vec::new(),
            result_paths: Vec::new(),
            resources: Resources::default(),
            network: Network::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Constraint {
    /// Whether it is a preference rather than a condition.
    pub fn is_soft(&self) -> bool {
        self.key.starts_with(SOFT_PREFIX)
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu: Cpu(DEFAULT_CPU_MILLIS),
            memory: Bytes(DEFAULT_MEMORY_BYTES),
            disk: Bytes(DEFAULT_OUTPUT_BYTES),
            gpu: Gpus(0),
        }
    }
}

impl Verification {
    /// The default: a quorum for deterministic engines, none for others.
    pub fn for_engine(engine: &Engine) -> Self {
        match engine {
            Engine::Wasm(_) => Self::completed(VerificationKind::Quorum, None, None, None),
            Engine::Docker(_) | Engine::Noop => Self::completed(VerificationKind::None, None, None, None),
        }
    }

    /// Completes what its author left out.
    ///
    /// A quorum is 2 of 3 with up to 7; what is given moves the rest along, so that `Executions: 1` or
    /// `Agreement: 5` alone is a valid verification: the most is `Executions` plus twice `Agreement`.
    pub fn completed(
        kind: VerificationKind,
        agreement: Option<u32>,
        executions: Option<u32>,
        max_executions: Option<u32>,
    ) -> Self {
        let (usual_agreement, usual_executions) = match kind {
            VerificationKind::Quorum => (2, 3),
            VerificationKind::None => (1, 1),
        };
        let executions = executions.unwrap_or_else(|| usual_executions.max(agreement.unwrap_or_default()));
        let agreement = agreement.unwrap_or_else(|| usual_agreement.min(executions));
        let usual_max = match kind {
            VerificationKind::Quorum => executions.saturating_add(agreement.saturating_mul(2)).min(MAX_EXECUTIONS),
            VerificationKind::None => executions,
        };
        let max_executions = max_executions.unwrap_or(usual_max.max(executions));
        Self { kind, agreement, executions, max_executions, compare: Compare::All, validator: None }
    }
}

impl Compare {
    fn is_all(&self) -> bool {
        *self == Compare::All
    }

    /// What it chooses of a task's results; nothing if there is no such part.
    pub(crate) fn resolve(&self, paths: &[ResultPath]) -> Option<task::Compare> {
        let found = match self {
            Compare::All => task::Compare::All,
            Compare::Outputs if paths.is_empty() => return None,
            Compare::Outputs => task::Compare::Outputs,
            Compare::Part(part) => task::Compare::Part(named(part, paths)?),
        };
        Some(found)
    }
}

/// The name in the result of a part of it.
fn named(part: &str, paths: &[ResultPath]) -> Option<String> {
    let path = normalised(part);
    let by_name = paths.iter().find(|result| result.name == part);
    let by_path = || paths.iter().find(|result| path.is_some() && normalised(&result.path) == path);
    let stream = || task::STREAMS.into_iter().find(|stream| stream.eq_ignore_ascii_case(part));
    by_name.or_else(by_path).map(|result| result.name.clone()).or_else(|| stream().map(str::to_owned))
}

impl std::str::FromStr for Compare {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.trim() {
            all if all.eq_ignore_ascii_case("all") => Compare::All,
            outputs if outputs.eq_ignore_ascii_case("outputs") => Compare::Outputs,
            part => Compare::Part(part.to_owned()),
        })
    }
}

impl std::fmt::Display for Compare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Compare::All => "all",
            Compare::Outputs => "outputs",
            Compare::Part(part) => part,
        })
    }
}

impl Serialize for Compare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The names of operators in a job file; the first of an operator is the one we write.
pub(crate) const OPERATORS: [(&str, Operator); 11] = [
    ("=", Operator::Equals),
    ("==", Operator::Equals),
    ("!=", Operator::NotEquals),
    ("in", Operator::In),
    ("notin", Operator::NotIn),
    ("exists", Operator::Exists),
    ("!", Operator::Absent),
    ("gt", Operator::Greater),
    ("lt", Operator::Less),
    (">", Operator::Greater),
    ("<", Operator::Less),
];

/// How a job file writes an operator.
pub fn operator_name(operator: Operator) -> &'static str {
    OPERATORS.iter().find(|(_, known)| *known == operator).map_or("", |(name, _)| name)
}

impl Serialize for Job {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut job = serializer.serialize_struct("Job", 10)?;
        if let Some(name) = &self.name {
            job.serialize_field("Name", name)?;
        }
        job.serialize_field("Namespace", &self.namespace)?;
        job.serialize_field("Type", &self.kind)?;
        job.serialize_field("Priority", &self.priority)?;
        job.serialize_field("Count", &self.count)?;
        job.serialize_field("Constraints", &self.constraints)?;
        job.serialize_field("Meta", &self.meta)?;
        job.serialize_field("Labels", &self.labels)?;
        job.serialize_field("Tasks", &[&self.task])?;
        job.serialize_field("Verification", &self.verification)?;
        job.end()
    }
}

impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::job::parse::deserialize(deserializer)
    }
}

impl Serialize for Constraint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut constraint = serializer.serialize_struct("Constraint", 3)?;
        constraint.serialize_field("Key", &self.key)?;
        constraint.serialize_field("Operator", operator_name(self.operator))?;
        constraint.serialize_field("Values", &self.values)?;
        constraint.end()
    }
}
