//! Nodes, containers and engines that do not end together: what goes on is taken up, what is lost is said, and nothing
//! is left behind.

#[path = "docker-engine/private.rs"]
mod private;

use std::path::PathBuf;

use serde_json::Value;

use crate::docker::engine::{containers, docker, image};
use crate::docker::{DOCKER, Nodes, detached, has_no_containers, label, work_of};
use crate::support::{Daemon, executions, text, until};
use private::Engine;

/// Prints for six seconds.
const COUNTS: &str = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; echo to stderr $i >&2; sleep 0.1; done; \
                      echo done >/out/done";
/// Waits until it is told to go on.
const WAITS: &str = "echo before; while [ ! -e /out/go ]; do sleep 0.1; done; echo after; exit 3";

/// The folder of the only execution on the second node, once its program has printed something.
fn folder(mesh: &Nodes) -> PathBuf {
    let work = mesh.dir.path().join("1/work");
    until("it has printed something", || {
        let folder = std::fs::read_dir(&work).ok()?.next()?.ok()?.path();
        folder.join("stdout").exists().then_some(folder)
    })
}

/// Kills the second node and starts it again.
fn restart(mesh: &mut Nodes) {
    let killed = mesh.nodes.remove(1);
    mesh.nodes.insert(1, killed.restart());
}

/// A file of the job's result.
fn result(mesh: &Nodes, job: &str, file: &str) -> String {
    let got = mesh.dir.path().join("got");
    let _ = std::fs::remove_dir_all(&got);
    let ran = mesh.nodes[0].run(&["job", "get", job, got.to_str().unwrap()]);
    assert!(ran.status.success(), "{}", text(&ran));
    std::fs::read_to_string(got.join(file)).unwrap()
}

fn states(described: &Value) -> Vec<String> {
    executions(described).iter().map(|execution| execution["State"].as_str().unwrap().to_owned()).collect()
}

fn leaves_nothing(mesh: &Nodes) {
    mesh.nodes.iter().for_each(has_no_containers);
    for index in 0..mesh.nodes.len() {
        let dir = mesh.dir.path().join(index.to_string());
        until("no folder stays", || (work_of(&dir) == 0).then_some(()));
    }
}

#[test]
fn a_container_goes_on_without_its_node_and_nothing_that_it_printed_is_lost() {
    let Some(image) = image("busybox", &[]) else { return };
    let mut mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let job = detached(&mesh.nodes[0], &["-o", "out:/out", &image, "sh", "-c", COUNTS]);
    folder(&mesh);
    restart(&mut mesh);
    let described = mesh.nodes[0].finished(&job);
    assert_eq!((described["State"].as_str(), executions(&described).len()), (Some("Completed"), 1), "{described:#}");
    let lines = |words: &str| (1..=60).map(|number| format!("{words} {number}\n")).collect::<String>();
    assert_eq!(result(&mesh, &job, "stdout"), lines("line"));
    assert_eq!(result(&mesh, &job, "stderr"), lines("to stderr"));
    assert_eq!(result(&mesh, &job, "out/done"), "done\n");
    leaves_nothing(&mesh);
}

#[test]
fn a_container_that_ends_while_its_node_is_away_is_collected_when_it_is_back() {
    let Some(image) = image("busybox", &[]) else { return };
    let mut mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let job = detached(&mesh.nodes[0], &["-o", "out:/out", &image, "sh", "-c", WAITS]);
    let folder = folder(&mesh);
    mesh.nodes[1].kill();
    std::fs::write(folder.join("results/0/go"), "").unwrap();
    let label = format!("label={}", label(&mesh.nodes[1]));
    until("it has ended", || {
        docker(&["ps", "-aq", "--filter", &label, "--filter", "status=exited"]).filter(|id| !id.is_empty())
    });
    restart(&mut mesh);
    let described = mesh.nodes[0].finished(&job);
    let execution = &executions(&described)[0];
    assert_eq!((executions(&described).len(), execution["ExitCode"].as_i64()), (1, Some(3)), "{described:#}");
    assert_eq!(result(&mesh, &job, "stdout"), "before\nafter\n");
    leaves_nothing(&mesh);
}

#[test]
fn a_container_that_nobody_wants_any_more_goes_when_its_node_is_back() {
    let Some(image) = image("busybox", &[]) else { return };
    let mut mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let job = detached(&mesh.nodes[0], &["-o", "out:/out", &image, "sh", "-c", WAITS]);
    folder(&mesh);
    mesh.nodes[1].kill();
    mesh.nodes[0].json(&["job", "stop", &job]);
    restart(&mut mesh);
    leaves_nothing(&mesh);
}

