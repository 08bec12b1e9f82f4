//! The doorman: who may connect, whatever the protocol, and whether there is room for one more from there.
//!
//! He stands at three doors. The first is before the handshake, where only an address is seen: attempts from one place are
//! counted, and whoever may only pretend to be there is asked to come again. The second is after it, where the name is
//! proved: lists of the operator, who is cut off, and how many from that place are here or cut off. The third is before this node
//! itself connects. In a private mesh the [gate](super::gate) comes after him.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use iroh::endpoint::{
    AfterHandshakeOutcome, BeforeConnectOutcome, Connection, EndpointHooks, Incoming, IncomingAddr, Side,
    WeakConnectionHandle,
};
use iroh::protocol::IncomingFilterOutcome;
use iroh::{EndpointAddr, TransportAddr};
use shoal_protocol::access::{self, Access, Origin};
use shoal_protocol::address::{Network, is_public};
use shoal_protocol::id::PeerId;
use shoal_protocol::limits::MAX_SHUNNED_PEERS;

use super::identity::peer_of_endpoint;
use super::rate::{Buckets, Rate};

/// Attempts from one place that can prove to be there.
const ATTEMPTS: Rate = Rate { per_second: 16, burst: 256 };
/// Attempts that prove nothing, all together: beyond it each has to come again with a token. So many handshakes can be
/// under way.
const UNPROVEN_ATTEMPTS: Rate = Rate { per_second: 256, burst: 1_024 };
/// Peers that are connected, whoever connected to whom and for whatever.
const MAX_GUESTS: usize = 512;
/// Connections of one peer. There are three as a rule: one for libp2p, and one for blobs each way.
const MAX_PER_GUEST: usize = 16;
/// Application close code of connections that end here. It says nothing.
const CLOSED: u32 = 0;

/// The doorman. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Doorman {
    access: Arc<Access>,
    state: Arc<Mutex<State>>,
    refused: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State {
    attempts: Buckets<Network>,
    unproven: Buckets<()>,
    guests: BTreeMap<PeerId, Guest>,
    shunned: BTreeMap<PeerId, Shunned>,
}

/// A peer that is cut off.
#[derive(Debug)]
struct Shunned {
    until: Instant,
    /// Where it was last; none if it was not connected.
    origin: Option<Origin>,
}

/// A connected peer.
#[derive(Debug)]
struct Guest {
    origin: Origin,
    connections: Vec<WeakConnectionHandle>,
}

/// Why a connection does not come about. The other side is not told.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the operator does not want this peer")]
    Peer,
    #[error("the operator wants nobody from there")]
    Origin,
    #[error("it is cut off")]
    Shunned,
    #[error("too many from there are cut off")]
    Notorious,
    #[error("{0}")]
    Crowded(#[from] access::Crowded),
    #[error("it has too many connections")]
    TooMany,
    #[error("too many peers are connected")]
    Full,
}

impl Doorman {
    pub(super) fn new(access: Access) -> Self {
        let state = State {
            attempts: Buckets::new(ATTEMPTS),
            unproven: Buckets::new(UNPROVEN_ATTEMPTS),
            guests: BTreeMap::new(),
            shunned: BTreeMap::new(),
        };
        Self { access: Arc::new(access), state: Arc::new(Mutex::new(state)), refused: Arc::default() }
    }

    /// Connections and attempts that were refused since the start.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether the operator wants to have to do with `peer`.
    pub(super) fn wants(&self, peer: PeerId) -> bool {
        self.access.peer(peer)
    }

    /// Ends all connections with `peer`, and takes none until then.
    pub(super) fn shun(&self, peer: PeerId, until: Instant) {
        let mut state = self.lock();
        state.shunned.retain(|_, shunned| shunned.until > Instant::now());
        let guest = state.guests.remove(&peer);
        if state.shunned.len() < MAX_SHUNNED_PEERS {
            let origin = guest.as_ref().map(Guest::is_at);
            state.shunned.insert(peer, Shunned { until, origin: origin.clone() });
            if let Some(origin) = origin.filter(|origin| state.is_notorious(origin, Instant::now())) {
                tracing::info!(%origin, "nobody new is let in from there for a while: too many were cut off");
            }
        }
        drop(state);
        guest.iter().for_each(Guest::close);
    }

