//! `shoal blob list`.

use anyhow::Result;
use clap::Args;
use shoal_protocol::id::BlobHash;

use crate::cli::output::{self, ListFlags, Rows};
use crate::cli::{Global, Status, connect};
use crate::views::{BlobPin, BlobRow};

/// Flags of `shoal blob list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    /// Only those behind this hash: the last of the list before
    #[arg(long, value_name = "HASH")]
    after: Option<BlobHash>,
    #[command(flatten)]
    output: ListFlags,
}

impl List {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let blobs = connect::running(global).await?.blobs(self.after, self.limit).await?;
        self.output.show(global.format, &blobs, |blobs, _| rows(blobs))?;
        Ok(Status::Done)
    }
}

fn rows(blobs: &[BlobRow]) -> Rows<5> {
    let row = |blob: &BlobRow| {
        let here = if blob.complete { "complete" } else { "partial" };
        let used = blob.last_use.clone().unwrap_or_default();
        [blob.hash.to_string(), output::size(blob.bytes), here.into(), used, pins(&blob.pins)]
    };
    Rows::new(["hash", "size", "here", "last use", "pins"], blobs.iter().map(row))
}

fn pins(pins: &[BlobPin]) -> String {
    let named = |pin: &BlobPin| match &pin.until {
        Some(until) => format!("{} (until {until})", pin.name),
        None => pin.name.clone(),
    };
    pins.iter().map(named).collect::<Vec<_>>().join(" ")
}
