//! What the run commands can say about a job and its task, whatever the engine.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use shoal_protocol::job::spec::{
    Compare, InputSource, Job, NetworkKind, Resolve, Source, Task, Verification, VerificationKind,
};
use shoal_protocol::job::{input, selector};
use shoal_protocol::message::SourceKind;

use super::output;

/// Where a validator is named; it is not in the program's tree.
const VALIDATOR_TARGET: &str = "/validator.wasm";

/// What a run command can say about a job and its task, whatever the engine.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct TaskFlags {
    /// An input: a path, blob hash or URI, and where the program finds it [default target: /inputs] (repeatable)
    #[arg(short, long, value_name = "SRC[:DST]")]
    input: Vec<String>,
    /// Who reads inputs that are not in the mesh: this node once, or each worker when it runs the job
    #[arg(long, value_enum, ignore_case = true, default_value_t)]
    resolve: ResolveFlag,
    /// A folder or file that is part of the result (repeatable)
    #[arg(short, long, value_name = "NAME:PATH")]
    output: Vec<String>,
    /// An environment variable; `env:NAME` copies one of this machine (repeatable)
    #[arg(short, long, value_name = "K=V")]
    env: Vec<String>,
    /// When a result is believed: at once, or when independent executions agree
    #[arg(long, value_enum, ignore_case = true)]
    verification: Option<VerificationFlag>,
    /// What of two results must agree: all, outputs (the result paths), or the name or path of one of them, or stdout
    #[arg(long, value_name = "PART")]
    compare: Option<String>,
    /// A module that gets two results at /a and /b, and exits with 0 if they agree and with 1 if not: a file, a blob
    /// hash, a URI, or the target of an --input
    #[arg(long, value_name = "MODULE")]
    validator: Option<String>,
    /// Independent executions that are started at once; 1 verifies nothing
    #[arg(long, value_name = "N")]
    executions: Option<u32>,
    /// Executions that must agree
    #[arg(long, value_name = "N")]
    agreement: Option<u32>,
    /// Memory of one execution, for example 512MB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// CPU of one execution, for example 500m
    #[arg(long, value_name = "CPU")]
    cpu: Option<String>,
    /// Disk of one execution, for example 1GB
    #[arg(long, value_name = "SIZE")]
    disk: Option<String>,
    /// GPUs of one execution
    #[arg(long, value_name = "N")]
    gpu: Option<String>,
    /// Seconds that the job may take
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Seconds that the job may wait for workers
    #[arg(long, value_name = "SECONDS")]
    queue_timeout: Option<u64>,
    /// What network the program has
    #[arg(long, value_enum, ignore_case = true)]
    network: Option<NetworkFlag>,
    /// A host that a program with network HTTP may ask (repeatable)
    #[arg(long, value_name = "HOST")]
    domain: Vec<String>,
    /// The job's name
    #[arg(long)]
    name: Option<String>,
    /// The job's namespace
    #[arg(long)]
    namespace: Option<String>,
    /// The task's name
    #[arg(long, value_name = "NAME")]
    task_name: Option<String>,
    /// Number of partitions
    #[arg(long, value_name = "N")]
    count: Option<u32>,
    /// The old name of --count
    #[arg(long, value_name = "N", hide = true, conflicts_with = "count")]
    concurrency: Option<u32>,
    /// Whether as many workers as the job has partitions run it, or all that match
    #[arg(long, value_enum, ignore_case = true, default_value_t)]
    target: TargetFlag,
    /// Higher goes first
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    priority: Option<i64>,
    /// Which workers may run it, for example 'region=eu,gpu in (a,b)'
    #[arg(long, value_name = "SELECTOR")]
    constraints: Option<String>,
    /// The old name of --constraints
    #[arg(short, long, value_name = "SELECTOR", hide = true, conflicts_with = "constraints")]
    selector: Option<String>,
    /// A label of the job (repeatable)
    #[arg(short, long = "labels", alias = "label", value_name = "K=V")]
    labels: Vec<String>,
    /// Where results go: blob[,opt=retention=7d], local, ipfs or s3://BUCKET/KEY [default: blob]
    #[arg(short, long, value_name = "PUBLISHER")]
    publisher: Option<String>,
    /// Do not say which of these options are old
    #[arg(long)]
    hide_warnings: bool,
}