    /// Whether `peer` is cut off now.
    pub(super) fn is_shunned(&self, peer: PeerId) -> bool {
        self.lock().shunned.get(&peer).is_some_and(|shunned| shunned.until > Instant::now())
    }

    /// Forgets those that have gone, and closes connections that have moved to where the operator wants nobody.
    pub(super) fn look_around(&self) {
        let mut state = self.lock();
        state.forget_gone();
        let strays = state.guests.values().flat_map(Guest::live).filter(|connection| {
            let origins = connection.paths().iter().filter_map(|path| origin(path.remote_addr())).collect::<Vec<_>>();
            !origins.iter().all(|origin| self.access.origin(origin))
        });
        let strays: Vec<Connection> = strays.collect();
        drop(state);
        strays.iter().for_each(|connection| connection.close(CLOSED.into(), b""));
    }

    /// The first door: what is known is where a packet says that it comes from.
    pub(super) fn look_at(&self, incoming: &Incoming) -> IncomingFilterOutcome {
        let outcome = match incoming.remote_addr() {
            IncomingAddr::Ip(socket) => self.attempt(socket.ip(), incoming.remote_addr_validated()),
            IncomingAddr::Relay { endpoint_id, .. } => match self.check_peer(peer_of_endpoint(endpoint_id)) {
                Ok(()) => IncomingFilterOutcome::Accept,
                Err(_) => IncomingFilterOutcome::Ignore,
            },
            // There is no other way on which anybody could come.
            _ => IncomingFilterOutcome::Ignore,
        };
        if outcome == IncomingFilterOutcome::Ignore {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    fn attempt(&self, address: IpAddr, is_proven: bool) -> IncomingFilterOutcome {
        if !self.access.origin(&Origin::Address(address)) {
            return IncomingFilterOutcome::Ignore;
        }
        let (mut state, now) = (self.lock(), Instant::now());
        // Who pretends to be somebody else must not use up what that one may.
        if !is_proven {
            let is_let_in = state.unproven.take((), now);
            return if is_let_in { IncomingFilterOutcome::Accept } else { IncomingFilterOutcome::Retry };
        }
        let is_let_in = state.attempts.take(Network::subscriber(address), now);
        if is_let_in { IncomingFilterOutcome::Accept } else { IncomingFilterOutcome::Ignore }
    }

    fn check_peer(&self, peer: PeerId) -> Result<(), Refused> {
        if !self.access.peer(peer) {
            return Err(Refused::Peer);
        }
        if self.is_shunned(peer) { Err(Refused::Shunned) } else { Ok(()) }
    }

    /// The second door.
    fn admit(&self, connection: &Connection) -> Result<(), Refused> {
        let peer = peer_of_endpoint(connection.remote_id());
        self.check_peer(peer)?;
        let Some(origin) = origin_of(connection) else { return Ok(()) };
        if !self.access.origin(&origin) {
            return Err(Refused::Origin);
        }
        self.lock().enter(peer, origin, connection)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, peer: PeerId, origin: Origin, connection: &Connection) -> Result<(), Refused> {
        self.forget_gone();
        if !self.guests.contains_key(&peer) {
            // Whom this node has chosen itself may be one of many only in a network of its own.
            if connection.side() == Side::Server || is_public_origin(&origin) {
                access::has_room(&origin, self.guests.values().map(|guest| &guest.origin))?;
                if self.is_notorious(&origin, Instant::now()) {
                    return Err(Refused::Notorious);
                }
            }
            if self.guests.len() >= MAX_GUESTS {
                return Err(Refused::Full);
            }
        }
        let guest = self.guests.entry(peer).or_insert_with(|| Guest { origin, connections: Vec::new() });
        if guest.connections.len() >= MAX_PER_GUEST {
            return Err(Refused::TooMany);
        }
        guest.connections.push(connection.weak_handle());
        Ok(())
    }

    fn is_notorious(&self, origin: &Origin, now: Instant) -> bool {
        let shunned = self.shunned.values().filter(|shunned| shunned.until > now);
        access::is_notorious(origin, shunned.filter_map(|shunned| shunned.origin.as_ref()))
    }

    fn forget_gone(&mut self) {
        self.guests.retain(|_, guest| {
            guest.connections.retain(|connection| connection.upgrade().is_some());
            !guest.connections.is_empty()
        });
    }
}

impl Guest {
    fn live(&self) -> impl Iterator<Item = Connection> {
        self.connections.iter().filter_map(WeakConnectionHandle::upgrade)
    }

    /// Where it is now. Whoever came by a relay may have shown its address since.
    fn is_at(&self) -> Origin {
        let seen = self.live().filter_map(|connection| origin_of(&connection));
        seen.fold(self.origin.clone(), |one, other| if matches!(one, Origin::Address(_)) { one } else { other })
    }

    fn close(&self) {
        self.live().for_each(|connection| connection.close(CLOSED.into(), b""));
    }
}

impl EndpointHooks for Doorman {
    async fn before_connect<'a>(&'a self, address: &'a EndpointAddr, _: &'a [u8]) -> BeforeConnectOutcome {
        let wanted = |way: &TransportAddr| origin(way).is_none_or(|origin| self.access.origin(&origin));
        let leads_there = address.addrs.is_empty() || address.addrs.iter().any(wanted);
        match self.check_peer(peer_of_endpoint(address.id)) {
            Ok(()) if leads_there => BeforeConnectOutcome::Accept,
            _ => BeforeConnectOutcome::Reject,
        }
    }

    async fn after_handshake<'a>(&'a self, connection: &'a Connection) -> AfterHandshakeOutcome {
        let Err(reason) = self.admit(connection) else { return AfterHandshakeOutcome::Accept };
        self.refused.fetch_add(1, Ordering::Relaxed);
        let peer = peer_of_endpoint(connection.remote_id());
        tracing::debug!(peer = %peer.short(), %reason, "not let in");
        AfterHandshakeOutcome::Reject { error_code: CLOSED.into(), reason: Vec::new() }
    }
}

