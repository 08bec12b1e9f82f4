//! What the router between us and a peer does to its packets, seen from where they come.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use shoal_protocol::address::is_public;

/// How a peer's router treats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nat {
    /// There is none: all its addresses are public.
    None,
    /// It has one public address for everybody, so that others can get through to it.
    Cone,
    /// It has another port for each receiver, so that only those can who see it first.
    Symmetric,
}

impl Nat {
    /// What it must be if packets come from `remote` while the peer says that it is at `announced`. Nothing can be
    /// told of neighbours on a private network, or of who says nothing about that address.
    pub(super) fn of(remote: SocketAddr, announced: &[SocketAddr]) -> Option<Self> {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let is_public_socket = |socket: &SocketAddr| is_public(socket.ip());
        if !is_public_socket(&remote) {
            return None;
        }
        let here: Vec<&SocketAddr> = announced.iter().filter(|socket| same_kind(socket.ip(), remote.ip())).collect();
        if here.contains(&&remote) {
            return Some(if here.iter().all(|socket| is_public_socket(socket)) { Self::None } else { Self::Cone });
        }
        here.iter().any(|socket| socket.ip() == remote.ip()).then_some(Self::Symmetric)
    }
}

fn same_kind(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_shows_in_the_port_that_packets_come_from() {
        let seen = |remote: &str, announced: &[&str]| {
            let announced: Vec<SocketAddr> = announced.iter().map(|text| text.parse().unwrap()).collect();
            Nat::of(remote.parse().unwrap(), &announced)
        };
        assert_eq!(seen("1.2.3.4:10", &["1.2.3.4:10"]), Some(Nat::None));
        assert_eq!(seen("[::ffff:1.2.3.4]:10", &["1.2.3.4:10", "[fd00::1]:10"]), Some(Nat::None));
        assert_eq!(seen("1.2.3.4:10", &["192.168.1.2:10", "1.2.3.4:10"]), Some(Nat::Cone));
        assert_eq!(seen("1.2.3.4:77", &["192.168.1.2:10", "1.2.3.4:10"]), Some(Nat::Symmetric));
        assert_eq!(seen("1.2.3.4:77", &["192.168.1.2:10"]), None, "it does not know its public address");
        assert_eq!(seen("192.168.1.2:10", &["192.168.1.2:10", "1.2.3.4:10"]), None);
    }
}
