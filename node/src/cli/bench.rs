//! `shoal bench`: measures this machine.

mod docker;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use shoal_executors::bench::{self, Effort, Figure};

use super::{Global, Status, compile_module, output};

/// `shoal bench`.
#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the WebAssembly engine: the cost of a job that does nothing, the determinism profile against plain
    /// wasmtime and (where there is a C compiler) native code, calls of the host, and the first run of a large module
    Wasm(Wasm),
    /// Measure what a container that does nothing costs as a job, against `docker run` of the same
    Docker(docker::Docker),
}

/// Flags of `shoal bench wasm`.
#[derive(Debug, Args)]
struct Wasm {
    /// Runs of the job that does nothing
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Size of the large module, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100))]
    large: u32,
    #[command(flatten)]
    output: output::OutputFlag,
}

/// One figure, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
}

impl Bench {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let (figures, output) = match self.command {
            Command::Wasm(flags) => (flags.measure().await?, flags.output),
            Command::Docker(flags) => (Box::pin(flags.measure()).await?, flags.output),
        };
        let rows: Vec<Row> = figures.into_iter().map(Row::from).collect();
        output::show(output.format(global.format), &rows, |rows| {
            output::pairs(rows.iter().map(|row| (row.name.as_str(), format!("{:.2} {}", row.value, row.unit))))
        })?;
        Ok(Status::Done)
    }
}

impl Wasm {
    async fn measure(&self) -> Result<Vec<Figure>> {
        let effort = Effort { trivial_runs: usize::try_from(self.runs)?, large_mib: self.large };
        let compiler = compile_module::compiler()?;
        bench::measure(Some(compiler), effort).await.context("cannot measure")
    }
}

impl From<Figure> for Row {
    fn from(Figure { name, value, unit }: Figure) -> Self {
        Self { name, value, unit }
    }
}