/// How many workers run a job.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TargetFlag {
    /// As many as it has partitions: a batch job.
    #[default]
    Any,
    /// All that match: a job of type ops.
    All,
}

/// Who reads sources.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ResolveFlag {
    /// The node that takes the job, once: every execution sees the same.
    #[default]
    Requester,
    /// Each worker: a path is one of its machine, and executions may see different things.
    Worker,
}

/// When a result is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum VerificationFlag {
    /// At once.
    None,
    /// When independent executions agree.
    Quorum,
}

/// Kinds of network, in Bacalhau's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NetworkFlag {
    /// None at all.
    None,
    /// HTTP to the hosts named with --domain.
    Http,
    /// The host's own.
    #[value(alias = "full")]
    Host,
    /// A network of its own with a way out.
    Bridge,
}

impl TaskFlags {
    pub(super) fn inputs(&self) -> Result<Vec<InputSource>> {
        let read = |text: &String| {
            let mut read = input::input(text).with_context(|| format!("--input {text}"))?;
            // What goes by its hash is the same for everybody, and what is written is written where the program runs.
            if SourceKind::of(&read.source).is_some() && !read.source.is_written() {
                read.resolve = self.resolve.into();
            }
            Ok(read)
        };
        self.input.iter().map(read).collect()
    }

    /// The job around a task.
    pub(super) fn job(&self, mut task: Task) -> Result<Job> {
        self.fill(&mut task)?;
        if self.target == TargetFlag::All {
            bail!(
                "--target all makes a job of type ops, which every matching worker runs once: this build runs only \
                 batch jobs yet; leave it out, and say with --count how many executions there are"
            );
        }
        self.warn();
        let mut job = Job::new(task);
        job.name.clone_from(&self.name);
        if let Some(namespace) = &self.namespace {
            job.namespace.clone_from(namespace);
        }
        job.count = self.count.or(self.concurrency).unwrap_or(job.count);
        job.priority = self.priority.unwrap_or(job.priority);
        for (text, flag) in [(&self.constraints, "--constraints"), (&self.selector, "--selector")] {
            job.constraints.extend(selector::parse(text.as_deref().unwrap_or_default()).context(flag)?);
        }
        for text in &self.labels {
            job.labels.extend(input::labels(text).context("--labels")?);
        }
        job.verification = self.verification(job.verification);
        if let Some(validator) = &self.validator {
            let target = module_target(validator, VALIDATOR_TARGET, &mut job.task.input_sources);
            job.verification.validator = Some(target.with_context(|| format!("--validator {validator}"))?);
        }
        Ok(job)
    }

    /// Says which options still work and what they are called today.
    fn warn(&self) {
        let old = [
            (self.concurrency.is_some(), "--concurrency", "--count"),
            (self.selector.is_some(), "--selector (-s)", "--constraints"),
        ];
        for (_, name, new) in old.into_iter().filter(|(given, ..)| *given && !self.hide_warnings) {
            output::note(format_args!("warning: {name} is an old option: write {new}"));
        }
    }

