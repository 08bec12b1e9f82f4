//! Results as trees of IPFS, as this node published them: their blocks can be read by CID.
//!
//! The profile is `unixfs-v1-2025` of IPIP-499, which Kubo and Helia both have by that name: CIDs of version 1, raw
//! leaves of 1 MiB, 1,024 links a node, folders above 256 KiB as hash tables. So the same result has the same CID
//! everywhere.
//!
//! Leaves are ranges of blobs and are not stored twice; the nodes above them are rows of a table. A tree is served as
//! long as its result is pinned.

mod build;
mod walk;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::Content;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

pub use self::walk::{Found, Scope};
use crate::blobs::{Blobs, FolderError, StoreFailed, blocking};
use crate::ipfs::{Cid, inline, is_ours};
use crate::state::{Change, Order, State, StateError, Table};

/// Most trees at a time; the oldest goes.
const MAX_TREES: usize = 1_024;
/// Most blocks of one tree: a terabyte in large files.
const MAX_BLOCKS: u64 = 1 << 20;
/// Most blocks of all trees together; the oldest go. A row takes about a hundred bytes.
const MAX_ALL_BLOCKS: u64 = 1 << 22;
/// Rows that are written or removed at once.
const ROWS_AT_ONCE: usize = 1_024;

/// How rows of trees begin, and rows of their blocks.
const TREE: u8 = b't';
const BLOCK: u8 = b'b';

/// The trees that this node published. A clone is the same.
#[derive(Debug, Clone)]
pub struct Trees {
    blobs: Blobs,
    state: Arc<State>,
    /// Trees are added and removed one after the other.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A result as a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tree {
    /// The name of its root, in bytes.
    root: Vec<u8>,
    /// The result.
    result: Content,
    /// How many blocks it has.
    pub(crate) blocks: u64,
    /// The bytes of its files.
    pub(crate) bytes: u64,
}

/// Where a block is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    /// Here.
    Node(Vec<u8>),
    /// In a blob.
    Leaf { blob: BlobHash, offset: u64, length: u64 },
}

