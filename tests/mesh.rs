//! Separate processes: any node submits, all agree, and everybody tells the same.

use serde_json::Value;

use crate::support::{Daemon, Mesh, example, executions, patient_wordcount, refused, run, text, until};

#[test]
fn a_job_from_any_node_is_verified_and_told_alike() {
    let mesh = Mesh::start(4);
    let mut hashes = Vec::new();
    for node in &mesh.nodes {
        let shown = node.json(&["job", "run", &example("wordcount/job.yaml")]);
        assert_eq!(shown["State"], "Completed", "{shown:#}");
        assert_eq!(shown["Verification"]["Verified"], true);
        let described = node.describe(shown["JobID"].as_str().unwrap());
        assert_eq!(facts(&described), facts(&shown), "`describe` tells what `run` told");
        assert!(executions(&shown).iter().all(|execution| execution["PeerID"] != node.id.as_str()));
        hashes.push(shown["Result"]["Hash"].clone());
    }
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
}

#[test]
fn a_node_without_executors_submits_and_fetches_the_right_words() {
    let mesh = Mesh::start(3);
    let dir = mesh.dir.path().join("client");
    let client = Daemon::start(&dir, &["--join", &mesh.nodes[2].ticket, "--executors", "none"]);
    client.connected(3);
    let job = client.json(&["job", "run", &example("wordcount/job.yaml")]);
    assert_eq!(job["State"], "Completed", "{job:#}");
    assert_eq!(executions(&job).len(), 3);
    let target = mesh.dir.path().join("result");
    let got = client.run(&["job", "get", job["JobID"].as_str().unwrap(), target.to_str().unwrap()]);
    assert!(got.status.success(), "{}", text(&got));
    let read = |path: &str| std::fs::read(target.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let expected = std::fs::read(example("wordcount/expected/outputs/counts.tsv")).unwrap();
    assert_eq!(read("outputs/counts.tsv"), expected);
    assert_eq!(read("exitCode"), b"0");
    assert!(!read("stdout").is_empty());
}

#[test]
fn a_ticket_of_the_running_node_leads_to_it() {
    let mesh = Mesh::start(2);
    let printed = mesh.nodes[1].run(&["ticket"]);
    let ticket = String::from_utf8(printed.stdout).unwrap();
    let late = Daemon::start(&mesh.dir.path().join("late"), &["--join", ticket.trim()]);
    late.connected(2);
}

#[test]
fn peers_are_listed_with_path_traffic_and_version() {
    let mesh = Mesh::start(3);
    let known = until("everything is known of both peers", || {
        let known = mesh.nodes[0].json(&["peer", "list"]).as_array().unwrap().clone();
        let is_whole = |peer: &Value| {
            peer["RttMillis"].is_number() && peer["Version"] == env!("CARGO_PKG_VERSION") && peer["Score"].is_number()
        };
        (known.len() == 2 && known.iter().all(is_whole)).then_some(known)
    });
    for peer in &known {
        assert_eq!(peer["Relayed"], false);
        assert!(peer["RemoteAddress"].as_str().unwrap().starts_with("127.0.0.1:"), "{peer:#}");
        assert!(peer["SentBytes"].as_u64().unwrap() > 0 && peer["ReceivedBytes"].as_u64().unwrap() > 0, "{peer:#}");
    }
    let rtts: Vec<f64> = known.iter().map(|peer| peer["RttMillis"].as_f64().unwrap()).collect();
    assert!(rtts[0] <= rtts[1], "the nearest comes first: {rtts:?}");
    let shown = String::from_utf8(mesh.nodes[0].run(&["peer", "list", "--wide"]).stdout).unwrap();
    for word in ["SCORE", "VERSION", "direct", &mesh.nodes[1].id, "127.0.0.1:"] {
        assert!(shown.contains(word), "{word} is missing in\n{shown}");
    }
}

#[test]
fn a_node_that_joins_late_hears_what_is_still_open() {
    let mesh = Mesh::start(2);
    let job = mesh.nodes[0].submit(&["job", "run", &patient_wordcount(mesh.dir.path())]);
    // One worker is not enough; the second one comes after the job.
    mesh.nodes[0].execution_in(&job, "Committed");
    let late = Daemon::start(&mesh.dir.path().join("late"), &["--join", &mesh.nodes[0].ticket]);
    let described = mesh.nodes[0].finished(&job);
    assert_eq!(described["State"], "Completed", "{described:#}");
    let agreed = |execution: &Value| execution["State"] == "Agreed" && execution["PeerID"] == late.id.as_str();
    assert!(executions(&described).iter().any(agreed), "{described:#}");
}

#[test]
fn restarted_nodes_find_their_mesh_again() {
    let Mesh { mut nodes, dir } = Mesh::start(3);
    let keeper = nodes.remove(0);
    let restarted: Vec<Daemon> = nodes.into_iter().map(Daemon::restart).collect();
    for node in &restarted {
        node.connected(2);
    }
    keeper.connected(2);
    let job = restarted[0].json(&["job", "run", &example("wordcount/job.yaml")]);
    assert_eq!(job["State"], "Completed", "{job:#}");
    drop(dir);
}

#[test]
fn a_node_comes_back_when_whoever_let_it_in_is_gone_for_good() {
    let Mesh { mut nodes, dir } = Mesh::start(3);
    let mut back = nodes.pop().unwrap();
    let (gone, stayed) = (nodes.remove(0), nodes.remove(0));
    drop(gone);
    back.stop();
    // Its only ticket leads to the node that is gone.
    let back = back.restart();
    back.connected(1);
    assert_eq!(back.json(&["peer", "list"])[0]["PeerID"], stayed.id.as_str());
    drop(dir);
}

#[test]
fn a_second_node_on_the_same_directory_is_refused() {
    let mesh = Mesh::start(1);
    let dir = mesh.dir.path().join("0");
    let second = run(&dir, &["node", "--listen", "127.0.0.1:0"]);
    refused(&second, &[dir.to_str().unwrap()]);
}

/// What both `run` and `describe` must tell.
fn facts(job: &Value) -> Value {
    let mut facts = job.clone();
    let Some(fields) = facts.as_object_mut() else { panic!("{job} is no description") };
    fields.retain(|name, _| ["JobID", "State", "Executions", "Verification"].contains(&name.as_str()));
    facts["Result"] = job["Result"]["Hash"].clone();
    facts
}
