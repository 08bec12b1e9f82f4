//! Jobs that their requester's own node runs: at last, where nobody verifies them anyway, or for want of a mesh.

use super::*;
use crate::admission::Admission;
use crate::limits::{FAIR_ROUNDS, FAIR_ROUNDS_ALONE, MAX_EMPTY_ROUNDS};
use crate::machine::{Finished, Means, View};

const SOLO: Policy = Policy { agreement: 1, executions: 1, max_executions: 1 };

/// A node that runs modules, two at once.
fn offering() -> Offering {
    let capacity = Resources { cpu_millis: 1_000, memory_bytes: 2 << 20, disk_bytes: 2 << 20, gpus: 0 };
    Offering { executors: [(ExecutorKind::Wasm, "wasm-1".into())].into(), capacity, ..Offering::default() }
}

impl Story {
    fn at_home(policy: Policy, placement: Placement, offering: Offering) -> Self {
        let mut story = Self::new(policy);
        story.submission.placement = placement;
        story.machine = Machine::new(ME, offering.clone(), [3; 32]);
        story.offering = offering;
        story
    }

    /// What this node's world tells it of its own executions.
    pub(super) fn itself(&self, execution: ExecutionId, what: &str) -> Input {
        let means = Means { missing_bytes: 0, disk_bytes: u64::MAX, has_image: true, data_here: true };
        let priced = |means| Input::Priced(self.asked.clone().expect("it asked itself"), means);
        let claim = claim("x");
        let finished = Finished { claim, result_bytes: 1, run_ms: RUN_MS, account: Account::default() };
        match what {
            "has" => priced(means),
            "has-no-disk" => priced(Means { disk_bytes: 0, ..means }),
            "fetched" => Input::Fetched(execution, Ok(())),
            "refused" => Input::Fetched(execution, Err(Failure::Refused("not on sundays".into()))),
            "executed" => Input::Executed(execution, Ok(finished)),
            "broke" => Input::Executed(execution, Err(Failure::HostFailed("no room".into()))),
            other => panic!("this node never {other:?}"),
        }
    }

    /// Lets time pass until something is told that has `word`.
    fn until(&mut self, word: &str) {
        while !self.told.contains(word) {
            let now = self.machine.deadline().unwrap_or_else(|| panic!("it waits for nothing, and never {word:?}")).0;
            self.hear(now, "tick");
        }
    }
}

#[test]
fn a_node_alone_runs_its_own_job_within_a_second() {
    let mut story = Story::at_home(SOLO, Placement::Mesh, offering());
    story.hear(0, "submit");
    story.until("price");
    assert_eq!((story.announced, story.now < Time(1_000)), (FAIR_ROUNDS_ALONE, true), "{:?}", story.now);
    story.tell(&[
        (600, "I has", "save I awarded, save running, award I, fetch"),
        (610, "I fetched", "run"),
        (620, "I executed", "save I committed, save I revealed, save I agreed, collect I"),
        (630, "collected", "save completed, end"),
    ]);
    assert_eq!(story.machine.capacity().0, Resources::default());
}

#[test]
fn others_are_asked_first_where_there_are_any_and_win_whatever_they_cost() {
    let mut story = Story::at_home(SOLO, Placement::Mesh, offering());
    story.machine.observe(View { mesh_size: 2, ..View::default() });
    story.hear(0, "submit");
    story.until("price");
    assert_eq!(story.announced, FAIR_ROUNDS);
    let told = [story.hear(3_000, "Z bids"), story.hear(3_001, "I has")].concat();
    assert!(told.contains("award Z") && !told.contains("award I"), "{told}");
}

#[test]
fn a_requester_is_never_one_of_those_that_must_agree() {
    let mut story = Story::at_home(PAIR, Placement::Mesh, offering());
    story.hear(0, "submit");
    story.until(", end");
    assert_eq!((story.asked.is_none(), story.announced), (true, MAX_EMPTY_ROUNDS));
    assert_eq!(story.reason(), "no peer answered 7 announcements: `shoal peer list` shows whether there are any");
}

#[test]
fn nobody_but_the_node_itself_can_make_it_ask_itself() {
    let mut story = Story::at_home(SOLO, Placement::Mesh, offering());
    story.hear(0, "submit");
    story.until("price");
    let means = Means { missing_bytes: 0, disk_bytes: u64::MAX, has_image: true, data_here: true };
    let announce = story.asked.clone().unwrap();
    let echo = Sealed::assume(ME, None, Message::Announce(*announce.clone()));
    story.machine.handle(Time(600), Input::Announced(echo, means));
    assert_eq!(story.outputs(usize::MAX), [""; 0]);
    story.machine.handle(Time(600), Input::Priced(announce.clone(), means));
    assert!(story.outputs(usize::MAX).contains(&"award I".to_owned()));
    story.machine.handle(Time(600), Input::Priced(announce, means));
    assert_eq!(story.outputs(usize::MAX), [""; 0], "it has asked once");
}

