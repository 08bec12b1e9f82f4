//! Nodes of different protocol versions: neighbours work together, and what they cannot do is refused with a reason.

use serde_json::Value;

use crate::doctor::{says, wrong};
use crate::support::{Daemon, Mesh, executions, module, until};

/// A node of the next version: all that it says is longer than this build knows.
const NEXT: (&str, &str) = ("SHOAL_TEST_MISBEHAVE", "speak-8");
/// The same, and its awards are a kind of message that this build does not know.
const NEXT_WITH_NEW_AWARDS: (&str, &str) = ("SHOAL_TEST_MISBEHAVE", "speak-with-new-awards-8");
/// A node of the version after that.
const FAR: (&str, &str) = ("SHOAL_TEST_MISBEHAVE", "speak-9");

fn nothing(mesh: &Mesh) -> String {
    module(mesh.dir.path(), "nothing.wasm", "(module (func (export \"_start\")))")
}

/// Runs a job on that many workers, all of which must agree.
fn agreed_by(node: &Daemon, module: &str, workers: &str) -> Value {
    let job = node.json(&["wasm", "run", module, "--executions", workers, "--agreement", workers]);
    assert_eq!((&job["State"], &job["Verification"]["Verified"]), (&"Completed".into(), &true.into()), "{job:#}");
    job
}

#[test]
fn neighbouring_versions_verify_each_others_jobs() {
    let mesh = Mesh::start_with(4, |index| if index >= 2 { vec![NEXT] } else { Vec::new() });
    let module = nothing(&mesh);
    for node in &mesh.nodes {
        let job = agreed_by(node, &module, "3");
        assert_eq!(executions(&job).len(), 3, "nobody was asked in vain: {job:#}");
        assert_eq!(node.json(&["node", "info"])["Fended"]["CutOff"], 0);
    }
    let known = until("every peer has told its version", || {
        let known = mesh.nodes[0].json(&["peer", "list"]);
        let all: Option<Vec<u64>> = known.as_array()?.iter().map(|peer| peer["Protocol"].as_u64()).collect();
        all.filter(|all| all.len() == 3)
    });
    assert_eq!(known.iter().filter(|version| **version == 8).count(), 2, "{known:?}");
}

#[test]
fn an_award_that_only_the_next_version_knows_is_refused_with_a_reason() {
    let mesh = Mesh::start_with(3, |index| if index == 0 { vec![NEXT_WITH_NEW_AWARDS] } else { Vec::new() });
    let (requester, module) = (&mesh.nodes[0], nothing(&mesh));
    let job = requester.submit(&["wasm", "run", &module, "--executions", "2", "--agreement", "2"]);
    let described = requester.finished(&job);
    assert_eq!(described["State"], "Failed", "{described:#}");
    let reason = described["StateReason"].as_str().unwrap();
    assert!(reason.contains("2 peers: speaks protocol version 7, which lacks something"), "{reason}");
    assert_eq!(executions(&described).len(), 2, "nobody is asked twice: {described:#}");

    // With workers of its own version it gets what it wants, whoever else is there.
    let join = ["--join", &requester.ticket];
    let others = ["a", "b"].map(|name| Daemon::start_with(&mesh.dir.path().join(name), &join, &[NEXT_WITH_NEW_AWARDS]));
    for node in [requester, &others[0], &others[1]] {
        node.connected(4);
    }
    let job = agreed_by(requester, &module, "2");
    let agreed = executions(&job).into_iter().filter(|execution| execution["State"] == "Agreed");
    assert!(agreed.map(|one| one["PeerID"].clone()).all(|peer| others.iter().any(|node| peer == node.id)), "{job:#}");
}

#[test]
fn versions_that_are_too_far_apart_part_and_both_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    let node = Daemon::start(&here, &[]);
    let far = Daemon::start_with(&there, &["--join", &node.ticket], &[FAR]);
    let found = wrong(&here, "version");
    says(&found, "What", &["1 peer speaks protocol version 9; this node speaks 7"]);
    says(&found, "Remedy", &["this node is too old"]);
    let found = wrong(&there, "version");
    says(&found, "What", &["1 peer speaks protocol version 7; this node speaks 9"]);
    says(&found, "Remedy", &["those peers are too old"]);
    says(&wrong(&there, "peers"), "What", &[&node.id[..10], "speaks protocol version 7"]);
    for one in [&node, &far] {
        until("it has parted", || one.json(&["peer", "list"]).as_array()?.is_empty().then_some(()));
        assert_eq!(one.log().matches("another protocol version").count(), 1, "{}", one.log());
    }
    // Somebody updates it.
    let updated = far.restart();
    updated.connected(1);
    node.connected(1);
}
