//! The relays that a node knows, and which few of them it uses: those that answer, the nearest first.
//!
//! What was announced is not used before it has answered a probe, and what stops answering is replaced. Relays that the
//! operator or a ticket named are used at once, for there may be no other way into the mesh, and are kept whatever they
//! do; of the others a full directory forgets the one that did worst.

use std::collections::BTreeMap;

use super::RelayAddress;
use crate::id::PeerId;
use crate::limits::{
    FIRST_RELAY_PAUSE_MS, LONGEST_RELAY_PAUSE_MS, MAX_RELAY_FAILURES, MAX_RELAYS_KNOWN, RELAY_ALONE_PROBE_MS,
    RELAY_ANNOUNCEMENT_MS, RELAY_FAILURES, RELAY_IDLE_PROBE_MS, RELAY_PROBE_MS,
};
use crate::time::{Millis, Time};

/// How much nearer a relay has to be to replace one in use, in milliseconds beyond half the time.
const WORTH_A_CHANGE_MS: f64 = 10.0;

/// Where a relay is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the operator, a ticket, or the last run. It is not forgotten.
    Named,
    /// From the peer that runs it.
    Announced,
}

/// What is known of a relay.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it is known from.
    pub origin: Origin,
    /// Who runs it, if somebody said so.
    pub by: Option<PeerId>,
    /// How long its last answer took, in milliseconds; none if it has not answered yet.
    pub rtt_ms: Option<f64>,
    /// Whether it is used.
    pub is_used: bool,
    /// Probes in a row without an answer.
    failures: u32,
    /// When it is to be probed.
    due: Time,
    /// When its announcement was heard last.
    heard: Time,
}

/// The relays of a mesh, as one node knows them.
#[derive(Debug, Default)]
pub struct Directory {
    entries: BTreeMap<RelayAddress, Entry>,
}

impl Entry {
    fn new(origin: Origin, by: Option<PeerId>, now: Time) -> Self {
        Self { origin, by, rtt_ms: None, is_used: false, failures: 0, due: now, heard: now }
    }

    /// Whether it answers.
    pub fn is_good(&self) -> bool {
        self.rtt_ms.is_some() && self.failures < RELAY_FAILURES
    }

    fn is_usable(&self) -> bool {
        self.is_good() || (self.origin == Origin::Named && self.failures < RELAY_FAILURES)
    }

    fn pause_after_failure(&self) -> Millis {
        let doubled = FIRST_RELAY_PAUSE_MS.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        doubled.min(LONGEST_RELAY_PAUSE_MS)
    }
}

impl Directory {
    /// Notes a relay that somebody named whom this node trusts.
    pub fn name(&mut self, address: RelayAddress, now: Time) {
        let is_new = !self.entries.contains_key(&address);
        if !is_new || self.make_room() {
            self.entries.entry(address).or_insert(Entry::new(Origin::Named, None, now)).origin = Origin::Named;
        }
    }

    /// Whether the relay answered lately and is of `by`: then its announcement needs no probe.
    pub fn vouches_for(&self, address: &RelayAddress, by: PeerId) -> bool {
        self.entries.get(address).is_some_and(|entry| entry.by == Some(by) && entry.is_good())
    }

    /// When this relay was last announced.
    pub fn heard(&self, address: &RelayAddress) -> Option<Time> {
        self.entries.get(address).filter(|entry| entry.by.is_some()).map(|entry| entry.heard)
    }

    /// Notes an announcement whose relay has shown that it is the announcer's. A peer runs one relay: what it said
    /// before is forgotten.
    pub fn announced(&mut self, address: RelayAddress, by: PeerId, rtt_ms: Option<f64>, now: Time) {
        self.entries.retain(|known, entry| *known == address || entry.by != Some(by) || entry.origin == Origin::Named);
        if !self.entries.contains_key(&address) && !self.make_room() {
            return;
        }
        let entry = self.entries.entry(address.clone()).or_insert(Entry::new(Origin::Announced, Some(by), now));
        (entry.by, entry.heard) = (Some(by), now);
        if let Some(rtt_ms) = rtt_ms {
            self.probed(&address, Some(rtt_ms), now);
        }
    }

