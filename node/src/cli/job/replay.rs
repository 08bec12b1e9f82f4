//! `shoal job replay`: runs a job again on the node, and says whether the same comes of it.

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect, progress};
use crate::views::{ComparedView, DifferenceView, ReplayView};

/// Files that are named for one execution; more are counted.
const MAX_NAMED: usize = 5;

/// Flags of `shoal job replay`.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The job's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    /// Which partition
    #[arg(long, default_value_t = 0, value_name = "INDEX")]
    partition: u32,
    #[command(flatten)]
    output: OutputFlag,
}

impl Replay {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let waiting = progress::waiting("running it again");
        let replay = client.replay(&self.id, self.partition).await?;
        drop(waiting);
        output::show(self.output.format(global.format), &replay, text)?;
        Ok(if replay.agrees == Some(false) { Status::JobFailed } else { Status::Done })
    }
}

fn text(replay: &ReplayView) -> String {
    let verdict = match replay.agrees {
        Some(true) => "the believed result came of it here too",
        Some(false) => "something else than the believed result came of it here",
        None => "no result is believed; this came of it here",
    };
    let rows = [
        ("Replay", verdict.to_owned()),
        ("Outcome", replay.outcome.clone()),
        ("Result", replay.result_hash.to_string()),
        ("Ran", format!("{} ms", replay.run_millis)),
        ("Fuel", replay.fuel_used.to_string()),
        ("Memory", output::size(replay.peak_memory_bytes)),
        ("Host calls", format!("{}, digest {}", replay.host_calls, replay.host_calls_digest)),
    ];
    let mut parts = vec![output::pairs(rows)];
    if !replay.executions.is_empty() {
        let head = ["execution", "peer", "state", "result", "host calls", "differs in"];
        parts.push(output::table(head, replay.executions.iter().map(row)));
    }
    parts.join("\n\n")
}

fn row(compared: &ComparedView) -> [String; 6] {
    let word = |same| if same { "same" } else { "differ" }.to_owned();
    let result = if compared.same_result { "same" } else { "differs" }.to_owned();
    let (id, peer, state) = (compared.execution_id.short(), compared.peer_id.short(), format!("{:?}", compared.state));
    [id, peer, state, result, word(compared.same_host_calls), differences(compared)]
}

fn differences(compared: &ComparedView) -> String {
    let Some(differences) = &compared.differences else { return "its files are not here".into() };
    let named = differences.iter().take(MAX_NAMED).map(|DifferenceView { name, offset }| match offset {
        Some(offset) => format!("{name} from byte {offset}"),
        None => format!("{name}, which only one has"),
    });
    let mut named: Vec<String> = named.collect();
    if differences.len() > MAX_NAMED {
        named.push(format!("{} more", differences.len() - MAX_NAMED));
    }
    named.join("; ")
}
