//! Why a peer could not be connected with, as far as a person can do something about it.

use std::io;

use iroh::endpoint::{ConnectError, ConnectWithOptsError, ConnectingError, ConnectionError, TransportErrorCode};
use libp2p::TransportError;
use libp2p::swarm::DialError;

use super::strangers::UNNAMED;
use super::transport::TransportFailure;

/// TLS's alert that no common protocol was found. All names carry the mesh, so the peer is in another one.
const NO_APPLICATION_PROTOCOL: u8 = 120;
/// Longest text of an error that is remembered, in characters.
const MAX_REASON_CHARS: usize = 200;

/// Why a peer could not be connected with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// Nothing says where it is.
    #[error("nobody knows its address")]
    NoAddress,
    /// Nothing came back.
    #[error("no answer")]
    NoAnswer,
    /// It answers, and has nothing to do with this mesh.
    #[error("it answers, but is in another mesh")]
    OtherMesh,
    /// It, or this node, did not take the other for a member of the private mesh.
    #[error("it answers, but one of the two is no member of the private mesh")]
    NotAdmitted,
    /// It answers, and speaks a version of the protocol that this node does not.
    #[error("{}", other_version(*.0))]
    OtherVersion(u8),
    /// Somebody else is at its address, or something broke.
    #[error("{0}")]
    Failed(String),
}

fn other_version(version: u8) -> String {
    match version {
        UNNAMED => "it answers, but names no protocol version: it is too old".into(),
        version => format!("it answers, but speaks protocol version {version}"),
    }
}

impl From<&ConnectError> for Unreached {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::Connection { source, .. }
            | ConnectError::Connecting { source: ConnectingError::ConnectionError { source, .. }, .. } => source.into(),
            ConnectError::Connecting { source: ConnectingError::LocallyRejected { .. }, .. }
            | ConnectError::Connect { source: ConnectWithOptsError::LocallyRejected { .. }, .. } => Self::NotAdmitted,
            ConnectError::Connect { source: ConnectWithOptsError::NoAddress { .. }, .. } => Self::NoAddress,
            other => Self::failed(format!("{other:#}")),
        }
    }
}

impl From<&ConnectionError> for Unreached {
    fn from(error: &ConnectionError) -> Self {
        let another = TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL);
        match error {
            ConnectionError::TimedOut => Self::NoAnswer,
            ConnectionError::ConnectionClosed(close) if close.error_code == another => Self::OtherMesh,
            // The gate gives no reason.
            ConnectionError::ApplicationClosed(_) => Self::NotAdmitted,
            other => Self::failed(other.to_string()),
        }
    }
}

impl Unreached {
    /// What the failures of a dial come to; none for one that was never tried.
    pub(super) fn of(error: &DialError) -> Option<Self> {
        match error {
            DialError::NoAddresses => Some(Self::NoAddress),
            DialError::WrongPeerId { .. } => Some(Self::failed("somebody else is at its address".into())),
            DialError::Transport(failures) => failures.iter().filter_map(|(_, error)| Self::of_way(error)).next(),
            _ => None,
        }
    }

    fn of_way(error: &TransportError<io::Error>) -> Option<Self> {
        let TransportError::Other(error) = error else { return None };
        match error.get_ref()?.downcast_ref::<TransportFailure>()? {
            TransportFailure::Connect(reason) => Some(reason.clone()),
            TransportFailure::SharedDial => None,
        }
    }

    fn failed(reason: String) -> Self {
        Self::Failed(reason.chars().take(MAX_REASON_CHARS).collect())
    }
}
