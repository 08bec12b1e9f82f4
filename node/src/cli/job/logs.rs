//! `shoal job logs`: a program's stdout on ours, its stderr on ours.

use anyhow::{Result, bail};
use clap::Args;
use shoal_protocol::id::ExecutionId;

use crate::cli::run::copy_log;
use crate::cli::{Global, Status, connect};
use crate::client::{Client, LogQuery};

/// Flags of `shoal job logs`.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The job's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    /// Of this execution (or the beginning of its id), rather than of one that agreed
    #[arg(short, long, value_name = "ID")]
    execution_id: Option<String>,
    /// Go on until the program has ended
    #[arg(short, long)]
    follow: bool,
}

impl Logs {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let job = client.job(&self.id).await?.job_id;
        let execution = match &self.execution_id {
            Some(text) => Some(find(&client, &self.id, text).await?),
            None => None,
        };
        let query = LogQuery { execution, follow: self.follow };
        tokio::try_join!(copy_log(&client, job, "stdout", &query), copy_log(&client, job, "stderr", &query))?;
        Ok(Status::Done)
    }
}

/// The execution whose id begins with `text`.
async fn find(client: &Client, job: &str, text: &str) -> Result<ExecutionId> {
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
