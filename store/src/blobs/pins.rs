//! Names that keep content, across restarts: for good, or until a moment.
//!
//! A pin is a tag of iroh-blobs, so it is written by the same transactions as the content that it keeps. The moment
//! at which it ends is part of the tag's name, behind a NUL, which no name of a pin has.
//!
//! What an expired pin kept is not removed with it: it goes when nothing else keeps it. A clock that is wrong for a
//! while therefore costs a name and no content.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::Content;
use shoal_protocol::time::Time;

use super::{Blobs, MAX_NAME_BYTES, StoreFailed, content, failed, hash_and_format};

/// What the names of pins begin with that make way for others when there is no room, those that end first first.
pub const YIELDING: &str = "agreed/";
/// Between a pin's name and its end.
const END: char = '\0';

/// A name that keeps content from being collected, across restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The name, for example `job/j-…/module`.
    pub name: String,
    /// What it keeps.
    pub content: Content,
    /// When it ends; none for never.
    pub until: Option<Time>,
}

/// A pin that makes way, and what it keeps.
pub(super) struct Yielding {
    pub(super) pin: Pin,
    pub(super) blobs: Vec<BlobHash>,
}

/// Why a pin was not set or removed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The name is empty or too long, or has a NUL. An empty prefix would remove every pin.
    #[error("{0:?} is no name for a pin: it needs 1 to {MAX_NAME_BYTES} bytes, none of them NUL")]
    Name(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl Pin {
    /// Whether it makes way when there is no room.
    pub fn yields(&self) -> bool {
        self.name.starts_with(YIELDING)
    }
}

impl Blobs {
    /// Keeps content under a name, over an older pin of that name. The content need not be here yet.
    pub async fn pin(&self, name: &str, content: Content) -> Result<(), PinError> {
        self.set_pin(name, content, None).await
    }

    /// Keeps content under a name until a moment, over an older pin of that name.
    pub async fn pin_until(&self, name: &str, content: Content, until: Time) -> Result<(), PinError> {
        self.set_pin(name, content, Some(until)).await
    }

    /// Removes a pin and tells whether it was there.
    pub async fn unpin(&self, name: &str) -> Result<bool, PinError> {
        check_pin(name)?;
        let _turn = self.pinning.lock().await;
        let tags = self.store.tags();
        let endless = tags.delete(name).await.map_err(failed)?;
        Ok(endless + tags.delete_prefix(with_end(name)).await.map_err(failed)? > 0)
    }

    /// Removes every pin whose name begins with `prefix`, for example `job/j-…/`, and tells how many there were.
    pub async fn unpin_prefix(&self, prefix: &str) -> Result<u64, PinError> {
        check_pin(prefix)?;
        let _turn = self.pinning.lock().await;
        Ok(self.store.tags().delete_prefix(prefix).await.map_err(failed)?)
    }

    /// Every pin, by name.
    pub async fn pins(&self) -> Result<Vec<Pin>, StoreFailed> {
        self.pins_with_prefix("").await
    }

    /// Every pin whose name begins with `prefix`, by name. Those that have ended are removed first.
    pub async fn pins_with_prefix(&self, prefix: &str) -> Result<Vec<Pin>, StoreFailed> {
        let now = self.now();
        let (over, pins): (Vec<Pin>, Vec<Pin>) =
            self.tags(prefix).await?.into_iter().partition(|pin| pin.until.is_some_and(|until| until <= now));
        for pin in over {
            self.remove_pin(&pin).await?;
            tracing::debug!(name = pin.name, "a pin has ended");
        }
        Ok(pins)
    }

    /// Removes a pin whose time has come, or that makes way: not one of the same name that was set meanwhile.
    pub(super) async fn remove_pin(&self, pin: &Pin) -> Result<(), StoreFailed> {
        self.store.tags().delete(tag(&pin.name, pin.until)).await.map_err(failed)?;
        self.touch(pin.content);
        Ok(())
    }

    /// The blobs that pins keep, as far as they are known: those of a folder once its list is here. Those that make
    /// way come apart.
    pub(super) async fn pinned(&self) -> Result<(BTreeSet<BlobHash>, Vec<Yielding>), StoreFailed> {
        let (mut pinned, mut yielding) = (BTreeSet::new(), Vec::new());
        for pin in self.pins().await? {
            let blobs = self.blobs_of(pin.content).await?;
            match pin.yields() {
                true => yielding.push(Yielding { pin, blobs }),
                false => pinned.extend(blobs),
            }
        }
        Ok((pinned, yielding))
    }

    /// The new tag is there before the old ones go, so that the content is kept all the time.
    async fn set_pin(&self, name: &str, content: Content, until: Option<Time>) -> Result<(), PinError> {
        check_pin(name)?;
        let _turn = self.pinning.lock().await;
        let tags = self.store.tags();
        tags.set(tag(name, until), hash_and_format(content)).await.map_err(failed)?;
        let is_older = |pin: &Pin| pin.name == name && pin.until != until;
        for older in self.tags(name).await?.into_iter().filter(is_older) {
            tags.delete(tag(name, older.until)).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Every tag that begins with `prefix`, as a pin.
    async fn tags(&self, prefix: &str) -> Result<Vec<Pin>, StoreFailed> {
        let mut tags = self.store.tags().list_prefix(prefix).await.map_err(failed)?;
        let mut pins = Vec::new();
        while let Some(tag) = tags.next().await {
            let tag = tag.map_err(failed)?;
            let (name, until) = parse(&String::from_utf8_lossy(tag.name.0.as_ref()));
            pins.push(Pin { name, content: content(tag.hash_and_format()), until });
        }
        Ok(pins)
    }
}

fn tag(name: &str, until: Option<Time>) -> String {
    match until {
        Some(until) => format!("{}{}", with_end(name), until.0),
        None => name.into(),
    }
}

fn with_end(name: &str) -> String {
    format!("{name}{END}")
}

fn parse(tag: &str) -> (String, Option<Time>) {
    let pin = tag.rsplit_once(END).and_then(|(name, until)| Some((name.to_owned(), Some(Time(until.parse().ok()?)))));
    pin.unwrap_or_else(|| (tag.into(), None))
}

fn check_pin(name: &str) -> Result<(), PinError> {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains(END);
    if fits { Ok(()) } else { Err(PinError::Name(name.into())) }
}
