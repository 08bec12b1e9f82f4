//! Randomness that every machine agrees on: BLAKE3's output stream, keyed by the invocation.

use shoal_protocol::id::InvocationId;

/// The stream of one run.
pub(crate) struct Random(blake3::OutputReader);

impl Random {
    pub(crate) fn new(invocation: InvocationId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("shoal wasm-1 random");
        Self(hasher.update(&invocation.0).finalize_xof())
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_depends_on_the_invocation_and_not_on_the_reads() {
        let draw = |seed: u8, cuts: &[usize]| {
            let mut random = Random::new(InvocationId([seed; 32]));
            let mut bytes = vec![0; 100];
            let mut rest = &mut bytes[..];
            for &cut in cuts {
                let (part, tail) = rest.split_at_mut(cut);
                random.fill(part);
                rest = tail;
            }
            random.fill(rest);
            bytes
        };
        assert_eq!(draw(1, &[]), draw(1, &[3, 64, 1]));
        assert_ne!(draw(1, &[]), draw(2, &[]));
    }
}
