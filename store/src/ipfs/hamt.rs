//! Where a name lies in a sharded folder.

/// The place of `name` in the table `depth` levels down, with `bits` for each level; none when the hash is used up.
pub(crate) fn place(name: &str, depth: u32, bits: u32) -> Option<u32> {
    let used = depth.checked_mul(bits)?;
    let left = 64_u32.checked_sub(used.checked_add(bits)?)?;
    // The first bits decide first.
    u32::try_from((murmur3(name.as_bytes()) >> left) & ((1 << bits) - 1)).ok()
}

/// The first half of murmur3's 128 bits (x64, seed 0), after Austin Appleby's MurmurHash3.cpp. The crates that have it
/// are unmaintained.
fn murmur3(bytes: &[u8]) -> u64 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mix1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let (mut h1, mut h2) = (0_u64, 0_u64);
    let mut blocks = bytes.chunks_exact(16);
    for block in &mut blocks {
        let (k1, k2) = block.split_at(8);
        h1 ^= mix1(little_endian(k1));
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= mix2(little_endian(k2));
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let tail = blocks.remainder();
    let (k1, k2) = tail.split_at(tail.len().min(8));
    h2 ^= mix2(little_endian(k2));
    h1 ^= mix1(little_endian(k1));
    h1 ^= bytes.len() as u64;
    h2 ^= bytes.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    finish(h1).wrapping_add(finish(h2))
}

fn finish(mut h: u64) -> u64 {
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// At most eight bytes as a number, the first the least.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_others() {
        // From the implementation that Helia uses (`murmur3128` of @multiformats/murmur3), first eight bytes.
        for (text, hash) in VECTORS {
            assert_eq!(murmur3(text.as_bytes()), *hash, "{text:?}");
        }
    }

    #[test]
    fn a_place_is_found_by_the_first_bits_first_until_they_are_used_up() {
        let hash = murmur3(b"name");
        assert_eq!(place("name", 0, 8), Some((hash >> 56) as u32));
        assert_eq!(place("name", 7, 8), Some((hash & 0xff) as u32));
        assert_eq!(place("name", 8, 8), None);
        assert_eq!(place("name", u32::MAX, 8), None);
        assert_eq!(place("name", 6, 10), None);
    }

    const VECTORS: &[(&str, u64)] = &[
        ("", 0),
        ("a", 0x8555_5565_f659_7889),
        ("hello", 0xcbd8_a7b3_41bd_9b02),
        ("12345678", 0x3b4a_6406_38b1_419c),
        ("file-00017.txt", 0xf25f_6ab9_f885_e0f8),
        ("0123456789abcdef", 0x4be0_6d94_cf4a_d1a7),
        ("a longer name than sixteen bytes.tar.gz", 0x115e_6210_b0ef_ef01),
    ];
}
