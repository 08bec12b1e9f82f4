//! The gate of a private mesh: on every connection, whatever its protocol, two certificates come first.
//!
//! ```text
//! dialler   →  hello                 one stream each, one way: the protocols behind the gate
//! acceptor  →  hello, news           use two-way streams only, and there are none of those
//! dialler   →  news                  until both sides are content
//! ```
//!
//! The acceptor answers only what it has checked. Before that a stranger may send a few kilobytes that lead nowhere,
//! and gets nothing: no stream, no reason, only the end of the connection. TLS proves who is at the other end, so a
//! certificate of somebody else is worth nothing, and neither is a recording.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::EndpointAddr;
use iroh::endpoint::{
    AfterHandshakeOutcome, BeforeConnectOutcome, Connection, EndpointHooks, Side, WeakConnectionHandle,
};
use shoal_protocol::id::PeerId;
use shoal_protocol::limits::{MAX_HELLO_BYTES, MAX_NEWS_BYTES};
use shoal_protocol::membership::{Hello, News, NotAMember, Revocation};
use shoal_protocol::time::Time;

use super::endpoint::{MAX_STREAMS, RECEIVE_WINDOW};
use super::frame::{self, FrameError};
use super::identity::peer_of_endpoint;
use super::places::Places;
use crate::membership::Membership;

/// How long both certificates may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes under way, of strangers and members.
const MAX_PENDING: usize = 256;
/// Connections with one member. There are three as a rule: one for libp2p, and one for blobs each way.
const MAX_CONNECTIONS_PER_PEER: usize = 16;
/// Application close code of every connection that is refused or ended here. It says nothing.
const CLOSED: u32 = 0;

/// The gate. Clones are the same gate.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    membership: Membership,
    /// Where newcomers come, who have no certificate yet.
    join_alpn: Arc<[u8]>,
    pending: Places,
    admitted: Arc<Mutex<BTreeMap<PeerId, Vec<Admitted>>>>,
    refused: Arc<AtomicU64>,
}

/// A connection that has passed the gate, and until when.
#[derive(Debug)]
struct Admitted {
    connection: WeakConnectionHandle,
    expires: Time,
}

/// Why a connection did not pass. The other side is not told.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("this node has no certificate that is good")]
    NoCertificate,
    #[error("{0}")]
    NotAMember(#[from] NotAMember),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the handshake took too long")]
    TimedOut,
    #[error("other handshakes needed the room")]
    Displaced,
    #[error("it has too many connections")]
    TooMany,
}

impl Gate {
    pub(super) fn new(membership: Membership, join_alpn: Vec<u8>) -> Self {
        Self {
            membership,
            join_alpn: join_alpn.into(),
            pending: Places::new(MAX_PENDING),
            admitted: Arc::default(),
            refused: Arc::default(),
        }
    }

    pub(super) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Connections that were refused since the start.
    #[cfg(test)]
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Members that are connected, and until when their certificates are good.
    pub(super) fn members(&self) -> Vec<(PeerId, Time)> {
        let admitted = self.admitted();
        let live = admitted.iter().filter_map(|(peer, connections)| {
            let live = connections.iter().filter(|admitted| admitted.connection.upgrade().is_some());
            Some((*peer, live.map(|admitted| admitted.expires).max()?))
        });
        live.collect()
    }

    /// Takes a revocation that a neighbour passed on: none if the mesh's key did not sign it, else whom it newly
    /// revokes. Their connections are closed.
    pub(super) fn hear(&self, revocation: Revocation) -> Option<Vec<PeerId>> {
        let revoked = self.membership.hear_revocation(revocation)?;
        revoked.iter().for_each(|peer| self.close(*peer));
        Some(revoked)
    }

    /// Closes every connection with `peer`.
    pub(super) fn close(&self, peer: PeerId) {
        let connections = self.admitted().remove(&peer).unwrap_or_default();
        if !connections.is_empty() {
            tracing::info!(peer = %peer.short(), "revoked");
        }
        connections.iter().for_each(Admitted::close);
    }

    /// Closes connections whose certificates have expired meanwhile. Those that were renewed come back at once.
    pub(super) fn close_expired(&self) {
        let now = self.membership.now();
        self.admitted().retain(|_, connections| {
            connections.iter().filter(|admitted| admitted.expires <= now).for_each(Admitted::close);
            connections.retain(|admitted| now < admitted.expires && admitted.connection.upgrade().is_some());
            !connections.is_empty()
        });
    }

