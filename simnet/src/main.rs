//! `simnet`: runs scenarios, in virtual time or with real nodes, and prints what they came to.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;
use shoal_simnet::mesh::{self, MeshSetup};
use shoal_simnet::{Setup, run, scenarios};

/// The exit status of a process that could not do what it was asked; a run that went wrong ends with 1.
const COULD_NOT: u8 = 2;

/// Runs whole meshes: real protocol machines in virtual time, or real nodes on loopback.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario in virtual time.
    Run(Run),
    /// Run a scenario with real nodes on loopback, in real time.
    Mesh(Mesh),
    /// List the scenarios.
    List,
}

#[derive(Debug, clap::Args)]
struct Run {
    /// Number of nodes.
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// Number of jobs.
    #[arg(long, default_value_t = 50)]
    jobs: usize,
    /// The seed; the same one gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to run, from that one on.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The scenario, or `all`.
    #[arg(long, default_value = "calm")]
    scenario: String,
    /// Really sign, encode and open every message.
    #[arg(long)]
    sealed: bool,
    /// How to print the reports.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Mesh {
    /// Number of nodes, at least 4.
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// Number of jobs.
    #[arg(long, default_value_t = 20)]
    jobs: usize,
    /// The seed; the same one gives the same plan of jobs and faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes that a shard has at least: a small mesh is cut too if this is small.
    #[arg(long, default_value_t = shoal_protocol::shard::SHARD_NODES)]
    shard_nodes: u32,
    /// The scenario: calm, crashes or churn.
    #[arg(long, default_value = "calm")]
    scenario: String,
    /// How to print the report.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
    let ran = match Arguments::parse().command {
        Command::List => list(),
        Command::Run(arguments) => run_seeds(&arguments),
        Command::Mesh(arguments) => run_mesh(&arguments),
    };
    ran.unwrap_or_else(|error| {
        eprintln!("simnet: {error:#}");
        ExitCode::from(COULD_NOT)
    })
}

fn list() -> anyhow::Result<ExitCode> {
    let played: Vec<&str> = mesh::played().iter().map(|scenario| scenario.name).collect();
    for scenario in scenarios::all() {
        let how = if played.contains(&scenario.name) { "run, mesh" } else { "run" };
        writeln!(io::stdout(), "{:<12} {how:<10} {}", scenario.name, scenario.about)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_seeds(arguments: &Run) -> anyhow::Result<ExitCode> {
    if arguments.nodes == 0 {
        bail!("a mesh has at least one node; use --nodes 1 or more");
    }
    let scenarios = match arguments.scenario.as_str() {
        "all" => scenarios::all(),
        name => vec![scenarios::named(name).with_context(|| format!("no scenario {name:?}; see `simnet list`"))?],
    };
    let mut good = true;
    for scenario in &scenarios {
        for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
            let setup = Setup { nodes: arguments.nodes, jobs: arguments.jobs, seed, sealed: arguments.sealed };
            let report = run(scenario, setup);
            good &= report.is_good();
            print(report.table(), &report, arguments.format)?;
        }
    }
    Ok(status(good))
}

fn run_mesh(arguments: &Mesh) -> anyhow::Result<ExitCode> {
    let scenario = mesh::named(&arguments.scenario)?;
    let Mesh { nodes, jobs, seed, shard_nodes, .. } = *arguments;
    let setup = MeshSetup { nodes, jobs, seed, shard_nodes };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let report = runtime.block_on(mesh::run(&scenario, setup))?;
    print(report.table(), &report, arguments.format)?;
    Ok(status(report.is_good()))
}

fn status(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(table: String, report: &impl Serialize, format: Format) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => table,
        Format::Json => serde_json::to_string(report)? + "\n",
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}
