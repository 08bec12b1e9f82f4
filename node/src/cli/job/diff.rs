//! `shoal job diff`: finds the first host call and the first checkpoint in which two runs of a job differ.

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect, progress};
use crate::views::{DiffView, FindingView, RunView};

/// Flags of `shoal job diff`.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The job's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    /// The execution's id, or its beginning [default: the first that revealed something else than comes of it here]
    #[arg(value_name = "EXECUTION")]
    execution: Option<String>,
    /// Which partition
    #[arg(long, default_value_t = 0, value_name = "INDEX")]
    partition: u32,
    #[command(flatten)]
    output: OutputFlag,
}

impl Diff {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let waiting = progress::waiting("running it again, here and at the worker");
        let diff = client.diff(&self.id, self.partition, self.execution.as_deref()).await?;
        drop(waiting);
        output::show(self.output.format(global.format), &diff, text)?;
        Ok(if diff.same { Status::Done } else { Status::JobFailed })
    }
}

fn text(diff: &DiffView) -> String {
    let rows = [
        ("Execution", format!("{} of peer {}", diff.execution_id.short(), diff.peer_id.short())),
        ("Verdict", verdict(diff).to_owned()),
        ("Here", run(&diff.here)),
        ("There", run(&diff.there)),
        ("Host calls", found(diff.host_calls, "call")),
        ("Checkpoints", found(diff.checkpoints, "checkpoint")),
    ];
    let mut parts = vec![output::pairs(rows)];
    let both = [("here", &diff.here), ("there", &diff.there)];
    if let FindingView::First(number) = diff.host_calls {
        parts.extend(both.map(|(side, run)| format!("Call {number} {side}\n  {}", call(run))));
    }
    if let FindingView::First(number) = diff.checkpoints {
        parts.extend(both.map(|(side, run)| format!("Checkpoint {number} {side}\n{}", checkpoint(run))));
    }
    parts.join("\n\n")
}

fn verdict(diff: &DiffView) -> &'static str {
    match (diff.same, diff.as_revealed) {
        (true, true) => "no difference: what its worker revealed is what comes of it here too",
        (true, false) => "run again it is the same as here: what its worker had revealed did not come of the program",
        (false, true) => "run again it parts from the run here, and comes to what its worker had revealed",
        (false, false) => "run again it parts from the run here, and from what its worker had revealed too",
    }
}

fn run(run: &RunView) -> String {
    let (calls, checkpoints) =
        (output::count(run.host_calls, "host call"), output::count(run.checkpoints, "checkpoint"));
    format!("{}, result {}, {calls}, {checkpoints}, {} fuel", run.outcome, run.result_hash.short(), run.fuel_used)
}

fn found(finding: FindingView, what: &str) -> String {
    match finding {
        FindingView::Same => "the same".into(),
        FindingView::First(first) => format!("{what} {first} is the first that differs, counted from 0"),
        FindingView::Unsteady => "one side did not do again what it had done before".into(),
    }
}

fn call(run: &RunView) -> String {
    run.call.clone().unwrap_or_else(|| "there is none: the run had ended".into())
}

fn checkpoint(run: &RunView) -> String {
    let Some(checkpoint) = &run.checkpoint else { return "  there is none: the run had ended".into() };
    let (calls, memory) = (output::count(checkpoint.host_calls, "host call"), output::size(checkpoint.memory_bytes));
    format!("  {} fuel, {calls}, {memory}, in\n{}", checkpoint.fuel_used, checkpoint.backtrace.trim_end())
}
