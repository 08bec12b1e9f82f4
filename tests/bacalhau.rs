//! Job files for containers, as people wrote them for Bacalhau, on real nodes beside a real engine.

use std::path::Path;

use serde_json::Value;

use crate::docker::engine::image;
use crate::support::{Mesh, root};

/// What the files call their image. Another one of that name may be on the engine, and is not touched.
const THEIRS: &str = "busybox:1.37.0";

/// Runs a job file of the protocol's tests with the test's own image, and returns the job and where its result is.
fn runs(mesh: &Mesh, image: &str, name: &str) -> (Value, std::path::PathBuf) {
    let file = std::fs::read_to_string(root().join("protocol/tests/jobs").join(name)).unwrap();
    assert!(file.contains(THEIRS), "{name} has changed");
    let path = mesh.dir.path().join(name);
    std::fs::write(&path, file.replace(THEIRS, image)).unwrap();
    let got = path.with_extension("got");
    let job = mesh.nodes[0].json(&["job", "run", path.to_str().unwrap(), "--download", got.to_str().unwrap()]);
    assert_eq!(job["State"], "Completed", "{job:#}");
    (job, got)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn docker_jobs_that_need_no_internet_run_unchanged() {
    let Some(image) = image("busybox", &[]) else { return };
    let mesh = Mesh::start_with(2, |_| vec![("SHOAL_EXECUTORS", "wasm,docker")]);
    let (_, got) = runs(&mesh, &image, "docker-hello.yaml");
    assert_eq!(read(&got.join("stdout")), "hello world\n");

    let (job, _) = runs(&mesh, &image, "docker-everything-offline.yaml");
    let id = job["JobID"].as_str().unwrap();
    let target = mesh.dir.path().join("all");
    mesh.nodes[0].json(&["job", "get", id, target.to_str().unwrap(), "--all-executions"]);
    let mut printed = Vec::new();
    for entry in std::fs::read_dir(&target).unwrap() {
        let folder = entry.unwrap().path();
        printed.push(read(&folder.join("stdout")));
        assert_eq!(read(&folder.join("outputs/copy.txt")), "inline\n");
    }
    printed.sort();
    assert_eq!(printed, ["hello world in /tmp part 0\n", "hello world in /tmp part 1\n"]);
}
