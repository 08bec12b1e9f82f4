//! `simnet`: runs scenarios and prints what they came to.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use shoal_simnet::report::Report;
use shoal_simnet::{Setup, run, scenarios};

/// Simulates a mesh of real protocol machines in virtual time.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario.
    Run(Run),
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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::List => list(),
        Command::Run(arguments) => run_seeds(&arguments),
    }
}

fn list() -> anyhow::Result<ExitCode> {
    for scenario in scenarios::all() {
        writeln!(io::stdout(), "{:<12} {}", scenario.name, scenario.about)?;
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
            print(&report, arguments.format)?;
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Report, format: Format) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => report.table(),
        Format::Json => serde_json::to_string(report)? + "\n",
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}
