//! Jobs that nobody else runs: a node that is alone, or whose peers do not want them, and commands without a node.

use serde_json::Value;

use crate::docker::engine::image;
use crate::docker::{DOCKER, Nodes, has_no_containers};
use crate::support::{Daemon, command, executions, module, run, slow_module, text};

/// A program that ends at once.
const ENDS: &str = r#"(module (func (export "_start")))"#;

/// Runs a command that need not succeed, and returns the job.
fn job(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(output)))
}

/// Asserts that one execution was enough, and that it was this node's.
fn ran_itself(node: &Daemon, job: &Value) {
    assert_eq!(job["State"], "Completed", "{job:#}");
    let executions = executions(job);
    assert_eq!((executions.len(), &executions[0]["PeerID"]), (1, &node.id.as_str().into()), "{job:#}");
    assert_eq!(job["Verification"]["Verified"], false, "{job:#}");
}

#[test]
fn a_running_node_that_is_alone_runs_its_own_container() {
    let Some(image) = image("busybox", &[]) else { return };
    let mesh = Nodes::start(&[&DOCKER]);
    let node = &mesh.nodes[0];
    let ran = node.run(&["docker", "run", "-o", "out:/out", &image, "sh", "-c", "echo said; echo kept >/out/file"]);
    assert!(ran.status.success() && String::from_utf8_lossy(&ran.stdout).contains("said\n"), "{}", text(&ran));
    let described = job(&node.run(&["--format", "json", "docker", "run", &image, "sh", "-c", "exit 7"]));
    ran_itself(node, &described);
    assert_eq!(executions(&described)[0]["ExitCode"], 7, "{described:#}");
    let array = node.json(&["docker", "run", "--count", "3", &image, "true"]);
    assert_eq!((&array["State"], executions(&array).len()), (&"Completed".into(), 3), "{array:#}");
    has_no_containers(node);
}

#[test]
fn a_running_node_runs_itself_what_no_peer_runs_and_nobody_verifies() {
    let mesh = Nodes::start(&[&[], &["--executors", "none"]]);
    let node = &mesh.nodes[0];
    let program = module(mesh.dir.path(), "ends.wasm", ENDS);
    ran_itself(node, &node.json(&["wasm", "run", "--executions", "1", &program]));
    let verified = job(&node.run(&["--format", "json", "wasm", "run", &program]));
    assert_eq!((&verified["State"], executions(&verified).len()), (&"Failed".into(), 0), "{verified:#}");
    assert!(!verified["StateReason"].as_str().unwrap().contains("this node"), "{verified:#}");
}

#[test]
fn what_an_operator_does_not_allow_is_not_allowed_to_his_own_node_either() {
    let Some(image) = image("busybox", &[]) else { return };
    let asked = tempfile::NamedTempFile::new().unwrap();
    let probe = format!("cat >{}; echo not today; exit 1", asked.path().display());
    let options = [&DOCKER[..], &["--probe-exec", &probe]].concat();
    let mesh = Nodes::start(&[&options]);
    let refused = job(&mesh.nodes[0].run(&["--format", "json", "docker", "run", &image, "true"]));
    assert_eq!((&refused["State"], executions(&refused).len()), (&"Failed".into(), 1), "{refused:#}");
    assert!(refused["StateReason"].as_str().unwrap().ends_with("this node: not today"), "{refused:#}");
    assert!(std::fs::read_to_string(asked.path()).unwrap().contains(&mesh.nodes[0].id), "it was asked");

    let denied = [&DOCKER[..], &["--deny-image", "*"]].concat();
    let mesh = Nodes::start(&[&denied]);
    let refused = job(&mesh.nodes[0].run(&["--format", "json", "docker", "run", &image, "true"]));
    let reason = refused["StateReason"].as_str().unwrap();
    assert!(
        reason.contains("this node: its operator does not allow image") && reason.contains("deny_images"),
        "{reason}"
    );
    assert_eq!(executions(&refused).len(), 0, "{refused:#}");
}

#[test]
fn alone_a_command_says_at_once_what_will_not_change() {
    let Some(image) = image("busybox", &[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let table: [(&[&str], &str); 4] = [
        (&["--gpu", "1"], "this node: GPU 1 > 0 (its setting gpus"),
        (&["--memory", "100TB"], "this node: memory"),
        (&["--network", "bridge"], "no network of type Bridge (its setting docker_networks"),
        (&["--network", "http", "--domain", "example.org"], "no network of type HTTP (its setting docker_networks"),
    ];
    for (flags, expected) in table {
        let arguments = [&["--format", "json", "docker", "run"], flags, &[&image, "true"]].concat();
        let ran = command(&dir.path().join("none")).env("SHOAL_GPUS", "none").args(arguments).output().unwrap();
        let job = job(&ran);
        assert_eq!((&job["State"], executions(&job).len()), (&"Failed".into(), 0), "{job:#}");
        assert!(job["StateReason"].as_str().unwrap().contains(expected), "{expected}: {job:#}");
        assert_eq!(ran.status.code(), Some(1), "{}", text(&ran));
    }
}

#[test]
fn alone_a_command_tries_what_fails_once_more_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let program = slow_module(dir.path(), 100_000);
    let spec = dir.path().join("job.yaml");
    let text = format!(
        "Name: slow
Type: batch
Tasks:
  - Name: main
    Engine: {{Type: wasm, Params: {{EntryModule: /slow.wasm}}}}
    InputSources: [{{Target: /slow.wasm, Source: {{Type: localDirectory, Params: {{SourcePath: {program}}}}}}}]
    Timeouts: {{ExecutionTimeout: 1}}
Verification: {{Type: none}}
"
    );
    std::fs::write(&spec, text).unwrap();
    let job = job(&run(&dir.path().join("none"), &["--format", "json", "job", "run", spec.to_str().unwrap()]));
    assert_eq!((&job["State"], executions(&job).len()), (&"Failed".into(), 2), "{job:#}");
    let reason = job["StateReason"].as_str().unwrap();
    assert!(reason.contains("2 executions failed: execution timeout reached"), "{reason}");
}
