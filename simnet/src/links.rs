//! How messages travel: latency by distance, loss, duplication, reordering, partitions.
//!
//! Gossip is modelled as what an epidemic comes to at each receiver: one delay over several hops, drawn from those of
//! an [`Overlay`] of as many nodes, times a log-normal factor, because some nodes are slow. In ten thousand nodes
//! around the world that comes to about what was measured on Ethereum's gossipsub (median 200 ms, p95 540 ms).

use shoal_protocol::shard;

use crate::chance::Chance;
use crate::overlay::Overlay;

/// Steps of the table of gossip delays.
const QUANTILES: usize = 4_096;
/// Standard deviation of the logarithm of how slow nodes are.
const SLOWNESS: f64 = 0.57;
/// How far an overtaken message falls behind, in milliseconds.
const DETOUR_MS: u64 = 1_500;

/// Where the nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// In one building.
    Lan,
    /// Around the world.
    Wan,
}

/// What the network does to messages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// Where the nodes are.
    pub distance: Distance,
    /// Share of messages that are lost.
    pub loss: f64,
    /// Share of messages that arrive twice.
    pub duplication: f64,
    /// Share of messages that are overtaken by later ones.
    pub reordering: f64,
}

impl Profile {
    /// A network without faults.
    pub const fn clean(distance: Distance) -> Self {
        Self { distance, loss: 0.0, duplication: 0.0, reordering: 0.0 }
    }
}

/// Where a node is on a map of 140 × 140 one-way milliseconds, and the delay of its own line.
type Place = (f64, f64, u64);

/// The network of a run.
#[derive(Debug)]
pub(crate) struct Links {
    profile: Profile,
    chance: Chance,
    places: Vec<Place>,
    overlay: Overlay,
    /// Delays of gossip in a shard of each level.
    gossip_ms: Vec<Vec<u16>>,
    /// Which side of a partition each node is on; all on one when there is none.
    sides: Vec<u8>,
}

impl Links {
    /// So many nodes, of which shards have at least `shard_nodes`.
    pub(crate) fn new(profile: Profile, nodes: usize, shard_nodes: u32, mut chance: Chance) -> Self {
        let places: Vec<Place> = (0..nodes).map(|_| place(&mut chance)).collect();
        let overlay = Overlay::new(nodes, &mut chance);
        let mut gossip_ms = vec![epidemics(profile.distance, &places, &overlay, &mut chance)];
        // Nobody believes in more nodes than twice as many as there are.
        let most = u32::try_from(2 * nodes).unwrap_or(u32::MAX);
        for level in 1..=shard::first_level(most, shard_nodes) {
            let size = shard::nodes(u32::try_from(nodes).unwrap_or(u32::MAX), level) as usize;
            let part = Overlay::new(size, &mut chance);
            gossip_ms.push(epidemics(profile.distance, &places[..size], &part, &mut chance));
        }
        Self { profile, chance, places, overlay, gossip_ms, sides: vec![0; nodes] }
    }

    /// Half the median round trip to the neighbours of a node, in milliseconds: what it would have measured.
    pub(crate) fn measured_ms(&self, node: usize) -> u32 {
        let line = |other| line(self.profile.distance, &self.places, node, other);
        let mut delays: Vec<u64> = self.neighbours(node).map(line).collect();
        delays.sort_unstable();
        delays.get(delays.len() / 2).map_or(1, |median| u32::try_from(*median).unwrap_or(u32::MAX))
    }

    /// Those that a node is connected with.
    pub(crate) fn neighbours(&self, node: usize) -> impl Iterator<Item = usize> {
        self.overlay.neighbours(node)
    }

    /// Delays after which a direct message arrives: none if it is lost, two if it is duplicated.
    pub(crate) fn direct(&mut self, from: usize, to: usize) -> [Option<u64>; 2] {
        if from == to {
            return [Some(0), None];
        }
        if !self.reach(from, to) {
            return [None, None];
        }
        let first = (!self.chance.happens(self.profile.loss)).then(|| self.distance(from, to));
        let second = self.chance.happens(self.profile.duplication).then(|| self.distance(from, to));
        [first, second]
    }

    /// Delays after which gossip in a shard of this level reaches one peer.
    pub(crate) fn gossip(&mut self, from: usize, to: usize, level: u8) -> [Option<u64>; 2] {
        if !self.reach(from, to) {
            return [None, None];
        }
        let first = (!self.chance.happens(self.profile.loss)).then(|| self.epidemic(level));
        // Gossip layers drop what they have seen; a duplicate is one that comes after it was forgotten.
        let second = self.chance.happens(self.profile.duplication).then(|| self.epidemic(level) + DETOUR_MS);
        [first, second]
    }

    /// Whether two nodes can reach each other now.
    pub(crate) fn reach(&self, a: usize, b: usize) -> bool {
        self.sides[a] == self.sides[b]
    }

    /// Cuts the mesh in two; `minority` is the share of nodes on the smaller side.
    pub(crate) fn part(&mut self, minority: f64) {
        for side in &mut self.sides {
            *side = u8::from(self.chance.happens(minority));
        }
    }