    fn fill(&self, task: &mut Task) -> Result<()> {
        if let Some(name) = &self.task_name {
            task.name.clone_from(name);
        }
        for text in &self.output {
            task.result_paths.push(input::result_path(text).context("--output")?);
        }
        for text in &self.env {
            task.env.extend([input::variable(text).context("--env")?]);
        }
        if let Some(text) = &self.publisher {
            task.publisher = input::publisher(text).context("--publisher")?;
        }
        if let Some(network) = self.network {
            task.network.kind = network.into();
        }
        task.network.domains.clone_from(&self.domain);
        task.timeouts.total_secs = self.timeout.unwrap_or_default();
        task.timeouts.queue_secs = self.queue_timeout.unwrap_or_default();
        let resources = &mut task.resources;
        set(&mut resources.memory, self.memory.as_ref(), "--memory")?;
        set(&mut resources.cpu, self.cpu.as_ref(), "--cpu")?;
        set(&mut resources.disk, self.disk.as_ref(), "--disk")?;
        set(&mut resources.gpu, self.gpu.as_ref(), "--gpu")
    }

    fn verification(&self, usual: Verification) -> Verification {
        let compare: Compare = self.compare.as_ref().map(|text| text.parse().unwrap_or_default()).unwrap_or_default();
        let kind = match (self.verification, self.agreement, self.executions) {
            (Some(flag), _, _) => flag.into(),
            (None, _, _) if self.compare.is_some() || self.validator.is_some() => VerificationKind::Quorum,
            (None, None, None) => return usual,
            (None, None | Some(1), Some(1)) => VerificationKind::None,
            (None, _, _) => VerificationKind::Quorum,
        };
        Verification { compare, ..Verification::completed(kind, self.agreement, self.executions, None) }
    }
}

fn set<T>(place: &mut T, text: Option<&String>, flag: &str) -> Result<()>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    if let Some(text) = text {
        *place = text.parse().with_context(|| flag.to_owned())?;
    }
    Ok(())
}

impl From<ResolveFlag> for Resolve {
    fn from(flag: ResolveFlag) -> Self {
        match flag {
            ResolveFlag::Requester => Resolve::Requester,
            ResolveFlag::Worker => Resolve::Worker,
        }
    }
}

impl From<VerificationFlag> for VerificationKind {
    fn from(flag: VerificationFlag) -> Self {
        match flag {
            VerificationFlag::None => VerificationKind::None,
            VerificationFlag::Quorum => VerificationKind::Quorum,
        }
    }
}

impl From<NetworkFlag> for NetworkKind {
    fn from(flag: NetworkFlag) -> Self {
        match flag {
            NetworkFlag::None => NetworkKind::None,
            NetworkFlag::Http => NetworkKind::Http,
            NetworkFlag::Host => NetworkKind::Host,
            NetworkFlag::Bridge => NetworkKind::Bridge,
        }
    }
}

/// The path of a module in the program's tree: that of an input, or of one more, which is put at `usual`.
pub(super) fn module_target(module: &str, usual: &str, inputs: &mut Vec<InputSource>) -> Result<String> {
    let plain = |path: &str| path.trim_start_matches('/').to_owned();
    let is_input = |source: &InputSource| plain(&source.target) == plain(module);
    if !Path::new(module).exists() && inputs.iter().any(is_input) {
        return Ok(module.to_owned());
    }
    let mut source = input::input(module).with_context(|| format!("module {module}"))?;
    if source.target == input::DEFAULT_TARGET {
        source.target = usual.into();
    }
    if let Source::LocalDirectory(local) = &source.source {
        check_module(Path::new(&local.source_path))?;
    }
    let target = source.target.clone();
    inputs.push(source);
    Ok(target)
}

/// Finds the plainest mistakes before anything is started or uploaded.
fn check_module(path: &Path) -> Result<()> {
    let mut magic = Vec::new();
    let file = std::fs::File::open(path).with_context(|| {
        format!(
            "cannot read the module {}: a module is a file, a blob hash, a URI or the target of an --input",
            path.display()
        )
    })?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        bail!("the module {} is a folder: name the .wasm file in it", path.display());
    }
    std::io::Read::read_to_end(&mut std::io::Read::take(file, 4), &mut magic)
        .with_context(|| format!("cannot read the module {}", path.display()))?;
    if magic != b"\0asm" {
        bail!("{} is not a WebAssembly module: it does not begin with \\0asm", path.display());
    }
    Ok(())
}
