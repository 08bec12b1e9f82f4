//! Whom a container may reach, and which hosts a list of domains stands for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::job::spec::{self, NetworkKind};
use crate::limits::MAX_DOMAINS;

/// The longest name that a host can have, in bytes.
const MAX_NAME_BYTES: usize = 253;
/// The longest part of one between two dots, in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// Whom a container may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Nobody but itself.
    None,
    /// These domains, by HTTP through the worker: each once and in order, as [`covers`] reads them.
    Http(Vec<String>),
    /// Whomever a network of its own leads to.
    Bridge,
    /// Whomever the worker's machine reaches, and the machine itself.
    Host,
}

impl Network {
    /// As a job wants it: domains in one spelling, so that equal lists are equal work.
    pub(crate) fn of(network: &spec::Network) -> Self {
        match network.kind {
            NetworkKind::None => Self::None,
            NetworkKind::Http => {
                let domains: BTreeSet<String> = network.domains.iter().map(|domain| spelled(domain)).collect();
                Self::Http(domains.into_iter().collect())
            }
            NetworkKind::Bridge => Self::Bridge,
            NetworkKind::Host => Self::Host,
        }
    }

    /// How much of a network it is.
    pub fn kind(&self) -> NetworkKind {
        match self {
            Self::None => NetworkKind::None,
            Self::Http(_) => NetworkKind::Http,
            Self::Bridge => NetworkKind::Bridge,
            Self::Host => NetworkKind::Host,
        }
    }

    /// Whether there are few domains, and all are such.
    pub(super) fn is_sound(&self) -> bool {
        match self {
            Self::Http(domains) => domains.len() <= MAX_DOMAINS && domains.iter().all(|domain| is_domain(domain)),
            Self::None | Self::Bridge | Self::Host => true,
        }
    }
}

/// Whether this is a host's name in lower case, one behind `.` or `*.` for all of a domain, or an address.
pub(crate) fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        plain && !label.is_empty() && label.len() <= MAX_LABEL_BYTES && !label.starts_with('-') && !label.ends_with('-')
    };
    let name = domain.strip_prefix("*.").or(domain.strip_prefix('.')).unwrap_or(domain);
    domain.parse::<IpAddr>().is_ok() || (name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label))
}

/// Whether one of the domains stands for a host, which is a name or an address without brackets.
///
/// A name stands for itself, one behind a dot for itself and all below, as in Bacalhau; an address only for itself,
/// however it is spelled. How a name is written does not matter: case, and one dot at its end.
pub fn covers(domains: &[String], host: &str) -> bool {
    let host = host_name(host);
    if let Ok(address) = host.parse::<IpAddr>() {
        return domains.iter().any(|domain| domain.parse() == Ok(address));
    }
    domains.iter().any(|domain| match domain.strip_prefix('.') {
        Some(name) => host.strip_suffix(name).is_some_and(|above| above.is_empty() || above.ends_with('.')),
        None => *domain == host,
    })
}

/// A host's name in one spelling: in lower case, without the dot of the root.
pub fn host_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn spelled(domain: &str) -> String {
    match domain.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => domain.strip_prefix('*').unwrap_or(domain).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn a_domain_stands_for_itself_and_behind_a_dot_for_all_below() {
        let listed = domains(&["example.org", ".example.net", "xn--bcher-kva.example", "10.0.0.1", "2001:db8::1"]);
        let covered = [
            "example.org",
            "EXAMPLE.org.",
            "example.net",
            "a.b.Example.Net",
            "xn--bcher-kva.example",
            "10.0.0.1",
            "10.0.0.1.",
            "2001:0db8:0:0::1",
        ];
        for host in covered {
            assert!(covers(&listed, host), "{host}");
        }
        let others = [
            "www.example.org",
            "example.org..",
            "badexample.net",
            "example.net.evil.org",
            ".example.org",
            "",
            ".",
            "bücher.example",
            "10.0.0.10",
            "167772161",
            "0xa000001",
            "2001:db8::2",
            "::ffff:10.0.0.1",
        ];
        for host in others {
            assert!(!covers(&listed, host), "{host}");
        }
    }

    #[test]
    fn equal_lists_are_equal_work_however_they_are_written() {
        let network = |words: &[&str]| {
            let kind = NetworkKind::Http;
            Network::of(&spec::Network { kind, domains: domains(words), ..spec::Network::default() })
        };
        let one = network(&["*.b.org", "a.org", "::ffff:0:1", "a.org"]);
        assert_eq!(one, network(&["::ffff:0.0.0.1", "a.org", ".b.org"]));
        assert_eq!(one, Network::Http(domains(&[".b.org", "::ffff:0.0.0.1", "a.org"])));
    }

    #[test]
    fn what_is_no_list_of_domains_is_not_sound() {
        assert!(Network::Http(domains(&["a.org", ".b_c.org", "::1"])).is_sound());
        let long = "a".repeat(64);
        for odd in ["", ".", "A.org", "a..org", "a.org.", "-a.org", "10.0.0.0/8", "a b", "bücher.example", &long] {
            assert!(!Network::Http(domains(&[odd])).is_sound(), "{odd}");
        }
        assert!(!Network::Http(vec!["a.org".into(); MAX_DOMAINS + 1]).is_sound());
    }
}
