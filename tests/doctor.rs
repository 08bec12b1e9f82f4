//! `shoal doctor` names what is wrong, why that matters, and what to do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::keeping::Disk;
use crate::support::{Daemon, Mesh, module, run, skipped, text, until};

/// What `doctor` says of a check, once it says that something is wrong with it.
pub fn wrong(dir: &Path, check: &str) -> Value {
    until(&format!("something is wrong with {check}"), || {
        let found = finding(&examined(dir, &[]), check)?;
        (found["State"] == "wrong").then_some(found)
    })
}

fn examined(dir: &Path, options: &[&str]) -> Output {
    run(dir, &[&["--format", "json", "doctor"], options].concat())
}

fn finding(output: &Output, check: &str) -> Option<Value> {
    let view: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)));
    let findings = view["Findings"].as_array().expect("there are findings").clone();
    let any_wrong = findings.iter().any(|finding| finding["State"] == "wrong");
    assert_eq!(output.status.code(), Some(i32::from(any_wrong)), "{}", text(output));
    assert_eq!(view["Healthy"], !any_wrong);
    // The worst of them, where a check found several things.
    let mut found: Vec<Value> = findings.into_iter().filter(|finding| finding["Check"] == check).collect();
    found.sort_by_key(|finding| finding["State"] != "wrong");
    found.into_iter().next()
}

/// Asserts that a finding says these words there.
pub fn says(finding: &Value, key: &str, words: &[&str]) {
    let said = finding[key].as_str().unwrap_or_default();
    words.iter().for_each(|word| assert!(said.contains(word), "{word:?} is missing in {finding:#}"));
}

#[test]
fn nodes_that_work_together_are_well() {
    let mesh = Mesh::start(3);
    for node in &mesh.nodes {
        let examined = node.run(&["doctor"]);
        assert_eq!(examined.status.code(), Some(0), "{}", text(&examined));
        let said = String::from_utf8(examined.stdout).unwrap();
        let expected = ["connected to 2 peers", "UDP passes", "Nothing is wrong.", "this machine only", &node.id];
        expected.iter().for_each(|words| assert!(said.contains(words), "{words:?} is missing in\n{said}"));
    }
}

#[test]
fn without_a_node_it_looks_at_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    says(&wrong(&data, "node"), "Remedy", &["shoal node"]);
    assert!(!data.exists(), "it makes nothing");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("config.toml"), "executors = ['docker']\ndocker_host = 'unix:///nowhere.sock'").unwrap();
    says(&wrong(&data, "docker"), "What", &["/nowhere.sock"]);
    std::fs::write(data.join("config.toml"), "max_memory = 'lots'").unwrap();
    says(&wrong(&data, "settings"), "What", &["max_memory"]);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(data.join("config.toml"), format!("listen = '{address}'")).unwrap();
    says(&wrong(&data, "udp"), "What", &[&address]);
    std::fs::write(data.join("identity.key"), "a1".repeat(32)).unwrap();
    std::fs::set_permissions(data.join("identity.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    says(&wrong(&data, "identity"), "What", &["chmod 600"]);
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    says(&wrong(&file, "data-dir"), "What", &[file.to_str().unwrap(), "cannot be written"]);
}

#[test]
fn a_disk_without_room_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    let Some(_disk) = Disk::mount(&small, "200m") else { return skipped("a disk of its own needs the right to mount") };
    let data = small.join("data");
    let _node = Daemon::start(&data, &[]);
    let found = wrong(&data, "disk");
    says(&found, "What", &["the disk is full", data.to_str().unwrap()]);
    says(&found, "Remedy", &["shoal blob gc"]);
}

#[test]
fn a_node_that_finds_nobody_is_told_why_of_each_peer() {
    let dir = tempfile::tempdir().unwrap();
    let mut gone = Daemon::start(&dir.path().join("gone"), &[]);
    gone.kill();
    let alone = dir.path().join("alone");
    let _alone = Daemon::start(&alone, &["--join", &gone.ticket]);
    let found = wrong(&alone, "peers");
    says(&found, "What", &[&gone.id[..10], "no answer"]);
    says(&found, "Remedy", &["UDP port"]);
}

#[test]
fn two_nodes_with_one_key_are_both_told() {
    const TOLD: &str = "another node runs with this node's key";
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let other = Daemon::start(&path("other"), &[]);
    let join = ["--join", &other.ticket];
    // Starting again is no second node.
    let node = Daemon::start(&path("node"), &join).restart().restart();
    node.connected(1);
    assert_eq!(finding(&examined(&path("node"), &[]), "identity").unwrap()["State"], "ok");

    std::fs::create_dir(path("copy")).unwrap();
    std::fs::copy(path("node").join("identity.key"), path("copy").join("identity.key")).unwrap();
    let copy = Daemon::start(&path("copy"), &join);
    assert_eq!(copy.id, node.id);
    for name in ["node", "copy"] {
        let found = wrong(&path(name), "identity");
        says(&found, "What", &[TOLD, &other.id[..10]]);
        says(&found, "Remedy", &["remove `identity.key`"]);
    }
    assert_eq!([&node, &copy].map(|one| one.log().matches(TOLD).count()), [1, 1], "it is said once");
    assert_eq!(finding(&examined(&path("other"), &[]), "identity").unwrap()["State"], "ok");

    std::fs::remove_file(path("copy").join("identity.key")).unwrap();
    let copy = copy.restart();
    assert_ne!(copy.id, node.id);
    other.connected(2);
    node.connected(1);
    copy.connected(1);
}

