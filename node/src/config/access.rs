//! With whom a node has to do at all, as its operator writes it.

use std::collections::BTreeSet;

use shoal_protocol::access::Access;

use super::ConfigError;
use super::admission::{Written, entries};

/// All of it, as written.
pub(super) struct Given {
    pub(super) allow_peers: Written<Vec<String>>,
    pub(super) deny_peers: Written<Vec<String>>,
    pub(super) allow_networks: Written<Vec<String>>,
    pub(super) deny_networks: Written<Vec<String>>,
}

pub(super) fn read(given: &Given) -> Result<Access, ConfigError> {
    Ok(Access {
        allow_peers: BTreeSet::from_iter(entries("allow_peers", &given.allow_peers)?),
        deny_peers: BTreeSet::from_iter(entries("deny_peers", &given.deny_peers)?),
        allow_networks: entries("allow_networks", &given.allow_networks)?,
        deny_networks: entries("deny_networks", &given.deny_networks)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    fn list(words: &[&str]) -> Written<Vec<String>> {
        (words.iter().map(|&word| word.to_owned()).collect(), Origin::Flag)
    }

    fn given(peers: &[&str], networks: &[&str]) -> Given {
        let none = || list(&[]);
        Given { allow_peers: none(), deny_peers: list(peers), allow_networks: none(), deny_networks: list(networks) }
    }

    #[test]
    fn nobody_is_shut_out_unless_somebody_says_so() {
        assert!(read(&given(&[], &[])).unwrap().is_open());
        let peer = "01".repeat(32);
        let access = read(&given(&[&peer], &["192.0.2.0/24", "2001:db8::1"])).unwrap();
        assert_eq!((access.deny_peers.len(), access.deny_networks.len()), (1, 2));
    }

    #[test]
    fn a_wrong_entry_names_its_setting_and_what_would_be_right() {
        let table = [
            (given(&["ann"], &[]), "flag deny_peers: \"ann\" is not a peer"),
            (given(&[], &["home"]), "flag deny_networks: \"home\" is no network; write an address, or ADDRESS/LENGTH"),
            (given(&[], &["192.0.2.7/24"]), "write 192.0.2.0/24"),
        ];
        for (given, expected) in table {
            let error = read(&given).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
