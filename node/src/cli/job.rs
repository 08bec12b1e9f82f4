//! `shoal job`: runs jobs and looks after them.

mod run;

mod validate;

mod list;

mod describe;

pub(super) mod executions;

mod history;

mod logs;

mod get;

mod ls;

mod cat;

mod replay;

mod diff;

mod stop;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use shoal_protocol::id::ExecutionId;

use super::{Global, Status};
use crate::client::Client;

/// `shoal job`.
#[derive(Debug, Args)]
pub(super) struct Job {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a job file and wait for its verified result
    Run(Box<run::Run>),
    /// Check a job file without running it
    Validate(validate::Validate),
    /// List the newest jobs of the node
    List(list::List),
    /// Show everything about a job
    Describe(describe::Describe),
    /// List a job's executions
    Executions(executions::Executions),
    /// List what happened to a job
    History(history::History),
    /// Print what a job's program printed
    Logs(logs::Logs),
    /// Write a job's result, or a part of it, to a folder
    Get(get::Get),
    /// List the files of a job's result
    Ls(ls::Ls),
    /// Print one file of a job's result
    Cat(cat::Cat),
    /// Run a job again on the node, alone, and say whether the same comes of it
    Replay(replay::Replay),
    /// Find where an execution's run parts from the node's own
    Diff(diff::Diff),
    /// Stop a job
    Stop(stop::Stop),
}

impl Job {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        match self.command {
            Command::Run(command) => Box::pin(command.run(global)).await,
            Command::Validate(command) => command.run(global),
            Command::List(command) => command.run(global).await,
            Command::Describe(command) => command.run(global).await,
            Command::Executions(command) => command.run(global).await,
            Command::History(command) => command.run(global).await,
            Command::Logs(command) => command.run(global).await,
            Command::Get(command) => Box::pin(command.run(global)).await,
            Command::Ls(command) => command.run(global).await,
            Command::Cat(command) => command.run(global).await,
            Command::Replay(command) => command.run(global).await,
            Command::Diff(command) => command.run(global).await,
            Command::Stop(command) => command.run(global).await,
        }
    }
}

/// The execution whose id begins with `text`.
async fn find_execution(client: &Client, job: &str, text: &str) -> Result<ExecutionId> {
    let executions = client.executions(job).await?;
    let ids = executions.iter().map(|execution| execution.execution_id);
    let begins = |id: &ExecutionId| {
        let id = id.to_string();
        id.starts_with(text) || id.trim_start_matches("e-").starts_with(text)
    };
    match ids.filter(begins).collect::<Vec<_>>().as_slice() {
        [only] => Ok(*only),
        [] => bail!("job {job} has no execution {text}; `shoal job executions {job}` shows those it has"),
        _ => bail!("{text} is the beginning of several executions of job {job}: write more of the id"),
    }
}

/// A moment for people, from nanoseconds since the Unix epoch.
fn moment(nanos: u64) -> String {
    let text = crate::views::time::rfc3339(crate::views::job::moment(nanos));
    text.replace('T', " ")
}
