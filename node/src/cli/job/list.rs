//! `shoal job list`.

use anyhow::Result;
use clap::Args;
use shoal_protocol::id::JobId;

use crate::cli::output::{Ids, ListFlags, Rows};
use crate::cli::{Global, Status, connect};
use crate::views::JobSummary;

/// Flags of `shoal job list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// How many, the newest first
    #[arg(short = 'n', long, default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    output: ListFlags,
}

impl List {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let jobs = connect::running(global).await?.jobs(self.limit).await?;
        self.output.show(global.format, &jobs, |jobs, ids| rows(jobs, ids))?;
        Ok(Status::Done)
    }
}

fn rows(jobs: &[JobSummary], ids: Ids) -> Rows<7> {
    let row = |job: &JobSummary| {
        let name = if job.name == job.job_id.to_string() { String::new() } else { job.name.clone() };
        let created = super::moment(job.create_time);
        let state = format!("{:?}", job.state);
        let id = ids.of(&job.job_id, JobId::short);
        [created, id, name, job.engine.clone(), job.kind.clone(), job.verification.clone(), state]
    };
    Rows::new(["created", "id", "name", "engine", "type", "verification", "state"], jobs.iter().map(row))
}
