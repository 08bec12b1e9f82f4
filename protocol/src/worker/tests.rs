//! Inputs and the outputs that they must cause, at a worker.

mod containers;
mod reservations;
mod restart;
mod standing;

use std::collections::BTreeMap;

use crate::admission::{Admission, Locality};
use crate::auction::Offering;
use crate::id::{BlobHash, ExecutionId, JobId, PeerId};
use crate::job::spec::NetworkKind;
use crate::limits::{MAX_OFFERS, MAX_TRACES, RECENT_BIDS_MS};
use crate::machine::{Finished, Input, Machine, Means, Output};
use crate::message::{
    Announce, Award, Bid, Contact, Ending, ExecutorKind, Message, Needs, PeerPrefix, Reason, Resources, RevealPlease,
    Settle, TraceAnswer, TracePlease,
};
use crate::task::{Account, Claim, Compare, Engine, Failure, Invocation, Limits, Outcome, Wasm, Work};
use crate::time::Time;
use crate::trace::{Rerun, TraceRequest, Window};
use crate::wire::{Sealed, canonical};

const ME: PeerId = PeerId([1; 32]);
const REQUESTER: PeerId = PeerId([2; 32]);
const NONCE: u64 = 7;
/// For how long the worker keeps results of others at most.
const MOST_MS: u64 = 1_000;
const RESOURCES: Resources = Resources { cpu_millis: 500, memory_bytes: 1 << 20, disk_bytes: 1 << 20, gpus: 0 };
/// Of a worker that lacks nothing.
const MEANS: Means = Means { missing_bytes: 0, disk_bytes: u64::MAX, has_image: true, data_here: true };

fn work() -> Vec<u8> {
    let wasm = Wasm {
        profile: "wasm-1".into(),
        module: BlobHash([9; 32]),
        imports: Vec::new(),
        entry_point: "_start".into(),
        arguments: Vec::new(),
    };
    let invocation = Invocation {
        engine: Engine::Wasm(wasm),
        environment: BTreeMap::new(),
        inputs: Vec::new(),
        unread: Vec::new(),
        result_paths: Vec::new(),
        limits: Limits { memory_bytes: 1 << 20, fuel: 1, output_bytes: 1 << 20 },
    };
    let (divided, compare) = (Vec::new(), Compare::All);
    canonical(&Work { invocation, divided, partitions: 1, execution_timeout_ms: 60_000, compare, validator: None })
}

fn job() -> JobId {
    JobId::derive(REQUESTER, BlobHash::of(&work()), NONCE)
}

fn execution() -> ExecutionId {
    ExecutionId::derive(job(), 0, 0)
}

fn worker() -> Machine {
    let executors = [(ExecutorKind::Wasm, "wasm-1".into())].into();
    let capacity = RESOURCES.times(2);
    Machine::new(ME, Offering { executors, capacity, keep_ms: MOST_MS, ..Offering::default() }, [3; 32])
}

fn announce(excluded: Vec<PeerPrefix>) -> Input {
    announce_round(0, excluded)
}

fn announce_round(round: u32, excluded: Vec<PeerPrefix>) -> Input {
    announced(Announce { round, excluded, ..announcement() })
}

fn announced(announce: Announce) -> Input {
    announced_to(MEANS, announce)
}

fn announced_to(means: Means, announce: Announce) -> Input {
    announced_from(REQUESTER, means, announce)
}

fn announced_from(requester: PeerId, means: Means, announce: Announce) -> Input {
    Input::Announced(Sealed::assume(requester, None, Message::Announce(announce)), means)
}

fn announcement() -> Announce {
    let needs = Needs {
        executor: ExecutorKind::Wasm,
        profile: "wasm-1".into(),
        resources: RESOURCES,
        inputs: Vec::new(),
        input_bytes: 0,
        constraints: Vec::new(),
        sources: Vec::new(),
        image: None,
        network: NetworkKind::None,
        image_name: String::new(),
        data: 0,
        data_bits: 0,
    };
    Announce {
        job: job(),
        at: Time(0),
        round: 0,
        wanted: 2,
        partitions: 1,
        excluded: Vec::new(),
        work: BlobHash::of(&work()),
        needs,
        window_ms: 100,
        level: 0,
        mesh_size: 10,
        refusals: 0,
        contact: Contact::default(),
    }
}

