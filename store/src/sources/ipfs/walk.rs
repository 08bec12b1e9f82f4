//! From an address to blobs: down the path, then through the files and folders at its end.
//!
//! Folders and files are walked in the order in which archives are written, so that blocks are used as they arrive.
//! A large file goes into the store piece by piece.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::fetch::{FetchError, Fetcher};
use crate::blobs::{Blobs, ComposeError, Imported, MAX_DEPTH, MAX_FILES, NameError, StoreFailed, check_name};
use crate::ipfs::{Cid, Link, Node, NodeError, place};
use crate::sources::{Progress, Request};

/// The most entries of all folders together: every file, and as many folders.
const MAX_ENTRIES: usize = 2 * MAX_FILES;
/// The most links that wait for their turn: a block may have a quarter of a million.
const MAX_WAITING: usize = 1 << 18;
/// The most levels of one file's tree, or of one folder's tables.
const MAX_LEVELS: u32 = 64;
/// Pieces of a file that wait for the store, each a block.
const MAX_PIECES: usize = 4;

/// Why an address did not become blobs.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("block {cid} {reason}")]
    Node { cid: String, reason: NodeError },
    #[error("there is no {name:?} in {folder}{known}")]
    NoEntry { name: String, folder: String, known: String },
    #[error("{0} is a file, and the path goes on below it")]
    NoFolder(String),
    #[error("{0} is a folder where a part of a file should be")]
    FolderInFile(String),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("it holds more than the {0} bytes that are allowed")]
    TooLarge(u64),
    #[error("it has more than {MAX_FILES} files")]
    TooManyFiles,
    #[error("it has more than {MAX_ENTRIES} files and folders")]
    TooManyEntries,
    #[error("it is nested too deeply, or too wide, at {0}")]
    TooDeep(String),
    #[error(transparent)]
    Compose(#[from] ComposeError),
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// Reads one source into the store.
pub(super) struct Walk<'a> {
    blobs: &'a Blobs,
    fetcher: Fetcher,
    request: &'a Request<'a>,
    bytes: u64,
    entries: usize,
}

/// Something to visit.
#[derive(Clone)]
struct Waiting {
    /// Where it will be.
    name: String,
    cid: Cid,
    /// Folders above it.
    depth: usize,
    /// Tables of the same folder above it.
    tables: u32,
}

impl<'a> Walk<'a> {
    pub(super) fn new(blobs: &'a Blobs, fetcher: Fetcher, request: &'a Request<'a>) -> Self {
        Self { blobs, fetcher, request, bytes: 0, entries: 0 }
    }

    /// Imports what lies at the end of `path`.
    pub(super) async fn import(mut self, root: Cid, path: &[String]) -> Result<Imported, WalkError> {
        let end = self.descend(root, path).await?;
        match self.node(&end, &[]).await? {
            Node::File { data, links } => self.file(data, links).await,
            folder => self.folder(end, folder).await,
        }
    }

    async fn node(&mut self, cid: &Cid, way: &[String]) -> Result<Node, WalkError> {
        let block = self.fetcher.block(cid, way).await?;
        Node::decode(cid, block).map_err(|reason| WalkError::Node { cid: cid.to_string(), reason })
    }

    async fn descend(&mut self, root: Cid, path: &[String]) -> Result<Cid, WalkError> {
        let mut at = root;
        for (index, name) in path.iter().enumerate() {
            at = self.entry(at, name, &path[index..]).await?;
        }
        Ok(at)
    }

    /// The entry `name` of the folder `folder`, through as many tables as it takes.
    async fn entry(&mut self, folder: Cid, name: &str, way: &[String]) -> Result<Cid, WalkError> {
        let missing = |known| WalkError::NoEntry { name: name.to_owned(), folder: folder.to_string(), known };
        let mut table = folder;
        for level in 0..MAX_LEVELS {
            let (bits, links) = match self.node(&table, way).await? {
                Node::File { .. } => return Err(WalkError::NoFolder(folder.to_string())),
                Node::Folder(links) => {
                    let found = links.iter().find(|link| link.name == name).map(|link| link.cid);
                    return found.ok_or_else(|| missing(known(&links)));
                }
                Node::Shard { bits, links } => (bits, links),
            };
            let width = digits(bits);
            let prefix = place(name, level, bits).map(|place| format!("{place:0width$X}"));
            let prefix = prefix.ok_or_else(|| missing(String::new()))?;
            let find = |text: &str| links.iter().find(|link| link.name == text).map(|link| link.cid);
            if let Some(found) = find(&format!("{prefix}{name}")) {
                return Ok(found);
            }
            table = find(&prefix).ok_or_else(|| missing(String::new()))?;
        }
        Err(WalkError::TooDeep(folder.to_string()))
    }

