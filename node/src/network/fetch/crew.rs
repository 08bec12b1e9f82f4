//! Who brings what: gives providers their work, finds more of them, and passes on what one has left undone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use iroh_blobs::Hash;
use iroh_blobs::api::Store;
use iroh_blobs::util::connection_pool::ConnectionRef;
use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::task::{Content, ContentKind};

use super::super::Network;
use super::FetchError;
use super::claim::{Claim, Least, Part, Unclaimed};
use super::lane::{Failure, Lane};
use super::peers::{Connected, Peers};
use super::survey::Survey;
use super::tally::{Tally, TooMuch};

/// Providers that send at once.
const MAX_ACTIVE: usize = 8;
/// Requests to one provider at once: a second one, when there is enough to do, hides the pauses of the first.
const MAX_LANES: usize = 2;
/// Times that one provider may break off and be asked again, as long as it brings something each time.
const MAX_RETRIES: u32 = 3;
/// Times that the DHT is asked for providers before a fetch is given up.
const MAX_QUESTIONS: u32 = 4;
/// Times that what is missing is looked up and asked for: what a provider that was too slow had not written yet.
const MAX_ROUNDS: u32 = 4;
/// Pause between two looks at how it goes. A provider that is not done after this long gets company.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Pause between two providers that are connected while something arrives.
const COMPANY_EVERY: Duration = Duration::from_millis(200);
/// How long a fetch takes before the DHT is asked for more providers.
const ASK_AFTER: Duration = Duration::from_secs(1);
/// Pause before the DHT is asked again when nobody else is left: a record may be on its way.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(400);
/// Blobs in a collection: as many files as a folder has, and the list of their names.
const MAX_CHILDREN: u64 = shoal_store::blobs::MAX_FILES as u64 + 1;
/// Bytes of a hash in a collection's root.
const HASH_BYTES: u64 = 32;
/// What is worth a provider's first request.
const LEAST: Least = Least { parts: 1, bytes: 1 << 20 };
/// What is worth a second one to the same provider.
const LEAST_MORE: Least = Least { parts: 64, bytes: 8 << 20 };

/// Why a fetch has failed.
pub(super) enum Fatal {
    Nowhere { tried: usize },
    Corrupt { liar: PeerId },
    BrokeOff(String),
    TooMuch,
    Store(String),
}

/// One content on its way, and those who bring it.
pub(super) struct Crew<'a> {
    network: &'a Network,
    content: Content,
    tally: &'a Tally<'a>,
    peers: Peers<'a>,
    active: BTreeMap<PeerId, Active>,
    lanes: FuturesUnordered<BoxFuture<'a, Ended>>,
    /// What nobody has claimed.
    unclaimed: Unclaimed,
    begun: Instant,
    company_at: Instant,
    ask_at: Instant,
    /// Who broke off last, and why.
    broke_off: Option<(PeerId, String)>,
    retries: BTreeMap<PeerId, u32>,
    /// Those that broke off and cannot be reached now.
    lost: BTreeSet<PeerId>,
    /// Whether some claim ended before its request did, so that the store is asked whether all is there.
    is_shared: bool,
}

/// A provider that is connected.
struct Active {
    connection: Arc<ConnectionRef>,
    claims: Vec<Claim>,
    /// Bytes per second that it showed.
    rate: f64,
    /// Whether it gets nothing more to do.
    is_gone: bool,
}

/// A request that has ended.
struct Ended {
    peer: PeerId,
    claim: Claim,
    result: Result<(), Failure>,
}

impl<'a> Crew<'a> {
    pub(super) fn new(network: &'a Network, content: Content, providers: Vec<PeerId>, tally: &'a Tally<'a>) -> Self {
        let begun = Instant::now();
        Self {
            network,
            content,
            tally,
            peers: Peers::new(network, content.hash, providers),
            active: BTreeMap::new(),
            lanes: FuturesUnordered::new(),
            unclaimed: Unclaimed::default(),
            begun,
            company_at: begun,
            ask_at: begun,
            broke_off: None,
            retries: BTreeMap::new(),
            lost: BTreeSet::new(),
            is_shared: false,
        }
    }

    /// Fetches what is missing, and returns the size of the whole.
    pub(super) async fn run(mut self) -> Result<u64, Fatal> {
        self.complete(ContentKind::Raw).await?;
        if self.content.kind == ContentKind::Collection {
            // A root names its children, and each child costs work even when it is empty.
            if self.tally.here() > MAX_CHILDREN.saturating_mul(HASH_BYTES) {
                return Err(Fatal::TooMuch);
            }
            self.complete(ContentKind::Collection).await?;
        }
        Ok(self.tally.here())
    }

