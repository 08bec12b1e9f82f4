//! What was read last time, object by object, so that only what is new is read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shoal_protocol::id::BlobHash;

use super::listing::Object;
use crate::blobs::{Blobs, Imported};
use crate::sources::cache::Slot;

/// The largest record that is read, in bytes: of as many objects as a folder holds, with long keys.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// What a source was when it was read last. All of it is here and guarded.
pub(super) struct Memory {
    pub(super) parts: Vec<Imported>,
    pub(super) validator: String,
    /// Names the copy of each object. It is kept as a blob beside the parts, and goes with them.
    record: Imported,
}

/// An object that is here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Copy {
    pub(super) etag: String,
    pub(super) hash: BlobHash,
}

impl Memory {
    pub(super) async fn of(slot: &Slot) -> Option<Self> {
        let mut known = slot.known().await?;
        let record = known.parts.pop()?;
        Some(Self { parts: known.parts, validator: known.validator, record })
    }

    /// The copies of objects, by key. They stay as long as this memory does.
    pub(super) async fn copies(&self, blobs: &Blobs) -> BTreeMap<String, Copy> {
        let record = blobs.read(self.record.content.hash, MAX_RECORD_BYTES).await;
        record.ok().and_then(|record| postcard::from_bytes(&record).ok()).unwrap_or_default()
    }
}

/// What tells whether objects are still the same; nothing if the service gives no entity tags.
pub(super) fn validator(objects: &[Object]) -> Option<String> {
    let mut tags = Vec::with_capacity(objects.len());
    for object in objects {
        tags.push((object.key.as_str(), object.etag.as_deref()?, object.version.as_deref(), object.bytes));
    }
    Some(BlobHash::of(&postcard::to_stdvec(&tags).ok()?).to_string())
}

/// Remembers what was read. If that fails, everything is read again the next time.
pub(super) async fn remember(
    blobs: &Blobs,
    slot: &Slot,
    parts: &mut Vec<Imported>,
    objects: &[Object],
    files: &[Imported],
    validator: String,
) {
    let copy = |(object, file): (&Object, &Imported)| {
        let etag = object.etag.clone()?;
        Some((object.key.clone(), Copy { etag, hash: file.content.hash }))
    };
    let copies: BTreeMap<String, Copy> = objects.iter().zip(files).filter_map(copy).collect();
    let record = postcard::to_stdvec(&copies).expect("a record is plain data");
    match blobs.add_bytes(record).await {
        Ok(record) => {
            parts.push(record);
            slot.remember(parts, validator).await;
            parts.pop();
        }
        Err(error) => tracing::warn!(%error, "what was read from S3 is not remembered"),
    }
}
