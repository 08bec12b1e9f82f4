//! Names of pins in the blob store: results, which stay until a person lets them go.

use shoal_protocol::id::JobId;

/// The result of one partition of a job.
pub(crate) fn result(job: JobId, partition: u32) -> String {
    format!("job/{job}/result/{partition}")
}

/// The results of all partitions of a job, as one folder.
pub(crate) fn all_results(job: JobId) -> String {
    format!("job/{job}/results")
}
