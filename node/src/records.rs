//! The protocol's records as rows of the state file, and the questions people ask of them.
//!
//! Keys begin with the job, so that everything about a job lies together; jobs are also listed by time.

use serde::de::DeserializeOwned;
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
        if let (Ok(peer), Some(standing)) = (<[u8; 32]>::try_from(row.key.as_slice()), parse::<Standing>(&row)) {
            records.push(Record::Standing(PeerId(peer), standing));
        }
    }
    Ok(records)
}

/// One job.
pub(crate) fn job(state: &State, job: JobId) -> Result<Option<JobRecord>, StateError> {
    let value = state.get(Table::Jobs, &job.0)?;
    Ok(value.and_then(|value| parse(&Row { key: job.0.to_vec(), value })))
}

/// The newest jobs, newest first.
pub(crate) fn jobs(state: &State, limit: usize) -> Result<Vec<JobRecord>, StateError> {
    let listed = state.scan_prefix(Table::JobsByTime, &[], None, limit, Order::Descending)?;
    let ids = listed.iter().filter_map(|row| Some(JobId(row.key.get(8..)?.try_into().ok()?)));
    ids.filter_map(|id| job(state, id).transpose()).collect()
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

fn time_key(created: Time, job: JobId) -> Vec<u8> {
    [&created.0.to_be_bytes()[..], &job.0].concat()
}

fn join(jobs: &[JobId]) -> String {
    jobs.iter().map(JobId::to_string).collect::<Vec<_>>().join(", ")
}