    /// Fetches the first blob, or those that it lists, until nothing is missing.
    async fn complete(&mut self, which: ContentKind) -> Result<(), Fatal> {
        let (store, root) = (&self.network.fetcher.store, self.root());
        let mut survey = look(store, root, which).await?;
        self.tally.add(&mut survey)?;
        for _ in 0..MAX_ROUNDS {
            if survey.missing.is_empty() {
                return Ok(());
            }
            self.bring(survey.missing).await?;
            if !std::mem::take(&mut self.is_shared) {
                return Ok(());
            }
            survey = look(store, root, which).await?;
        }
        Err(Fatal::BrokeOff("it did not become complete".into()))
    }

    fn root(&self) -> Hash {
        Hash::from_bytes(self.content.hash.0)
    }

    /// Brings all of `parts`, or says why that is not possible.
    async fn bring(&mut self, parts: Vec<Part>) -> Result<(), Fatal> {
        self.unclaimed.add(parts);
        let mut look = tokio::time::interval(LOOK_EVERY);
        while !self.unclaimed.is_empty() || self.claims().next().is_some() {
            self.assign();
            if self.claims().next().is_none() && self.peers.connecting.is_empty() {
                self.find_somebody()?;
            }
            tokio::select! {
                Some(connected) = self.peers.connecting.next() => self.on_connected(connected),
                Some(ended) = self.lanes.next() => self.on_ended(ended)?,
                Some(found) = self.peers.asking.next() => self.peers.add(found),
                _ = look.tick() => self.find_company(),
            }
        }
        Ok(())
    }

    /// Gives each provider something to do that has nothing to do.
    fn assign(&mut self) {
        let (peers, now): (Vec<PeerId>, _) = (self.active.keys().copied().collect(), Instant::now());
        for peer in peers {
            let Some((lanes, rate)) = self.active.get(&peer).and_then(Active::room) else { continue };
            let parts = match lanes {
                _ if !self.unclaimed.is_empty() => self.unclaimed.take(),
                0 => self.share(rate, LEAST, now).or_else(|| self.take_over(peer, rate, now)),
                _ => self.share(rate, LEAST_MORE, now),
            };
            if let Some(parts) = parts {
                self.request(peer, Claim::new(parts, now));
            }
        }
    }

    /// Takes a share of the largest claim that has something to spare.
    fn share(&mut self, rate: f64, least: Least, now: Instant) -> Option<Vec<Part>> {
        let mut claims: Vec<Claim> = self.claims().map(|(_, claim)| claim.clone()).collect();
        claims.sort_by_key(|claim| Reverse(claim.surplus()));
        let parts = claims.iter().find_map(|claim| claim.share(rate, least, now))?;
        self.is_shared = true;
        Some(parts)
    }

    /// Takes all that another provider has left, if that one is too slow.
    fn take_over(&mut self, peer: PeerId, rate: f64, now: Instant) -> Option<Vec<Part>> {
        let taken = {
            let mut others = self.claims().filter(|(other, _)| *other != peer);
            others.find_map(|(_, claim)| claim.take_over(rate, now))
        };
        self.is_shared |= taken.is_some();
        taken
    }

    fn request(&mut self, peer: PeerId, claim: Claim) {
        let Some(provider) = self.active.get_mut(&peer) else { return };
        provider.claims.push(claim.clone());
        let (connection, root, tally) = (Arc::clone(&provider.connection), self.root(), self.tally);
        let fetcher = &self.network.fetcher;
        self.lanes.push(Box::pin(async move {
            let lane = Lane { fetcher, connection: (**connection).clone(), root, claim: claim.clone(), tally };
            let result = lane.run().await;
            Ended { peer, claim, result }
        }));
        self.count_providers();
    }

    fn count_providers(&self) {
        self.tally.providers(self.active.values().filter(|provider| !provider.claims.is_empty()).count());
    }

    fn on_connected(&mut self, (peer, connection): Connected) {
        let Some(connection) = connection else {
            if self.retries.contains_key(&peer) {
                self.lost.insert(peer);
            }
            return;
        };
        let claims = self.active.remove(&peer).map(|provider| provider.claims).unwrap_or_default();
        let connection = Arc::new(connection);
        self.active.insert(peer, Active { connection, claims, rate: 0.0, is_gone: false });
    }

