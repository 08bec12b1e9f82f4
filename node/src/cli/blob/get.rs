//! `shoal blob get`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, Format, OutputFlag};
use crate::cli::{Global, Status, connect, download, progress};
use crate::client::Client;
use crate::views::{BlobView, FetchRequest, KindView};

/// Flags of `shoal blob get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// A hash, or a blob ticket
    #[arg(value_name = "HASH|TICKET")]
    what: String,
    /// Where to write: a folder's files, or a file under its hash [default: . for a file, ./HASH for a folder]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The hash is that of a folder: saves looking
    #[arg(long)]
    folder: bool,
    /// Replace files that are there already; others stay
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: OutputFlag,
}

impl Get {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let blob = progress::fetch(&client, &self.request(&client).await?).await?;
        let target = self.target(&blob);
        match blob.kind {
            KindView::File => download::blob_to(&client, blob.hash, blob.bytes, &target, self.force).await?,
            KindView::Folder => download::folder_to(&client, blob.hash, &target, self.force).await?,
        }
        match self.output.format(global.format) {
            Format::Table => output::print(&target.display().to_string())?,
            format => output::show(format, &serde_json::json!({ "Blob": blob, "Path": target }), |_| String::new())?,
        }
        Ok(Status::Done)
    }

    async fn request(&self, client: &Client) -> Result<FetchRequest> {
        // Tickets begin with a word that no hash does.
        if self.what.starts_with("blob") {
            return Ok(FetchRequest { ticket: Some(self.what.clone()), ..FetchRequest::default() });
        }
        let hash = super::hash(&self.what)?;
        let kind = if self.folder { KindView::Folder } else { super::kind_of(client, hash).await };
        Ok(FetchRequest { hash: Some(hash), kind, ..FetchRequest::default() })
    }

    fn target(&self, blob: &BlobView) -> PathBuf {
        let hash = blob.hash.to_string();
        match (&self.dir, blob.kind) {
            (Some(dir), KindView::Folder) => dir.clone(),
            (dir, _) => dir.as_deref().unwrap_or(Path::new(".")).join(hash),
        }
    }
}
