//! Images of registries, as a user has them: real nodes, a real engine, and a small registry on loopback.

#[path = "docker-engine/registry.rs"]
mod served;

use std::path::Path;

use serde_json::Value;

use crate::docker::engine::{docker, image};
use crate::docker::{has_no_containers, work_of};
use crate::support::{Daemon, executions, refused, run, text, until};
use served::{Registry, forget};

/// A worker whose jobs may reach the test's registry.
const WORKER: [&str; 3] = ["--executors", "docker", "--allow-private-addresses"];
/// What ann shows the registry, whose password is secret.
const ANN: &str = "Basic YW5uOnNlY3JldA==";

/// A requester without an engine, and workers, each with its options.
struct Nodes {
    nodes: Vec<Daemon>,
    dir: tempfile::TempDir,
}

impl Nodes {
    fn start(requester: &[(&str, &str)], workers: &[&[&str]]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let first = Daemon::start_with(&dir.path().join("requester"), &["--executors", "none"], requester);
        let mut nodes = vec![first];
        for (index, options) in workers.iter().enumerate() {
            let join = nodes[0].ticket.clone();
            let options = [&["--join", &join][..], options].concat();
            let environment = [("DOCKER_CONFIG", "/nowhere")];
            nodes.push(Daemon::start_with(&dir.path().join(index.to_string()), &options, &environment));
        }
        for node in &nodes {
            node.connected(workers.len());
        }
        Self { nodes, dir }
    }

    fn requester(&self) -> &Daemon {
        &self.nodes[0]
    }
}

/// An image that is in a registry and nowhere else.
fn only_in(registry: &Registry, repository: &str, word: &str) -> Option<String> {
    let name = image(&format!("registry-{word}"), &[&format!("ENV WORD={word}"), &format!("LABEL shoal.test={word}")])?;
    registry.push(repository, "1", &name);
    forget(&name);
    Some(format!("{}:1", registry.name(repository)))
}

