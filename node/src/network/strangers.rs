//! Peers whose version of the protocol is too far from this node's: they are not kept, are left alone for a while, and are
//! told of to whoever asks what is wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shoal_protocol::id::PeerId;
use shoal_protocol::wire::Dialect;

use super::Network;

/// Strangers that are remembered; of more, those that were seen last.
const MAX_STRANGERS: usize = 256;
/// For how long one is not dialled. Then it may have been updated.
const REST: Duration = Duration::from_secs(60);
/// For how long one is remembered that is not seen again.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What stands for the version of a peer that names none: it is from before the first that promises anything.
pub(crate) const UNNAMED: u8 = 0;

/// The strangers. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Strangers {
    own: Dialect,
    seen: Arc<Mutex<BTreeMap<PeerId, (u8, Instant)>>>,
}

impl Strangers {
    pub(crate) fn new(own: Dialect) -> Self {
        Self { own, seen: Arc::default() }
    }

    /// The version that this node speaks.
    pub(crate) fn own(&self) -> u8 {
        self.own.version
    }

    /// Takes note of the version that a peer speaks; whether it is one that this node has nothing to do with.
    pub(crate) fn meet(&self, peer: PeerId, version: u8, now: Instant) -> bool {
        let mut seen = self.lock();
        if self.own.speaks(version) {
            seen.remove(&peer);
            return false;
        }
        let before = seen.insert(peer, (version, now));
        if before.is_none_or(|(before, _)| before != version) {
            let own = self.own.version;
            tracing::info!(peer = %peer.short(), version, own, "a peer speaks another protocol version, and is not kept");
        }
        if seen.len() > MAX_STRANGERS {
            let oldest = seen.iter().min_by_key(|(_, (_, at))| *at).map(|(peer, _)| *peer);
            oldest.map(|peer| seen.remove(&peer));
        }
        true
    }

    /// The version of a peer that is not to be dialled for that reason.
    pub(crate) fn resting(&self, peer: PeerId, now: Instant) -> Option<u8> {
        self.lock().get(&peer).filter(|(_, at)| now < *at + REST).map(|(version, _)| *version)
    }

    /// Those that were seen lately, and the version that each speaks.
    pub(crate) fn all(&self, now: Instant) -> BTreeMap<PeerId, u8> {
        let mut seen = self.lock();
        seen.retain(|_, (_, at)| now < *at + REMEMBERED);
        seen.iter().map(|(peer, (version, _))| (*peer, *version)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, (u8, Instant)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network {
    /// The version of the protocol that this node speaks.
    pub fn protocol(&self) -> u8 {
        self.shared.strangers.own()
    }

    /// The version of the protocol that a connected peer speaks, once it has told.
    pub fn protocol_of(&self, peer: PeerId) -> Option<u8> {
        self.shared.described().get(&peer)?.protocol
    }

    /// Peers that were not kept lately because their version is too far from this node's, and that version.
    pub fn strangers(&self) -> BTreeMap<PeerId, u8> {
        self.shared.strangers.all(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use shoal_protocol::wire::OWN;

    use super::*;

    const FAR: u8 = OWN.version + 2;

    fn name(n: u16) -> PeerId {
        PeerId(std::array::from_fn(|i| n.to_le_bytes().get(i).copied().unwrap_or(0)))
    }

    #[test]
    fn a_stranger_is_left_alone_for_a_while_and_told_of_for_longer() {
        let (strangers, now) = (Strangers::new(OWN), Instant::now());
        assert!(strangers.meet(name(1), FAR, now) && !strangers.meet(name(2), OWN.version + 1, now));
        assert_eq!([strangers.resting(name(1), now), strangers.resting(name(2), now)], [Some(FAR), None]);
        assert_eq!(strangers.resting(name(1), now + REST), None);
        assert_eq!(strangers.all(now + REST), BTreeMap::from([(name(1), FAR)]));
        assert_eq!(strangers.all(now + REMEMBERED), BTreeMap::new());
    }

    #[test]
    fn a_stranger_that_was_updated_is_none_any_more() {
        let (strangers, now) = (Strangers::new(OWN), Instant::now());
        strangers.meet(name(1), UNNAMED, now);
        assert!(!strangers.meet(name(1), OWN.version, now));
        assert!(strangers.resting(name(1), now).is_none() && strangers.all(now).is_empty());
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let (strangers, now) = (Strangers::new(OWN), Instant::now());
        for n in 0..1_000 {
            strangers.meet(name(n), FAR, now + Duration::from_millis(n.into()));
        }
        let all = strangers.all(now);
        assert_eq!((all.len(), all.contains_key(&name(0)), all.contains_key(&name(999))), (MAX_STRANGERS, false, true));
    }
}
