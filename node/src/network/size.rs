//! How many nodes the mesh has, guessed from how close the closest ones are.
//!
//! Names are hashed evenly over the key space. If the `k` closest peers lie within a fraction `d` of it, the whole
//! space holds about `k / d`. A routing table is complete near its own node, so this needs no message.

/// How many of the closest peers are looked at. A small mesh is counted instead.
pub(super) const CLOSEST: usize = 20;

/// Nodes in the mesh, this one included: counted while `known` peers are few, else from the distance of the
/// [`CLOSEST`]-th closest peer as a fraction of the key space.
pub(super) fn estimate(known: usize, distance: Option<f64>) -> u32 {
    let counted = known.saturating_add(1);
    let density = match distance {
        Some(distance) if known >= CLOSEST && distance > 0.0 => CLOSEST as f64 / distance,
        _ => 0.0,
    };
    // The cast saturates, and the mesh has at least the nodes that we know.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let guessed = density as u32;
    guessed.max(u32::try_from(counted).unwrap_or(u32::MAX))
}

/// A distance in the 256-bit key space, as a fraction of the space.
pub(super) fn fraction(big_endian: &[u8; 32]) -> f64 {
    big_endian.iter().take(8).rev().fold(0.0, |fraction, byte| (fraction + f64::from(*byte)) / 256.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The estimate in a mesh of `nodes` evenly named nodes, when everybody near is known.
    fn in_a_mesh_of(nodes: u32, seed: u64) -> u32 {
        let mut distances: Vec<f64> = (1..nodes)
            .map(|n| {
                let hash = shoal_protocol::id::BlobHash::of(&[seed.to_le_bytes(), u64::from(n).to_le_bytes()].concat());
                fraction(&hash.0)
            })
            .collect();
        distances.sort_by(f64::total_cmp);
        estimate(distances.len().min(100), distances.get(CLOSEST - 1).copied())
    }

    #[test]
    fn a_small_mesh_is_counted() {
        assert_eq!((1..=20).map(|nodes| in_a_mesh_of(nodes, 0)).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    }

    #[test]
    fn a_distance_is_a_fraction_of_the_space() {
        let mut half = [0; 32];
        half[0] = 128;
        assert_eq!(fraction(&half), 0.5);
        assert_eq!(fraction(&[0; 32]), 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_large_mesh_is_guessed_within_a_factor_of_three(nodes in 100u32..20_000, seed: u64) {
            let guess = f64::from(in_a_mesh_of(nodes, seed)) / f64::from(nodes);
            prop_assert!((0.33..3.0).contains(&guess), "guessed {guess} of {nodes}");
        }
    }
}