    async fn folder(&mut self, cid: Cid, node: Node) -> Result<Imported, WalkError> {
        let mut files: Vec<(String, Imported)> = Vec::new();
        let mut waiting = Vec::new();
        let root = Waiting { name: String::new(), cid, depth: 0, tables: 0 };
        self.list(&root, node, &mut waiting)?;
        while let Some(next) = waiting.pop() {
            match self.node(&next.cid, &[]).await? {
                Node::File { .. } if next.tables > 0 => return Err(WalkError::NoFolder(next.cid.to_string())),
                Node::File { data, links } => files.push((next.name, self.file(data, links).await?)),
                folder => self.list(&next, folder, &mut waiting)?,
            }
            if files.len() > MAX_FILES {
                return Err(WalkError::TooManyFiles);
            }
        }
        let parts = files.iter().map(|(name, file)| (name.clone(), file.content.hash)).collect();
        // The files' guards last until the folder has one.
        Ok(self.blobs.compose(parts).await?)
    }

    /// Puts the entries of a folder, or of a table of one, onto what waits, so that the first comes first.
    fn list(&mut self, at: &Waiting, node: Node, waiting: &mut Vec<Waiting>) -> Result<(), WalkError> {
        let (links, width) = match node {
            Node::Folder(_) | Node::File { .. } if at.tables > 0 => {
                return Err(WalkError::NoFolder(at.cid.to_string()));
            }
            Node::Folder(links) => (links, 0),
            Node::Shard { bits, links } => (links, digits(bits)),
            Node::File { .. } => return Err(WalkError::NoFolder(at.cid.to_string())),
        };
        self.entries += links.len();
        if self.entries > MAX_ENTRIES {
            return Err(WalkError::TooManyEntries);
        }
        if at.depth >= MAX_DEPTH || at.tables >= MAX_LEVELS {
            return Err(WalkError::TooDeep(at.cid.to_string()));
        }
        for link in links.into_iter().rev() {
            let entry = link.name.get(width..).unwrap_or_default();
            waiting.push(match entry {
                "" if width > 0 => Waiting { cid: link.cid, tables: at.tables + 1, ..at.clone() },
                entry => Waiting { name: join(&at.name, entry)?, cid: link.cid, depth: at.depth + 1, tables: 0 },
            });
        }
        Ok(())
    }

    async fn file(&mut self, data: Bytes, links: Vec<Link>) -> Result<Imported, WalkError> {
        if links.is_empty() {
            self.count(data.len())?;
            return Ok(self.blobs.add_bytes(data).await?);
        }
        let (pieces, received) = mpsc::channel(MAX_PIECES);
        let added = self.blobs.add_stream(ReceiverStream::new(received));
        let (sent, added) = tokio::join!(self.send(data, links, pieces), added);
        sent?;
        Ok(added?)
    }

    /// Sends a file's bytes in order. After an error the store hears of one too, and adds nothing.
    async fn send(&mut self, data: Bytes, links: Vec<Link>, to: Pieces) -> Result<(), WalkError> {
        let sent = self.send_parts(data, links, &to).await;
        if sent.is_err() {
            let _ = to.send(Err(io::Error::other("the source broke off"))).await;
        }
        sent
    }

    async fn send_parts(&mut self, data: Bytes, links: Vec<Link>, to: &Pieces) -> Result<(), WalkError> {
        self.send_piece(data, to).await?;
        let below = |links: Vec<Link>, level: u32| links.into_iter().rev().map(move |link| (link.cid, level));
        let mut waiting: Vec<(Cid, u32)> = below(links, 1).collect();
        while let Some((cid, level)) = waiting.pop() {
            let Node::File { data, links } = self.node(&cid, &[]).await? else {
                return Err(WalkError::FolderInFile(cid.to_string()));
            };
            if level > MAX_LEVELS || waiting.len() + links.len() > MAX_WAITING {
                return Err(WalkError::TooDeep(cid.to_string()));
            }
            self.send_piece(data, to).await?;
            waiting.extend(below(links, level + 1));
        }
        Ok(())
    }

    async fn send_piece(&mut self, data: Bytes, to: &Pieces) -> Result<(), WalkError> {
        self.count(data.len())?;
        if !data.is_empty() {
            // When the store has failed, it says so itself.
            let _ = to.send(Ok(data)).await;
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), WalkError> {
        self.bytes += bytes as u64;
        if self.bytes > self.request.max_bytes {
            return Err(WalkError::TooLarge(self.request.max_bytes));
        }
        (self.request.progress)(Progress { bytes: self.bytes, total: None });
        Ok(())
    }
}

type Pieces = mpsc::Sender<io::Result<Bytes>>;

/// A name below a folder, checked before anything of it is fetched.
fn join(folder: &str, entry: &str) -> Result<String, NameError> {
    // One entry is one part: with a slash in it, it would be another's.
    if entry.contains('/') {
        return Err(NameError::Bad { name: entry.chars().take(80).collect(), reason: "it has a slash" });
    }
    let name = if folder.is_empty() { entry.to_owned() } else { format!("{folder}/{entry}") };
    check_name(&name)?;
    Ok(name)
}

/// Hexadecimal digits of the largest place in a table.
fn digits(bits: u32) -> usize {
    bits.div_ceil(4) as usize
}

/// What is there instead, for a person who mistyped.
fn known(links: &[Link]) -> String {
    const MOST: usize = 5;
    if links.is_empty() {
        return ", which is empty".into();
    }
    let names: Vec<String> = links.iter().take(MOST).map(|link| format!("{:?}", link.name)).collect();
    let more = if links.len() > MOST { " and more" } else { "" };
    format!(", which has {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests;
