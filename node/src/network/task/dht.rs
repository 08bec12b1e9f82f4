//! The DHT: who provides a blob, where a peer is, and how large the mesh may be.

use std::collections::BTreeSet;
use std::time::Instant;

use libp2p::kad::store::RecordStore;
use libp2p::kad::{
    self, GetClosestPeersError, GetClosestPeersOk, GetProvidersOk, InboundRequest, KBucketKey, PeerInfo, QueryId,
    QueryResult, RecordKey,
};
use libp2p::swarm::DialError;
use shoal_protocol::id::{BlobHash, PeerId};
use tokio::sync::oneshot;

use super::super::addresses;
use super::super::identity::{libp2p_id, peer_of_libp2p};
use super::super::ledger::Admitted;
use super::super::size;
use super::super::swarm::PROVIDER_TTL;
use super::super::unreached::Unreached;
use super::{RequestReply, Task};

/// Queries that somebody waits for.
const MAX_QUERIES: usize = 1_024;
/// Providers that are worth knowing.
const MAX_PROVIDERS: usize = 16;
/// Addresses in a provider record.
const MAX_RECORD_ADDRESSES: usize = 8;

/// What a query is for.
pub(super) enum Query {
    /// Who hears what this node hears.
    Company,
    Provide(oneshot::Sender<()>),
    Providers {
        found: BTreeSet<PeerId>,
        reply: oneshot::Sender<Vec<PeerId>>,
    },
    Locate {
        peer: PeerId,
        done: oneshot::Sender<()>,
    },
    Request {
        to: PeerId,
        bytes: Vec<u8>,
        reply: RequestReply,
    },
}

impl Task {
    pub(super) fn provide(&mut self, hash: BlobHash, done: oneshot::Sender<()>) {
        if self.queries.len() >= MAX_QUERIES {
            tracing::warn!(%hash, "too many DHT queries; others will not find the blob here for a while");
            return;
        }
        match self.swarm.behaviour_mut().kad.start_providing(key(hash)) {
            Ok(query) => {
                self.queries.insert(query, Query::Provide(done));
            }
            Err(error) => tracing::warn!(%hash, %error, "the blob is not offered in the DHT"),
        }
    }

    pub(super) fn unprovide(&mut self, hash: BlobHash) {
        self.swarm.behaviour_mut().kad.stop_providing(&key(hash));
    }

    pub(super) fn providers(&mut self, hash: BlobHash, reply: oneshot::Sender<Vec<PeerId>>) {
        self.ask(hash, Query::Providers { found: BTreeSet::new(), reply });
    }

    /// Asks around who provides something; `then` says what for.
    pub(super) fn ask(&mut self, hash: BlobHash, then: Query) {
        if self.queries.len() < MAX_QUERIES {
            let query = self.swarm.behaviour_mut().kad.get_providers(key(hash));
            self.queries.insert(query, then);
        }
    }

    /// Asks around where `peer` is; `then` says what for.
    pub(super) fn locate(&mut self, peer: PeerId, then: Query) {
        if self.queries.len() >= MAX_QUERIES {
            return self.finish(then);
        }
        let query = self.swarm.behaviour_mut().kad.get_closest_peers(libp2p_id(peer));
        self.queries.insert(query, then);
    }

    pub(super) fn is_routable(&mut self, id: &libp2p::PeerId) -> bool {
        let bucket = self.swarm.behaviour_mut().kad.kbucket(*id);
        bucket.is_some_and(|bucket| bucket.iter().any(|entry| entry.node.key.preimage() == id))
    }

