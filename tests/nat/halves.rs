//! Real hosts that are cut in two and put together again, and wires that lose what is sent.

use std::path::Path;

use super::internet::{Internet, Nat};
use super::{used_relays, wait_until_direct};
use crate::support::{Daemon, example, patient_wordcount, skipped, until};

/// The share of packets that is lost on the way to each host.
const LOST: f64 = 0.05;

fn is_connected_to_all_of(node: &Daemon, others: &[&Daemon]) -> bool {
    let peers = node.json(&["peer", "list"]);
    let peers: Vec<&str> =
        peers.as_array().expect("a list").iter().filter_map(|peer| peer["PeerID"].as_str()).collect();
    let others: Vec<&str> = others.iter().map(|other| other.id.as_str()).filter(|other| *other != node.id).collect();
    others.len() == peers.len() && others.iter().all(|other| peers.contains(other))
}

/// Wordcount, to be run by three and agreed on by all of them, with time to wait for them.
fn wordcount_of_three(dir: &Path) -> String {
    let path = patient_wordcount(dir);
    let spec = std::fs::read_to_string(&path).expect("it is there").replace("Agreement: 2", "Agreement: 3");
    std::fs::write(&path, spec).expect("it can be written");
    path
}

#[test]
fn a_job_that_half_a_mesh_cannot_run_is_run_when_the_halves_have_found_each_other() {
    let Some(internet) = Internet::new() else { return };
    let relay = internet.host().relay(&[], &[]);
    let join = [relay.ticket.as_str()];
    let kinds = [Nat::PortPreserving, Nat::Symmetric, Nat::PortPreserving, Nat::PortPreserving];
    let homes = kinds.map(|nat| internet.home(nat));
    let requester = homes[0].host().node(&join, &["--executors", "none"]);
    let workers = [1, 2, 3].map(|home| homes[home].host().node(&join, &[]));
    // The other half has no relay, and needs none: its two know direct ways.
    let all = [&relay, &requester, &workers[0], &workers[1], &workers[2]];
    let halves = all.split_at(3);
    let all_are_connected = || all.iter().all(|node| is_connected_to_all_of(node, &all));
    until("all are connected", || all_are_connected().then_some(()));

    wait_until_direct(&workers[1], &workers[2]);
    let beyond = [homes[2].router(), homes[3].router()];
    internet.part(&beyond, true);
    until("each half is alone", || {
        let is_alone = |half: &[&Daemon]| half.iter().all(|node| is_connected_to_all_of(node, half));
        (is_alone(halves.0) && is_alone(halves.1)).then_some(())
    });
    let job = requester.submit(&["job", "run", &wordcount_of_three(&internet.dir())]);
    requester.execution_in(&job, "Committed");
    internet.part(&beyond, false);
    let described = requester.finished(&job);
    assert_eq!(
        (described["State"].as_str(), &described["Verification"]["Agreed"]),
        (Some("Completed"), &3.into()),
        "{described:#}"
    );
    until("all are connected again", || all_are_connected().then_some(()));
}

#[test]
fn those_who_need_a_relay_meet_at_the_one_of_their_half() {
    let Some(internet) = Internet::new() else { return };
    let (here, there) = (internet.host(), internet.host());
    let first = here.relay(&[], &[]);
    let second = there.relay(&[&first.ticket], &[]);
    let homes = [0, 1, 2, 3].map(|_| internet.home(Nat::Symmetric));
    let nodes = homes.each_ref().map(|home| home.host().node(&[&first.ticket, &second.ticket], &[]));
    let [one, two, three, four] = &nodes;
    let all = [&first, one, two, &second, three, four];
    let halves = all.split_at(3);
    until("all are connected", || all.iter().all(|node| is_connected_to_all_of(node, &all)).then_some(()));
    for node in &nodes {
        until("it uses both relays", || (used_relays(node) == 2).then_some(()));
    }
    let beyond = [&there, homes[2].router(), homes[3].router()];
    internet.part(&beyond, true);
    for half in [halves.0, halves.1] {
        until("a half is alone, and together", || {
            half.iter().all(|node| is_connected_to_all_of(node, half)).then_some(())
        });
    }
    internet.part(&beyond, false);
    until("all are connected again", || all.iter().all(|node| is_connected_to_all_of(node, &all)).then_some(()));
}

#[test]
fn a_job_is_verified_where_one_packet_in_twenty_is_lost() {
    let Some(internet) = Internet::new() else { return };
    let relay_host = internet.host();
    let relay = relay_host.relay(&[], &[]);
    let kinds = [Nat::PortPreserving, Nat::PortPreserving, Nat::Symmetric, Nat::UdpBlocked];
    let hosts = kinds.map(|nat| internet.home(nat).host());
    for host in hosts.iter().chain([&relay_host]) {
        if let Err(why) = host.lose(LOST) {
            return skipped(&format!("packets cannot be lost here: {why}"));
        }
    }
    let nodes = hosts.each_ref().map(|host| host.node(&[&relay.ticket], &[]));
    for node in &nodes {
        node.connected(nodes.len());
    }
    for requester in [&nodes[0], &nodes[3]] {
        let job = requester.json(&["job", "run", &example("wordcount/job.yaml")]);
        assert_eq!(job["Verification"]["Verified"], true, "{job:#}");
    }
}
