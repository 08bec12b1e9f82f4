//! What sources turned out to be: the same URL, object or CID is read once and shared.
//!
//! Whoever reads a source first takes its slot, so that others who want the same wait and find it there. What is
//! remembered outlives the node, but is no promise: content that has gone meanwhile is read again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Deserialize, Serialize};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::Content;

use crate::blobs::{Blobs, Imported};
use crate::state::{Change, Order, State, StateError, Table};

/// Sources that are remembered; then those go that were not used for longest.
const MAX_SOURCES: usize = 4_096;
/// How many go at once, so that not each new one has to look for the oldest.
const FORGOTTEN_AT_ONCE: usize = MAX_SOURCES / 8;
/// The largest record of a source, in bytes: of about 1,900 partitions. Larger ones are not remembered.
const MAX_RECORD_BYTES: usize = 64 << 10;

/// Remembers what sources were. A clone is the same memory.
#[derive(Debug, Clone)]
pub struct Cache {
    blobs: Blobs,
    state: Arc<State>,
    /// Counts uses, so that the records can be put in their order.
    uses: Arc<AtomicU64>,
    turns: Arc<Mutex<BTreeMap<BlobHash, Weak<Turn>>>>,
}

/// What is kept of a source. Its name is kept as a hash only: it may hold a password.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The use that was the last.
    used: u64,
    contents: Vec<Content>,
    validator: String,
}

/// What readers of the same source take turns by.
type Turn = tokio::sync::Mutex<()>;

/// The right to read one source, until dropped.
#[derive(Debug)]
pub struct Slot {
    cache: Cache,
    key: BlobHash,
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

/// What a source was when it was read last. All of it is here, and guarded.
#[derive(Debug)]
pub struct Known {
    /// The content: one, or one for each partition.
    pub parts: Vec<Imported>,
    /// What tells whether it is still the same: an entity tag, a version.
    pub validator: String,
}

impl Cache {
    pub(super) fn new(blobs: Blobs, state: Arc<State>) -> Result<Self, StateError> {
        let last = records(&state)?.into_iter().map(|(_, record)| record.used).max();
        let uses = Arc::new(AtomicU64::new(last.map_or(0, |last| last + 1)));
        Ok(Self { blobs, state, uses, turns: Arc::default() })
    }

    /// Waits for the turn to read the source named `key`, which says all that determines its content.
    pub async fn slot(&self, key: String) -> Slot {
        let key = BlobHash::of(key.as_bytes());
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let turn = turns.get(&key).and_then(Weak::upgrade).unwrap_or_default();
            turns.insert(key, Arc::downgrade(&turn));
            turn
        };
        Slot { cache: self.clone(), key, _turn: turn.lock_owned().await }
    }

    /// Writes a record as the one used last. A cache that cannot be written is no reason to fail.
    async fn save(&self, key: BlobHash, contents: Vec<Content>, validator: String) {
        let used = self.uses.fetch_add(1, Ordering::Relaxed);
        let value = postcard::to_stdvec(&Record { used, contents, validator }).expect("a record is plain data");
        if value.len() > MAX_RECORD_BYTES {
            tracing::debug!(bytes = value.len(), "a source is too large to be remembered");
            return;
        }
        let state = Arc::clone(&self.state);
        let saved = tokio::task::spawn_blocking(move || save(&state, key, value)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "what a source is was not remembered");
        }
    }
}

impl Slot {
    /// What the source was last time, if all of it is still here.
    pub async fn known(&self) -> Option<Known> {
        let Cache { blobs, state, .. } = &self.cache;
        let (state, key) = (Arc::clone(state), self.key);
        let found = tokio::task::spawn_blocking(move || state.get(Table::Sources, &key.0)).await;
        let record: Record = postcard::from_bytes(&found.ok()?.ok()??).ok()?;
        let mut parts = Vec::new();
        for &content in &record.contents {
            parts.push(blobs.guard_complete(content).await.ok()??);
        }
        self.cache.save(key, record.contents, record.validator.clone()).await;
        Some(Known { parts, validator: record.validator })
    }

    /// Remembers what the source is now.
    pub async fn remember(&self, parts: &[Imported], validator: impl Into<String>) {
        let contents = parts.iter().map(|part| part.content).collect();
        self.cache.save(self.key, contents, validator.into()).await;
    }
}