    pub(super) fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => self.on_progress(id, result, step.last),
            kad::Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(record) } } => {
                self.on_record(record);
            }
            _ => {}
        }
    }

    fn on_progress(&mut self, id: QueryId, result: QueryResult, last: bool) {
        let mut enough = false;
        match (self.queries.get_mut(&id), result) {
            (
                Some(Query::Providers { found, .. }),
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
            ) => {
                found.extend(providers.iter().filter_map(peer_of_libp2p).take(MAX_PROVIDERS));
                enough = found.len() >= MAX_PROVIDERS;
            }
            (Some(Query::Company), QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. }))) => {
                providers.iter().take(MAX_PROVIDERS).for_each(|id| self.meet(id));
                enough = true;
            }
            (Some(Query::Locate { peer: sought, .. } | Query::Request { to: sought, .. }), result) => {
                let sought = *sought;
                self.learn_location(sought, result);
            }
            _ => {}
        }
        if enough && let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&id) {
            query.finish();
        }
        if (last || enough)
            && let Some(query) = self.queries.remove(&id)
        {
            self.finish(query);
        }
    }

    fn learn_location(&self, sought: PeerId, result: QueryResult) {
        let QueryResult::GetClosestPeers(result) = result else { return };
        let peers: Vec<PeerInfo> = match result {
            Ok(GetClosestPeersOk { peers, .. }) | Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        if let Some(info) = peers.iter().find(|info| peer_of_libp2p(&info.peer_id) == Some(sought)) {
            self.shared.book.learn(sought, &addresses::contact_of_claims(info.peer_id, &info.addrs));
        }
    }

    /// Gives the asker what the query found, or goes on with what it was for.
    fn finish(&mut self, query: Query) {
        match query {
            Query::Company => {}
            Query::Provide(done) | Query::Locate { done, .. } => {
                let _ = done.send(());
            }
            Query::Providers { found, reply } => {
                let _ = reply.send(found.into_iter().filter(|peer| *peer != self.shared.own).collect());
            }
            Query::Request { to, bytes, reply } => self.send(to, bytes, reply),
        }
    }

    /// Keeps what a peer says of itself: it provides a blob. libp2p has checked that it speaks for itself.
    fn on_record(&mut self, mut record: kad::ProviderRecord) {
        let Some(provider) = peer_of_libp2p(&record.provider) else { return };
        let now = Instant::now();
        let Ok(hash) = record.key.as_ref().try_into().map(BlobHash) else { return };
        let until = record.expires.unwrap_or(now + PROVIDER_TTL).min(now + PROVIDER_TTL);
        let is_allowed = self.record_rates.take(provider, now);
        match if is_allowed { self.ledger.admit(provider, hash, until) } else { Admitted::No } {
            Admitted::Yes => {}
            Admitted::Instead(loser, hash) => self.forget_record(loser, hash),
            Admitted::No => return tracing::debug!(%provider, "too many provider records of this peer"),
        }
        record.addresses.truncate(MAX_RECORD_ADDRESSES);
        record.expires = Some(until);
        if let Err(error) = self.swarm.behaviour_mut().kad.store_mut().add_provider(record) {
            tracing::debug!(%error, "provider record not kept");
        }
    }

    /// Removes the records of others that have expired.
    pub(super) fn expire_records(&mut self, now: Instant) {
        for (peer, hash) in self.ledger.expire(now) {
            self.forget_record(peer, hash);
        }
    }

    fn forget_record(&mut self, peer: PeerId, hash: BlobHash) {
        self.swarm.behaviour_mut().kad.store_mut().remove_provider(&key(hash), &libp2p_id(peer));
    }

    /// A peer that cannot be dialled leaves the routing table. It comes back with its next connection.
    pub(super) fn on_dial_failed(&mut self, id: &libp2p::PeerId, error: &DialError) {
        tracing::debug!(peer = %id, %error, "dial failed");
        if let Some((peer, reason)) = peer_of_libp2p(id).zip(Unreached::of(error)) {
            if reason == Unreached::NoAnswer {
                self.doubt_relay_of(id);
            }
            self.known.failed(peer, reason);
        }
        let unreachable = matches!(error, DialError::Transport(_) | DialError::NoAddresses);
        if unreachable && !self.swarm.is_connected(id) {
            self.swarm.behaviour_mut().kad.remove_peer(id);
        }
    }

    /// Updates the estimate of how many nodes there are.
    pub(super) fn estimate_size(&mut self) {
        let connected = self.swarm.connected_peers().count();
        let own = KBucketKey::from(*self.swarm.local_peer_id());
        let kad = &mut self.swarm.behaviour_mut().kad;
        let routed: usize = kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
        let known = routed.max(connected);
        let kth = kad.get_closest_local_peers(&own).nth(size::CLOSEST - 1).map(|key| own.distance(&key).0);
        let distance = kth.map(|distance| size::fraction(&distance.to_big_endian()));
        self.shared.set_mesh_size(size::estimate(known, distance));
    }
}

fn key(hash: BlobHash) -> RecordKey {
    RecordKey::new(&hash.0)
}
