//! `shoal blob add`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::Keep;
use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect, upload};

/// Flags of `shoal blob add`.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// The file or folder
    #[arg(value_name = "PATH")]
    path: PathBuf,
    #[command(flatten)]
    keep: Keep,
    /// Leave files where they are instead of copying them; they must not change as long as they are kept
    #[arg(long)]
    in_place: bool,
    /// Do not keep it: without a job that uses it, it goes at a later collection
    #[arg(long, conflicts_with_all = ["name", "duration"])]
    no_pin: bool,
    #[command(flatten)]
    output: OutputFlag,
}

impl Add {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let blob = match self.in_place {
            true => upload::refer_to(&client, &self.path).await?,
            false => upload::upload(&client, &self.path).await?,
        };
        if !self.no_pin {
            self.keep.pin(&client, blob.hash, blob.kind).await?;
        }
        output::show(self.output.format(global.format), &blob, |blob| blob.hash.to_string())?;
        Ok(Status::Done)
    }
}
