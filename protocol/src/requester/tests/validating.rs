//! A job whose results need not be the same: "AB agree" is what its validator says of those of A and B.

use super::*;
use crate::limits::MAX_EXAMINATIONS;

/// A job with a validator, whose executions by `workers` revealed something else each and were looked at.
fn shown(policy: Policy, workers: &str, answers: &str) -> (Story, String) {
    let mut story = Story::new(policy);
    story.has_validator();
    story.hear(0, "submit");
    workers.chars().for_each(|worker| drop(story.hear(1, &format!("{worker} bids"))));
    story.hear(GRACE, "tick");
    let voters = || workers.chars().zip(answers.chars());
    for (word, at) in [("commits", 8), ("reveals", 9), ("shows", 10)] {
        for (worker, answer) in voters() {
            story.hear(at, &format!("{worker} {word} {answer}"));
        }
    }
    let told = story.told.clone();
    (story, told)
}

#[test]
fn results_that_differ_agree_if_the_validator_says_so() {
    let (mut story, told) = shown(PAIR, "AB", "xy");
    assert_eq!(told, "save B revealed, validate AB");
    story.tell(&[
        (11, "AB agree", "save A agreed, credit A, save B agreed, credit B, collect A"),
        (12, "AB agree", ""),
        (13, "collected", "settle A agreed, settle B agreed, save completed, end"),
    ]);
}

#[test]
fn a_validator_is_not_asked_of_what_is_the_same() {
    let (_, told) = shown(PAIR, "AB", "xx");
    assert_eq!(told, "save B revealed, save A agreed, credit A, save B agreed, credit B, collect AB");
    let (mut story, told) = shown(QUORUM, "ABC", "xxy");
    assert_eq!(told, "save C revealed, validate AC");
    let told = story.hear(11, "AC agree");
    assert!(told.ends_with("collect AB"), "only those have the same bytes: {told}");
}

#[test]
fn dissent_buys_more_and_each_is_compared_with_the_first_of_each_camp() {
    let (mut story, told) = shown(Policy { max_executions: 5, ..PAIR }, "ABCD", "xy");
    assert_eq!(told, "save B revealed, validate AB");
    let told = story.hear(11, "AB differ");
    assert_eq!(told, "save C awarded, award C, save D awarded, award D");
    for heard in ["C commits z", "D commits y", "C reveals z", "D reveals y", "C shows z"] {
        story.hear(12, heard);
    }
    assert_eq!(story.told, "save C revealed, validate AC", "asked while others are still looked at");
    story.hear(12, "D shows y");
    // What was said of x and y holds for D as well.
    assert_eq!(story.hear(13, "AC differ"), "validate BC");
    let told = story.hear(14, "BC agree");
    assert!(told.starts_with("save A dissented, blame A, save B agreed, credit B"), "no liar, perhaps: {told}");
    assert!(told.ends_with("settle A dissented, collect BD"), "{told}");
}

#[test]
fn a_validator_that_fails_ends_the_job_and_says_why() {
    let (mut story, _) = shown(PAIR, "AB", "xy");
    let told = story.hear(11, "AB break");
    assert!(["A", "B"].iter().all(|worker| told.contains(&format!("settle {worker} unused"))), "{told}");
    assert!(told.ends_with("save failed, end"), "{told}");
    assert_eq!(story.reason(), "partition 0: the validator trapped");
}

#[test]
fn a_machine_that_cannot_run_the_validator_tries_again_a_few_times() {
    let (mut story, _) = shown(PAIR, "AB", "xy");
    let mut now = 11;
    for _ in 1..MAX_EXAMINATIONS {
        assert_eq!(story.hear(now, "AB stall"), "");
        now = story.machine.deadline().expect("it tries again").0;
        assert_eq!(story.hear(now, "tick"), "validate AB");
    }
    assert!(story.hear(now, "AB stall").ends_with("save failed, end"));
    assert!(story.reason().contains("could not be run on this node: no room"), "{}", story.reason());
}

#[test]
fn a_result_that_the_validator_cannot_be_shown_is_no_vote() {
    let (mut story, _) = shown(PAIR, "ABC", "xy");
    let mut now = 11;
    for _ in 1..MAX_EXAMINATIONS {
        assert_eq!(story.hear(now, "AB miss"), "");
        now = story.machine.deadline().expect("it tries again").0;
        assert_eq!(story.hear(now, "tick"), "validate AB");
    }
    let told = story.hear(now, "AB miss");
    assert!(told.starts_with("save A failed, blame A, settle A unused"), "{told}");
    assert_eq!(story.became('B'), "revealed");
}

#[test]
fn a_restart_in_the_middle_asks_the_validator_again() {
    let (mut story, _) = shown(QUORUM, "ABC", "xyz");
    assert_eq!(story.hear(11, "AB agree"), "validate AC");
    assert_eq!(story.wake(20), "validate AB", "it says the same again");
    story.tell(&[(21, "AB agree", "validate AC")]);
    assert!(story.hear(22, "AC agree").ends_with("collect A"));
}

#[test]
fn what_is_said_after_the_end_changes_nothing() {
    let (mut story, _) = shown(PAIR, "AB", "xy");
    assert!(story.hear(11, "stop").ends_with("end"));
    assert_eq!(story.hear(12, "AB agree"), "");
}
