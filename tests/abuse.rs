//! Peers that flood, forge, replay and come in swarms, while honest nodes go on with their jobs.

mod floods;
mod hostile;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iroh::endpoint::{Connection, RelayMode, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, SecretKey, TransportAddr};
use serde_json::Value;
use shoal_protocol::limits::MAX_PER_PRIVATE_ADDRESS;
use tokio::task::JoinSet;

use crate::support::{Daemon, Mesh, module, until};
use hostile::{Hostile, garbage};

/// Peers that are not on the addresses of the honest ones.
const ELSEWHERE: &str = "127.0.0.2";
const AN_HOUR: Duration = Duration::from_secs(3_600);
/// As long as a replay is told from a message that is slow.
const THREE_MINUTES: Duration = Duration::from_secs(180);

fn fended(node: &Daemon, what: &str) -> u64 {
    node.json(&["node", "info"])["Fended"][what].as_u64().expect("it is counted")
}

/// Joins a mesh as somebody who means harm, and waits until everybody there hears it.
fn join(mesh: &Mesh, seed: u8) -> Hostile {
    let tickets: Vec<&str> = mesh.nodes.iter().map(|node| node.ticket.as_str()).collect();
    let hostile = Hostile::join(seed, ELSEWHERE, &tickets);
    for node in &mesh.nodes {
        until("the hostile peer is connected", || is_connected(node, &id(&hostile)).then_some(()));
    }
    hostile
}

fn id(hostile: &Hostile) -> String {
    hostile.network.peer_id().to_string()
}

fn is_connected(node: &Daemon, id: &str) -> bool {
    peer(node, id).is_some()
}

/// What a node says of a connected peer.
fn peer(node: &Daemon, id: &str) -> Option<Value> {
    let peers = node.json(&["peer", "list"]);
    peers.as_array()?.iter().find(|known| known["PeerID"] == id).cloned()
}

/// Runs a job whose result two workers must agree on, and returns its id.
fn verified(node: &Daemon, dir: &Path) -> String {
    let nothing = module(dir, "nothing.wasm", "(module (func (export \"_start\")))");
    let job = node.json(&["wasm", "run", &nothing, "--executions", "2", "--agreement", "2"]);
    assert_eq!((&job["State"], &job["Verification"]["Verified"]), (&"Completed".into(), &true.into()), "{job:#}");
    job["JobID"].as_str().expect("it has an id").to_owned()
}

/// Goes on with `attack` until every node has cut the attacker off; jobs complete meanwhile and afterwards.
fn until_cut_off(mesh: &Mesh, hostile: &mut Hostile, mut attack: impl FnMut(&mut Hostile)) {
    attack(hostile);
    verified(&mesh.nodes[0], mesh.dir.path());
    until("the attacker is cut off", || {
        attack(hostile);
        mesh.nodes.iter().all(|node| fended(node, "CutOff") == 1).then_some(())
    });
    until("its connections are closed", || (hostile.peers() == 0).then_some(()));
    for node in &mesh.nodes {
        until("the node has noticed that", || (!is_connected(node, &id(hostile))).then_some(()));
        node.connected(mesh.nodes.len() - 1);
    }
    verified(&mesh.nodes[1], mesh.dir.path());
}

/// Jobs complete while `attack` goes on, and afterwards nobody has lost anybody. How fast a flood comes, and so when its
/// source is cut off, depends on the machine: that is in the network's own tests.
fn jobs_go_on_during(mesh: &Mesh, hostile: &mut Hostile, attack: impl Fn(&mut Hostile) + Sync) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                attack(hostile);
            }
        });
        mesh.nodes.iter().for_each(|node| drop(verified(node, mesh.dir.path())));
        over.store(true, Ordering::Relaxed);
    });
    for node in &mesh.nodes {
        node.connected(mesh.nodes.len() - 1);
        verified(node, mesh.dir.path());
    }
}

#[test]
fn jobs_go_on_while_somebody_floods() {
    let mesh = Mesh::start(3);
    let mut hostile = join(&mesh, 101);
    jobs_go_on_during(&mesh, &mut hostile, |hostile| {
        hostile.gossip(100, |hostile| hostile.announcement(Duration::ZERO));
    });
}

#[test]
fn jobs_go_on_while_somebody_says_what_nobody_here_can_read() {
    let mesh = Mesh::start(3);
    let mut hostile = join(&mesh, 114);
    hostile.gossip(100, Hostile::riddle);
    verified(&mesh.nodes[0], mesh.dir.path());
    assert!(mesh.nodes.iter().all(|node| is_connected(node, &id(&hostile))), "some of it is no offence");
    jobs_go_on_during(&mesh, &mut hostile, |hostile| hostile.gossip(100, Hostile::riddle));
}