    async fn pass(&self, connection: &Connection) -> Result<(), Refused> {
        let place = self.pending.take();
        let shaken = async {
            match connection.side() {
                Side::Client => self.dialled(connection).await,
                Side::Server => self.accepted(connection).await,
            }
        };
        let hello = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, shaken) => shaken.map_err(|_| Refused::TimedOut)?,
            () = place.lost() => Err(Refused::Displaced),
        }?;
        self.admit(connection, hello.certificate.expires)
    }

    async fn dialled(&self, connection: &Connection) -> Result<Hello, Refused> {
        let own = self.membership.hello().ok_or(Refused::NoCertificate)?;
        frame::send(connection, &[&frame::encode(&own)]).await?;
        let mut answer = frame::accept(connection).await?;
        let hello: Hello = frame::read(&mut answer, MAX_HELLO_BYTES).await?;
        let peer = self.check(connection, &hello)?;
        let news: News = frame::read(&mut answer, MAX_NEWS_BYTES).await?;
        self.take(news);
        frame::send(connection, &[&frame::encode(&self.membership.news_for(peer, &hello))]).await?;
        // What the news said may be of this very peer.
        self.check(connection, &hello).map(|_| hello)
    }

    async fn accepted(&self, connection: &Connection) -> Result<Hello, Refused> {
        let mut asked = frame::accept(connection).await?;
        let hello: Hello = frame::read(&mut asked, MAX_HELLO_BYTES).await?;
        let peer = self.check(connection, &hello)?;
        let own = self.membership.hello().ok_or(Refused::NoCertificate)?;
        let news = self.membership.news_for(peer, &hello);
        frame::send(connection, &[&frame::encode(&own), &frame::encode(&news)]).await?;
        let mut told = frame::accept(connection).await?;
        self.take(frame::read(&mut told, MAX_NEWS_BYTES).await?);
        self.check(connection, &hello).map(|_| hello)
    }

    /// Whether the peer at the other end is a member now.
    fn check(&self, connection: &Connection, hello: &Hello) -> Result<PeerId, Refused> {
        let peer = peer_of_endpoint(connection.remote_id());
        self.membership.admits(peer, &hello.certificate)?;
        Ok(peer)
    }

    fn take(&self, news: News) {
        self.membership.hear(news).into_iter().for_each(|peer| self.close(peer));
    }

    /// Opens the connection to the protocols behind the gate.
    fn admit(&self, connection: &Connection, expires: Time) -> Result<(), Refused> {
        let peer = peer_of_endpoint(connection.remote_id());
        {
            let mut admitted = self.admitted();
            // Asked with the list in hand: whoever revokes closes what is in it afterwards.
            if self.membership.is_revoked(peer) {
                return Err(NotAMember::Revoked.into());
            }
            let connections = admitted.entry(peer).or_default();
            connections.retain(|admitted| admitted.connection.upgrade().is_some());
            if connections.len() >= MAX_CONNECTIONS_PER_PEER {
                return Err(Refused::TooMany);
            }
            connections.push(Admitted { connection: connection.weak_handle(), expires });
        }
        connection.set_receive_window(RECEIVE_WINDOW.into());
        connection.set_max_concurrent_bi_streams(MAX_STREAMS.into());
        Ok(())
    }

    fn admitted(&self) -> MutexGuard<'_, BTreeMap<PeerId, Vec<Admitted>>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted {
    fn close(&self) {
        if let Some(connection) = self.connection.upgrade() {
            connection.close(CLOSED.into(), b"");
        }
    }
}

impl EndpointHooks for Gate {
    async fn before_connect<'a>(&'a self, address: &'a EndpointAddr, alpn: &'a [u8]) -> BeforeConnectOutcome {
        let is_revoked = self.membership.is_revoked(peer_of_endpoint(address.id));
        if is_revoked && alpn != &*self.join_alpn { BeforeConnectOutcome::Reject } else { BeforeConnectOutcome::Accept }
    }

    async fn after_handshake<'a>(&'a self, connection: &'a Connection) -> AfterHandshakeOutcome {
        if connection.alpn() == &*self.join_alpn {
            return AfterHandshakeOutcome::Accept;
        }
        match self.pass(connection).await {
            Ok(()) => AfterHandshakeOutcome::Accept,
            Err(reason) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let peer = peer_of_endpoint(connection.remote_id());
                tracing::debug!(peer = %peer.short(), %reason, "not admitted");
                AfterHandshakeOutcome::Reject { error_code: CLOSED.into(), reason: Vec::new() }
            }
        }
    }
}
