//! Pins are for others too: what is pinned may be had by anybody, and the DHT tells who has it. Large inputs of
//! executions are announced as well, so that a job's workers fetch from each other and not from its requester alone.
//!
//! Records in the DHT last two hours and are renewed while the pin lasts; what is not pinned any more is not renewed.
//! The newest are announced first and the oldest go when there are too many; results that were made for others come
//! after everything else, and go first. Pins end by themselves and change by
//! many hands, so the store is looked at now and then; who cannot wait for that says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal_protocol::id::{BlobHash, ExecutionId};
use shoal_protocol::task::{Content, ContentKind};
use shoal_store::blobs::Blobs;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::network::Network;
use crate::offers::{MAX_FILES_BY_HASH, Offer, Offers};

/// Pause between two looks at all pins.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Inputs of this size, in bytes, are announced: fetching them takes longer than asking the DHT.
const LARGE_INPUT: u64 = 32 << 20;
/// Blobs that are announced: fewer than others keep records of one peer.
const MAX_ANNOUNCED: usize = 1_000;
/// Blobs that wait to be announced.
const MAX_WAITING: usize = 1_000;
/// Pause between two announcements. Each costs messages to eight peers.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(50);
/// The pause after one that is kept for others alone: where small jobs are many, a favour must not be most of the work.
const FAVOUR_EVERY: Duration = Duration::from_millis(250);

/// Offers what is pinned, and announces it. A clone is the same.
#[derive(Clone)]
pub(crate) struct Announcer(Arc<Inner>);

struct Inner {
    blobs: Blobs,
    network: Network,
    offers: Offers,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    offered: BTreeMap<BlobHash, Offer>,
    /// Large inputs of executions.
    lent: BTreeMap<ExecutionId, BTreeSet<BlobHash>>,
    /// What is pinned for others alone.
    for_others: BTreeSet<BlobHash>,
    /// What is to be announced, what comes first last.
    waiting: VecDeque<BlobHash>,
    /// What was announced, the newest last.
    announced: VecDeque<BlobHash>,
}

impl Announcer {
    pub(crate) fn new(blobs: Blobs, network: Network, offers: Offers) -> Self {
        let (state, changed) = (Mutex::default(), Notify::new());
        Self(Arc::new(Inner { blobs, network, offers, state, changed }))
    }

    /// Offers what was pinned just now and is here.
    pub(crate) async fn pinned(&self, content: Content) {
        self.offer(content, false).await;
    }

    /// The same for a result that this node keeps for others.
    pub(crate) async fn agreed(&self, content: Content) {
        self.offer(content, true).await;
    }

    async fn offer(&self, content: Content, for_others: bool) {
        // What a node made is here as long as that pin is.
        if self.lock().offered.contains_key(&content.hash) || !(for_others || self.is_here(content).await) {
            return;
        }
        let offer = self.0.offers.offer(hashes(&self.0.blobs, content).await);
        let mut state = self.lock();
        state.offered.insert(content.hash, offer);
        if for_others {
            state.for_others.insert(content.hash);
        }
        state.wait(content.hash);
        drop(state);
        self.0.changed.notify_one();
    }

    /// Announces an input that an execution has fetched, if it is large. Its offer is its keeper's affair.
    pub(crate) fn fetched(&self, execution: ExecutionId, hash: BlobHash, bytes: u64) {
        if bytes >= LARGE_INPUT {
            let mut state = self.lock();
            state.lent.entry(execution).or_default().insert(hash);
            state.wait(hash);
            drop(state);
            self.0.changed.notify_one();
        }
    }

    /// The execution needs nothing any more. What nobody else needs is withdrawn at the next look.
    pub(crate) fn released(&self, execution: ExecutionId) {
        self.lock().lent.remove(&execution);
    }

