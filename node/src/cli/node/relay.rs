//! Flags of the relay that a node runs.

use std::path::PathBuf;

use clap::Args;

use crate::config::Settings;

/// Relaying for peers that cannot reach each other directly.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Relays")]
pub(super) struct RelayFlags {
    /// Use this relay, beside those that tickets name and the mesh announces (repeatable)
    #[arg(long = "use-relay", value_name = "URL")]
    relays: Vec<String>,
    /// Relay for members of the mesh that cannot reach each other directly; for nodes that everybody can reach
    #[arg(long)]
    relay: bool,
    /// TCP address of the relay; the same number in UDP tells peers their own address [default: 0.0.0.0:3340]
    #[arg(long, value_name = "IP:PORT")]
    relay_listen: Option<String>,
    /// How others reach the relay, for example `https://relay.example` [default: the address it listens on]
    #[arg(long, value_name = "URL")]
    relay_url: Option<String>,
    /// Certificate chain of the relay, in PEM; without one it is plain HTTP
    #[arg(long, value_name = "FILE")]
    relay_cert: Option<PathBuf>,
    /// Key of the certificate, in PEM
    #[arg(long, value_name = "FILE")]
    relay_key: Option<PathBuf>,
    /// Bytes a second that one client may send through the relay [default: 1MB]
    #[arg(long, value_name = "SIZE")]
    relay_rate: Option<String>,
    /// Bytes a second of all clients together [default: 10MB]
    #[arg(long, value_name = "SIZE")]
    relay_total_rate: Option<String>,
    /// Clients of the relay at once [default: 256]
    #[arg(long, value_name = "N")]
    relay_clients: Option<u64>,
    /// Do not relay for this peer (repeatable)
    #[arg(long, value_name = "PEER")]
    relay_deny: Vec<String>,
}

impl RelayFlags {
    /// Puts what was given into `settings`.
    pub(super) fn apply(self, settings: &mut Settings) {
        let absolute = |path: Option<PathBuf>| path.and_then(|path| std::path::absolute(path).ok());
        settings.relays = Some(self.relays).filter(|urls| !urls.is_empty());
        settings.relay = self.relay.then_some(true);
        settings.relay_listen = self.relay_listen;
        settings.relay_url = self.relay_url;
        settings.relay_cert = absolute(self.relay_cert);
        settings.relay_key = absolute(self.relay_key);
        settings.relay_rate = self.relay_rate;
        settings.relay_total_rate = self.relay_total_rate;
        settings.relay_clients = self.relay_clients;
        settings.relay_deny = Some(self.relay_deny).filter(|peers| !peers.is_empty());
    }
}
