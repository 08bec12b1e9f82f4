//! Who uses this node's relay: how many may, how much each has sent and received, and who has to go.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iroh::EndpointId;
use iroh_relay::server::{Access, AccessControl, ClientRequest, ConnectionId};
use shoal_protocol::access;
use shoal_protocol::id::{MeshId, PeerId};

use super::RelayLimits;
use super::pace::Pace;
use super::pass::{self, Standing};
use crate::membership::Membership;
use crate::network::identity::peer_of_endpoint;

/// Connections of one client: the one in use, and one that its network has lost and it does not know of yet.
const MAX_CONNECTIONS: usize = 3;
/// Clients that are remembered when they are gone, so that what they used is not forgotten when they come again.
const MAX_REMEMBERED: usize = 1_024;
/// Newcomers of a private mesh at once.
const MAX_NEWCOMERS: usize = 16;
/// How long a newcomer may stay: long enough to be let into the mesh.
const NEWCOMERS_STAY: Duration = Duration::from_secs(60);
/// Bytes a second of a newcomer.
const NEWCOMERS_RATE: u64 = 64 << 10;

/// What a client has used of the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayClient {
    /// Who it is.
    pub peer: PeerId,
    /// Whether it is connected now.
    pub is_connected: bool,
    /// Since when it has been counted.
    pub since: Instant,
    /// Bytes that came from it.
    pub received: u64,
    /// Bytes that went to it.
    pub sent: u64,
}

/// The clients of a relay. Clones are the same clients.
#[derive(Clone)]
pub(super) struct Clients(Arc<Inner>);

struct Inner {
    mesh: MeshId,
    membership: Option<Membership>,
    limits: RelayLimits,
    access: access::Access,
    total: Arc<Mutex<Pace>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    accounts: BTreeMap<PeerId, Arc<Account>>,
    present: BTreeMap<PeerId, Presence>,
}

/// A client that is connected.
#[derive(Debug)]
struct Presence {
    standing: Standing,
    since: Instant,
    connections: Vec<ConnectionId>,
}

/// What one client has sent and received, and how fast it may send.
#[derive(Debug)]
pub(super) struct Account {
    since: Instant,
    received: AtomicU64,
    sent: AtomicU64,
    pace: Mutex<Pace>,
    total: Arc<Mutex<Pace>>,
}

impl Account {
    fn new(rate: u64, total: Arc<Mutex<Pace>>, now: Instant) -> Self {
        let pace = Mutex::new(Pace::new(rate, now));
        Self { since: now, received: AtomicU64::new(0), sent: AtomicU64::new(0), pace, total }
    }

    /// Notes what came, and says from when on more may be read.
    pub(super) fn received(&self, bytes: usize, now: Instant) -> Instant {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.received.fetch_add(bytes, Ordering::Relaxed);
        let own = lock(&self.pace).charge(bytes, now);
        own.max(lock(&self.total).charge(bytes, now))
    }

    /// Notes what went out.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clients {
    pub(super) fn new(
        mesh: MeshId,
        membership: Option<Membership>,
        limits: RelayLimits,
        access: access::Access,
    ) -> Self {
        let total = Arc::new(Mutex::new(Pace::new(limits.total_bytes_per_second, Instant::now())));
        Self(Arc::new(Inner { mesh, membership, limits, access, total, state: Mutex::default() }))
    }

    /// The account of a client that was let in.
    pub(super) fn account(&self, peer: PeerId) -> Option<Arc<Account>> {
        lock(&self.0.state).accounts.get(&peer).map(Arc::clone)
    }

    /// Everybody who uses or has used the relay, as far as it remembers.
    pub(super) fn all(&self) -> Vec<RelayClient> {
        let state = lock(&self.0.state);
        let client = |(peer, account): (&PeerId, &Arc<Account>)| RelayClient {
            peer: *peer,
            is_connected: state.present.contains_key(peer),
            since: account.since,
            received: account.received.load(Ordering::Relaxed),
            sent: account.sent.load(Ordering::Relaxed),
        };
        state.accounts.iter().map(client).collect()
    }

