//! Nodes behind NATs of each kind, on an internet of network namespaces: what can be direct becomes direct, and
//! everything works where nothing can.

mod internet;

mod relays;

mod moves;

mod halves;

mod everybody;

mod newcomers;

use serde_json::Value;

use self::internet::{Internet, Nat};
use crate::support::{Daemon, example, until};

/// What `node` says of its connection with `peer`.
fn path_to(node: &Daemon, peer: &Daemon) -> Option<Value> {
    let peers = node.json(&["peer", "list"]);
    peers.as_array()?.iter().find(|other| other["PeerID"] == peer.id.as_str()).cloned()
}

fn wait_until_direct(node: &Daemon, peer: &Daemon) {
    until("the connection is direct", || path_to(node, peer).filter(|path| path["Relayed"] == false));
}

fn home_relay(node: &Daemon) -> Option<String> {
    Some(node.json(&["node", "info"])["HomeRelay"].as_str()?.to_owned())
}

/// How many relays a node uses that answer.
fn used_relays(node: &Daemon) -> usize {
    let relays = node.json(&["relay", "list"]);
    let is_used = |relay: &&Value| relay["Use"] == "home" || relay["Use"] == "used";
    relays.as_array().expect("a list").iter().filter(is_used).count()
}

/// Bytes that a relay has carried from a peer.
fn carried(relay: &Daemon, peer: &Daemon) -> u64 {
    let clients = relay.json(&["relay", "clients"]);
    let client = clients.as_array().and_then(|all| all.iter().find(|client| client["PeerID"] == peer.id.as_str()));
    client.and_then(|client| client["ReceivedBytes"].as_u64()).unwrap_or(0)
}

#[test]
fn homes_behind_nats_of_each_kind_run_a_verified_job_with_nothing_but_a_ticket_and_a_relay() {
    let Some(internet) = Internet::new() else { return };
    let relay = internet.host().relay(&[], &[]);
    let (first_home, second_home) = (internet.home(Nat::PortPreserving), internet.home(Nat::PortPreserving));
    let first = first_home.host().node(&[&relay.ticket], &[]);
    // From here on nobody is told of the relay but by the ticket of a node that nobody can reach without it.
    let second = second_home.host().node(&[&first.ticket], &[]);
    let symmetric = internet.home(Nat::Symmetric).host().node(&[&first.ticket], &[]);
    let doubled = internet.home(Nat::PortPreserving).home(Nat::PortPreserving).host().node(&[&first.ticket], &[]);
    let blocked = internet.home(Nat::UdpBlocked).host().node(&[&first.ticket], &[]);
    let nodes = [&first, &second, &symmetric, &doubled, &blocked];
    for node in nodes {
        node.connected(nodes.len());
        assert!(home_relay(node).is_some(), "{}", node.json(&["node", "info"]));
    }

    // The one that nobody can reach but by the relay asks, and is asked.
    for requester in [&blocked, &first] {
        let job = requester.json(&["job", "run", &example("wordcount/job.yaml")]);
        assert_eq!(job["State"], "Completed", "{job:#}");
        assert_eq!(job["Verification"]["Verified"], true, "{job:#}");
    }
    wait_until_direct(&first, &second);
    let path = path_to(&first, &blocked).expect("they are connected");
    assert_eq!((&path["Relayed"], path["Via"].as_str()), (&Value::Bool(true), home_relay(&blocked).as_deref()));
}

#[test]
fn a_worker_that_can_only_be_reached_by_a_relay_takes_awards_like_any_other() {
    let Some(internet) = Internet::new() else { return };
    let relay = internet.host().relay(&[], &[]);
    let workers: Vec<Daemon> =
        (0..3).map(|_| internet.home(Nat::UdpBlocked).host().node(&[&relay.ticket], &[])).collect();
    let requester = internet.home(Nat::UdpBlocked).host().node(&[&workers[0].ticket], &["--executors", "none"]);
    requester.connected(4);
    let job = requester.json(&["job", "run", &example("wordcount/job.yaml")]);
    assert_eq!(job["Verification"]["Verified"], true, "{job:#}");
    assert!(carried(&relay, &requester) > 0);
}

#[test]
fn a_home_that_was_cut_off_comes_back() {
    let Some(internet) = Internet::new() else { return };
    let relay = internet.host().relay(&[], &[]);
    let home = internet.home(Nat::PortPreserving);
    let inside = home.host().node(&[&relay.ticket], &[]);
    let outside: Vec<Daemon> =
        (0..3).map(|_| internet.home(Nat::PortPreserving).host().node(&[&inside.ticket], &[])).collect();
    inside.connected(4);
    home.connect(false);
    until("everybody has noticed", || {
        let is_gone = |node: &Daemon| path_to(node, &inside).is_none();
        (inside.json(&["peer", "list"]) == Value::Array(vec![]) && outside.iter().all(is_gone)).then_some(())
    });
    home.connect(true);
    inside.connected(4);
    let job = inside.json(&["job", "run", &example("wordcount/job.yaml")]);
    assert_eq!(job["Verification"]["Verified"], true, "{job:#}");
}
