//! Names of pins in the blob store: what is kept, for whom, and until when.

use shoal_protocol::id::{ExecutionId, JobId};

/// Everything that an execution of this node fetched and made, until it is settled.
pub(crate) fn execution(execution: ExecutionId) -> String {
    format!("execution/{execution}/")
}

/// A module or input of an execution.
pub(crate) fn execution_input(execution: ExecutionId, index: usize) -> String {
    format!("execution/{execution}/input/{index}")
}

/// The result of an execution.
pub(crate) fn execution_result(execution: ExecutionId) -> String {
    format!("execution/{execution}/result")
}

/// Modules and inputs of a job of this node, until it is over.
pub(crate) fn inputs(job: JobId) -> String {
    format!("job/{job}/input/")
}

/// A module or input of a job.
pub(crate) fn input(job: JobId, index: usize) -> String {
    format!("job/{job}/input/{index}")
}

/// The result of one partition of a job.
pub(crate) fn result(job: JobId, partition: u32) -> String {
    format!("job/{job}/result/{partition}")
}

/// The results of all partitions of a job, as one folder.
pub(crate) fn all_results(job: JobId) -> String {
    format!("job/{job}/results")
}
