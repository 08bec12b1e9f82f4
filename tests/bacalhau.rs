//! Job files for containers, as people wrote them for Bacalhau, on real nodes beside a real engine: each kind of its
//! public examples that needs no internet, of its first format as of its last.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::docker::engine::image;
use crate::support::{Mesh, root};

/// What the files call their image. Another one of that name may be on the engine, and is not touched.
const THEIRS: &str = "busybox:1.37.0";

/// A mesh that runs containers, and the test's own image.
struct Bench {
    mesh: Mesh,
    image: String,
}

impl Bench {
    fn start() -> Option<Self> {
        let image = image("busybox", &[])?;
        Some(Self { mesh: Mesh::start_with(2, |_| vec![("SHOAL_EXECUTORS", "wasm,docker")]), image })
    }

    /// Runs a job file of the protocol's tests with the test's own image, and returns the job and where its result is.
    /// Its template is filled as the file says, but for what is given here.
    fn runs(&self, name: &str, variables: &[String]) -> (Value, PathBuf) {
        let file = std::fs::read_to_string(root().join("protocol/tests/jobs").join(name)).unwrap();
        assert!(file.contains(THEIRS), "{name} has changed");
        let path = self.mesh.dir.path().join(name);
        std::fs::write(&path, file.replace(THEIRS, &self.image)).unwrap();
        let got = path.with_extension("got");
        let own = file.lines().filter_map(|line| line.strip_prefix("# variables: ")).flat_map(|line| line.split(' '));
        let variables = own.chain(variables.iter().map(String::as_str)).flat_map(|variable| ["-V", variable]);
        let run = ["job", "run", path.to_str().unwrap(), "--download", got.to_str().unwrap()];
        let job = self.mesh.nodes[0].json(&run.into_iter().chain(variables).collect::<Vec<_>>());
        assert_eq!((&job["State"], &job["ExitCode"]), (&"Completed".into(), &0.into()), "{name}: {job:#}");
        (job, got)
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn docker_jobs_that_need_no_internet_run_unchanged() {
    let Some(bench) = Bench::start() else { return };
    let (_, got) = bench.runs("docker-hello.yaml", &[]);
    assert_eq!(read(&got.join("stdout")), "hello world\n");

    let (job, _) = bench.runs("docker-everything-offline.yaml", &[]);
    let id = job["JobID"].as_str().unwrap();
    let target = bench.mesh.dir.path().join("all");
    bench.mesh.nodes[0].json(&["job", "get", id, target.to_str().unwrap(), "--all-executions"]);
    let mut printed = Vec::new();
    for entry in std::fs::read_dir(&target).unwrap() {
        let folder = entry.unwrap().path();
        printed.push(read(&folder.join("stdout")));
        assert_eq!(read(&folder.join("outputs/copy.txt")), "inline\n");
    }
    printed.sort();
    assert_eq!(printed, ["hello world in /tmp part 0\n", "hello world in /tmp part 1\n"]);
}

#[test]
fn scripts_in_templates_numbers_and_empty_fields_are_what_people_write() {
    let Some(bench) = Bench::start() else { return };
    let (_, got) = bench.runs("docker-script.yaml", &[]);
    for part in ["0", "1"] {
        let printed: Value = serde_json::from_str(&read(&got.join(part).join("stdout"))).unwrap();
        let of = format!("{part} of 2");
        assert_eq!(printed, serde_json::json!({"words": 3, "from": "dusk", "until": "dawn", "part": of}));
    }
    let (_, got) = bench.runs("docker-as-described.yaml", &[]);
    assert_eq!(read(&got.join("stdout")), "60\n");
    let (job, got) = bench.runs("docker-numbers.yaml", &[]);
    assert_eq!(read(&got.join("stdout")), "1\n2\n3\n");
    assert_eq!(job["Spec"]["Tasks"][0]["Resources"]["CPU"], "100m", "{job:#}");
}

#[test]
fn inputs_and_outputs_go_where_their_files_say() {
    let Some(bench) = Bench::start() else { return };
    let (_, got) = bench.runs("docker-output.json", &[]);
    assert_eq!(read(&got.join("output_custom/output.txt")), "15\n");
    let folder = bench.mesh.dir.path().join("hello");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("hello.txt"), "hello\n").unwrap();
    let (_, got) = bench.runs("docker-folder.yaml", &[format!("folder={}", folder.display())]);
    assert_eq!((read(&got.join("stdout")), read(&got.join("outputs/hello.txt"))), ("hello\n".into(), "hello\n".into()));
}

#[test]
fn files_of_every_older_version_run_too() {
    let Some(bench) = Bench::start() else { return };
    let (_, got) = bench.runs("legacy-v1beta1.yaml", &[]);
    assert_eq!(
        (read(&got.join("stdout")), read(&got.join("output_custom/output.txt"))),
        ("15\n".into(), "15\n".into())
    );
    let (job, got) = bench.runs("legacy-v1beta2.yaml", &[]);
    for part in ["0", "1"] {
        assert_eq!(read(&got.join(part).join("stdout")), "inline\nworld 2\n");
    }
    assert_eq!(job["Spec"]["Labels"], serde_json::json!({"old": "", "older": ""}), "{job:#}");
    let (_, got) = bench.runs("legacy-v1alpha1.yaml", &[]);
    assert_eq!(read(&got.join("stdout")), "simple job output\n");
}
