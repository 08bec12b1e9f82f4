//! Whom an announcement is for: those with an executor of its class, in one part of the mesh after another.
//!
//! The key space is cut into four, each part into four again, and so on. A node's place in it is a hash of its name, the
//! same that the DHT uses, so whoever is near in the routing table is near here too. A *shard* of level `l` is the part of
//! the key space that agrees with a place in its first `2l` bits: level 0 is the whole mesh. A requester begins with its own
//! shard of the deepest level that still has enough nodes, and widens to the one around it while too few bid.

use crate::limits::MAX_LEVEL;
use crate::message::{Announce, ExecutorKind};

/// Bits of a place that one level more tells apart.
const BITS: u32 = 2;

/// Nodes that a shard has at least where announcements begin, as far as its size can be guessed: enough for any auction,
/// and for reasons if nobody bids.
pub const SHARD_NODES: u32 = 256;

/// Those who hear an announcement and the bids that answer it: the nodes with an executor of this class in the
/// requester's shard of this level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Audience {
    /// The class of executors.
    pub class: ExecutorKind,
    /// How often the mesh is cut, from 0.
    pub level: u8,
}

impl Announce {
    /// Whom it is for.
    pub fn audience(&self) -> Audience {
        Audience { class: self.needs.executor, level: self.level }
    }
}

/// A part of the key space: the first bits of the places in it, and how many they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    level: u8,
    prefix: u32,
}

impl Shard {
    /// The shard of `level` around a place. Levels beyond [`MAX_LEVEL`] are that one.
    pub fn around(place: &[u8; 32], level: u8) -> Self {
        let level = level.min(MAX_LEVEL);
        let first = u32::from_be_bytes([place[0], place[1], place[2], place[3]]);
        Self { level, prefix: first.checked_shr(u32::BITS - BITS * u32::from(level)).unwrap_or(0) }
    }

    /// Whether a place lies in it.
    pub fn contains(self, place: &[u8; 32]) -> bool {
        Self::around(place, self.level) == self
    }

    /// Its name among those of its level: a digit from 0 to 3 for each cut, none for the whole.
    pub fn digits(self) -> String {
        let digit = |cut: u8| (self.prefix >> (BITS * u32::from(self.level - 1 - cut))) & 3;
        (0..self.level).map(|cut| char::from_digit(digit(cut), 4).unwrap_or_default()).collect()
    }
}

/// The level with which a requester begins in a mesh of `mesh_size` nodes whose shards have at least `shard_nodes`.
pub fn first_level(mesh_size: u32, shard_nodes: u32) -> u8 {
    (1..=MAX_LEVEL).take_while(|level| nodes(mesh_size, *level) >= shard_nodes.max(2)).last().unwrap_or(0)
}

/// The deepest level that a node hears which hears `now` those up to it. Estimates differ, by half or twice as much and more:
/// a node hears a level before its own estimate says so, and goes on for a while when it does not any more.
pub fn deepest_level(mesh_size: u32, shard_nodes: u32, now: u8) -> u8 {
    let enters = first_level(mesh_size.saturating_mul(2), shard_nodes);
    let leaves = first_level(mesh_size.saturating_mul(4), shard_nodes);
    now.clamp(enters, leaves)
}

/// How many of `mesh_size` nodes a shard of this level has, itself included.
pub fn nodes(mesh_size: u32, level: u8) -> u32 {
    mesh_size.checked_shr(BITS * u32::from(level)).unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_mesh_is_cut_when_its_parts_would_be_large_enough() {
        let levels = [1, 1_023, 1_024, 4_095, 4_096, 100_000, 10_000_000];
        assert_eq!(levels.map(|size| first_level(size, SHARD_NODES)), [0, 0, 1, 1, 2, 4, 7]);
        assert_eq!([0, 1, u32::MAX].map(|size| first_level(size, 0)), [0, 0, MAX_LEVEL]);
        assert_eq!(nodes(100_000, 4), 390);
    }

    #[test]
    fn shards_are_named_by_the_cuts_that_lead_to_them() {
        let mut place = [0; 32];
        place[..2].copy_from_slice(&[0b00_01_10_11, 0b11_00_00_00]);
        let names = [0, 1, 4, 5].map(|level| Shard::around(&place, level).digits());
        assert_eq!(names, ["", "0", "0123", "01233"]);
    }

    #[test]
    fn a_level_is_heard_early_and_left_late() {
        let deepest = |now, sizes: [u32; 4]| {
            sizes.into_iter().scan(now, |now, size| {
                *now = deepest_level(size, SHARD_NODES, *now);
                Some(*now)
            })
        };
        assert_eq!(deepest(0, [511, 512, 1_024, 300]).collect::<Vec<_>>(), [0, 1, 1, 1]);
        assert_eq!(deepest(1, [1_024, 256, 255, 300]).collect::<Vec<_>>(), [1, 1, 0, 0]);
    }

    proptest! {
        #[test]
        fn each_shard_lies_in_the_one_around_it(place: [u8; 32], other: [u8; 32], level in 0..=MAX_LEVEL) {
            let shard = Shard::around(&place, level);
            prop_assert!(shard.contains(&place));
            prop_assert_eq!(shard.digits().len(), usize::from(level));
            if shard.contains(&other) {
                prop_assert!((0..level).all(|wider| Shard::around(&place, wider).contains(&other)));
            }
        }

        #[test]
        fn whoever_is_wrong_by_a_factor_of_less_than_two_is_heard(size in 1..10_000_000u32, error in 1.0..1.99f64, now in 0..=MAX_LEVEL) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a guess")]
            let more = (f64::from(size) * error) as u32;
            prop_assert!(first_level(more, SHARD_NODES) <= deepest_level(size, SHARD_NODES, now));
        }
    }
}
