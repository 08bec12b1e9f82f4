//! Containers as a user has them: real nodes beside a real engine. What programs can do is tested with the executor.

#[path = "docker-engine/engine.rs"]
pub mod engine;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::examples::files;
use crate::support::{Daemon, example, executions, refused, run, text, until};
use engine::{containers, docker, image};

/// A node that runs containers.
pub const DOCKER: [&str; 2] = ["--executors", "wasm,docker"];

/// Nodes of one mesh, each with its own options.
pub struct Nodes {
    pub nodes: Vec<Daemon>,
    pub dir: tempfile::TempDir,
}

impl Nodes {
    pub fn start(options: &[&[&str]]) -> Self {
        Self::start_with(options, |_| Vec::new())
    }

    /// The same, each with its own environment.
    pub fn start_with(options: &[&[&str]], environment: impl Fn(usize) -> Vec<(&'static str, &'static str)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut nodes: Vec<Daemon> = Vec::new();
        for (index, options) in options.iter().enumerate() {
            let join = nodes.first().map(|first| first.ticket.clone());
            let join: Vec<&str> = join.iter().flat_map(|ticket| ["--join", ticket]).collect();
            let (home, options) = (dir.path().join(index.to_string()), [&join[..], options].concat());
            nodes.push(Daemon::start_with(&home, &options, &environment(index)));
        }
        for node in &nodes {
            node.connected(options.len() - 1);
        }
        Self { nodes, dir }
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

/// The label of a node's containers.
pub fn label(node: &Daemon) -> String {
    format!("shoal.node={}", node.id)
}

/// Submits a container and returns the job's id.
pub fn detached(node: &Daemon, words: &[&str]) -> String {
    let ran = node.run(&[&["docker", "run", "--detach", "--id-only"], words].concat());
    assert!(ran.status.success(), "{}", text(&ran));
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

/// Waits until nothing of a node is on the engine.
pub fn has_no_containers(node: &Daemon) {
    until("its containers are gone", || containers(&label(node)).is_empty().then_some(()));
}

#[test]
fn a_job_as_people_write_it_runs_elsewhere_and_nobody_claims_that_it_is_verified() {
    let Some(image) = image("busybox", &[]) else { return };
    let mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let job = mesh.file(
        "job.yaml",
        &format!(
            "Name: word-count
Type: batch
Count: 1
Tasks:
  - Name: main
    Engine:
      Type: docker
      Params:
        Image: {image}
        Entrypoint: [/bin/sh]
        Parameters: [-c, 'wc -w </in/text.txt >/out/words.txt; echo $GREETING']
        EnvironmentVariables: [GREETING=done]
    InputSources:
      - Target: /in/text.txt
        Source: {{Type: inline, Params: {{URL: 'data:text/plain,one%20two%20three'}}}}
    Publisher: {{Type: local}}
    ResultPaths:
      - {{Name: out, Path: /out}}
"
        ),
    );
    let got = mesh.dir.path().join("got");
    let described = mesh.nodes[0].json(&["job", "run", &job, "--download", got.to_str().unwrap()]);
    assert_eq!(described["State"], "Completed", "{described:#}");
    assert_eq!(described["Verification"]["Type"], "none");
    assert_eq!(described["Verification"]["Verified"], false);
    assert_eq!(executions(&described)[0]["PeerID"], mesh.nodes[1].id.as_str(), "never by its requester");
    let read = |file: &str| std::fs::read_to_string(got.join(file)).unwrap();
    assert_eq!((read("out/words.txt").trim(), read("stdout").trim(), read("exitCode").trim()), ("3", "done", "0"));
    mesh.nodes.iter().for_each(has_no_containers);
    let info = mesh.nodes[1].json(&["node", "info"]);
    assert!(info["DockerEngine"].as_str().unwrap().starts_with("version "), "{info:#}");
    assert!(info["Executors"]["docker"].as_str().unwrap().starts_with("linux/"), "{info:#}");
}

#[test]
fn alone_a_command_runs_a_container_and_shows_its_exit_code() {
    let Some(image) = image("busybox", &[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let ran = run(&dir.path().join("none"), &["docker", "run", &image, "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(ran.status.code(), Some(1), "{}", text(&ran));
    let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(stdout.contains("out\n") && stdout.contains("Exit code  3"), "{}", text(&ran));
    assert!(stderr.contains("err\n"), "{}", text(&ran));
}

#[test]
fn what_stops_a_program_is_said_in_words() {
    let Some(image) = image("busybox", &[]) else { return };
    let mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let table: [(&[&str], &[&str], &str); 3] = [
        (&["--memory", "32MB"], &["tail", "/dev/zero"], "memory limit reached"),
        (&["--disk", "1MB"], &["yes"], "limit of what it may write reached"),
        (&["--timeout", "3"], &["sleep", "1000"], "timeout"),
    ];
    for (flags, command, words) in table {
        let arguments = [&["--format", "json", "docker", "run"], flags, &[&image], command].concat();
        let ran = mesh.nodes[0].run(&arguments);
        assert_eq!(ran.status.code(), Some(1), "{}", text(&ran));
        assert!(String::from_utf8_lossy(&ran.stdout).contains(words), "{words}: {}", text(&ran));
    }
    mesh.nodes.iter().for_each(has_no_containers);
}

#[test]
fn where_nobody_has_docker_the_reasons_are_counted() {
    let Some(name) = image("busybox", &[]) else { return };
    let mesh = Nodes::start(&[&[], &[]]);
    let pushed = mesh.nodes[0].json(&["docker", "push-image", &name]);
    let ran = mesh.nodes[0].run(&["--format", "json", "docker", "run", pushed["Image"].as_str().unwrap(), "true"]);
    let described: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", text(&ran)));
    assert_eq!(described["State"], "Failed");
    let reason = described["StateReason"].as_str().unwrap();
    assert!(reason.contains("1 peer: no docker executor; this node: no docker executor"), "{described:#}");
}

#[test]
fn where_nobody_has_a_gpu_the_reasons_are_counted() {
    let Some(image) = image("busybox", &[]) else { return };
    let without = ["--executors", "docker", "--gpus", "none"];
    let mesh = Nodes::start(&[&without, &without]);
    let ran = mesh.nodes[0].run(&["--format", "json", "docker", "run", "--gpu", "1", &image, "true"]);
    let described: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", text(&ran)));
    assert_eq!(described["State"], "Failed");
    let reason = described["StateReason"].as_str().unwrap();
    assert!(reason.contains("1 peer: GPU 1 > 0; this node: GPU 1 > 0 (its setting gpus"), "{described:#}");
}

#[test]
fn containers_are_run_by_what_the_operator_chose_and_by_nothing_else() {
    let Some(image) = image("busybox", &[]) else { return };
    let chosen = |name| ["--executors", "docker", "--docker-runtime", name];
    let mesh = Nodes::start(&[&DOCKER, &chosen("runc"), &chosen("no-such-runtime")]);
    let engine = |index: usize| mesh.nodes[index].json(&["node", "info"])["DockerEngine"].as_str().unwrap().to_owned();
    assert!(engine(1).contains("runtime runc"), "{}", engine(1));
    let lacks = engine(2);
    assert!(lacks.contains("away") && lacks.contains("no-such-runtime") && lacks.contains("runc"), "{lacks}");
    let ran = mesh.nodes[0].run(&["docker", "run", &image, "echo", "ran"]);
    assert!(ran.status.success() && String::from_utf8_lossy(&ran.stdout).contains("ran\n"), "{}", text(&ran));
}

#[test]
fn a_job_that_is_stopped_takes_its_container_with_it() {
    let Some(image) = image("busybox", &[]) else { return };
    let mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let job = detached(&mesh.nodes[0], &[&image, "sleep", "1000"]);
    until("it runs", || (!containers(&label(&mesh.nodes[1])).is_empty()).then_some(()));
    mesh.nodes[0].json(&["job", "stop", &job]);
    has_no_containers(&mesh.nodes[1]);
    assert_eq!(mesh.nodes[0].finished(&job)["State"], "Stopped");
}

/// How many folders of executions a node has.
pub fn work_of(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("work")).unwrap().count()
}

#[test]
fn an_engine_that_comes_and_goes_is_noticed() {
    let Some(image) = image("busybox", &[]) else { return };
    let socket = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let Some(socket) = socket.strip_prefix("unix://") else { return };
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("docker.sock");
    let host = format!("unix://{}", link.display());
    let node = Daemon::start(&dir.path().join("node"), &["--executors", "docker", "--docker-host", &host]);
    let engine = || node.json(&["node", "info"])["DockerEngine"].as_str().unwrap().to_owned();
    assert!(engine().contains("away") && engine().contains(&host), "{}", engine());
    refused(&node.run(&["docker", "run", &image, "true"]), &[&image, &host]);
    std::os::unix::fs::symlink(socket, &link).unwrap();
    until("it is back", || engine().starts_with("version").then_some(()));
    std::fs::remove_file(&link).unwrap();
    until("it is away", || engine().contains("away").then_some(()));
}

#[test]
fn an_image_is_pushed_as_a_blob_and_runs_where_it_was_not() {
    let Some(name) = image("of-push", &["ENV FROM=push"]) else { return };
    let mesh = Nodes::start(&[&[], &DOCKER]);
    let pushed = mesh.nodes[0].json(&["docker", "push-image", &name]);
    let image = pushed["Image"].as_str().unwrap();
    docker(&["rmi", &name]).expect("it goes");
    let ran = mesh.nodes[0].run(&["docker", "run", image, "sh", "-c", "echo from $FROM"]);
    assert!(ran.status.success(), "{}", text(&ran));
    assert!(String::from_utf8_lossy(&ran.stdout).contains("from push\n"), "{}", text(&ran));
    let tag = format!("shoal/{}:{}", &mesh.nodes[1].id[..16], pushed["Hash"].as_str().unwrap());
    docker(&["rmi", &tag]).expect("it was loaded under a name of ours");
    let hash = mesh.nodes[0].json(&["blob", "add", &mesh.file("text", "no image")]);
    let text = format!("blob://{}", hash["Hash"].as_str().unwrap());
    refused(&mesh.nodes[0].run(&["docker", "run", &text, "true"]), &[&text, "no saved image"]);
}

#[test]
fn the_docker_example_runs_from_its_recipe() {
    let Some(name) = image("example", &[]) else { return };
    let mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let pushed = mesh.nodes[0].json(&["docker", "push-image", &name]);
    let (variable, got) = (format!("image={}", pushed["Hash"].as_str().unwrap()), mesh.dir.path().join("got"));
    let job = example("docker-hello/job.yaml");
    let described = mesh.nodes[0].json(&["job", "run", &job, "-V", &variable, "--download", got.to_str().unwrap()]);
    assert_eq!(described["State"], "Completed", "{described:#}");
    assert_eq!(files(&got), files(Path::new(&example("docker-hello/expected"))));
}

#[test]
fn a_folder_that_an_operator_named_is_written_in_place() {
    let Some(image) = image("busybox", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    // For whoever the program runs as.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let path = folder.path().canonicalize().unwrap().display().to_string();
    let rule = format!("{path}:rw");
    let opened = [&DOCKER[..], &["--sources", "local", "--allow-local-path", &rule]].concat();
    let mesh = Nodes::start(&[&DOCKER, &opened]);
    let write = |path: &str| {
        let input = format!("src={path},dst=/shared,opt=rw=true");
        mesh.nodes[0].run(&["docker", "run", "-i", &input, &image, "--", "sh", "-c", "echo here >/shared/file"])
    };
    let ran = write(&path);
    assert!(ran.status.success(), "{}", text(&ran));
    assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), "here\n");
    let within = text(&write(&format!("{path}/sub")));
    assert!(within.contains("is Failed") && within.contains("only what the operator named itself"), "{within}");
    assert!(!folder.path().join("sub/file").exists());
}