fn bid_of(peer: PeerId) -> Input {
    let bid =
        Bid { job: job(), round: 0, slots: 1, cost: 0, operator: None, contact: Contact::default(), waited_ms: 0 };
    Input::Heard(Sealed::assume(peer, None, Message::Bid(bid)))
}

fn from_requester(message: Message) -> Input {
    Input::Heard(Sealed::assume(REQUESTER, Some(ME), message))
}

fn award() -> Input {
    from_requester(Message::Award(the_award()))
}

fn the_award() -> Award {
    Award {
        job: job(),
        execution: execution(),
        partition: 0,
        attempt: 0,
        nonce: NONCE,
        work: work(),
        resources: RESOURCES,
        contact: Contact::default(),
    }
}

fn trace_please(number: u64) -> Input {
    let window = Window::between(0, 10, 10);
    let request = TraceRequest { calls: window, checkpoints: window, call: None, checkpoint: None };
    from_requester(Message::TracePlease(TracePlease { award: the_award(), number, request }))
}

fn executed() -> Input {
    let claim = Claim { outcome: Outcome::Exited(0), result: BlobHash([5; 32]) };
    Input::Executed(execution(), Ok(Finished { claim, result_bytes: 1, run_ms: 1, account: Account::default() }))
}

fn settle() -> Input {
    settle_as(Ending::Agreed { keep_ms: 0 })
}

fn settle_as(ending: Ending) -> Input {
    from_requester(Message::Settle(Settle { job: job(), execution: execution(), ending }))
}

/// The names of what a machine wants done after an input.
fn outputs(machine: &mut Machine, now: u64, input: Input) -> String {
    machine.handle(Time(now), input);
    waiting(machine)
}