#[test]
fn jobs_go_on_while_somebody_has_workers_bid_for_nothing() {
    let mesh = Mesh::start(3);
    let mut hostile = join(&mesh, 115);
    until("it has heard what workers bid for", || {
        verified(&mesh.nodes[0], mesh.dir.path());
        (!hostile.recorded().is_empty()).then_some(())
    });
    jobs_go_on_during(&mesh, &mut hostile, |hostile| hostile.gossip(100, Hostile::bait));
}

#[test]
fn what_was_recorded_in_the_mesh_and_is_said_again_by_others_changes_nothing() {
    let mut mesh = Mesh::start(3);
    let recorder = join(&mesh, 109);
    let mut jobs = Vec::new();
    // Of each job the announcement at least.
    let recorded = until("some of what is said has been recorded", || {
        let number = jobs.len() % mesh.nodes.len();
        jobs.push((number, verified(&mesh.nodes[number], mesh.dir.path())));
        Some(recorder.recorded()).filter(|heard| heard.len() >= 6)
    });
    drop(recorder);
    let executions =
        |mesh: &Mesh, (number, job): &(usize, String)| mesh.nodes[*number].describe(job)["Executions"].clone();
    let before: Vec<Value> = jobs.iter().map(|job| executions(&mesh, job)).collect();
    // One that was just started has forgotten what was said.
    let last = mesh.nodes.pop().expect("there are three");
    mesh.nodes.push(last.restart());
    for seed in 110..113 {
        let mut replayer = join(&mesh, seed);
        for bytes in &recorded {
            replayer.gossip(1, |_| bytes.clone());
        }
        verified(&mesh.nodes[usize::from(seed) % 3], mesh.dir.path());
        let bytes: usize = recorded.iter().map(Vec::len).sum();
        for node in &mesh.nodes {
            until("all of it has arrived", || {
                let known = peer(node, &id(&replayer))?;
                (known["ReceivedBytes"].as_u64()? >= bytes as u64).then_some(())
            });
        }
    }
    let after: Vec<Value> = jobs.iter().map(|job| executions(&mesh, job)).collect();
    assert_eq!(before, after, "nothing runs twice");
    for node in &mesh.nodes {
        assert_eq!(fended(node, "CutOff"), 0, "nobody is blamed for what others said");
        node.connected(2);
        verified(node, mesh.dir.path());
    }
}

#[test]
fn whoever_forges_gossip_is_cut_off() {
    let mesh = Mesh::start(3);
    let (mut hostile, mut number) = (join(&mesh, 102), 0);
    until_cut_off(&mesh, &mut hostile, |hostile| {
        hostile.gossip(20, |_| {
            number += 1;
            garbage(number)
        });
    });
}

#[test]
fn whoever_sends_requests_that_are_none_is_cut_off() {
    let mesh = Mesh::start(3);
    let mut hostile = join(&mesh, 103);
    until_cut_off(&mesh, &mut hostile, |hostile| hostile.ask_all(&garbage(0)));
}

#[test]
fn what_is_stale_or_replayed_is_not_passed_on_and_costs_nobody_the_connection() {
    let mesh = Mesh::start(3);
    let mut hostile = join(&mesh, 104);
    hostile.gossip(1, |hostile| hostile.announcement(Duration::ZERO));
    let old = [AN_HOUR, THREE_MINUTES];
    for age in old {
        hostile.gossip(100, |hostile| hostile.announcement(age));
    }
    verified(&mesh.nodes[0], mesh.dir.path());
    for node in &mesh.nodes {
        until("all of it is dropped", || (fended(node, "Gossip") >= 100).then_some(()));
        assert_eq!(fended(node, "CutOff"), 0);
        assert!(is_connected(node, &id(&hostile)));
    }
}

#[test]
fn jobs_go_on_while_a_swarm_of_fresh_names_floods() {
    let mesh = Mesh::start(3);
    let mut hostile = join(&mesh, 105);
    jobs_go_on_during(&mesh, &mut hostile, |hostile| hostile.gossip(100, Hostile::announcement_of_nobody));
}

#[test]
fn jobs_go_on_while_names_flood_that_are_no_newcomers() {
    // Nobody is one to nodes that have only just started.
    let mesh = Mesh::start(3);
    let mut hostile = join(&mesh, 119);
    jobs_go_on_during(&mesh, &mut hostile, |hostile| hostile.gossip(100, Hostile::announcement_of_few));
}

/// One of many names, at an address of its own port.
async fn sybil(number: u32, node: EndpointAddr) -> Option<(Endpoint, Connection)> {
    let mut secret = [7; 32];
    secret[..4].copy_from_slice(&number.to_le_bytes());
    let elsewhere = SocketAddr::from((ELSEWHERE.parse::<Ipv4Addr>().expect("it is an address"), 0));
    let builder = Endpoint::builder(presets::Minimal).secret_key(SecretKey::from_bytes(&secret));
    let builder = builder.relay_mode(RelayMode::Disabled).clear_ip_transports().bind_addr(elsewhere).ok()?;
    let endpoint = builder.bind().await.expect("it is bound");
    let connection = endpoint.connect(node, iroh_blobs::ALPN).await.ok()?;
    Some((endpoint, connection))
}

