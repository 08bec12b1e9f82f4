//! A requester that was killed says again what it had saved.

use super::*;

#[test]
fn a_restart_says_awards_again_with_the_same_execution_ids() {
    let mut story = Story::awarded(PAIR, "AB");
    let awards = story.awards.clone();
    assert_eq!(story.wake(100), "award A, award B");
    assert_eq!(story.awards, awards);
    story.hear(110, "B commits x");
    assert_eq!(story.wake(200), "award A");
    story.tell(&[(210, "A commits x", "save A committed, ask A, ask B")]);
    assert_eq!(story.awards, awards);
}

#[test]
fn an_award_that_was_saved_but_never_said_is_said_after_a_restart() {
    let mut story = Story::new(PAIR);
    story.hear(0, "submit");
    story.hear(1, "A bids");
    story.hear(1, "B bids");
    story.machine.handle(Time(3), Input::Tick);
    assert_eq!(story.outputs(1), ["save A awarded"], "and then it is killed");
    assert_eq!(story.wake(50), "save running, save running, announce, award A", "another is sought as well");
    assert_eq!(story.awards[&'A'], ExecutionId::derive(story.submission.job(ME), 0, 0));
}

#[test]
fn a_result_is_fetched_again_after_a_restart() {
    let mut story = Story::awarded(PAIR, "AB");
    for said in ["A commits x", "B commits x", "A reveals x", "B reveals x"] {
        story.hear(8, said);
    }
    assert_eq!(story.wake(100), "collect AB");
    assert!(story.hear(110, "collected").ends_with("save completed, end"));
}
