//! What one request is to bring, and how others take their share of it.
//!
//! A request asks for all that is missing; so a small blob costs one request. Chunks leave the claim as they arrive.
//! Whoever has nothing to do takes from the end of a claim, as much as fits its speed, and the request is broken off
//! where its claim ends by then. So a slow provider holds nobody up, and nothing has to be cut into pieces beforehand.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iroh_blobs::Hash;
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt, GetRequest};

/// Bytes in a chunk, which BLAKE3 defines.
const CHUNK_BYTES: u64 = 1_024;
/// Chunks that a provider proves together. A claim is cut between groups.
const GROUP_CHUNKS: u64 = 16;
/// Blobs that one request asks for. A QUIC stream keeps at most 1,024 pieces that did not arrive in order, and breaks
/// the whole connection when there are more: a few hundred small files that wait to be read stay below that.
const MAX_PARTS: usize = 512;
/// A provider is slow if another one is so many times faster.
const SLOW: f64 = 2.0;
/// A provider that has sent nothing for this long may lose its claim to another one.
const SILENT: Duration = Duration::from_secs(1);
/// A claim is not taken over before its provider had this long to show its speed.
const TRIAL: Duration = Duration::from_millis(300);

/// A blob of the content, and which of its chunks are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Its place in the content: 0 is the root, the children of a collection follow.
    pub(super) offset: u64,
    /// The blob.
    pub(super) hash: Hash,
    /// The missing chunks.
    pub(super) ranges: ChunkRanges,
}

/// How much has to be left for it to be worth sharing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Least {
    /// Blobs that were not begun.
    pub(super) parts: usize,
    /// Bytes of the blob that is arriving.
    pub(super) bytes: u64,
}

/// What one request is to bring, in the order of the content. Clones are the same claim.
#[derive(Debug, Clone)]
pub(super) struct Claim(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What has not arrived. The first part is arriving, and its ranges shrink.
    left: VecDeque<Part>,
    /// Bytes of the blob that is arriving, as its provider says.
    size: Option<u64>,
    /// Whether the first part ends before its blob does.
    is_cut: bool,
    is_abandoned: bool,
    bytes: u64,
    begun: Instant,
    heard: Instant,
}

impl Claim {
    /// A claim on `parts`, which are in the order of the content.
    pub(super) fn new(parts: Vec<Part>, now: Instant) -> Self {
        let (left, size, bytes) = (parts.into(), None, 0);
        let (is_cut, is_abandoned) = (false, false);
        Self(Arc::new(Mutex::new(State { left, size, is_cut, is_abandoned, bytes, begun: now, heard: now })))
    }

    /// The request for all of it.
    pub(super) fn request(&self, root: Hash) -> GetRequest {
        let builder = GetRequest::builder();
        let state = self.lock();
        state.left.iter().fold(builder, |builder, part| builder.offset(part.offset, part.ranges.clone())).build(root)
    }

    /// The blob at `offset` begins. None if it is not part of the claim any more.
    pub(super) fn begin(&self, offset: u64, now: Instant) -> Option<Hash> {
        let mut state = self.lock();
        (state.size, state.heard) = (None, now);
        state.left.front().filter(|part| part.offset == offset).map(|part| part.hash)
    }

    /// How large the provider says that the blob is. This is not proven: it may only decide who asks for which end.
    pub(super) fn sized(&self, bytes: u64) {
        self.lock().size = Some(bytes);
    }

    /// Bytes from `start` to `end` of the blob have arrived. Returns whether more of it is wanted; none if not even
    /// these are, because somebody else brings them.
    pub(super) fn arrived(&self, start: u64, end: u64, now: Instant) -> Option<bool> {
        let mut state = self.lock();
        let is_cut = state.is_cut;
        let front = state.left.front_mut()?;
        if is_cut && !front.ranges.contains(&ChunkRanges::offset(start).boundaries()[0]) {
            return None;
        }
        front.ranges = front.ranges.difference(&ChunkRanges::chunks(..end.div_ceil(CHUNK_BYTES)));
        let more = !(is_cut && front.ranges.is_empty());
        (state.bytes, state.heard) = (state.bytes.saturating_add(end.saturating_sub(start)), now);
        Some(more)
    }

