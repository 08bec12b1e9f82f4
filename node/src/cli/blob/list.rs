//! `shoal blob list`.

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect};
use crate::views::BlobRow;

/// Flags of `shoal blob list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    output: OutputFlag,
}

impl List {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let blobs = connect::running(global).await?.blobs().await?;
        output::show(self.output.format(global.format), &blobs, |blobs| table(blobs))?;
        Ok(Status::Done)
    }
}

fn table(blobs: &[BlobRow]) -> String {
    let row = |blob: &BlobRow| {
        let here = if blob.complete { "complete" } else { "partial" };
        [blob.hash.to_string(), output::size(blob.bytes), here.into(), blob.pins.join(" ")]
    };
    output::table(["hash", "size", "here", "pins"], blobs.iter().map(row))
}
