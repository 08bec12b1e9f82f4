//! The relay that a node runs, as its operator writes it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use shoal_protocol::id::PeerId;
use shoal_protocol::relay::RelayAddress;

use super::values::{amount, rate, socket};
use super::{ConfigError, Origin};
use crate::network::relay::{RelayLimits, RelaySettings};

/// Where a relay listens unless told otherwise.
pub(super) const DEFAULT_LISTEN: &str = "0.0.0.0:3340";
/// What one client may send in a second.
pub(super) const DEFAULT_RATE: &str = "1MB";
/// What all clients may send in a second.
pub(super) const DEFAULT_TOTAL_RATE: &str = "10MB";
/// Clients at once: a few hundred connections, and at the usual rates ten that use it fully.
pub(super) const DEFAULT_CLIENTS: u64 = 256;

/// What was written, and where.
pub(super) struct Given {
    pub(super) is_on: bool,
    pub(super) listen: (String, Origin),
    pub(super) url: (String, Origin),
    pub(super) certificate: (PathBuf, Origin),
    pub(super) key: PathBuf,
    pub(super) rate: (String, Origin),
    pub(super) total_rate: (String, Origin),
    pub(super) clients: (u64, Origin),
    pub(super) denied: (Vec<String>, Origin),
}

/// The relay; none if the node is to run none. What is written of it is checked all the same.
pub(super) fn read(given: Given) -> Result<Option<RelaySettings>, ConfigError> {
    let wrong = |name, origin: Origin, reason: String| ConfigError::Value { name, origin: origin.as_str(), reason };
    let (url, url_from) = given.url;
    let url = match url.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| wrong("relay_url", url_from, format!("{error}")))?),
    };
    let (certificate, certificate_from) = given.certificate;
    let tls = match (certificate.as_os_str().is_empty(), given.key.as_os_str().is_empty()) {
        (true, true) => None,
        (false, false) => Some((certificate, given.key)),
        _ => {
            let reason = "a certificate needs its key: give relay_cert and relay_key, or neither".to_owned();
            return Err(wrong("relay_cert", certificate_from, reason));
        }
    };
    if tls.is_some() && url.is_none() {
        let reason = "a certificate is for a name: say which with relay_url, for example https://relay.example";
        return Err(wrong("relay_cert", certificate_from, reason.to_owned()));
    }
    let limits = RelayLimits {
        clients: places(given.clients.0).map_err(|reason| wrong("relay_clients", given.clients.1, reason))?,
        bytes_per_second: bytes("relay_rate", given.rate)?,
        total_bytes_per_second: bytes("relay_total_rate", given.total_rate)?,
        denied: peers(given.denied.0).map_err(|reason| wrong("relay_deny", given.denied.1, reason))?,
    };
    let listen = socket("relay_listen", given.listen.1, &given.listen.0)?;
    Ok(given.is_on.then_some(RelaySettings { listen, url, tls, limits }))
}

/// The relays that the operator names.
pub(super) fn named(urls: &[String], origin: Origin) -> Result<Vec<RelayAddress>, ConfigError> {
    urls.iter().filter(|url| !url.is_empty()).map(|url| amount("relays", origin, url)).collect()
}

fn places(clients: u64) -> Result<u32, String> {
    match u32::try_from(clients) {
        Ok(0) => Err("a relay without clients relays nothing; write at least 1".to_owned()),
        Ok(clients) => Ok(clients),
        Err(_) => Err(format!("{clients} are more than a machine has connections")),
    }
}

fn bytes(name: &'static str, (text, origin): (String, Origin)) -> Result<u64, ConfigError> {
    // Nobody relays without a limit: what others send costs this node.
    let reason = || "is empty; write bytes a second, for example 1MB".to_owned();
    rate(name, origin, &text)?.ok_or_else(|| ConfigError::Value { name, origin: origin.as_str(), reason: reason() })
}

fn peers(words: Vec<String>) -> Result<BTreeSet<PeerId>, String> {
    let words = words.iter().filter(|word| !word.is_empty());
    let peer = |word: &String| word.parse().map_err(|_| format!("{word:?} is no peer; write its id, 64 digits"));
    words.map(peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        let text = |text: &str| (text.to_owned(), Origin::File);
        Given {
            is_on: true,
            listen: text(DEFAULT_LISTEN),
            url: text(""),
            certificate: (PathBuf::new(), Origin::File),
            key: PathBuf::new(),
            rate: text(DEFAULT_RATE),
            total_rate: text(DEFAULT_TOTAL_RATE),
            clients: (DEFAULT_CLIENTS, Origin::Default),
            denied: (Vec::new(), Origin::File),
        }
    }

    #[test]
    fn a_relay_gives_a_megabyte_a_second_to_each_of_a_few_hundred_unless_told_otherwise() {
        assert_eq!(read(given()).unwrap().unwrap().limits, RelayLimits::default());
        assert!(read(Given { is_on: false, ..given() }).unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_with_a_relay_is_said() {
        let text = |text: &str| (text.to_owned(), Origin::File);
        let file = |name: &str| (PathBuf::from(name), Origin::File);
        let table = [
            (Given { url: text("relay.example"), ..given() }, "relay_url: \"relay.example\" is no address of a relay"),
            (Given { certificate: file("a.pem"), ..given() }, "relay_cert: a certificate needs its key"),
            (Given { certificate: file("a.pem"), key: "k.pem".into(), ..given() }, "a certificate is for a name"),
            (Given { rate: text("fast"), ..given() }, "relay_rate"),
            (Given { total_rate: text(""), ..given() }, "relay_total_rate: is empty"),
            (Given { clients: (0, Origin::File), ..given() }, "relay_clients"),
            (Given { listen: text("here"), ..given() }, "relay_listen"),
            (Given { denied: (vec!["me".into()], Origin::File), ..given() }, "relay_deny: \"me\" is no peer"),
        ];
        for (given, expected) in table {
            let error = read(given).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
