//! `shoal blob unpin`.

use anyhow::Result;
use clap::Args;

use crate::cli::{Global, Status, connect, output};

/// Flags of `shoal blob unpin`.
#[derive(Debug, Args)]
pub(super) struct Unpin {
    /// The hash, or the name that it was pinned under
    #[arg(value_name = "HASH|NAME")]
    name: String,
}

impl Unpin {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        connect::running(global).await?.unpin(&self.name).await?;
        output::note(format_args!("{} is not kept any more; `shoal blob gc` frees its space", self.name));
        Ok(Status::Done)
    }
}
