//! What a run that is looked into leaves behind, and where two runs of one invocation part.
//!
//! Runs of one invocation make the same calls and have the same memory at the same checkpoints, on every machine. A
//! run is digested at a few points; where two such traces part lies between two points, and the next pair of runs is
//! digested there only. So the first call that differs is found among any number of calls within few runs.

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_BACKTRACE_BYTES, MAX_DESCRIPTION_BYTES, MAX_TRACE_POINTS};
use crate::task::{Account, Claim};

/// A digest, cut short: it tells two honest runs apart, and is nobody's evidence.
pub type Mark = [u8; 8];

/// Memory that is hashed for the checkpoints of one run, in bytes: a few seconds' work.
const HASHED_BYTES: u64 = 8 << 30;
/// Fewest checkpoints of one run, however large its memory is.
const LEAST_CHECKPOINTS: u16 = 16;

/// Evenly spaced points of a run, counted in calls or checkpoints: after `from`, the last one at `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Where it begins: what is before is known to be the same, or was looked at by nobody.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// How many points there are: at most one a step, and at most [`MAX_TRACE_POINTS`].
    pub points: u16,
}

/// What a run is to note of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRequest {
    /// After which calls of host functions.
    pub calls: Window,
    /// At which checkpoints: the ends of slices of fuel.
    pub checkpoints: Window,
    /// The call to describe, counted from 0.
    pub call: Option<u64>,
    /// The checkpoint to describe, counted from 0.
    pub checkpoint: Option<u64>,
}

/// What a run noted of itself. A run that ended before a point has no mark for it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// At each point a digest of all calls until then.
    pub calls: Vec<Mark>,
    /// At each point a digest of memory, calls and fuel.
    pub checkpoints: Vec<Mark>,
    /// Checkpoints that the run passed.
    pub checkpoints_passed: u64,
    /// The call that was asked for: name, arguments, bytes moved, result.
    pub call: Option<String>,
    /// The checkpoint that was asked for.
    pub checkpoint: Option<Checkpoint>,
}

/// Where a program was at the end of a slice of fuel, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Fuel used until then.
    pub fuel: u64,
    /// Calls made until then.
    pub calls: u64,
    /// Size of the memory, in bytes.
    pub memory_bytes: u64,
    /// The functions that it was in, innermost first, a line each.
    pub backtrace: String,
}

/// What came of a run that was looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rerun {
    /// How it ended and what it left.
    pub claim: Claim,
    /// What it used and called.
    pub account: Account,
    /// What it noted.
    pub trace: Trace,
}

/// Narrows down where two runs part: one [`request`](Self::request) to both, then [`compare`](Self::compare).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Among the calls of host functions.
    pub calls: Finding,
    /// Among the checkpoints.
    pub checkpoints: Finding,
    /// Comparisons so far.
    rounds: u32,
}

/// How far a search has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The first difference is in this window, if there is one.
    Within(Window),
    /// The first that differs, counted from 0; one of the runs may have ended before it.
    First(u64),
    /// There is no difference.
    Same,
    /// One of the two did not do again what it had done before.
    Unsteady,
}

/// One run's part of a comparison.
struct Side<'a> {
    marks: &'a [Mark],
    total: u64,
    end: Option<&'a [u8; 32]>,
}

impl Window {
    /// No point at all.
    pub const NOWHERE: Self = Self { from: 0, to: 0, points: 0 };

    /// At most so many points between two places.
    pub fn between(from: u64, to: u64, points: u16) -> Self {
        let span = u16::try_from(to.saturating_sub(from)).unwrap_or(u16::MAX);
        Self { from, to, points: points.min(MAX_TRACE_POINTS).min(span) }
    }

    /// A point by its number, from 0: how many calls or checkpoints have passed there. None beyond the last.
    pub fn point(&self, number: usize) -> Option<u64> {
        let number = u16::try_from(number).ok().filter(|number| *number < self.points)?;
        let span = u128::from(self.to.saturating_sub(self.from));
        let steps = span * (u128::from(number) + 1) / u128::from(self.points);
        Some(self.from + u64::try_from(steps).expect("a part of the span"))
    }

    fn is_sound(&self) -> bool {
        self.points <= MAX_TRACE_POINTS
            && self.to.checked_sub(self.from).is_some_and(|span| u64::from(self.points) <= span)
    }
}

impl TraceRequest {
    /// Nothing but how much there was.
    pub const NOTHING: Self =
        Self { calls: Window::NOWHERE, checkpoints: Window::NOWHERE, call: None, checkpoint: None };

    /// Whether its windows are within their limits.
    pub fn is_sound(&self) -> bool {
        self.calls.is_sound() && self.checkpoints.is_sound()
    }
}

