//! Jobs of one requester that want the same workers.

use super::*;

/// Jobs that a machine announces when it is told something.
fn announced(machine: &mut Machine, now: Time, input: Input) -> Vec<(JobId, u32)> {
    machine.handle(now, input);
    let job = |output| match output {
        Output::Gossip(_, Message::Announce(announce)) => Some((announce.job, announce.round)),
        _ => None,
    };
    std::iter::from_fn(|| machine.poll()).filter_map(job).collect()
}

#[test]
fn a_less_important_job_waits_while_everybody_is_busy_for_a_more_important_one() {
    let mut machine = machine();
    let urgent = Submission { priority: 5, ..submission(PAIR) };
    let modest = Submission { priority: 0, nonce: urgent.nonce + 1, ..submission(PAIR) };
    let mut heard = announced(&mut machine, Time(0), Input::Submit(Box::new(urgent.clone())));
    let mut now = Time(0);
    while heard.last().is_none_or(|(_, round)| *round < 3) {
        if let Some((job, round)) = heard.last().copied() {
            let busy = Message::Refuse(Refuse { job, round, reason: Reason::Busy });
            announced(&mut machine, now, Input::Heard(Sealed::assume(peer('A'), Some(ME), busy)));
        }
        now = machine.deadline().expect("the urgent job goes on asking");
        heard.extend(announced(&mut machine, now, Input::Tick));
    }
    let waits = announced(&mut machine, now, Input::Submit(Box::new(modest.clone())));
    assert_eq!(waits, [], "the modest job does not compete for what the urgent one waits for");
    announced(&mut machine, now, Input::Stop(urgent.job(ME)));
    let next = machine.deadline().expect("the modest job has its turn");
    assert_eq!(announced(&mut machine, next, Input::Tick), [(modest.job(ME), 0)]);
}