    /// Notes the answer of a relay, or that there was none.
    pub fn probed(&mut self, address: &RelayAddress, rtt_ms: Option<f64>, now: Time) {
        let Some(entry) = self.entries.get_mut(address) else { return };
        match rtt_ms {
            Some(rtt_ms) => {
                (entry.rtt_ms, entry.failures) = (Some(rtt_ms), 0);
                entry.due = now + if entry.is_used { RELAY_PROBE_MS } else { RELAY_IDLE_PROBE_MS };
            }
            None => {
                entry.failures = entry.failures.saturating_add(1);
                entry.due = now + entry.pause_after_failure();
            }
        }
        if self.entries.values().any(Entry::is_good) {
            let is_hopeless = |entry: &Entry| entry.origin == Origin::Announced && entry.failures >= MAX_RELAY_FAILURES;
            self.entries.retain(|_, entry| !is_hopeless(entry));
        } else {
            // More likely this node's own network is down than all of theirs.
            self.entries.values_mut().for_each(|entry| entry.due = entry.due.min(now + RELAY_ALONE_PROBE_MS));
        }
    }

    /// Notes that a relay answers and does not take this node: it is full, or for others.
    pub fn refused(&mut self, address: &RelayAddress, now: Time) {
        if let Some(entry) = self.entries.get_mut(address) {
            entry.failures = entry.failures.max(RELAY_FAILURES);
            entry.due = now + RELAY_IDLE_PROBE_MS;
        }
    }

    /// Has a relay probed now: something is wrong with it.
    pub fn doubt(&mut self, address: &RelayAddress, now: Time) {
        if let Some(entry) = self.entries.get_mut(address) {
            entry.due = now;
        }
    }

    /// Which relays are to be probed, at most so many, and forgets those that nobody announces any more. Each is due
    /// again only after [`probed`](Self::probed).
    pub fn due(&mut self, now: Time, most: usize) -> Vec<RelayAddress> {
        let is_old =
            |entry: &Entry| entry.origin == Origin::Announced && now.since(entry.heard) > RELAY_ANNOUNCEMENT_MS;
        self.entries.retain(|_, entry| !is_old(entry));
        let due = self.entries.iter_mut().filter(|(_, entry)| entry.due <= now).take(most);
        due.map(|(address, entry)| {
            entry.due = Time::NEVER;
            address.clone()
        })
        .collect()
    }

    /// Chooses at most so many relays to use: those in use that answer, and the nearest others in the places that are
    /// free.
    pub fn choose(&mut self, now: Time, most: usize) -> Vec<RelayAddress> {
        let mut good: Vec<(RelayAddress, f64, bool)> = self.usable();
        good.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then_with(|| a.0.cmp(&b.0)));
        good.truncate(most);
        let chosen: Vec<RelayAddress> = good.into_iter().map(|(address, ..)| address).collect();
        for (address, entry) in &mut self.entries {
            let is_used = chosen.contains(address);
            if is_used && !entry.is_used {
                entry.due = entry.due.min(now + RELAY_PROBE_MS);
            }
            entry.is_used = is_used;
        }
        chosen
    }

    /// All that is known.
    pub fn entries(&self) -> impl Iterator<Item = (&RelayAddress, &Entry)> {
        self.entries.iter()
    }

    fn usable(&self) -> Vec<(RelayAddress, f64, bool)> {
        let usable = self.entries.iter().filter(|(_, entry)| entry.is_usable());
        usable.map(|(address, entry)| (address.clone(), entry.rtt_ms.unwrap_or(f64::INFINITY), entry.is_used)).collect()
    }

    /// Whether one more fits, after forgetting an announced one that does not answer if need be.
    fn make_room(&mut self) -> bool {
        if self.entries.len() < MAX_RELAYS_KNOWN {
            return true;
        }
        let idle = self.entries.iter().filter(|(_, entry)| entry.origin == Origin::Announced && !entry.is_good());
        let worst = idle.max_by_key(|(_, entry)| entry.failures).map(|(address, _)| address.clone());
        worst.is_some_and(|worst| self.entries.remove(&worst).is_some())
    }
}

