//! Addresses in their three forms: a [`Contact`] in our messages, a multiaddress in libp2p, a transport address in iroh.
//!
//! | what | multiaddress |
//! |---|---|
//! | a UDP socket | `/ip4/A/udp/P/quic-v1[/p2p/ID]`, and `ip6` |
//! | a relay | `/{ip4,ip6,dns}/H/tcp/P/{http,https}/p2p/ID` |
//! | wherever the address book says | `/p2p/ID` |
//!
//! `/quic-v1` is iroh's QUIC with raw public keys: no foreign libp2p node answers there.

use std::net::{IpAddr, SocketAddr};

use iroh::{EndpointAddr, EndpointId, RelayUrl, TransportAddr};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use shoal_protocol::id::PeerId;
use shoal_protocol::limits::{MAX_ADDRESSES, MAX_TEXT_BYTES};
use shoal_protocol::message::Contact;

use super::identity::{endpoint_id, libp2p_id, peer_of_endpoint, peer_of_libp2p};

/// Most addresses that are read from one peer's own description of itself.
const MAX_CLAIMED: usize = 16;

/// Where a multiaddress leads: whom, and how. No way means that the address book decides.
pub(crate) fn parse(address: &Multiaddr) -> Option<(EndpointId, Option<TransportAddr>)> {
    let mut parts: Vec<Protocol<'_>> = address.iter().collect();
    let Some(Protocol::P2p(id)) = parts.pop() else { return None };
    let endpoint = endpoint_id(peer_of_libp2p(&id)?)?;
    if parts.is_empty() { Some((endpoint, None)) } else { Some((endpoint, Some(parse_way(&parts)?))) }
}

/// The peer that a multiaddress names and where it is. A name without a way does not do here.
pub(crate) fn parse_text(text: &str) -> Option<(PeerId, Contact)> {
    let (endpoint, way) = parse(&text.parse().ok()?)?;
    let contact = match way? {
        TransportAddr::Ip(socket) if leads_somewhere(socket) => Contact { addresses: vec![socket], relay: None },
        TransportAddr::Relay(url) => Contact { addresses: Vec::new(), relay: Some(url.to_string()) },
        _ => return None,
    };
    Some((peer_of_endpoint(endpoint), contact))
}

/// Every way to `peer`, as a multiaddress with its name.
pub(crate) fn multiaddrs(peer: PeerId, contact: &Contact) -> Vec<Multiaddr> {
    let (id, Some(address)) = (libp2p_id(peer), endpoint_addr(peer, contact)) else { return Vec::new() };
    let ways = address.addrs.iter().filter_map(|way| multiaddr(id, way));
    ways.filter_map(|way| way.with_p2p(id).ok()).collect()
}

/// The way that a multiaddress without its peer describes.
fn parse_way(parts: &[Protocol<'_>]) -> Option<TransportAddr> {
    match parts {
        [Protocol::Ip4(ip), Protocol::Udp(port), Protocol::QuicV1] => {
            Some(TransportAddr::Ip(SocketAddr::new((*ip).into(), *port)))
        }
        [Protocol::Ip6(ip), Protocol::Udp(port), Protocol::QuicV1] => {
            Some(TransportAddr::Ip(SocketAddr::new((*ip).into(), *port)))
        }
        [host, Protocol::Tcp(port), scheme] => relay_url(host, *port, scheme).map(TransportAddr::Relay),
        _ => None,
    }
}

fn relay_url(host: &Protocol<'_>, port: u16, scheme: &Protocol<'_>) -> Option<RelayUrl> {
    let host = match host {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => format!("[{ip}]"),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name.to_string(),
        _ => return None,
    };
    let scheme = match scheme {
        Protocol::Http => "http",
        Protocol::Https => "https",
        _ => return None,
    };
    format!("{scheme}://{host}:{port}").parse().ok()
}

/// The multiaddress of `peer` by one way. A relay's address carries the peer, because all peers of one relay would
/// have the same address otherwise, and libp2p drops addresses that equal an own one.
pub(crate) fn multiaddr(peer: libp2p::PeerId, way: &TransportAddr) -> Option<Multiaddr> {
    match way {
        TransportAddr::Ip(socket) => Some(socket_multiaddr(*socket)),
        TransportAddr::Relay(url) => Some(relay_multiaddr(url)?.with(Protocol::P2p(peer))),
        _ => None,
    }
}

/// `/ip4/A/udp/P/quic-v1`.
pub(crate) fn socket_multiaddr(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::QuicV1)
}

fn relay_multiaddr(url: &RelayUrl) -> Option<Multiaddr> {
    let host = url.host_str()?;
    let host = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => Protocol::from(ip),
        Err(_) => Protocol::Dns(host.into()),
    };
    // The port may not be in the URL's text: a default one never is.
    let port = url.port_or_known_default()?;
    let scheme = if url.scheme() == "https" { Protocol::Https } else { Protocol::Http };
    Some(Multiaddr::empty().with(host).with(Protocol::Tcp(port)).with(scheme))
}

/// `/p2p/ID`: the address that leaves the way to the address book.
pub(crate) fn by_name(peer: PeerId) -> Multiaddr {
    Multiaddr::empty().with(Protocol::P2p(libp2p_id(peer)))
}

