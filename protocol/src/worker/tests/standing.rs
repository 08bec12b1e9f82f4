//! What a requester owes, what it loses by not paying, and that it fills nobody else's room.

use super::*;
use crate::budget::Allowance;
use crate::limits::{FIRST_CREDIT, MAX_OFFERS_PER_REQUESTER, REFUSALS, UNSETTLED_MS};
use crate::record::{Record, Standing};

const DEBTOR: PeerId = PeerId([6; 32]);

fn job_of(requester: PeerId, nonce: u64) -> JobId {
    JobId::derive(requester, BlobHash::of(&work()), nonce)
}

fn announce_of(requester: PeerId, nonce: u64) -> Input {
    let announce = Announce { job: job_of(requester, nonce), refusals: u16::MAX, mesh_size: 1, ..announcement() };
    announced_from(requester, MEANS, announce)
}

/// Bids for a job of a requester, and finishes the execution that it is awarded. Says when.
fn finish(worker: &mut Machine, now: u64, requester: PeerId, nonce: u64) -> u64 {
    let job = job_of(requester, nonce);
    let execution = ExecutionId::derive(job, 0, 0);
    let award = Award { job, execution, nonce, ..the_award() };
    let award = Input::Heard(Sealed::assume(requester, Some(ME), Message::Award(award)));
    outputs(worker, now, announce_of(requester, nonce));
    assert!(outputs(worker, now + 100, Input::Tick).contains("bid"), "{nonce}");
    assert!(outputs(worker, now + 110, award).contains("fetch-blobs"), "{nonce}");
    outputs(worker, now + 120, Input::Fetched(execution, Ok(())));
    let claim = Claim { outcome: Outcome::Exited(0), result: BlobHash([5; 32]) };
    let finished = Finished { claim, result_bytes: 1, run_ms: 1, account: Account::default() };
    assert!(outputs(worker, now + 130, Input::Executed(execution, Ok(finished))).contains("commit"), "{nonce}");
    now + 130
}

fn settles(worker: &mut Machine, now: u64, requester: PeerId, nonce: u64) {
    let job = job_of(requester, nonce);
    let settle = Settle { job, execution: ExecutionId::derive(job, 0, 0), ending: Ending::Unused };
    outputs(worker, now, Input::Heard(Sealed::assume(requester, Some(ME), Message::Settle(settle))));
}

fn refusal(worker: &mut Machine, now: u64, requester: PeerId, nonce: u64) -> Option<Reason> {
    worker.handle(Time(now), announce_of(requester, nonce));
    std::iter::from_fn(|| worker.poll()).find_map(|output| match output {
        Output::Send(_, Message::Refuse(refuse)) => Some(refuse.reason),
        _ => None,
    })
}

#[test]
fn nobody_has_a_worker_send_messages_to_many_names() {
    let mut worker = Machine::new(ME, Offering::default(), [3; 32]);
    let mut explained = |now| {
        let names = (0..1_000_u64).map(|number| PeerId(std::array::from_fn(|i| number.to_le_bytes()[i % 8])));
        names.filter(|name| refusal(&mut worker, now, *name, 0).is_some()).count()
    };
    let Allowance { per_second, burst } = REFUSALS;
    assert_eq!([explained(0), explained(1_000)], [burst, per_second].map(|most| usize::try_from(most).unwrap()));
}

#[test]
fn whoever_settles_nothing_gets_no_more_than_its_credit_until_it_does() {
    let (mut worker, mut now) = (worker(), 0);
    let credit = u64::try_from(FIRST_CREDIT).unwrap();
    for nonce in 0..credit {
        now = finish(&mut worker, now, DEBTOR, nonce);
    }
    let owing = Reason::Owing(u32::try_from(FIRST_CREDIT).unwrap());
    assert_eq!(refusal(&mut worker, now, DEBTOR, credit), Some(owing));
    assert_eq!(refusal(&mut worker, now, REQUESTER, 0), None, "that is no other's affair");
    settles(&mut worker, now, DEBTOR, 0);
    assert_eq!(refusal(&mut worker, now, DEBTOR, credit + 1), None);
    assert_eq!(worker.ledger().standing(DEBTOR).settled, 1);
}

#[test]
fn whoever_never_settles_loses_its_standing_and_gets_it_back_in_time() {
    let (mut worker, mut now) = (worker(), 0);
    for nonce in 0..12 {
        now = finish(&mut worker, now, DEBTOR, nonce);
    }
    let over = now + UNSETTLED_MS;
    worker.handle(Time(over), Input::Tick);
    let saved: Vec<Standing> = std::iter::from_fn(|| worker.poll())
        .filter_map(|output| match output {
            Output::Save(Record::Standing(DEBTOR, standing)) => Some(standing),
            _ => None,
        })
        .collect();
    assert_eq!(saved.iter().map(|standing| standing.unsettled).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    assert_eq!(refusal(&mut worker, over, DEBTOR, 100), Some(Reason::Unsettled(12)));

    let mut restarted = super::worker();
    restarted.restore(Time(over), [Record::Standing(DEBTOR, *saved.last().unwrap())]);
    assert_eq!(refusal(&mut restarted, over, DEBTOR, 100), Some(Reason::Unsettled(12)), "it is remembered");
    let later = over + restarted.ledger().standing(DEBTOR).bad_for_ms(Time(over)) + 1_000;
    assert_eq!(refusal(&mut restarted, later, DEBTOR, 101), None);
}

#[test]
fn a_requester_of_low_standing_is_served_after_the_others() {
    let first_bid = |standing: Standing| {
        let mut worker = worker();
        worker.restore(Time(0), [Record::Standing(DEBTOR, standing)]);
        worker.handle(Time(0), announce_of(DEBTOR, 1));
        worker.handle(Time(100), Input::Tick);
        let Some(Output::Gossip(_, Message::Bid(bid))) = worker.poll() else { panic!("it bids") };
        bid.cost
    };
    let low = Standing { demerits: 5_000, ..Standing::default() };
    assert!(first_bid(low) > first_bid(Standing::default()) + crate::auction::COST_STEP);
}

#[test]
fn a_flood_of_one_requester_takes_no_offer_from_another() {
    let mut worker = worker();
    for nonce in 0..100 {
        let announce = Announce { job: job_of(REQUESTER, nonce), window_ms: 20_000, ..announcement() };
        outputs(&mut worker, 0, announced(Announce { mesh_size: u32::MAX, ..announce }));
    }
    let flood = u64::try_from(2 * MAX_OFFERS).unwrap();
    for nonce in 0..flood {
        let announce = Announce { job: job_of(DEBTOR, nonce), ..announcement() };
        outputs(&mut worker, 0, announced_from(DEBTOR, MEANS, announce));
    }
    assert_eq!(worker.offers(), 100 + MAX_OFFERS_PER_REQUESTER);
}

#[test]
fn a_peer_that_sends_other_bytes_is_noted() {
    let mut worker = worker();
    for _ in 0..3 {
        assert_eq!(outputs(&mut worker, 0, Input::Corrupt(DEBTOR)), "save");
    }
    let standing = worker.ledger().standing(DEBTOR);
    assert_eq!((standing.corrupt, worker.ledger().is_trusted(Time(0), DEBTOR)), (3, false));
}
