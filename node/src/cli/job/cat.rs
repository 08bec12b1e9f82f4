//! `shoal job cat`.

use anyhow::{Result, bail};
use clap::Args;
use futures_util::{StreamExt, pin_mut};

use crate::cli::listing::{self, Found, Listing, Place};
use crate::cli::{Global, Status, connect, output};

/// Flags of `shoal job cat`.
#[derive(Debug, Args)]
pub(super) struct Cat {
    /// The job's id, or its beginning, and a file of its result
    #[arg(value_name = "ID/PATH")]
    place: Place,
    /// The path begins with an execution's id, as `job ls --all-executions` shows it
    #[arg(long)]
    all_executions: bool,
}

impl Cat {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let Place { job: id, path } = &self.place;
        if path.is_empty() {
            bail!("{id} names no file: write `shoal job cat {id}/stdout`; `shoal job ls {id}` shows what there is");
        }
        let client = connect::running(global).await?;
        let job = client.job(id).await?;
        let listing = match self.all_executions {
            true => Listing::revealed(&client, &job).await?,
            false => Listing::believed(&client, &job).await?,
        };
        let Found::File(file) = listing.find(path)? else {
            bail!("{path} is a folder: `shoal job ls {id}/{path}` shows what is in it");
        };
        file.have(&client).await.map_err(|error| listing::explained(&job, error.into()))?;
        let pieces = client.read(file.hash).await?;
        pin_mut!(pieces);
        while let Some(piece) = pieces.next().await {
            output::write(&piece?)?;
        }
        Ok(Status::Done)
    }
}