fn save(state: &State, key: BlobHash, value: Vec<u8>) -> Result<(), StateError> {
    let mut changes = Vec::new();
    if state.count(Table::Sources)? >= MAX_SOURCES as u64 {
        let mut oldest = records(state)?;
        oldest.sort_by_key(|(_, record)| record.used);
        oldest.truncate(FORGOTTEN_AT_ONCE);
        changes.extend(oldest.into_iter().map(|(key, _)| Change::Delete { table: Table::Sources, key }));
    }
    changes.push(Change::Put { table: Table::Sources, key: key.0.to_vec(), value });
    state.apply(&changes)
}

/// Every record; one that cannot be read counts as the oldest.
fn records(state: &State) -> Result<Vec<(Vec<u8>, Record)>, StateError> {
    let unreadable = || Record { used: 0, contents: Vec::new(), validator: String::new() };
    let rows = state.scan_prefix(Table::Sources, b"", None, 2 * MAX_SOURCES, Order::Ascending)?;
    let read = |value: &[u8]| postcard::from_bytes(value).unwrap_or_else(|_| unreadable());
    Ok(rows.into_iter().map(|row| (row.key, read(&row.value))).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::blobs::BlobsConfig;

    async fn cache(dir: &std::path::Path) -> Cache {
        let config = BlobsConfig { gc_interval: Duration::from_secs(3_600), ..BlobsConfig::default() };
        let blobs = Blobs::open(&dir.join("blobs"), config).await.unwrap();
        let state = Arc::new(State::open(&dir.join("state.redb")).unwrap());
        Cache::new(blobs, state).unwrap()
    }

    async fn remember(cache: &Cache, key: &str, text: &'static str) {
        let imported = cache.blobs.add_bytes(text).await.unwrap();
        cache.slot(key.into()).await.remember(&[imported], "v1").await;
    }

    async fn known(cache: &Cache, key: &str) -> Option<Known> {
        cache.slot(key.into()).await.known().await
    }

    #[tokio::test]
    async fn what_a_source_was_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = cache(dir.path()).await;
        assert!(known(&first, "a").await.is_none());
        remember(&first, "a", "content").await;
        first.blobs.shutdown().await.unwrap();
        drop(first);
        let again = cache(dir.path()).await;
        let found = known(&again, "a").await.unwrap();
        assert_eq!((found.parts[0].content.hash, found.validator.as_str()), (BlobHash::of(b"content"), "v1"));
        assert_eq!(found.parts[0].bytes, 7);
        assert!(known(&again, "b").await.is_none());
    }

    #[tokio::test]
    async fn content_that_is_known_stays_and_content_that_has_gone_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path()).await;
        remember(&cache, "a", "content").await;
        let found = known(&cache, "a").await.unwrap();
        cache.blobs.gc().await.unwrap();
        assert_eq!(cache.blobs.read(found.parts[0].content.hash, 100).await.unwrap(), "content");
        let missing = Content { hash: BlobHash([7; 32]), kind: shoal_protocol::task::ContentKind::Raw };
        cache.save(BlobHash::of(b"b"), vec![missing], "v1".into()).await;
        assert!(known(&cache, "b").await.is_none());
    }

    #[tokio::test]
    async fn one_reads_while_others_wait_and_find_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path()).await;
        let first = cache.slot("a".into()).await;
        let waiting = {
            let cache = cache.clone();
            tokio::spawn(async move { known(&cache, "a").await.is_some() })
        };
        assert!(known(&cache, "b").await.is_none(), "another source is free");
        let imported = cache.blobs.add_bytes("content").await.unwrap();
        first.remember(&[imported], "v1").await;
        drop(first);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn the_source_that_was_not_used_for_longest_is_forgotten_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path()).await;
        remember(&cache, "old", "old").await;
        remember(&cache, "used", "used").await;
        let value = |used| postcard::to_stdvec(&Record { used, contents: vec![], validator: String::new() }).unwrap();
        let fill = |n: u64| Change::Put { table: Table::Sources, key: n.to_be_bytes().into(), value: value(n + 2) };
        cache.uses.store(10_000, Ordering::Relaxed);
        cache.state.apply(&(0..MAX_SOURCES as u64 - 2).map(fill).collect::<Vec<_>>()).unwrap();
        assert!(known(&cache, "used").await.is_some());
        remember(&cache, "new", "new").await;
        assert!(known(&cache, "old").await.is_none());
        assert!(known(&cache, "used").await.is_some() && known(&cache, "new").await.is_some());
        assert!(cache.state.count(Table::Sources).unwrap() <= MAX_SOURCES as u64);
    }

    #[tokio::test]
    async fn passwords_in_names_are_not_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path()).await;
        remember(&cache, "https://user:hunter2@host/", "content").await;
        let file = std::fs::read(dir.path().join("state.redb")).unwrap();
        assert!(!file.windows(7).any(|window| window == b"hunter2"));
    }
}
