//! What a program asked of its world: a digest of all its calls, and on request digests on the way and one call in words.
//!
//! Runs of one invocation make the same calls with the same arguments, bytes and results, on every machine. So where
//! two results differ, the first call that differs is where to look: their digests tell whether there is one, their
//! traces narrow down which it is. Calls are gathered in a buffer and hashed in bulk.

use std::fmt::Write as _;

use shoal_protocol::limits::MAX_DESCRIPTION_BYTES;
use shoal_protocol::trace::{Mark, TraceRequest, Window};

/// Bytes that are gathered before they are hashed.
const BUFFER_BYTES: usize = 64 << 10;
/// Bytes of each buffer that a description shows.
const MAX_SHOWN_BYTES: usize = 256;
/// Ends a call's record. Numbers and buffers begin with their own bytes, so that no two calls read alike.
const END: u8 = 0;
const NUMBER: u8 = 1;
const BUFFER: u8 = 2;

/// What a program asked of its world, in a few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostCalls {
    /// BLAKE3 over all calls in order: name, arguments, bytes moved, result.
    pub digest: [u8; 32],
    /// How many there were.
    pub count: u64,
}

/// What a run that is looked into noted of its calls.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    /// A digest of all calls until each point of the window.
    pub(crate) marks: Vec<Mark>,
    /// The call that was asked for.
    pub(crate) description: Option<String>,
}

/// Records calls as they are made: `begin`, what is moved, `end`.
pub(crate) struct Calls {
    hasher: blake3::Hasher,
    gathered: Vec<u8>,
    count: u64,
    tracer: Option<Box<Tracer>>,
}

struct Tracer {
    window: Window,
    describe: Option<u64>,
    noted: Noted,
}

impl Calls {
    pub(crate) fn new(request: Option<TraceRequest>) -> Self {
        let (hasher, gathered) = (blake3::Hasher::new(), Vec::new());
        Self { hasher, gathered, count: 0, tracer: request.map(Tracer::new).map(Box::new) }
    }

    /// A call of `name`, with its arguments by name.
    pub(crate) fn begin(&mut self, name: &str, arguments: &[(&str, u64)]) {
        self.take(BUFFER, name.as_bytes());
        for (_, value) in arguments {
            self.take_number(*value);
        }
        self.describe(|text| {
            let arguments: Vec<_> = arguments.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            write!(text, "{name}({})", arguments.join(", "))
        });
    }

    /// A number that the call in progress took or gave.
    pub(crate) fn number(&mut self, value: u64) {
        self.take_number(value);
        self.describe(|text| write!(text, " {value}"));
    }

    /// Bytes that the call in progress took or gave.
    pub(crate) fn moved(&mut self, bytes: &[u8]) {
        self.take(BUFFER, bytes);
        self.describe(|text| {
            let shown = &bytes[..bytes.len().min(MAX_SHOWN_BYTES)];
            let more = if shown.len() < bytes.len() { "…" } else { "" };
            write!(text, " \"{}\"{more}", shown.escape_ascii())
        });
    }

    /// The end of the call in progress.
    pub(crate) fn end(&mut self, result: u64) {
        self.take_number(result);
        self.feed(&[END]);
        self.describe(|text| write!(text, " = {result}"));
        self.count += 1;
        if self.tracer.as_ref().is_some_and(|tracer| tracer.is_point(self.count)) {
            let mark = mark(&self.so_far().digest);
            self.tracer.as_mut().expect("it was asked just now").noted.marks.push(mark);
        }
    }

    /// How many calls were made so far, and their digest.
    pub(crate) fn so_far(&mut self) -> HostCalls {
        self.flush();
        HostCalls { digest: *self.hasher.finalize().as_bytes(), count: self.count }
    }

    pub(crate) fn finish(mut self) -> (HostCalls, Noted) {
        let calls = self.so_far();
        (calls, self.tracer.map(|tracer| tracer.noted).unwrap_or_default())
    }

    fn take(&mut self, kind: u8, bytes: &[u8]) {
        self.take_head(kind, bytes.len() as u64);
        self.feed(bytes);
    }

    fn take_number(&mut self, value: u64) {
        self.take_head(NUMBER, value);
    }

    /// A kind and a number in LEB128: most are small, and hashing costs by the byte.
    fn take_head(&mut self, kind: u8, mut value: u64) {
        let (mut head, mut length) = ([kind; 11], 1);
        while value >= 0x80 {
            head[length] = value.to_le_bytes()[0] | 0x80;
            value >>= 7;
            length += 1;
        }
        head[length] = value.to_le_bytes()[0];
        self.feed(&head[..=length]);
    }

