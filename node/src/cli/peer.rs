//! `shoal peer list`: whom the running node is connected to.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{Global, Status, connect, output};
use crate::views::PeerView;

/// `shoal peer`.
#[derive(Debug, Args)]
pub(super) struct Peer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the peers that the node is connected to
    List(output::OutputFlag),
}

impl Peer {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let Command::List(output) = self.command;
        let peers = connect::running(global).await?.peers().await?;
        output::show(output.format(global.format), &peers, |peers| table(peers))?;
        Ok(Status::Done)
    }
}

fn table(peers: &[PeerView]) -> String {
    let row = |peer: &PeerView| {
        let path = if peer.relayed { "relay" } else { "direct" };
        let rtt = peer.rtt_millis.map_or_else(|| "-".into(), |rtt| format!("{rtt:.1} ms"));
        let address = peer.addresses.first().cloned().or_else(|| peer.relay.clone()).unwrap_or_default();
        [peer.peer_id.to_string(), path.into(), rtt, format!("{} s", peer.connected_seconds), address]
    };
    output::table(["peer", "path", "rtt", "connected", "address"], peers.iter().map(row))
}
