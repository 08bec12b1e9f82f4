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

/// The part of a pin's name that says for which job's inputs or for which execution it is; none for other pins.
pub(crate) fn owner(pin: &str) -> Option<&str> {
    let parts = if pin.starts_with("execution/") { 2 } else { 3 };
    let end = pin.match_indices('/').nth(parts - 1)?.0 + 1;
    let owner = &pin[..end];
    (owner.starts_with("execution/") || (owner.starts_with("job/") && owner.ends_with("/input/"))).then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_names_its_owner() {
        let (job, run) = (JobId([1; 16]), ExecutionId([2; 16]));
        assert_eq!(owner(&input(job, 7)), Some(inputs(job).as_str()));
        assert_eq!(owner(&execution_input(run, 0)), Some(execution(run).as_str()));
        assert_eq!(owner(&execution_result(run)), Some(execution(run).as_str()));
        assert_eq!([owner(&result(job, 0)), owner(&all_results(job)), owner("user/x")], [None; 3]);
    }
}
