//! The protocol's records as rows of the state file, and the questions people ask of them.
//!
//! Keys begin with the job, so that everything about a job lies together; jobs are also listed by time.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shoal_protocol::id::{JobId, PeerId};
use shoal_protocol::machine::Key;
use shoal_protocol::record::{Event, ExecutionRecord, JobRecord, Publication, Record, Standing};
use shoal_protocol::time::Time;
use shoal_protocol::wire::canonical;
use shoal_store::state::{Change, Order, Row, State, StateError, Table};

/// Most jobs that can share a shortened id before it is simply ambiguous.
const MAX_MATCHES: usize = 8;
/// Rows that are read at once.
const PAGE: usize = 1_024;

/// Why a text names no job.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// It cannot be the beginning of an id.
    #[error("{0:?} is not a job id: write j- and hex digits, as `shoal job list` shows them")]
    Malformed(String),
    /// There is no such job.
    #[error("this node has no job {0}; `shoal job list` shows those it has")]
    NotFound(String),
    /// There are several.
    #[error("{0} is the beginning of several jobs: {list}; write more of the id", list = join(.1))]
    Ambiguous(String, Vec<JobId>),
    /// The state file cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A record as a change to the state file.
pub(crate) fn save(record: &Record) -> Vec<Change> {
    let put = |table, key: Vec<u8>, value| Change::Put { table, key, value };
    match record {
        Record::Job(job) => {
            let listed = put(Table::JobsByTime, time_key(job.created, job.job), Vec::new());
            vec![put(Table::Jobs, job.job.0.to_vec(), canonical(job)), listed]
        }
        Record::Execution(execution) => {
            let key = [execution.job.0, execution.execution.0].concat();
            vec![put(Table::Executions, key, canonical(execution))]
        }
        Record::Event(event) => {
            let key = [&event.job.0[..], &event.sequence.to_be_bytes()].concat();
            vec![put(Table::Events, key, canonical(event))]
        }
        Record::Publication(publication) => {
            let key = [&publication.job.0[..], &publication.partition.to_be_bytes()].concat();
            vec![put(Table::Publications, key, canonical(publication))]
        }
        Record::Held(held) => vec![put(Table::Held, held.execution.0.to_vec(), canonical(held))],
        Record::Standing(peer, standing) => vec![put(Table::Standings, peer.0.to_vec(), canonical(standing))],
    }
}

/// The removal of a record.
pub(crate) fn forget(key: Key) -> Change {
    match key {
        Key::Held(execution) => Change::Delete { table: Table::Held, key: execution.0.to_vec() },
        Key::Standing(peer) => Change::Delete { table: Table::Standings, key: peer.0.to_vec() },
    }
}

/// Everything that the protocol machine must take up again.
pub(crate) fn load(state: &State) -> Result<Vec<Record>, StateError> {
    let mut records = Vec::new();
    for job in all::<JobRecord>(state, Table::Jobs, &[])?.into_iter().filter(|job| !job.state.is_over()) {
        records.extend(executions(state, job.job)?.into_iter().map(|execution| Record::Execution(Box::new(execution))));
        let publications = publications(state, job.job)?;
        records.extend(publications.into_iter().map(|publication| Record::Publication(Box::new(publication))));
        let last = state.scan_prefix(Table::Events, &job.job.0, None, 1, Order::Descending)?;
        records.extend(last.iter().filter_map(parse).map(Record::Event));
        records.push(Record::Job(Box::new(job)));
    }
    records.extend(all(state, Table::Held, &[])?.into_iter().map(|held| Record::Held(Box::new(held))));
    for row in state.scan(Table::Standings)? {
        if let (Ok(peer), Some(standing)) = (<[u8; 32]>::try_from(row.key.as_slice()), standing_of(&row)) {
            records.push(Record::Standing(PeerId(peer), standing));
        }
    }
    Ok(records)
}

/// What is thought of a peer.
pub(crate) fn standing(state: &State, peer: PeerId) -> Result<Standing, StateError> {
    let rows = state.scan_prefix(Table::Standings, &peer.0, None, 1, Order::Ascending)?;
    Ok(rows.first().and_then(standing_of).unwrap_or_default())
}