impl Trace {
    /// Whether its parts are within their limits.
    pub fn is_sound(&self) -> bool {
        let marks = [self.calls.len(), self.checkpoints.len()];
        let backtrace = self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.backtrace.len());
        marks.iter().all(|marks| *marks <= usize::from(MAX_TRACE_POINTS))
            && self.call.as_ref().map_or(0, String::len) <= MAX_DESCRIPTION_BYTES
            && backtrace <= MAX_BACKTRACE_BYTES
    }
}

impl Search {
    /// A search for the place where others part from a run that made so many calls and checkpoints and had so much
    /// memory, in bytes.
    pub fn new(calls: u64, checkpoints: u64, memory_bytes: u64) -> Self {
        let affordable = u16::try_from(HASHED_BYTES / memory_bytes.max(1)).unwrap_or(u16::MAX);
        let points = affordable.clamp(LEAST_CHECKPOINTS, MAX_TRACE_POINTS);
        Self {
            calls: Finding::Within(Window::between(0, calls, MAX_TRACE_POINTS)),
            checkpoints: Finding::Within(Window::between(0, checkpoints, points)),
            rounds: 0,
        }
    }

    /// What both runs are to note next.
    pub fn request(&self) -> TraceRequest {
        let ((calls, call), (checkpoints, checkpoint)) = (self.calls.ask(), self.checkpoints.ask());
        TraceRequest { calls, checkpoints, call, checkpoint }
    }

    /// Whether nothing is left to narrow down.
    pub fn is_over(&self) -> bool {
        ![self.calls, self.checkpoints].iter().any(|finding| matches!(finding, Finding::Within(_)))
    }

    /// Whether some call or checkpoint was found to differ.
    pub fn found_something(&self) -> bool {
        [self.calls, self.checkpoints].iter().any(|finding| matches!(finding, Finding::First(_)))
    }

    /// Narrows down with what two runs noted when asked for [`request`](Self::request).
    pub fn compare(&mut self, ours: &Rerun, theirs: &Rerun) {
        self.calls = self.calls.narrow(self.rounds, &ours.by_calls(), &theirs.by_calls());
        self.checkpoints = self.checkpoints.narrow(self.rounds, &ours.by_checkpoints(), &theirs.by_checkpoints());
        self.rounds += 1;
    }
}

impl Rerun {
    fn by_calls(&self) -> Side<'_> {
        let Account { calls, calls_digest, .. } = &self.account;
        Side { marks: &self.trace.calls, total: *calls, end: Some(calls_digest) }
    }

    fn by_checkpoints(&self) -> Side<'_> {
        Side { marks: &self.trace.checkpoints, total: self.trace.checkpoints_passed, end: None }
    }
}

impl Finding {
    /// The window to look into, and what to describe.
    fn ask(self) -> (Window, Option<u64>) {
        match self {
            Finding::Within(window) => (window, None),
            Finding::First(first) => (Window::NOWHERE, Some(first)),
            Finding::Same | Finding::Unsteady => (Window::NOWHERE, None),
        }
    }

