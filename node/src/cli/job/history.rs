//! `shoal job history`: every event of a job, in order.

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect, progress};
use crate::views::EventView;

/// Flags of `shoal job history`.
#[derive(Debug, Args)]
pub(super) struct History {
    /// The job's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    output: OutputFlag,
}

impl History {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let events = connect::running(global).await?.history(&self.id).await?;
        output::show(self.output.format(global.format), &events, |events| table(events))?;
        Ok(Status::Done)
    }
}

fn table(events: &[EventView]) -> String {
    let row = |event: &EventView| {
        let execution = event.execution_id.map(|id| id.short()).unwrap_or_default();
        let peer = event.peer_id.map(|id| id.short()).unwrap_or_default();
        [event.time.replace('T', " "), progress::word(event.step).into(), execution, peer, event.detail.clone()]
    };
    output::table(["time", "event", "execution", "peer", "detail"], events.iter().map(row))
}
