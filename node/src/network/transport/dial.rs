//! One connection attempt for all addresses of a peer.
//!
//! libp2p dials each address of a peer on its own and races the attempts. iroh pools a peer's addresses, so each of
//! those would become a connection of its own, and the other side would see all but one of them close again. So the
//! attempts of one dial form a group: the first one that is polled connects with all addresses, and the others wait
//! for its failure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use iroh::endpoint::Connection;
use iroh::{Endpoint, EndpointAddr, EndpointId, TransportAddr};
use tokio::sync::watch;

use super::{TransportFailure, Unreached};

/// How long connecting may take. QUIC alone would try a dead address for as long as it believes in silent peers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// The groups that still take addresses, by peer.
#[derive(Default)]
pub(super) struct Dials(HashMap<EndpointId, Weak<Group>>);

/// The addresses of one dial.
struct Group {
    /// Taken by the attempt that connects.
    addresses: Mutex<Option<Vec<TransportAddr>>>,
    /// Dropped or set when that attempt has ended.
    ended: watch::Sender<bool>,
}

/// One of the attempts that libp2p makes.
pub(super) struct Attempt {
    peer: EndpointId,
    group: Arc<Group>,
}

impl Dials {
    /// Adds an address to the dial of `peer` that has not begun yet, or to a new one.
    pub(super) fn attempt(&mut self, peer: EndpointId, way: Option<TransportAddr>) -> Attempt {
        let open = self.0.get(&peer).and_then(Weak::upgrade).filter(|group| group.add(way.clone()));
        let group = open.unwrap_or_else(|| {
            self.0.retain(|_, group| group.strong_count() > 0);
            let group = Arc::new(Group::new(way));
            self.0.insert(peer, Arc::downgrade(&group));
            group
        });
        Attempt { peer, group }
    }
}

impl Group {
    fn new(way: Option<TransportAddr>) -> Self {
        Self { addresses: Mutex::new(Some(way.into_iter().collect())), ended: watch::Sender::new(false) }
    }

    /// Whether the group still took the address.
    fn add(&self, way: Option<TransportAddr>) -> bool {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.as_mut().map(|addresses| addresses.extend(way)).is_some()
    }

    fn take(&self) -> Option<Vec<TransportAddr>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Tells the group's other attempts that the leading one is over, however it ended.
struct Ending<'a>(&'a Group);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.ended.send_replace(true);
    }
}

impl Attempt {
    /// Connects on behalf of the whole group, by all its addresses and the detours, or waits for the attempt that does.
    pub(super) async fn run(
        self,
        endpoint: Endpoint,
        alpn: Arc<[u8]>,
        detours: Vec<TransportAddr>,
    ) -> Result<Connection, TransportFailure> {
        let Some(addresses) = self.group.take() else {
            let mut ended = self.group.ended.subscribe();
            let _ = ended.wait_for(|ended| *ended).await;
            return Err(TransportFailure::SharedDial);
        };
        let _ending = Ending(&self.group);
        let address = EndpointAddr::from_parts(self.peer, addresses.into_iter().chain(detours));
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect(address, &alpn));
        let connected = connecting.await.map_err(|_| TransportFailure::Connect(Unreached::NoAnswer))?;
        connected.map_err(|error| TransportFailure::Connect(Unreached::from(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody() -> EndpointId {
        iroh::SecretKey::from_bytes(&[5; 32]).public()
    }

    fn way(text: &str) -> Option<TransportAddr> {
        Some(TransportAddr::Ip(text.parse().unwrap()))
    }

    #[test]
    fn addresses_of_one_dial_share_one_attempt() {
        let mut dials = Dials::default();
        let first = dials.attempt(somebody(), way("192.0.2.1:1"));
        let second = dials.attempt(somebody(), way("192.0.2.1:2"));
        assert!(Arc::ptr_eq(&first.group, &second.group));
        assert_eq!(second.group.take().map(|ways| ways.len()), Some(2));
        assert_eq!(first.group.take(), None, "only one of them connects");
    }

    #[test]
    fn a_dial_that_has_begun_takes_no_more_addresses() {
        let mut dials = Dials::default();
        let first = dials.attempt(somebody(), None);
        first.group.take();
        let later = dials.attempt(somebody(), None);
        assert!(!Arc::ptr_eq(&first.group, &later.group));
        drop((first, later));
        dials.attempt(iroh::SecretKey::from_bytes(&[6; 32]).public(), None);
        assert_eq!(dials.0.len(), 1, "ended dials are forgotten");
    }
}
