//! Those who come for the first time, by the only way there is.

use std::os::unix::fs::PermissionsExt;

use super::internet::{Internet, Nat};
use super::{home_relay, path_to};
use crate::support::{Daemon, example, run, text, until};

#[test]
fn a_newcomer_of_a_private_mesh_is_let_in_through_a_relay() {
    let Some(internet) = Internet::new() else { return };
    let (founder, holder) = (internet.host(), internet.home(Nat::Symmetric).host());
    let created = run(&founder.dir(), &["mesh", "create", "home"]);
    assert!(created.status.success(), "{}", text(&created));
    // Somebody else with the key, whom nobody can reach but by the relay.
    let key = |host: &std::path::Path| host.join("meshes/home/key");
    std::fs::create_dir_all(key(&holder.dir()).parent().expect("it lies in a folder")).expect("it can be made");
    std::fs::copy(key(&founder.dir()), key(&holder.dir())).expect("it can be copied");
    std::fs::set_permissions(key(&holder.dir()), std::fs::Permissions::from_mode(0o600)).expect("it can be changed");

    let relay = founder.relay(&[], &["--mesh", "home"]);
    let holder = holder.node(&[&relay.ticket], &["--mesh", "home"]);
    until("the holder has a home", || home_relay(&holder));
    let invitation = holder.json(&["mesh", "invite"])["Ticket"].clone();
    let newcomer = internet.home(Nat::UdpBlocked).host().node(&[invitation.as_str().expect("a ticket")], &[]);
    newcomer.connected(2);
    assert_eq!(path_to(&newcomer, &holder).expect("they are connected")["Relayed"], true);
}

#[test]
fn hosts_that_have_ipv6_alone_run_a_verified_job_and_use_a_relay() {
    let Some(internet) = Internet::new() else { return };
    let Some(relay) = internet.host_v6() else { return };
    let relay = relay.relay(&[], &[]);
    let host = || internet.host_v6().expect("there was one");
    let nodes: Vec<Daemon> = (0..4).map(|_| host().node(&[&relay.ticket], &[])).collect();
    for node in &nodes {
        node.connected(nodes.len());
        until("it has a home", || home_relay(node).filter(|url| url.starts_with("http://[2a01:")));
    }
    let job = nodes[0].json(&["job", "run", &example("wordcount/job.yaml")]);
    assert_eq!(job["Verification"]["Verified"], true, "{job:#}");
}