/// What using a relay costs. One in use stays unless another is much nearer: a change of the home relay is told to
/// everybody.
fn cost((_, rtt_ms, is_used): &(RelayAddress, f64, bool)) -> f64 {
    if *is_used { (rtt_ms - WORTH_A_CHANGE_MS) / 2.0 } else { *rtt_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_RELAYS_USED;

    const NOW: Time = Time(1_000_000_000);

    fn relay(n: usize) -> RelayAddress {
        format!("http://relay{n}.example").parse().unwrap()
    }

    fn peer(n: usize) -> PeerId {
        PeerId([u8::try_from(n).unwrap(); 32])
    }

    fn announced(directory: &mut Directory, n: usize, rtt_ms: f64) {
        directory.announced(relay(n), peer(n), Some(rtt_ms), NOW);
    }

    #[test]
    fn a_named_relay_is_used_until_it_fails_to_answer() {
        let mut directory = Directory::default();
        directory.name(relay(1), NOW);
        assert_eq!(directory.choose(NOW, MAX_RELAYS_USED), [relay(1)]);
        assert_eq!(directory.due(NOW, MAX_RELAYS_KNOWN), [relay(1)]);
        assert_eq!(directory.due(NOW, MAX_RELAYS_KNOWN), [], "one probe at a time");
        directory.probed(&relay(1), Some(5.0), NOW);
        assert_eq!(directory.choose(NOW, MAX_RELAYS_USED), [relay(1)]);
        assert_eq!(directory.due(NOW + (RELAY_PROBE_MS - 1), MAX_RELAYS_KNOWN), []);
        assert_eq!(directory.due(NOW + RELAY_PROBE_MS, MAX_RELAYS_KNOWN), [relay(1)]);
    }

    #[test]
    fn the_nearest_few_are_used_and_stay_unless_another_is_much_nearer() {
        let mut directory = Directory::default();
        for n in 1..=MAX_RELAYS_USED {
            announced(&mut directory, n, 100.0);
        }
        let first = directory.choose(NOW, MAX_RELAYS_USED);
        assert_eq!(first.len(), MAX_RELAYS_USED);
        announced(&mut directory, 8, 60.0);
        assert_eq!(directory.choose(NOW, MAX_RELAYS_USED), first, "not worth a change");
        announced(&mut directory, 9, 20.0);
        let then = directory.choose(NOW, MAX_RELAYS_USED);
        assert!(then.contains(&relay(9)) && then.len() == MAX_RELAYS_USED, "{then:?}");
    }

    #[test]
    fn a_relay_that_stops_answering_is_replaced_and_one_that_comes_back_is_used_again() {
        let mut directory = Directory::default();
        announced(&mut directory, 1, 1.0);
        directory.choose(NOW, MAX_RELAYS_USED);
        for failure in 1..=RELAY_FAILURES {
            assert_eq!(directory.choose(NOW, MAX_RELAYS_USED), [relay(1)], "{failure} failures are not enough");
            directory.doubt(&relay(1), NOW);
            assert_eq!(directory.due(NOW, MAX_RELAYS_KNOWN), [relay(1)]);
            directory.probed(&relay(1), None, NOW);
        }
        assert_eq!(directory.choose(NOW, MAX_RELAYS_USED), []);
        directory.probed(&relay(1), Some(2.0), NOW);
        assert_eq!(directory.choose(NOW, MAX_RELAYS_USED), [relay(1)]);
    }

    #[test]
    fn an_announced_relay_is_forgotten_and_a_named_one_is_not() {
        let mut directory = Directory::default();
        announced(&mut directory, 1, 1.0);
        announced(&mut directory, 4, 1.0);
        directory.name(relay(2), NOW);
        for _ in 0..MAX_RELAY_FAILURES {
            directory.probed(&relay(1), None, NOW);
            directory.probed(&relay(2), None, NOW);
        }
        let known: Vec<_> = directory.entries().map(|(address, _)| address.clone()).collect();
        assert_eq!(known, [relay(2), relay(4)]);
        announced(&mut directory, 3, 1.0);
        directory.due(NOW + (RELAY_ANNOUNCEMENT_MS + 1), MAX_RELAYS_KNOWN);
        assert!(directory.entries().all(|(address, _)| *address == relay(2)), "silence ends an announcement");
    }

    #[test]
    fn a_peer_runs_one_relay() {
        let mut directory = Directory::default();
        announced(&mut directory, 1, 1.0);
        directory.announced(relay(2), peer(1), Some(1.0), NOW);
        let known: Vec<_> = directory.entries().map(|(address, _)| address.clone()).collect();
        assert_eq!(known, [relay(2)]);
        assert!(directory.vouches_for(&relay(2), peer(1)) && !directory.vouches_for(&relay(2), peer(3)));
    }

    #[test]
    fn a_flood_of_relays_pushes_out_none_that_answers() {
        let mut directory = Directory::default();
        for n in 0..MAX_RELAYS_KNOWN {
            announced(&mut directory, n, 1.0);
        }
        announced(&mut directory, MAX_RELAYS_KNOWN, 0.1);
        assert!(!directory.vouches_for(&relay(MAX_RELAYS_KNOWN), peer(MAX_RELAYS_KNOWN)));
        directory.probed(&relay(7), None, NOW);
        directory.probed(&relay(7), None, NOW);
        announced(&mut directory, MAX_RELAYS_KNOWN, 0.1);
        assert!(directory.vouches_for(&relay(MAX_RELAYS_KNOWN), peer(MAX_RELAYS_KNOWN)));
        assert_eq!(directory.entries().count(), MAX_RELAYS_KNOWN);
    }

    #[test]
    fn probes_of_a_dead_relay_become_rare_while_another_answers() {
        let mut directory = Directory::default();
        directory.name(relay(1), NOW);
        directory.name(relay(2), NOW);
        let mut probes = 0;
        for second in 0..3_600 {
            let now = NOW + second * 1_000;
            for address in directory.due(now, MAX_RELAYS_KNOWN) {
                let is_dead = address == relay(1);
                probes += u32::from(is_dead);
                directory.probed(&address, (!is_dead).then_some(1.0), now);
            }
        }
        assert!((8..30).contains(&probes), "{probes}");
    }

    #[test]
    fn when_no_relay_answers_none_is_forgotten_and_all_are_asked_often() {
        let mut directory = Directory::default();
        announced(&mut directory, 1, 1.0);
        announced(&mut directory, 2, 1.0);
        let mut now = NOW;
        for _ in 0..20 {
            for address in directory.due(now, MAX_RELAYS_KNOWN) {
                directory.probed(&address, None, now);
            }
            for n in [1, 2] {
                directory.doubt(&relay(n), now);
            }
            now = now + RELAY_ALONE_PROBE_MS;
        }
        assert_eq!(directory.due(now, MAX_RELAYS_KNOWN).len(), 2);
    }

    #[test]
    fn a_relay_that_refuses_this_node_is_not_used_for_a_while() {
        let mut directory = Directory::default();
        announced(&mut directory, 1, 1.0);
        announced(&mut directory, 2, 9.0);
        directory.refused(&relay(1), NOW);
        assert_eq!(directory.choose(NOW, MAX_RELAYS_USED), [relay(2)]);
        assert_eq!(directory.due(NOW + RELAY_IDLE_PROBE_MS, MAX_RELAYS_KNOWN).len(), 2);
    }
}
