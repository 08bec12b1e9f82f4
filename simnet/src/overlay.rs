//! Who forwards gossip to whom, and how long it takes to get everywhere that way.
//!
//! A node says something to all that it is connected with, and every node forwards it to its neighbours at once, so a
//! message needs about as many hops as the logarithm of the number of nodes says. A run is not simulated hop by hop:
//! delays are drawn from those of some messages that were.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use shoal_protocol::limits::{GOSSIP_DEGREE, GOSSIP_PEERS};

use crate::chance::Chance;

/// Neighbours that each node chooses. It is chosen by as many.
const CHOSEN: usize = GOSSIP_DEGREE / 2;
/// Arrivals that are looked at.
const ARRIVALS: usize = 10_000;
/// Fewest messages that are followed, each from another node.
const MESSAGES: usize = 4;

/// The graph of who forwards to whom.
#[derive(Debug)]
pub(crate) struct Overlay(Vec<Vec<u32>>);

impl Overlay {
    /// A random graph of so many nodes.
    pub(crate) fn new(nodes: usize, chance: &mut Chance) -> Self {
        let mut neighbours = vec![Vec::new(); nodes];
        for node in 1..nodes {
            for choice in 0..CHOSEN {
                // The first is one that was there before, as for a node that joins: so everybody is connected.
                let other = chance.below(if choice == 0 { node } else { nodes });
                if other != node && !neighbours[node].contains(&number(other)) {
                    neighbours[node].push(number(other));
                    neighbours[other].push(number(node));
                }
            }
        }
        Self(neighbours)
    }

    /// Those that a node exchanges gossip with.
    pub(crate) fn neighbours(&self, node: usize) -> impl Iterator<Item = usize> {
        self.0[node].iter().map(|other| *other as usize)
    }

    /// Delays after which some messages reach nodes; `hop` draws the delay between two neighbours.
    pub(crate) fn arrivals(&self, chance: &mut Chance, hop: impl Fn(&mut Chance, usize, usize) -> u64) -> Vec<u64> {
        let messages = ARRIVALS.div_ceil(self.0.len().max(1)).max(MESSAGES);
        let mut arrivals = Vec::new();
        for _ in 0..messages {
            let source = chance.below(self.0.len());
            let others: Vec<usize> = (GOSSIP_DEGREE..GOSSIP_PEERS).map(|_| chance.below(self.0.len())).collect();
            arrivals.extend(self.spread(source, &others, |from, to| hop(chance, from, to)));
        }
        arrivals
    }

    /// Delays after which one message reaches everybody else: the fastest way counts. It is said to the neighbours of its
    /// source and to some others.
    fn spread(
        &self,
        source: usize,
        others: &[usize],
        mut hop: impl FnMut(usize, usize) -> u64,
    ) -> impl Iterator<Item = u64> {
        let mut arrived = vec![None; self.0.len()];
        let mut on_their_way = BinaryHeap::from([(Reverse(0), source)]);
        while let Some((Reverse(at), node)) = on_their_way.pop() {
            if arrived[node].is_some() {
                continue;
            }
            arrived[node] = Some(at);
            let others = others.iter().copied().filter(|_| node == source);
            for next in self.neighbours(node).chain(others).filter(|next| arrived[*next].is_none()) {
                on_their_way.push((Reverse(at + hop(node, next)), next));
            }
        }
        arrived.into_iter().enumerate().filter(move |(node, _)| *node != source).filter_map(|(_, at)| at)
    }
}

fn number(node: usize) -> u32 {
    u32::try_from(node).expect("fewer than four billion nodes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean number of hops in a mesh of so many nodes.
    fn hops(nodes: usize) -> f64 {
        let mut chance = Chance::new(1);
        let overlay = Overlay::new(nodes, &mut chance);
        let arrivals = overlay.arrivals(&mut chance, |_, _, _| 1);
        assert_eq!(arrivals.len() % (nodes - 1), 0, "a message did not reach everybody");
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let mean = arrivals.iter().sum::<u64>() as f64 / arrivals.len() as f64;
        mean
    }

    #[test]
    fn hops_grow_with_the_logarithm_of_the_mesh() {
        let [small, large, huge] = [hops(10), hops(1_000), hops(10_000)];
        assert!((1.0..2.0).contains(&small), "{small}");
        assert!((3.0..5.0).contains(&large), "{large}");
        assert!((0.7..2.0).contains(&(huge - large)), "{large} and {huge}");
    }
}
