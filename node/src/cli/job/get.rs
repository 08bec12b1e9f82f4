//! `shoal job get`: a job's result as files.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use shoal_protocol::record::JobState;

use crate::cli::output::{self, Format, OutputFlag};
use crate::cli::{Global, Status, connect, download};

/// Flags of `shoal job get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// The job's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    /// Where to write; it must be new or empty [default: ./job-ID]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Bacalhau's spelling of DIR
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "dir")]
    output_dir: Option<PathBuf>,
    /// Write what each execution revealed, also those that were not believed, a folder for each
    #[arg(long)]
    all_executions: bool,
    #[command(flatten)]
    output: OutputFlag,
}

impl Get {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let job = client.job(&self.id).await?;
        let dir = self.dir.or(self.output_dir).unwrap_or_else(|| download::usual_dir(job.job_id));
        if self.all_executions {
            if download::all_executions(&client, &job, &dir).await? == 0 {
                bail!("job {} has no execution whose result can be had", job.job_id);
            }
        } else if job.state == JobState::Completed {
            download::job_result(&client, &job, &dir).await?;
        } else if job.state.is_over() {
            let (id, state, reason) = (job.job_id, job.state, &job.state_reason);
            output::note(format_args!(
                "error: job {id} has no result: it is {state:?}: {reason}\n\
                 what its executions revealed can be had with --all-executions"
            ));
            return Ok(Status::JobFailed);
        } else {
            bail!("job {} has no result yet: it is {:?}", job.job_id, job.state);
        }
        match self.output.format(global.format) {
            Format::Table => output::print(&format!("the result of job {} is in {}", job.job_id, dir.display()))?,
            format => output::show(format, &serde_json::json!({ "JobID": job.job_id, "Dir": dir }), |_| String::new())?,
        }
        Ok(Status::Done)
    }
}
