//! `shoal docker`: an image, its command and inputs, without a job file.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use reqwest::Body;
use serde::Serialize;
use shoal_executors::docker::{self, DEFAULT_HOST};
use shoal_protocol::id::BlobHash;
use shoal_protocol::job::spec::{Docker as Program, Engine, Job, Task};

use super::blob::Keep;
use super::output::{self, OutputFlag};
use super::run::{self, RunFlags};
use super::task::TaskFlags;
use super::{Global, Status, connect, progress};

/// `shoal docker`.
#[derive(Debug, Args)]
pub(super) struct Docker {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a container and wait for its result
    Run(Box<Run>),
    /// Make an image a blob, so that workers get it from the mesh
    PushImage(Push),
}

/// Flags of `shoal docker run`.
#[derive(Debug, Args)]
struct Run {
    /// An image of the node's engine or of a registry, or blob://HASH of one that was pushed
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
    /// What it is to run on, for images that are there for several [default: what the node's engine runs]
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    platform: Option<String>,
    #[command(flatten)]
    task: TaskFlags,
    #[command(flatten)]
    run: RunFlags,
}

/// Flags of `shoal docker push-image`.
#[derive(Debug, Args)]
struct Push {
    /// An image of this machine's engine
    #[arg(value_name = "NAME")]
    image: String,
    /// The engine [default: DOCKER_HOST, else the usual socket]
    #[arg(long, value_name = "URL", env = "DOCKER_HOST", hide_env = true)]
    docker_host: Option<String>,
    #[command(flatten)]
    keep: Keep,
    #[command(flatten)]
    output: OutputFlag,
}

/// An image in the mesh.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pushed {
    image: String,
    hash: BlobHash,
    bytes: u64,
}

impl Docker {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        match self.command {
            Command::Run(command) => run::run_asked(global, command.job()?, &command.run).await,
            Command::PushImage(command) => command.run(global).await,
        }
    }
}

impl Run {
    fn job(&self) -> Result<Job> {
        let mut task = Task::new(Engine::Docker(Program {
            image: self.image.clone(),
            entrypoint: self.entrypoint.clone(),
            parameters: self.command.clone(),
            environment_variables: Vec::new(),
            working_directory: self.workdir.clone(),
            platform: self.platform.clone(),
        }));
        task.input_sources = self.task.inputs()?;
        self.task.job(task)
    }
}

impl Push {
    async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let host = self.docker_host.as_deref().filter(|host| !host.is_empty()).unwrap_or(DEFAULT_HOST);
        let archive = docker::save(host, &self.image).await?;
        let blob = {
            let _waiting = progress::waiting("saving");
            let blob = client.upload(Body::wrap_stream(archive)).await;
            blob.with_context(|| format!("cannot push image {}", self.image))?
        };
        self.keep.pin(&client, blob.hash, blob.kind).await?;
        let pushed = Pushed { image: format!("blob://{}", blob.hash), hash: blob.hash, bytes: blob.bytes };
        output::show(self.output.format(global.format), &pushed, |pushed| pushed.image.clone())?;
        Ok(Status::Done)
    }
}
