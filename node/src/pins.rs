//! Names of pins in the blob store, and when they end: results of this node's jobs, and those it made for others.

use shoal_protocol::id::{ExecutionId, JobId};
use shoal_protocol::time::{Millis, Time};
use shoal_store::blobs::{Blobs, Pin, PinError, YIELDING};
use shoal_store::state::{State, StateError};

use crate::records;

/// Where results are that this node made for others: they make way before anything else that is pinned.
pub(crate) const AGREED: &str = YIELDING;
/// Where results of this node's jobs are.
const JOBS: &str = "job/";

/// Why pins of results were not given an end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndError {
    /// The blob store failed.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The state file cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What the names of all pins of a job begin with.
pub(crate) fn of_job(job: JobId) -> String {
    format!("{JOBS}{job}/")
}

/// The result of one partition of a job.
pub(crate) fn result(job: JobId, partition: u32) -> String {
    format!("{JOBS}{job}/result/{partition}")
}

/// The results of all partitions of a job, as one folder.
pub(crate) fn all_results(job: JobId) -> String {
    format!("{JOBS}{job}/results")
}

/// The result of an execution for another node.
pub(crate) fn agreed(execution: ExecutionId) -> String {
    format!("{AGREED}{execution}")
}

/// A job is over: its results are kept until then.
pub(crate) async fn end(blobs: &Blobs, job: JobId, until: Time) -> Result<(), PinError> {
    for pin in endless(blobs, &of_job(job)).await? {
        blobs.pin_until(&pin.name, pin.content, until).await?;
    }
    Ok(())
}

/// The same for all jobs that are over: the node may have ended before it came to that, and earlier builds kept
/// results without end. Of a job that is not on record they are kept for `usual` from now on.
pub(crate) async fn end_all(blobs: &Blobs, state: &State, usual: Millis) -> Result<(), EndError> {
    for pin in endless(blobs, JOBS).await? {
        let job = pin.name.split('/').nth(1).and_then(|id| id.parse().ok());
        let record = job.map(|job| records::job(state, job)).transpose()?.flatten();
        let until = record.map_or_else(|| Some(blobs.now() + usual), |record| record.kept_until());
        if let Some(until) = until {
            blobs.pin_until(&pin.name, pin.content, until).await?;
        }
    }
    Ok(())
}

/// Lets go of what earlier builds pinned for jobs and executions, which guards keep now: nobody else would ever.
pub(crate) async fn release_old(blobs: &Blobs) -> Result<(), PinError> {
    blobs.unpin_prefix("execution/").await?;
    for pin in blobs.pins_with_prefix(JOBS).await? {
        if pin.name.split('/').nth(2) == Some("input") {
            blobs.unpin(&pin.name).await?;
        }
    }
    Ok(())
}

async fn endless(blobs: &Blobs, prefix: &str) -> Result<Vec<Pin>, PinError> {
    let pins = blobs.pins_with_prefix(prefix).await?;
    Ok(pins.into_iter().filter(|pin| pin.until.is_none()).collect())
}

#[cfg(test)]
mod tests {
    use shoal_store::blobs::BlobsConfig;

    use super::*;

    #[tokio::test]
    async fn a_jobs_end_ends_what_keeps_its_results_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), BlobsConfig::default()).await.unwrap();
        let content = blobs.add_bytes(&b"content"[..]).await.unwrap().content;
        let [job, other] = [JobId([1; 16]), JobId([2; 16])];
        for name in [result(job, 0), result(job, 1), result(other, 0), "user/mine".into()] {
            blobs.pin(&name, content).await.unwrap();
        }
        blobs.pin_until(&all_results(job), content, Time(5)).await.unwrap();
        end(&blobs, job, Time(9)).await.unwrap();
        let ends = |pins: Vec<Pin>| pins.into_iter().map(|pin| (pin.name, pin.until)).collect::<Vec<_>>();
        let nine = Some(Time(9));
        let expected = [(result(job, 0), nine), (result(job, 1), nine), (all_results(job), Some(Time(5)))];
        let others = [(result(other, 0), None), ("user/mine".to_owned(), None)];
        assert_eq!(ends(blobs.pins().await.unwrap()), [&expected[..], &others].concat());

        // Neither job is on record.
        let state = State::open(&dir.path().join("state.redb")).unwrap();
        end_all(&blobs, &state, 7).await.unwrap();
        let others = [(result(other, 0), Some(Time(7))), ("user/mine".to_owned(), None)];
        assert_eq!(ends(blobs.pins().await.unwrap()), [&expected[..], &others].concat());
    }

    #[tokio::test]
    async fn pins_of_earlier_builds_go_and_those_of_results_and_people_stay() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), BlobsConfig::default()).await.unwrap();
        let content = blobs.add_bytes(&b"content"[..]).await.unwrap().content;
        let job = JobId([1; 16]);
        let kept = [all_results(job), result(job, 0), "user/execution/input".to_owned()];
        let old = [format!("job/{job}/input/0"), format!("job/{job}/input/1"), "execution/e-1/result".to_owned()];
        for name in kept.iter().chain(&old) {
            blobs.pin(name, content).await.unwrap();
        }
        release_old(&blobs).await.unwrap();
        let names: Vec<String> = blobs.pins().await.unwrap().into_iter().map(|pin| pin.name).collect();
        let mut kept = kept.to_vec();
        kept.sort();
        assert_eq!(names, kept);
    }
}
