//! A result that is to be published.

use super::*;
use crate::limits::MAX_PUBLISHES;

/// A job whose result A and B agree on at 8, and which is to be published.
fn agreed_on_and_to_be_published() -> Story {
    let mut story = Story::new(PAIR);
    story.submission.publishes = true;
    for (now, heard) in [(0, "submit"), (1, "A bids"), (1, "B bids"), (GRACE, "tick")] {
        story.hear(now, heard);
    }
    for said in ["A commits x", "B commits x", "A reveals x", "B reveals x"] {
        story.hear(8, said);
    }
    story
}

#[test]
fn a_result_that_is_to_be_published_is_published_once_it_is_here() {
    agreed_on_and_to_be_published().tell(&[
        (20, "collected", "settle A agreed, settle B agreed, publish A of 8"),
        (21, "B reveals x", "settle B agreed"),
        (30, "published", "save s3://bucket/key, save completed, end"),
        (31, "published", ""),
    ]);
}

#[test]
fn publishing_is_tried_again_and_then_the_job_says_why_it_failed() {
    let mut story = agreed_on_and_to_be_published();
    let mut told = story.hear(20, "collected");
    let mut now = 20;
    for _ in 1..MAX_PUBLISHES {
        assert!(told.ends_with("publish A of 8"), "{told}");
        assert_eq!(story.hear(now + 1, "unpublished"), "");
        now = story.machine.deadline().expect("it tries again").0;
        told = story.hear(now, "tick");
    }
    let told = story.hear(now + 1, "unpublished");
    assert!(told.ends_with("save failed, end"), "{told}");
    assert!(story.reason().ends_with("is here, but could not be published: no such bucket"), "{}", story.reason());
}

#[test]
fn what_was_published_before_a_restart_is_published_again_only_if_that_was_not_noted() {
    let mut story = agreed_on_and_to_be_published();
    story.hear(20, "collected");
    assert_eq!(story.wake(100), "collect AB");
    assert!(story.hear(110, "collected").ends_with("publish A of 8"), "under the same names");
    let job = story.submission.job(ME);
    story.machine.handle(Time(120), Input::Published(job, 0, Ok(Some(published()))));
    assert_eq!(story.outputs(1), ["save s3://bucket/key"], "and then it is killed");
    assert_eq!(story.wake(200), "collect AB");
    assert_eq!(story.hear(210, "collected"), "settle A agreed, settle B agreed, save completed, end");
}

#[test]
fn a_job_that_is_stopped_while_it_publishes_stays_stopped() {
    let mut story = agreed_on_and_to_be_published();
    story.hear(20, "collected");
    assert!(story.hear(21, "stop").ends_with("save stopped, end"));
    story.tell(&[(22, "published", "")]);
}
