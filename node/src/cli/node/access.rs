//! Flags that choose with whom a node has to do at all.

use clap::Args;

/// With whom the node connects, whatever for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Access of other peers")]
pub(super) struct AccessFlags {
    /// Connect to this peer and no other that is not named so (repeatable)
    #[arg(long = "allow-peer", value_name = "PEER")]
    pub(super) allow_peers: Vec<String>,
    /// Have nothing to do with this peer, also if it is allowed (repeatable)
    #[arg(long = "deny-peer", value_name = "PEER")]
    pub(super) deny_peers: Vec<String>,
    /// Connect to peers in this network, for example 192.0.2.0/24, and in no other that is not named so (repeatable)
    #[arg(long = "allow-network", value_name = "NETWORK")]
    pub(super) allow_networks: Vec<String>,
    /// Do not connect to peers in this network, also if it is allowed (repeatable)
    #[arg(long = "deny-network", value_name = "NETWORK")]
    pub(super) deny_networks: Vec<String>,
}
