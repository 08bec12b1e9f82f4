//! The router's part: it is asked to open our UDP port (UPnP, NAT-PMP, PCP), and what comes of it can be seen.
//!
//! iroh would ask by itself, and tell nobody what came of it.

use std::net::{SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::Duration;

use iroh::Endpoint;
use portmapper::{Client, ProbeOutput};
use tokio::sync::watch;

/// How often a router is asked again that has opened nothing: it may have been restarted, or be another one by now.
const ASK_EVERY: Duration = Duration::from_secs(120);

/// What the router does for this node's port.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum PortMapping {
    /// It is not asked.
    #[default]
    Off,
    /// It has not answered yet.
    Asked,
    /// No router here opens ports for others.
    NoRouter,
    /// A router would open ports, and has not opened this one.
    Refused,
    /// What comes to this address comes to this node.
    Open(SocketAddrV4),
}

/// Asks the router for `port` until the network ends, and has the endpoint tell peers of the address that it gives.
pub(super) fn ask(endpoint: &Endpoint, port: Option<u16>) -> watch::Receiver<PortMapping> {
    let (told, state) = watch::channel(PortMapping::Asked);
    if let Some(port) = port.and_then(NonZeroU16::new) {
        let client = Client::default();
        client.update_local_port(port);
        tokio::spawn(keep(endpoint.clone(), client, told));
    }
    state
}

async fn keep(endpoint: Endpoint, client: Client, told: watch::Sender<PortMapping>) {
    let mut external = client.watch_external_address();
    loop {
        let open = *external.borrow_and_update();
        let state = match open {
            Some(address) => PortMapping::Open(address),
            None => look(&client).await,
        };
        told.send_replace(state);
        if state == PortMapping::Refused {
            // Asked before anybody had looked what the router understands.
            client.procure_mapping();
        }
        tokio::select! {
            Ok(()) = external.changed() => {
                let new = *external.borrow();
                replace(&endpoint, open, new).await;
            }
            () = tokio::time::sleep(ASK_EVERY) => {}
            _ = endpoint.closed() => return client.deactivate(),
        }
    }
}

/// Tells peers of the new address instead of the old one.
async fn replace(endpoint: &Endpoint, old: Option<SocketAddrV4>, new: Option<SocketAddrV4>) {
    if let Some(old) = old {
        endpoint.remove_external_addr(&SocketAddr::V4(old)).await;
    }
    if let Some(new) = new {
        tracing::info!(address = %new, "the router has opened a port");
        endpoint.add_external_addr(SocketAddr::V4(new)).await;
    }
}

/// Whether there is a router that could.
async fn look(client: &Client) -> PortMapping {
    match client.probe().await {
        Ok(Ok(ProbeOutput { upnp: false, pcp: false, nat_pmp: false })) => PortMapping::NoRouter,
        Ok(Ok(_)) => PortMapping::Refused,
        Ok(Err(_)) | Err(_) => PortMapping::NoRouter,
    }
}

impl PortMapping {
    /// The same for people.
    pub fn in_words(&self) -> String {
        match self {
            Self::Off => "the router is not asked to open a port".into(),
            Self::Asked => "the router has been asked to open a port".into(),
            Self::NoRouter => "no router here opens ports (UPnP, NAT-PMP, PCP)".into(),
            Self::Refused => "the router could open a port, and has not".into(),
            Self::Open(address) => format!("the router has opened {address}"),
        }
    }
}
