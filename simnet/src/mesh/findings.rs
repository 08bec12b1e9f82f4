//! What must have happened in the end, as the requesters' records tell it.

use std::collections::BTreeSet;

use shoal_protocol::id::{BlobHash, JobId, PeerId};
use shoal_protocol::limits::MAX_EXECUTIONS;
use shoal_protocol::record::{ExecutionRecord, ExecutionState, JobRecord, JobState};
use shoal_protocol::task::Claim;

use crate::scenarios::Scenario;

/// A job when the run was over.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) job: JobId,
    pub(super) requester: PeerId,
    pub(super) record: Option<JobRecord>,
    pub(super) executions: Vec<ExecutionRecord>,
    /// Bids that its requester heard.
    pub(super) bids: u64,
}

impl Ended {
    pub(super) fn is_completed(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.state == JobState::Completed)
    }

    fn partition(&self, index: u32) -> impl Iterator<Item = &ExecutionRecord> + Clone {
        self.executions.iter().filter(move |execution| execution.partition == index)
    }
}

/// Everything that is wrong with how the jobs of a run ended.
pub(super) fn violations(scenario: &Scenario, jobs: &[Ended]) -> Vec<String> {
    let mut told: Vec<String> = jobs.iter().flat_map(of_job).collect();
    // All jobs are the same computation.
    let results: BTreeSet<BlobHash> = jobs.iter().filter(|job| job.is_completed()).flat_map(results).collect();
    if results.len() > 1 {
        let names: Vec<String> = results.iter().map(|result| result.short()).collect();
        told.push(format!("equal jobs completed with {} results: {}", results.len(), names.join(", ")));
    }
    let completed = jobs.iter().filter(|job| job.is_completed()).count();
    #[expect(clippy::cast_precision_loss, reason = "few jobs")]
    if (completed as f64) < scenario.complete * jobs.len() as f64 {
        told.push(format!("{completed} of {} jobs completed, fewer than {}", jobs.len(), scenario.complete));
    }
    told
}

fn of_job(ended: &Ended) -> Vec<String> {
    let Some(record) = &ended.record else { return vec![format!("{} was never saved", ended.job)] };
    let mut told = Vec::new();
    if !record.state.is_over() {
        told.push(format!("{} never ended: {:?} {}", ended.job, record.state, record.reason));
    }
    for index in 0..record.submission.partitions {
        let of_partition = of_partition(ended, record, index);
        told.extend(of_partition.into_iter().map(|what| format!("{} {what} (partition {index})", ended.job)));
    }
    told
}

fn of_partition(ended: &Ended, record: &JobRecord, index: u32) -> Vec<String> {
    let policy = record.submission.policy;
    let votes: Vec<&ExecutionRecord> = ended.partition(index).filter(|e| e.state.is_vote()).collect();
    let mut told = Vec::new();
    let voters: BTreeSet<PeerId> = votes.iter().map(|e| e.worker).collect();
    if voters.len() < votes.len() || voters.contains(&ended.requester) {
        told.push("has votes that are not independent".to_owned());
    }
    let all = ended.partition(index).count();
    if all > MAX_EXECUTIONS as usize || votes.len() > policy.max_executions as usize {
        told.push(format!("has {all} executions and {} votes, more than allowed", votes.len()));
    }
    if record.state == JobState::Completed {
        let agreed: Vec<Claim> = agreed(ended, index).collect();
        if agreed.len() < policy.agreement as usize || agreed.windows(2).any(|pair| pair[0] != pair[1]) {
            told.push(format!("completed without {} executions that agree", policy.agreement));
        }
    }
    told
}

fn agreed(ended: &Ended, index: u32) -> impl Iterator<Item = Claim> {
    ended.partition(index).filter(|e| e.state == ExecutionState::Agreed).filter_map(ExecutionRecord::claim)
}

fn results(ended: &Ended) -> Vec<BlobHash> {
    agreed(ended, 0).map(|claim| claim.result).collect()
}

#[cfg(test)]
mod tests {
    use shoal_protocol::id::ExecutionId;
    use shoal_protocol::message::Contact;
    use shoal_protocol::task::Outcome;
    use shoal_protocol::time::Time;

    use super::*;
    use crate::chance::Chance;
    use crate::jobs;
    use crate::scenarios;

    const ME: PeerId = PeerId([0; 32]);

    fn calm() -> Scenario {
        scenarios::named("calm").expect("a scenario")
    }

    fn execution(job: JobId, attempt: u8) -> ExecutionRecord {
        let claim = Claim { outcome: Outcome::Exited(0), result: BlobHash([1; 32]) };
        ExecutionRecord {
            job,
            execution: ExecutionId::derive(job, 0, attempt.into()),
            partition: 0,
            attempt: attempt.into(),
            worker: PeerId([attempt + 1; 32]),
            contact: Contact::default(),
            group: None,
            state: ExecutionState::Agreed,
            awarded: Time(0),
            modified: Time(0),
            committed: None,
            revealed: Some((claim, 1)),
            account: None,
            evidence: Vec::new(),
            failure: None,
            compared: Some(claim.result),
        }
    }

    fn good(number: u64) -> Ended {
        let submission = jobs::draw(&calm().load, number, &mut Chance::new(number));
        let (job, now, reason) = (submission.job(ME), Time(0), String::new());
        let state = JobState::Completed;
        let record = JobRecord { job, submission, created: now, modified: now, state, reason, events: 0, rounds: 1 };
        let executions = (0..3).map(|attempt| execution(job, attempt)).collect();
        Ended { job, requester: ME, record: Some(record), executions, bids: 4 }
    }

    fn told(change: impl FnOnce(&mut Ended)) -> String {
        let mut jobs = [good(1), good(2)];
        change(&mut jobs[1]);
        violations(&calm(), &jobs).join("\n")
    }

    #[test]
    fn a_good_run_has_no_violations() {
        assert_eq!(told(|_| {}), "");
    }

    #[test]
    fn what_went_wrong_is_told() {
        let state = |state| move |job: &mut Ended| job.record.as_mut().expect("a record").state = state;
        let other = Claim { outcome: Outcome::Exited(0), result: BlobHash([2; 32]) };
        let answer = |execution: &mut ExecutionRecord| execution.revealed = Some((other, 1));
        assert!(told(state(JobState::Running)).contains("never ended"));
        assert!(told(state(JobState::Failed)).contains("1 of 2 jobs completed"));
        assert!(told(|job| job.record = None).contains("never saved"));
        assert!(told(|job| job.executions.iter_mut().for_each(answer)).contains("with 2 results"));
        assert!(told(|job| answer(&mut job.executions[0])).contains("executions that agree"));
        assert!(told(|job| job.executions.truncate(1)).contains("executions that agree"));
        assert!(told(|job| job.executions[0].worker = PeerId([2; 32])).contains("not independent"));
        assert!(told(|job| job.executions[0].worker = ME).contains("not independent"));
        assert!(told(|job| job.executions = (0..8).map(|i| execution(job.job, i)).collect()).contains("8 votes"));
    }
}