    /// Looks after all pins, for ever.
    pub(crate) async fn run(self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // However much waits to be announced.
                biased;
                _ = look.tick() => self.look().await,
                () = self.has_next() => {}
            }
            if let Some((hash, pause)) = self.next() {
                self.0.network.provide(hash).await;
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Waits until there is something to announce.
    async fn has_next(&self) {
        while self.lock().waiting.is_empty() {
            self.0.changed.notified().await;
        }
    }

    /// Takes in what was pinned meanwhile, and lets go of what is not pinned any more.
    pub(crate) async fn look(&self) {
        let pins = match self.0.blobs.pins().await {
            Ok(pins) => pins,
            Err(error) => return tracing::debug!(%error, "pins were not looked at"),
        };
        let contents = |yields: bool| pins.iter().filter(move |pin| pin.yields() == yields).map(|pin| pin.content);
        let pinned: BTreeSet<Content> = contents(false).collect();
        let for_others: BTreeSet<Content> = contents(true).filter(|content| !pinned.contains(content)).collect();
        let hashes = |contents: &BTreeSet<Content>| contents.iter().map(|content| content.hash).collect();
        for hash in self.forget(&hashes(&pinned), hashes(&for_others)) {
            self.0.network.unprovide(hash).await;
        }
        for content in pinned {
            self.pinned(content).await;
        }
        for content in for_others {
            self.agreed(content).await;
        }
    }

    /// The next blob to announce, the newest one, and the pause that is due after it.
    fn next(&self) -> Option<(BlobHash, Duration)> {
        let mut state = self.lock();
        let hash = state.waiting.pop_back()?;
        state.announced.push_back(hash);
        let pause = if state.for_others.contains(&hash) { FAVOUR_EVERY } else { ANNOUNCE_EVERY };
        if let Some(oldest) = state.surplus() {
            drop(state);
            let network = self.0.network.clone();
            tokio::spawn(async move { network.unprovide(oldest).await });
        }
        Some((hash, pause))
    }

    /// Withdraws all but what is pinned and what is lent, and returns what was announced of that.
    fn forget(&self, pinned: &BTreeSet<BlobHash>, for_others: BTreeSet<BlobHash>) -> Vec<BlobHash> {
        let mut state = self.lock();
        let lent: BTreeSet<BlobHash> = state.lent.values().flatten().copied().collect();
        let is_pinned = |hash: &BlobHash| pinned.contains(hash) || for_others.contains(hash);
        let is_needed = |hash: &BlobHash| is_pinned(hash) || lent.contains(hash);
        state.waiting.retain(is_needed);
        let (stay, gone): (_, VecDeque<_>) = std::mem::take(&mut state.announced).into_iter().partition(is_needed);
        state.announced = stay;
        let offered = std::mem::take(&mut state.offered);
        let (stay, withdrawn) = offered.into_iter().partition(|(hash, _)| is_pinned(hash));
        state.offered = stay;
        state.for_others = for_others;
        drop(state);
        drop::<BTreeMap<BlobHash, Offer>>(withdrawn);
        gone.into()
    }

    async fn is_here(&self, content: Content) -> bool {
        matches!(self.0.blobs.size(content).await, Ok(Some(_)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lines a blob up, unless it is announced already.
    fn wait(&mut self, hash: BlobHash) {
        if self.announced.contains(&hash) || self.waiting.contains(&hash) {
            return;
        }
        match self.for_others.contains(&hash) {
            true => self.waiting.push_front(hash),
            false => self.waiting.push_back(hash),
        }
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
        }
    }

    /// What is announced no more, if too much is: the oldest that is kept for others alone, or else the oldest.
    fn surplus(&mut self) -> Option<BlobHash> {
        if self.announced.len() <= MAX_ANNOUNCED {
            return None;
        }
        let index = self.announced.iter().position(|hash| self.for_others.contains(hash));
        self.announced.remove(index.unwrap_or(0))
    }
}

/// The blobs of some content that may be asked for by their own hashes.
pub(crate) async fn hashes(blobs: &Blobs, content: Content) -> Vec<BlobHash> {
    let mut hashes = vec![content.hash];
    if content.kind == ContentKind::Collection
        && let Ok(files) = blobs.folder_blobs(content.hash).await
    {
        hashes.extend(files.into_iter().take(MAX_FILES_BY_HASH));
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(number: usize) -> BlobHash {
        BlobHash::of(&number.to_le_bytes())
    }

    #[test]
    fn what_is_kept_for_others_is_announced_last_and_goes_first() {
        let mut state = State { for_others: [blob(0), blob(2)].into(), ..State::default() };
        (0..4).for_each(|number| state.wait(blob(number)));
        let announced: Vec<BlobHash> = std::iter::from_fn(|| state.waiting.pop_back()).collect();
        assert_eq!(announced, [3, 1, 0, 2].map(blob), "else the newest comes first");

        state.announced = (4..MAX_ANNOUNCED + 3).map(blob).chain(announced).collect();
        let gone: Vec<BlobHash> = std::iter::from_fn(|| state.surplus()).collect();
        assert_eq!(gone, [0, 2, 4].map(blob), "then the oldest");
    }
}
