//! Relays as a user meets them: started, found, used, counted, and closed to those who do not belong.

use std::path::Path;

use serde_json::Value;

use crate::support::{Daemon, module, refused, run, text, until};

/// A relay on loopback.
fn relay(dir: &Path, options: &[&str]) -> Daemon {
    Daemon::start(dir, &[&["--executors", "none", "--relay", "--relay-listen", "127.0.0.1:0"], options].concat())
}

/// Waits until a node is at home at that relay.
fn at_home(node: &Daemon, relay: &Daemon) {
    let url = relay.json(&["node", "info"])["Relay"].clone();
    until("the node is at home", || (node.json(&["node", "info"])["HomeRelay"] == url).then_some(()));
}

fn client(relay: &Daemon, id: &str) -> Option<Value> {
    let clients = relay.json(&["relay", "clients"]);
    clients.as_array()?.iter().find(|client| client["PeerID"] == id).cloned()
}

#[test]
fn a_relay_is_found_by_a_ticket_or_by_what_it_says_and_counts_what_passes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let before = Daemon::start(&path("before"), &[]);
    let relay = relay(&path("relay"), &["--join", &before.ticket]);
    // This one was there when there was no relay: it hears of it.
    at_home(&before, &relay);
    // This one reads of it in a ticket.
    let after = Daemon::start(&path("after"), &["--join", &relay.ticket]);
    at_home(&after, &relay);

    let relays = after.json(&["relay", "list"]);
    assert_eq!(relays.as_array().map(Vec::len), Some(1), "{relays:#}");
    assert_eq!((&relays[0]["Use"], &relays[0]["URL"]), (&"home".into(), &relay.json(&["node", "info"])["Relay"]));
    until("it is known whose the relay is", || {
        (after.json(&["relay", "list"])[0]["PeerID"] == relay.id.as_str()).then_some(())
    });
    let counted = until("its client is counted", || client(&relay, &after.id));
    assert_eq!(counted["Connected"], true, "{counted:#}");
    let shown = after.run(&["relay", "list"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("home"), "{}", text(&shown));
    refused(&after.run(&["relay", "clients"]), &["runs no relay", "--relay"]);

    // Its own peers and relays forgotten by the ticket, it comes back by itself.
    let after = after.restart();
    at_home(&after, &relay);
}

#[test]
fn a_relay_of_a_private_mesh_is_for_its_members() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    assert!(run(&path("founder"), &["mesh", "create", "home"]).status.success());
    let founder = relay(&path("founder"), &["--mesh", "home"]);
    let invited = founder.json(&["mesh", "invite"]);
    let member = Daemon::start(&path("member"), &["--join", invited["Ticket"].as_str().unwrap()]);
    at_home(&member, &founder);
    until("the member is a client", || client(&founder, &member.id));

    // A node of another mesh that knows where the relay is.
    let url = founder.json(&["node", "info"])["Relay"].as_str().unwrap().to_owned();
    let stranger = Daemon::start_with(&path("stranger"), &[], &[("SHOAL_RELAYS", &url)]);
    until("the stranger was refused", || {
        let relays = stranger.json(&["relay", "list"]);
        (relays[0]["Use"] == "silent").then_some(())
    });
    assert!(client(&founder, &stranger.id).is_none());

    assert!(founder.run(&["mesh", "revoke", &member.id]).status.success());
    until("the revoked is no client", || client(&founder, &member.id).filter(|client| client["Connected"] == false));
}

#[test]
fn whom_a_relay_denies_is_told_why_and_is_a_peer_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let denied = Daemon::start(&path("denied"), &[]);
    let relay = relay(&path("relay"), &["--join", &denied.ticket, "--relay-deny", &denied.id]);
    let other = Daemon::start(&path("other"), &["--join", &relay.ticket]);
    at_home(&other, &relay);
    until("the other is a client", || client(&relay, &other.id));
    let listed = until("the denied is told why", || {
        let relays = denied.json(&["relay", "list"]);
        (relays[0]["Reason"].as_str()?.contains("denied by its operator")).then_some(relays)
    });
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["Use"]), (Some(1), &"silent".into()), "{listed:#}");
    assert!(client(&relay, &denied.id).is_none());
    // It is not relayed, and that is all.
    denied.connected(2);
    let nothing = module(dir.path(), "nothing.wasm", "(module (func (export \"_start\")))");
    let ran = denied.run(&["wasm", "run", &nothing, "--executions", "1"]);
    assert!(ran.status.success(), "{}", text(&ran));
}

#[test]
fn what_is_wrong_with_a_relay_is_said_at_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node");
    let start = |options: &[&str]| run(&node, &[&["relay", "--node-listen", "127.0.0.1:0"], options].concat());
    refused(&start(&["--url", "relay.example"]), &["relay_url", "http://HOST:PORT"]);
    refused(&start(&["--tls-cert", "none.pem"]), &["relay_cert", "needs its key"]);
    let missing = ["--tls-cert", "none.pem", "--tls-key", "none.pem", "--url", "https://relay.example"];
    refused(&start(&[&missing[..], &["--listen", "127.0.0.1:0"]].concat()), &["none.pem", "PEM"]);
    refused(&start(&["--rate", "0"]), &["relay_rate", "nothing could pass"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&start(&["--listen", &address]), &[&address, "--relay-listen"]);
}
