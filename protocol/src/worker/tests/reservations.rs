//! What a bid reserves, for how long, and that nobody is kept out by it.

use super::*;
use crate::limits::{BID_HOLD_MS, MAX_WINDOW_MS, MIN_BELIEVED_WINDOW_MS};

/// An announcement of a job that fills the worker, with the longest window there is.
fn announced_by(requester: PeerId) -> Input {
    let job = JobId::derive(requester, BlobHash::of(&work()), NONCE);
    let window_ms = u32::try_from(MAX_WINDOW_MS).unwrap();
    let announce = Announce { job, window_ms, mesh_size: 1, partitions: 2, ..announcement() };
    announced_from(requester, MEANS, announce)
}

fn awarded_by(requester: PeerId, attempt: u32) -> Input {
    let job = JobId::derive(requester, BlobHash::of(&work()), NONCE);
    let execution = ExecutionId::derive(job, 0, attempt);
    let award = Award { job, execution, attempt, ..the_award() };
    Input::Heard(Sealed::assume(requester, Some(ME), Message::Award(award)))
}

/// Lets a worker do what is due next; says when that was, and what it did.
fn next(worker: &mut Machine) -> (u64, String) {
    let due = worker.deadline().expect("something is due").0;
    (due, outputs(worker, due, Input::Tick))
}

#[test]
fn requesters_that_award_nothing_keep_nobody_out() {
    let (mut worker, mut now) = (worker(), 0);
    let hoarders: Vec<PeerId> = (10..40).map(|name| PeerId([name; 32])).collect();
    for hoarder in &hoarders[1..] {
        outputs(&mut worker, now, announced_by(*hoarder));
        assert_eq!(next(&mut worker).1, "bid");
        now = next(&mut worker).0;
    }
    outputs(&mut worker, now, announced_by(hoarders[0]));
    let (now, said) = next(&mut worker);
    assert_eq!(said, "bid");

    assert_eq!(outputs(&mut worker, now, announce(Vec::new())), "");
    let (now, said) = next(&mut worker);
    assert_eq!(said, "bid", "all is reserved for somebody who will not want it");
    assert_eq!(outputs(&mut worker, now, award()), "save learn fetch-blobs");
}

#[test]
fn whoever_awards_first_has_the_room_and_what_is_left_is_for_others() {
    let mut worker = worker();
    let [first, second] = [PeerId([7; 32]), PeerId([8; 32])];
    outputs(&mut worker, 0, announced_by(first));
    assert_eq!(next(&mut worker).1, "bid");
    let (now, _) = next(&mut worker);
    outputs(&mut worker, now, announced_by(second));
    let (now, said) = next(&mut worker);
    assert_eq!((said.as_str(), worker.capacity().0), ("bid", RESOURCES.times(2)), "all is reserved for the second");

    let table = [(first, 0, "save learn fetch-blobs"), (second, 0, "save learn fetch-blobs"), (second, 1, "fail")];
    for (requester, attempt, expected) in table {
        assert_eq!(outputs(&mut worker, now, awarded_by(requester, attempt)), expected, "{requester} {attempt}");
    }
    assert_eq!(worker.capacity().0, RESOURCES.times(2));
}

#[test]
fn nothing_is_reserved_for_as_long_as_a_requester_likes() {
    let mut worker = worker();
    outputs(&mut worker, 0, announced_by(REQUESTER));
    let (spoke, said) = next(&mut worker);
    assert_eq!((said.as_str(), worker.capacity().0), ("bid", RESOURCES.times(2)));
    let (lapsed, _) = next(&mut worker);
    assert_eq!(
        (lapsed, worker.capacity().0),
        (spoke.max(MIN_BELIEVED_WINDOW_MS) + BID_HOLD_MS + 4, Resources::default())
    );
}

#[test]
fn bids_that_nobody_took_up_are_forgotten_before_those_that_are_reserved() {
    let mut worker = worker();
    outputs(&mut worker, 0, announced(Announce { window_ms: 2_000, mesh_size: 1, ..announcement() }));
    assert_eq!(next(&mut worker).1, "bid");
    let crumb = Resources { cpu_millis: 1, memory_bytes: 1, disk_bytes: 1, gpus: 0 };
    let needs = Needs { resources: crumb, ..announcement().needs };
    let mut bids = 0;
    for wave in 0..20 {
        let heard = 200 + 100 * wave;
        for name in 0..300 {
            let requester = PeerId(BlobHash::of(&u64::to_le_bytes(1_000 * wave + name)).0);
            let job = JobId::derive(requester, BlobHash::of(&work()), NONCE);
            let bait = Announce { job, needs: needs.clone(), window_ms: 4, ..announcement() };
            worker.handle(Time(heard), announced_from(requester, MEANS, bait));
        }
        bids += outputs(&mut worker, heard + 10, Input::Tick).matches("bid").count();
    }
    assert!(bids > MAX_OFFERS, "{bids}");
    assert_eq!(outputs(&mut worker, 2_250, award()), "save learn fetch-blobs");
}
