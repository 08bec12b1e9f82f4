//! How much of the routing table one network may have: whoever has many names, and few networks, cannot surround a node.

use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use shoal_protocol::address::Network;

/// Peers of one public network (IPv4 /24, IPv6 /48) in a bucket, which has room for twenty.
const MAX_PER_BUCKET: usize = 2;
/// The same in the whole table.
const MAX_PER_TABLE: usize = 10;

/// The networks that a peer's addresses are in. Those that are not public form none.
pub(super) fn networks<'a>(addresses: impl IntoIterator<Item = &'a Multiaddr>) -> Vec<Network> {
    let ips = addresses.into_iter().filter_map(|address| match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(IpAddr::from(ip)),
        Some(Protocol::Ip6(ip)) => Some(ip.into()),
        _ => None,
    });
    let mut networks: Vec<Network> = ips.filter_map(Network::neighbourhood).collect();
    networks.sort_unstable();
    networks.dedup();
    networks
}

/// Whether a peer of these networks may enter a table that has, for each peer in it, whether it is in the same bucket,
/// and its networks.
pub(super) fn has_room(networks: &[Network], table: &[(bool, Vec<Network>)]) -> bool {
    networks.iter().all(|network| {
        let near = || table.iter().filter(|(_, of)| of.contains(network));
        near().count() < MAX_PER_TABLE && near().filter(|(same_bucket, _)| *same_bucket).count() < MAX_PER_BUCKET
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(addresses: &[&str]) -> Vec<Network> {
        let addresses: Vec<Multiaddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        networks(&addresses)
    }

    #[test]
    fn a_network_gets_few_entries_of_a_bucket_and_of_the_table() {
        let swarm = of(&["/ip4/8.8.8.1/udp/1/quic-v1"]);
        let neighbour = of(&["/ip4/8.8.8.2/udp/1/quic-v1", "/ip4/8.8.8.3/udp/1/quic-v1"]);
        assert_eq!(swarm, neighbour);
        let table = |same: usize, other: usize| {
            let mut table = vec![(true, swarm.clone()); same];
            table.extend(vec![(false, neighbour.clone()); other]);
            table
        };
        assert!(has_room(&swarm, &table(MAX_PER_BUCKET - 1, MAX_PER_TABLE - MAX_PER_BUCKET)));
        assert!(!has_room(&swarm, &table(MAX_PER_BUCKET, 0)));
        assert!(!has_room(&swarm, &table(0, MAX_PER_TABLE)));
        assert!(has_room(&of(&["/ip4/9.9.9.9/udp/1/quic-v1"]), &table(20, 20)));
    }

    #[test]
    fn neighbours_at_home_do_not_count() {
        let home =
            of(&["/ip4/192.168.1.2/udp/1/quic-v1", "/ip4/127.0.0.1/udp/1/quic-v1", "/ip6/fe80::1/udp/1/quic-v1"]);
        assert!(home.is_empty() && has_room(&home, &vec![(true, home.clone()); 20]));
    }
}