    /// The blob is complete, as far as it was asked for.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.left.pop_front();
        state.is_cut = false;
    }

    /// Whether it was taken over: what its provider still sends is not wanted.
    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().is_abandoned
    }

    /// Whether the other one is the same claim.
    pub(super) fn is(&self, other: &Claim) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Bytes that have arrived.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Bytes per second so far.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        self.lock().rate(now)
    }

    /// Takes all that is left.
    pub(super) fn take(&self) -> Vec<Part> {
        let mut state = self.lock();
        state.is_cut = true;
        state.left.drain(..).filter(|part| !part.ranges.is_empty()).collect()
    }

    /// What may be taken from it: blobs that were not begun, or bytes of the one that is arriving.
    pub(super) fn surplus(&self) -> (usize, u64) {
        let state = self.lock();
        (state.left.len().saturating_sub(1), state.front_bytes())
    }

    /// Takes the end of it for somebody with so many bytes per second. None if it is not worth it.
    pub(super) fn share(&self, rate: f64, least: Least, now: Instant) -> Option<Vec<Part>> {
        let mut state = self.lock();
        let own = state.rate(now);
        // Who has not shown its speed yet is taken for as fast as the other one.
        let share = if rate > 0.0 && own > 0.0 { rate / (rate + own) } else { 0.5 };
        let rest = state.left.len().saturating_sub(1);
        if rest >= least.parts {
            let taken = portion(rest as u64 + 1, share).clamp(1, rest as u64);
            let at = state.left.len() - usize::try_from(taken).unwrap_or(rest);
            return Some(state.left.split_off(at).into());
        }
        let bytes = state.front_bytes();
        if rest > 0 || bytes < least.bytes {
            return None;
        }
        state.cut(portion(bytes, share)).map(|part| vec![part])
    }

    /// Takes all of it from a provider that is slow or silent, for somebody with so many bytes per second.
    pub(super) fn take_over(&self, rate: f64, now: Instant) -> Option<Vec<Part>> {
        let is_slow = {
            let state = self.lock();
            let silent = now.saturating_duration_since(state.heard) >= SILENT;
            let tried = now.saturating_duration_since(state.begun) >= TRIAL;
            silent || (tried && rate > SLOW * state.rate(now))
        };
        let taken = if is_slow { self.take() } else { Vec::new() };
        self.lock().is_abandoned |= !taken.is_empty();
        Some(taken).filter(|taken| !taken.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn rate(&self, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.begun).as_secs_f64();
        if seconds > 0.0 { as_f64(self.bytes) / seconds } else { 0.0 }
    }

    /// What is missing of the blob that is arriving, as far as its size is known.
    fn front_bytes(&self) -> u64 {
        let (Some(front), Some(size)) = (self.left.front(), self.size) else { return 0 };
        let chunks = size.div_ceil(CHUNK_BYTES);
        spans(&front.ranges).map(|(start, end)| end.min(chunks).saturating_sub(start) * CHUNK_BYTES).sum()
    }

    /// Cuts so many bytes off the end of the blob that is arriving.
    fn cut(&mut self, bytes: u64) -> Option<Part> {
        let size = self.size?.div_ceil(CHUNK_BYTES);
        let front = self.left.front_mut()?;
        let mut chunks = bytes / CHUNK_BYTES;
        let mut at = None;
        for (start, end) in spans(&front.ranges).collect::<Vec<_>>().into_iter().rev() {
            let length = end.min(size).saturating_sub(start);
            if length >= chunks {
                at = Some((start + length - chunks).next_multiple_of(GROUP_CHUNKS));
                break;
            }
            chunks -= length;
        }
        let before = ChunkRanges::chunks(..at?);
        let taken = front.ranges.difference(&before);
        // The end stays open, whatever size the provider claims: all of the blob is asked for by somebody.
        if taken.is_empty() {
            return None;
        }
        front.ranges = front.ranges.intersection(&before);
        self.is_cut = true;
        Some(Part { offset: front.offset, hash: front.hash, ranges: taken })
    }
}

/// What nobody has claimed: parts in the order of the content, each blob once.
#[derive(Debug, Default)]
pub(super) struct Unclaimed(BTreeMap<u64, Part>);

impl Unclaimed {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, parts: Vec<Part>) {
        for part in parts {
            match self.0.entry(part.offset) {
                Entry::Occupied(mut same) => same.get_mut().ranges |= part.ranges,
                Entry::Vacant(new) => drop(new.insert(part)),
            }
        }
    }

    /// Takes the first parts: what one request may ask for. None if there are none.
    pub(super) fn take(&mut self) -> Option<Vec<Part>> {
        let parts: Vec<Part> =
            std::iter::from_fn(|| self.0.pop_first()).map(|(_, part)| part).take(MAX_PARTS).collect();
        Some(parts).filter(|parts| !parts.is_empty())
    }
}

/// The chunks of a set, as starts and ends.
fn spans(ranges: &ChunkRanges) -> impl Iterator<Item = (u64, u64)> + '_ {
    ranges.boundaries().chunks(2).map(|pair| (pair[0].0, pair.get(1).map_or(u64::MAX / CHUNK_BYTES, |end| end.0)))
}

/// A share of a number, which need not be exact.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares are positive and below the whole")]
fn portion(whole: u64, share: f64) -> u64 {
    (as_f64(whole) * share) as u64
}