fn is_public_origin(origin: &Origin) -> bool {
    match origin {
        Origin::Address(address) => is_public(*address),
        Origin::Relay(_) => true,
    }
}

/// Where the other end of a connection is, by the path that it uses.
fn origin_of(connection: &Connection) -> Option<Origin> {
    let paths = connection.paths();
    let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next())?;
    origin(path.remote_addr())
}

fn origin(way: &TransportAddr) -> Option<Origin> {
    match way {
        TransportAddr::Ip(socket) => Some(Origin::Address(socket.ip())),
        TransportAddr::Relay(url) => Some(Origin::Relay(url.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn attempts_from_one_place_do_not_use_up_those_of_another() {
        let doorman = Doorman::new(Access::default());
        let accepted = |last, times| {
            (0..times).filter(|_| doorman.attempt(address(last), true) == IncomingFilterOutcome::Accept).count()
        };
        let burst = usize::try_from(ATTEMPTS.burst).unwrap();
        assert!((burst..burst + 10).contains(&accepted(1, 2 * burst)));
        assert_eq!(accepted(2, burst), burst);
    }

    #[test]
    fn whoever_only_pretends_to_be_there_is_asked_to_come_again_and_costs_nobody_else() {
        let doorman = Doorman::new(Access::default());
        let pretended = (0..2 * UNPROVEN_ATTEMPTS.burst).map(|_| doorman.attempt(address(1), false));
        let pretended: Vec<_> = pretended.collect();
        assert_eq!(pretended.first(), Some(&IncomingFilterOutcome::Accept));
        assert_eq!(pretended.last(), Some(&IncomingFilterOutcome::Retry));
        assert_eq!(doorman.attempt(address(1), true), IncomingFilterOutcome::Accept);
    }

    #[test]
    fn nobody_is_let_in_from_a_network_that_is_denied() {
        let deny_networks = vec!["192.0.2.0/28".parse().unwrap()];
        let doorman = Doorman::new(Access { deny_networks, ..Access::default() });
        let outcomes = [15, 16].map(|last| doorman.attempt(address(last), false));
        assert_eq!(outcomes, [IncomingFilterOutcome::Ignore, IncomingFilterOutcome::Accept]);
    }

    #[test]
    fn being_cut_off_ends_by_itself() {
        let (doorman, peer, now) = (Doorman::new(Access::default()), PeerId([1; 32]), Instant::now());
        doorman.shun(peer, now + std::time::Duration::from_secs(600));
        assert!(matches!(doorman.check_peer(peer), Err(Refused::Shunned)));
        doorman.shun(peer, now);
        assert!(doorman.check_peer(peer).is_ok());
    }
}