    fn narrow(self, rounds: u32, ours: &Side<'_>, theirs: &Side<'_>) -> Self {
        let Finding::Within(window) = self else { return self };
        let same = ours.marks.iter().zip(theirs.marks).take_while(|(our, their)| our == their).count();
        let all_marks = same == ours.marks.len().max(theirs.marks.len());
        if all_marks && (ours.total, ours.end) == (theirs.total, theirs.end) {
            return if rounds == 0 { Finding::Same } else { Finding::Unsteady };
        }
        let from = same.checked_sub(1).and_then(|last| window.point(last)).unwrap_or(window.from);
        let end = ours.total.max(theirs.total);
        let to = window.point(same).map_or(end, |point| point.min(end));
        match to.checked_sub(from) {
            None | Some(0) => Finding::Unsteady,
            Some(1) => Finding::First(from),
            Some(_) => Finding::Within(Window::between(from, to, window.points.max(LEAST_CHECKPOINTS))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::BlobHash;
    use crate::task::Outcome;

    /// Comparisons that any search needs at most: windows shrink by a factor of the points, at least sixteen.
    const MOST_COMPARISONS: u32 = 17;

    /// A run that made so many calls and checkpoints, and whose state differs from the right one from some on.
    #[derive(Debug, Clone, Copy)]
    struct Story {
        calls: u64,
        checkpoints: u64,
        calls_wrong_from: u64,
        memory_wrong_from: u64,
    }

    impl Story {
        fn right(calls: u64, checkpoints: u64) -> Self {
            Self { calls, checkpoints, calls_wrong_from: u64::MAX, memory_wrong_from: u64::MAX }
        }

        fn run(self, request: TraceRequest) -> Rerun {
            assert!(request.is_sound());
            let mark = |passed: u64, wrong_from: u64| if passed > wrong_from { !passed } else { passed }.to_le_bytes();
            let marks = |window: Window, total: u64, wrong_from: u64| -> Vec<Mark> {
                let points = (0..).map_while(|number| window.point(number));
                points.take_while(|point| *point <= total).map(|point| mark(point, wrong_from)).collect()
            };
            let mut calls_digest = [0; 32];
            calls_digest[..8].copy_from_slice(&mark(self.calls, self.calls_wrong_from));
            let trace = Trace {
                calls: marks(request.calls, self.calls, self.calls_wrong_from),
                checkpoints: marks(request.checkpoints, self.checkpoints, self.memory_wrong_from),
                checkpoints_passed: self.checkpoints,
                call: request.call.map(|call| format!("call {call}")),
                checkpoint: None,
            };
            assert!(trace.is_sound());
            let claim = Claim { outcome: Outcome::Exited(0), result: BlobHash([0; 32]) };
            Rerun { claim, account: Account { calls: self.calls, calls_digest, ..Account::default() }, trace }
        }
    }

    fn search(ours: Story, theirs: Story) -> Search {
        let mut search = Search::new(ours.calls, ours.checkpoints, 1 << 30);
        while !search.is_over() {
            let request = search.request();
            search.compare(&ours.run(request), &theirs.run(request));
            assert!(search.rounds <= MOST_COMPARISONS, "{search:?}");
        }
        search
    }

    #[test]
    fn equal_runs_have_no_difference() {
        let story = Story::right(1_000_000, 12_345);
        let search = search(story, story);
        assert_eq!((search.calls, search.checkpoints, search.rounds), (Finding::Same, Finding::Same, 1));
    }

    #[test]
    fn a_run_that_is_not_the_same_twice_is_unsteady() {
        let (story, other) = (Story::right(1_000_000, 0), Story { calls_wrong_from: 7, ..Story::right(1_000_000, 0) });
        let mut search = Search::new(1_000_000, 0, 1);
        search.compare(&story.run(search.request()), &other.run(search.request()));
        assert!(matches!(search.calls, Finding::Within(_)));
        search.compare(&story.run(search.request()), &story.run(search.request()));
        assert_eq!((search.calls, search.checkpoints), (Finding::Unsteady, Finding::Same));
    }

    #[test]
    fn what_was_found_is_described_by_the_next_run() {
        let (ours, theirs) = (Story::right(20, 0), Story { calls_wrong_from: 11, ..Story::right(20, 0) });
        let request = search(ours, theirs).request();
        assert_eq!((request.call, request.checkpoint), (Some(11), None));
        assert_eq!(ours.run(request).trace.call.as_deref(), Some("call 11"));
    }

    #[test]
    fn large_memories_have_fewer_checkpoints() {
        let points = |memory_bytes| Search::new(0, 1 << 20, memory_bytes).request().checkpoints.points;
        assert_eq!([points(0), points(64 << 20), points(4 << 30)], [MAX_TRACE_POINTS, 128, LEAST_CHECKPOINTS]);
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..10_u64, 0..100_000_u64, any::<u64>()]
    }

    proptest! {
        #[test]
        fn the_first_difference_is_found(
            calls in number(), checkpoints in number(), wrong in number(), their_calls in number(),
        ) {
            let ours = Story::right(calls, checkpoints);
            let theirs = Story {
                calls: their_calls, checkpoints, calls_wrong_from: wrong, memory_wrong_from: wrong,
            };
            let search = search(ours, theirs);
            let first = if calls == their_calls { wrong } else { wrong.min(calls).min(their_calls) };
            let expected = if first < calls.max(their_calls) { Finding::First(first) } else { Finding::Same };
            prop_assert_eq!(search.calls, expected);
            let expected = if wrong < checkpoints { Finding::First(wrong) } else { Finding::Same };
            prop_assert_eq!(search.checkpoints, expected);
        }

        #[test]
        fn no_answer_of_a_peer_makes_a_search_endless(
            seed in prop::collection::vec((any::<u64>(), any::<u64>(), 0..3_usize, 0..3_usize), 1..40),
        ) {
            let ours = Story::right(1_000_000, 1_000_000);
            let mut search = Search::new(1_000_000, 1_000_000, 1 << 32);
            let mut answers = seed.iter().cycle();
            while !search.is_over() {
                let request = search.request();
                let (calls, checkpoints, marks, others) = *answers.next().expect("it goes round");
                let mut theirs = Story::right(calls, checkpoints).run(request);
                theirs.trace.calls = vec![[9; 8]; marks];
                theirs.trace.checkpoints = vec![[9; 8]; others];
                search.compare(&ours.run(request), &theirs);
                prop_assert!(search.rounds <= MOST_COMPARISONS, "{:?}", search);
            }
        }
    }
}