fn waiting(machine: &mut Machine) -> String {
    let name = |output| match output {
        Output::Save(_) => "save".to_owned(),
        Output::Forget(_) => "forget".to_owned(),
        Output::Send(_, Message::Trace(trace)) => match trace.answer {
            TraceAnswer::Running => "trace-running".to_owned(),
            TraceAnswer::Done(_) => "trace-done".to_owned(),
            TraceAnswer::Failed(why) => format!("trace-failed ({why})"),
        },
        Output::Gossip(_, message) | Output::Send(_, message) => message.name().to_owned(),
        Output::Fetch { .. } => "fetch-blobs".to_owned(),
        Output::Execute { .. } => "execute".to_owned(),
        Output::Resume { .. } => "resume".to_owned(),
        Output::Keep { keep_ms, .. } => format!("keep-{keep_ms}"),
        Output::Release(_) => "release".to_owned(),
        Output::Learn(..) => "learn".to_owned(),
        Output::Rerun { .. } => "rerun".to_owned(),
        Output::Abort(_) => "abort".to_owned(),
        other => format!("{other:?}"),
    };
    std::iter::from_fn(|| machine.poll()).map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_later_round_that_excludes_a_worker_does_not_void_its_bid() {
    let mut worker = worker();
    let table = [
        (0, announce(Vec::new()), ""),
        (100, Input::Tick, "bid"),
        (200, announce_round(1, vec![[1; 6]]), ""),
        (210, award(), "save learn fetch-blobs"),
    ];
    for (now, input, expected) in table {
        let shown = format!("{input:?}");
        assert_eq!(outputs(&mut worker, now, input), expected, "at {now}: {shown}");
    }
}

#[test]
fn an_executor_that_is_gone_is_not_bid_for_and_what_was_bid_is_declined() {
    let mut worker = worker();
    assert_eq!(outputs(&mut worker, 0, announce(Vec::new())), "");
    assert_eq!(outputs(&mut worker, 100, Input::Tick), "bid");
    worker.offer(ExecutorKind::Wasm, None);
    assert_eq!(outputs(&mut worker, 110, award()), "fail");
    let refusing = Announce { refusals: 16, round: 1, mesh_size: 1, ..announcement() };
    assert_eq!(outputs(&mut worker, 120, announced(refusing)), "refuse");
    worker.offer(ExecutorKind::Wasm, Some("wasm-1".into()));
    assert_eq!(outputs(&mut worker, 130, award()), "save learn fetch-blobs");
}

#[test]
fn a_worker_whose_disk_others_have_filled_says_so_instead_of_bidding() {
    let announce = |wanted| Announce { partitions: 2, wanted, refusals: 10, ..announcement() };
    let needs = RESOURCES.disk_bytes;
    let with = |disk_bytes| Means { missing_bytes: 0, disk_bytes, has_image: true, data_here: true };
    let mut full = worker();
    full.handle(Time(0), announced_to(with(needs - 1), announce(2)));
    let Some(Output::Send(REQUESTER, Message::Refuse(refuse))) = full.poll() else { panic!("it refuses") };
    assert_eq!(refuse.reason, Reason::DiskFull(needs, needs - 1));
    assert_eq!(outputs(&mut full, 100, Input::Tick), "");

    for (disk_bytes, slots) in [(needs, 1), (2 * needs, 2), (u64::MAX, 2)] {
        let mut worker = worker();
        worker.handle(Time(0), announced_to(with(disk_bytes), announce(2)));
        worker.handle(Time(100), Input::Tick);
        let Some(Output::Gossip(_, Message::Bid(bid))) = worker.poll() else { panic!("it bids") };
        assert_eq!(bid.slots, slots, "{disk_bytes}");
    }
}

#[test]
fn what_an_operator_does_not_allow_is_refused_when_it_is_announced() {
    let table = [
        (Admission { block_requesters: [REQUESTER].into(), ..Admission::default() }, Reason::Requester),
        (Admission { allow_requesters: [ME].into(), ..Admission::default() }, Reason::Requester),
        (Admission { reject_stateless: true, ..Admission::default() }, Reason::Stateless),
        (Admission { locality: Locality::Local, ..Admission::default() }, Reason::NotLocal),
    ];
    for (admission, expected) in table {
        let executors = [(ExecutorKind::Wasm, "wasm-1".into())].into();
        let offering = Offering { executors, capacity: RESOURCES, admission, ..Offering::default() };
        let mut worker = Machine::new(ME, offering, [3; 32]);
        let needs = Needs { data: u16::from(expected == Reason::NotLocal), ..announcement().needs };
        let means = Means { missing_bytes: 0, disk_bytes: u64::MAX, has_image: true, data_here: false };
        let announce = Announce { refusals: 10, needs, ..announcement() };
        worker.handle(Time(0), announced_to(means, announce));
        let Some(Output::Send(REQUESTER, Message::Refuse(refuse))) = worker.poll() else { panic!("it refuses") };
        assert_eq!(refuse.reason, expected);
        assert_eq!(outputs(&mut worker, 100, Input::Tick), "");
    }
}

#[test]
fn a_requester_that_nobody_asked_gets_no_reason() {
    let blocked = Admission { block_requesters: [REQUESTER].into(), ..Admission::default() };
    let executors = [(ExecutorKind::Wasm, "wasm-1".into())].into();
    let mut worker = Machine::new(ME, Offering { executors, admission: blocked, ..Offering::default() }, [3; 32]);
    assert_eq!(outputs(&mut worker, 0, announce(Vec::new())), "");
}

#[test]
fn a_job_that_its_operator_turned_down_is_not_bid_for_again() {
    let mut worker = worker();
    let refusing = |round| announced(Announce { refusals: 10, round, ..announcement() });
    let refused = || Input::Fetched(execution(), Err(Failure::Refused("not on sundays".into())));
    let table = [
        (0, announce(Vec::new()), ""),
        (100, Input::Tick, "bid"),
        (110, award(), "save learn fetch-blobs"),
        (120, refused(), "forget release fail"),
        (130, refused(), ""),
        (140, refusing(1), "refuse"),
        (150, award(), "fail"),
    ];
    for (now, input, expected) in table {
        let shown = format!("{input:?}");
        assert_eq!(outputs(&mut worker, now, input), expected, "at {now}: {shown}");
    }
    worker.handle(Time(160), refusing(2));
    let Some(Output::Send(_, Message::Refuse(refuse))) = worker.poll() else { panic!("it refuses") };
    assert_eq!(refuse.reason, Reason::Policy("not on sundays".into()));
}

#[test]
fn work_that_is_not_what_was_announced_is_declined() {
    let admission = Admission { reject_stateless: true, ..Admission::default() };
    let executors = [(ExecutorKind::Wasm, "wasm-1".into())].into();
    let offering = Offering { executors, capacity: RESOURCES, admission, ..Offering::default() };
    let mut worker = Machine::new(ME, offering, [3; 32]);
    let lie = Announce { needs: Needs { data: 1, ..announcement().needs }, ..announcement() };
    assert_eq!(outputs(&mut worker, 0, announced(lie)), "");
    assert_eq!(outputs(&mut worker, 100, Input::Tick), "bid");
    worker.handle(Time(110), award());
    let Some(Output::Send(_, Message::Fail(fail))) = worker.poll() else { panic!("it declines") };
    assert_eq!(fail.failure, Failure::Declined("inputs were announced, and there are none".into()));
}

#[test]
fn an_execution_takes_each_step_once_and_in_order() {
    let mut worker = worker();
    let reveal_please = || from_requester(Message::RevealPlease(RevealPlease { job: job(), execution: execution() }));
    let table = [
        (0, announce(Vec::new()), ""),
        (100, Input::Tick, "bid"),
        (110, award(), "save learn fetch-blobs"),
        (120, award(), "progress"),
        (130, Input::Fetched(execution(), Ok(())), "execute"),
        (140, executed(), "save commit"),
        (150, executed(), ""),
        (160, award(), "commit"),
        (170, reveal_please(), "reveal"),
        (180, settle(), "forget release"),
        (190, settle(), ""),
        (200, award(), "fail"),
        (210, reveal_please(), "fail"),
    ];
    for (now, input, expected) in table {
        assert_eq!(outputs(&mut worker, now, input.clone()), expected, "at {now}: {input:?}");
    }
    outputs(&mut worker, 100_000, Input::Tick);
    assert_eq!((worker.held_executions(), worker.capacity().0, worker.deadline()), (0, Resources::default(), None));
}

#[test]
fn only_what_was_agreed_on_is_kept_and_no_longer_than_the_worker_likes() {
    let steps = || [announce(Vec::new()), Input::Tick, award(), Input::Fetched(execution(), Ok(())), executed()];
    let table = [
        (5, Ending::Agreed { keep_ms: 7 }, "keep-7 forget release"),
        (5, Ending::Agreed { keep_ms: u64::MAX }, "keep-1000 forget release"),
        (5, Ending::Agreed { keep_ms: 0 }, "forget release"),
        (5, Ending::Dissented, "forget release"),
        (5, Ending::Unused, "forget release"),
        (4, Ending::Agreed { keep_ms: 7 }, "abort forget release"),
    ];
    for (taken, ending, expected) in table {
        let mut worker = worker();
        for (number, input) in (0..).zip(steps()).take(taken) {
            outputs(&mut worker, 100 * number, input);
        }
        assert_eq!(outputs(&mut worker, 1_000, settle_as(ending)), expected, "{ending:?} after {taken} steps");
    }
}

/// A worker that has run and settled an execution.
fn experienced() -> Machine {
    let mut worker = worker();
    let steps = [(0, announce(Vec::new())), (100, Input::Tick), (110, award())];
    let then = [(130, Input::Fetched(execution(), Ok(()))), (140, executed()), (180, settle())];
    for (now, input) in steps.into_iter().chain(then) {
        outputs(&mut worker, now, input);
    }
    assert_eq!(worker.capacity().0, Resources::default());
    worker
}

fn reran() -> Input {
    let claim = Claim { outcome: Outcome::Exited(0), result: BlobHash([5; 32]) };
    let rerun = Rerun { claim, account: Account::default(), trace: Default::default() };
    Input::Reran(execution(), Ok(Box::new(rerun)))
}

#[test]
fn an_execution_of_the_past_is_run_again_for_its_requester() {
    let mut worker = experienced();
    let table = [
        (200, trace_please(0), "trace-running learn rerun"),
        (210, trace_please(0), "trace-running"),
        (220, trace_please(1), "trace-failed (declined: another execution is being looked into)"),
        (230, reran(), "trace-done release"),
        (240, trace_please(0), "trace-done"),
        (250, reran(), ""),
        (260, trace_please(1), "trace-running learn rerun"),
        (270, settle_as(Ending::Cancelled), "abort release"),
        (280, reran(), ""),
        (290, settle_as(Ending::Cancelled), ""),
        (300, trace_please(1), "trace-running learn rerun"),
        (310, Input::Reran(execution(), Err(Failure::TimedOut)), "trace-failed (execution timeout reached) release"),
    ];
    for (now, input, expected) in table {
        assert_eq!(outputs(&mut worker, now, input.clone()), expected, "at {now}: {input:?}");
        let used = if expected.contains("rerun") { RESOURCES } else { worker.capacity().0 };
        assert_eq!(worker.capacity().0, used, "at {now}: a run is charged");
    }
    assert_eq!(worker.capacity().0, Resources::default());
}

#[test]
fn only_what_was_run_here_is_run_again_and_not_for_ever() {
    let refused = "trace-failed (declined: it remembers no such execution)";
    assert_eq!(outputs(&mut worker(), 0, trace_please(0)), refused);
    let mut worker = experienced();
    for number in 0..u64::from(MAX_TRACES) {
        assert_eq!(outputs(&mut worker, 200, trace_please(number)), "trace-running learn rerun");
        assert_eq!(outputs(&mut worker, 200, reran()), "trace-done release");
    }
    let refused = "trace-failed (declined: it was looked into often enough)";
    assert_eq!(outputs(&mut worker, 200, trace_please(99)), refused);
}

#[test]
fn an_award_without_a_bid_is_declined() {
    assert_eq!(outputs(&mut worker(), 0, award()), "fail");
}

#[test]
fn others_silence_a_worker_only_with_bids_of_their_own_that_count() {
    let [peer, other] = [PeerId([7; 32]), PeerId([8; 32])];
    let table = [
        (vec![], vec![peer, other], ""),
        (vec![], vec![peer, peer, peer], "bid"),
        (vec![[8; 6]], vec![peer, other], "bid"),
    ];
    for (excluded, bidders, expected) in table {
        let mut worker = worker();
        outputs(&mut worker, 0, announce(excluded.clone()));
        for bidder in &bidders {
            outputs(&mut worker, 0, bid_of(*bidder));
        }
        assert_eq!(outputs(&mut worker, 100, Input::Tick), expected, "{excluded:?} {bidders:?}");
    }
}

#[test]
fn bids_that_come_before_their_announcement_silence_a_worker_too() {
    let [peer, other] = [PeerId([7; 32]), PeerId([8; 32])];
    let table = [
        (vec![], vec![peer, other], 5_000, ""),
        (vec![], vec![peer], 5_000, "bid"),
        (vec![], vec![peer, peer], 5_000, "bid"),
        (vec![[8; 6]], vec![peer, other], 5_000, "bid"),
        (vec![], vec![peer, other], 5_001 + RECENT_BIDS_MS, "bid"),
    ];
    for (excluded, bidders, announced, expected) in table {
        let mut worker = worker();
        for bidder in &bidders {
            outputs(&mut worker, 5_000, bid_of(*bidder));
        }
        outputs(&mut worker, announced, announce(excluded.clone()));
        let said = outputs(&mut worker, announced + 100, Input::Tick);
        assert_eq!(said, expected, "{excluded:?} {bidders:?} {announced}");
    }
}

#[test]
fn an_announcement_that_comes_twice_is_answered_once() {
    let (peer, other) = (PeerId([7; 32]), PeerId([8; 32]));
    let twice = |bidders: &[PeerId], again: u64| {
        let mut worker = worker();
        let mut said = outputs(&mut worker, 0, announce(Vec::new()));
        bidders.iter().for_each(|bidder| said += &outputs(&mut worker, 10, bid_of(*bidder)));
        said += &outputs(&mut worker, 100, Input::Tick);
        said += &outputs(&mut worker, again, announce(Vec::new()));
        said += &outputs(&mut worker, again + 100, Input::Tick);
        (said, worker.deadline())
    };
    assert_eq!(twice(&[peer, other], 150), (String::new(), None));
    assert_eq!(twice(&[], 150).0, "bid");
    assert_eq!(twice(&[], 150 + RECENT_BIDS_MS).0, "bid");
}

#[test]
fn a_flood_of_announcements_crowds_out_only_itself() {
    let mut worker = worker();
    for number in 0..u128::try_from(2 * MAX_OFFERS).unwrap() {
        // Of a mesh so large that none of these is answered soon.
        let job = JobId(number.to_be_bytes());
        let flood = Announce { job, window_ms: 20_000, mesh_size: u32::MAX, ..announcement() };
        assert_eq!(outputs(&mut worker, 0, announced(flood)), "");
        if number == 10 {
            assert_eq!(outputs(&mut worker, 0, announce(Vec::new())), "");
        }
    }
    assert_eq!(outputs(&mut worker, 100, Input::Tick), "bid");
}

#[test]
fn a_bid_reserves_capacity_until_it_lapses() {
    let mut worker = worker();
    outputs(&mut worker, 0, announce(Vec::new()));
    outputs(&mut worker, 100, Input::Tick);
    assert_eq!(worker.capacity().0, RESOURCES);
    let lapses = worker.deadline().expect("a reservation has an end");
    outputs(&mut worker, lapses.0, Input::Tick);
    assert_eq!((worker.capacity().0, worker.deadline()), (Resources::default(), None));
}
