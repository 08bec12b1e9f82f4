//! `shoal job get`: a job's result as files.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use shoal_protocol::record::JobState;

use crate::cli::listing::{self, Listing, Place};
use crate::cli::output::{self, Format, OutputFlag};
use crate::cli::{Global, Status, connect, download};

/// Flags of `shoal job get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// The job's id, or its beginning; with a path, only that file or folder of its result
    #[arg(value_name = "ID[/PATH]")]
    place: Place,
    /// Where to write [default: ./job-ID]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Bacalhau's spelling of DIR
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "dir")]
    output_dir: Option<PathBuf>,
    /// Write what each execution revealed, also those that were not believed, a folder for each
    #[arg(long)]
    all_executions: bool,
    /// Replace files that are there already; others stay
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: OutputFlag,
}

impl Get {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let job = client.job(&self.place.job).await?;
        let dir = self.dir.or(self.output_dir).unwrap_or_else(|| download::usual_dir(job.job_id));
        let complete = job.verification.partitions.iter().all(|partition| partition.result_hash.is_some());
        let listing = if self.all_executions {
            Listing::revealed(&client, &job).await?
        } else if job.state.is_over() && !complete {
            let (id, state, reason) = (job.job_id, job.state, &job.state_reason);
            output::note(format_args!(
                "error: job {id} has no result: it is {state:?}: {reason}\n\
                 what its executions revealed can be had with --all-executions"
            ));
            return Ok(Status::JobFailed);
        } else {
            Listing::believed(&client, &job).await?
        };
        let whole = self.place.path.is_empty();
        let found = listing.find(&self.place.path)?;
        let written = download::listed(&client, found.files(), &dir, whole, self.force).await;
        written.map_err(|error| listing::explained(&job, error))?;
        if job.state == JobState::Failed && !self.all_executions {
            output::note(format_args!("note: the job has failed, but not for its result: {}", job.state_reason));
        }
        let written = if whole { dir } else { dir.join(&self.place.path) };
        match self.output.format(global.format) {
            Format::Table if whole => {
                output::print(&format!("the result of job {} is in {}", job.job_id, written.display()))?;
            }
            Format::Table => output::print(&written.display().to_string())?,
            format => {
                let written = serde_json::json!({ "JobID": job.job_id, "Dir": written });
                output::show(format, &written, |_| String::new())?;
            }
        }
        Ok(Status::Done)
    }
}
