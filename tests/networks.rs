//! Networks of containers as a user has them. Whom a container can reach is tested with the executor.

use std::path::Path;

use crate::docker::engine::{containers, docker, image};
use crate::docker::{DOCKER, Nodes, detached, has_no_containers, label, work_of};
use crate::examples::files;
use crate::support::{Daemon, command, example, refused, text, until};
use crate::web::Python;

/// A worker whose operator opens HTTP, to this machine's own servers too.
const HTTP: [&str; 5] = ["--executors", "wasm,docker", "--docker-networks", "http", "--allow-private-addresses"];

/// The networks of a node's containers.
fn networks(node: &Daemon) -> String {
    docker(&["network", "ls", "-q", "--filter", &format!("label={}", label(node))]).expect("they are listed")
}

#[test]
fn the_http_example_asks_its_host_and_its_log_tells_what_was_refused() {
    let Some(name) = image("example", &[]) else { return };
    let Some(server) = Python::serve(&example("docker-http/served")) else { return };
    let mesh = Nodes::start(&[&DOCKER, &HTTP]);
    let image = mesh.nodes[0].json(&["docker", "push-image", &name])["Hash"].as_str().unwrap().to_owned();
    let variables = [format!("image={image}"), "host=127.0.0.1".into(), format!("page={}/page.txt", server.url)];
    let variables: Vec<&str> = variables.iter().flat_map(|variable| ["-V", variable]).collect();
    let (job, got) = (example("docker-http/job.yaml"), mesh.dir.path().join("got"));
    let run = [&["job", "run", &job, "--download", got.to_str().unwrap()], &variables[..]].concat();
    let described = mesh.nodes[0].json(&run);
    assert_eq!(described["State"], "Completed", "{described:#}");
    assert_eq!(files(&got), files(Path::new(&example("docker-http/expected"))));
    let logs = mesh.nodes[0].run(&["job", "logs", described["JobID"].as_str().unwrap()]);
    assert!(text(&logs).contains("shoal: refused GET elsewhere.example:80"), "{}", text(&logs));
    has_no_containers(&mesh.nodes[1]);
    let info = mesh.nodes[1].json(&["node", "info"]);
    assert_eq!(info["DockerNetworks"], serde_json::json!(["HTTP"]), "{info:#}");
}

#[test]
fn where_no_operator_opens_a_network_the_reasons_are_counted() {
    let Some(image) = image("busybox", &[]) else { return };
    let mesh = Nodes::start(&[&DOCKER, &DOCKER, &HTTP]);
    let table = [("full", "Host"), ("bridge", "Bridge")];
    let jobs = table.map(|(flag, _)| detached(&mesh.nodes[0], &["--network", flag, &image, "true"]));
    for (job, (_, network)) in jobs.iter().zip(table) {
        let described = mesh.nodes[0].finished(job);
        assert_eq!(described["State"], "Failed");
        let reason = format!("2 peers: its operator gives containers no network of type {network}");
        assert!(described["StateReason"].as_str().unwrap().contains(&reason), "{described:#}");
    }
}

#[test]
fn nothing_is_left_of_a_network_when_its_job_is_stopped_or_its_node_killed() {
    let Some(image) = image("busybox", &[]) else { return };
    let open = ["--executors", "wasm,docker", "--docker-networks", "http,bridge"];
    let mut mesh = Nodes::start(&[&DOCKER, &open]);
    let http = ["--network", "http", "--domain", "example.org", &image, "sleep", "1000"];
    let bridge = ["--network", "bridge", &image, "sleep", "1000"];
    let jobs = [detached(&mesh.nodes[0], &http), detached(&mesh.nodes[0], &bridge)];
    for job in &jobs {
        mesh.nodes[0].execution_in(job, "Running");
    }
    assert_eq!(containers(&label(&mesh.nodes[1])).len(), 3, "one holds the network of another");
    assert_eq!(networks(&mesh.nodes[1]).lines().count(), 1);
    for job in &jobs {
        mesh.nodes[0].json(&["job", "stop", job]);
    }
    has_no_containers(&mesh.nodes[1]);
    until("its network is gone", || networks(&mesh.nodes[1]).is_empty().then_some(()));
    let again = detached(&mesh.nodes[0], &http);
    mesh.nodes[0].execution_in(&again, "Running");
    assert_eq!(containers(&label(&mesh.nodes[1])).len(), 2);
    mesh.nodes[1].kill();
    let killed = mesh.nodes.remove(1);
    // Nobody has the job run again there.
    mesh.nodes.clear();
    let back = killed.restart();
    has_no_containers(&back);
    until("no folder stays", || (work_of(&mesh.dir.path().join("1")) == 0).then_some(()));
}

#[test]
fn alone_a_command_gives_a_container_only_what_its_user_opens() {
    let Some(image) = image("busybox", &[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let run = |networks: &str| {
        let mut command = command(&dir.path().join("none"));
        command.args(["docker", "run", "--network", "http", "--domain", "example.org", &image, "env"]);
        command.env("SHOAL_DOCKER_NETWORKS", networks).output().expect("it runs")
    };
    let open = run("http");
    assert!(String::from_utf8_lossy(&open.stdout).contains("http_proxy=http://127.0.0.1:3128\n"), "{}", text(&open));
    let closed = run("none");
    assert_eq!(closed.status.code(), Some(1), "{}", text(&closed));
    assert!(text(&closed).contains("gives containers no network of type HTTP"), "{}", text(&closed));
    refused(&run("lan"), &["docker_networks", "there is no network \"lan\""]);
}
