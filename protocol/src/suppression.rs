//! When to bid: random timers that let a few good bids speak and keep the rest of the mesh silent.
//!
//! Exponential suppression (Nonnenmacher and Biersack, IEEE/ACM ToN 7(3), 1999; RFC 5401): with N nodes of which k are
//! wanted, λ = ln(N/k) + 1 and u uniform in (0, 1), a node speaks at `t = (T/λ)·ln(1 + u(e^λ − 1))`, unless it has heard
//! enough bids at least as good. With T in proportion to delay·λ the number of bids does not grow with N, if the delay
//! is that of gossip, which takes more hops in a larger mesh and longer on busy machines. Theirs is for k = 1; where more
//! are wanted, timers may end k times as early at the same growth, which saves time and costs half a bid. The bias by cost
//! (Widmer and Fuhrmann, extremum feedback) lets better offers speak first.

use crate::limits::{MAX_WINDOW_MS, MIN_WINDOW_MS};
use crate::time::Millis;

/// The share of the window that cost decides; chance decides the rest.
const BIAS: f64 = 0.28;
/// The window in units of delay·λ; shorter ones let more speak, see `docs/PERFORMANCE.md`.
const WINDOW_PER_DELAY: f64 = 4.0;
/// How many times as many nodes each hop reaches as the one before. A node forwards to four others as a rule, but the
/// quickest of many ways counts, and the first hop reaches all that are connected: simulated meshes of 10 to 10,000
/// nodes need ln N / ln 6 hops, from a fifth fewer to a third more.
const GROWTH_PER_HOP: f64 = 6.0;
/// Meshes are not believed to be larger than this, so that a liar's estimate cannot stretch the timers.
const MAX_MESH: u32 = 100_000_000;

/// How many hops gossip takes to most of a mesh of so many nodes: about as many as the logarithm of the mesh's size says.
pub fn hops(mesh_size: u32) -> f64 {
    (f64::from(mesh_size.clamp(1, MAX_MESH)).ln() / GROWTH_PER_HOP.ln()).max(1.0)
}

/// How long gossip takes to most of a mesh of `mesh_size` nodes when each hop takes `hop_ms`.
pub fn gossip_delay(mesh_size: u32, hop_ms: u32) -> Millis {
    millis(hops(mesh_size) * f64::from(hop_ms.max(1)))
}

/// How long bids are collected in a mesh of which so many are `wanted`, when gossip takes so long to most of it.
pub fn window(gossip_ms: Millis, mesh_size: u32, wanted: u16) -> Millis {
    #[expect(clippy::cast_precision_loss, reason = "delays are seconds, not centuries")]
    let window = WINDOW_PER_DELAY * gossip_ms as f64 * lambda(mesh_size, wanted);
    millis(window).clamp(MIN_WINDOW_MS, MAX_WINDOW_MS)
}

/// When to speak, in milliseconds after the announcement was heard: before the window ends.
///
/// `chance` is uniform in [0, 1) and `cost` is the node's own, from 0 (best) to 1.
pub fn bid_delay(window_ms: Millis, mesh_size: u32, wanted: u16, cost: f64, chance: f64) -> Millis {
    let lambda = lambda(mesh_size, wanted);
    let spread = (chance.clamp(0.0, 1.0) * lambda.exp_m1()).ln_1p() / lambda;
    let share = (1.0 - BIAS) * spread + BIAS * cost.clamp(0.0, 1.0);
    #[expect(clippy::cast_precision_loss, reason = "windows are seconds, not centuries")]
    millis(window_ms as f64 * share)
}

/// Whether a node that would refuse should say so, when about `wanted` of `mesh_size` nodes should.
pub fn should_refuse(wanted: u16, mesh_size: u32, chance: f64) -> bool {
    chance * f64::from(mesh_size.max(1)) < f64::from(wanted)
}

fn lambda(mesh_size: u32, wanted: u16) -> f64 {
    (f64::from(mesh_size.clamp(1, MAX_MESH)) / f64::from(wanted.max(1))).max(1.0).ln() + 1.0
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range first")]
fn millis(value: f64) -> Millis {
    value.clamp(0.0, 1e15).round() as Millis
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_speak_early_in_a_large_mesh() {
        for wanted in [1, 3] {
            let window = window(1_000, 10_000, wanted);
            let delay = |i| bid_delay(window, 10_000, wanted, 0.0, f64::from(i) / 1e4);
            let early = (0..10_000u32).filter(|i| delay(*i) < window / 3).count();
            assert!((1..100).contains(&early), "{early} of 10,000 would speak in the first third");
        }
    }

    #[test]
    fn whoever_is_wanted_may_speak_before_a_bid_could_be_heard() {
        for (nodes, wanted) in [(10, 3), (10_000, 3), (10_000, 40)] {
            let window = window(100, nodes, wanted);
            let delay = |i| bid_delay(window, nodes, wanted, 0.0, f64::from(i) / f64::from(nodes));
            let spoken = |by| (0..nodes).filter(|i| delay(*i) < by).count();
            // The number of timers that have ended grows by e in 2.88 delays.
            assert!((usize::from(wanted) - 1..=usize::from(wanted) + 1).contains(&spoken(380)), "{}", spoken(380));
        }
    }

    #[test]
    fn a_cheap_node_speaks_before_a_dear_one_with_the_same_luck() {
        assert!(bid_delay(1_000, 50, 3, 0.0, 0.5) < bid_delay(1_000, 50, 3, 1.0, 0.5));
    }

    #[test]
    fn refusals_stay_few_in_a_large_mesh_and_all_come_from_a_small_one() {
        assert!((0..1_000).all(|i| should_refuse(16, 5, f64::from(i) / 1e3)));
        let many = (0..100_000).filter(|i| should_refuse(16, 100_000, f64::from(*i) / 1e5)).count();
        assert_eq!(many, 16);
    }

    #[test]
    fn a_small_mesh_is_one_hop_wide_and_a_large_one_more() {
        assert_eq!([1, 2, 6, 36, 7_776].map(|nodes| gossip_delay(nodes, 80)), [80, 80, 80, 160, 400]);
        assert_eq!((window(1, 5, 3), gossip_delay(0, 0)), (6, 1));
    }

    proptest! {
        #[test]
        fn every_timer_ends_within_the_window(
            size in any::<u32>(), wanted in any::<u16>(), delay in 0..100_000_u64, cost in -1.0..2.0f64, chance in 0.0..1.0f64,
        ) {
            let window = window(delay, size, wanted);
            prop_assert!((MIN_WINDOW_MS..=MAX_WINDOW_MS).contains(&window));
            prop_assert!(bid_delay(window, size, wanted, cost, chance) <= window);
        }
    }
}