/// A folder with what `docker login` leaves.
fn login(dir: &Path, registry: &Registry) -> String {
    let config = format!(r#"{{"auths": {{"{}": {{"auth": "YW5uOnNlY3JldA=="}}}}}}"#, registry.host());
    std::fs::write(dir.join("config.json"), config).unwrap();
    dir.display().to_string()
}

fn failed(ran: &std::process::Output) -> String {
    let described: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", text(ran)));
    assert_eq!(described["State"], "Failed", "{described:#}");
    described["StateReason"].as_str().unwrap().to_owned()
}

#[test]
fn all_executions_run_what_a_tag_stood_for_when_the_job_was_submitted() {
    let registry = Registry::start();
    let Some(name) = only_in(&registry, "tools/moving", "before") else { return };
    let mesh = Nodes::start(&[], &[&WORKER, &WORKER]);
    registry.hold(true);
    let words = ["docker", "run", "--executions", "2", "--agreement", "2", "--detach", "--id-only", &name];
    let ran = mesh.requester().run(&[&words[..], &["sh", "-c", "echo $WORD"]].concat());
    assert!(ran.status.success(), "{}", text(&ran));
    let job = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    until("both prepare", || {
        let states = executions(&mesh.requester().describe(&job));
        (states.len() == 2 && states.iter().all(|one| one["State"] == "Preparing")).then_some(())
    });
    only_in(&registry, "tools/moving", "after").unwrap();
    registry.hold(false);
    let described = mesh.requester().finished(&job);
    assert_eq!(described["State"], "Completed", "{described:#}");
    assert_eq!(described["Verification"]["Verified"], true, "{described:#}");
    let logs = mesh.requester().run(&["job", "logs", &job]);
    assert!(String::from_utf8_lossy(&logs.stdout).contains("before"), "{}", text(&logs));
    let history = mesh.requester().run(&["job", "history", &job]);
    assert!(String::from_utf8_lossy(&history.stdout).to_lowercase().contains("prepar"), "{}", text(&history));
    // It carries the names of the workers that loaded it, and no other.
    let names = docker(&["image", "ls", "--format", "{{.Repository}}"]).unwrap();
    let ours = mesh.nodes[1..].iter().filter(|node| names.contains(&format!("shoal/{}", &node.id[..16])));
    assert!(ours.count() >= 1 && !names.contains(&registry.host()), "{names}");
    forget_loaded("before");
}

/// Removes what nodes have loaded of a test's image.
fn forget_loaded(word: &str) {
    let label = format!("label=shoal.test={word}");
    let loaded = docker(&["image", "ls", "-q", "--no-trunc", "--filter", &label]).unwrap_or_default();
    loaded.lines().for_each(forget);
}

#[test]
fn a_private_image_is_run_by_its_owner_and_by_nobody_for_strangers_unless_told() {
    let registry = Registry::start();
    let Some(name) = only_in(&registry, "private/app", "private") else { return };
    registry.close(ANN);
    let dir = tempfile::tempdir().unwrap();
    let config = login(dir.path(), &registry);
    let ann = [("DOCKER_CONFIG", config.as_str())];

    let stranger = Nodes::start(&[("DOCKER_CONFIG", "/nowhere")], &[]);
    refused(&stranger.requester().run(&["docker", "run", &name, "true"]), &[&name, "private, or not there"]);

    // Its owner may look it up, and a worker that is told nothing does not show its own login.
    let mesh = Nodes::start(&ann, &[]);
    let join = mesh.requester().ticket.clone();
    let dir_of = |name: &str| mesh.dir.path().join(name);
    let options = [&["--join", &join][..], &WORKER].concat();
    let silent = Daemon::start_with(&dir_of("silent"), &options, &ann);
    silent.connected(1);
    let ran = mesh.requester().run(&["--format", "json", "docker", "run", &name, "sh", "-c", "echo $WORD"]);
    let reason = failed(&ran);
    assert!(reason.contains("private, or not there") && !reason.contains("secret"), "{reason}");
    assert!(!silent.log().contains("c2VjcmV0") && !silent.log().contains("secret"), "{}", silent.log());
    drop(silent);

    let share = registry.host() + "/private";
    let sharing = [&options[..], &["--docker-share-login", &share]].concat();
    let sharing = Daemon::start_with(&dir_of("sharing"), &sharing, &ann);
    sharing.connected(1);
    let ran = mesh.requester().run(&["docker", "run", &name, "sh", "-c", "echo $WORD"]);
    assert!(String::from_utf8_lossy(&ran.stdout).contains("private\n"), "{}", text(&ran));
    forget_loaded("private");
}

#[test]
fn layers_may_be_compressed_with_zstd() {
    let registry = Registry::start();
    let Some(name) = image("registry-zstd", &["ENV WORD=zstd", "LABEL shoal.test=zstd"]) else { return };
    registry.push_zstd("tools/zstd", "1", &name);
    forget(&name);
    let mesh = Nodes::start(&[], &[&WORKER]);
    let name = format!("{}:1", registry.name("tools/zstd"));
    let ran = mesh.requester().run(&["docker", "run", &name, "sh", "-c", "echo $WORD"]);
    assert!(String::from_utf8_lossy(&ran.stdout).contains("zstd\n"), "{}", text(&ran));
    forget_loaded("zstd");
}

#[test]
fn a_job_says_which_platform_of_an_image_it_wants() {
    let registry = Registry::start();
    let Some(name) = image("registry-many", &["ENV WORD=many", "LABEL shoal.test=many"]) else { return };
    let here = docker(&["version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"]).unwrap();
    let (_, architecture) = here.split_once('/').unwrap();
    registry.push_for("tools/many", "1", &name, &["s390x", architecture]);
    forget(&name);
    let mesh = Nodes::start(&[], &[&WORKER]);
    let name = format!("{}:1", registry.name("tools/many"));
    let run = |platform: &str, format: &str| {
        let words = ["--format", format, "docker", "run", "--platform", platform, &name, "sh", "-c", "echo $WORD"];
        mesh.requester().run(&words)
    };
    let ran = run(&here, "table");
    assert!(String::from_utf8_lossy(&ran.stdout).contains("many\n"), "{}", text(&ran));
    let reason = failed(&run("linux/s390x", "json"));
    assert!(reason.contains(&format!("1 peer: its profile is {here}")), "{reason}");
    refused(&run("linux/riscv64", "json"), &[&name, "not there for linux/riscv64", "linux/s390x"]);
    refused(&run("arm64", "json"), &["Platform", "arm64", "linux/arm64"]);
    forget_loaded("many");
}

#[test]
fn an_operator_that_has_none_pulled_says_so_before_anything_runs() {
    let registry = Registry::start();
    let Some(name) = only_in(&registry, "tools/never", "never") else { return };
    let never = [&WORKER[..], &["--docker-pull", "never"]].concat();
    let mesh = Nodes::start(&[], &[&never]);
    let reason = failed(&mesh.requester().run(&["--format", "json", "docker", "run", &name, "true"]));
    assert!(reason.contains("1 peer: does not have the image, and pulls none"), "{reason}");
}

#[test]
fn a_name_that_is_nowhere_is_refused_with_what_to_do() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let nowhere = format!("{}:1", registry.name("tools/nowhere"));
    refused(&run(&dir.path().join("a"), &["docker", "run", &nowhere, "true"]), &[&nowhere, "not in its registry"]);
    let odd = "http://example.org/a";
    refused(&run(&dir.path().join("b"), &["docker", "run", odd, "true"]), &["no image", "busybox:1.37"]);
    let scope = ["node", "--docker-share-login", "https://ghcr.io"];
    refused(&run(&dir.path().join("c"), &scope), &["docker_share_login", "ghcr.io/acme"]);
    refused(&run(&dir.path().join("d"), &["node", "--docker-pull", "often"]), &["docker_pull", "missing nor never"]);
}

