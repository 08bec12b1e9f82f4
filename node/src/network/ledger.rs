//! Whose provider records this node keeps: a few of each peer, and none that has expired.
//!
//! The DHT's store counts keys only, so one peer, or a swarm of names, could fill it for all others and for this node
//! itself; and it removes what has expired only when somebody asks for just that. When there is no room for another,
//! whoever has the most gives up the record that ends first.

use std::collections::BTreeMap;
use std::time::Instant;

use shoal_protocol::id::{BlobHash, PeerId};

/// Records of one peer: somewhat more than one of our nodes announces.
const MAX_PER_PEER: usize = 1_024;
/// Records of all peers.
pub(super) const MAX_RECORDS: usize = 16_384;

/// Records by whom they are of, and until when they are good.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    records: BTreeMap<PeerId, BTreeMap<BlobHash, Instant>>,
    count: usize,
}

/// Whether a record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// There is room for it.
    Yes,
    /// There is, once this one has gone.
    Instead(PeerId, BlobHash),
    /// That peer has too many.
    No,
}

impl Ledger {
    /// Takes a record in, anew or again.
    pub(crate) fn admit(&mut self, peer: PeerId, hash: BlobHash, until: Instant) -> Admitted {
        let own = self.records.get(&peer);
        let is_renewed = own.is_some_and(|own| own.contains_key(&hash));
        if !is_renewed && own.map_or(0, BTreeMap::len) >= MAX_PER_PEER {
            return Admitted::No;
        }
        let evicted = if !is_renewed && self.count >= MAX_RECORDS { self.evict() } else { None };
        self.count += usize::from(!is_renewed);
        self.records.entry(peer).or_default().insert(hash, until);
        evicted.map_or(Admitted::Yes, |(peer, hash)| Admitted::Instead(peer, hash))
    }

    /// Takes one record from whoever has the most.
    fn evict(&mut self) -> Option<(PeerId, BlobHash)> {
        let (peer, records) = self.records.iter_mut().max_by_key(|(_, records)| records.len())?;
        let (peer, hash) = (*peer, records.iter().min_by_key(|(_, until)| **until).map(|(hash, _)| *hash)?);
        records.remove(&hash);
        if records.is_empty() {
            self.records.remove(&peer);
        }
        self.count -= 1;
        Some((peer, hash))
    }

    /// Takes out what has expired.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(PeerId, BlobHash)> {
        let mut expired = Vec::new();
        self.records.retain(|peer, records| {
            records.retain(|hash, until| {
                let is_good = *until > now;
                if !is_good {
                    expired.push((*peer, *hash));
                }
                is_good
            });
            !records.is_empty()
        });
        self.count -= expired.len();
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
        let mut admits = |peer, n, until| ledger.admit(peer, hash(n), until) == Admitted::Yes;
        assert!((0..MAX_PER_PEER).all(|n| admits(one, n, until)));
        assert!(!admits(one, MAX_PER_PEER, until));
        assert!(admits(one, 0, until + Duration::from_secs(1)), "an old record is renewed");
        assert!(admits(other, MAX_PER_PEER, until));
        assert_eq!(ledger.expire(until).len(), MAX_PER_PEER, "all but the renewed one");
        assert_eq!(ledger.admit(one, hash(MAX_PER_PEER), until + Duration::from_secs(1)), Admitted::Yes);
        assert_eq!(ledger.expire(until + Duration::from_secs(1)).len(), 2);
        assert!(ledger.records.is_empty() && ledger.count == 0);
    }

    #[test]
    fn a_swarm_that_fills_it_makes_room_for_whoever_has_few() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let until = now + Duration::from_secs(1);
        let name = |n: usize| PeerId(std::array::from_fn(|i| n.to_le_bytes().get(i).copied().unwrap_or(9)));
        for n in 0..2 * MAX_RECORDS {
            ledger.admit(name(n / 100), hash(n), until);
        }
        assert_eq!((ledger.count, ledger.records.values().map(BTreeMap::len).sum()), (MAX_RECORDS, MAX_RECORDS));
        let honest = PeerId([1; 32]);
        assert!(matches!(ledger.admit(honest, hash(0), until), Admitted::Instead(loser, _) if loser != honest));
        for n in 0..1_000 {
            ledger.admit(name(n / 100), hash(n), until);
        }
        assert!(ledger.records.contains_key(&honest));
    }
}
