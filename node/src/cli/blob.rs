//! `shoal blob`: content by hash, added, fetched, kept and collected.

mod add;

mod get;

mod list;

mod du;

mod pin;

mod unpin;

mod gc;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use shoal_protocol::id::BlobHash;

use super::{Global, Status, progress};
use crate::client::Client;
use crate::views::{FetchRequest, KindView, PinView};

/// `shoal blob`.
#[derive(Debug, Args)]
pub(super) struct Blob {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a file or folder to the node, and keep it
    Add(add::Add),
    /// Write content to disk; the node fetches it from the mesh if it has to
    Get(get::Get),
    /// List the node's blobs
    List(list::List),
    /// Say what the node's blobs use, and what keeps them
    Du(du::Du),
    /// Keep content until it is unpinned
    Pin(pin::Pin),
    /// Let go of content that was added or pinned
    Unpin(unpin::Unpin),
    /// Remove what no job, pin or transfer wants
    Gc(gc::Gc),
}

impl Blob {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        match self.command {
            Command::Add(command) => command.run(global).await,
            Command::Get(command) => Box::pin(command.run(global)).await,
            Command::List(command) => command.run(global).await,
            Command::Du(command) => command.run(global).await,
            Command::Pin(command) => command.run(global).await,
            Command::Unpin(command) => command.run(global).await,
            Command::Gc(command) => command.run(global).await,
        }
    }
}

/// For how long something is kept.
#[derive(Debug, Args)]
pub(super) struct Keep {
    /// Keep it under this name rather than its hash
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Keep it for this long, for example 7d or 12h, rather than until it is unpinned
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

impl Keep {
    pub(super) async fn pin(self, client: &Client, hash: BlobHash, kind: KindView) -> Result<PinView> {
        let name = self.name.unwrap_or_else(|| hash.to_string());
        // Less than a second is still some time.
        let seconds = self.duration.map(|duration| duration.as_secs().max(1));
        Ok(client.pin(&name, hash, kind, seconds).await?)
    }
}

/// What a hash is: a folder if its list of files can be had, here or from others, and is one.
async fn kind_of(client: &Client, hash: BlobHash) -> KindView {
    let kind = KindView::Folder;
    let list = FetchRequest { hash: Some(hash), kind, list_only: true, ..FetchRequest::default() };
    match client.entries(hash).await {
        Ok(_) => kind,
        Err(error) if error.code() == Some("not_found") && progress::fetch(client, &list).await.is_ok() => kind,
        Err(_) => KindView::File,
    }
}

fn hash(text: &str) -> Result<BlobHash> {
    text.parse().with_context(|| format!("cannot use {text:?}"))
}