    fn on_ended(&mut self, Ended { peer, claim, result }: Ended) -> Result<(), Fatal> {
        let brought = claim.bytes() > 0;
        let left = claim.take();
        let is_stuck = !left.is_empty() && !brought;
        self.unclaimed.add(left);
        if let Some(provider) = self.active.get_mut(&peer) {
            provider.claims.retain(|other| !other.is(&claim));
            provider.rate = claim.rate(Instant::now());
            provider.is_gone |= result.is_err() || is_stuck;
        }
        match result {
            Ok(()) => {}
            Err(Failure::TooMuch) => return Err(Fatal::TooMuch),
            Err(Failure::Store(reason)) => return Err(Fatal::Store(reason)),
            Err(Failure::NotThere) => tracing::debug!(provider = %peer.short(), "provider has not got the blob"),
            Err(Failure::Corrupt(reason)) => {
                tracing::warn!(provider = %peer.short(), hash = %self.content.hash, %reason, "provider sent something else");
                self.peers.distrust(peer);
                // That it also broke off once is not what is wrong with it.
                self.broke_off.take_if(|(by, _)| *by == peer);
            }
            Err(Failure::Busy) => self.once_more(peer, brought, "the provider is busy".into()),
            Err(Failure::BrokeOff(reason)) => self.once_more(peer, brought, reason),
        }
        self.active.retain(|_, provider| !(provider.is_gone && provider.claims.is_empty()));
        self.count_providers();
        Ok(())
    }

    /// A connection from the pool may have died unnoticed, and a break need not last: asks the peer again, a few times.
    fn once_more(&mut self, peer: PeerId, brought: bool, reason: String) {
        tracing::debug!(provider = %peer.short(), %reason, "provider broke off");
        self.broke_off = Some((peer, reason));
        let retries = self.retries.entry(peer).or_default();
        *retries += 1;
        if *retries == 1 || (brought && *retries <= MAX_RETRIES) {
            self.peers.reconnect(peer);
        }
    }

    /// Nobody sends and nobody is being connected: goes on with the next peer, or asks the DHT, or gives up.
    fn find_somebody(&mut self) -> Result<(), Fatal> {
        if self.peers.connect_next() || !self.peers.asking.is_empty() || Instant::now() < self.ask_at {
            return Ok(());
        }
        if self.peers.asked >= MAX_QUESTIONS {
            return Err(match (self.broke_off.take(), self.peers.liar) {
                (Some((_, reason)), _) => Fatal::BrokeOff(reason),
                (None, Some(liar)) => Fatal::Corrupt { liar },
                (None, None) => Fatal::Nowhere { tried: self.peers.tried() },
            });
        }
        self.peers.ask();
        self.ask_at = Instant::now() + ASK_AGAIN_AFTER * self.peers.asked;
        // Who has begun has it, and may be on its way back: its network changes, or its relay died.
        std::mem::take(&mut self.lost).into_iter().for_each(|peer| self.peers.reconnect(peer));
        Ok(())
    }

    /// It takes a while: more peers may help.
    fn find_company(&mut self) {
        let now = Instant::now();
        if now >= self.company_at + COMPANY_EVERY && self.active.len() + self.peers.connecting.len() < MAX_ACTIVE {
            self.company_at = now;
            self.peers.connect_next();
        }
        if self.peers.asked == 0 && self.begun + ASK_AFTER <= now {
            self.peers.ask();
        }
    }

    /// What is being fetched by whom, without what was taken from those who were too slow.
    fn claims(&self) -> impl Iterator<Item = (PeerId, &Claim)> {
        let all = self.active.iter().flat_map(|(peer, provider)| provider.claims.iter().map(|claim| (*peer, claim)));
        all.filter(|(_, claim)| !claim.is_abandoned())
    }
}

async fn look(store: &Store, root: Hash, which: ContentKind) -> Result<Survey, Fatal> {
    let survey = match which {
        ContentKind::Raw => Survey::root(store, root).await,
        ContentKind::Collection => Survey::children(store, root).await,
    };
    survey.map_err(Fatal::Store)
}

impl Active {
    /// How many requests it has, and the speed of one, if it may have one more.
    fn room(&self) -> Option<(usize, f64)> {
        let is_slow = self.claims.iter().any(Claim::is_abandoned);
        let has_room = !self.is_gone && !is_slow && self.claims.len() < MAX_LANES;
        has_room.then_some((self.claims.len(), self.rate))
    }
}

impl From<TooMuch> for Fatal {
    fn from(_: TooMuch) -> Self {
        Fatal::TooMuch
    }
}

impl Fatal {
    /// The same, for whoever asked.
    pub(super) fn of(self, hash: BlobHash, limit: u64) -> FetchError {
        match self {
            Fatal::Nowhere { tried } => FetchError::Nowhere { hash, tried },
            Fatal::Corrupt { liar } => FetchError::Corrupt { hash, liar },
            Fatal::BrokeOff(reason) => FetchError::Stalled { hash, reason },
            Fatal::TooMuch => FetchError::TooLarge { hash, limit },
            Fatal::Store(reason) => FetchError::Store { hash, reason },
        }
    }
}
