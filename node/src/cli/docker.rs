//! `shoal docker run`: understood, and refused until this build has a docker executor.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::Status;
use super::run::RunFlags;
use super::wasm::TaskFlags;

/// `shoal docker`.
#[derive(Debug, Args)]
pub(super) struct Docker {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a container (this build has no docker executor yet)
    Run(Box<Run>),
}

/// Flags of `shoal docker run`.
#[derive(Debug, Args)]
struct Run {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The command and its arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Replaces the image's entry point (repeatable)
    #[arg(long, value_name = "WORD")]
    entrypoint: Vec<String>,
    /// Where the program starts
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    #[command(flatten)]
    task: TaskFlags,
    #[command(flatten)]
    run: RunFlags,
}

impl Docker {
    pub(super) fn run(self) -> Result<Status> {
        let Command::Run(run) = self.command;
        bail!(
            "cannot run the image {}: this build has no docker executor yet; `shoal wasm run` runs WebAssembly modules",
            run.image
        )
    }
}
