//! Blob tickets: a hash, and who has it.

use iroh_blobs::HashAndFormat;
use iroh_blobs::ticket::BlobTicket;
use shoal_protocol::id::PeerId;
use shoal_protocol::limits::MAX_ADDRESSES;
use shoal_protocol::message::Contact;
use shoal_protocol::task::Content;
use shoal_store::blobs::{content, hash_and_format};

use crate::network::Network;

/// What a ticket names, and the peer that has it, which the network can reach from now on.
pub(crate) fn read(network: &Network, text: &str) -> Option<(Content, PeerId)> {
    let ticket: BlobTicket = text.trim().parse().ok()?;
    let provider = PeerId(*ticket.addr().id.as_bytes());
    network.learn(provider, &contact(ticket.addr()));
    Some((content(ticket.hash_and_format()), provider))
}

/// A ticket for content that this node has.
pub(crate) fn write(network: &Network, content: Content) -> String {
    let HashAndFormat { hash, format } = hash_and_format(content);
    BlobTicket::new(network.endpoint_addr(), hash, format).to_string()
}

fn contact(address: &iroh::EndpointAddr) -> Contact {
    let addresses = address.ip_addrs().copied().take(MAX_ADDRESSES).collect();
    Contact { addresses, relay: address.relay_urls().next().map(ToString::to_string) }
}
