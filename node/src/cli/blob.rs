//! `shoal blob`: content by hash, added, fetched, kept and collected.

mod add;

mod get;

mod list;

mod pin;

mod unpin;

mod gc;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use shoal_protocol::id::BlobHash;

use super::{Global, Status};

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
            Command::Pin(command) => command.run(global).await,
            Command::Unpin(command) => command.run(global).await,
            Command::Gc(command) => command.run(global).await,
        }
    }
}

fn hash(text: &str) -> Result<BlobHash> {
    text.parse().with_context(|| format!("cannot use {text:?}"))
}