/// What earlier builds saved of a peer.
#[derive(Serialize, Deserialize)]
struct EarlierStanding {
    agreed: u32,
    dissented: u32,
    faults: u32,
    dissented_at: Option<Time>,
}

fn standing_of(row: &Row) -> Option<Standing> {
    let earlier = |EarlierStanding { agreed, dissented, faults, dissented_at }| Standing {
        agreed,
        dissented,
        faults,
        dissented_at,
        ..Standing::default()
    };
    postcard::from_bytes(&row.value).ok().or_else(|| parse(row).map(earlier))
}

/// A job and when it was submitted: its place in the list of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) created: Time,
    pub(crate) job: JobId,
}

/// How many jobs are on record.
pub(crate) fn count(state: &State) -> Result<u64, StateError> {
    state.count(Table::Jobs)
}

/// At most so many jobs that are over, the oldest first.
pub(crate) fn oldest_over(state: &State, most: u64) -> Result<Vec<Listed>, StateError> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let rows = state.scan_prefix(Table::JobsByTime, &[], after.as_deref(), PAGE, Order::Ascending)?;
        for listed in rows.iter().filter_map(Listed::parse) {
            if found.len() == most {
                return Ok(found);
            }
            if job(state, listed.job)?.is_some_and(|job| job.state.is_over()) {
                found.push(listed);
            }
        }
        match rows.last() {
            Some(last) if rows.len() == PAGE => after = Some(last.key.clone()),
            _ => return Ok(found),
        }
    }
}

/// Removes jobs and all that belongs to them, in steps of bounded size. Each job goes after what belongs to it, so that
/// a crash leaves nothing that nobody would remove.
pub(crate) fn forget_jobs(state: &State, jobs: &[Listed]) -> Result<(), StateError> {
    let mut changes = Vec::new();
    for Listed { created, job } in jobs {
        for table in [Table::Executions, Table::Events, Table::Publications] {
            loop {
                let rows = state.scan_prefix(table, &job.0, None, PAGE, Order::Ascending)?;
                let is_last = rows.len() < PAGE;
                changes.extend(rows.into_iter().map(|row| Change::Delete { table, key: row.key }));
                if is_last {
                    break;
                }
                state.apply(&std::mem::take(&mut changes))?;
            }
        }
        changes.push(Change::Delete { table: Table::JobsByTime, key: time_key(*created, *job) });
        changes.push(Change::Delete { table: Table::Jobs, key: job.0.to_vec() });
        if changes.len() >= PAGE {
            state.apply(&std::mem::take(&mut changes))?;
        }
    }
    state.apply(&changes)
}

/// One job.
pub(crate) fn job(state: &State, job: JobId) -> Result<Option<JobRecord>, StateError> {
    let value = state.get(Table::Jobs, &job.0)?;
    Ok(value.and_then(|value| parse(&Row { key: job.0.to_vec(), value })))
}

/// The newest jobs, newest first.
pub(crate) fn jobs(state: &State, limit: usize) -> Result<Vec<JobRecord>, StateError> {
    let listed = state.scan_prefix(Table::JobsByTime, &[], None, limit, Order::Descending)?;
    listed.iter().filter_map(Listed::parse).filter_map(|listed| job(state, listed.job).transpose()).collect()
}

/// The executions of a job, by partition and attempt.
pub(crate) fn executions(state: &State, job: JobId) -> Result<Vec<ExecutionRecord>, StateError> {
    let mut executions: Vec<ExecutionRecord> = all(state, Table::Executions, &job.0)?;
    executions.sort_by_key(|execution| (execution.partition, execution.attempt));
    Ok(executions)
}

/// Where a job's results were published, by partition.
pub(crate) fn publications(state: &State, job: JobId) -> Result<Vec<Publication>, StateError> {
    all(state, Table::Publications, &job.0)
}

/// What happened to a job, from the `from`-th event on.
pub(crate) fn history(state: &State, job: JobId, from: u32) -> Result<Vec<Event>, StateError> {
    let after = from.checked_sub(1).map(|last| [&job.0[..], &last.to_be_bytes()].concat());
    let mut events = Vec::new();
    let mut after = after;
    loop {
        let rows = state.scan_prefix(Table::Events, &job.0, after.as_deref(), PAGE, Order::Ascending)?;
        events.extend(rows.iter().filter_map(parse::<Event>));
        match rows.last() {
            Some(last) if rows.len() == PAGE => after = Some(last.key.clone()),
            _ => return Ok(events),
        }
    }
}

