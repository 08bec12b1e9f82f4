//! Who is asked: the providers that were named, then whoever the DHT knows, each once.

use std::collections::{BTreeSet, VecDeque};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use iroh_blobs::util::connection_pool::ConnectionRef;
use shoal_protocol::id::{BlobHash, PeerId};

use super::super::Network;
use super::super::identity::endpoint_id;
use super::super::task::Command;
use super::DISTRUST;

/// Providers that are tried for one fetch.
const MAX_PROVIDERS: usize = 32;

/// A peer, and the connection to it if there is one.
pub(super) type Connected = (PeerId, Option<ConnectionRef>);

/// The peers of one fetch.
pub(super) struct Peers<'a> {
    network: &'a Network,
    hash: BlobHash,
    known: BTreeSet<PeerId>,
    waiting: VecDeque<PeerId>,
    /// Connections that are being made.
    pub(super) connecting: FuturesUnordered<BoxFuture<'a, Connected>>,
    /// The question to the DHT, while it is open.
    pub(super) asking: FuturesUnordered<BoxFuture<'a, Vec<PeerId>>>,
    /// How often the DHT was asked.
    pub(super) asked: u32,
    /// One that has it and sent something else, now or lately.
    pub(super) liar: Option<PeerId>,
}

impl<'a> Peers<'a> {
    pub(super) fn new(network: &'a Network, hash: BlobHash, named: Vec<PeerId>) -> Self {
        let (known, waiting) = (BTreeSet::new(), VecDeque::new());
        let (connecting, asking) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut peers = Self { network, hash, known, waiting, connecting, asking, asked: 0, liar: None };
        peers.add(named);
        peers
    }

    /// Adds those that are not known yet, without any that was seen lying. Who is doubted waits for all others.
    pub(super) fn add(&mut self, peers: Vec<PeerId>) {
        for peer in peers {
            let is_new = peer != self.network.peer_id() && !self.known.contains(&peer);
            if self.network.fetcher.is_liar(peer) {
                self.liar = Some(peer);
            } else if is_new && self.known.len() < MAX_PROVIDERS {
                self.known.insert(peer);
                self.waiting.push_back(peer);
            }
        }
        let fetcher = &self.network.fetcher;
        self.waiting.make_contiguous().sort_by_key(|peer| fetcher.is_doubted(*peer));
    }

    /// Notes that a peer sent something else than it was asked for.
    pub(super) fn distrust(&mut self, peer: PeerId) {
        self.network.fetcher.avoid(peer, DISTRUST);
        let _ = self.network.commands.try_send(Command::Corrupt(peer));
        self.liar = Some(peer);
    }

    /// How many peers were asked.
    pub(super) fn tried(&self) -> usize {
        self.known.len() - self.waiting.len()
    }

    /// Begins to connect to the next one, if there is one.
    pub(super) fn connect_next(&mut self) -> bool {
        let Some(peer) = self.waiting.pop_front() else { return false };
        let network = self.network;
        self.connecting.push(Box::pin(async move {
            network.locate(peer).await;
            (peer, network.fetcher.connect(peer).await)
        }));
        true
    }

    /// Begins to connect to a peer anew: a connection may have died unnoticed.
    pub(super) fn reconnect(&mut self, peer: PeerId) {
        let fetcher = &self.network.fetcher;
        self.connecting.push(Box::pin(async move {
            if let Some(id) = endpoint_id(peer) {
                let _ = fetcher.pool.close(id).await;
            }
            (peer, fetcher.connect(peer).await)
        }));
    }

    /// Asks the DHT, unless it is being asked.
    pub(super) fn ask(&mut self) {
        if self.asking.is_empty() {
            self.asked += 1;
            let (network, hash) = (self.network, self.hash);
            self.asking.push(Box::pin(network.providers(hash)));
        }
    }
}