#[test]
fn time_goes_on_while_a_node_is_away() {
    let Some(image) = image("busybox", &[]) else { return };
    let mut mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let job = detached(&mesh.nodes[0], &["--timeout", "8", "-o", "out:/out", &image, "sh", "-c", WAITS]);
    folder(&mesh);
    restart(&mut mesh);
    let described = mesh.nodes[0].finished(&job);
    assert_eq!(described["State"], "Failed", "{described:#}");
    assert!(described.to_string().contains("timeout"), "{described:#}");
    leaves_nothing(&mesh);
}

/// A requester, and a worker with an engine of its own.
fn beside(engine: &Engine) -> Nodes {
    let host = engine.host();
    Nodes::start(&[&DOCKER, &["--executors", "docker", "--docker-host", &host]])
}

fn engine_of(node: &Daemon) -> String {
    node.json(&["node", "info"])["DockerEngine"].as_str().unwrap().to_owned()
}

#[test]
fn the_end_that_an_engine_made_is_not_the_programs() {
    let Some(image) = image("busybox", &[]) else { return };
    for crash in [false, true] {
        let mut engine = Engine::start(&image);
        let mut mesh = beside(&engine);
        // It ends well when it is asked to, which is not what it was to do.
        let script = "trap 'exit 0' TERM; echo begun; i=0; while [ $i -lt 30 ]; do i=$((i+1)); sleep 0.1; done; exit 5";
        let job = detached(&mesh.nodes[0], &["--queue-timeout", "60", &image, "sh", "-c", script]);
        folder(&mesh);
        mesh.nodes[1].kill();
        if crash {
            engine.kill();
        } else {
            engine.stop();
        }
        engine.restart();
        restart(&mut mesh);
        let described = mesh.nodes[0].finished(&job);
        assert_eq!(described["State"], "Completed", "{described:#}");
        assert!(states(&described).contains(&"Failed".to_owned()), "the first run was cut off: {described:#}");
        let last = executions(&described).into_iter().find(|execution| execution["State"] == "Agreed").unwrap();
        assert_eq!(last["ExitCode"], 5, "{described:#}");
        until("its containers are gone", || engine.docker(&["ps", "-aq"]).filter(String::is_empty));
    }
}

#[test]
fn an_engine_that_is_lost_in_mid_job_costs_one_execution_and_its_node_comes_back() {
    let Some(image) = image("busybox", &[]) else { return };
    for crash in [false, true] {
        let mut engine = Engine::start(&image);
        let mesh = beside(&engine);
        let script = "trap 'exit 0' TERM; echo begun; i=0; while [ $i -lt 30 ]; do i=$((i+1)); sleep 0.1; done; exit 5";
        let job = detached(&mesh.nodes[0], &["--queue-timeout", "60", &image, "sh", "-c", script]);
        folder(&mesh);
        if crash {
            engine.kill();
        } else {
            engine.stop();
        }
        until("the node says that it is away", || engine_of(&mesh.nodes[1]).contains("away").then_some(()));
        engine.restart();
        until("the node has it back", || engine_of(&mesh.nodes[1]).starts_with("version").then_some(()));
        let described = mesh.nodes[0].finished(&job);
        assert_eq!(described["State"], "Completed", "{described:#}");
        assert!(states(&described).contains(&"Failed".to_owned()), "{described:#}");
        let last = executions(&described).into_iter().find(|execution| execution["State"] == "Agreed").unwrap();
        assert_eq!(last["ExitCode"], 5, "{described:#}");
        until("its containers are gone", || engine.docker(&["ps", "-aq"]).filter(String::is_empty));
    }
}

#[test]
fn another_nodes_container_is_untouched_whatever_becomes_of_a_node() {
    let Some(image) = image("busybox", &[]) else { return };
    let mut mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let other = format!("{}-another", label(&mesh.nodes[1]));
    let foreign = docker(&["run", "-d", "--network=none", "--label", &other, &image, "sleep", "1000"]).unwrap();
    detached(&mesh.nodes[0], &["-o", "out:/out", &image, "sh", "-c", WAITS]);
    folder(&mesh);
    restart(&mut mesh);
    assert_eq!(containers(&label(&mesh.nodes[1])).len(), 1, "it goes on");
    assert_eq!(containers(&other).len(), 1);
    docker(&["rm", "-f", &foreign]).unwrap();
}