/// The job whose id begins with `text`.
pub(crate) fn resolve(state: &State, text: &str) -> Result<JobId, LookupError> {
    let malformed = || LookupError::Malformed(text.chars().take(80).collect());
    let digits = text.strip_prefix("j-").unwrap_or(text);
    if digits.is_empty() || digits.len() > 32 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(malformed());
    }
    let whole = &digits[..digits.len() / 2 * 2];
    let prefix = data_encoding::HEXLOWER.decode(whole.as_bytes()).map_err(|_| malformed())?;
    let rows = state.scan_prefix(Table::Jobs, &prefix, None, PAGE, Order::Ascending)?;
    let ids = rows.iter().filter_map(|row| Some(JobId(row.key.as_slice().try_into().ok()?)));
    let full = format!("j-{digits}");
    let mut matches: Vec<JobId> = ids.filter(|id| id.to_string().starts_with(&full)).take(MAX_MATCHES).collect();
    match matches.len() {
        0 => Err(LookupError::NotFound(full)),
        1 => Ok(matches.remove(0)),
        _ => Err(LookupError::Ambiguous(full, matches)),
    }
}

fn all<T: DeserializeOwned>(state: &State, table: Table, prefix: &[u8]) -> Result<Vec<T>, StateError> {
    let rows = state.scan_prefix(table, prefix, None, usize::MAX, Order::Ascending)?;
    Ok(rows.iter().filter_map(parse).collect())
}

/// Rows are our own; one that cannot be read was written by a build whose records differ, and is left alone.
fn parse<T: DeserializeOwned>(row: &Row) -> Option<T> {
    let value = postcard::from_bytes(&row.value);
    value
        .inspect_err(|error| tracing::warn!(key = %data_encoding::HEXLOWER.encode(&row.key), %error, "unreadable"))
        .ok()
}

impl Listed {
    fn parse(row: &Row) -> Option<Self> {
        let (created, job) = row.key.split_first_chunk()?;
        Some(Self { created: Time(u64::from_be_bytes(*created)), job: JobId(job.try_into().ok()?) })
    }
}

fn time_key(created: Time, job: JobId) -> Vec<u8> {
    [&created.0.to_be_bytes()[..], &job.0].concat()
}

fn join(jobs: &[JobId]) -> String {
    jobs.iter().map(JobId::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use shoal_protocol::id::ExecutionId;
    use shoal_protocol::record::Step;

    use super::*;

    fn put(table: Table, key: Vec<u8>) -> Change {
        Change::Put { table, key, value: vec![1] }
    }

    #[test]
    fn a_forgotten_job_leaves_nothing_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.redb")).unwrap();
        let [old, new] = [1, 2].map(|n| Listed { created: Time(u64::from(n)), job: JobId([n; 16]) });
        let events = 2 * u32::try_from(PAGE).unwrap();
        for listed in [old, new] {
            let event = |sequence| Event {
                job: listed.job,
                sequence,
                at: Time(0),
                step: Step::Bid,
                execution: None,
                peer: None,
                detail: String::new(),
            };
            let mut changes: Vec<Change> = (0..events).flat_map(|n| save(&Record::Event(event(n)))).collect();
            changes.push(put(Table::Jobs, listed.job.0.to_vec()));
            changes.push(put(Table::JobsByTime, time_key(listed.created, listed.job)));
            changes.push(put(Table::Executions, [listed.job.0, ExecutionId([3; 16]).0].concat()));
            changes.push(put(Table::Publications, [&listed.job.0[..], &[0; 4]].concat()));
            state.apply(&changes).unwrap();
        }
        forget_jobs(&state, &[old]).unwrap();
        for table in [Table::Jobs, Table::JobsByTime, Table::Executions, Table::Publications] {
            assert_eq!(state.count(table).unwrap(), 1, "{table:?}");
        }
        assert_eq!(history(&state, old.job, 0).unwrap(), []);
        assert_eq!(history(&state, new.job, 0).unwrap().len(), events as usize);
        forget_jobs(&state, &[old, new]).unwrap();
        assert_eq!((count(&state).unwrap(), state.count(Table::Events).unwrap()), (0, 0));
    }
}
