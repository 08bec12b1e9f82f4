//! `shoal job history`: what happened to a job, in order.

use anyhow::Result;
use clap::{Args, ValueEnum};
use shoal_protocol::id::{ExecutionId, PeerId};

use super::find_execution;
use crate::cli::output::{Ids, ListFlags, Rows};
use crate::cli::{Global, Status, connect, progress};
use crate::views::EventView;

/// Flags of `shoal job history`.
#[derive(Debug, Args)]
pub(super) struct History {
    /// The job's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    /// Which events: all, those of the job itself, or those of its executions
    #[arg(long, value_enum, default_value_t)]
    event_type: EventType,
    /// Only those of this execution (or the beginning of its id)
    #[arg(long, value_name = "ID")]
    execution_id: Option<String>,
    #[command(flatten)]
    output: ListFlags,
}

/// What an event is about.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EventType {
    #[default]
    All,
    Job,
    Execution,
}

impl History {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let mut events = client.history(&self.id).await?;
        if let Some(text) = &self.execution_id {
            let execution = find_execution(&client, &self.id, text).await?;
            events.retain(|event| event.execution_id == Some(execution));
        }
        events.retain(|event| self.event_type.includes(event));
        self.output.show(global.format, &events, |events, ids| rows(events, ids))?;
        Ok(Status::Done)
    }
}

impl EventType {
    fn includes(self, event: &EventView) -> bool {
        match self {
            EventType::All => true,
            EventType::Job => event.execution_id.is_none(),
            EventType::Execution => event.execution_id.is_some(),
        }
    }
}

fn rows(events: &[EventView], ids: Ids) -> Rows<5> {
    let row = |event: &EventView| {
        let execution = event.execution_id.map(|id| ids.of(&id, ExecutionId::short)).unwrap_or_default();
        let peer = event.peer_id.map(|id| ids.of(&id, PeerId::short)).unwrap_or_default();
        [event.time.replace('T', " "), progress::word(event.step).into(), execution, peer, event.detail.clone()]
    };
    Rows::new(["time", "event", "execution", "peer", "detail"], events.iter().map(row))
}
