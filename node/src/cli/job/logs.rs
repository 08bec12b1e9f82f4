//! `shoal job logs`: a program's stdout on ours, its stderr on ours.

use anyhow::Result;
use clap::Args;

use super::find_execution;
use crate::cli::run::copy_log;
use crate::cli::{Global, Status, connect};
use crate::client::LogQuery;

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
    /// Begin with the last lines of each stream: 10, or as many as are written here
    #[arg(short, long, value_name = "LINES", num_args = 0..=1, require_equals = true, default_missing_value = "10")]
    tail: Option<u32>,
}

impl Logs {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let job = client.job(&self.id).await?.job_id;
        let execution = match &self.execution_id {
            Some(text) => Some(find_execution(&client, &self.id, text).await?),
            None => None,
        };
        let query = LogQuery { execution, follow: self.follow, tail: self.tail };
        tokio::try_join!(copy_log(&client, job, "stdout", &query), copy_log(&client, job, "stderr", &query))?;
        Ok(Status::Done)
    }
}
