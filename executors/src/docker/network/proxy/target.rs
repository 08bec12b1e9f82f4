//! Whom a request is for: said twice in some requests, and then twice the same.

use std::fmt;
use std::net::IpAddr;

use hyper::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::http::uri::{Authority, Scheme};
use hyper::{HeaderMap, Method, Request};
use shoal_protocol::task::network::host_name;

use super::Refusal;

/// A host, in one spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Target {
    /// The target of a request to a proxy. One that others could read in another way is refused.
    pub(super) fn of<B>(request: &Request<B>) -> Result<Self, Refusal> {
        let (uri, headers) = (request.uri(), request.headers());
        let is_connect = request.method() == Method::CONNECT;
        let authority = uri.authority().filter(|_| is_connect || uri.scheme() == Some(&Scheme::HTTP));
        let authority = authority.ok_or(Refusal::Malformed(
            "this is a proxy: name the whole address (http://HOST/PATH), and ask for HTTPS with CONNECT",
        ))?;
        let usual = if is_connect { None } else { Some(80) };
        let target = Self::named(authority, usual).ok_or(Refusal::Malformed("the address is no HOST or HOST:PORT"))?;
        if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
            return Err(Refusal::Malformed("the request tells its length in two ways"));
        }
        target.agrees(headers, if is_connect { target.port } else { 80 })?;
        Ok(target)
    }

    fn named(authority: &Authority, usual_port: Option<u16>) -> Option<Self> {
        if authority.as_str().contains('@') {
            return None;
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().ok(),
            // `HOST:` is no `HOST`.
            None if authority.as_str().len() > authority.host().len() => None,
            None => usual_port,
        };
        let host = authority.host();
        let address = match host.strip_prefix('[') {
            Some(inside) => Some(IpAddr::V6(inside.strip_suffix(']')?.parse().ok()?)),
            None => host_name(host).parse().ok(),
        };
        let host = address.map_or_else(|| Host::Name(host_name(host)), Host::Address);
        Some(Self { host, port: port? }).filter(|target| target.host != Host::Name(String::new()))
    }

    /// Whether the header `Host`, if there is one, names the same.
    fn agrees(&self, headers: &HeaderMap, usual_port: u16) -> Result<(), Refusal> {
        let mut named = headers.get_all(HOST).iter();
        let (Some(host), None) = (named.next(), named.next()) else {
            return match headers.contains_key(HOST) {
                true => Err(Refusal::Malformed("the request has more than one Host")),
                false => Ok(()),
            };
        };
        let host = host.to_str().ok().and_then(|host| host.parse().ok());
        match host.and_then(|host| Self::named(&host, Some(usual_port))) {
            Some(host) if host == *self => Ok(()),
            _ => Err(Refusal::Malformed("the request's Host is not the host of its address")),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address @ IpAddr::V6(_)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}
