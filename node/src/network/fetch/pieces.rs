//! What has arrived of a blob goes to the store in batches, and from one task beside the store's own.
//!
//! The store looks at all that it has for each batch, and is woken for each item; from another thread that costs it
//! more than to write what the item brings.

use std::mem;
use std::num::NonZeroU64;

use bao_tree::io::Leaf;
use bao_tree::io::fsm::BaoContentItem;
use bytes::BytesMut;
use iroh_blobs::Hash;
use iroh_blobs::api::Store;
use iroh_blobs::api::blobs::ImportBaoHandle;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::lane::text;

/// Bytes that go to the store together.
const BATCH_BYTES: usize = 256 << 10;
/// Batches of one blob that may wait to be written.
const MAX_BATCHES: usize = 2;
/// Items of a batch that the store may leave for later.
const MAX_ITEMS: usize = 64;

/// Proofs, and the bytes that they prove.
type Batch = Vec<BaoContentItem>;

/// Pieces of one blob on their way to the store.
pub(super) struct Pieces {
    batches: Sender<Batch>,
    proofs: Batch,
    /// Where the bytes that wait belong.
    offset: u64,
    bytes: BytesMut,
}

/// The other end, from which they are written.
pub(super) struct Batches(Receiver<Batch>);

/// The store takes no more. Whoever waits for the end of [`Batches::write`] hears why.
#[derive(Debug)]
pub(super) struct Closed;

impl Pieces {
    pub(super) fn new() -> (Self, Batches) {
        let (batches, received) = channel(MAX_BATCHES);
        let pieces = Self { batches, proofs: Vec::new(), offset: 0, bytes: BytesMut::new() };
        (pieces, Batches(received))
    }

    /// Takes what has arrived and is verified.
    pub(super) async fn add(&mut self, item: BaoContentItem) -> Result<(), Closed> {
        let leaf = match item {
            BaoContentItem::Leaf(leaf) => leaf,
            BaoContentItem::Parent(_) => {
                self.proofs.push(item);
                return Ok(());
            }
        };
        if leaf.offset != self.offset + self.bytes.len() as u64 {
            self.flush().await?;
            self.offset = leaf.offset;
        }
        self.bytes.extend_from_slice(&leaf.data);
        if self.bytes.len() < BATCH_BYTES { Ok(()) } else { self.flush().await }
    }

    /// Hands over the bytes that are here. Proofs go first: where one follows bytes, the store ends a batch.
    pub(super) async fn flush(&mut self) -> Result<(), Closed> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let next = BytesMut::with_capacity(self.bytes.len());
        let (offset, data) = (self.offset, mem::replace(&mut self.bytes, next).freeze());
        self.offset += data.len() as u64;
        let mut batch = mem::take(&mut self.proofs);
        batch.push(Leaf { offset, data }.into());
        self.batches.send(batch).await.map_err(|_| Closed)
    }
}

impl Batches {
    /// Writes what comes, until no more does or the store fails.
    pub(super) async fn write(mut self, store: Store, hash: Hash, size: NonZeroU64) -> Result<(), String> {
        let ImportBaoHandle { tx: items, rx: written } =
            store.blobs().import_bao(hash, size, MAX_ITEMS).await.map_err(text)?;
        'all: while let Some(batch) = self.0.recv().await {
            for item in batch {
                if items.send(item).await.is_err() {
                    break 'all;
                }
            }
        }
        drop((self, items));
        written.await.map_err(text)?.map_err(text)
    }
}

#[cfg(test)]
mod tests {
    use bao_tree::io::Parent;
    use bao_tree::{BaoTree, BlockSize};

    use super::*;

    const GROUP: usize = 16 << 10;

    fn leaf(group: u64) -> BaoContentItem {
        let data = vec![u8::try_from(group % 251).unwrap(); GROUP].into();
        Leaf { offset: group * GROUP as u64, data }.into()
    }

    fn proof() -> BaoContentItem {
        let node = BaoTree::new(1 << 20, BlockSize::ZERO).pre_order_nodes_iter().next().unwrap();
        Parent { node, pair: (blake3::hash(b"left"), blake3::hash(b"right")) }.into()
    }

    /// Where an item's bytes begin and how many they are, after a look at them.
    fn place(item: BaoContentItem) -> Option<(u64, usize)> {
        let BaoContentItem::Leaf(leaf) = item else { return None };
        let first = leaf.offset / GROUP as u64;
        for (group, bytes) in (first..).zip(leaf.data.chunks(GROUP)) {
            assert!(bytes.iter().all(|byte| u64::from(*byte) == group % 251));
        }
        Some((leaf.offset, leaf.data.len()))
    }

    /// What the store gets of some items: none for a proof, else where bytes begin and how many.
    async fn stored(items: Vec<BaoContentItem>) -> Vec<Option<(u64, usize)>> {
        let (mut pieces, Batches(mut received)) = Pieces::new();
        let received = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(batch) = received.recv().await {
                all.extend(batch);
            }
            all
        });
        for item in items {
            pieces.add(item).await.unwrap();
        }
        pieces.flush().await.unwrap();
        drop(pieces);
        received.await.unwrap().into_iter().map(place).collect()
    }

    #[tokio::test]
    async fn neighbours_are_written_together_behind_their_proofs() {
        let items = (0..40).flat_map(|group| [proof(), leaf(group)]).collect();
        let stored = stored(items).await;
        let bytes: Vec<_> = stored.iter().flatten().copied().collect();
        assert_eq!(bytes, [(0, 256 << 10), (256 << 10, 256 << 10), (512 << 10, 128 << 10)]);
        let proofs: Vec<_> = stored.split(Option::is_some).map(<[_]>::len).collect();
        assert_eq!(proofs, [16, 16, 8, 0]);
    }

    #[tokio::test]
    async fn gaps_part_what_is_written() {
        let stored = stored([0, 1, 5, 6, 3].map(leaf).into()).await;
        let group = GROUP as u64;
        assert_eq!(stored, [Some((0, 2 * GROUP)), Some((5 * group, 2 * GROUP)), Some((3 * group, GROUP))]);
    }
}
