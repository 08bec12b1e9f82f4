//! `shoal wasm`: a module, its arguments and inputs, without a job file.

mod inspect;

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use shoal_protocol::job::spec::{
    Compare, DEFAULT_ENTRYPOINT, Engine, InputSource, Job, NetworkKind, Resolve, Source, Task, Verification,
    VerificationKind, Wasm as Program,
};
use shoal_protocol::job::{input, selector};
use shoal_protocol::message::SourceKind;

use super::run::{self, RunFlags};
use super::{Global, Status};

/// Where a module is in the program's tree unless told otherwise, as in Bacalhau.
const MODULE_TARGET: &str = "/main.wasm";
/// Where a validator is named; it is not in the program's tree.
const VALIDATOR_TARGET: &str = "/validator.wasm";

/// `shoal wasm`.
#[derive(Debug, Args)]
pub(super) struct Wasm {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a WebAssembly module and wait for its verified result
    Run(Box<Run>),
    /// Say what a module needs and offers; the exit status is 1 if it cannot run here
    Inspect(inspect::Inspect),
}

/// Flags of `shoal wasm run`.
#[derive(Debug, Args)]
struct Run {
    /// A file, a blob hash, a URI, or the target of an --input
    #[arg(value_name = "MODULE")]
    module: String,
    /// The program's arguments; those that begin with a dash come after `--`
    #[arg(value_name = "ARGS")]
    arguments: Vec<String>,
    /// The exported function to call
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ENTRYPOINT)]
    entry_point: String,
    /// A module that the program imports, and its import name (repeatable)
    #[arg(short = 'I', long = "import-module", alias = "import-modules", value_name = "SRC:NAME")]
    import_modules: Vec<String>,
    #[command(flatten)]
    task: TaskFlags,
    #[command(flatten)]
    run: RunFlags,
}

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
    /// Higher goes first
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    priority: Option<i64>,
    /// Which workers may run it, for example 'region=eu,gpu in (a,b)'
    #[arg(long, alias = "selector", short_alias = 's', value_name = "SELECTOR")]
    constraints: Option<String>,
    /// A label of the job (repeatable)
    #[arg(short, long = "labels", value_name = "K=V")]
    labels: Vec<String>,
    /// Where results go: blob[,opt=retention=7d], local, ipfs or s3://BUCKET/KEY [default: blob]
    #[arg(short, long, value_name = "PUBLISHER")]
    publisher: Option<String>,
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

impl Wasm {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let command = match self.command {
            Command::Run(command) => command,
            Command::Inspect(command) => return command.run(global).await,
        };
        run::run_asked(global, command.job()?, &command.run).await
    }
}

impl Run {
    fn job(&self) -> Result<Job> {
        let mut inputs = self.task.inputs()?;
        let entry_module = module_target(&self.module, MODULE_TARGET, &mut inputs)?;
        let mut import_modules = Vec::new();
        for import in &self.import_modules {
            let source = input::import_module(import).with_context(|| format!("--import-module {import}"))?;
            import_modules.push(source.target.clone());
            inputs.push(source);
        }
        let program = Program {
            entry_module,
            entrypoint: self.entry_point.clone(),
            parameters: self.arguments.clone(),
            import_modules,
        };
        let mut task = Task::new(Engine::Wasm(program));
        task.input_sources = inputs;
        self.task.job(task)
    }
}

/// The path of a module in the program's tree: that of an input, or of one more, which is put at `usual`.
fn module_target(module: &str, usual: &str, inputs: &mut Vec<InputSource>) -> Result<String> {
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
        let mut job = Job::new(task);
        job.name.clone_from(&self.name);
        if let Some(namespace) = &self.namespace {
            job.namespace.clone_from(namespace);
        }
        job.count = self.count.unwrap_or(job.count);
        job.priority = self.priority.unwrap_or(job.priority);
        if let Some(text) = &self.constraints {
            job.constraints = selector::parse(text).context("--constraints")?;
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        run: Run,
    }

    fn job(arguments: &str) -> Result<Job> {
        Alone::try_parse_from(format!("wasm {arguments}").split_whitespace())?.run.job()
    }

    #[test]
    fn a_module_by_hash_is_an_input_at_the_usual_place() {
        let hash = "ab".repeat(32);
        let job = job(&format!("--memory 1GiB -e A=b -o out:/out {hash} one --cpu 1 -- --n 7")).unwrap();
        let Engine::Wasm(program) = &job.task.engine else { panic!("{:?}", job.task.engine) };
        assert_eq!((program.entry_module.as_str(), program.entrypoint.as_str()), ("/main.wasm", "_start"));
        assert_eq!(program.parameters, ["one", "--n", "7"]);
        assert_eq!(job.task.input_sources[0].source.kind(), "blob");
        assert_eq!(job.task.resources.memory.0, 1 << 30);
        assert_eq!(job.task.result_paths[0].path, "/out");
        assert_eq!(job.task.env["A"], "b");
    }

    #[test]
    fn a_module_can_be_the_target_of_an_input() {
        let job = job(&format!("-i {}:/app/x.wasm app/x.wasm", "ab".repeat(32))).unwrap();
        assert_eq!(job.task.input_sources.len(), 1);
    }

    #[test]
    fn one_execution_asks_for_no_verification() {
        let hash = "ab".repeat(32);
        assert_eq!(job(&format!("--executions 1 {hash}")).unwrap().verification.kind, VerificationKind::None);
        let five = job(&format!("--executions 5 --agreement 3 {hash}")).unwrap().verification;
        assert_eq!((five.agreement, five.executions), (3, 5));
        let none = job(&format!("--verification None {hash}")).unwrap().verification;
        assert_eq!((none.kind, none.executions), (VerificationKind::None, 1));
        let part = job(&format!("--compare out -o out:/out {hash}")).unwrap().verification;
        assert_eq!((part.kind, part.compare), (VerificationKind::Quorum, Compare::Part("out".into())));
    }

    #[test]
    fn mistakes_name_the_flag_or_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text.wasm");
        std::fs::write(&text, "hello").unwrap();
        let (hash, text) = ("ab".repeat(32), text.display().to_string());
        let table = [
            (format!("--memory lots {hash}"), "--memory"),
            (format!("-e A {hash}"), "--env"),
            (format!("-o out {hash}"), "--output"),
            (text, "not a WebAssembly module"),
            ("nowhere.wasm".into(), "nowhere.wasm"),
            (dir.path().display().to_string(), "folder"),
            (format!("--network some {hash}"), "--network"),
        ];
        for (arguments, expected) in table {
            let error = format!("{:#}", job(&arguments).unwrap_err());
            assert!(error.contains(expected), "{arguments}: {error}");
        }
    }
}
