//! `shoal wasm`: a module, its arguments and inputs, without a job file.

mod inspect;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use shoal_protocol::job::input;
use shoal_protocol::job::spec::{DEFAULT_ENTRYPOINT, Engine, Job, Task, Wasm as Program};

use super::run::{self, RunFlags};
use super::task::{TaskFlags, module_target};
use super::{Global, Status};

/// Where a module is in the program's tree unless told otherwise, as in Bacalhau.
const MODULE_TARGET: &str = "/main.wasm";

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

#[cfg(test)]
mod tests {
    use clap::Parser;
    use shoal_protocol::job::spec::{Compare, VerificationKind};

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
    fn old_options_mean_what_the_new_ones_do() {
        let hash = "ab".repeat(32);
        let old = job(&format!("--concurrency 3 -s region=eu {hash}")).unwrap();
        assert_eq!(old, job(&format!("--count 3 --constraints region=eu --target any {hash}")).unwrap());
        assert_eq!((old.count, old.constraints.len()), (3, 1));
        let both = job(&format!("--concurrency 3 --count 2 {hash}")).unwrap_err().to_string();
        assert!(both.contains("--concurrency") && both.contains("--count"), "{both}");
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
            (format!("--target all {hash}"), "batch"),
            (format!("--selector =eu {hash}"), "--selector"),
        ];
        for (arguments, expected) in table {
            let error = format!("{:#}", job(&arguments).unwrap_err());
            assert!(error.contains(expected), "{arguments}: {error}");
        }
    }
}