#[expect(clippy::cast_precision_loss, reason = "speeds are not exact")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Least = Least { parts: 1, bytes: 64 << 10 };
    const MIB: u64 = 1 << 20;

    fn part(offset: u64, ranges: ChunkRanges) -> Part {
        Part { offset, hash: Hash::new(offset.to_le_bytes()), ranges }
    }

    fn whole_parts(count: u64) -> Vec<Part> {
        (0..count).map(|offset| part(offset, ChunkRanges::all())).collect()
    }

    /// A claim on a blob of which `arrived` of `size` bytes are here.
    fn arriving(size: u64, arrived: u64) -> (Claim, Instant) {
        let now = Instant::now();
        let claim = Claim::new(whole_parts(1), now);
        claim.begin(0, now);
        claim.sized(size);
        assert_eq!(claim.arrived(0, arrived, now), Some(true));
        (claim, now)
    }

    #[test]
    fn a_blob_that_is_arriving_is_shared_in_the_middle_of_what_is_missing() {
        let (claim, now) = arriving(10 * MIB, 2 * MIB);
        let taken = claim.share(0.0, LEAST, now).unwrap();
        assert_eq!(taken, [part(0, ChunkRanges::chunks(6 * 1_024..))]);
        assert_eq!(claim.arrived(2 * MIB, 3 * MIB, now), Some(true), "there is more to come");
        assert_eq!(claim.arrived(3 * MIB, 6 * MIB, now), Some(false), "the rest comes from somebody else");
        assert_eq!(claim.arrived(6 * MIB, 7 * MIB, now), None);
    }

    #[test]
    fn the_faster_one_takes_more() {
        let (claim, begun) = arriving(10 * MIB, 2 * MIB);
        let second = begun + Duration::from_secs(1);
        let taken = claim.share(6.0 * 1_048_576.0, LEAST, second).unwrap();
        assert_eq!(taken, [part(0, ChunkRanges::chunks(4 * 1_024..))]);
    }

    #[test]
    fn gaps_are_not_counted_nor_asked_for_again() {
        let now = Instant::now();
        let missing = ChunkRanges::chunks(0..1_024) | ChunkRanges::chunks(9 * 1_024..10 * 1_024);
        let claim = Claim::new(vec![part(0, missing)], now);
        claim.begin(0, now);
        claim.sized(10 * MIB);
        assert_eq!(claim.surplus(), (0, 2 * MIB));
        assert_eq!(claim.share(0.0, LEAST, now).unwrap(), [part(0, ChunkRanges::chunks(9 * 1_024..10 * 1_024))]);
        assert_eq!(claim.request(Hash::EMPTY).ranges[0], ChunkRanges::chunks(0..1_024));
    }

    #[test]
    fn blobs_that_were_not_begun_go_first() {
        let now = Instant::now();
        let claim = Claim::new(whole_parts(10), now);
        assert_eq!(claim.begin(0, now), Some(Hash::new(0_u64.to_le_bytes())));
        claim.sized(100 * MIB);
        let taken: Vec<u64> = claim.share(0.0, LEAST, now).unwrap().iter().map(|part| part.offset).collect();
        assert_eq!(taken, [5, 6, 7, 8, 9]);
        for offset in 0..5 {
            assert!(claim.begin(offset, now).is_some(), "{offset}");
            claim.end();
        }
        assert!(claim.take().is_empty() && claim.begin(5, now).is_none());
    }

    #[test]
    fn many_blobs_are_asked_for_in_several_requests() {
        let mut unclaimed = Unclaimed::default();
        unclaimed.add(whole_parts(MAX_PARTS as u64 + 1));
        assert_eq!(unclaimed.take().unwrap().len(), MAX_PARTS);
        assert_eq!(unclaimed.take().unwrap().len(), 1);
        assert!(unclaimed.take().is_none() && unclaimed.is_empty());
    }

    #[test]
    fn what_is_not_worth_a_request_is_not_shared() {
        let (claim, now) = arriving(10 * MIB, 10 * MIB - 1_024);
        assert_eq!(claim.share(0.0, LEAST, now), None);
        let (unknown, now) = (Claim::new(whole_parts(1), now), now);
        assert_eq!(unknown.share(0.0, LEAST, now), None, "nobody said how large it is");
    }

    #[test]
    fn a_slow_or_silent_provider_loses_its_claim_and_a_fast_one_does_not() {
        let (claim, begun) = arriving(10 * MIB, MIB);
        assert_eq!(claim.take_over(1e12, begun), None, "it had no time yet");
        let later = begun + TRIAL;
        let rate = claim.rate(later);
        assert_eq!(claim.take_over(1.9 * rate, later), None);
        let taken = claim.take_over(2.1 * rate, later).unwrap();
        assert_eq!(taken, [part(0, ChunkRanges::chunks(1_024..))]);
        assert_eq!(claim.arrived(MIB, MIB + 1_024, later), None);

        let (silent, begun) = arriving(10 * MIB, MIB);
        assert!(silent.take_over(0.0, begun + SILENT).is_some());
    }

    #[test]
    fn a_claimed_size_never_leaves_out_a_chunk() {
        for size in [1, 1_024, 5 * MIB, u64::MAX / 2, u64::MAX] {
            let (claim, now) = arriving(size, 0);
            let Some(taken) = claim.share(0.0, LEAST, now) else { continue };
            let left = claim.take();
            let mut both = Unclaimed::default();
            both.add([left.clone(), taken.clone()].concat());
            assert_eq!(both.take(), Some(whole_parts(1)), "{size}");
            assert!(left[0].ranges.is_disjoint(&taken[0].ranges), "{size}");
        }
    }
}
