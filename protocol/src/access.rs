//! With whom a node has to do at all, whatever the protocol: what its operator allows, and how many may come from one
//! place. Whose jobs run is another matter: [`admission`](crate::admission).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::address::{Network, is_public};
use crate::id::PeerId;
use crate::limits::{
    MAX_PER_ADDRESS, MAX_PER_NETWORK, MAX_PER_PRIVATE_ADDRESS, MAX_PER_RELAY, MAX_SHUNNED_PER_ADDRESS,
    MAX_SHUNNED_PER_NETWORK,
};

/// What an operator allows. The default allows everybody.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Access {
    /// Peers; none for all that are not denied.
    pub allow_peers: BTreeSet<PeerId>,
    /// Peers, also if they are allowed.
    pub deny_peers: BTreeSet<PeerId>,
    /// Networks; none for all that are not denied.
    pub allow_networks: Vec<Network>,
    /// Networks, also if they are allowed.
    pub deny_networks: Vec<Network>,
}

/// Where a peer is, as far as its connection shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// At this address.
    Address(IpAddr),
    /// Behind this relay, wherever that may be.
    Relay(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Address(address) => address.fmt(f),
            Origin::Relay(url) => url.fmt(f),
        }
    }
}

/// Why nobody more from a place is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Crowded {
    /// One address, or one subscriber's network of IPv6.
    #[error("{0} peers of its address are connected")]
    Address(usize),
    /// One network.
    #[error("{0} peers of its network are connected")]
    Network(usize),
    /// One relay.
    #[error("{0} peers of its relay are connected")]
    Relay(usize),
}

impl Access {
    /// Whether this node has to do with `peer`.
    pub fn peer(&self, peer: PeerId) -> bool {
        (self.allow_peers.is_empty() || self.allow_peers.contains(&peer)) && !self.deny_peers.contains(&peer)
    }

    /// Whether it has to do with whoever is there. What is behind a relay is in no network that could be allowed.
    pub fn origin(&self, origin: &Origin) -> bool {
        match origin {
            Origin::Address(address) => self.address(*address),
            Origin::Relay(_) => self.allow_networks.is_empty(),
        }
    }

    fn address(&self, address: IpAddr) -> bool {
        let listed = |list: &[Network]| list.iter().any(|network| network.contains(address));
        (self.allow_networks.is_empty() || listed(&self.allow_networks)) && !listed(&self.deny_networks)
    }

    /// Whether everybody is allowed.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether one more peer may come from `origin`, beside the `others` that are connected. Whoever has many names has few
/// networks, so this bounds what a swarm can hold of a node's connections. Addresses that are not public form no network:
/// a home, a laboratory or a test has many nodes there.
pub fn has_room<'a>(origin: &Origin, others: impl Iterator<Item = &'a Origin>) -> Result<(), Crowded> {
    let (mut same, mut near) = (0, 0);
    for other in others {
        same += usize::from(is_same(origin, other));
        near += usize::from(is_near(origin, other));
    }
    let most = match origin {
        Origin::Relay(_) if same >= MAX_PER_RELAY => return Err(Crowded::Relay(same)),
        Origin::Relay(_) => return Ok(()),
        Origin::Address(address) if is_public(*address) => MAX_PER_ADDRESS,
        Origin::Address(_) => MAX_PER_PRIVATE_ADDRESS,
    };
    match () {
        () if same >= most => Err(Crowded::Address(same)),
        () if near >= MAX_PER_NETWORK => Err(Crowded::Network(near)),
        () => Ok(()),
    }
}

/// Whether nobody new is let in from `origin`, because so many were cut off that came from these places: a new name costs
/// nothing, and another address does. A relay is not to blame for whoever is behind it.
pub fn is_notorious<'a>(origin: &Origin, shunned: impl Iterator<Item = &'a Origin>) -> bool {
    let (mut same, mut near) = (0, 0);
    for shunned in shunned {
        same += usize::from(is_same(origin, shunned));
        near += usize::from(is_near(origin, shunned));
    }
    matches!(origin, Origin::Address(_)) && (same >= MAX_SHUNNED_PER_ADDRESS || near >= MAX_SHUNNED_PER_NETWORK)
}

fn is_same(one: &Origin, other: &Origin) -> bool {
    match (one, other) {
        (Origin::Address(one), Origin::Address(other)) => Network::subscriber(*one).contains(*other),
        (Origin::Relay(one), Origin::Relay(other)) => one == other,
        _ => false,
    }
}