    /// Who is connected and must not be any more: the revoked, and newcomers that stayed too long.
    pub(super) fn unwanted(&self, now: Instant) -> Vec<PeerId> {
        let state = lock(&self.0.state);
        let is_over = |presence: &Presence| {
            presence.standing == Standing::Newcomer && now.saturating_duration_since(presence.since) > NEWCOMERS_STAY
        };
        let unwanted = state.present.iter().filter(|(peer, presence)| self.is_revoked(**peer) || is_over(presence));
        unwanted.map(|(peer, _)| *peer).collect()
    }

    fn is_revoked(&self, peer: PeerId) -> bool {
        self.0.membership.as_ref().is_some_and(|membership| membership.is_revoked(peer))
    }

    /// Whether the operator does not want it relayed, or wants nothing to do with it at all.
    fn is_denied(&self, peer: PeerId) -> bool {
        self.0.limits.denied.contains(&peer) || !self.0.access.peer(peer)
    }

    fn admit(&self, peer: PeerId, pass: &str, connection: ConnectionId, now: Instant) -> Result<(), &'static str> {
        let standing = pass::standing(self.0.mesh, self.0.membership.as_ref(), peer, pass);
        let standing = standing.filter(|_| !self.is_revoked(peer)).ok_or("not a member")?;
        if self.is_denied(peer) {
            return Err("denied by its operator");
        }
        let mut state = lock(&self.0.state);
        let newcomers = state.present.values().filter(|presence| presence.standing == Standing::Newcomer).count();
        let places = usize::try_from(self.0.limits.clients).unwrap_or(usize::MAX);
        let is_full = match standing {
            Standing::Member => state.present.len() - newcomers >= places,
            Standing::Newcomer => newcomers >= MAX_NEWCOMERS,
        };
        match state.present.get_mut(&peer) {
            Some(presence) if presence.connections.len() >= MAX_CONNECTIONS => return Err("too many connections"),
            Some(presence) => {
                presence.connections.push(connection);
                if standing == Standing::Member && presence.standing == Standing::Newcomer {
                    presence.standing = standing;
                    state.accounts.remove(&peer);
                }
            }
            None if is_full => return Err("full"),
            None => {
                state.present.insert(peer, Presence { standing, since: now, connections: vec![connection] });
            }
        }
        state.open_account(peer, || Account::new(self.rate(standing), Arc::clone(&self.0.total), now));
        Ok(())
    }

    fn rate(&self, standing: Standing) -> u64 {
        match standing {
            Standing::Member => self.0.limits.bytes_per_second,
            Standing::Newcomer => NEWCOMERS_RATE.min(self.0.limits.bytes_per_second),
        }
    }

    fn leave(&self, peer: PeerId, connection: ConnectionId) {
        let mut state = lock(&self.0.state);
        let Some(presence) = state.present.get_mut(&peer) else { return };
        presence.connections.retain(|other| *other != connection);
        if presence.connections.is_empty() {
            let was = state.present.remove(&peer);
            // What it used as a newcomer does not bind it as a member.
            if was.is_some_and(|presence| presence.standing == Standing::Newcomer) {
                state.accounts.remove(&peer);
            }
        }
    }
}

impl State {
    fn open_account(&mut self, peer: PeerId, new: impl FnOnce() -> Account) {
        if self.accounts.contains_key(&peer) {
            return;
        }
        if self.accounts.len() >= MAX_REMEMBERED {
            let gone = self.accounts.iter().filter(|(peer, _)| !self.present.contains_key(peer));
            let oldest = gone.min_by_key(|(_, account)| account.since).map(|(peer, _)| *peer);
            oldest.and_then(|oldest| self.accounts.remove(&oldest));
        }
        self.accounts.insert(peer, Arc::new(new()));
    }
}

impl AccessControl for Clients {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        let peer = peer_of_endpoint(request.endpoint_id());
        let pass = request.auth_token().unwrap_or_default();
        match self.admit(peer, &pass, request.connection_id(), Instant::now()) {
            Ok(()) => Access::Allow,
            Err(reason) => {
                tracing::debug!(peer = %peer.short(), reason, "not relayed");
                Access::Deny { reason: Some(reason.to_owned()) }
            }
        }
    }

    fn on_disconnect(&self, endpoint_id: EndpointId, connection_id: ConnectionId) {
        self.leave(peer_of_endpoint(endpoint_id), connection_id);
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
