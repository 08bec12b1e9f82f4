//! Peers worth dialling again: those of tickets, of the last run, and those that were connected once.
//!
//! While connections are few, everybody known is tried, the best first, each with a growing pause. While there are
//! enough, one of them is tried now and then, so that two halves of a mesh that lost each other grow together again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shoal_protocol::auction::group;
use shoal_protocol::id::PeerId;
use shoal_protocol::message::Contact;
use shoal_protocol::time::Time;

use super::service::Service;
use super::unreached::Unreached;

/// Peers that are remembered for this.
const MAX_KNOWN: usize = 256;
/// Peers of one network (IPv4 /24, IPv6 /48) among those that are kept for the next start: whoever owns a network may
/// have many keys, and must not be all that a node knows.
const MAX_PER_NETWORK: usize = 8;
/// Neighbours among them that were never connected: anybody nearby can invent some.
const MAX_NEIGHBOURS: usize = 32;
/// Fewer connected peers than this are few.
const ENOUGH: usize = 6;
/// Dials begun at once.
const MAX_DIALS: usize = 8;
/// Pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two dials of one peer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a peer is tried while there are just enough connections; the more there are, the more seldom.
const HEAL_PAUSE: Duration = Duration::from_secs(20);
/// Failures in a row after which a peer is forgotten, unless a ticket or the last run named it.
const MAX_FAILURES: u32 = 20;

/// The peers, and when each is due.
pub(super) struct Known {
    peers: BTreeMap<PeerId, Standing>,
    next_heal: Option<Instant>,
    looked: Instant,
}

struct Standing {
    origin: Origin,
    failures: u32,
    due: Instant,
    /// Why the last dial failed.
    reason: Option<Unreached>,
    service: Service,
}

/// How a peer came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The operator named it, in a ticket or by its address.
    Named,
    /// The last run knew it.
    Remembered,
    /// It came by itself.
    Met,
    /// Somebody on the local network says that it is there.
    Neighbour,
}

/// A peer that is worth dialling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// Who it is.
    pub peer: PeerId,
    /// Dials since it was connected last, or since the start.
    pub failures: u32,
    /// Why the last of them failed, once that is known.
    pub reason: Option<Unreached>,
    /// What it has been good for.
    pub service: Service,
}

/// A peer that the last run knew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Who it is.
    pub peer: PeerId,
    /// Where it was.
    pub contact: Contact,
    /// What it has been good for.
    pub service: Service,
}

/// Those that are kept for the next start: the best, but not all from one network.
pub fn worth_keeping(mut peers: Vec<Remembered>, now: Time) -> Vec<Remembered> {
    peers.sort_by(|one, other| other.service.rank(now).total_cmp(&one.service.rank(now)));
    let mut networks: BTreeMap<String, usize> = BTreeMap::new();
    peers.retain(|peer| {
        let Some(network) = group(None, &peer.contact) else { return true };
        let number = networks.entry(network).or_default();
        *number += 1;
        *number <= MAX_PER_NETWORK
    });
    peers.truncate(MAX_KNOWN);
    peers
}

impl Known {
    /// Peers that the operator named, and that the last run knew. They are never forgotten.
    pub(super) fn new(
        named: impl IntoIterator<Item = PeerId>,
        remembered: impl IntoIterator<Item = (PeerId, Service)>,
        now: Instant,
    ) -> Self {
        let standing = |origin, service| Standing { service, ..Standing::new(origin, now) };
        let remembered = remembered.into_iter().take(MAX_KNOWN);
        let mut peers: BTreeMap<PeerId, Standing> =
            remembered.map(|(peer, service)| (peer, standing(Origin::Remembered, service))).collect();
        for peer in named.into_iter().take(MAX_KNOWN) {
            let service = peers.get(&peer).map(|known| known.service).unwrap_or_default();
            peers.insert(peer, standing(Origin::Named, service));
        }
        Self { peers, next_heal: None, looked: now }
    }

