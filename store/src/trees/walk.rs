//! Goes through a tree: down a path, and over its blocks in the order of archives.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;

use super::{TreeError, Trees};
use crate::ipfs::{Cid, Link, Node, header, inline, place, section};

/// Blocks of an archive that wait to be sent.
const MAX_WAITING: usize = 4;
/// Most tables of one folder above each other: a name's hash has no more places.
const MAX_TABLES: u32 = 8;

/// How much an archive holds besides the way to its content (`dag-scope` of the trustless gateway).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The block at the end of the way.
    Block,
    /// A whole file, or a folder without what is in it.
    Entity,
    /// All below.
    All,
}

/// Content of a tree: the blocks on the way to it, the last of which is its root.
#[derive(Debug, Clone)]
pub struct Found(Vec<Cid>);

impl Found {
    /// The CID of the content.
    pub fn cid(&self) -> String {
        self.end().to_string()
    }

    fn end(&self) -> &Cid {
        self.0.last().expect("a way has a beginning")
    }
}

impl Trees {
    /// Finds what lies at `path` below a CID; none if that is nothing of these trees.
    pub async fn find(&self, cid: &str, path: &[&str]) -> Result<Option<Found>, TreeError> {
        let root = cid.parse().map_err(|error| TreeError::Address(format!("{cid:?} is no CID ({error})")))?;
        let mut way = vec![root];
        for &name in path {
            let mut level = 0;
            loop {
                let at = way[way.len() - 1];
                let Some(node) = self.node(&at).await? else { return Ok(None) };
                let (next, is_table) = step(&node, name, level);
                let Some(next) = next else { return Ok(None) };
                way.push(next);
                level += 1;
                if !is_table {
                    break;
                }
                if level >= MAX_TABLES {
                    return Ok(None);
                }
            }
        }
        let end = way[way.len() - 1];
        Ok((inline(&end).is_some() || self.has(&end).await?).then_some(Found(way)))
    }

    /// The bytes of the block at the root of some content.
    pub async fn root_block(&self, found: &Found) -> Result<Bytes, TreeError> {
        self.block(found.end()).await?.ok_or_else(|| gone(found.end()))
    }

    /// An archive of some content and the way to it. An error ends it early, which a reader notices.
    pub fn archive(&self, found: Found, scope: Scope) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let (blocks, mut made) = mpsc::channel(MAX_WAITING);
        let trees = self.clone();
        tokio::spawn(async move {
            if let Err(error) = trees.send(found, scope, &blocks).await {
                let _ = blocks.send(Err(io::Error::other(error))).await;
            }
        });
        stream::poll_fn(move |context| made.poll_recv(context))
    }

    async fn send(
        &self,
        Found(way): Found,
        scope: Scope,
        to: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), TreeError> {
        let mut waiting: Vec<Cid> = way.iter().rev().copied().collect();
        let mut on_the_way = waiting.len() - 1;
        let _ = to.send(Ok(header(&way[0]))).await;
        while let Some(cid) = waiting.pop() {
            let block = self.block(&cid).await?.ok_or_else(|| gone(&cid))?;
            if to.send(Ok(section(&cid, &block))).await.is_err() {
                // Nobody reads any more.
                return Ok(());
            }
            if on_the_way > 0 {
                on_the_way -= 1;
                continue;
            }
            waiting.extend(below(&cid, block, scope).into_iter().rev());
        }
        Ok(())
    }

    async fn node(&self, cid: &Cid) -> Result<Option<Node>, TreeError> {
        Ok(self.block(cid).await?.and_then(|block| Node::decode(cid, block).ok()))
    }
}

fn gone(cid: &Cid) -> TreeError {
    io::Error::other(format!("block {cid} is gone")).into()
}

/// Where the search for a name goes on from a node, and whether that is a table of the same folder.
fn step(node: &Node, name: &str, level: u32) -> (Option<Cid>, bool) {
    let find = |links: &[Link], name: &str| links.iter().find(|link| link.name == name).map(|link| link.cid);
    match node {
        Node::File { .. } => (None, false),
        Node::Folder(links) => (find(links, name), false),
        Node::Shard { bits, links } => {
            let Some(at) = place(name, level, *bits) else { return (None, false) };
            match find(links, &format!("{at:02X}{name}")) {
                Some(found) => (Some(found), false),
                None => (find(links, &format!("{at:02X}")), true),
            }
        }
    }
}

/// What an archive of that scope holds below a block, in order.
fn below(cid: &Cid, block: Bytes, scope: Scope) -> Vec<Cid> {
    let all = |links: Vec<Link>| links.into_iter().map(|link| link.cid).collect();
    match (scope, Node::decode(cid, block)) {
        (Scope::Block, _) | (_, Err(_)) | (Scope::Entity, Ok(Node::Folder(_))) => Vec::new(),
        // The tables of a folder belong to it, its entries do not.
        (Scope::Entity, Ok(Node::Shard { links, .. })) => {
            links.into_iter().filter(|link| link.name.len() == 2).map(|link| link.cid).collect()
        }
        (_, Ok(Node::File { links, .. } | Node::Folder(links) | Node::Shard { links, .. })) => all(links),
    }
}
