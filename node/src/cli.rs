//! The command line: one file per command, each with its flags, its doc and its action.
//!
//! Results go to stdout, everything else to stderr. Exit status: 0 done, 1 the job failed, was disputed or exited
//! non-zero, or the doctor found something wrong, 2 we failed or were asked for something impossible.

mod connect;

mod output;

mod run;

mod progress;

mod upload;

mod download;

mod listing;

mod signal;

mod spec;

mod task;

mod node;

mod ticket;

mod devnet;

mod wasm;

mod docker;

mod job;

mod blob;

mod peer;

mod doctor;

mod relay;

mod mesh;

mod qr;

mod config;

mod bench;

mod completions;

mod compile_module;

mod hold_network;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::output::Format;

/// A peer-to-peer compute mesh: any peer submits a job, others run it, and a result is believed when independent
/// executions agree.
#[derive(Debug, Parser)]
#[command(name = "shoal", version, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command knows.
#[derive(Debug, Clone, Args)]
struct Global {
    /// Where the node keeps its key, state and blobs [default: the platform's data directory]
    #[arg(long, global = true, value_name = "DIR", env = "SHOAL_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The API of the node to talk to [default: that of the node running on the data directory]
    #[arg(long, global = true, value_name = "URL", env = "SHOAL_API")]
    api: Option<String>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node, or ask about the running one
    Node(Box<node::Node>),
    /// Print the running node's join ticket
    Ticket(ticket::Ticket),
    /// Run several nodes in one process, on loopback
    Devnet(devnet::Devnet),
    /// Run WebAssembly modules
    Wasm(wasm::Wasm),
    /// Run containers
    Docker(docker::Docker),
    /// Run jobs and look after them
    Job(job::Job),
    /// Add, get and keep content
    Blob(blob::Blob),
    /// Look at the mesh around the running node
    Peer(peer::Peer),
    /// Say what is wrong, and what to do about it
    ///
    /// It looks at the data directory, the disk and the docker engine; at the mesh's name, the membership, the peers, and
    /// whether they speak a protocol version that this node speaks; at the clock; and at whether this node can be reached.
    /// It exits with 1 if something is wrong.
    Doctor(doctor::Doctor),
    /// Relay for peers that cannot reach each other directly, and look at relays
    Relay(Box<relay::Relay>),
    /// Make private meshes, let others in, send them away
    Mesh(mesh::Mesh),
    /// Look at settings
    Config(config::Config),
    /// Measure this machine
    Bench(bench::Bench),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Compile a module for the node that started this
    #[command(name = compile_module::NAME, hide = true)]
    CompileModule,
    /// Hold the network of a container for the node that started this
    #[command(name = hold_network::NAME, hide = true)]
    HoldNetwork,
}

/// How a command ended that did what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// Done.
    Done,
    /// The job failed, was disputed, or exited non-zero.
    JobFailed,
    /// The doctor found something wrong.
    Unwell,
    /// A command that was run for this one ended so.
    Other(u8),
}

/// Exit status of our own failure, and of bad usage.
const FAILED: u8 = 2;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    main_of(std::env::args_os())
}

fn main_of(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { FAILED } else { 0 });
        }
    };
    if let Command::CompileModule = cli.command {
        // Without a runtime: it shares nothing with us but the program.
        return shoal_executors::wasm::compiler::serve();
    }
    if let Command::HoldNetwork = cli.command {
        return shoal_executors::docker::network::serve();
    }
    start_logging(cli.command.usual_level());
    let ended = start_runtime().and_then(|runtime| {
        let ended = runtime.block_on(cli.command.run(&cli.global));
        // What a library still does in the background is not worth waiting for.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::from(FAILED)
        }
    }
}

impl Command {
    async fn run(self, global: &Global) -> Result<Status> {
        match self {
            Command::Node(command) => Box::pin(command.run(global)).await,
            Command::Ticket(command) => command.run(global).await,
            Command::Devnet(command) => Box::pin(command.run(global)).await,
            Command::Wasm(command) => Box::pin(command.run(global)).await,
            Command::Docker(command) => Box::pin(command.run(global)).await,
            Command::Job(command) => Box::pin(command.run(global)).await,
            Command::Blob(command) => Box::pin(command.run(global)).await,
            Command::Peer(command) => command.run(global).await,
            Command::Doctor(command) => Box::pin(command.run(global)).await,
            Command::Relay(command) => Box::pin(command.run(global)).await,
            Command::Mesh(command) => command.run(global).await,
            Command::Config(command) => command.run(global),
            Command::Bench(command) => Box::pin(command.run(global)).await,
            Command::Completions(command) => command.run(),
            Command::CompileModule | Command::HoldNetwork => unreachable!("it runs without a runtime"),
        }
    }

    /// What is logged unless `SHOAL_LOG` says otherwise. A node tells what it does; a command's output is its result.
    fn usual_level(&self) -> &'static str {
        match self {
            Command::Node(node) if node.is_service() => "warn,shoal=info",
            Command::Relay(relay) if relay.is_service() => "warn,shoal=info",
            _ => "error",
        }
    }
}

impl Status {
    fn code(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::JobFailed | Status::Unwell => 1,
            Status::Other(code) => code,
        }
    }
}

/// The AWS SDK warns when a cloud gives no credentials. Whether they are missed our own errors say, with what to do.
/// iroh warns of every stranger that comes to the wrong door, which anybody can do as often as they like.
/// So does mDNS of everything on the local network that it cannot read.
/// The DHT warns that a node is alone, which the first one of a mesh always is; that is `shoal doctor`'s to say.
/// iroh's way through relays takes its own end for an error each time a node stops.
const UNHEARD: &str = "aws_config=error,iroh::protocol=error,iroh_mdns_address_lookup=off,swarm_discovery=error,\
    libp2p_kad=error,iroh::socket::transports::relay=off,iroh::socket::transports::relay::actor=warn";

fn start_logging(usual: &str) {
    let usual = || EnvFilter::new(format!("{usual},{UNHEARD}"));
    let filter = EnvFilter::try_from_env("SHOAL_LOG").unwrap_or_else(|_| usual());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let _ = subscriber.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init();
}

fn start_runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// A reader that has seen enough, as in `shoal job list | head -1`, is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<output::StdoutClosed>().is_some() || error.downcast_ref::<io::Error>().is_some_and(is_broken)
}

impl Global {
    /// The node's data directory.
    fn data_dir(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.data_dir {
            // Whoever is told of it may be somewhere else.
            return std::path::absolute(dir).with_context(|| format!("cannot use {}", dir.display()));
        }
        let dirs = directories::ProjectDirs::from("", "", "shoal");
        let dirs = dirs.context("this user has no home directory: name a data directory with --data-dir")?;
        Ok(dirs.data_dir().to_owned())
    }
}

#[cfg(test)]
mod tests;
