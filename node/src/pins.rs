//! Names of pins in the blob store: results, which stay until a person lets them go.

use shoal_protocol::id::JobId;
use shoal_store::blobs::{Blobs, PinError};

/// What the names of all pins of a job begin with.
pub(crate) fn of_job(job: JobId) -> String {
    format!("job/{job}/")
}

/// The result of one partition of a job.
pub(crate) fn result(job: JobId, partition: u32) -> String {
    format!("job/{job}/result/{partition}")
}

/// The results of all partitions of a job, as one folder.
pub(crate) fn all_results(job: JobId) -> String {
    format!("job/{job}/results")
}

/// Lets go of what earlier builds pinned for jobs and executions, which guards keep now: nobody else would ever.
pub(crate) async fn release_old(blobs: &Blobs) -> Result<(), PinError> {
    blobs.unpin_prefix("execution/").await?;
    for pin in blobs.pins_with_prefix("job/").await? {
        if pin.name.split('/').nth(2) == Some("input") {
            blobs.unpin(&pin.name).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shoal_store::blobs::BlobsConfig;

    use super::*;

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
