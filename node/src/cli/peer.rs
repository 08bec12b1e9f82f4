//! `shoal peer list`: whom the running node is connected to, by which path, and how that goes.

use std::cmp::Ordering;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{Global, Status, connect, output};
use crate::network::Nat;
use crate::views::PeerView;

/// `shoal peer`.
#[derive(Debug, Args)]
pub(super) struct Peer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the peers that the node is connected to: those it reaches directly first, the nearest first
    List(List),
}

/// Flags of `shoal peer list`.
#[derive(Debug, Args)]
struct List {
    /// Show whole ids, protocol versions and all addresses
    #[arg(long)]
    wide: bool,
    #[command(flatten)]
    output: output::OutputFlag,
}

impl Peer {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let Command::List(list) = self.command;
        let mut peers = connect::running(global).await?.peers().await?;
        peers.sort_by(nearer);
        output::show(list.output.format(global.format), &peers, |peers| table(peers, list.wide))?;
        Ok(Status::Done)
    }
}

/// Direct before relayed, near before far, and those of which that is not known last.
fn nearer(one: &PeerView, other: &PeerView) -> Ordering {
    let rtt = |peer: &PeerView| peer.rtt_millis.unwrap_or(f64::INFINITY);
    let order = one.relayed.cmp(&other.relayed).then(rtt(one).total_cmp(&rtt(other)));
    order.then_with(|| one.peer_id.cmp(&other.peer_id))
}

fn table(peers: &[PeerView], wide: bool) -> String {
    if wide {
        let head = [
            "peer",
            "path",
            "rtt",
            "nat",
            "sent",
            "received",
            "by relay",
            "score",
            "version",
            "protocol",
            "connected",
            "standing",
            "addresses",
        ];
        let row = |peer: &PeerView| {
            let [path, rtt, nat, sent, received, by_relay, score, version, connected] = cells(peer);
            let path = peer.via.as_ref().map_or(path, |relay| format!("relayed by {relay}"));
            let addresses = addresses(peer);
            let (id, standing) = (peer.peer_id.to_string(), peer.standing.grade.clone());
            let protocol = peer.protocol.map_or_else(unknown, |version| version.to_string());
            [id, path, rtt, nat, sent, received, by_relay, score, version, protocol, connected, standing, addresses]
        };
        return output::table(head, peers.iter().map(row));
    }
    let head = ["peer", "path", "rtt", "nat", "sent", "received", "by relay", "score", "version", "connected"];
    let row = |peer: &PeerView| {
        let [path, rtt, nat, sent, received, by_relay, score, version, connected] = cells(peer);
        [peer.peer_id.short(), path, rtt, nat, sent, received, by_relay, score, version, connected]
    };
    output::table(head, peers.iter().map(row))
}

fn unknown() -> String {
    "-".to_owned()
}

fn cells(peer: &PeerView) -> [String; 9] {
    let path = if peer.relayed { "relayed" } else { "direct" };
    let nat = match peer.nat {
        None => unknown(),
        Some(Nat::None) => "none".into(),
        Some(Nat::Cone) => "cone".into(),
        Some(Nat::Symmetric) => "symmetric".into(),
    };
    [
        if peer.rtt_millis.is_some() { path.into() } else { unknown() },
        peer.rtt_millis.map_or_else(unknown, |rtt| format!("{rtt:.1} ms")),
        nat,
        output::size(peer.sent_bytes),
        output::size(peer.received_bytes),
        output::size(peer.sent_by_relay_bytes + peer.received_by_relay_bytes),
        format!("{:.1}", peer.score),
        peer.version.clone().unwrap_or_else(unknown),
        span(peer.connected_seconds),
    ]
}

/// Where its packets come from, and where else it says that it is.
fn addresses(peer: &PeerView) -> String {
    let told = peer.addresses.iter().filter(|address| Some(*address) != peer.remote_address.as_ref());
    let all: Vec<&str> = peer.remote_address.iter().chain(told).chain(&peer.relay).map(String::as_str).collect();
    all.join(" ")
}

/// The two largest units of a length of time: `3days 4h`.
fn span(seconds: u64) -> String {
    let units = [(86_400, 3_600), (3_600, 60)];
    let smaller = units.into_iter().find(|(unit, _)| *unit <= seconds).map_or(1, |(_, smaller)| smaller);
    let whole = seconds - seconds % smaller;
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}

#[cfg(test)]
mod tests {
    use shoal_protocol::id::PeerId;

    use super::*;
    use crate::views::StandingView;

    fn peer(n: u8, relayed: bool, rtt_millis: Option<f64>) -> PeerView {
        PeerView {
            peer_id: PeerId([n; 32]),
            addresses: vec!["192.168.1.2:7".into(), "1.2.3.4:7".into()],
            relay: Some("http://relay.example/".into()),
            connected_seconds: 93_784,
            rtt_millis,
            relayed,
            via: relayed.then(|| "http://relay.example/".into()),
            remote_address: Some("1.2.3.4:7".into()),
            nat: Some(Nat::Cone),
            sent_bytes: 2_048,
            received_bytes: 3,
            sent_by_relay_bytes: 1,
            received_by_relay_bytes: 1,
            score: -1.25,
            version: Some("0.1.0".into()),
            protocol: Some(6),
            standing: StandingView { grade: "low".into(), ..StandingView::default() },
        }
    }

    #[test]
    fn the_nearest_comes_first_and_relayed_ones_last() {
        let mut peers =
            [peer(1, true, Some(1.0)), peer(2, false, None), peer(3, false, Some(9.0)), peer(4, false, Some(2.0))];
        peers.sort_by(nearer);
        assert_eq!(peers.map(|peer| peer.peer_id.0[0]), [4, 3, 2, 1]);
    }

    #[test]
    fn a_row_tells_path_distance_traffic_and_standing() {
        let narrow = table(&[peer(1, false, Some(2.0))], false);
        let row: Vec<&str> = narrow.lines().nth(1).unwrap().split_whitespace().collect();
        let expected = "0101010101 direct 2.0 ms cone 2.0 KiB 3 B 2 B -1.2 0.1.0 1day 2h";
        assert_eq!(row.join(" "), expected);
        let wide = table(&[peer(1, false, None)], true);
        assert!(wide.contains(&PeerId([1; 32]).to_string()) && wide.contains("1.2.3.4:7 192.168.1.2:7 http"), "{wide}");
        assert!(wide.contains(" low "), "{wide}");
    }

    #[test]
    fn a_length_of_time_has_two_units_at_most() {
        let table = [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3_661, "1h 1m"), (93_784, "1day 2h")];
        for (seconds, words) in table {
            assert_eq!(span(seconds), words);
        }
    }
}
