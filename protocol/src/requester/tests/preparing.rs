//! Workers that get the image of a container first.

use super::*;
use crate::record::{ExecutionState, Step};

impl Story {
    /// What the history tells of images.
    fn prepared(&self) -> Vec<&str> {
        let events = self.disk.iter().filter_map(|record| match record {
            Record::Event(event) if event.step == Step::Prepare => Some(event.detail.as_str()),
            _ => None,
        });
        events.collect()
    }

    fn state(&self, worker: char) -> Option<ExecutionState> {
        self.disk.iter().rev().find_map(|record| match record {
            Record::Execution(record) if record.worker == peer(worker) => Some(record.state),
            _ => None,
        })
    }
}

#[test]
fn the_history_tells_each_tenth_of_an_image_once() {
    let mut story = Story::awarded(PAIR, "AB");
    for (now, heard) in [(10, "A prepares"), (20, "A prepares 0"), (30, "A prepares 9"), (40, "A prepares 35")] {
        story.hear(now, heard);
        assert_eq!(story.state('A'), Some(ExecutionState::Preparing));
    }
    for (now, heard) in [(50, "A prepares 39"), (60, "A prepares 35"), (70, "A prepares 100"), (80, "A prepares 100")] {
        assert_eq!(story.hear(now, heard), "", "{heard}");
    }
    assert_eq!(story.prepared(), ["", "35 MiB of 100 MiB", "100 MiB of 100 MiB"]);
    story.hear(90, "A runs");
    assert_eq!(story.state('A'), Some(ExecutionState::Running));
    story.hear(100, "A prepares 50");
    assert_eq!((story.state('A'), story.prepared().len()), (Some(ExecutionState::Running), 3), "nobody goes back");
}

#[test]
fn a_worker_that_prepares_for_long_and_says_so_keeps_its_execution() {
    let mut story = Story::awarded(PAIR, "AB");
    story.hear(5, "B runs");
    for step in 0..20 {
        story.hear(10 + step * LEASE_MS / 2, "A prepares 1");
        story.hear(10 + step * LEASE_MS / 2, "B runs");
    }
    assert_eq!(story.state('A'), Some(ExecutionState::Preparing));
}
