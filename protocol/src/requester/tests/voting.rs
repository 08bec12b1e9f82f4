//! From sealed answers to a result: when they are opened, what they decide, and what is no vote.

use super::*;

#[test]
fn a_job_takes_each_step_in_order_and_saves_before_it_speaks() {
    Story::new(QUORUM).tell(&[
        (0, "submit", "save pending, save pending, announce"),
        (1, "A bids", ""),
        (1, "B bids", ""),
        (1, "C bids", ""),
        (GRACE, "tick", "save A awarded, save running, award A, save B awarded, award B, save C awarded, award C"),
        (4, "A runs", "save A running"),
        (5, "A runs", ""),
        (9, "A commits x", "save A committed"),
        (10, "A commits x", ""),
        (10, "A runs", ""),
        (10, "B commits x", "save B committed"),
        (11, "C commits x", "save C committed, ask A, ask B, ask C"),
        (12, "A reveals x", "save A revealed"),
        (13, "B reveals x", "save B revealed"),
        (
            14,
            "C reveals x",
            "save C revealed, save A agreed, credit A, save B agreed, credit B, save C agreed, credit C, collect ABC",
        ),
        (20, "collected", "settle A agreed, settle B agreed, settle C agreed, save completed, end"),
        (21, "collected", ""),
        (21, "B reveals x", "settle B unused"),
    ]);
}

#[test]
fn reveals_are_asked_only_when_enough_are_sealed() {
    let mut story = Story::awarded(QUORUM, "ABC");
    story.tell(&[
        (8, "A commits x", "save A committed"),
        (9, "A reveals x", ""),
        (9, "B fails", "save B failed, save running, announce"),
        (10, "C commits x", "save C committed, ask A, ask C"),
    ]);
}

#[test]
fn a_straggler_is_given_up() {
    let mut story = Story::awarded(QUORUM, "ABC");
    let patience = STRAGGLER_MS + 2 * RUN_MS;
    story.tell(&[
        (8, "C runs", "save C running"),
        (9, "A commits x", "save A committed"),
        (10, "B commits x", "save B committed"),
        (10 + patience, "tick", "save C failed, settle C cancelled, ask A, ask B"),
        (2_100, "C commits x", "settle C cancelled"),
        (2_100, "A reveals x", "save A revealed"),
        (2_100, "B reveals x", "save B revealed, save A agreed, credit A, save B agreed, credit B, collect AB"),
    ]);
}

#[test]
fn dissent_buys_more_executions_and_the_liar_is_remembered() {
    let verdict = "save D revealed, save B dissented, distrust B, save A agreed, credit A, \
        save C agreed, credit C, save D agreed, credit D, settle B dissented, collect ACD";
    let mut story = Story::awarded(QUORUM, "ABCD");
    story.tell(&[
        (8, "A commits x", "save A committed"),
        (8, "B commits y", "save B committed"),
        (8, "C commits x", "save C committed, ask A, ask B, ask C"),
        (9, "A reveals x", "save A revealed"),
        (9, "B reveals y", "save B revealed"),
        (9, "C reveals x", "save C revealed, save D awarded, award D"),
        (10, "D commits x", "save D committed, ask D"),
        (11, "D reveals x", verdict),
    ]);
}

#[test]
fn a_job_is_disputed_when_no_more_votes_may_be_bought() {
    let mut story = Story::awarded(PAIR, "ABC");
    story.tell(&[
        (8, "A commits x", "save A committed"),
        (8, "B commits y", "save B committed, ask A, ask B"),
        (9, "A reveals x", "save A revealed"),
        (9, "B reveals y", "save B revealed, save C awarded, award C"),
        (10, "C commits z", "save C committed, ask C"),
    ]);
    let told = story.hear(11, "C reveals z");
    assert!(told.starts_with("save C revealed, ") && told.ends_with(", save failed, end"), "{told}");
    for worker in ["A", "B", "C"] {
        assert!(told.contains(&format!("settle {worker} unused")), "{told}");
    }
    assert!(!told.contains("collect") && !told.contains("distrust"), "nobody knows who lied: {told}");
    assert!(story.reason().starts_with("disputed: partition 0: 1 vote for "), "{}", story.reason());
}

#[test]
fn a_false_reveal_is_a_fault_and_no_vote() {
    let mut story = Story::awarded(QUORUM, "ABC");
    for worker in ["A", "B", "C"] {
        story.hear(8, &format!("{worker} commits x"));
    }
    story.tell(&[
        (9, "A reveals y", "save A failed, blame A, settle A cancelled"),
        (9, "A reveals x", "settle A unused"),
        (9, "B reveals x", "save B revealed"),
        (9, "C reveals x", "save C revealed, save B agreed, credit B, save C agreed, credit C, collect BC"),
    ]);
}

#[test]
fn a_commitment_that_is_never_opened_is_a_fault() {
    let mut story = Story::awarded(PAIR, "AB");
    story.hear(8, "A commits x");
    story.hear(8, "B commits x");
    story.hear(9, "A reveals x");
    let mut told = String::new();
    while !told.contains("blame") {
        let now = story.machine.deadline().expect("it waits for B").0;
        told = story.hear(now, "tick");
        assert!(told == "ask B" || now == 8 + REVEAL_MS, "at {now}: {told}");
    }
    assert_eq!(told, "save B failed, blame B, settle B cancelled, save running, announce");
}

#[test]
fn a_result_that_cannot_be_fetched_is_fetched_again() {
    let mut story = Story::awarded(PAIR, "AB");
    for said in ["A commits x", "B commits x", "A reveals x"] {
        story.hear(8, said);
    }
    assert!(story.hear(8, "B reveals x").ends_with("collect AB"));
    story.tell(&[
        (10, "uncollected", ""),
        (260, "tick", "collect AB"),
        (270, "collected", "settle A agreed, settle B agreed, save completed, end"),
    ]);
}
