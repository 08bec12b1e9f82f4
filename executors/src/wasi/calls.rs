//! What a program asked of its world: a digest of all its calls, and on request a log of them.
//!
//! Runs of one invocation make the same calls with the same arguments, bytes and results, on every machine. So where
//! two results differ, the first call that differs is where to look: their digests tell whether there is one, their
//! traces which it is. Calls are gathered in a buffer and hashed in bulk.

use std::fmt::Write as _;

/// Bytes that are gathered before they are hashed.
const BUFFER_BYTES: usize = 64 << 10;
/// Most calls that one trace logs; a later window needs another run.
pub const MAX_LOGGED: usize = 4 << 20;
/// Longest description of a call, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 4 << 10;
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

/// Which calls are recorded one by one. Calls are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceRequest {
    /// The first call to log.
    pub from: u64,
    /// How many are logged, at most [`MAX_LOGGED`].
    pub calls: usize,
    /// The call to describe.
    pub describe: Option<u64>,
}

/// A run's calls, one by one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    /// The number of the first call in the log.
    pub from: u64,
    /// The first 8 bytes of BLAKE3 over each call.
    pub hashes: Vec<[u8; 8]>,
    /// The call that was asked for: name, arguments, bytes moved, result.
    pub description: Option<String>,
}

impl Trace {
    /// The number of the first call in which two runs differ, as far as both logs go. A run that made fewer calls
    /// differs where it made none.
    pub fn first_difference(&self, other: &Trace) -> Option<u64> {
        let same = self.hashes.iter().zip(&other.hashes).take_while(|(mine, theirs)| mine == theirs).count();
        (same < self.hashes.len().max(other.hashes.len())).then_some(self.from + same as u64)
    }
}

/// Records calls as they are made: `begin`, what is moved, `end`.
pub(crate) struct Calls {
    hasher: blake3::Hasher,
    gathered: Vec<u8>,
    count: u64,
    tracer: Option<Box<Tracer>>,
}

struct Tracer {
    request: TraceRequest,
    /// Of the call in progress.
    hasher: blake3::Hasher,
    hashes: Vec<[u8; 8]>,
    description: Option<String>,
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
        if let Some(tracer) = &mut self.tracer {
            tracer.end(self.count);
        }
        self.count += 1;
    }

    pub(crate) fn finish(mut self) -> (HostCalls, Option<Trace>) {
        self.flush();
        let calls = HostCalls { digest: *self.hasher.finalize().as_bytes(), count: self.count };
        let trace = self.tracer.map(|tracer| {
            let Tracer { request, hashes, description, .. } = *tracer;
            Trace { from: request.from, hashes, description }
        });
        (calls, trace)
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
        if let Some(tracer) = &mut self.tracer {
            tracer.hasher.update(bytes);
        }
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
        let Some(tracer) = self.tracer.as_mut().filter(|tracer| tracer.request.describe == Some(self.count)) else {
            return;
        };
        let text = tracer.description.get_or_insert_default();
        if text.len() < MAX_DESCRIPTION_BYTES {
            // Writing to a string does not fail.
            let _ = add(text);
        }
    }
}

impl Tracer {
    fn new(request: TraceRequest) -> Self {
        let request = TraceRequest { calls: request.calls.min(MAX_LOGGED), ..request };
        Self { request, hasher: blake3::Hasher::new(), hashes: Vec::new(), description: None }
    }

    fn end(&mut self, number: u64) {
        if number >= self.request.from && self.hashes.len() < self.request.calls {
            let hash = self.hasher.finalize();
            self.hashes.push(std::array::from_fn(|at| hash.as_bytes()[at]));
        }
        self.hasher.reset();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Call = (u8, Vec<u64>, Vec<Vec<u8>>, u64);

    fn record(calls: &[Call], request: Option<TraceRequest>) -> (HostCalls, Option<Trace>) {
        let mut record = Calls::new(request);
        for (name, arguments, buffers, result) in calls {
            let arguments: Vec<_> = arguments.iter().map(|value| ("x", *value)).collect();
            record.begin(&format!("call{name}"), &arguments);
            buffers.iter().for_each(|bytes| record.moved(bytes));
            record.end(*result);
        }
        record.finish()
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
        fn traces_name_the_first_call_that_differs(a in prop::collection::vec(call(), 1..8), at: prop::sample::Index, from in 0..3_u64) {
            let request = Some(TraceRequest { from, calls: 100, describe: None });
            let (mut b, at) = (a.clone(), at.index(a.len()));
            b[at].3 += 1;
            let (one, other) = (record(&a, request).1.unwrap(), record(&b, request).1.unwrap());
            prop_assert_eq!(one.first_difference(&one), None);
            prop_assert_eq!(one.first_difference(&other), (at as u64 >= from).then_some(at as u64));
        }
    }

    #[test]
    fn a_trace_is_a_window_and_changes_no_digest() {
        let calls: Vec<Call> = (0..10).map(|n| (0, vec![n], vec![b"a\n".to_vec()], n)).collect();
        let request = TraceRequest { from: 4, calls: 3, describe: Some(8) };
        let (digest, trace) = record(&calls, Some(request));
        let trace = trace.unwrap();
        assert_eq!((digest, trace.from, trace.hashes.len()), (record(&calls, None).0, 4, 3));
        assert_eq!(trace.description.as_deref(), Some(r#"call0(x: 8) "a\n" = 8"#));
    }

    #[test]
    fn a_run_that_stops_earlier_differs_where_it_made_no_call() {
        let calls: Vec<Call> = (0..10).map(|n| (0, vec![n], vec![], n)).collect();
        let request = Some(TraceRequest { calls: 100, ..TraceRequest::default() });
        let (whole, part) = (record(&calls, request).1.unwrap(), record(&calls[..6], request).1.unwrap());
        assert_eq!(part.first_difference(&whole), Some(6));
    }
}
