//! `shoal blob gc`.

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect};

/// Flags of `shoal blob gc`.
#[derive(Debug, Args)]
pub(super) struct Gc {
    #[command(flatten)]
    output: OutputFlag,
}

impl Gc {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let collected = connect::running(global).await?.gc().await?;
        output::show(self.output.format(global.format), &collected, |collected| {
            format!("removed {}, {}", output::count(collected.blobs, "blob"), output::size(collected.bytes))
        })?;
        Ok(Status::Done)
    }
}
