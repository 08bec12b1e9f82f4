//! A job that compares a part of its results: "A shows p" tells what the list of A's result holds of it.

use super::*;
use crate::limits::{MAX_COLLECTS, MAX_EXAMINATIONS};

/// A job that compares outputs, whose executions by `workers` were awarded and revealed something else each.
fn revealed(policy: Policy, workers: &str) -> (Story, String) {
    let mut story = Story::new(policy);
    story.compares(Compare::Part("stdout".into()));
    story.hear(0, "submit");
    workers.chars().for_each(|worker| drop(story.hear(1, &format!("{worker} bids"))));
    story.hear(GRACE, "tick");
    for (word, at) in [("commits", 8), ("reveals", 9)] {
        for worker in workers.chars().take(policy.executions as usize) {
            let answer = worker.to_ascii_lowercase();
            story.hear(at, &format!("{worker} {word} {answer}"));
        }
    }
    let told = story.told.clone();
    (story, told)
}

#[test]
fn results_that_differ_agree_if_what_is_compared_is_the_same() {
    let (mut story, told) = revealed(PAIR, "AB");
    assert_eq!(told, "save B revealed, examine B");
    story.tell(&[
        (10, "A shows p", "save A revealed"),
        (10, "A shows q", ""),
        (11, "B shows p", "save B revealed, save A agreed, credit A, save B agreed, credit B, collect A"),
        (12, "collected", "settle A agreed, settle B agreed, save completed, end"),
    ]);
}

#[test]
fn dissent_is_about_what_is_compared() {
    let (mut story, _) = revealed(PAIR, "ABC");
    story.tell(&[
        (10, "A shows p", "save A revealed"),
        (11, "B shows q", "save B revealed, save C awarded, award C"),
        (12, "C commits c", "save C committed, ask C"),
        (13, "C reveals c", "save C revealed, examine C"),
    ]);
    let told = story.hear(14, "C shows p");
    assert!(told.ends_with("save failed, end"), "{told}");
    let hash = BlobHash::of(b"p").short();
    assert!(story.reason().contains(&format!("2 votes for {hash}")), "{}", story.reason());
}

#[test]
fn dissent_about_a_container_costs_rank_and_no_trust() {
    for (executor, sign) in [(ExecutorKind::Wasm, "distrust B"), (ExecutorKind::Docker, "blame B")] {
        let mut story = Story::new(Policy { executions: 4, ..QUORUM });
        story.submission.needs.executor = executor;
        story.hear(0, "submit");
        for worker in ["A", "B", "C", "D"] {
            story.hear(1, &format!("{worker} bids"));
        }
        story.hear(GRACE, "tick");
        for heard in ["A commits x", "B commits y", "C commits x", "D commits x"] {
            story.hear(8, heard);
        }
        for heard in ["A reveals x", "B reveals y", "C reveals x"] {
            story.hear(9, heard);
        }
        let told = story.hear(10, "D reveals x");
        assert!(told.contains(sign) && told.ends_with("collect ACD"), "{told}");
    }
}

#[test]
fn a_vote_counts_only_once_it_is_known_what_it_is_for() {
    let (mut story, _) = revealed(QUORUM, "ABC");
    story.tell(&[(10, "A shows p", "save A revealed"), (10, "B shows p", "save B revealed")]);
    assert_eq!(story.machine.deadline(), None, "it waits for what C shows");
}

#[test]
fn a_result_that_nobody_can_look_at_is_a_fault_and_no_vote() {
    let (mut story, _) = revealed(PAIR, "ABC");
    story.hear(10, "B shows p");
    let mut now = 10;
    for _ in 1..MAX_EXAMINATIONS {
        assert_eq!(story.hear(now, "A hides"), "");
        now = story.machine.deadline().expect("it tries again").0;
        assert_eq!(story.hear(now, "tick"), "examine A");
    }
    assert_eq!(story.hear(now, "A hides"), "save A failed, blame A, settle A unused, save running, announce");
    story.hear(now + 1, "A bids");
    story.hear(now + 1, "C bids");
    let now = story.machine.deadline().expect("the round closes").0;
    assert_eq!(story.hear(now, "tick"), "save C awarded, award C");
    story.tell(&[
        (now + 1, "C commits c", "save C committed, ask C"),
        (now + 2, "C reveals c", "save C revealed, examine C"),
        (now + 3, "C shows p", "save C revealed, save B agreed, credit B, save C agreed, credit C, collect B"),
    ]);
}

#[test]
fn a_result_of_another_run_is_a_lie_and_no_vote() {
    let (mut story, _) = revealed(PAIR, "ABC");
    story.hear(10, "B shows p");
    let told = story.hear(11, "A cheats");
    assert!(told.starts_with("save A failed, distrust A, settle A unused"), "{told}");
}

#[test]
fn where_the_result_of_one_cannot_be_had_that_of_another_who_agrees_is_taken() {
    let (mut story, _) = revealed(PAIR, "AB");
    story.hear(10, "A shows p");
    assert!(story.hear(10, "B shows p").ends_with("collect A"));
    let mut now = 10;
    for _ in 1..MAX_COLLECTS {
        assert_eq!(story.hear(now, "uncollected"), "");
        now = story.machine.deadline().expect("it tries again").0;
        assert_eq!(story.hear(now, "tick"), "collect A");
    }
    assert_eq!(story.hear(now, "uncollected"), "save A agreed, blame A, collect B");
    // The one that was passed over stays so.
    assert_eq!(story.wake(now + 1), "collect B");
    let told = story.hear(now + 2, "collected");
    assert_eq!(told, "settle A agreed, settle B agreed, save completed, end");
}

#[test]
fn after_a_restart_only_that_is_looked_at_which_was_not_before() {
    let (mut story, _) = revealed(PAIR, "AB");
    story.hear(10, "A shows p");
    assert_eq!(story.wake(20), "examine B");
    let agreed = "save B revealed, save A agreed, credit A, save B agreed, credit B, collect A";
    assert_eq!(story.hear(21, "B shows p"), agreed);
}

#[test]
fn a_crash_in_the_middle_of_a_verdict_changes_nothing_of_it() {
    for saved in 0..9 {
        let (mut story, _) = revealed(Policy { max_executions: 4, ..PAIR }, "ABCD");
        story.tell(&[
            (10, "A shows p", "save A revealed"),
            (11, "B shows q", "save B revealed, save C awarded, award C, save D awarded, award D"),
        ]);
        for heard in ["C commits c", "D commits d", "C reveals c", "D reveals d", "C shows p"] {
            story.hear(12, heard);
        }
        let input = story.input("D shows p");
        story.machine.handle(Time(13), input);
        story.outputs(saved);
        let mut told = story.wake(20);
        if told == "examine D" {
            // What was not saved is found out again.
            told = story.hear(21, "D shows p");
        }
        assert!(told.ends_with("collect A"), "{saved}: {told}");
        let state = |letter| story.became(letter);
        assert_eq!([state('A'), state('B'), state('C'), state('D')], ["agreed", "dissented", "agreed", "agreed"]);
    }
}

#[test]
fn a_job_with_one_vote_has_nothing_to_compare() {
    let (story, told) = revealed(Policy { agreement: 1, executions: 1, max_executions: 1 }, "A");
    assert_eq!(told, "save A revealed, save A agreed, collect A");
    assert_eq!(story.became('A'), "agreed");
}
