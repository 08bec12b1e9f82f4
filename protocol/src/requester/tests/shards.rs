//! Jobs that are announced to one part of the mesh after another.

use super::*;
use crate::limits::MAX_EMPTY_ROUNDS;
use crate::machine::View;

/// A job in a mesh of a hundred thousand, which begins two levels deep.
fn story(policy: Policy) -> Story {
    let mut story = Story::new(policy);
    let without = BTreeMap::from([(ExecutorKind::Wasm, 3), (ExecutorKind::Docker, 9)]);
    story.machine.observe(View { mesh_size: 100_000, level: 2, without, ..View::default() });
    story.hear(0, "submit");
    story
}

/// Lets time pass until something is told that has `word`.
fn until(story: &mut Story, word: &str) {
    while !story.told.contains(word) {
        let now = story.machine.deadline().expect("it waits for something").0;
        story.hear(now, "tick");
    }
}

#[test]
fn a_job_that_finds_its_workers_nearby_is_announced_to_nobody_else() {
    let mut story = story(PAIR);
    ["A bids", "B bids"].into_iter().for_each(|heard| drop(story.hear(1, heard)));
    until(&mut story, "award");
    assert_eq!((story.asked_of.as_slice(), story.awards.len()), (&[(2, 6_250)][..], 2));
}

#[test]
fn a_job_that_finds_too_few_is_announced_more_widely_at_once() {
    let mut story = story(PAIR);
    story.hear(1, "A bids");
    until(&mut story, "award A");
    let closed = story.now;
    until(&mut story, "announce");
    assert_eq!((story.now, story.asked_of.as_slice()), (closed, &[(2, 6_250), (1, 25_000)][..]));
    story.hear(closed.0 + 1, "B bids");
    until(&mut story, "award B");
    assert_eq!(story.asked_of.len(), 2);
}

#[test]
fn a_job_gives_up_only_after_the_whole_mesh_was_asked() {
    let mut story = story(PAIR);
    until(&mut story, ", end");
    let levels: Vec<u8> = story.asked_of.iter().map(|(level, _)| *level).collect();
    assert_eq!(levels[..2], [2, 1]);
    assert_eq!(levels[2..], [0; MAX_EMPTY_ROUNDS as usize]);
    assert_eq!(story.reason(), "3 peers: no wasm executor", "of those without, nobody was asked");
}

#[test]
fn a_job_that_has_gone_wide_stays_there() {
    let mut story = story(PAIR);
    until(&mut story, "announce");
    story.told.clear();
    story.hear(story.now.0 + 1, "A bids");
    until(&mut story, "award A");
    story.hear(story.now.0 + 1, "A fails");
    until(&mut story, "announce");
    let levels: Vec<u8> = story.asked_of.iter().map(|(level, _)| *level).collect();
    assert!(levels.is_sorted_by(|earlier, later| earlier >= later), "{levels:?}");
}
