//! `shoal ticket`: one word with which others join the mesh.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::mesh::whole_seconds;
use super::{Global, Status, connect, output, qr};

/// Flags of `shoal ticket`.
#[derive(Debug, Args)]
pub(super) struct Ticket {
    /// For how long it is good, for example 7d [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    /// Show it as a QR code too
    #[arg(long)]
    qr: bool,
    #[command(flatten)]
    output: output::OutputFlag,
}

impl Ticket {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let seconds = self.expires.map(whole_seconds);
        let ticket = connect::running(global).await?.ticket(seconds).await?;
        let format = self.output.format(global.format);
        if self.qr {
            qr::print(format, &ticket.ticket)?;
        }
        output::show(format, &ticket, |view| view.ticket.clone())?;
        Ok(Status::Done)
    }
}
