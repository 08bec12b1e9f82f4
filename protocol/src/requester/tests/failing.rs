//! Jobs that nobody takes, or that fail wherever they run: they say why.

use super::*;
use crate::limits::MAX_EMPTY_ROUNDS;

/// Lets time pass until the job ends, and tells it what `answers` are given to each announcement.
fn until_it_ends(
    story: &mut Story,
    mut told: String,
    mut answers: impl FnMut(u32) -> &'static [&'static str],
) -> String {
    let mut rounds = 0;
    while !told.ends_with("end") {
        let now = story.machine.deadline().expect("a job that is not over has a deadline").0;
        if told.ends_with("announce") {
            rounds += 1;
            for answer in answers(rounds) {
                assert_eq!(story.hear(now, answer), "");
            }
        }
        told = story.hear(now, "tick");
    }
    assert_eq!(told, "save failed, end");
    story.reason().to_owned()
}

#[test]
fn a_job_that_nobody_takes_ends_with_counted_reasons() {
    let mut story = Story::new(PAIR);
    let (told, mut rounds) = (story.hear(0, "submit"), 0);
    let reason = until_it_ends(&mut story, told, |round| {
        rounds = round;
        match round {
            // The last round closes while some refusals are on their way.
            MAX_EMPTY_ROUNDS => &["B refuses"],
            _ => &["A refuses", "B refuses", "C refuses", "A refuses"],
        }
    });
    assert_eq!(rounds, MAX_EMPTY_ROUNDS);
    assert_eq!(reason, "2 peers: no wasm executor; 1 peer: memory 8 GiB > 4 GiB");
}

#[test]
fn a_job_whose_executions_failed_says_why_and_who_else_refuses() {
    for (refusals, expected) in [
        (
            &[] as &[_],
            "2 executions failed: input missing: https://a: 404; 1: the worker's machine failed: no room; and nobody else offers",
        ),
        (
            &["C refuses"],
            "2 executions failed: input missing: https://a: 404; 1: the worker's machine failed: no room; 1 peer: memory 8 GiB > 4 GiB",
        ),
    ] {
        let mut story = Story::awarded(QUORUM, "ABD");
        story.hear(8, "A misses");
        story.hear(8, "B fails");
        let told = story.hear(8, "D misses");
        assert_eq!(until_it_ends(&mut story, told, |_| refusals), expected);
    }
}

#[test]
fn a_worker_whose_operator_turns_the_job_down_is_asked_once_and_counted_with_the_others() {
    let mut story = Story::awarded(PAIR, "AB");
    story.hear(3, "A declines");
    let told = story.hear(3, "B declines");
    let awards = story.awards.clone();
    // They may be hostile, and bid again.
    let reason = until_it_ends(&mut story, told, |_| &["A bids", "B bids", "C refuses"]);
    assert_eq!(reason, "2 peers: its operator refuses: \"not on sundays\"; 1 peer: memory 8 GiB > 4 GiB");
    assert_eq!(story.awards, awards);
}

#[test]
fn a_worker_of_another_version_is_asked_once_and_counted_with_the_others() {
    let mut story = Story::awarded(PAIR, "AB");
    story.hear(3, "A misunderstands");
    let told = story.hear(3, "B declines");
    let (awards, disk) = (story.awards.clone(), story.disk.clone());
    let answers: &[&str] = &["A bids", "C refuses"];
    let reason = until_it_ends(&mut story, told, |_| answers);
    let lacks = "1 peer: speaks protocol version 5, which lacks something that the job needs";
    for words in [lacks, "1 peer: its operator refuses", "1 peer: memory 8 GiB"] {
        assert!(reason.contains(words), "{words:?} is missing in {reason:?}");
    }
    assert_eq!(story.awards, awards);
    assert!(!disk.iter().any(|record| matches!(record, Record::Standing(..))), "it is no fault");
}

#[test]
fn who_has_taken_an_award_has_understood_it() {
    let mut story = Story::awarded(PAIR, "AB");
    story.hear(3, "A runs");
    assert_eq!(story.hear(4, "A misunderstands"), "");
    assert_eq!(story.became('A'), "running");
}

#[test]
fn who_turned_a_job_down_is_still_known_after_a_restart() {
    let mut story = Story::awarded(PAIR, "AB");
    story.hear(3, "A declines");
    let Some(Output::Gossip(_, Message::Announce(announce))) = ({
        story.machine = machine();
        story.machine.restore(Time(4), story.disk.clone());
        std::iter::from_fn(|| story.machine.poll()).find(|output| matches!(output, Output::Gossip(..)))
    }) else {
        panic!("it seeks another worker")
    };
    assert!(announce.excluded.contains(&[b'A'; 6]), "{:?}", announce.excluded);
    let standings = story.disk.iter().filter(|record| matches!(record, Record::Standing(..)));
    assert_eq!(standings.count(), 0, "it is no fault");
}

#[test]
fn a_worker_that_bids_and_never_answers_its_award_loses_standing() {
    let mut story = Story::awarded(PAIR, "AB");
    story.hear(8, "A runs");
    let lost = 8 + LEASE_MS;
    while story.machine.deadline().is_some_and(|at| at.0 <= lost) {
        let now = story.machine.deadline().expect("it was there").0;
        story.hear(now, "tick");
    }
    let standing = |letter: u8| story.machine.ledger().standing(PeerId([letter; 32]));
    assert_eq!((standing(b'A').unstarted, standing(b'B').unstarted), (0, 1), "A was at it, and may have lost its line");
    let saved = |record: &Record| matches!(record, Record::Standing(_, standing) if standing.unstarted == 1);
    assert!(story.disk.iter().any(saved), "it is saved");
}

#[test]
fn who_offers_in_vain_because_it_is_not_independent_is_counted() {
    let mut story = Story::new(PAIR);
    story.hear(0, "submit");
    story.hear(1, "A bids one");
    let mut told = String::new();
    while !told.ends_with("end") {
        let now = story.machine.deadline().expect("a job that is not over has a deadline").0;
        told = story.hear(now, "tick");
        if told.contains("award A") {
            story.hear(now, "A commits");
        }
        if told.ends_with("announce") {
            story.hear(now, "B bids one");
            story.hear(now, "C bids one");
        }
    }
    let expected = "only 1 of 2 independent workers that must agree could be found: \
                    2 peers: not independent of one that was taken (operator one)";
    assert_eq!(story.reason(), expected);
}

#[test]
fn a_failure_keeps_its_thing_its_reason_and_its_remedy() {
    let long = format!("cannot read https://example.com/{}: 404; check the address", "a".repeat(2_000));
    let failure = Failure::InputMissing(crate::text::ends(&long, crate::limits::MAX_FAILURE_BYTES));
    let fail = |failure| Message::Fail(Fail { job: JobId([0; 16]), execution: ExecutionId([0; 16]), failure });
    assert_eq!(fail(failure.clone()).check(), Ok(()));
    assert!(failure.to_string().ends_with("404; check the address"));
    assert!(fail(Failure::InputMissing(long)).check().is_err());
}
