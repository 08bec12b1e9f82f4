//! The task that keeps a node's relays: it probes those that it knows, has the endpoint use the chosen, judges what
//! others announce, and announces this node's own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use futures_util::StreamExt;
use iroh::endpoint::RelayStatus;
use iroh::{RelayUrl, Watcher};
use shoal_protocol::address::is_public;
use shoal_protocol::id::{MeshId, PeerId};
use shoal_protocol::limits::{ANNOUNCE_RELAY_MS, MAX_PRIVATE_RELAYS_USED, MAX_RELAYS_USED, MIN_ANNOUNCE_RELAY_MS};
use shoal_protocol::relay::{Announcement, Directory, Entry, NotBelieved, Origin, RelayAddress};
use shoal_protocol::time::{Millis, Time};
use shoal_protocol::wire::canonical;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::probe::{self, Claim, ProbeError};
use super::{Heard, Inbox, KnownRelay, Server, iroh_config, pass};
use crate::clock::Clock;
use crate::membership::Membership;
use crate::network::rate::{Buckets, Rate};
use crate::network::task::Command;
use crate::network::{GossipId, NetworkConfig, Shared, Validity};

/// Pause between two looks at the relays.
const TICK: Duration = Duration::from_secs(1);
/// Pause between two probes of a relay because of peers that do not answer: most of them are gone themselves.
const DOUBT_PAUSE_MS: Millis = 10_000;
/// Probes under way. Each is one connection for at most three seconds.
const MAX_PROBES: usize = 8;
/// Probes that one neighbour's announcements may cause: it may make up relays as it likes.
const PROBES_PER_NEIGHBOUR: Rate = Rate { per_second: 1, burst: 8 };

/// The task.
pub(in crate::network) struct Keeper {
    directory: Directory,
    shared: Arc<Shared>,
    own: Option<(Server, RelayAddress)>,
    key: SigningKey,
    me: PeerId,
    mesh: MeshId,
    membership: Option<Membership>,
    clock: Clock,
    inbox: Inbox,
    /// The swarm's task. It ends when all handles to it are gone, so this is none.
    commands: mpsc::WeakSender<Command>,
    /// What the endpoint uses, and what it shows there.
    in_use: BTreeMap<RelayAddress, String>,
    probes: JoinSet<Probed>,
    /// Why relays of the directory did not answer, or take this node, last.
    troubles: BTreeMap<RelayAddress, String>,
    causes: Buckets<PeerId>,
    /// When relays were doubted last because of somebody who does not answer.
    doubted: BTreeMap<RelayAddress, Time>,
    /// When this node's own relay was announced.
    announced: Option<Time>,
    /// Whom it knew then.
    connected: BTreeSet<PeerId>,
}

/// A probe that has ended.
struct Probed {
    address: RelayAddress,
    answer: Result<f64, ProbeError>,
    /// The announcement that it was for.
    heard: Option<(PeerId, GossipId, PeerId)>,
}

impl Keeper {
    pub(in crate::network) fn new(
        config: &NetworkConfig,
        shared: &Arc<Shared>,
        own: Option<(Server, RelayAddress)>,
        inbox: Inbox,
        commands: &mpsc::Sender<Command>,
    ) -> Self {
        let clock = Clock::start();
        let mut directory = Directory::default();
        let named = super::named(config);
        let pass = pass::own(config.mesh_id(), config.membership.as_ref());
        let in_use = named.iter().map(|address| (address.clone(), pass.clone())).collect();
        named.into_iter().for_each(|address| directory.name(address, clock.now()));
        if let Some((_, address)) = &own {
            directory.name(address.clone(), clock.now());
            directory.announced(address.clone(), shared.own, None, clock.now());
        }
        shared.relays.seen().own = own.as_ref().map(|(_, address)| address.clone());
        Self {
            directory,
            shared: Arc::clone(shared),
            own,
            key: config.key.clone(),
            me: shared.own,
            mesh: config.mesh_id(),
            membership: config.membership.clone(),
            clock,
            inbox,
            commands: commands.downgrade(),
            in_use,
            probes: JoinSet::new(),
            troubles: BTreeMap::new(),
            causes: Buckets::new(PROBES_PER_NEIGHBOUR),
            doubted: BTreeMap::new(),
            announced: None,
            connected: BTreeSet::new(),
        }
    }

    /// Runs until the endpoint is closed.
    pub(in crate::network) async fn run(mut self) {
        let closed = self.shared.endpoint.closed();
        closed.run_until(self.keep()).await;
        if let Some((server, _)) = self.own {
            server.stop().await;
        }
    }

