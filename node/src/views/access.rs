//! With whom a node has to do at all, and what it fended off. What its operator did not choose is left out.

use serde::Serialize;
use shoal_protocol::access::Access;

use super::admission::words;

/// With whom a node has to do at all.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AccessView {
    /// Peers; none for all that are not denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_peers: Vec<String>,
    /// Peers that are shut out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny_peers: Vec<String>,
    /// Networks; none for all that are not denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_networks: Vec<String>,
    /// Networks that are shut out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny_networks: Vec<String>,
}

impl AccessView {
    /// What an operator chose.
    pub fn of(access: &Access) -> Self {
        Self {
            allow_peers: words(&access.allow_peers),
            deny_peers: words(&access.deny_peers),
            allow_networks: words(&access.allow_networks),
            deny_networks: words(&access.deny_networks),
        }
    }

    /// Whether everybody is allowed.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}