fn is_near(one: &Origin, other: &Origin) -> bool {
    let (Origin::Address(one), Origin::Address(other)) = (one, other) else { return false };
    Network::neighbourhood(*one).is_some_and(|network| network.contains(*other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Origin {
        Origin::Address(address.parse().unwrap())
    }

    fn networks(list: &[&str]) -> Vec<Network> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_denied_is_denied_even_if_it_is_allowed() {
        let [ann, bob] = [PeerId([1; 32]), PeerId([2; 32])];
        let lists = |allow: &[PeerId], deny: &[PeerId]| Access {
            allow_peers: allow.iter().copied().collect(),
            deny_peers: deny.iter().copied().collect(),
            ..Access::default()
        };
        let table = [
            (lists(&[], &[]), [true, true]),
            (lists(&[ann], &[]), [true, false]),
            (lists(&[], &[ann]), [false, true]),
            (lists(&[ann], &[ann]), [false, false]),
        ];
        for (access, expected) in table {
            assert_eq!([access.peer(ann), access.peer(bob)], expected, "{access:?}");
        }
        assert!(lists(&[], &[]).is_open() && !lists(&[ann], &[]).is_open());
    }

    #[test]
    fn a_network_is_allowed_or_denied_with_all_that_is_in_it() {
        let relay = || Origin::Relay("https://relay.example".into());
        let only = Access { allow_networks: networks(&["10.0.0.0/8", "2a00:1::/32"]), ..Access::default() };
        let table = [("10.9.9.9", true), ("11.0.0.1", false), ("2a00:1:2::3", true), ("::ffff:10.0.0.1", true)];
        for (address, expected) in table {
            assert_eq!(only.origin(&at(address)), expected, "{address}");
        }
        assert!(!only.origin(&relay()), "nobody knows where it is");
        let without = Access { deny_networks: networks(&["192.0.2.7"]), ..only };
        assert!(!without.origin(&at("192.0.2.7")));
        let without = Access { allow_networks: Vec::new(), ..without };
        assert!(without.origin(&at("192.0.2.8")) && !without.origin(&at("192.0.2.7")) && without.origin(&relay()));
    }

    #[test]
    fn a_swarm_gets_few_places_and_a_home_gets_many() {
        let crowd = |origins: Vec<Origin>| {
            let mut connected: Vec<Origin> = Vec::new();
            for origin in origins {
                if has_room(&origin, connected.iter()).is_ok() {
                    connected.push(origin);
                }
            }
            connected.len()
        };
        let many = |of: fn(u8) -> String| (0..=255).map(|n| at(&of(n))).collect::<Vec<_>>();
        let table = [
            (many(|_| "8.8.8.8".into()), MAX_PER_ADDRESS),
            (many(|n| format!("8.8.8.{n}")), MAX_PER_NETWORK),
            (many(|n| format!("2a00:1:2:3::{n:x}")), MAX_PER_ADDRESS),
            (many(|n| format!("2a00:1:2:{n:x}::1")), MAX_PER_NETWORK),
            (many(|n| format!("8.8.{n}.8")), 256),
            (many(|_| "127.0.0.1".into()), MAX_PER_PRIVATE_ADDRESS),
            (many(|n| format!("10.0.0.{n}")), 256),
            ((0..=255).map(|_| Origin::Relay("r".into())).collect(), MAX_PER_RELAY),
        ];
        for (origins, expected) in table {
            assert_eq!(crowd(origins.clone()), expected, "{:?}", origins[1]);
        }
        let elsewhere = vec![at("8.8.8.8"); MAX_PER_ADDRESS];
        assert!(has_room(&at("9.9.9.9"), elsewhere.iter()).is_ok());
    }

    #[test]
    fn whoever_comes_again_under_new_names_is_known_by_the_address() {
        let cut_off = |place: &str, times| vec![at(place); times];
        let near = (1..=u8::try_from(MAX_SHUNNED_PER_NETWORK).unwrap()).map(|last| at(&format!("8.8.8.{last}")));
        let table = [
            ("8.8.8.8", cut_off("8.8.8.8", MAX_SHUNNED_PER_ADDRESS), true),
            ("8.8.8.8", cut_off("8.8.8.8", MAX_SHUNNED_PER_ADDRESS - 1), false),
            ("8.8.8.9", cut_off("8.8.8.8", MAX_SHUNNED_PER_ADDRESS), false),
            ("2a00:1:2:3::4", cut_off("2a00:1:2:3::5", MAX_SHUNNED_PER_ADDRESS), true),
            ("8.8.8.200", near.clone().collect(), true),
            ("8.8.8.200", near.skip(1).collect(), false),
            ("127.0.0.1", cut_off("127.0.0.2", MAX_SHUNNED_PER_NETWORK), false),
        ];
        for (address, shunned, expected) in table {
            assert_eq!(is_notorious(&at(address), shunned.iter()), expected, "{address} {shunned:?}");
        }
        let relay = Origin::Relay("r".into());
        assert!(!is_notorious(&relay, vec![relay.clone(); 100].iter()));
    }
}
