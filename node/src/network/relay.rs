//! Relays: the one that this node may run, and those of the mesh that it uses.
//!
//! [`protocol::relay`](shoal_protocol::relay) decides what is believed and used; the `Keeper` asks relays whether they
//! are there, gives the endpoint those that are chosen, and announces this node's own. iroh measures among the chosen
//! and makes one the home, where peers find the node that cannot reach it directly.

mod keeper;

mod probe;

mod server;

mod clients;

mod stream;

mod pace;

mod pass;

mod tls;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use iroh::{Endpoint, RelayConfig, RelayMap, RelayUrl, TransportAddr};
use iroh_relay::RelayQuicConfig;
use shoal_protocol::id::PeerId;
use shoal_protocol::limits::MAX_RELAYS_USED;
use shoal_protocol::message::Contact;
use shoal_protocol::relay::{Announcement, RelayAddress};
use tokio::sync::mpsc;

pub use self::clients::RelayClient;
pub(super) use self::keeper::Keeper;
use self::server::Server;
pub use self::tls::CertificateError;
pub(super) use self::tls::any_certificate;
use super::identity::peer_of_key;
use super::{GossipId, NetworkConfig, Validity, addresses};

/// Where a relay shows whose it is.
const PROOF_PATH: &str = "/shoal/relay";
/// Announcements that may wait to be looked at.
const MAX_HEARD: usize = 64;

/// The relay that a node runs.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// TCP address of its HTTP, and UDP address of address discovery.
    pub listen: SocketAddr,
    /// How others reach it, where that is not the address it listens on.
    pub url: Option<RelayAddress>,
    /// Certificate chain and key, as files of PEM; none for plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How much it gives.
    pub limits: RelayLimits,
}

/// What a relay gives to its clients, and to whom it gives nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLimits {
    /// Clients at once.
    pub clients: u32,
    /// Bytes a second that one client may send.
    pub bytes_per_second: u64,
    /// Bytes a second of all clients together.
    pub total_bytes_per_second: u64,
    /// Peers that are not relayed.
    pub denied: BTreeSet<PeerId>,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self { clients: 256, bytes_per_second: 1_000_000, total_bytes_per_second: 10_000_000, denied: BTreeSet::new() }
    }
}

/// Why this node runs no relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The address cannot be had.
    #[error(
        "the relay cannot listen on {listen} ({reason}); choose another address or port with `--relay-listen` \
         (`shoal relay`: `--listen`); it needs the same number in TCP and UDP"
    )]
    Bind {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// Its certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Nobody could be told where it is.
    #[error("no address of this machine is known to announce the relay with; say how others reach it, as a URL")]
    NoAddress,
}

impl RelayError {
    fn bind(listen: SocketAddr, error: &std::io::Error) -> Self {
        Self::Bind { listen, reason: error.to_string() }
    }
}

/// A relay that this node knows.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownRelay {
    /// Where it is.
    pub address: RelayAddress,
    /// Who runs it, if somebody said so.
    pub by: Option<PeerId>,
    /// How long connecting to it took last, in milliseconds; none if it has not answered.
    pub rtt_ms: Option<f64>,
    /// Whether it answers.
    pub is_good: bool,
    /// Whether this node uses it.
    pub is_used: bool,
    /// Whether peers find this node there.
    pub is_home: bool,
    /// Why it is not used, once that is known.
    pub trouble: Option<String>,
}

/// What the network's handles know of relays, and where the swarm's task gives what it hears.
#[derive(Clone)]
pub(super) struct Relays {
    heard: mpsc::Sender<Heard>,
    seen: Arc<Mutex<Seen>>,
}

/// What was seen last.
#[derive(Default)]
struct Seen {
    known: Vec<KnownRelay>,
    /// Relays behind which somebody could not be reached, to be asked whether they are there.
    doubted: BTreeSet<RelayAddress>,
    clients: Vec<RelayClient>,
    own: Option<RelayAddress>,
}

/// An announcement that a neighbour passed on.
struct Heard {
    said: Announcement,
    id: GossipId,
    source: PeerId,
}

impl Relays {
    pub(super) fn new() -> (Self, Inbox) {
        let (heard, inbox) = mpsc::channel(MAX_HEARD);
        (Self { heard, seen: Arc::default() }, Inbox(inbox))
    }

    /// Looks at what a neighbour passes on, or says at once what becomes of it.
    pub(super) fn hear(&self, bytes: &[u8], id: GossipId, source: PeerId) -> Option<Validity> {
        match shoal_protocol::wire::parse::<Announcement>(bytes) {
            Ok(said) => self.heard.try_send(Heard { said, id, source }).is_err().then_some(Validity::Ignore),
            Err(_) => Some(Validity::Reject),
        }
    }

