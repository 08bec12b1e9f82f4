//! `shoal blob gc`.

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect};

/// Flags of `shoal blob gc`.
#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputFlag,
}

impl Gc {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let collected = connect::running(global).await?.gc(self.dry_run).await?;
        output::show(self.output.format(global.format), &collected, |collected| {
            let verb = if self.dry_run { "would remove" } else { "removed" };
            format!("{verb} {}, {}", output::count(collected.blobs, "blob"), output::size(collected.bytes))
        })?;
        Ok(Status::Done)
    }
}
