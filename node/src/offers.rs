//! Which blobs peers may have from this node.
//!
//! Anybody may have what open jobs need, what is pinned, and what a ticket was given out for; a requester may have the
//! results that were made for it. The rest of the store is nobody's business: what was read from sources and serves no
//! open job, what was fetched for oneself, what is half here. A folder is had through its list; its files may be asked
//! for by their own hashes too.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use shoal_protocol::id::{BlobHash, PeerId};

/// Results that their requesters may come back for; the oldest go first.
const MAX_RESULTS: usize = 4_096;
/// Files of a folder that may be asked for by their own hashes; the others come through the list.
pub(crate) const MAX_FILES_BY_HASH: usize = 1_024;

/// What may be had. A clone is the same.
#[derive(Debug, Default, Clone)]
pub(crate) struct Offers(Arc<RwLock<Book>>);

#[derive(Debug, Default)]
struct Book {
    anybody: HashMap<BlobHash, u32>,
    requesters: HashMap<(PeerId, BlobHash), u32>,
    results: VecDeque<(PeerId, Vec<BlobHash>)>,
}

/// Blobs that anybody may have, until it is dropped.
#[derive(Debug)]
#[must_use = "the blobs are offered as long as this lives"]
pub(crate) struct Offer {
    offers: Offers,
    hashes: Vec<BlobHash>,
}

impl Offers {
    /// Lets anybody have some blobs.
    pub(crate) fn offer(&self, hashes: impl IntoIterator<Item = BlobHash>) -> Offer {
        let hashes: Vec<BlobHash> = hashes.into_iter().collect();
        let mut book = self.write();
        hashes.iter().for_each(|hash| *book.anybody.entry(*hash).or_default() += 1);
        Offer { offers: self.clone(), hashes }
    }

    /// Lets a requester have what was made for it.
    pub(crate) fn offer_result(&self, requester: PeerId, hashes: Vec<BlobHash>) {
        let mut book = self.write();
        hashes.iter().for_each(|hash| *book.requesters.entry((requester, *hash)).or_default() += 1);
        book.results.push_back((requester, hashes));
        if book.results.len() > MAX_RESULTS
            && let Some((requester, hashes)) = book.results.pop_front()
        {
            hashes.into_iter().for_each(|hash| withdraw(&mut book.requesters, (requester, hash)));
        }
    }

    /// Whether a peer may have a blob.
    pub(crate) fn allows(&self, peer: PeerId, hash: BlobHash) -> bool {
        let book = self.read();
        book.anybody.contains_key(&hash) || book.requesters.contains_key(&(peer, hash))
    }

    fn read(&self) -> RwLockReadGuard<'_, Book> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Book> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let mut book = self.offers.write();
        self.hashes.drain(..).for_each(|hash| withdraw(&mut book.anybody, hash));
    }
}

/// The same blob may be offered for several reasons.
fn withdraw<K: std::hash::Hash + Eq>(offered: &mut HashMap<K, u32>, key: K) {
    if let Some(times) = offered.get_mut(&key) {
        *times -= 1;
        if *times == 0 {
            offered.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEERS: [PeerId; 2] = [PeerId([1; 32]), PeerId([2; 32])];
    const BLOB: BlobHash = BlobHash([7; 32]);
    const OTHER: BlobHash = BlobHash([8; 32]);

    #[test]
    fn what_is_offered_may_be_had_as_long_as_somebody_offers_it() {
        let offers = Offers::default();
        assert!(!offers.allows(PEERS[0], BLOB));
        let (job, pin) = (offers.offer([BLOB, OTHER]), offers.offer([BLOB]));
        assert!(PEERS.iter().all(|peer| offers.allows(*peer, BLOB) && offers.allows(*peer, OTHER)));
        drop(job);
        assert!(offers.allows(PEERS[0], BLOB) && !offers.allows(PEERS[0], OTHER));
        drop(pin);
        assert!(!offers.allows(PEERS[0], BLOB) && offers.read().anybody.is_empty());
    }

    #[test]
    fn a_result_is_for_its_requester_alone_and_the_oldest_go_first() {
        let offers = Offers::default();
        offers.offer_result(PEERS[0], vec![BLOB]);
        assert!(offers.allows(PEERS[0], BLOB) && !offers.allows(PEERS[1], BLOB));
        offers.offer_result(PEERS[0], vec![BLOB]);
        for _ in 2..MAX_RESULTS {
            offers.offer_result(PEERS[1], vec![OTHER]);
        }
        offers.offer_result(PEERS[1], vec![OTHER]);
        assert!(offers.allows(PEERS[0], BLOB), "a second execution had the same result");
        offers.offer_result(PEERS[1], vec![OTHER]);
        assert!(!offers.allows(PEERS[0], BLOB));
        assert_eq!(offers.read().requesters.len(), 1);
    }
}
