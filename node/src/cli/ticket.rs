//! `shoal ticket`: one word with which others join the mesh.

use anyhow::Result;
use clap::Args;

use super::{Global, Status, connect, output};

/// Flags of `shoal ticket`.
#[derive(Debug, Args)]
pub(super) struct Ticket {
    #[command(flatten)]
    output: output::OutputFlag,
}

impl Ticket {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let ticket = connect::running(global).await?.ticket().await?;
        output::show(self.output.format(global.format), &ticket, |view| view.ticket.clone())?;
        Ok(Status::Done)
    }
}
