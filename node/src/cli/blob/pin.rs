//! `shoal blob pin`.

use anyhow::Result;
use clap::Args;

use super::Keep;
use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect, progress};
use crate::views::{FetchRequest, KindView};

/// Flags of `shoal blob pin`.
#[derive(Debug, Args)]
pub(super) struct Pin {
    /// The hash
    #[arg(value_name = "HASH")]
    hash: String,
    #[command(flatten)]
    keep: Keep,
    /// The hash is that of a folder: saves looking
    #[arg(long)]
    folder: bool,
    #[command(flatten)]
    output: OutputFlag,
}

impl Pin {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let hash = super::hash(&self.hash)?;
        let kind = if self.folder { KindView::Folder } else { super::kind_of(&client, hash).await };
        progress::fetch(&client, &FetchRequest { hash: Some(hash), kind, ..FetchRequest::default() }).await?;
        let pin = self.keep.pin(&client, hash, kind).await?;
        output::show(self.output.format(global.format), &pin, |pin| {
            let end = pin.until.as_ref().map(|until| format!(" until {until}")).unwrap_or_default();
            format!("{} is kept as {}{end}", pin.hash, pin.name)
        })?;
        Ok(Status::Done)
    }
}