/// A contact as iroh takes it, without addresses that lead nowhere and within the protocol's bounds.
pub(crate) fn endpoint_addr(peer: PeerId, contact: &Contact) -> Option<EndpointAddr> {
    let sockets = contact.addresses.iter().filter(|socket| leads_somewhere(**socket)).take(MAX_ADDRESSES);
    let relay = contact.relay.as_deref().filter(|url| url.len() <= MAX_TEXT_BYTES).and_then(|url| url.parse().ok());
    let ways = sockets.map(|socket| TransportAddr::Ip(*socket)).chain(relay.map(TransportAddr::Relay));
    let address = EndpointAddr::from_parts(endpoint_id(peer)?, ways);
    if address.is_empty() { None } else { Some(address) }
}

/// What to tell others about how to reach `address`: at most [`MAX_ADDRESSES`] sockets, and loopback ones only when
/// there is nothing else, since they lead nowhere on another machine.
pub(crate) fn contact_of(ways: impl IntoIterator<Item = TransportAddr>) -> Contact {
    let mut contact = Contact::default();
    for way in ways {
        match way {
            TransportAddr::Ip(socket) if leads_somewhere(socket) => contact.addresses.push(socket),
            TransportAddr::Relay(url) => contact.relay = Some(url.to_string()),
            _ => {}
        }
    }
    if contact.addresses.iter().any(|socket| !socket.ip().is_loopback()) {
        contact.addresses.retain(|socket| !socket.ip().is_loopback());
    }
    contact.addresses.sort_by_key(|socket| (socket.is_ipv6(), *socket));
    contact.addresses.truncate(MAX_ADDRESSES);
    contact
}

/// The contact that a peer's own listen addresses describe.
pub(crate) fn contact_of_claims(peer: libp2p::PeerId, claims: &[Multiaddr]) -> Contact {
    contact_of(claims.iter().take(MAX_CLAIMED).filter_map(|claim| {
        let whole = claim.clone().with_p2p(peer).ok()?;
        parse(&whole)?.1
    }))
}

fn leads_somewhere(socket: SocketAddr) -> bool {
    let ip = socket.ip();
    socket.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody() -> (PeerId, libp2p::PeerId, EndpointId) {
        let peer = super::super::identity::peer_of_key(&ed25519_dalek::SigningKey::from_bytes(&[3; 32]));
        (peer, libp2p_id(peer), endpoint_id(peer).unwrap())
    }

    #[test]
    fn every_way_survives_its_multiaddress() {
        let (_, id, endpoint) = somebody();
        for way in [
            TransportAddr::Ip("192.0.2.1:4001".parse().unwrap()),
            TransportAddr::Ip("[2001:db8::1]:4001".parse().unwrap()),
            TransportAddr::Relay("http://192.0.2.1:3340".parse().unwrap()),
            TransportAddr::Relay("http://[2001:db8::1]:3340".parse().unwrap()),
            TransportAddr::Relay("https://relay.example".parse().unwrap()),
        ] {
            let address = multiaddr(id, &way).unwrap().with_p2p(id).unwrap();
            assert_eq!(parse(&address), Some((endpoint, Some(way))), "{address}");
        }
    }

    #[test]
    fn the_ways_of_a_contact_survive_as_text() {
        let (peer, ..) = somebody();
        let relay = Some("https://relay.example/".to_owned());
        let contact = Contact { addresses: vec!["192.0.2.1:4001".parse().unwrap()], relay };
        let texts: Vec<String> = multiaddrs(peer, &contact).iter().map(ToString::to_string).collect();
        let read: Vec<_> = texts.iter().filter_map(|text| parse_text(text)).collect();
        assert_eq!(read.len(), 2, "{texts:?}");
        assert!(read.iter().all(|(of, _)| *of == peer));
        assert!(read.iter().any(|(_, way)| way.addresses == contact.addresses));
        assert!(read.iter().any(|(_, way)| way.relay == contact.relay));
        let name = by_name(peer).to_string();
        for text in ["", "/ip4/192.0.2.1/udp/4001/quic-v1", "/ip4/1.2.3.4/tcp/4001", &name, "/ip4/999.1.1.1/udp/1"] {
            assert_eq!(parse_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_alone_leaves_the_way_open() {
        let (peer, _, endpoint) = somebody();
        assert_eq!(parse(&by_name(peer)), Some((endpoint, None)));
    }

    #[test]
    fn other_transports_are_not_ours() {
        let (_, id, _) = somebody();
        for text in ["/ip4/192.0.2.1/tcp/4001", "/ip4/192.0.2.1/udp/4001", "/dns/example.org/udp/1/quic-v1"] {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!(parse(&address), None, "{text} has no peer");
            assert_eq!(parse(&address.with_p2p(id).unwrap()), None, "{text}");
        }
    }

    #[test]
    fn a_contact_tells_loopback_only_when_alone() {
        let sockets = |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let told = |texts: &[&str]| contact_of(sockets(texts).into_iter().map(TransportAddr::Ip)).addresses;
        assert_eq!(told(&["127.0.0.1:1", "192.0.2.1:1"]), sockets(&["192.0.2.1:1"]));
        assert_eq!(told(&["127.0.0.1:1", "0.0.0.0:1", "192.0.2.1:0"]), sockets(&["127.0.0.1:1"]));
        assert_eq!(told(&["192.0.2.1:1"; 9]).len(), MAX_ADDRESSES);
    }

    #[test]
    fn an_empty_or_useless_contact_is_no_address() {
        let (peer, _, _) = somebody();
        assert!(endpoint_addr(peer, &Contact::default()).is_none());
        let useless = Contact { addresses: vec!["0.0.0.0:7".parse().unwrap()], relay: Some("not a url".into()) };
        assert!(endpoint_addr(peer, &useless).is_none());
    }
}
