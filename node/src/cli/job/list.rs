//! `shoal job list`.

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect};
use crate::views::JobSummary;

/// Flags of `shoal job list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// How many, the newest first
    #[arg(short = 'n', long, default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    output: OutputFlag,
}

impl List {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let jobs = connect::running(global).await?.jobs(self.limit).await?;
        output::show(self.output.format(global.format), &jobs, |jobs| table(jobs))?;
        Ok(Status::Done)
    }
}

fn table(jobs: &[JobSummary]) -> String {
    let row = |job: &JobSummary| {
        let name = if job.name == job.job_id.to_string() { String::new() } else { job.name.clone() };
        let created = super::moment(job.create_time);
        let state = format!("{:?}", job.state);
        [created, job.job_id.short(), name, job.engine.clone(), job.kind.clone(), job.verification.clone(), state]
    };
    output::table(["created", "id", "name", "engine", "type", "verification", "state"], jobs.iter().map(row))
}
