//! What this build cannot run yet, said plainly at submit rather than by nobody bidding.

use crate::job::problem::Problems;
use crate::job::spec::{Engine, Job, JobKind, NetworkKind, Publisher, Task, VerificationKind};

/// Checks that this build can run a valid job once its local files are blobs; names all that it cannot.
pub fn check(job: &Job) -> Result<(), Problems> {
    let mut problems = Problems::default();
    kind(job, &mut problems);
    engine(&job.task.engine, &mut problems);
    for (index, input) in job.task.input_sources.iter().enumerate() {
        if input.source.is_written() {
            let path = format!("Job.Tasks[0].InputSources[{index}].Source.Params.ReadWrite");
            written(&path, job, &mut problems);
        }
    }
    if let Publisher::S3Managed = job.task.publisher {
        let reason = "is s3managed: there is no operator whose bucket it could be";
        problems.push("Job.Tasks[0].Publisher.Type", reason, "use s3 with a bucket of your own, or blob");
    }
    network(&job.task, &mut problems);
    if job.task.resources.gpu.0 > 0 && !matches!(job.task.engine, Engine::Docker(_)) {
        let reason = "asks for a GPU, which WASM programs cannot use";
        problems.push("Job.Tasks[0].Resources.GPU", reason, "leave it out, or use a container");
    }
    problems.into_result()
}

fn kind(job: &Job, problems: &mut Problems) {
    if job.kind != JobKind::Batch {
        let reason = format!("is {}: this build runs only batch jobs yet", job.kind.name());
        problems.push("Job.Type", reason, "use batch");
    } else if job.count == 0 {
        problems.push("Job.Count", "is 0, which runs nothing", "write 1 or more; `shoal job stop` stops a job");
    }
}

fn engine(engine: &Engine, problems: &mut Problems) {
    if let Engine::Noop = engine {
        problems.push("Job.Tasks[0].Engine.Type", "is noop: this build has no noop executor", "use wasm or docker");
    }
}

fn network(task: &Task, problems: &mut Problems) {
    if task.network.kind != NetworkKind::None && !matches!(task.engine, Engine::Docker(_)) {
        let reason = "asks for a network, which WASM programs do not get: what they read there nobody could verify";
        problems.push("Job.Tasks[0].Network.Type", reason, "leave it out, and bring data as inputs");
    }
    if !task.network.ports.is_empty() {
        let reason = "names ports, which this build opens for no container yet";
        problems.push("Job.Tasks[0].Network.Ports", reason, "leave them out");
    }
}

/// What the program writes in place is for whoever looks there: it is no part of the result, and differs between runs.
fn written(path: &str, job: &Job, problems: &mut Problems) {
    let (reason, remedy) = if !matches!(job.task.engine, Engine::Docker(_)) {
        let remedy = "leave ReadWrite out, and collect what the program writes with ResultPaths";
        ("is true, but WASM programs write to result paths only", remedy)
    } else if job.verification.kind != VerificationKind::None {
        let remedy = "leave ReadWrite out, or write Verification: {Type: none}";
        ("is true: no result can be verified if runs change what others read", remedy)
    } else {
        return;
    };
    problems.push(path, reason, remedy);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::spec::{LocalSource, Source, Verification};

    fn refused(change: impl FnOnce(&mut Job)) -> String {
        let text = include_str!("../../tests/jobs/blob-input.yaml");
        let mut job = crate::job::parse::parse(text).unwrap().job;
        assert_eq!(check(&job), Ok(()));
        change(&mut job);
        check(&job).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_run_yet_is_refused_by_name() {
        let noop = refused(|job| job.task.engine = Engine::Noop);
        assert_eq!(
            noop,
            "field 'Type' in 'Job.Tasks[0].Engine' is noop: this build has no noop executor; use wasm or docker"
        );
        for kind in [JobKind::Ops, JobKind::Service, JobKind::Daemon] {
            assert!(refused(|job| job.kind = kind).contains("this build runs only batch jobs yet"));
        }
        assert!(refused(|job| job.count = 0).contains("which runs nothing"));
        assert!(refused(|job| job.task.publisher = Publisher::S3Managed).contains("use s3 with a bucket of your own"));
        assert!(refused(|job| job.task.network.kind = NetworkKind::Http).contains("WASM programs do not get"));
        assert!(refused(|job| job.task.resources.gpu.0 = 1).contains("cannot use"));
        let container = |job: &mut Job| job.task.engine = Engine::Docker(crate::job::spec::Docker::default());
        let port = |job: &mut Job| job.task.network.ports.push(crate::job::spec::Port::default());
        assert!(refused(|job| (container(job), port(job)).1).contains("names ports, which this build opens"));
    }

    #[test]
    fn a_container_may_have_a_gpu() {
        let mut job = Job::new(crate::job::spec::Task::new(Engine::Docker(crate::job::spec::Docker::default())));
        job.task.resources.gpu.0 = 1;
        assert_eq!(check(&job), Ok(()));
    }

    #[test]
    fn everything_that_cannot_run_is_named_at_once() {
        let all = refused(|job| {
            job.kind = JobKind::Daemon;
            job.task.publisher = Publisher::S3Managed;
            job.task.input_sources[0].source = written_folder();
        });
        assert!(all.starts_with("3 problems:"), "{all}");
        assert!(all.contains("WASM programs write to result paths only"), "{all}");
    }

    fn written_folder() -> Source {
        Source::LocalDirectory(LocalSource { read_write: true, ..LocalSource::default() })
    }

    #[test]
    fn a_folder_is_written_by_containers_that_nobody_verifies() {
        let mut job = crate::job::parse::parse(include_str!("../../tests/jobs/blob-input.yaml")).unwrap().job;
        job.task.input_sources[0].source = written_folder();
        job.task.engine = Engine::Docker(crate::job::spec::Docker::default());
        let verified = check(&job).unwrap_err().to_string();
        assert!(verified.contains("'ReadWrite'") && verified.contains("Verification: {Type: none}"), "{verified}");
        job.verification = Verification::for_engine(&job.task.engine);
        assert_eq!(check(&job), Ok(()));
    }
}