    /// Notes that `peer` is connected: when it goes, it is tried again at once.
    pub(super) fn connected(&mut self, peer: PeerId, now: Instant) {
        if let Some(standing) = self.peers.get_mut(&peer) {
            if standing.failures > 0 {
                standing.service.answered();
            }
            if standing.origin == Origin::Neighbour {
                standing.origin = Origin::Met;
            }
            (standing.failures, standing.due, standing.reason) = (0, now, None);
            return;
        }
        if self.peers.len() >= MAX_KNOWN {
            self.forget_one();
        }
        if self.peers.len() < MAX_KNOWN {
            self.peers.insert(peer, Standing::new(Origin::Met, now));
        }
    }

    /// Notes that somebody on the local network says that `peer` is there.
    pub(super) fn neighbour(&mut self, peer: PeerId, now: Instant) {
        if let Some(standing) = self.peers.get_mut(&peer) {
            standing.due = standing.due.min(now);
            return;
        }
        let neighbours = self.peers.values().filter(|standing| standing.origin == Origin::Neighbour).count();
        if neighbours < MAX_NEIGHBOURS && self.peers.len() < MAX_KNOWN {
            self.peers.insert(peer, Standing::new(Origin::Neighbour, now));
        }
    }

    /// Makes room for a peer that is there by forgetting one that does not answer.
    fn forget_one(&mut self) {
        let failing = self.peers.iter().filter(|(_, known)| known.failures > 0 && known.origin != Origin::Named);
        let worst = failing.max_by_key(|(_, known)| known.failures).map(|(peer, _)| *peer);
        worst.map(|peer| self.peers.remove(&peer));
    }

    /// Notes why a dial failed.
    pub(super) fn failed(&mut self, peer: PeerId, reason: Unreached) {
        if let Some(standing) = self.peers.get_mut(&peer) {
            standing.reason = Some(reason);
        }
    }

    /// Forgets all pauses: the machine has slept, or is on another network.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.peers.values_mut().for_each(|standing| (standing.failures, standing.due) = (0, now));
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<KnownPeer> {
        let view = |(peer, standing): (&PeerId, &Standing)| KnownPeer {
            peer: *peer,
            failures: standing.failures,
            reason: standing.reason.clone(),
            service: standing.service,
        };
        self.peers.iter().map(view).collect()
    }

    /// Counts the time since the last call for those who are connected.
    pub(super) fn look(&mut self, now: Instant, clock: Time, is_connected: impl Fn(PeerId) -> bool) {
        let seconds = now.saturating_duration_since(self.looked).as_secs();
        if seconds > 0 {
            self.looked += Duration::from_secs(seconds);
            let connected = self.peers.iter_mut().filter(|(peer, _)| is_connected(**peer));
            connected.for_each(|(_, standing)| standing.service.stayed(seconds, clock));
        }
    }

    /// Whom to dial now. `is_connected` says who needs no dial.
    pub(super) fn due(
        &mut self,
        now: Instant,
        clock: Time,
        connected: usize,
        is_connected: impl Fn(PeerId) -> bool,
    ) -> Vec<PeerId> {
        let limit = self.dials(now, connected);
        let waiting = self.peers.iter().filter(|(peer, standing)| standing.due <= now && !is_connected(**peer));
        let mut waiting: Vec<(&PeerId, &Standing)> = waiting.collect();
        if connected < ENOUGH {
            waiting.sort_by(|(_, one), (_, other)| one.more_urgent(other, clock));
        } else {
            // Those of another half of the mesh may be anybody: each has its turn.
            waiting.sort_by_key(|(_, standing)| standing.due);
        }
        let chosen: Vec<PeerId> = waiting.into_iter().take(limit).map(|(peer, _)| *peer).collect();
        chosen.iter().for_each(|peer| self.dialled(*peer, now));
        chosen
    }

    /// How many dials may begin now.
    fn dials(&mut self, now: Instant, connected: usize) -> usize {
        if connected < ENOUGH {
            return MAX_DIALS;
        }
        // Where there are many, others try as well, and new connections would be most of what an idle mesh sends.
        let pause = HEAL_PAUSE * u32::try_from(connected / ENOUGH).unwrap_or(u32::MAX);
        let due = *self.next_heal.get_or_insert(now + pause) <= now;
        if due {
            self.next_heal = Some(now + pause);
        }
        usize::from(due)
    }

