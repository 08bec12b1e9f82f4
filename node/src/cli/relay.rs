//! `shoal relay`: a node that relays and runs no jobs. `shoal relay list` and `clients`: the mesh's relays, and who uses
//! this node's.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{Global, Status, connect, node, output};
use crate::config::Settings;
use crate::views::{RelayClientView, RelayView};

/// `shoal relay`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Relay {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: RelayFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the relays of the mesh that the running node knows
    List(output::OutputFlag),
    /// List who uses the running node's relay, and how much
    Clients(output::OutputFlag),
}

/// What a relay is started with. The rest of a node's settings come from the environment, `config.toml` and defaults.
#[derive(Debug, Default, Args)]
struct RelayFlags {
    /// TCP address of the relay; the same number in UDP tells peers their own address [default: 0.0.0.0:3340]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// How others reach the relay, for example `https://relay.example` [default: the address it listens on]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Certificate chain, in PEM; without one the relay is plain HTTP
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate, in PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Bytes a second that one client may send through the relay [default: 1MB]
    #[arg(long, value_name = "SIZE")]
    rate: Option<String>,
    /// Bytes a second of all clients together [default: 10MB]
    #[arg(long, value_name = "SIZE")]
    total_rate: Option<String>,
    /// Clients at once [default: 256]
    #[arg(long, value_name = "N")]
    clients: Option<u64>,
    /// Do not relay for this peer (repeatable)
    #[arg(long, value_name = "PEER")]
    deny: Vec<String>,
    /// Join the mesh of this ticket, the peer at this multiaddress, or those in this file, one a line (repeatable)
    #[arg(long, value_name = "TICKET|ADDRESS|FILE")]
    join: Vec<String>,
    /// Name of the mesh, public or a private one of this data directory
    #[arg(long, value_name = "NAME")]
    mesh: Option<String>,
    /// UDP address of the node; port 0 picks one
    #[arg(long, value_name = "IP:PORT")]
    node_listen: Option<SocketAddr>,
    /// TCP address of the HTTP API
    #[arg(long, value_name = "IP:PORT")]
    api_listen: Option<SocketAddr>,
}

impl Relay {
    /// Whether this runs a relay, rather than asking about some.
    pub(super) fn is_service(&self) -> bool {
        self.command.is_none()
    }

    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        match self.command {
            None => Box::pin(node::serve(global, self.flags.into())).await,
            Some(Command::List(output)) => {
                let relays = connect::running(global).await?.relays().await?;
                output::show(output.format(global.format), &relays, |relays| relays_table(relays))?;
                Ok(Status::Done)
            }
            Some(Command::Clients(output)) => {
                let clients = connect::running(global).await?.relay_clients().await?;
                output::show(output.format(global.format), &clients, |clients| clients_table(clients))?;
                Ok(Status::Done)
            }
        }
    }
}

impl From<RelayFlags> for Settings {
    fn from(flags: RelayFlags) -> Self {
        let absolute = |path: Option<PathBuf>| path.and_then(|path| std::path::absolute(path).ok());
        Self {
            relay: Some(true),
            executors: Some(vec!["none".to_owned()]),
            relay_listen: flags.listen,
            relay_url: flags.url,
            relay_cert: absolute(flags.tls_cert),
            relay_key: absolute(flags.tls_key),
            relay_rate: flags.rate,
            relay_total_rate: flags.total_rate,
            relay_clients: flags.clients,
            relay_deny: Some(flags.deny).filter(|peers| !peers.is_empty()),
            join: Some(flags.join).filter(|join| !join.is_empty()),
            mesh: flags.mesh,
            listen: flags.node_listen,
            api_listen: flags.api_listen,
            ..Self::default()
        }
    }
}

fn relays_table(relays: &[RelayView]) -> String {
    let row = |relay: &RelayView| {
        let rtt = relay.rtt_millis.map_or_else(|| "-".into(), |rtt| format!("{rtt:.1} ms"));
        let by = relay.peer_id.map_or_else(|| "-".into(), |peer| peer.to_string());
        [relay.url.clone(), relay.use_.clone(), rtt, by, relay.reason.clone().unwrap_or_default()]
    };
    output::table(["relay", "use", "rtt", "run by", "reason"], relays.iter().map(row))
}

fn clients_table(clients: &[RelayClientView]) -> String {
    let row = |client: &RelayClientView| {
        let state = if client.connected { "connected" } else { "gone" };
        let [received, sent] = [client.received_bytes, client.sent_bytes].map(|bytes| bytes.to_string());
        [client.peer_id.to_string(), state.into(), received, sent, format!("{} s", client.counted_seconds)]
    };
    output::table(["peer", "state", "bytes from it", "bytes to it", "counted"], clients.iter().map(row))
}