#[test]
fn a_mistyped_mesh_is_noticed_by_those_who_are_in_another() {
    let dir = tempfile::tempdir().unwrap();
    let public = Daemon::start(&dir.path().join("public"), &[]);
    let address = public.json(&["node", "info"])["Multiaddrs"][0].as_str().unwrap().to_owned();
    let other = dir.path().join("other");
    let _other = Daemon::start(&other, &["--mesh", "publik", "--join", &address]);
    says(&wrong(&other, "peers"), "What", &["it answers, but is in another mesh"]);
    let found = wrong(&other, "mesh");
    says(&found, "What", &["\"publik\"", "1 of 1"]);
    says(&found, "Remedy", &["--mesh public"]);
    // A private mesh of this data directory is a name to mistype too.
    let lab = dir.path().join("lab");
    assert!(run(&lab, &["mesh", "create", "homestead"]).status.success());
    let _lab = Daemon::start(&lab, &["--mesh", "homested"]);
    let found = wrong(&lab, "mesh");
    says(&found, "What", &["public mesh \"homested\"", "nearly private mesh \"homestead\""]);
    says(&found, "Remedy", &["--mesh homestead"]);
}

#[test]
fn an_engine_that_is_wanted_and_away_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let options = ["--executors", "wasm,docker", "--docker-host", "unix:///nowhere/docker.sock"];
    let _node = Daemon::start(&data, &options);
    says(&wrong(&data, "docker"), "What", &["/nowhere/docker.sock"]);
}

#[test]
fn a_member_that_was_sent_away_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    assert!(run(&first, &["mesh", "create", "home"]).status.success());
    let founder = Daemon::start(&first, &["--mesh", "home"]);
    let ticket = founder.json(&["mesh", "invite"])["Ticket"].as_str().unwrap().to_owned();
    let member = Daemon::start(&second, &["--join", &ticket]);
    member.connected(1);
    assert_eq!(finding(&examined(&second, &[]), "membership").unwrap()["State"], "ok");
    assert!(founder.run(&["mesh", "revoke", &member.id]).status.success());
    // Nobody tells it that, but it sees that it is not let in.
    let found = wrong(&second, "peers");
    says(&found, "What", &[&founder.id[..10], "one of the two is no member of the private mesh"]);
    says(&found, "Remedy", &["shoal mesh show"]);
    let found = wrong(&second, "membership");
    says(&found, "What", &["private mesh \"home\"", "do not let this node in"]);
    says(&found, "Why", &["it was sent away"]);
    says(&found, "Remedy", &["new data directory", "new invitation"]);
}

#[test]
fn the_name_of_a_private_mesh_alone_lets_nobody_in_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (home, other) = (dir.path().join("home"), dir.path().join("other"));
    assert!(run(&home, &["mesh", "create", "home"]).status.success());
    let founder = Daemon::start(&home, &["--mesh", "home"]);
    let address = founder.json(&["node", "info"])["Multiaddrs"][0].as_str().unwrap().to_owned();
    let _other = Daemon::start(&other, &["--mesh", "home", "--join", &address]);
    let found = wrong(&other, "mesh");
    says(&found, "What", &["public mesh \"home\"", "1 of 1 peers in another one"]);
    says(&found, "Remedy", &["private mesh", "shoal mesh invite", "--join FILE"]);
}

#[test]
fn a_relay_that_was_only_heard_of_is_looked_at_too() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let node = Daemon::start(&first, &[]);
    assert_eq!(finding(&examined(&first, &[]), "relays"), None, "there is none");
    let relaying = ["--executors", "none", "--relay", "--relay-listen", "127.0.0.1:0", "--join", &node.ticket];
    let mut relay = Daemon::start(&second, &relaying);
    let url = relay.json(&["node", "info"])["Relay"].as_str().unwrap().to_owned();
    until("it is found well", || {
        let found = finding(&examined(&first, &[]), "relays")?;
        (found["State"] == "ok" && found["What"].as_str()?.contains(&url)).then_some(())
    });
    relay.kill();
    let found = wrong(&first, "relays");
    says(&found, "What", &["no relay can be used", &url, "cannot be reached"]);
    says(&found, "Remedy", &["--use-relay", "shoal relay"]);
}

#[test]
fn a_clock_that_differs_from_those_of_several_peers_is_wrong() {
    let mesh = Mesh::start(2);
    let ticket = ["--join", &mesh.nodes[0].ticket];
    let ahead = [("SHOAL_TEST_MISBEHAVE", "clock-ahead")];
    let dir = mesh.dir.path().join("ahead");
    let node = Daemon::start_with(&dir, &ticket, &ahead);
    node.connected(2);
    let nothing = module(mesh.dir.path(), "nothing.wasm", "(module (func (export \"_start\")))");
    for node in &mesh.nodes {
        node.submit(&["wasm", "run", &nothing]);
    }
    let found = wrong(&dir, "clock");
    says(&found, "What", &["10m", "ahead of"]);
    says(&found, "Remedy", &["set the clock", "restart the node"]);
}
