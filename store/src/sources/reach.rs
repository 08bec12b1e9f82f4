//! How far readers of sources may reach: clients for HTTP that connect to checked addresses only.
//!
//! A job of somebody else must not read what this machine alone can reach: its router, its neighbours, a cloud's
//! metadata. So the addresses of a name are checked where the connection takes them from, and a name that answers
//! differently the next time gains nothing. Addresses that are written out never pass there and are checked before.
//! Proxies of the environment are not used: behind one, nobody could check where a name leads.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use shoal_protocol::address::is_public;

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

/// A client for what an operator named himself, which may be anywhere. It follows no redirects.
pub fn operators_client() -> Client {
    client(Arc::new(SystemNames))
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

#[cfg(test)]
mod tests {
    use super::*;

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
