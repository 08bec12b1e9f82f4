//! What peers do, and what can be seen of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use shoal_protocol::id::PeerId;
use shoal_protocol::message::Contact;
use shoal_protocol::shard::Audience;
use tokio::sync::oneshot;

use super::codec::{Answer, NotUnderstood};
use super::{Nat, Passed};

/// What peers do.
#[derive(Debug)]
pub enum NetworkEvent {
    /// A message to all. It is passed on only after [`Network::validate`](super::Network::validate).
    Gossip {
        /// Names the message for the verdict.
        id: GossipId,
        /// The neighbour that passed it on; who said it stands in the message.
        source: PeerId,
        /// Whom it was said to.
        audience: Audience,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A message to this node.
    Request {
        /// Who asks: this is proven by the connection.
        from: PeerId,
        /// The message.
        bytes: Vec<u8>,
        /// Takes the answer. Dropping it tells the other side that there is none.
        reply: Reply,
    },
    /// A peer of the mesh is connected and hears our gossip.
    PeerUp(PeerId),
    /// It does not any more.
    PeerDown(PeerId),
    /// A peer sent something else than the blob that it was asked for. It is not asked for a while.
    Corrupt(PeerId),
}

/// Names a gossip message until it has been judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GossipId(pub(super) libp2p::gossipsub::MessageId);

/// What becomes of a gossip message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It is passed on.
    Accept,
    /// It is not passed on, and nobody is to blame.
    Ignore,
    /// It is not passed on, and whoever sent it loses standing.
    Reject,
}

/// Takes the answer to a request.
#[derive(Debug)]
pub struct Reply(pub(super) oneshot::Sender<Answer>);

impl Reply {
    /// Answers, with at most [`MAX_ANSWER_BYTES`](super::MAX_ANSWER_BYTES).
    pub fn send(self, bytes: Vec<u8>) {
        // The asker may be gone; that is its own affair.
        let _ = self.0.send(Answer::Bytes(bytes));
    }

    /// Says that this node speaks `version` and has not understood what is at these places of the request, or none of it
    /// if there are none.
    pub fn not_understood(self, version: u8, places: Vec<u8>) {
        let _ = self.0.send(Answer::NotUnderstood(NotUnderstood { version, places }));
    }
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerInfo {
    /// Who it is.
    pub peer: PeerId,
    /// Where it says that it can be reached.
    pub contact: Contact,
    /// Since when it has been connected.
    pub connected_since: Instant,
    /// Round-trip time, once measured.
    pub rtt: Option<Duration>,
    /// Whether data goes through a relay.
    pub relayed: bool,
    /// Which one, if it does.
    pub relay: Option<String>,
    /// Where its packets come from, if they come directly.
    pub remote: Option<SocketAddr>,
    /// How its router treats it, where that can be told.
    pub nat: Option<Nat>,
    /// What passed between it and this node while it has been connected.
    pub passed: Passed,
    /// What gossip thinks of it: below 0 it has done something wrong lately.
    pub score: f64,
    /// The version of its build, once it has told.
    pub version: Option<String>,
    /// The version of the protocol that it speaks, once it has told.
    pub protocol: Option<u8>,
}

/// What blobs have travelled since the start. A request counts when it has ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Traffic {
    /// Bytes of blobs that were sent to peers.
    pub served_bytes: u64,
    /// Requests for them.
    pub served_requests: u64,
    /// Requests and connections that were refused: not allowed, or too many.
    pub refused_requests: u64,
    /// Bytes of blobs that came from peers.
    pub fetched_bytes: u64,
}

/// What was fended off since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Fended {
    /// Connections, and attempts to make one, that were refused.
    pub connections: u64,
    /// Gossiped messages that were not passed on: malformed, stale, or too much of somebody.
    pub gossip: u64,
    /// Requests that were answered with "busy" because their peer had too many.
    pub requests: u64,
    /// Peers that were cut off for a while, because they flooded or forged.
    pub cut_off: u64,
}
