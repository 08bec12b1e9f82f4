//! What the API says about things, as JSON with Bacalhau's key style; the command line reads the same types back.
//!
//! `CreateTime` and `ModifyTime` are nanoseconds since the Unix epoch, as in Bacalhau; the time of an event is
//! RFC 3339 text in UTC.

pub mod access;

pub mod admission;

pub mod diff;

pub mod doctor;

pub mod job;

pub mod mesh;

pub mod relay;

pub mod replay;

pub mod standing;

pub mod time;

pub mod verification;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shoal_protocol::id::{BlobHash, JobId, PeerId};
use shoal_protocol::task::{Content, ContentKind};

use crate::network::{Nat, PeerInfo};

pub use access::AccessView;
pub use admission::AdmissionView;
pub use diff::{CheckpointView, DiffView, FindingView, RunView};
pub use doctor::{DoctorView, Finding};
pub use job::{EventView, ExecutionView, InputView, JobSummary, JobView, PublishedView, ResultView};
pub use mesh::{InvitationView, InviteRequest, InvitedView, MemberView, MeshView, RevokedView};
pub use relay::{RelayClientView, RelayView};
pub use replay::{ComparedView, DifferenceView, ReplayView};
pub use standing::StandingView;
pub use verification::{PartitionView, VerificationView};

/// What `POST /jobs` takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SubmitRequest<J> {
    /// The job.
    pub job: J,
    /// Run it on this node alone, for want of a mesh.
    #[serde(default)]
    pub local: bool,
    /// Check it and save nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What `POST /jobs` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SubmitReply {
    /// The job's id; none after a dry run.
    #[serde(rename = "JobID", skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
}

/// How far the inputs of a job are that is being submitted.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InputProgressView {
    /// Which input, from 0.
    pub index: usize,
    /// Where the program will find it.
    pub target: String,
    /// Bytes of it that were read.
    pub bytes: u64,
    /// All its bytes, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
}

/// A blob or folder, named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlobView {
    /// The root hash.
    pub hash: BlobHash,
    /// Whether the root is a file or a folder's list.
    pub kind: KindView,
    /// Bytes of all that belongs to it.
    pub bytes: u64,
    /// With it any peer can fetch the content from this node.
    pub ticket: String,
}

/// What `POST /blobs/import` takes: something on the disk, which both sides must see.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ImportRequest {
    /// An absolute path.
    pub path: PathBuf,
    /// The number of the device that it is on.
    pub device: u64,
    /// Its number on that device.
    pub inode: u64,
    /// Whether it stays where it is instead of being copied into the store.
    #[serde(default)]
    pub in_place: bool,
}

/// A row of the blob list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlobRow {
    /// The hash.
    pub hash: BlobHash,
    /// Bytes that are here.
    pub bytes: u64,
    /// Whether all of it is here.
    pub complete: bool,
    /// When it was wanted last, as RFC 3339 text, if that is remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_use: Option<String>,
    /// Pins that keep it.
    pub pins: Vec<BlobPin>,
}

/// A pin, seen from what it keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlobPin {
    /// The pin's name.
    pub name: String,
    /// When it ends, as RFC 3339 text; never without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// How a root hash is to be read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindView {
    /// One blob.
    #[default]
    File,
    /// A collection of files.
    Folder,
}

/// A file in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct EntryView {
    /// Its relative name.
    pub name: String,
    /// Its content.
    pub hash: BlobHash,
    /// Its size; not needed when a folder is composed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What `POST /blobs/fetch` takes: a ticket, or a hash and perhaps who has it.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct FetchRequest {
    /// A blob ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// A root hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<BlobHash>,
    /// How to read the hash.
    pub kind: KindView,
    /// Peers to ask first.
    pub providers: Vec<PeerId>,
    /// A folder that it is part of: whoever has that is asked when nobody else has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<BlobHash>,
    /// Of a folder only the names and hashes of its files, not the files.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub list_only: bool,
}

/// How far a fetch has come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FetchedView {
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes in all, once that is known of every file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Bytes that arrived in a second, lately.
    pub bytes_per_second: u64,
    /// Seconds until it is here, if it goes on like that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// Peers that are sending now.
    pub providers: u32,
}

/// How far an import has come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImportedView {
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that were read in a second, lately.
    pub bytes_per_second: u64,
    /// Seconds until all is read, if it goes on like that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