#[test]
fn a_node_killed_while_it_gets_an_image_starts_over_and_leaves_nothing() {
    let registry = Registry::start();
    let Some(name) = only_in(&registry, "tools/killed", "killed") else { return };
    let mut mesh = Nodes::start(&[], &[&WORKER]);
    registry.hold(true);
    let words = ["docker", "run", "--detach", "--id-only", "--queue-timeout", "150", &name, "sh", "-c", "echo $WORD"];
    let ran = mesh.requester().run(&words);
    let job = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    mesh.requester().execution_in(&job, "Preparing");
    let killed = mesh.nodes.remove(1);
    mesh.nodes.push(killed.restart());
    registry.hold(false);
    let described = mesh.requester().finished(&job);
    assert_eq!(described["State"], "Completed", "{described:#}");
    let states: Vec<Value> = executions(&described).iter().map(|execution| execution["State"].clone()).collect();
    assert_eq!(states, ["Failed", "Agreed"], "{described:#}");
    let logs = mesh.requester().run(&["job", "logs", &job]);
    assert!(String::from_utf8_lossy(&logs.stdout).contains("killed"), "{}", text(&logs));
    has_no_containers(&mesh.nodes[1]);
    let work = mesh.dir.path().join("0");
    until("no folder stays", || (work_of(&work) == 0).then_some(()));
    forget_loaded("killed");
}

#[test]
fn an_image_that_goes_between_bid_and_run_is_got_again() {
    let registry = Registry::start();
    let Some(name) = only_in(&registry, "tools/gone", "gone") else { return };
    // The probe is asked once the execution was awarded.
    let removes = "docker image ls -q --filter label=shoal.test=gone | xargs -r docker rmi -f >/dev/null";
    let mesh = Nodes::start(&[], &[&[&WORKER[..], &["--probe-exec", removes]].concat()]);
    for round in ["first", "second"] {
        let described = mesh.requester().json(&["docker", "run", &name, "sh", "-c", "echo $WORD", round]);
        assert_eq!((&described["State"], executions(&described).len()), (&"Completed".into(), 1), "{described:#}");
        let here = docker(&["image", "ls", "-q", "--filter", "label=shoal.test=gone"]).unwrap();
        assert_eq!(here.lines().count(), 1, "it was there for the {round} run");
    }
    forget_loaded("gone");
}

#[test]
fn a_job_that_is_stopped_ends_its_pull() {
    let registry = Registry::start();
    let Some(name) = only_in(&registry, "tools/stopped", "stopped") else { return };
    let mesh = Nodes::start(&[], &[&WORKER]);
    registry.hold(true);
    let ran = mesh.requester().run(&["docker", "run", "--detach", "--id-only", &name, "true"]);
    let job = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    mesh.requester().execution_in(&job, "Preparing");
    mesh.requester().json(&["job", "stop", &job]);
    assert_eq!(mesh.requester().finished(&job)["State"], "Stopped");
    until("the worker's folder is gone", || {
        let work = mesh.dir.path().join("0").join("work");
        (std::fs::read_dir(work).unwrap().count() == 0).then_some(())
    });
    registry.hold(false);
    assert_eq!(docker(&["image", "ls", "-q", &format!("shoal/{}", &mesh.nodes[1].id[..16])]).unwrap(), "");
}

#[test]
fn a_command_alone_pulls_what_its_engine_lacks_with_its_users_login() {
    let registry = Registry::start();
    let Some(name) = only_in(&registry, "private/alone", "alone") else { return };
    registry.close(ANN);
    let dir = tempfile::tempdir().unwrap();
    // The login is in a keychain that a helper reads.
    let helper = dir.path().join("docker-credential-shoal-test");
    let script = "#!/bin/sh\ncat >/dev/null; echo '{\"Username\":\"ann\",\"Secret\":\"secret\"}'\n";
    std::fs::write(&helper, script).unwrap();
    assert!(std::process::Command::new("chmod").arg("+x").arg(&helper).status().unwrap().success());
    let config = format!(r#"{{"credHelpers": {{"{}": "shoal-test"}}}}"#, registry.host());
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let mut command = crate::support::command(&dir.path().join("none"));
    let ran = command
        .args(["docker", "run", &name, "sh", "-c", "echo $WORD"])
        .env("DOCKER_CONFIG", dir.path())
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&ran.stdout).contains("alone\n"), "{}", text(&ran));
    assert!(!text(&ran).contains("secret"));
    assert!(registry.asked("/token") > 0);
    forget_loaded("alone");
}