#[test]
fn why_the_node_itself_does_not_run_it_is_told_with_what_others_say() {
    let nothing = Offering { executors: BTreeMap::new(), ..offering() };
    let small = Offering { capacity: Resources { memory_bytes: 1, ..offering().capacity }, ..offering() };
    let stateful = Admission { reject_stateless: true, ..Admission::default() };
    let choosy = Offering { admission: stateful, ..offering() };
    let table = [
        (nothing, "this node: no wasm executor (its setting executors, see `shoal config show`)"),
        (small, "this node: memory 1 MiB > 1 B (its setting max_memory, see `shoal config show`)"),
        (
            choosy,
            "this node: its operator allows no jobs without inputs (its setting reject_stateless, see `shoal config show`)",
        ),
    ];
    for (offering, expected) in table {
        let mut story = Story::at_home(SOLO, Placement::Mesh, offering);
        story.hear(0, "submit");
        while !story.told.ends_with("end") {
            let now = story.machine.deadline().expect("it asks again").0;
            story.hear(now, "tick");
            if story.told.ends_with("announce") {
                story.hear(now, "C refuses");
            } else if story.told.ends_with("price") {
                story.hear(now, "I has");
            }
        }
        assert_eq!(story.reason(), format!("1 peer: memory 8 GiB > 4 GiB; {expected}"));
    }
}

#[test]
fn a_node_that_is_busy_with_something_else_is_asked_again() {
    let none = Resources { cpu_millis: 500, memory_bytes: 1 << 20, disk_bytes: 1 << 20, gpus: 0 };
    let mut story = Story::at_home(SOLO, Placement::Mesh, Offering { capacity: none, ..offering() });
    story.hear(0, "submit");
    story.until("price");
    story.hear(600, "I has");
    let busy = story.awards[&'I'];
    story.submission = Submission { nonce: 8, ..story.submission };
    story.hear(700, "submit");
    for _ in 0..5 {
        story.told.clear();
        story.until("price");
        assert_eq!(story.hear(story.now.0, "I has"), "", "there is no room");
    }
    for step in [story.itself(busy, "fetched"), story.itself(busy, "executed")] {
        story.machine.handle(story.now, step);
        story.outputs(usize::MAX);
    }
    story.told.clear();
    story.until("price");
    let told = story.hear(story.now.0, "I has");
    assert!(told.contains("award I"), "{told}");
}

#[test]
fn the_end_of_a_queue_is_not_the_end_before_the_node_itself_was_asked() {
    let mut story = Story::at_home(SOLO, Placement::Mesh, offering());
    story.submission.queue_timeout_ms = 1;
    story.machine.observe(View { mesh_size: 2, ..View::default() });
    story.hear(0, "submit");
    story.until("price");
    assert_eq!(story.announced, 1);
    assert!(story.hear(7, "I has").contains("award I"));
}

#[test]
fn an_operator_that_turns_down_his_own_job_is_asked_once() {
    let mut story = Story::at_home(SOLO, Placement::Mesh, offering());
    story.hear(0, "submit");
    story.until("price");
    story.hear(600, "I has");
    story.asked = None;
    story.hear(610, "I refused");
    story.until(", end");
    assert!(story.asked.is_none());
    assert!(story.reason().ends_with("; this node: not on sundays"), "{}", story.reason());
}

#[test]
fn for_want_of_a_mesh_a_node_runs_what_it_can_whatever_it_allows_others() {
    let admission = Admission { reject_stateless: true, block_requesters: [ME].into(), ..Admission::default() };
    let nothing = Offering { executors: BTreeMap::new(), admission, ..offering() };
    let mut story = Story::at_home(SOLO, Placement::Here, nothing);
    story.tell(&[(0, "submit", "save pending, price"), (5, "I has", "save I awarded, save running, award I, fetch")]);
}

#[test]
fn for_want_of_a_mesh_what_cannot_change_ends_the_job_at_once() {
    let small = Offering { capacity: Resources { memory_bytes: 1, ..offering().capacity }, ..offering() };
    let table: [(Offering, &[&str], &str); 4] = [
        (small, &["I has"], "this node: memory 1 MiB > 1 B (its setting max_memory, see `shoal config show`)"),
        (
            offering(),
            &["I has-no-disk"],
            "this node: disk: needs 1 MiB, 0 B free (its setting max_disk, see `shoal config show`)",
        ),
        (offering(), &["I has", "I refused"], "partition 0: this node: not on sundays"),
        (
            offering(),
            &["I has", "I fetched", "I broke", "tick", "I has", "I fetched", "I broke"],
            "partition 0: 2 executions failed: the worker's machine failed: no room; and nobody else offers",
        ),
    ];
    for (offering, said, expected) in table {
        let mut story = Story::at_home(SOLO, Placement::Here, offering);
        let mut now = 0;
        story.hear(now, "submit");
        for said in said {
            let wakes = story.machine.deadline().filter(|_| *said == "tick");
            now = wakes.map_or(now + 1, |at| at.0);
            story.hear(now, said);
            while *said == "tick" && !story.told.ends_with("price") {
                now = story.machine.deadline().expect("it tries again").0;
                story.hear(now, "tick");
            }
        }
        assert_eq!(story.reason(), expected);
        assert!(now < 1_000, "{now}");
    }
}

#[test]
fn an_array_takes_as_much_of_its_own_node_as_there_is_room_for() {
    let mut story = Story::at_home(SOLO, Placement::Here, offering());
    story.submission.partitions = 3;
    story.submission.work = canonical(&Work { partitions: 3, ..work() });
    story.hear(0, "submit");
    let told = story.hear(1, "I has");
    assert_eq!(told.matches("award I").count(), 2, "{told}");
    assert!(told.contains("price"), "it asks for the third: {told}");
    assert_eq!(story.hear(2, "I has"), "", "there is no room yet");
    let execution = ExecutionId::derive(story.submission.job(ME), 0, 0);
    story.awards.insert('I', execution);
    story.hear(3, "I fetched");
    let told = story.hear(4, "I executed");
    assert!(told.contains("award I"), "what is free again is used at once: {told}");
}