    async fn keep(&mut self) {
        let mut homes = self.shared.endpoint.home_relay_status().stream();
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                Some(homes) = homes.next() => self.look_at(&homes),
                Some(heard) = self.inbox.0.recv() => self.hear(heard),
                Some(Ok(probed)) = self.probes.join_next() => self.probed(probed),
            }
            self.doubt();
            self.probe_due();
            self.use_chosen().await;
            self.announce();
            self.show();
        }
    }

    /// What the endpoint's connection with its home says about that.
    fn look_at(&mut self, homes: &[RelayStatus]) {
        for home in homes.iter().filter(|home| !home.is_connected()) {
            let Ok(address) = home.url().to_string().parse() else { continue };
            if let Some(reason) = home.auth_denied_reason() {
                tracing::debug!(relay = %address, reason, "a relay does not take this node");
                self.directory.refused(&address, self.clock.now());
                self.troubles.insert(address, format!("it does not take this node: {reason}"));
            } else if home.last_error().is_some() {
                self.directory.doubt(&address, self.clock.now());
            }
        }
    }

    /// Asks relays whether they are there behind which somebody cannot be reached, but not each time.
    fn doubt(&mut self) {
        let (doubted, now) = (std::mem::take(&mut self.shared.relays.seen().doubted), self.clock.now());
        self.doubted.retain(|_, last| now.since(*last) < DOUBT_PAUSE_MS);
        for address in doubted {
            if !self.doubted.contains_key(&address) {
                self.directory.doubt(&address, now);
                self.doubted.insert(address, now);
            }
        }
    }

    /// Judges an announcement: at once if that can be done, else when its relay was asked.
    fn hear(&mut self, heard: Heard) {
        let Heard { said, id, source } = heard;
        let now = self.clock.now();
        let address = match said.check(self.mesh, now) {
            Ok(address) => address,
            Err(NotBelieved::Time) => return self.judge(id, source, Validity::Ignore),
            Err(_) => return self.judge(id, source, Validity::Reject),
        };
        let is_soon = self.directory.heard(&address).is_some_and(|last| now.since(last) < MIN_ANNOUNCE_RELAY_MS);
        let is_gone = self.membership.as_ref().is_some_and(|membership| membership.is_revoked(said.by));
        if said.by == self.me || is_soon || is_gone {
            self.judge(id, source, Validity::Ignore);
        } else if self.directory.vouches_for(&address, said.by) {
            self.directory.announced(address, said.by, None, now);
            self.judge(id, source, Validity::Accept);
        } else if self.probes.len() < MAX_PROBES && self.causes.take(source, Instant::now()) {
            self.probe(address, Some((said.by, id, source)));
        } else {
            self.judge(id, source, Validity::Ignore);
        }
    }

    fn judge(&self, id: GossipId, source: PeerId, validity: Validity) {
        if let Some(commands) = self.commands.upgrade() {
            let _ = commands.try_send(Command::Validate(id, source, validity));
        }
    }

    fn probe_due(&mut self) {
        let room = MAX_PROBES.saturating_sub(self.probes.len());
        let now = self.clock.now();
        for address in self.directory.due(now, room) {
            self.probe(address, None);
        }
    }

    fn probe(&mut self, address: RelayAddress, heard: Option<(PeerId, GossipId, PeerId)>) {
        let known = self.directory.entries().find(|(known, _)| **known == address).map(|(_, entry)| entry);
        let is_named = heard.is_none() && known.is_some_and(|entry| entry.origin == Origin::Named);
        let owner = heard.as_ref().map(|(by, ..)| *by).or(known.and_then(|entry| entry.by));
        let claim = owner.map(|owner| Claim { owner, mesh: self.mesh });
        let met = owner.map(|owner| self.shared.links.addresses(owner)).unwrap_or_default();
        let is_private = self.membership.is_some();
        // Whoever named it knows where it is. Others could have this node knock at doors inside its own network.
        let may_ask = move |ip: IpAddr| {
            let ip = ip.to_canonical();
            is_named || is_public(ip) || met.contains(&ip) || (is_private && !ip.is_loopback())
        };
        self.probes.spawn(async move {
            let answer = probe::probe(&address, claim, may_ask).await;
            if let Err(error) = &answer {
                tracing::debug!(relay = %address, %error, "a relay does not answer");
            }
            Probed { address, answer, heard }
        });
    }

    fn probed(&mut self, probed: Probed) {
        let Probed { address, answer, heard } = probed;
        let (now, rtt_ms) = (self.clock.now(), answer.as_ref().ok().copied());
        let Some((by, id, source)) = heard else {
            self.directory.probed(&address, rtt_ms, now);
            match answer {
                Ok(_) => self.troubles.remove(&address),
                Err(error) => self.troubles.insert(address, error.to_string()),
            };
            return;
        };
        if rtt_ms.is_some() {
            tracing::debug!(relay = %address, by = %by.short(), "a relay was announced");
            self.directory.announced(address, by, rtt_ms, now);
        }
        self.judge(id, source, if rtt_ms.is_some() { Validity::Accept } else { Validity::Ignore });
    }

    fn most_used(&self) -> usize {
        if self.membership.is_some() { MAX_PRIVATE_RELAYS_USED } else { MAX_RELAYS_USED }
    }

    /// Has the endpoint use what is chosen, and show there what is good now.
    async fn use_chosen(&mut self) {
        let chosen = self.directory.choose(self.clock.now(), self.most_used());
        let pass = pass::own(self.mesh, self.membership.as_ref());
        let gone: Vec<RelayAddress> = self.in_use.keys().filter(|used| !chosen.contains(used)).cloned().collect();
        for address in gone {
            self.in_use.remove(&address);
            if let Ok(url) = address.to_string().parse::<RelayUrl>() {
                self.shared.endpoint.remove_relay(&url).await;
            }
            tracing::info!(relay = %address, "not used any more");
            self.leave(&address);
        }
        for address in chosen {
            if self.in_use.get(&address) == Some(&pass) {
                continue;
            }
            let Some(config) = iroh_config(&address, pass.clone()) else { continue };
            let before = self.in_use.insert(address.clone(), pass.clone());
            self.shared.endpoint.insert_relay(config.url.clone(), Arc::new(config)).await;
            if before.is_none() {
                tracing::info!(relay = %address, "used");
            }
        }
    }

    /// Connections through a dead relay wait for it until they are given up, and new ones to the same peers with them.
    /// Where there is another relay, both sides begin again and meet there.
    fn leave(&self, address: &RelayAddress) {
        let answers = |entry: &Entry| entry.is_used && entry.is_good();
        let is_dead = self.directory.entries().all(|(known, entry)| known != address || !entry.is_good());
        if !is_dead || !self.directory.entries().any(|(_, entry)| answers(entry)) {
            return;
        }
        let Some(commands) = self.commands.upgrade() else { return };
        for peer in self.shared.links.through(address) {
            let _ = commands.try_send(Command::BeginAgain(peer));
        }
        // Who could not be reached by this relay may be by another.
        let _ = commands.try_send(Command::Hurry);
    }

    /// Announces this node's own relay from time to time, and soon after somebody new has come.
    fn announce(&mut self) {
        let Some((_, address)) = &self.own else { return };
        let now = self.clock.now();
        let age = self.announced.map_or(u64::MAX, |last| now.since(last));
        let connected: BTreeSet<PeerId> = self.shared.connected().keys().copied().collect();
        let is_somebody_new = connected.difference(&self.connected).next().is_some();
        if connected.is_empty() || age < if is_somebody_new { MIN_ANNOUNCE_RELAY_MS } else { ANNOUNCE_RELAY_MS } {
            return;
        }
        let said = Announcement::new(&self.key, self.mesh, address, now);
        let Some(commands) = self.commands.upgrade() else { return };
        if commands.try_send(Command::AnnounceRelay(canonical(&said))).is_ok() {
            (self.announced, self.connected) = (Some(now), connected);
        }
    }

    /// Lets the node's handles see how things are.
    fn show(&mut self) {
        let home = self.shared.home_relay();
        let known: BTreeSet<&RelayAddress> = self.directory.entries().map(|(address, _)| address).collect();
        self.troubles.retain(|address, _| known.contains(address));
        let known = self.directory.entries().map(|(address, entry)| KnownRelay {
            address: address.clone(),
            by: entry.by,
            rtt_ms: entry.rtt_ms,
            is_good: entry.is_good(),
            is_used: entry.is_used,
            is_home: home.as_ref() == Some(address),
            trouble: self.troubles.get(address).cloned(),
        });
        let known = known.collect();
        let clients = self.own.as_ref().map(|(server, _)| server.clients()).unwrap_or_default();
        let mut seen = self.shared.relays.seen();
        (seen.known, seen.clients) = (known, clients);
    }
}