/// Where a node is, as its ticket's address says.
fn address_of(node: &Daemon) -> EndpointAddr {
    let info = node.json(&["node", "info"]);
    let socket: SocketAddr =
        info["Contact"]["addresses"][0].as_str().expect("it is somewhere").parse().expect("it is one");
    let key: [u8; 32] = data_encoding::HEXLOWER.decode(node.id.as_bytes()).expect("hex").try_into().expect("a key");
    let id = EndpointId::from_bytes(&key).expect("it is a key");
    EndpointAddr::from_parts(id, [TransportAddr::Ip(socket)])
}

#[test]
fn a_thousand_names_from_one_address_hold_few_places() {
    const NAMES: u32 = 1_000;
    const AT_ONCE: usize = 16;
    let mesh = Mesh::start(3);
    let first = &mesh.nodes[0];
    let address = address_of(first);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let held = runtime.block_on(async {
        let (mut held, mut coming) = (Vec::new(), JoinSet::new());
        for number in 0..NAMES {
            coming.spawn(sybil(number, address.clone()));
            if coming.len() >= AT_ONCE {
                held.extend(coming.join_next().await.and_then(Result::ok).flatten());
            }
            // Whoever was not let in has been told by now, and goes.
            held.retain(|(_, connection): &(Endpoint, Connection)| connection.close_reason().is_none());
        }
        held.extend(coming.join_all().await.into_iter().flatten());
        held
    });
    let let_in = || held.iter().filter(|(_, connection)| connection.close_reason().is_none()).count();
    until("all but a few are refused", || (let_in() <= MAX_PER_PRIVATE_ADDRESS).then_some(()));
    let refused = fended(first, "Connections");
    assert!(refused >= u64::from(NAMES) - MAX_PER_PRIVATE_ADDRESS as u64, "{refused}");
    verified(first, mesh.dir.path());
    let newcomer = Daemon::start(&mesh.dir.path().join("newcomer"), &["--join", &first.ticket]);
    newcomer.connected(3);
    verified(&newcomer, mesh.dir.path());
    drop((held, runtime));
}

#[test]
fn strangers_at_a_private_mesh_get_nothing_however_many_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let made = crate::support::run(&path("first"), &["mesh", "create", "home"]);
    assert!(made.status.success());
    let first = Daemon::start(&path("first"), &["--mesh", "home"]);
    let invited = first.json(&["mesh", "invite", "--uses", "2"]);
    let ticket = invited["Ticket"].as_str().unwrap().to_owned();
    let members = ["second", "third"].map(|name| Daemon::start(&path(name), &["--join", &ticket]));
    for member in &members {
        member.connected(2);
    }

    let (address, runtime) = (address_of(&first), tokio::runtime::Runtime::new().unwrap());
    let strangers = runtime.block_on(async {
        let all: JoinSet<_> = (0..100).map(|number| sybil(number, address.clone())).collect();
        all.join_all().await.into_iter().flatten().count()
    });
    assert_eq!(strangers, 0, "a public mesh's name leads nowhere");
    verified(&members[0], dir.path());
    assert_eq!(first.json(&["peer", "list"]).as_array().map(Vec::len), Some(2));
}

#[test]
fn operators_shut_out_peers_and_networks_for_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let second = Daemon::start(&path("second"), &[]);
    let first = Daemon::start(&path("first"), &["--deny-peer", &second.id, "--deny-network", "127.0.0.2"]);
    let third = Daemon::start(&path("third"), &["--join", &first.ticket, "--join", &second.ticket]);
    third.connected(2);

    let name = second.id.clone();
    let second = second.restart_with(&["--join", &first.ticket]);
    assert_eq!(second.id, name);
    second.connected(1);
    until("it has been refused", || (fended(&first, "Connections") > 0).then_some(()));
    assert!(!is_connected(&first, &second.id) && !is_connected(&second, &first.id));

    let hostile = Hostile::join(106, ELSEWHERE, &[&first.ticket, &third.ticket]);
    until("the other takes it", || is_connected(&third, &id(&hostile)).then_some(()));
    assert!(!is_connected(&first, &id(&hostile)));
    assert!(is_connected(&first, &third.id));

    let shown = first.json(&["node", "info"]);
    assert_eq!(shown["Access"]["DenyPeers"], Value::from(vec![second.id.as_str()]));
    assert_eq!(shown["Access"]["DenyNetworks"], Value::from(vec!["127.0.0.2/32"]));
}
