//! Who gets the work, and what becomes of those who have it.

use super::*;

#[test]
fn awards_are_made_once_enough_have_offered() {
    let mut story = Story::new(PAIR);
    story.hear(0, "submit");
    story.tell(&[
        (1, "B bids", ""),
        (1, "B bids", ""),
        (CLOSES, "tick", "save B awarded, save running, award B"),
        (256, "tick", "save running, announce"),
        (257, "C bids", ""),
        (257, "A bids", ""),
        (258, "tick", "save A awarded, award A"),
    ]);
}

#[test]
fn a_lost_worker_is_replaced_after_its_lease() {
    let mut story = Story::awarded(PAIR, "AB");
    let lost = 8 + LEASE_MS;
    story.tell(&[
        (8, "A runs", "save A running"),
        (9, "B commits x", "save B committed"),
        (lost, "tick", "save A failed, settle A cancelled, save running, announce"),
        (lost + 1, "C bids", ""),
        (lost + 2, "tick", "save C awarded, award C"),
        (lost + 4, "A commits y", "settle A cancelled"),
        (lost + 5, "C commits x", "save C committed, ask B, ask C"),
    ]);
}

#[test]
fn a_requester_that_was_away_does_not_take_that_for_silence_of_its_workers() {
    let mut story = Story::awarded(PAIR, "AB");
    story.tell(&[(8, "A runs", "save A running"), (9, "B runs", "save B running")]);
    let woke = 10 * LEASE_MS;
    story.tell(&[
        (woke, "away", ""),
        (woke + 1, "A commits x", "save A committed"),
        (woke + LEASE_MS, "tick", "save B failed, settle B cancelled, save running, announce"),
    ]);
}

#[test]
fn a_requester_that_was_away_does_not_blame_workers_for_what_it_did_not_hear() {
    let mut story = Story::awarded(PAIR, "AB");
    story.tell(&[(8, "A commits x", "save A committed"), (9, "B commits x", "save B committed, ask A, ask B")]);
    let woke = 10 * REVEAL_MS;
    story.tell(&[(woke, "away", ""), (woke, "tick", "ask A, ask B"), (woke + 1, "A reveals x", "save A revealed")]);
}

#[test]
fn an_award_that_is_not_answered_is_said_again() {
    let mut story = Story::awarded(PAIR, "AB");
    let awards = story.awards.clone();
    story.hear(7, "A runs");
    story.tell(&[(GRACE + 500, "tick", "award B"), (GRACE + 1_500, "tick", "award B")]);
    assert_eq!(story.awards, awards);
}

#[test]
fn a_worker_speaks_only_for_itself() {
    let mut story = Story::awarded(PAIR, "AB");
    let of_a = story.awards[&'A'];
    story.awards.insert('B', of_a);
    story.awards.insert('Z', of_a);
    for said in ["B commits x", "B fails", "Z runs", "Z reveals x"] {
        assert_eq!(story.hear(8, said), "", "{said}");
    }
}

#[test]
fn stop_cancels_the_workers() {
    let mut story = Story::awarded(PAIR, "AB");
    story.hear(8, "A commits x");
    let told = story.hear(9, "stop");
    for worker in ["A", "B"] {
        assert!(told.contains(&format!("save {worker} cancelled, settle {worker} cancelled")), "{told}");
    }
    assert!(told.ends_with(", save stopped, end"), "{told}");
    story.tell(&[(10, "stop", ""), (10, "B commits x", "settle B unused"), (11, "A runs", "settle A cancelled")]);
}
