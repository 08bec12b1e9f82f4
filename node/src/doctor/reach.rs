//! Whether packets pass, in and out.

use std::net::SocketAddr;

use shoal_protocol::address::is_public;

use super::MAX_TOLD;
use crate::network::{KnownRelay, PeerInfo, PortMapping};
use crate::views::doctor::{Check, Finding};

/// Peers that only a relay reaches before it is this node's network that is blamed, not theirs.
const SUSPICIOUS: usize = 2;

/// Whether UDP passes. Says nothing while no peer tells.
pub(super) fn udp(peers: &[PeerInfo]) -> Option<Finding> {
    let direct = peers.iter().filter(|peer| !peer.relayed && peer.rtt.is_some()).count();
    if direct > 0 {
        return Some(Finding::ok(
            Check::Udp,
            format!("UDP passes: {direct} of {} peers are reached directly", peers.len()),
        ));
    }
    let is_public_peer = |peer: &&PeerInfo| peer.contact.addresses.iter().any(|socket| is_public(socket.ip()));
    let relayed: Vec<&PeerInfo> = peers.iter().filter(|peer| peer.relayed).collect();
    let public = relayed.iter().copied().filter(is_public_peer).count();
    let why = "data goes through relays, which is slower, and stops when they do";
    match relayed.len() {
        0 => None,
        number if number >= SUSPICIOUS && public > 0 => Some(Finding::wrong(
            Check::Udp,
            format!(
                "UDP seems to be blocked: all {number} peers are reached through relays, though {public} of them have \
                 public addresses"
            ),
            why,
            "let this machine send and receive UDP: in its firewall, in the router's, or by leaving a guest or company \
             network that forbids it",
        )),
        number => Some(Finding::note(
            Check::Udp,
            format!("no peer is reached directly: {number} through relays"),
            why,
            "open a port of one side's router to its node (UPnP, or by hand)",
        )),
    }
}

/// Whether this machine has a network at all, where the node listens for more than itself. Says nothing if it has.
pub(super) fn offline(own: &[SocketAddr], listen: SocketAddr) -> Option<Finding> {
    let is_alone = !own.is_empty() && own.iter().all(|socket| socket.ip().is_loopback());
    (is_alone && !listen.ip().is_loopback()).then(|| {
        Finding::wrong(
            Check::Reachable,
            "this machine has no network: it has no address but its own loopback",
            "the node reaches nobody, and nobody reaches it",
            "connect it (`ip address` shows what it has); the node goes on by itself then",
        )
    })
}

/// Whether a peer elsewhere can begin to talk to this node, which is at `own`.
pub(super) fn reachable(own: &[SocketAddr], port: Option<u16>, mapping: PortMapping, has_relay: bool) -> Finding {
    if let Some(public) = own.iter().find(|socket| is_public(socket.ip())) {
        return Finding::ok(
            Check::Reachable,
            format!("others can reach this node at {public}, if no firewall stops them"),
        );
    }
    if !own.is_empty() && own.iter().all(|socket| socket.ip().is_loopback()) {
        return Finding::ok(Check::Reachable, "this node is reached from this machine only, as its `listen` says");
    }
    let port = port.map_or_else(|| "UDP port".to_owned(), |port| format!("UDP port {port}"));
    let what = match own {
        [] => "this node knows no address of its own".to_owned(),
        [first, ..] => format!("this node has no public address: {first} is private, and {}", mapping.in_words()),
    };
    let why = if has_relay {
        "peers elsewhere reach it through a relay first"
    } else {
        "peers on the same network reach it, and those elsewhere only if it reaches them first"
    };
    let switch_on = match mapping {
        PortMapping::Off => "leave out `--no-port-mapping`",
        _ => "switch on UPnP, NAT-PMP or PCP in the router",
    };
    let remedy =
        format!("{switch_on}, or forward {port} to this machine there and fix it with `--listen 0.0.0.0:PORT`");
    Finding::note(Check::Reachable, what, why, remedy)
}

