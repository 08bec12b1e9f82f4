//! Relays: those of the mesh, and who uses this node's own.

use serde::{Deserialize, Serialize};
use shoal_protocol::id::PeerId;

use crate::network::{KnownRelay, RelayClient};

/// A relay that the node knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RelayView {
    /// Where it is.
    #[serde(rename = "URL")]
    pub url: String,
    /// What the node does with it: `home` where peers find it, `used`, `known`, or `silent` when it does not answer.
    #[serde(rename = "Use")]
    pub use_: String,
    /// How long connecting took last, in milliseconds, once it answered.
    pub rtt_millis: Option<f64>,
    /// Who runs it, if somebody said so.
    #[serde(rename = "PeerID")]
    pub peer_id: Option<PeerId>,
    /// Why it is silent, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a client of the node's own relay has used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RelayClientView {
    /// Who it is.
    #[serde(rename = "PeerID")]
    pub peer_id: PeerId,
    /// Whether it is connected now.
    pub connected: bool,
    /// Bytes that came from it.
    pub received_bytes: u64,
    /// Bytes that went to it.
    pub sent_bytes: u64,
    /// For how long they have been counted, in seconds.
    pub counted_seconds: u64,
}

impl From<&KnownRelay> for RelayView {
    fn from(info: &KnownRelay) -> Self {
        let use_ = match info {
            KnownRelay { is_good: false, .. } => "silent",
            KnownRelay { is_home: true, .. } => "home",
            KnownRelay { is_used: true, .. } => "used",
            _ => "known",
        };
        Self {
            url: info.address.to_string(),
            use_: use_.to_owned(),
            rtt_millis: info.rtt_ms,
            peer_id: info.by,
            reason: info.trouble.clone().filter(|_| !info.is_good),
        }
    }
}

impl From<&RelayClient> for RelayClientView {
    fn from(client: &RelayClient) -> Self {
        Self {
            peer_id: client.peer,
            connected: client.is_connected,
            received_bytes: client.received,
            sent_bytes: client.sent,
            counted_seconds: client.since.elapsed().as_secs(),
        }
    }
}
