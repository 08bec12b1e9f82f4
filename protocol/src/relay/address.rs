//! Where a relay is: a scheme, a host and a port, and nothing that could lead a probe astray.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::limits::MAX_RELAY_URL_BYTES;

/// `http://HOST:PORT/` or `https://HOST:PORT/`. It is written in one form: in lower case, with the port unless that is
/// the scheme's own, and with a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayAddress {
    /// Whether TLS comes first.
    pub is_secure: bool,
    /// The machine.
    pub host: Host,
    /// TCP port of the relay; the same number in UDP tells peers their own address.
    pub port: u16,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// By its address.
    Ip(IpAddr),
    /// By its name, in lower case.
    Name(String),
}

/// A text that is no relay's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a relay; write http://HOST:PORT or https://HOST, without a path")]
pub struct InvalidRelay(String);

impl RelayAddress {
    /// The port of its scheme.
    fn default_port(is_secure: bool) -> u16 {
        if is_secure { 443 } else { 80 }
    }

    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_secure = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let place = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match place.strip_prefix('[') {
            Some(six) => {
                let (ip, after) = six.split_once(']')?;
                (
                    Host::Ip(ip.parse::<Ipv6Addr>().ok()?.into()),
                    after.strip_prefix(':').or(Some("").filter(|_| after.is_empty()))?,
                )
            }
            None => {
                let (host, port) = place.rsplit_once(':').unwrap_or((place, ""));
                (named(host)?, port)
            }
        };
        let port = match port {
            "" => Self::default_port(is_secure),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port != 0)?
            }
            _ => return None,
        };
        Some(Self { is_secure, host, port })
    }
}

/// An address of IPv4, or a name. A name that ends in digits would be read as an address by others.
fn named(host: &str) -> Option<Host> {
    if let Ok(ip) = host.parse() {
        return Some(Host::Ip(IpAddr::V4(ip)));
    }
    let host = host.to_ascii_lowercase();
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let last = host.rsplit('.').next()?;
    let is_name = host.split('.').all(is_label) && last.bytes().any(|byte| byte.is_ascii_alphabetic());
    (is_name && !last.starts_with("0x")).then_some(Host::Name(host))
}

impl FromStr for RelayAddress {
    type Err = InvalidRelay;

    fn from_str(text: &str) -> Result<Self, InvalidRelay> {
        let invalid = || InvalidRelay(text.chars().take(MAX_RELAY_URL_BYTES).collect());
        let fits = text.len() <= MAX_RELAY_URL_BYTES;
        Some(text).filter(|_| fits).and_then(Self::read).ok_or_else(invalid)
    }
}

impl fmt::Display for RelayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_secure { "https://" } else { "http://" })?;
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            Host::Ip(ip) => write!(f, "{ip}")?,
            Host::Name(name) => f.write_str(name)?,
        }
        if self.port != Self::default_port(self.is_secure) {
            write!(f, ":{}", self.port)?;
        }
        f.write_str("/")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_written_in_one_form() {
        for (text, form) in [
            ("http://192.0.2.1:3340", "http://192.0.2.1:3340/"),
            ("http://192.0.2.1:80/", "http://192.0.2.1/"),
            ("https://Relay.Example", "https://relay.example/"),
            ("https://relay.example:443", "https://relay.example/"),
            ("https://[2001:DB8::1]:3340", "https://[2001:db8::1]:3340/"),
            ("http://[::1]", "http://[::1]/"),
        ] {
            let address: RelayAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), form);
            assert_eq!(form.parse(), Ok(address));
        }
    }

    #[test]
    fn what_leads_elsewhere_is_no_address() {
        for text in [
            "",
            "relay.example",
            "ftp://relay.example",
            "HTTP://relay.example",
            "http://relay.example/path",
            "http://user@relay.example",
            "http://relay.example?query",
            "http://relay.example:0",
            "http://relay.example:65536",
            "http://relay.example:+80",
            "http://[::1",
            "http://[::1]80",
            "http://2130706433",
            "http://127.1",
            "http://0x7f.0x1",
            "http://a..b",
            "http://a b",
            "http://",
        ] {
            assert!(text.parse::<RelayAddress>().is_err(), "{text}");
        }
        assert!(format!("http://{}", "a".repeat(MAX_RELAY_URL_BYTES)).parse::<RelayAddress>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text in ".*", host in "[a-z0-9.:\\[\\]-]{0,40}") {
            for text in [text, format!("http://{host}")] {
                if let Ok(address) = text.parse::<RelayAddress>() {
                    prop_assert_eq!(address.to_string().parse(), Ok(address));
                }
            }
        }
    }
}
