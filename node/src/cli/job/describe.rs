//! `shoal job describe`: state, verification, executions and result of a job.

use anyhow::Result;
use clap::Args;
use shoal_protocol::record::ExecutionState;

use super::executions;
use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect};
use crate::views::{InputView, JobView, PartitionView};

/// Flags of `shoal job describe`.
#[derive(Debug, Args)]
pub(super) struct Describe {
    /// The job's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    output: OutputFlag,
}

impl Describe {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let job = connect::running(global).await?.job(&self.id).await?;
        output::show(self.output.format(global.format), &job, text)?;
        Ok(Status::Done)
    }
}

fn text(job: &JobView) -> String {
    let mut parts = vec![output::pairs(head(job))];
    if !job.inputs.is_empty() {
        parts.push(inputs(&job.inputs));
    }
    if job.verification.partitions.len() > 1 {
        parts.push(partitions(&job.verification.partitions));
    }
    if !job.executions.is_empty() {
        parts.push(executions::table(&job.executions));
    }
    parts.extend(backtrace(job));
    parts.join("\n\n")
}

/// Where the program trapped: as one tells it whose answer is believed, or else anybody.
fn backtrace(job: &JobView) -> Option<String> {
    let believed = job.executions.iter().filter(|one| one.state == ExecutionState::Agreed);
    let frames = believed.chain(&job.executions).find_map(|one| Some((one, one.backtrace.as_deref()?)));
    frames.map(|(one, frames)| format!("Backtrace of {}\n{frames}", one.execution_id.short()))
}

fn head(job: &JobView) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("Job", job.job_id.to_string()),
        ("Name", job.name.clone()),
        ("State", format!("{:?}", job.state)),
        ("Reason", job.state_reason.clone()),
        ("Verified", job.verification.in_words()),
        ("Created", super::moment(job.create_time)),
        ("Modified", super::moment(job.modify_time)),
    ];
    rows.extend(job.exit_in_words().map(|code| ("Exit code", code)));
    for dissenter in &job.verification.dissenters {
        rows.push(("Dissenter", dissenter.to_string()));
    }
    if let Some(result) = &job.result {
        rows.extend(result.hash.map(|hash| ("Result", hash.to_string())));
        rows.push(("Kept until", result.kept_until.clone()));
        rows.extend(result.ticket.clone().map(|ticket| ("Ticket", ticket)));
        rows.extend(result.published.iter().map(|published| ("Published", published.uri.clone())));
    }
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

fn inputs(inputs: &[InputView]) -> String {
    let row = |input: &InputView| {
        let parts = || if input.parts == 0 { "-".to_owned() } else { format!("{} parts", input.parts) };
        let content = input.hash.map_or_else(parts, |hash| hash.short());
        [input.target.clone(), input.kind.clone(), content, output::size(input.bytes), input.origin.clone()]
    };
    output::table(["input", "source", "content", "bytes", "origin"], inputs.iter().map(row))
}

fn partitions(partitions: &[PartitionView]) -> String {
    let row = |partition: &PartitionView| {
        let result = partition.result_hash.map_or_else(|| "-".into(), |hash| hash.short());
        let code = partition.exit_code.map_or_else(|| "-".into(), |code| code.to_string());
        let verified = if partition.verified { "yes" } else { "no" };
        let (agreed, dissented) = (partition.agreed.to_string(), partition.dissented.to_string());
        [partition.partition_index.to_string(), verified.into(), agreed, dissented, code, result]
    };
    output::table(["partition", "verified", "agreed", "dissented", "exit", "result"], partitions.iter().map(row))
}
