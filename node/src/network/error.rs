//! Why the network does not start, and why a request has no answer.

use std::net::SocketAddr;

use shoal_protocol::id::PeerId;

use super::codec::MAX_REQUEST_BYTES;
use super::relay;
use super::ticket::{self, TicketError};

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The socket could not be had.
    #[error("cannot listen on {listen}: {reason}; choose another address or port with `--listen`")]
    Bind {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// This node's own relay did not start.
    #[error(transparent)]
    Relay(#[from] relay::RelayError),
    /// A ticket leads elsewhere.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The mesh has no usable name.
    #[error("a mesh's name has 1 to {max} bytes, this one has {0}", max = ticket::MAX_MESH_NAME)]
    MeshName(usize),
}

/// Why a request has no answer. It may have been handled all the same, except where it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is larger than any peer would read; not sent.
    #[error("the request has {0} bytes, more than the {MAX_REQUEST_BYTES} that a peer reads")]
    TooLarge(usize),
    /// The id is this node's own or no key; not sent.
    #[error("{0} is not another peer")]
    NoSuchPeer(PeerId),
    /// Nothing is known of it or it does not answer; not sent.
    #[error("peer {} cannot be reached", .0.short())]
    Unreachable(PeerId),
    /// It has too much to do, or we asked too much of it; not handled.
    #[error("peer {} is busy; ask again later", .0.short())]
    Busy(PeerId),
    /// It took too long.
    #[error("peer {} did not answer in time", .0.short())]
    TimedOut(PeerId),
    /// It speaks another version; not handled.
    #[error("peer {} does not speak this protocol", .0.short())]
    OtherProtocol(PeerId),
    /// It speaks another version and has not understood all of it; the rest was handled.
    #[error("peer {} speaks protocol version {version} and did not understand the request", .peer.short())]
    NotUnderstood {
        /// Who was asked.
        peer: PeerId,
        /// The version that it speaks.
        version: u8,
        /// Which of the messages in the request, by their places; none for the whole request.
        places: Vec<u8>,
    },
    /// The stream broke.
    #[error("the request to peer {} broke: {reason}", .peer.short())]
    Broken {
        /// Who was asked.
        peer: PeerId,
        /// What happened.
        reason: String,
    },
    /// Too many requests of ours are under way; not sent.
    #[error("too many requests are under way")]
    Overloaded,
    /// The network has been shut down; not sent.
    #[error("the network is shut down")]
    Closed,
}