    /// Heals the partition, and every other fault if `all`.
    pub(crate) fn heal(&mut self, all: bool) {
        self.sides.fill(0);
        if all {
            self.profile = Profile::clean(self.profile.distance);
        }
    }

    fn distance(&mut self, from: usize, to: usize) -> u64 {
        let detour = if self.chance.happens(self.profile.reordering) { self.chance.between(0, DETOUR_MS) } else { 0 };
        line(self.profile.distance, &self.places, from, to) + jitter(self.profile.distance, &mut self.chance) + detour
    }

    fn epidemic(&mut self, level: u8) -> u64 {
        let late = if self.chance.happens(self.profile.reordering) { DETOUR_MS } else { 0 };
        let table = &self.gossip_ms[usize::from(level).min(self.gossip_ms.len() - 1)];
        u64::from(table[self.chance.bits() as usize % QUANTILES]) + late
    }
}

/// Nodes crowd around five cities.
fn place(chance: &mut Chance) -> Place {
    const CITIES: [(f64, f64); 5] = [(20.0, 30.0), (35.0, 40.0), (75.0, 30.0), (120.0, 50.0), (60.0, 120.0)];
    let (x, y) = CITIES[chance.below(CITIES.len())];
    (x + chance.unit() * 20.0, y + chance.unit() * 20.0, 2 + chance.exponential(6.0))
}

/// What a line takes when nothing is in the way, in milliseconds.
fn line(distance: Distance, places: &[Place], from: usize, to: usize) -> u64 {
    let ((x, y, near), (u, v, far)) = (places[from], places[to]);
    match distance {
        Distance::Lan => 1,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 198 milliseconds")]
        Distance::Wan => near + far + (x - u).hypot(y - v) as u64,
    }
}

/// What a message takes beyond that, in milliseconds.
fn jitter(distance: Distance, chance: &mut Chance) -> u64 {
    match distance {
        Distance::Lan => chance.exponential(0.3),
        Distance::Wan => chance.exponential(4.0),
    }
}

/// A table of gossip delays, in milliseconds.
fn epidemics(distance: Distance, places: &[Place], overlay: &Overlay, chance: &mut Chance) -> Vec<u16> {
    let hop = |chance: &mut Chance, from, to| line(distance, places, from, to) + jitter(distance, chance);
    let arrivals = overlay.arrivals(chance, hop);
    let mut table: Vec<u16> = (0..QUANTILES)
        .map(|index| {
            // A node without peers hears nothing, whatever the table says.
            let arrival = arrivals.get(chance.below(arrivals.len())).copied().unwrap_or(1);
            slowed(arrival, index)
        })
        .collect();
    table.sort_unstable();
    table
}

/// A gossip delay times a quantile of how slow nodes are, in milliseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
#[expect(clippy::cast_precision_loss, reason = "a small table, and delays of seconds")]
fn slowed(delay: u64, index: usize) -> u16 {
    let probability = (index as f64 + 0.5) / QUANTILES as f64;
    let factor = (SLOWNESS * normal_quantile(probability)).exp();
    (delay as f64 * factor).round().clamp(1.0, 60_000.0) as u16
}

/// The standard normal quantile to three digits (Abramowitz and Stegun, 26.2.23).
fn normal_quantile(probability: f64) -> f64 {
    let tail = probability.min(1.0 - probability);
    let t = (-2.0 * tail.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    (t - above / below) * (probability - 0.5).signum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_protocol::shard::SHARD_NODES;

    /// Median and 95th percentile of gossip delays, in milliseconds.
    fn gossip(distance: Distance, nodes: usize) -> [u16; 2] {
        let links = Links::new(Profile::clean(distance), nodes, SHARD_NODES, Chance::new(1));
        [50, 95].map(|percent| links.gossip_ms[0][QUANTILES * percent / 100])
    }

    #[test]
    fn gossip_is_about_as_fast_as_was_measured() {
        // Ethereum's takes about 800 ms to 95 % of some thousand nodes, with eight neighbours; ours have half as many.
        let [median, late] = gossip(Distance::Wan, 10_000);
        assert!((300..450).contains(&median) && (800..1_200).contains(&late), "{median} {late}");
    }

    #[test]
    fn gossip_takes_longer_in_larger_meshes() {
        for distance in [Distance::Lan, Distance::Wan] {
            let medians = [10, 300, 10_000].map(|nodes| gossip(distance, nodes)[0]);
            assert!(medians.is_sorted_by(|a, b| a < b) && 2 * medians[0] < medians[2], "{medians:?}");
        }
    }

    #[test]
    fn nothing_crosses_a_partition_until_it_heals() {
        let mut links = Links::new(Profile::clean(Distance::Wan), 50, SHARD_NODES, Chance::new(1));
        links.part(0.5);
        let other = (1..50).find(|node| !links.reach(0, *node)).expect("both sides have nodes");
        assert_eq!((links.direct(0, other), links.gossip(0, other, 0)), ([None; 2], [None; 2]));
        links.heal(false);
        assert!(links.direct(0, other)[0].is_some());
    }
}