    fn feed(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() > BUFFER_BYTES {
            self.flush();
        }
        if bytes.len() > BUFFER_BYTES {
            self.hasher.update(bytes);
        } else {
            self.gathered.extend_from_slice(bytes);
        }
    }

    fn flush(&mut self) {
        self.hasher.update(&self.gathered);
        self.gathered.clear();
    }

    /// Adds to the description, if the call in progress is to have one.
    fn describe(&mut self, add: impl FnOnce(&mut String) -> std::fmt::Result) {
        let Some(tracer) = self.tracer.as_mut().filter(|tracer| tracer.describe == Some(self.count)) else {
            return;
        };
        let text = tracer.noted.description.get_or_insert_default();
        // Writing to a string does not fail.
        let _ = add(text);
        clip(text, MAX_DESCRIPTION_BYTES);
    }
}

impl Tracer {
    fn new(request: TraceRequest) -> Self {
        Self { window: request.calls, describe: request.call, noted: Noted::default() }
    }

    fn is_point(&self, passed: u64) -> bool {
        self.window.point(self.noted.marks.len()) == Some(passed)
    }
}

/// A digest, cut short.
pub(crate) fn mark(digest: &[u8; 32]) -> Mark {
    std::array::from_fn(|at| digest[at])
}

/// Shortens text to at most so many bytes.
pub(crate) fn clip(text: &mut String, limit: usize) {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Call = (u8, Vec<u64>, Vec<Vec<u8>>, u64);

    fn record(calls: &[Call], request: Option<TraceRequest>) -> (HostCalls, Noted) {
        let mut record = Calls::new(request);
        for (name, arguments, buffers, result) in calls {
            let arguments: Vec<_> = arguments.iter().map(|value| ("x", *value)).collect();
            record.begin(&format!("call{name}"), &arguments);
            buffers.iter().for_each(|bytes| record.moved(bytes));
            record.end(*result);
        }
        record.finish()
    }

    fn request(from: u64, to: u64, points: u16, call: Option<u64>) -> Option<TraceRequest> {
        let (calls, checkpoints) = (Window::between(from, to, points), Window::NOWHERE);
        Some(TraceRequest { calls, checkpoints, call, checkpoint: None })
    }

    fn call() -> impl Strategy<Value = Call> {
        let buffer = prop_oneof![prop::collection::vec(any::<u8>(), 0..20), Just(vec![7; BUFFER_BYTES + 1])];
        (0..3_u8, prop::collection::vec(0..3_u64, 0..4), prop::collection::vec(buffer, 0..3), 0..3_u64)
    }

    proptest! {
        #[test]
        fn digests_are_equal_for_equal_calls_only(a in prop::collection::vec(call(), 0..6), b in prop::collection::vec(call(), 0..6)) {
            prop_assert_eq!(record(&a, None).0 == record(&b, None).0, a == b);
        }

        #[test]
        fn marks_are_equal_until_the_first_call_that_differs(a in prop::collection::vec(call(), 1..8), at: prop::sample::Index) {
            let (mut b, at) = (a.clone(), at.index(a.len()));
            b[at].3 += 1;
            let every = request(0, a.len() as u64, 100, None);
            let (one, other) = (record(&a, every).1.marks, record(&b, every).1.marks);
            prop_assert_eq!(one.len(), a.len());
            prop_assert_eq!(one.iter().zip(&other).take_while(|(one, other)| one == other).count(), at);
            prop_assert!(one[at..].iter().zip(&other[at..]).all(|(one, other)| one != other));
        }

        #[test]
        fn a_mark_is_the_digest_of_the_calls_until_then(a in prop::collection::vec(call(), 2..8), at: prop::sample::Index) {
            let passed = at.index(a.len()) + 1;
            let noted = record(&a, request(passed as u64 - 1, passed as u64, 1, None)).1;
            prop_assert_eq!(noted.marks, vec![mark(&record(&a[..passed], None).0.digest)]);
        }
    }

    #[test]
    fn a_trace_changes_no_digest_and_describes_what_was_asked_for() {
        let calls: Vec<Call> = (0..10).map(|n| (0, vec![n], vec![b"a\n".to_vec()], n)).collect();
        let (digest, noted) = record(&calls, request(4, 20, 3, Some(8)));
        assert_eq!((digest, noted.marks.len()), (record(&calls, None).0, 1), "the run ended before the second point");
        assert_eq!(noted.description.as_deref(), Some(r#"call0(x: 8) "a\n" = 8"#));
    }

    #[test]
    fn a_long_description_is_cut() {
        let calls: Vec<Call> = vec![(0, vec![], vec![vec![0xff; 300]; 40], 0)];
        let text = record(&calls, request(0, 0, 0, Some(0))).1.description.unwrap();
        assert_eq!(text.len(), MAX_DESCRIPTION_BYTES);
    }
}
