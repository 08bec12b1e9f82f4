//! What sources turned out to be: the same URL, object or CID is read once and shared.
//!
//! Whoever reads a source first takes its slot, so that others who want the same wait and find it there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use shoal_protocol::task::Content;

use crate::blobs::{Blobs, Imported};
use crate::state::State;

/// Remembers what sources were. A clone is the same memory.
#[derive(Debug, Clone)]
pub struct Cache {
    blobs: Blobs,
    known: Arc<Mutex<BTreeMap<String, Remembered>>>,
    turns: Arc<Mutex<BTreeMap<String, Weak<Turn>>>>,
}

/// Contents and validator.
type Remembered = (Vec<Content>, String);
/// What readers of the same source take turns by.
type Turn = tokio::sync::Mutex<()>;

/// The right to read one source, until dropped.
#[derive(Debug)]
pub struct Slot {
    cache: Cache,
    key: String,
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
    pub(super) fn new(blobs: Blobs, _state: Arc<State>) -> Self {
        Self { blobs, known: Arc::default(), turns: Arc::default() }
    }

    /// Waits for the turn to read the source named `key`, which says all that determines its content.
    pub async fn slot(&self, key: String) -> Slot {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let turn = turns.get(&key).and_then(Weak::upgrade).unwrap_or_default();
            turns.insert(key.clone(), Arc::downgrade(&turn));
            turn
        };
        Slot { cache: self.clone(), key, _turn: turn.lock_owned().await }
    }
}

impl Slot {
    /// What the source was last time, if all of it is still here.
    pub async fn known(&self) -> Option<Known> {
        let found = self.cache.known.lock().unwrap_or_else(PoisonError::into_inner).get(&self.key).cloned();
        let (contents, validator) = found?;
        let mut parts = Vec::new();
        for content in contents {
            let guard = self.cache.blobs.protect(content).await.ok()?;
            let bytes = self.cache.blobs.size(content).await.ok()??;
            parts.push(Imported { content, bytes, guard });
        }
        Some(Known { parts, validator })
    }

    /// Remembers what the source is now.
    pub fn remember(&self, parts: &[Imported], validator: impl Into<String>) {
        let contents = parts.iter().map(|part| part.content).collect();
        let mut known = self.cache.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(self.key.clone(), (contents, validator.into()));
    }
}