    /// The relays that this node knows.
    pub(super) fn known(&self) -> Vec<KnownRelay> {
        self.seen().known.clone()
    }

    /// The relays in use, if `address` is none that answers.
    pub(super) fn instead_of(&self, address: &RelayAddress) -> Vec<TransportAddr> {
        let seen = self.seen();
        if seen.known.iter().any(|relay| relay.address == *address && relay.is_good) {
            return Vec::new();
        }
        let used = seen.known.iter().filter(|relay| relay.is_used && relay.is_good);
        used.filter_map(|relay| relay.address.to_string().parse().ok()).map(TransportAddr::Relay).collect()
    }

    /// Notes that somebody who has this relay does not answer: it may be the relay that does not.
    pub(super) fn doubt(&self, relay: &str) {
        let Ok(address) = relay.parse() else { return };
        let mut seen = self.seen();
        if seen.known.iter().any(|relay| relay.address == address && relay.is_used) {
            seen.doubted.insert(address);
        }
    }

    /// The clients of its own relay.
    pub(super) fn clients(&self) -> Vec<RelayClient> {
        self.seen().clients.clone()
    }

    /// Where its own relay is, if it runs one.
    pub(super) fn own(&self) -> Option<RelayAddress> {
        self.seen().own.clone()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the keeper has yet to look at.
pub(super) struct Inbox(mpsc::Receiver<Heard>);

/// The relays that the operator, tickets and the last run named.
pub(super) fn named(config: &NetworkConfig) -> Vec<RelayAddress> {
    let tickets = config.join.iter().flat_map(|ticket| &ticket.peers);
    let contacts = tickets.chain(&config.join_peers).map(|(_, contact)| contact);
    let contacts = contacts.chain(config.known_peers.iter().map(|known| &known.contact));
    let contacts = contacts.filter_map(|contact| contact.relay.as_deref());
    let mut named = Vec::new();
    for address in config.relays.iter().map(String::as_str).chain(contacts).filter_map(|url| url.parse().ok()) {
        if !named.contains(&address) && named.len() < MAX_RELAYS_USED {
            named.push(address);
        }
    }
    named
}

/// The relays that a node begins with: there may be no other way to anybody.
pub(super) fn to_begin_with(config: &NetworkConfig) -> RelayMap {
    let pass = pass::own(config.mesh_id(), config.membership.as_ref());
    named(config).iter().filter_map(|address| iroh_config(address, pass.clone())).collect()
}

/// The relays of a ticket, for a newcomer that has yet to be let into the mesh.
pub(super) fn for_newcomer(contacts: &[(PeerId, Contact)]) -> RelayMap {
    let addresses = contacts.iter().filter_map(|(_, contact)| contact.relay.as_deref()?.parse().ok());
    addresses.take(MAX_RELAYS_USED).filter_map(|address| iroh_config(&address, pass::newcomer())).collect()
}

/// A relay as iroh takes it.
fn iroh_config(address: &RelayAddress, pass: String) -> Option<RelayConfig> {
    let url: RelayUrl = address.to_string().parse().ok()?;
    Some(RelayConfig::new(url, Some(RelayQuicConfig::new(address.port))).with_auth_token(pass))
}

/// Starts the relay that the node is to run, and says how others reach it.
pub(super) async fn start(
    config: &NetworkConfig,
    endpoint: &Endpoint,
) -> Result<Option<(Server, RelayAddress)>, RelayError> {
    let Some(settings) = &config.relay else { return Ok(None) };
    let (key, membership, access) = (config.key.clone(), config.membership.clone(), config.access.clone());
    let server = Server::start(settings, key, config.mesh_id(), membership, access).await?;
    let address = match &settings.url {
        Some(url) => url.clone(),
        None => own_address(server.address(), settings.tls.is_some(), endpoint)?,
    };
    tracing::info!(relay = %address, listen = %server.address(), peer = %peer_of_key(&config.key).short(), "relaying");
    Ok(Some((server, address)))
}

/// The address that the relay listens on; where that is any, the first of this machine.
fn own_address(listen: SocketAddr, is_secure: bool, endpoint: &Endpoint) -> Result<RelayAddress, RelayError> {
    let own = || addresses::contact_of(endpoint.addr().addrs).addresses.first().map(SocketAddr::ip);
    let ip = if listen.ip().is_unspecified() { own().ok_or(RelayError::NoAddress)? } else { listen.ip() };
    Ok(RelayAddress { is_secure, host: shoal_protocol::relay::Host::Ip(ip), port: listen.port() })
}