/// Why a tree was not made or read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// What was asked for is no address.
    #[error("{0}")]
    Address(String),
    /// The result is not here, or is no folder.
    #[error(transparent)]
    Result(#[from] FolderError),
    /// A file cannot be read.
    #[error("a file of the result cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// There are too many blocks.
    #[error("it has more than {MAX_BLOCKS} blocks")]
    TooLarge,
    /// Two names cannot be told apart by the hash tables of IPFS.
    #[error("the name {0:?} has the same hash as another in a folder")]
    SameHash(String),
    /// The records cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The blob store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl Trees {
    /// The trees in these stores.
    pub fn new(blobs: Blobs, state: Arc<State>) -> Self {
        Self { blobs, state, turn: Arc::default() }
    }

    /// Makes a tree of a result, which is here and guarded by the caller, or finds the one that was made.
    pub(crate) async fn add(&self, result: Content) -> Result<Tree, TreeError> {
        let _turn = self.turn.lock().await;
        let known = self.numbered().await?;
        if let Some((_, tree)) = known.iter().find(|(_, tree)| tree.result == result) {
            return Ok(tree.clone());
        }
        let number = known.last().map_or(0, |(number, _)| number + 1);
        // What a crash left of another try.
        self.remove(number).await?;
        let tree = build::build(self, number, result).await?;
        self.make_room(known, tree.blocks).await?;
        let value = shoal_protocol::wire::canonical(&tree);
        // Last of all: a tree that is listed is complete.
        self.apply(vec![Change::Put { table: Table::Trees, key: tree_key(number), value }]).await?;
        Ok(tree)
    }

    /// Whether a block belongs to a tree.
    pub(crate) async fn has(&self, cid: &Cid) -> Result<bool, TreeError> {
        Ok(self.place(cid).await?.is_some())
    }

    /// A block of a tree, or one that is in its own name; none for all others.
    pub(crate) async fn block(&self, cid: &Cid) -> Result<Option<Bytes>, TreeError> {
        if let Some(bytes) = inline(cid) {
            return Ok(Some(bytes));
        }
        match self.place(cid).await? {
            None => Ok(None),
            Some(Place::Node(bytes)) => Ok(Some(bytes.into())),
            Some(Place::Leaf { blob, offset, length }) => Ok(Some(self.read(blob, offset, length).await?)),
        }
    }

    /// Forgets the trees whose results are not pinned any more.
    pub async fn sweep(&self) -> Result<(), TreeError> {
        let _turn = self.turn.lock().await;
        let pinned: Vec<Content> = self.blobs.pins().await?.into_iter().map(|pin| pin.content).collect();
        for (number, tree) in self.numbered().await? {
            if !pinned.contains(&tree.result) {
                self.remove(number).await?;
            }
        }
        Ok(())
    }

    async fn read(&self, blob: BlobHash, offset: u64, length: u64) -> Result<Bytes, TreeError> {
        // The store has no blob for what is empty.
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut reader = self.blobs.reader(blob);
        reader.seek(std::io::SeekFrom::Start(offset)).await?;
        let mut bytes = Vec::new();
        reader.take(length).read_to_end(&mut bytes).await?;
        match bytes.len() as u64 == length {
            true => Ok(bytes.into()),
            false => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
        }
    }

    /// Looks in every tree: a block may be in several, and goes only with its tree.
    async fn place(&self, cid: &Cid) -> Result<Option<Place>, TreeError> {
        if !is_ours(cid) {
            return Ok(None);
        }
        let (state, digest) = (Arc::clone(&self.state), cid.hash().digest().to_vec());
        blocking(move || {
            for (number, _) in list(&state)?.into_iter().rev() {
                if let Some(value) = state.get(Table::Trees, &block_key(number, &digest))? {
                    return Ok(postcard::from_bytes(&value).ok());
                }
            }
            Ok(None)
        })
        .await
    }

    /// Removes the oldest trees until one of so many blocks has room.
    async fn make_room(&self, known: Vec<(u64, Tree)>, blocks: u64) -> Result<(), TreeError> {
        let mut all: u64 = known.iter().map(|(_, tree)| tree.blocks).sum();
        let mut trees = known.len();
        for (number, tree) in known {
            if trees < MAX_TREES && all + blocks <= MAX_ALL_BLOCKS {
                return Ok(());
            }
            self.remove(number).await?;
            (trees, all) = (trees - 1, all - tree.blocks);
        }
        Ok(())
    }

    async fn remove(&self, number: u64) -> Result<(), TreeError> {
        let state = Arc::clone(&self.state);
        blocking(move || {
            // First of all: what is not listed is not served.
            state.apply(&[Change::Delete { table: Table::Trees, key: tree_key(number) }])?;
            loop {
                let prefix = block_key(number, &[]);
                let rows = state.scan_prefix(Table::Trees, &prefix, None, ROWS_AT_ONCE, Order::Ascending)?;
                if rows.is_empty() {
                    return Ok(());
                }
                let delete = |row: crate::state::Row| Change::Delete { table: Table::Trees, key: row.key };
                state.apply(&rows.into_iter().map(delete).collect::<Vec<_>>())?;
            }
        })
        .await
    }

    async fn numbered(&self) -> Result<Vec<(u64, Tree)>, TreeError> {
        let state = Arc::clone(&self.state);
        Ok(blocking(move || list(&state)).await?)
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), TreeError> {
        let state = Arc::clone(&self.state);
        Ok(blocking(move || state.apply(&changes)).await?)
    }
}

impl Tree {
    /// The name of its root.
    pub(crate) fn root(&self) -> Cid {
        Cid::try_from(&self.root[..]).expect("a name that was written is one")
    }
}

/// Every tree by its number, the oldest first.
fn list(state: &State) -> Result<Vec<(u64, Tree)>, StateError> {
    let rows = state.scan_prefix(Table::Trees, &[TREE], None, MAX_TREES + 1, Order::Ascending)?;
    let read = |row: crate::state::Row| {
        let number = u64::from_be_bytes(row.key.get(1..)?.try_into().ok()?);
        Some((number, postcard::from_bytes(&row.value).ok()?))
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

fn tree_key(number: u64) -> Vec<u8> {
    [&[TREE][..], &number.to_be_bytes()].concat()
}

fn block_key(number: u64, digest: &[u8]) -> Vec<u8> {
    [&[BLOCK][..], &number.to_be_bytes(), digest].concat()
}

#[cfg(test)]
mod tests;
