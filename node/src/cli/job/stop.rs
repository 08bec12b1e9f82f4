//! `shoal job stop`.

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect};

/// Flags of `shoal job stop`.
#[derive(Debug, Args)]
pub(super) struct Stop {
    /// The job's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    /// Print nothing
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    output: OutputFlag,
}

impl Stop {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let job = connect::running(global).await?.stop(&self.id).await?;
        if !self.quiet {
            let format = self.output.format(global.format);
            output::show(format, &job, |job| format!("job {} is {:?}", job.job_id, job.state))?;
        }
        Ok(Status::Done)
    }
}