    /// Counts a dial as failed until [`connected`](Self::connected) says otherwise.
    fn dialled(&mut self, peer: PeerId, now: Instant) {
        let Some(standing) = self.peers.get_mut(&peer) else { return };
        standing.due = now + FIRST_PAUSE.saturating_mul(1 << standing.failures.min(16)).min(LONGEST_PAUSE);
        standing.failures += 1;
        standing.service.dialled();
        let is_lasting = matches!(standing.origin, Origin::Named | Origin::Remembered);
        if standing.failures > MAX_FAILURES && !is_lasting {
            self.peers.remove(&peer);
        }
    }
}

impl Standing {
    fn new(origin: Origin, now: Instant) -> Self {
        Self { origin, failures: 0, due: now, reason: None, service: Service::default() }
    }

    /// Fewest failures first, so that all get a turn; of those whom the operator named, then who served best.
    fn more_urgent(&self, other: &Self, now: Time) -> std::cmp::Ordering {
        let named = |standing: &Self| standing.origin != Origin::Named;
        let order = self.failures.cmp(&other.failures).then(named(self).cmp(&named(other)));
        order.then_with(|| other.service.rank(now).total_cmp(&self.service.rank(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Time = Time(1_800_000_000_000);

    fn name(n: u8) -> PeerId {
        PeerId([n; 32])
    }

    #[test]
    fn a_peer_that_does_not_answer_is_tried_with_growing_pauses() {
        let start = Instant::now();
        let mut known = Known::new([name(1)], [], start);
        let mut dials = Vec::new();
        for millis in (0..300_000).step_by(500) {
            let now = start + Duration::from_millis(millis);
            dials.extend(known.due(now, CLOCK, 0, |_| false).into_iter().map(|_| millis));
        }
        assert_eq!(dials[..5], [0, 500, 1_500, 3_500, 7_500]);
        assert!(dials.windows(2).all(|pair| pair[1] - pair[0] <= 60_000), "{dials:?}");
    }

    #[test]
    fn a_peer_that_was_connected_is_tried_again_at_once() {
        let now = Instant::now();
        let mut known = Known::new([], [], now);
        known.connected(name(1), now);
        assert_eq!(known.due(now, CLOCK, 1, |_| true), []);
        assert_eq!(known.due(now, CLOCK, 0, |_| false), [name(1)]);
    }

    #[test]
    fn why_a_peer_cannot_be_reached_is_told_until_it_can() {
        let now = Instant::now();
        let mut known = Known::new([name(1)], [], now);
        known.due(now, CLOCK, 0, |_| false);
        known.failed(name(1), Unreached::NoAnswer);
        known.failed(name(2), Unreached::NoAnswer);
        let told = |known: &Known| known.all().into_iter().map(|peer| (peer.peer, peer.reason)).collect::<Vec<_>>();
        assert_eq!(told(&known), [(name(1), Some(Unreached::NoAnswer))]);
        known.connected(name(1), now);
        assert_eq!(told(&known), [(name(1), None)]);
    }

    #[test]
    fn with_enough_connections_one_lost_peer_is_tried_now_and_then() {
        let now = Instant::now();
        let mut known = Known::new([name(1), name(2)], [], now);
        assert_eq!(known.due(now, CLOCK, ENOUGH, |_| false).len(), 0);
        assert_eq!(known.due(now + HEAL_PAUSE, CLOCK, ENOUGH, |_| false).len(), 1);
        assert_eq!(known.due(now + HEAL_PAUSE, CLOCK, ENOUGH, |_| false).len(), 0);
    }

    #[test]
    fn only_a_named_peer_is_never_forgotten() {
        let mut now = Instant::now();
        let mut known = Known::new([name(1)], [], now);
        known.connected(name(2), now);
        for _ in 0..100 {
            now += LONGEST_PAUSE;
            known.due(now, CLOCK, 0, |_| false);
        }
        assert_eq!(known.peers.keys().copied().collect::<Vec<_>>(), [name(1)]);
    }

    /// A peer that stayed for so many hours.
    fn served(hours: u64) -> Service {
        let mut service = Service::default();
        service.stayed(hours * 3_600, CLOCK);
        service
    }

    #[test]
    fn whom_the_operator_named_comes_first_and_then_who_served_best() {
        let now = Instant::now();
        let remembered = (1..=20).map(|n| (name(n), served(u64::from(n))));
        let mut known = Known::new([name(30), name(2)], remembered, now);
        let first = known.due(now, CLOCK, 0, |_| false);
        assert_eq!(first, [2, 30, 20, 19, 18, 17, 16, 15].map(name));
        let later = known.due(now + FIRST_PAUSE, CLOCK, 0, |_| false);
        assert_eq!(later, [14, 13, 12, 11, 10, 9, 8, 7].map(name), "who failed waits for those who had no turn");
    }

    #[test]
    fn time_connected_and_answered_dials_are_counted() {
        let start = Instant::now();
        let mut known = Known::new([name(1), name(2)], [], start);
        known.due(start, CLOCK, 0, |_| false);
        known.connected(name(1), start);
        for seconds in 0..=3_600 {
            known.look(start + Duration::from_secs(seconds), CLOCK, |peer| peer == name(1));
        }
        let ranks: Vec<f64> = known.all().iter().map(|peer| peer.service.rank(CLOCK)).collect();
        let mut expected = served(1);
        expected.dialled();
        expected.answered();
        assert_eq!(ranks[0], expected.rank(CLOCK));
        assert_eq!(ranks[1], 0.0, "it was never there");
    }

    #[test]
    fn a_newcomer_takes_the_place_of_one_that_does_not_answer_and_of_nobody_else() {
        let mut now = Instant::now();
        let id = |n: usize| PeerId(std::array::from_fn(|i| n.to_le_bytes().get(i).copied().unwrap_or(0)));
        let mut known = Known::new([id(0)], (1..MAX_KNOWN).map(|n| (id(n), Service::default())), now);
        known.connected(id(MAX_KNOWN), now);
        assert!(!known.peers.contains_key(&id(MAX_KNOWN)), "nobody has failed yet");
        for _ in 0..5 {
            now += LONGEST_PAUSE;
            known.due(now, CLOCK, 0, |peer| peer != id(0) && peer != id(7));
        }
        known.connected(id(MAX_KNOWN), now);
        assert!(known.peers.contains_key(&id(MAX_KNOWN)) && known.peers.contains_key(&id(0)));
        assert!(!known.peers.contains_key(&id(7)));
        assert_eq!(known.peers.len(), MAX_KNOWN);
    }

    #[test]
    fn invented_neighbours_are_few_and_push_nobody_out() {
        let now = Instant::now();
        let mut known = Known::new([name(250)], [(name(251), Service::default())], now);
        (0..100).for_each(|n| known.neighbour(name(n), now));
        assert_eq!(known.peers.len(), 2 + MAX_NEIGHBOURS);
        known.connected(name(0), now);
        known.neighbour(name(100), now);
        assert!(known.peers.contains_key(&name(100)), "one of them was there, and makes room for another");
        known.neighbour(name(101), now);
        assert!(!known.peers.contains_key(&name(101)));
    }

    #[test]
    fn after_a_sleep_nobody_has_to_wait() {
        let now = Instant::now();
        let mut known = Known::new([name(1)], [], now);
        assert_eq!(known.due(now, CLOCK, 0, |_| false).len(), 1);
        assert_eq!(known.due(now, CLOCK, 0, |_| false).len(), 0);
        known.hurry(now);
        assert_eq!(known.due(now, CLOCK, 0, |_| false), [name(1)]);
    }

    #[test]
    fn no_network_is_all_that_is_remembered() {
        let at = |n: u8, hours, address: &str| Remembered {
            peer: name(n),
            contact: Contact { addresses: vec![address.parse().unwrap()], relay: None },
            service: served(hours),
        };
        let swarm = (0..100).map(|n| at(n, 100, &format!("1.2.3.{n}:1")));
        let home = (100..120).map(|n| at(n, 2, &format!("192.168.1.{n}:1")));
        let all: Vec<Remembered> = swarm.chain(home).chain([at(200, 1, "5.6.7.8:1")]).collect();
        let kept = worth_keeping(all, CLOCK);
        assert_eq!(kept.len(), MAX_PER_NETWORK + 20 + 1);
        assert_eq!(kept.last().map(|peer| peer.peer), Some(name(200)), "the best come first");
    }
}
