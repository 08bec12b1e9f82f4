//! Neighbours on the local network, found by multicast DNS: without a ticket, a relay or a way out.
//!
//! Anybody on the network can say anything here. So what is heard is only a hint where to dial, which TLS and, in a
//! private mesh, certificates then prove or not; it adds to what is known of a peer and replaces none of it.

use std::time::Duration;

use futures_util::StreamExt;
use iroh::address_lookup::{AddressLookup, EndpointData, EndpointInfo};
use iroh::{Endpoint, Watcher};
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use shoal_protocol::id::MeshId;
use tokio::sync::mpsc;

use super::addresses;
use super::identity::peer_of_endpoint;
use super::task::Command;

/// Pause between two questions who is there. Neighbours that ask count for all, so many of them ask no more often.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The name of a mesh's service: `_shoal0123456789._udp.local`. It is the part of the mesh's id that connections show too,
/// and of a private mesh it tells neither name nor key.
pub(super) fn service_name(mesh: MeshId) -> String {
    format!("shoal{}", mesh.short())
}

/// Tells neighbours where this node is, and the task where they are, until the network ends.
pub(super) fn look_around(endpoint: &Endpoint, mesh: MeshId, commands: &mpsc::Sender<Command>) {
    let builder = MdnsAddressLookup::builder().service_name(service_name(mesh)).discovery_cadence(ASK_EVERY);
    match builder.build(endpoint.id()) {
        // Not asked by iroh itself: a dial of somebody far away would wait for an answer that cannot come.
        // Weak, since the network ends with its last handle, and this is none.
        Ok(mdns) => drop(tokio::spawn(look(endpoint.clone(), mdns, commands.downgrade()))),
        Err(error) => tracing::info!(%error, "neighbours on the local network are not looked for"),
    }
}

async fn look(endpoint: Endpoint, mdns: MdnsAddressLookup, commands: mpsc::WeakSender<Command>) {
    let mut own = endpoint.watch_addr().stream();
    let mut heard = mdns.subscribe().await;
    loop {
        tokio::select! {
            Some(address) = own.next() => mdns.publish(&EndpointData::from(address)),
            Some(event) = heard.next() => {
                if let DiscoveryEvent::Discovered { endpoint_info, .. } = event {
                    tell(&endpoint_info, &commands);
                }
            }
            _ = endpoint.closed() => return,
        }
    }
}

/// A flood of neighbours is dropped, not queued before what matters.
fn tell(neighbour: &EndpointInfo, commands: &mpsc::WeakSender<Command>) {
    let Some(commands) = commands.upgrade() else { return };
    let contact = addresses::contact_of(neighbour.addrs().cloned());
    let _ = commands.try_send(Command::Neighbour(peer_of_endpoint(neighbour.endpoint_id), contact));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meshes_have_services_of_their_own_with_names_that_mdns_allows() {
        let names = ["public", "home"].map(|name| service_name(MeshId::of(name)));
        assert_ne!(names[0], names[1]);
        for name in names {
            assert_eq!(name.len(), 15, "RFC 6763 allows no more");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{name}");
        }
    }
}
