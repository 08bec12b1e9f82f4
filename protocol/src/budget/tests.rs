use super::*;
use crate::id::BlobHash;
use crate::job::spec::NetworkKind;
use crate::limits::{MAX_CLOCK_SKEW_MS, MAX_KNOWN_SPEAKERS, MAX_NEW_SPEAKERS, NEWCOMER_MS, REPLAY_MS, SPEAKERS_GOSSIP};
use crate::message::{Announce, Bid, Contact, ExecutorKind, Needs, Resources};

const NEIGHBOUR: PeerId = PeerId([9; 32]);

fn speaker(number: u32) -> PeerId {
    PeerId(std::array::from_fn(|i| number.to_le_bytes().get(i).copied().unwrap_or(3)))
}

fn job(number: u32) -> JobId {
    JobId(std::array::from_fn(|i| number.to_le_bytes().get(i).copied().unwrap_or(0)))
}

fn sealed(seed: u32, message: Message) -> Sealed {
    Sealed::assume(speaker(seed), None, message)
}

fn announce(seed: u32, number: u32, at: u64) -> Sealed {
    let needs = Needs {
        executor: ExecutorKind::Wasm,
        profile: "wasm-1".into(),
        resources: Resources::default(),
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
    let announce = Announce {
        job: job(number),
        at: Time(at),
        round: 0,
        wanted: 1,
        partitions: 1,
        excluded: Vec::new(),
        work: BlobHash([0; 32]),
        needs,
        window_ms: 100,
        level: 0,
        mesh_size: 10,
        refusals: 0,
        contact: Contact::default(),
    };
    sealed(seed, Message::Announce(announce))
}

fn bid(seed: u32, number: u32) -> Sealed {
    let bid = Bid {
        job: job(number),
        round: 0,
        slots: 1,
        cost: 0,
        operator: None,
        contact: Contact::default(),
        waited_ms: 0,
    };
    sealed(seed, Message::Bid(bid))
}

/// How many of so many messages pass, and what is said of the last that does not.
fn passed(budgets: &mut Budgets, at: u64, via: PeerId, messages: impl Iterator<Item = Sealed>) -> (u32, Ruling) {
    let (mut passed, mut last) = (0, Ruling::Accept);
    for message in messages {
        match budgets.rule(Time(at), via, &message) {
            Ruling::Accept => passed += 1,
            other => last = other,
        }
    }
    (passed, last)
}

#[test]
fn a_speaker_gets_its_allowance_through_whomever_it_speaks_and_no_other_pays_for_it() {
    let mut budgets = Budgets::new(Time(0));
    let burst = SPEAKERS_GOSSIP.burst;
    let message = announce(1, 1, 0);
    let half = |budgets: &mut Budgets, via| passed(budgets, 0, via, (0..burst).map(|_| message.clone())).0;
    let by_two = half(&mut budgets, NEIGHBOUR) + half(&mut budgets, PeerId([8; 32]));
    assert_eq!(by_two, burst);
    assert_eq!(budgets.rule(Time(0), PeerId([7; 32]), &announce(2, 2, 0)), Ruling::Accept);
}

#[test]
fn only_who_passes_on_more_than_an_honest_peer_would_is_to_blame() {
    let flood = |count: u32| (0..count).map(|_| announce(1, 1, 0));
    let burst = SPEAKERS_GOSSIP.burst;
    let mut budgets = Budgets::new(Time(0));
    assert_eq!(
        passed(&mut budgets, 0, NEIGHBOUR, flood(burst + PASSED_ON_GOSSIP.burst)).1,
        Ruling::Ignore(Excess::Speaker)
    );
    assert_eq!(passed(&mut budgets, 0, NEIGHBOUR, flood(1)).1, Ruling::Blame(Offence::Excess));
    let (one, honest) = (announce(1, 1, 0), PeerId([8; 32]));
    assert_eq!(budgets.rule(Time(0), honest, &one), Ruling::Ignore(Excess::Speaker));
    assert_eq!(budgets.rule(Time(0), one.from(), &one), Ruling::Blame(Offence::Excess), "it is the speaker");
}

#[test]
fn what_cannot_be_read_is_charged_to_who_signed_it_like_anything_else() {
    let mut budgets = Budgets::new(Time(0));
    let mut blamed = |via, count: u32| (0..count).filter_map(|_| budgets.strange(Time(0), via, speaker(1))).last();
    assert_eq!(
        blamed(NEIGHBOUR, SPEAKERS_GOSSIP.burst + PASSED_ON_GOSSIP.burst),
        None,
        "an honest neighbour may pass on as much"
    );
    assert_eq!(blamed(NEIGHBOUR, 1), Some(Offence::Excess));
    assert_eq!(blamed(speaker(1), 1), Some(Offence::Excess), "it is the speaker");
    let honest = PeerId([8; 32]);
    assert_eq!(budgets.rule(Time(0), honest, &announce(1, 1, 0)), Ruling::Ignore(Excess::Speaker));
}

#[test]
fn what_has_no_chance_is_known_before_its_signature_is_checked() {
    let (mut budgets, honest) = (Budgets::new(Time(0)), PeerId([8; 32]));
    assert_eq!(budgets.foresee(Time(0), honest, speaker(1)), None);
    passed(&mut budgets, 0, NEIGHBOUR, (0..SPEAKERS_GOSSIP.burst).map(|_| announce(1, 1, 0)));
    assert_eq!(budgets.foresee(Time(0), honest, speaker(1)), Some(Ruling::Ignore(Excess::Speaker)));
    assert_eq!(budgets.foresee(Time(0), speaker(1), speaker(1)), Some(Ruling::Blame(Offence::Excess)));
    let at = NEWCOMER_MS;
    assert_eq!(budgets.foresee(Time(at), NEIGHBOUR, speaker(1)), None, "allowances fill up again");
    passed(&mut budgets, at, NEIGHBOUR, (10..10 + NEWCOMERS_GOSSIP.burst).map(|seed| announce(seed, seed, at)));
    assert_eq!(budgets.foresee(Time(at), NEIGHBOUR, speaker(2)), Some(Ruling::Ignore(Excess::Newcomers)));
    assert_eq!(budgets.foresee(Time(at), honest, speaker(2)), None, "of another neighbour");
}

#[test]
fn a_newcomer_that_floods_is_to_blame_as_soon_as_anybody() {
    let (mut budgets, at, flooder) = (Budgets::new(Time(0)), Time(NEWCOMER_MS), speaker(1));
    let mut blamed = 0;
    for _ in 0..SPEAKERS_GOSSIP.burst + 10 {
        let ruling = budgets.foresee(at, flooder, flooder);
        blamed += u32::from(ruling == Some(Ruling::Blame(Offence::Excess)));
        if ruling.is_none() {
            budgets.rule(at, flooder, &announce(1, 1, NEWCOMER_MS));
        }
    }
    assert_eq!(blamed, 10);
}

#[test]
fn whoever_names_others_falsely_takes_nothing_from_what_they_may_say() {
    let mut budgets = Budgets::new(Time(0));
    for _ in 0..2 * ALL_GOSSIP.burst {
        assert_eq!(budgets.foresee(Time(0), NEIGHBOUR, speaker(1)), None);
    }
    let said = passed(&mut budgets, 0, PeerId([8; 32]), (0..SPEAKERS_GOSSIP.burst).map(|_| announce(1, 1, 0)));
    assert_eq!(said.0, SPEAKERS_GOSSIP.burst);
}

#[test]
fn what_is_said_beyond_what_a_node_passes_on_is_not_looked_at() {
    const CROWD: u32 = 20;
    let (mut budgets, later) = (Budgets::new(Time(0)), NEWCOMER_MS);
    let all = |at: u64, messages: u32| (0..messages).map(move |number| announce(number % CROWD, number, at));
    passed(&mut budgets, 0, NEIGHBOUR, all(0, CROWD));
    let flood = passed(&mut budgets, later, NEIGHBOUR, all(later, NEIGHBOURS_GOSSIP.burst + 1));
    assert_eq!(flood, (NEIGHBOURS_GOSSIP.burst, Ruling::Ignore(Excess::Neighbour)));
    assert_eq!(budgets.foresee(Time(later), NEIGHBOUR, speaker(0)), Some(Ruling::Ignore(Excess::Neighbour)));
    assert_eq!(budgets.foresee(Time(later), PeerId([8; 32]), speaker(0)), None, "another one brings less");
    for number in 10..20 {
        passed(&mut budgets, later, PeerId([number; 32]), all(later, NEIGHBOURS_SHARE.burst));
    }
    assert_eq!(budgets.foresee(Time(later), PeerId([8; 32]), speaker(0)), Some(Ruling::Ignore(Excess::All)));
}

#[test]
fn names_that_were_sown_in_time_crowd_out_only_what_comes_through_their_own_neighbours() {
    const NAMES: u32 = 200;
    let (mut budgets, honest) = (Budgets::new(Time(0)), PeerId([8; 32]));
    passed(&mut budgets, 0, NEIGHBOUR, (0..=NAMES).map(|seed| announce(seed, seed, 0)));
    let mut heard = 0;
    for at in (NEWCOMER_MS..NEWCOMER_MS + 20_000).step_by(100) {
        for neighbour in 20..28 {
            let flood = (1..=100).map(|number| announce(1 + number % NAMES, number, at));
            passed(&mut budgets, at, PeerId([neighbour; 32]), flood);
        }
        heard += passed(&mut budgets, at, honest, (0..5).map(|number| announce(0, number, at))).0;
    }
    assert_eq!(heard, 200 * 5);
}

#[test]
fn a_swarm_of_fresh_names_says_little() {
    let (mut budgets, at) = (Budgets::new(Time(0)), NEWCOMER_MS);
    let names = |count: u32| (0..count).map(|seed| announce(seed, seed, NEWCOMER_MS));
    let expected = (NEWCOMERS_GOSSIP.burst, Ruling::Ignore(Excess::Newcomers));
    let swarm = passed(&mut budgets, at, NEIGHBOUR, names(NEWCOMERS_GOSSIP.burst + 100));
    assert_eq!(swarm, expected, "an honest neighbour may have more of them");
    let more = passed(&mut budgets, at, NEIGHBOUR, names(ALL_GOSSIP.burst));
    assert_eq!(more, (0, Ruling::Blame(Offence::Excess)), "and not that many");
    assert_eq!(budgets.rule(Time(at), PeerId([8; 32]), &announce(1, 1, at)), Ruling::Accept, "of another neighbour");
}

#[test]
fn a_node_that_has_only_just_started_takes_nobody_for_a_newcomer() {
    let (mut budgets, at) = (Budgets::new(Time(0)), NEWCOMER_MS - 1);
    let names = (0..2 * ALL_NEWCOMERS_GOSSIP.burst).map(|seed| announce(seed, seed, at));
    assert_eq!(passed(&mut budgets, at, NEIGHBOUR, names).0, 2 * ALL_NEWCOMERS_GOSSIP.burst);
}

#[test]
fn who_has_been_here_for_a_while_is_heard_beside_any_swarm() {
    let mut budgets = Budgets::new(Time(0));
    assert_eq!(budgets.rule(Time(0), NEIGHBOUR, &announce(0, 0, 0)), Ruling::Accept);
    let later = NEWCOMER_MS;
    assert_eq!(budgets.rule(Time(later), NEIGHBOUR, &announce(0, 0, later)), Ruling::Accept);
    let swarm = (1..NEWCOMERS_GOSSIP.burst + 100).map(|seed| announce(seed, seed, later));
    passed(&mut budgets, later, NEIGHBOUR, swarm);
    assert_eq!(budgets.rule(Time(later), NEIGHBOUR, &announce(0, 0, later)), Ruling::Accept);
}

#[test]
fn what_others_said_a_while_ago_is_not_passed_on_again_even_by_a_wrong_clock() {
    for ahead in [0, 4 * REPLAY_MS] {
        let mut budgets = Budgets::new(Time(0));
        let start = 10 * REPLAY_MS;
        let said = announce(1, 1, start + ahead);
        let mut at = |later: u64, message: &Sealed| budgets.rule(Time(start + later), NEIGHBOUR, message);
        assert_eq!(at(0, &said), Ruling::Accept);
        assert_eq!(at(REPLAY_MS, &said), Ruling::Accept, "gossip may be slow");
        assert_eq!(at(REPLAY_MS + 1, &said), Ruling::Ignore(Excess::Stale));
        assert_eq!(at(2 * REPLAY_MS + 1, &said), Ruling::Blame(Offence::Replayed));
        assert_eq!(at(2 * REPLAY_MS + 1, &announce(1, 2, start + ahead + 2 * REPLAY_MS)), Ruling::Accept);
    }
}

#[test]
fn a_clock_that_was_set_back_is_believed_again_in_time() {
    let mut budgets = Budgets::new(Time(0));
    let start = 10 * MAX_CLOCK_SKEW_MS;
    let behind = |later: u64| announce(1, 1, start + later - 3 * REPLAY_MS);
    assert_eq!(budgets.rule(Time(start), NEIGHBOUR, &announce(1, 1, start)), Ruling::Accept);
    assert_ne!(budgets.rule(Time(start + 1), NEIGHBOUR, &behind(1)), Ruling::Accept);
    let later = MAX_CLOCK_SKEW_MS + 1;
    assert_eq!(budgets.rule(Time(start + later), NEIGHBOUR, &behind(later)), Ruling::Accept);
}

#[test]
fn bids_for_jobs_that_nobody_announced_are_few() {
    let mut budgets = Budgets::new(Time(0));
    budgets.rule(Time(0), NEIGHBOUR, &announce(1, 1, 0));
    let bids = |number: u32| (0..EARLY_BIDS.burst + 10).map(move |_| bid(1 + number, number));
    assert_eq!(passed(&mut budgets, 0, NEIGHBOUR, bids(1)).0, EARLY_BIDS.burst + 10, "it was announced");
    // Through a neighbour, and of a speaker, that have an allowance left.
    let early = passed(&mut budgets, 1_000, PeerId([8; 32]), bids(2));
    assert_eq!(early, (EARLY_BIDS.burst, Ruling::Ignore(Excess::EarlyBids)));
    let later = RECENT_JOB_MS;
    let replayed = passed(&mut budgets, later, NEIGHBOUR, bids(1));
    assert_eq!(replayed, (EARLY_BIDS.burst, Ruling::Ignore(Excess::EarlyBids)), "what was announced is forgotten");
}

#[test]
fn nothing_that_peers_do_makes_it_grow_beyond_its_bounds() {
    let mut budgets = Budgets::new(Time(0));
    for number in 0..3 * u32::try_from(MAX_NEIGHBOURS).unwrap() {
        let neighbour = PeerId(std::array::from_fn(|i| number.to_le_bytes().get(i).copied().unwrap_or(5)));
        budgets.rule(Time(u64::from(number) * 100), neighbour, &announce(number, number, u64::from(number) * 100));
        budgets.suspect(Time(u64::from(number)), neighbour, NEIGHBOUR);
    }
    for number in 0..2 * u32::try_from(MAX_RECENT_JOBS).unwrap() {
        budgets.jobs.note(Time(0), job(number));
    }
    assert!(budgets.neighbours.len() <= MAX_NEIGHBOURS && budgets.suspects.len() <= MAX_SUSPECTS);
    assert!(budgets.jobs.until.len() <= MAX_RECENT_JOBS && budgets.jobs.order.len() <= MAX_RECENT_JOBS);
    assert!(budgets.speakers.remembered() <= MAX_KNOWN_SPEAKERS + MAX_NEW_SPEAKERS);
}