/// A pin: a name that keeps content.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct PinView {
    /// The name; taken from the path when a pin is set.
    #[serde(default)]
    pub name: String,
    /// The root hash.
    pub hash: BlobHash,
    /// How to read the hash.
    #[serde(default)]
    pub kind: KindView,
    /// For how long it is to be kept, in seconds, when a pin is set; for good without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_seconds: Option<u64>,
    /// When the pin ends, as RFC 3339 text; never without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What the node's blobs use, by what keeps them, in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UsageView {
    /// What `--max-disk` allows for blobs and executions together.
    pub quota: u64,
    /// All blobs.
    pub used: u64,
    /// Those that pins keep.
    pub pinned: u64,
    /// Those that only pins of results for others keep (`agreed/…`): they make way after the cache.
    pub for_others: u64,
    /// Those that jobs, executions, transfers and recent uploads keep, and no pin does.
    pub in_use: u64,
    /// Those that make way when room is needed.
    pub cache: u64,
    /// What of all that belongs to blobs that are not complete.
    pub partial: u64,
    /// Room that executions and transfers were promised.
    pub promised: u64,
    /// What is free on the disk.
    pub free: u64,
    /// The pins with the largest content, and its size with all that others share.
    pub pins: Vec<PinUsage>,
}

/// What one pin keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PinUsage {
    /// The pin's name: `user/…` for a person's, `job/…` for a job's results, `agreed/…` for those made for others.
    pub name: String,
    /// Bytes of its content.
    pub bytes: u64,
}

/// What a collection of unwanted blobs removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CollectedView {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A setting, its value and where it came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SettingView {
    /// The setting's name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// `default`, `file`, `environment` or `flag`.
    pub origin: String,
}

/// A connected peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PeerView {
    /// Who it is.
    #[serde(rename = "PeerID")]
    pub peer_id: PeerId,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// Its relay, if it has one.
    pub relay: Option<String>,
    /// For how long it has been connected, in seconds.
    pub connected_seconds: u64,
    /// Round-trip time in milliseconds, once measured.
    pub rtt_millis: Option<f64>,
    /// Whether data goes through a relay.
    pub relayed: bool,
    /// Which one, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Where its packets come from, if they come directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<String>,
    /// How its router treats it, where that can be told.
    #[serde(rename = "NAT", default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<Nat>,
    /// Bytes sent to it while it has been connected, all protocols together.
    #[serde(default)]
    pub sent_bytes: u64,
    /// Bytes received from it.
    #[serde(default)]
    pub received_bytes: u64,
    /// Of those that were sent, those that went through a relay.
    #[serde(default)]
    pub sent_by_relay_bytes: u64,
    /// Of those that were received, those that came through a relay.
    #[serde(default)]
    pub received_by_relay_bytes: u64,
    /// What gossip thinks of it: below 0 it has done something wrong lately.
    #[serde(default)]
    pub score: f64,
    /// The version of its build, once it has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version of the protocol that it speaks, once it has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// What this node thinks of it.
    #[serde(default)]
    pub standing: StandingView,
}

/// A node's join ticket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TicketView {
    /// The ticket, one word.
    pub ticket: String,
}

/// Why a request was not answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorView {
    /// The error.
    pub error: ErrorBody,
}

/// An error for a program and for a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A word that programs can rely on, for example `not_found`.
    pub code: String,
    /// What failed, why, and what to do.
    pub message: String,
}

impl KindView {
    /// The content of this kind under `hash`.
    pub fn content(self, hash: BlobHash) -> Content {
        let kind = match self {
            KindView::File => ContentKind::Raw,
            KindView::Folder => ContentKind::Collection,
        };
        Content { hash, kind }
    }
}

impl From<&PeerInfo> for PeerView {
    fn from(info: &PeerInfo) -> Self {
        Self {
            peer_id: info.peer,
            addresses: info.contact.addresses.iter().map(ToString::to_string).collect(),
            relay: info.contact.relay.clone(),
            connected_seconds: info.connected_since.elapsed().as_secs(),
            rtt_millis: info.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
            relayed: info.relayed,
            via: info.relay.clone(),
            remote_address: info.remote.map(|remote| remote.to_string()),
            nat: info.nat,
            sent_bytes: info.passed.sent(),
            received_bytes: info.passed.received(),
            sent_by_relay_bytes: info.passed.sent_by_relay,
            received_by_relay_bytes: info.passed.received_by_relay,
            score: info.score,
            version: info.version.clone(),
            protocol: info.protocol,
            standing: StandingView::default(),
        }
    }
}

impl From<ContentKind> for KindView {
    fn from(kind: ContentKind) -> Self {
        match kind {
            ContentKind::Raw => KindView::File,
            ContentKind::Collection => KindView::Folder,
        }
    }
}

impl From<&PinView> for Content {
    fn from(pin: &PinView) -> Self {
        pin.kind.content(pin.hash)
    }
}