/// Whether a relay of the mesh answers, named or heard of. Says nothing where there are none.
pub(super) fn relays(known: &[KnownRelay]) -> Option<Finding> {
    let (all, good) = (known.len(), known.iter().filter(|relay| relay.is_good).count());
    let counted = format!("{good} of {all} {} answer", if all == 1 { "relay" } else { "relays" });
    if let Some(home) = known.iter().find(|relay| relay.is_home) {
        return Some(Finding::ok(Check::Relays, format!("connected to relay {}; {counted}", home.address)));
    }
    let why = "peers that no direct path leads to cannot be reached either";
    if good > 0 {
        let what = format!("{counted}, and this node is at home at none yet");
        return Some(Finding::note(Check::Relays, what, why, "ask again in some seconds"));
    }
    let trouble = |relay: &KnownRelay| relay.trouble.clone().unwrap_or_else(|| "no answer yet".into());
    let mut told: Vec<String> =
        known.iter().take(MAX_TOLD).map(|relay| format!("{}: {}", relay.address, trouble(relay))).collect();
    if all > MAX_TOLD {
        told.push(format!("and {} more", all - MAX_TOLD));
    }
    (all > 0).then(|| {
        Finding::wrong(
            Check::Relays,
            format!("no relay can be used: {}", told.join("; ")),
            why,
            "check that one of them runs, takes this node, and that this network lets TCP out to it; or name another \
             one (`--use-relay`), or run one (`shoal relay`)",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::company::tests::connected;
    use super::*;
    use crate::views::doctor::State;

    fn through_relay(peer: u8, address: &str) -> PeerInfo {
        let mut info = connected(peer);
        (info.relayed, info.rtt) = (true, Some(Duration::from_millis(9)));
        info.contact.addresses.push(address.parse().unwrap());
        info
    }

    #[test]
    fn udp_is_blocked_when_relays_alone_reach_even_public_peers() {
        let (public, private) = (through_relay(1, "1.2.3.4:1"), through_relay(2, "192.168.1.2:1"));
        let state = |peers: &[PeerInfo]| udp(peers).map(|finding| finding.state);
        assert_eq!(state(&[public.clone(), private.clone()]), Some(State::Wrong));
        assert_eq!(state(std::slice::from_ref(&public)), Some(State::Note), "it may be the other side's network");
        assert_eq!(state(&[private.clone(), private.clone()]), Some(State::Note));
        let direct = PeerInfo { relayed: false, ..private };
        assert_eq!(state(&[public, direct]), Some(State::Ok));
        assert_eq!(state(&[]), None);
    }

    #[test]
    fn a_node_with_private_addresses_alone_is_told_what_opens_its_router() {
        let at = |own: &[&str], has_relay| {
            let own: Vec<SocketAddr> = own.iter().map(|text| text.parse().unwrap()).collect();
            reachable(&own, Some(4_433), PortMapping::NoRouter, has_relay)
        };
        assert_eq!(at(&["192.168.1.2:4433", "1.2.3.4:4433"], false).state, State::Ok);
        assert_eq!(at(&["127.0.0.1:4433"], false).state, State::Ok);
        let finding = at(&["192.168.1.2:4433"], false);
        assert_eq!(finding.state, State::Note);
        assert!(finding.remedy.is_some_and(|remedy| remedy.contains("UDP port 4433")));
        assert!(at(&["192.168.1.2:4433"], true).why.is_some_and(|why| why.contains("relay")));
        assert!(at(&[], false).what.contains("no address"));
    }

    #[test]
    fn a_machine_with_nothing_but_its_loopback_is_offline_unless_that_was_asked_for() {
        let at = |own: &[&str], listen: &str| {
            let own: Vec<SocketAddr> = own.iter().map(|text| text.parse().unwrap()).collect();
            offline(&own, listen.parse().unwrap()).map(|finding| finding.state)
        };
        assert_eq!(at(&["127.0.0.1:4433", "[::1]:4433"], "0.0.0.0:4433"), Some(State::Wrong));
        assert_eq!(at(&["127.0.0.1:4433"], "127.0.0.1:0"), None);
        assert_eq!(at(&["127.0.0.1:4433", "192.168.1.2:4433"], "0.0.0.0:4433"), None);
        assert_eq!(at(&[], "0.0.0.0:4433"), None, "a relay may be all it has");
    }

    #[test]
    fn relays_that_do_not_answer_are_named_with_their_reasons() {
        let relay = |host: u8, is_good, trouble: Option<&str>| KnownRelay {
            address: format!("http://192.0.2.{host}:3340").parse().unwrap(),
            by: None,
            rtt_ms: None,
            is_good,
            is_used: is_good,
            is_home: false,
            trouble: trouble.map(str::to_owned),
        };
        assert_eq!(relays(&[]), None);
        let silent = relay(1, false, Some("connection refused"));
        let home = KnownRelay { is_home: true, ..relay(2, true, None) };
        let finding = relays(&[silent.clone(), home]).unwrap();
        assert_eq!(finding.state, State::Ok);
        assert!(finding.what.contains("http://192.0.2.2:3340/; 1 of 2 relays answer"), "{finding:?}");
        assert_eq!(relays(&[silent.clone(), relay(2, true, None)]).unwrap().state, State::Note);
        let finding = relays(&[silent, relay(2, false, None)]).unwrap();
        assert_eq!(finding.state, State::Wrong);
        for words in ["http://192.0.2.1:3340/: connection refused", "http://192.0.2.2:3340/: no answer yet"] {
            assert!(finding.what.contains(words), "{finding:?}");
        }
        let many: Vec<KnownRelay> = (1..8).map(|host| relay(host, false, None)).collect();
        assert!(relays(&many).unwrap().what.ends_with("and 3 more"));
    }
}
