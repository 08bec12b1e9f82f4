//! Nodes, containers and engines that do not end together: what goes on is taken up, what is lost is said, and nothing
//! is left behind.

#[path = "docker-engine/private.rs"]
mod private;

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::docker::engine::{containers, docker, image};
use crate::docker::{DOCKER, Nodes, detached, has_no_containers, label, work_of};
use crate::support::{Daemon, command, executions, text, until};
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
fn a_container_that_printed_more_than_its_engine_keeps_is_given_up() {
    let Some(image) = image("busybox", &[]) else { return };
    let mut mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let script = "yes | head -n 100000; sleep 4; echo end";
    let flags = ["--disk", "4MB", "--queue-timeout", "150"];
    let job = detached(&mesh.nodes[0], &[&flags[..], &[&image, "sh", "-c", script]].concat());
    folder(&mesh);
    restart(&mut mesh);
    let described = mesh.nodes[0].finished(&job);
    assert_eq!(described["State"], "Completed", "{described:#}");
    assert_eq!(states(&described), ["Failed", "Agreed"]);
    assert!(described.to_string().contains("may not have kept all that was printed"), "{described:#}");
    assert!(result(&mesh, &job, "stdout").ends_with("y\nend\n"));
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

#[test]
fn what_a_command_leaves_that_was_killed_with_its_own_node_is_removed_by_the_next_node() {
    let Some(image) = image("of-killed", &["LABEL of=killed"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut shoal = command(&dir.path().join("none"));
    let mut killed = shoal.args(["docker", "run", &image, "sleep", "1000"]).stdout(Stdio::null()).spawn().unwrap();
    let ancestor = format!("ancestor={image}");
    let left = |status: &str| docker(&["ps", "-aq", "--filter", &ancestor, "--filter", status]).unwrap();
    until("its container runs", || (!left("status=running").is_empty()).then_some(()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!left("status=running").is_empty(), "nobody has ended it");
    let next = Daemon::start(&dir.path().join("next"), &DOCKER);
    until("it is gone", || left("name=").is_empty().then_some(()));
    drop(next);
}

/// Kills the worker of a job as soon as `is_time`, and starts it again: the job completes, and nothing is left.
fn survives(worker: &[&str], words: &[&str], is_time: impl Fn(&Nodes) -> bool) {
    let mut mesh = Nodes::start(&[&DOCKER, &[&DOCKER, worker].concat()]);
    let job = detached(&mesh.nodes[0], &[&["--queue-timeout", "150"], words].concat());
    until("it is time", || is_time(&mesh).then_some(()));
    restart(&mut mesh);
    let described = mesh.nodes[0].finished(&job);
    assert_eq!(described["State"], "Completed", "{described:#}");
    leaves_nothing(&mesh);
}

#[test]
fn a_node_killed_while_it_fetches_starts_over() {
    let Some(image) = image("busybox", &[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("input");
    std::fs::write(&input, vec![7; 16 << 20]).unwrap();
    let input = format!("{}:/in", input.display());
    survives(&["--max-download", "4MB"], &["-i", &input, &image, "true"], |mesh| {
        let blobs = std::fs::read_dir(mesh.dir.path().join("1/blobs/data"));
        blobs.is_ok_and(|mut files| {
            files.any(|file| file.is_ok_and(|file| file.metadata().is_ok_and(|file| file.len() > 1 << 20)))
        })
    });
}

#[test]
fn a_node_killed_before_its_container_is_started_leaves_none() {
    let Some(image) = image("busybox", &[]) else { return };
    survives(&[], &[&image, "true"], |mesh| !containers(&label(&mesh.nodes[1])).is_empty());
}

#[test]
fn a_node_killed_while_it_collects_does_not_take_half_for_the_whole() {
    let Some(image) = image("busybox", &[]) else { return };
    let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i >/out/$i; done";
    survives(&[], &["-o", "out:/out", &image, "sh", "-c", script], |mesh| {
        let mut work = std::fs::read_dir(mesh.dir.path().join("1/work")).unwrap();
        work.any(|folder| folder.is_ok_and(|folder| folder.path().join("collecting").exists()))
    });
}

/// A release build cannot be told when to die.
#[cfg(debug_assertions)]
#[test]
fn an_answer_that_is_sealed_outlives_the_nodes_on_both_sides() {
    let Some(image) = image("busybox", &[]) else { return };
    let dies = |index| if index == 0 { vec![("SHOAL_TEST_MISBEHAVE", "die-after-Commit")] } else { Vec::new() };
    let mut mesh = Nodes::start_with(&[&DOCKER, &DOCKER], dies);
    let job = detached(&mesh.nodes[0], &[&image, "true"]);
    mesh.nodes[0].wait_for_death();
    restart(&mut mesh);
    let requester = mesh.nodes.remove(0).restart();
    let described = requester.finished(&job);
    assert_eq!((described["State"].as_str(), executions(&described).len()), (Some("Completed"), 1), "{described:#}");
    mesh.nodes.insert(0, requester);
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
        let Some(mut engine) = Engine::start(&image) else { return };
        let mut mesh = beside(&engine);
        // It ends well when it is asked to, which is not what it was to do.
        let script = "trap 'exit 0' TERM; echo begun; i=0; while [ $i -lt 30 ]; do i=$((i+1)); sleep 0.1; done; exit 5";
        let job = detached(&mesh.nodes[0], &["--queue-timeout", "150", &image, "sh", "-c", script]);
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
        let Some(mut engine) = Engine::start(&image) else { return };
        let mesh = beside(&engine);
        let script = "trap 'exit 0' TERM; echo begun; i=0; while [ $i -lt 30 ]; do i=$((i+1)); sleep 0.1; done; exit 5";
        let job = detached(&mesh.nodes[0], &["--queue-timeout", "150", &image, "sh", "-c", script]);
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
fn an_image_that_goes_between_bid_and_run_and_is_nowhere_else_fails_there_and_runs_elsewhere() {
    let Some(image) = image("of-removal", &["LABEL of=removal"]) else { return };
    let Some(engine) = Engine::start(&image) else { return };
    // The probe is asked once the execution was awarded.
    let removes = format!("docker rmi -f {image} >/dev/null; true");
    let label = ["--label", "role=worker"];
    let mut mesh = Nodes::start(&[&DOCKER, &[&DOCKER[..], &label, &["--probe-exec", &removes]].concat()]);
    let job = detached(&mesh.nodes[0], &["--constraints", "role=worker", "--queue-timeout", "150", &image, "true"]);
    let failed = mesh.nodes[0].execution_in(&job, "Failed");
    assert!(failed["Failure"].as_str().unwrap().contains("push it as a blob"), "{failed:#}");
    let host = engine.host();
    let join = mesh.nodes[0].ticket.clone();
    let options = [&["--join", &join, "--executors", "docker", "--docker-host", &host], &label[..]].concat();
    mesh.nodes.push(Daemon::start(&mesh.dir.path().join("2"), &options));
    let described = mesh.nodes[0].finished(&job);
    assert_eq!(described["State"], "Completed", "{described:#}");
    let last = executions(&described).into_iter().find(|execution| execution["State"] == "Agreed").unwrap();
    assert_eq!(last["PeerID"], mesh.nodes[2].id.as_str(), "{described:#}");
}

#[test]
fn an_image_goes_by_what_its_worker_calls_it_and_not_by_its_requesters_word() {
    let (Some(good), Some(bad)) = (image("named-good", &["ENV A=1"]), image("named-bad", &["ENV A=2"])) else { return };
    let Some(engine) = Engine::start(&bad) else { return };
    // The requester's engine calls one as the other.
    engine.docker(&["tag", &bad, &good]).expect("it takes any name");
    let host = engine.host();
    let requester = ["--executors", "docker", "--docker-host", &host, "--deny-image", "*"];
    let mesh = Nodes::start(&[&requester, &[&DOCKER[..], &["--allow-image", &good]].concat()]);
    let run = |name: &str| {
        let ran = mesh.nodes[0].run(&["--format", "json", "docker", "run", name, "sh", "-c", "echo $A"]);
        serde_json::from_slice::<Value>(&ran.stdout).unwrap_or_else(|_| panic!("{}", text(&ran)))
    };
    let lied = run(&good);
    assert_eq!((&lied["State"], executions(&lied).len()), (&"Failed".into(), 1), "it bid, and looked: {lied:#}");
    let reason = lied["StateReason"].as_str().unwrap();
    assert!(reason.contains("has no name here that its operator allows, whatever the job calls it"), "{reason}");
    let honest = run(&bad);
    assert_eq!((&honest["State"], executions(&honest).len()), (&"Failed".into(), 0), "{honest:#}");
    has_no_containers(&mesh.nodes[1]);
}

#[test]
fn another_nodes_container_is_untouched_whatever_becomes_of_a_node() {
    let Some(image) = image("busybox", &[]) else { return };
    let mut mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let other = format!("{}-another", label(&mesh.nodes[1]));
    let foreign = docker(&["run", "-d", "--network=none", "--label", &other, &image, "sleep", "1000"]).unwrap();
    let job = detached(&mesh.nodes[0], &["-o", "out:/out", &image, "sh", "-c", WAITS]);
    folder(&mesh);
    restart(&mut mesh);
    assert_eq!(containers(&label(&mesh.nodes[1])).len(), 1, "it goes on");
    mesh.nodes[0].json(&["job", "stop", &job]);
    has_no_containers(&mesh.nodes[1]);
    assert_eq!(containers(&other).len(), 1);
    docker(&["rm", "-f", &foreign]).unwrap();
}
