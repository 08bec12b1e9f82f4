//! Whose provider records this node keeps: a few of each peer, and none that has expired.
//!
//! The DHT's store counts keys only, so one peer could fill it for all others; and it removes what has expired only
//! when somebody asks for just that.

use std::collections::BTreeMap;
use std::time::Instant;

use shoal_protocol::id::{BlobHash, PeerId};

/// Records of one peer: somewhat more than one of our nodes announces.
const MAX_PER_PEER: usize = 1_024;

/// Records by whom they are of, and until when they are good.
#[derive(Debug, Default)]
pub(crate) struct Ledger(BTreeMap<PeerId, BTreeMap<BlobHash, Instant>>);

impl Ledger {
    /// Takes a record in, anew or again. False if that peer has too many.
    pub(crate) fn admit(&mut self, peer: PeerId, hash: BlobHash, until: Instant) -> bool {
        let records = self.0.entry(peer).or_default();
        if records.len() >= MAX_PER_PEER && !records.contains_key(&hash) {
            return false;
        }
        records.insert(hash, until);
        true
    }

    /// Takes out what has expired.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(PeerId, BlobHash)> {
        let mut expired = Vec::new();
        self.0.retain(|peer, records| {
            records.retain(|hash, until| {
                let is_good = *until > now;
                if !is_good {
                    expired.push((*peer, *hash));
                }
                is_good
            });
            !records.is_empty()
        });
        expired
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hash(n: usize) -> BlobHash {
        BlobHash::of(&n.to_le_bytes())
    }

    #[test]
    fn one_peer_fills_only_its_own_room_and_gets_it_back() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let until = now + Duration::from_secs(1);
        let (one, other) = (PeerId([1; 32]), PeerId([2; 32]));
        assert!((0..MAX_PER_PEER).all(|n| ledger.admit(one, hash(n), until)));
        assert!(!ledger.admit(one, hash(MAX_PER_PEER), until));
        assert!(ledger.admit(one, hash(0), until + Duration::from_secs(1)), "an old record is renewed");
        assert!(ledger.admit(other, hash(MAX_PER_PEER), until));
        assert_eq!(ledger.expire(until).len(), MAX_PER_PEER, "all but the renewed one");
        assert!(ledger.admit(one, hash(MAX_PER_PEER), until + Duration::from_secs(1)));
        assert_eq!(ledger.expire(until + Duration::from_secs(1)).len(), 2);
        assert!(ledger.0.is_empty());
    }
}
