//! What of some content is here, and what is missing.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use iroh_blobs::Hash;
use iroh_blobs::api::Store;
use iroh_blobs::api::blobs::Bitfield;
use iroh_blobs::hashseq::HashSeq;
use iroh_blobs::protocol::ChunkRanges;

use super::claim::Part;

/// Blobs that are looked up in the store at once.
const LOOKS_AT_ONCE: usize = 64;

/// How much of some blobs is here.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Blobs of which something is missing, in the order of the content.
    pub(super) missing: Vec<Part>,
    /// Blobs of which not even the size is known.
    pub(super) unsized_parts: BTreeSet<u64>,
    /// Bytes that are here.
    pub(super) here: u64,
    /// Bytes of all blobs whose size is known.
    pub(super) known: u64,
}

impl Survey {
    /// Looks at the first blob of some content.
    pub(super) async fn root(store: &Store, root: Hash) -> Result<Self, String> {
        let mut survey = Self::default();
        let bitfield = look(store, root).await?;
        survey.add(0, root, &bitfield);
        Ok(survey)
    }

    /// Looks at the blobs of a collection whose root is here. One that is there twice counts once.
    pub(super) async fn children(store: &Store, root: Hash) -> Result<Self, String> {
        let list = store.blobs().get_bytes(root).await.map_err(|error| format!("{error:#}"))?;
        let hashes = HashSeq::new(list).ok_or("it is no collection: its list of blobs is cut off")?;
        let mut seen = BTreeSet::new();
        let distinct = (1..).zip(hashes.iter()).filter(|(_, hash)| seen.insert(*hash)).collect::<Vec<_>>();
        let looks = stream::iter(distinct).map(async |(offset, hash)| Ok((offset, hash, look(store, hash).await?)));
        let looks = looks.buffered(LOOKS_AT_ONCE).map_err(|error: String| error);
        let mut survey = Self::default();
        looks
            .try_for_each(|(offset, hash, bitfield)| {
                survey.add(offset, hash, &bitfield);
                std::future::ready(Ok(()))
            })
            .await?;
        Ok(survey)
    }

    fn add(&mut self, offset: u64, hash: Hash, bitfield: &Bitfield) {
        self.here = self.here.saturating_add(bitfield.total_bytes());
        match bitfield.validated_size() {
            Some(size) => self.known = self.known.saturating_add(size),
            None => drop(self.unsized_parts.insert(offset)),
        }
        let ranges = ChunkRanges::all().difference(&bitfield.ranges);
        if !bitfield.is_complete() {
            self.missing.push(Part { offset, hash, ranges });
        }
    }
}

async fn look(store: &Store, hash: Hash) -> Result<Bitfield, String> {
    store.blobs().observe(hash).await.map_err(|error| format!("{error:#}"))
}
