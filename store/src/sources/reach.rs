//! How far readers of sources may reach: clients for HTTP that connect to checked addresses only.
//!
//! A job of somebody else must not read what this machine alone can reach: its router, its neighbours, a cloud's
//! metadata. So the addresses of a name are checked where the connection takes them from, and a name that answers
//! differently the next time gains nothing. Addresses that are written out never pass there and are checked before.
//! Proxies of the environment are not used: behind one, nobody could check where a name leads.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

/// How long a connection may take to be made, with the look-up of the name.
const CONNECT: Duration = Duration::from_secs(10);

/// Where to a reader may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Everywhere, because the owner of the node said where.
    Anywhere,
    /// To public addresses only.
    Public,
}

/// A host is not where it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is {address}, which is not a public address")]
pub(crate) struct NotPublic {
    pub(crate) host: String,
    pub(crate) address: IpAddr,
}

/// What tells public addresses from others.
pub(super) type IsPublic = fn(IpAddr) -> bool;

/// One client for each reach. They follow no redirects, because each step is to be checked.
pub(super) struct Clients {
    names: Arc<dyn Resolve>,
    is_public: IsPublic,
    anywhere: OnceLock<Client>,
    public: OnceLock<Client>,
}

impl Clients {
    /// Clients that ask the system for addresses.
    pub(super) fn new() -> Self {
        Self::with(Arc::new(SystemNames), is_public)
    }

    /// Clients that ask somebody else for addresses, and know others to be public.
    pub(super) fn with(names: Arc<dyn Resolve>, is_public: IsPublic) -> Self {
        Self { names, is_public, anywhere: OnceLock::new(), public: OnceLock::new() }
    }

    /// The client that may go as far as `reach`, for a request to `url`.
    pub(super) fn get(&self, url: &Url, reach: Reach) -> Result<&Client, NotPublic> {
        if reach == Reach::Anywhere {
            return Ok(self.anywhere.get_or_init(|| client(Arc::clone(&self.names))));
        }
        match literal(url) {
            Some(address) if !(self.is_public)(address) => {
                Err(NotPublic { host: url.host_str().unwrap_or_default().to_owned(), address })
            }
            _ => Ok(self.public.get_or_init(|| {
                let (names, is_public) = (Arc::clone(&self.names), self.is_public);
                client(Arc::new(PublicNames { names, is_public }))
            })),
        }
    }

    /// Where to a redirect from `peer`, which has just answered, may lead.
    pub(super) fn beyond(&self, peer: Option<SocketAddr>, reach: Reach) -> Reach {
        let inside = peer.is_some_and(|peer| !(self.is_public)(peer.ip()));
        if inside { reach } else { Reach::Public }
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

/// The host of a URL, if it is an address: `Url` has read every spelling of one.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

fn client(names: Arc<dyn Resolve>) -> Client {
    let client = Client::builder()
        .tls_backend_preconfigured(tls())
        .dns_resolver(names)
        .no_proxy()
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(CONNECT)
        .user_agent(concat!("shoal/", env!("CARGO_PKG_VERSION")));
    client.build().expect("nothing in it depends on the machine")
}

/// TLS that trusts whom the machine trusts. Where that is nobody, plain HTTP still works.
fn tls() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = || {
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        config.expect("ring supports the usual versions")
    };
    match config().with_platform_verifier() {
        Ok(config) => config.with_no_client_auth(),
        Err(error) => {
            tracing::warn!(%error, "this machine trusts no certificates: sources cannot be read over https");
            config().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
        }
    }
}

struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// Names that lead to public addresses only. What the connection gets is what was checked.
struct PublicNames {
    names: Arc<dyn Resolve>,
    is_public: IsPublic,
}

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, is_public) = (name.as_str().to_owned(), self.is_public);
        let found = self.names.resolve(name);
        Box::pin(async move {
            let (public, private): (Vec<_>, Vec<_>) = found.await?.partition(|address| is_public(address.ip()));
            match (public.is_empty(), private.first()) {
                (false, _) => Ok(Box::new(public.into_iter()) as Addrs),
                (true, Some(address)) => Err(NotPublic { host, address: address.ip() }.into()),
                (true, None) => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into()),
            }
        })
    }
}

/// Whether an address is one of the internet at large, by IANA's registries of special-purpose addresses.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|&(block, length)| within_v4(address, block.into(), length)),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => is_public(inner.into()),
            None => {
                let special = |&(block, length): &([u16; 8], u32)| within_v6(address, block.into(), length);
                within_v6(address, GLOBAL_V6.0.into(), GLOBAL_V6.1) && !SPECIAL_V6.iter().any(special)
            }
        },
    }
}

/// Blocks of IPv4 that are not public, each with the length of its prefix.
const SPECIAL_V4: [([u8; 4], u32); 18] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    // Shared by customers of a provider (CGNAT), and the metadata of one cloud.
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    // Link-local, with the metadata of most clouds.
    ([169, 254, 0, 0], 16),
    // The platform's own address inside Azure.
    ([168, 63, 129, 16], 32),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Multicast, and with the next all that is reserved, broadcast too.
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];
/// All that is given out of IPv6.
const GLOBAL_V6: ([u16; 8], u32) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
/// Blocks in it that are not public. Teredo and 6to4 lead to addresses of IPv4 through others.
const SPECIAL_V6: [([u16; 8], u32); 4] = [
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];
/// What NAT64 puts before an address of IPv4.
const NAT64: ([u16; 8], u32) = ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// The address of IPv4 that one of IPv6 stands for: mapped, or translated.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., high, low] = address.segments();
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    let translated = within_v6(address, NAT64.0.into(), NAT64.1).then(|| Ipv4Addr::new(a, b, c, d));
    address.to_ipv4_mapped().or(translated)
}

fn within_v4(address: Ipv4Addr, block: Ipv4Addr, length: u32) -> bool {
    (address.to_bits() ^ block.to_bits()) >> (32 - length) == 0
}

fn within_v6(address: Ipv6Addr, block: Ipv6Addr, length: u32) -> bool {
    (address.to_bits() ^ block.to_bits()) >> (128 - length) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_internet_are_public() {
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2001:200::1",
        ];
        for address in public {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn addresses_inside_somebodys_network_are_not() {
        let special = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "168.63.129.16",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.0.1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "3fff::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "5f00::1",
            "fec0::1",
        ];
        for address in special {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_seen_to_be_one() {
        let clients = Clients::new();
        let inside = [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://017700000001/",
            "http://127.1:80/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://①②⑦.0.0.1/",
            "http://u:p@10.0.0.1/",
            "http://0/",
        ];
        for url in inside {
            let url = Url::parse(url).unwrap();
            assert!(clients.get(&url, Reach::Public).is_err(), "{url}");
            assert!(clients.get(&url, Reach::Anywhere).is_ok(), "{url}");
        }
        assert!(clients.get(&Url::parse("http://1.1.1.1/").unwrap(), Reach::Public).is_ok());
    }
}
