//! Jobs that nobody takes, or that fail wherever they run: they say why.

use super::*;
use crate::limits::MAX_EMPTY_ROUNDS;

#[test]
fn a_job_that_nobody_takes_ends_with_counted_reasons() {
    let mut story = Story::new(PAIR);
    let mut told = story.hear(0, "submit");
    let mut rounds = 0;
    while !told.ends_with("end") {
        let now = story.machine.deadline().expect("a job that is not over has a deadline").0;
        if told.ends_with("announce") {
            rounds += 1;
            // The last round closes while some refusals are on their way.
            let heard: &[_] = if rounds < MAX_EMPTY_ROUNDS { &["A", "B", "C", "A"] } else { &["B"] };
            for worker in heard {
                assert_eq!(story.hear(now, &format!("{worker} refuses")), "");
            }
        }
        told = story.hear(now, "tick");
    }
    assert_eq!((rounds, told.as_str()), (MAX_EMPTY_ROUNDS, "save failed, end"));
    assert_eq!(story.reason(), "2 peers: no wasm executor; 1 peer: memory 8 GiB > 4 GiB");
}
