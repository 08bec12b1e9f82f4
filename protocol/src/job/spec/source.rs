//! Where inputs come from and where results go.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::job::units::Seconds;
use crate::task::{Content, ContentKind};

/// The shortest blob ticket, in characters: a key and a hash take 103.
const MIN_TICKET_BYTES: usize = 100;
/// The longest, in characters: with a few addresses it has some 300.
const MAX_TICKET_BYTES: usize = 2_048;

/// An input and where the program finds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InputSource {
    /// Where it comes from.
    pub source: Source,
    /// Another name for it; of a legacy import module it is the import's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alias: String,
    /// Where it is mounted.
    pub target: String,
    /// Who reads it.
    #[serde(skip_serializing_if = "Resolve::is_requester")]
    pub resolve: Resolve,
}

/// Who reads a source.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolve {
    /// The node that takes the job, once: every execution sees the same.
    #[default]
    Requester,
    /// Each worker, when it runs the job: executions may see different things.
    Worker,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "Type", content = "Params", rename_all = "camelCase")]
pub enum Source {
    /// Content in the mesh, by hash.
    Blob(BlobSource),
    /// Content written into the job.
    Inline(InlineSource),
    /// A file on the web.
    UrlDownload(UrlSource),
    /// Objects of an S3 bucket.
    S3(Box<S3Source>),
    /// Content of IPFS.
    Ipfs(IpfsSource),
    /// A file or folder of the submitting machine (command line) or of a worker (its operator allowing).
    LocalDirectory(LocalSource),
}

/// Content in the mesh, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobSource {
    /// The whole.
    pub root: BlobRoot,
    /// A file or folder in it, by its relative path; all of it when empty.
    pub path: String,
}

/// What names content in the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobRoot {
    /// Its hash.
    Content(Content),
    /// A blob ticket, which also says who has it.
    Ticket(String),
}

/// Content written into the job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InlineSource {
    /// A `data:` URL.
    #[serde(rename = "URL")]
    pub url: String,
}

/// A file on the web.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct UrlSource {
    /// An `http:` or `https:` URL.
    #[serde(rename = "URL")]
    pub url: String,
    /// What the file must hash to, in hexadecimal or base64.
    #[serde(rename = "ChecksumSHA256", skip_serializing_if = "String::is_empty")]
    pub checksum_sha256: String,
}

/// Content of IPFS.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IpfsSource {
    /// Its content id.
    #[serde(rename = "CID")]
    pub cid: String,
}

/// Objects of an S3 bucket.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct S3Source {
    /// The bucket.
    pub bucket: String,
    /// One object, or a prefix that ends with `/` or `*`.
    pub key: String,
    /// A regular expression that keys must match.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter: String,
    /// The bucket's region.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Another service than Amazon's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// One version of the object.
    #[serde(rename = "VersionID", skip_serializing_if = "String::is_empty")]
    pub version_id: String,
    /// What the object must hash to.
    #[serde(rename = "ChecksumSHA256", skip_serializing_if = "String::is_empty")]
    pub checksum_sha256: String,
    /// How objects are divided over the job's partitions.
    #[serde(skip_serializing_if = "S3Partition::is_none")]
    pub partition: S3Partition,
}

/// How objects are divided over partitions.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct S3Partition {
    /// By what part of the key.
    #[serde(rename = "Type")]
    pub by: S3PartitionBy,
    /// For `regex`: its groups are the part.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pattern: String,
    /// For `substring`: where the part starts.
    pub start_index: u64,
    /// For `substring`: where the part ends.
    pub end_index: u64,
    /// For `date`: its form, as Go writes it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub date_format: String,
}

/// By what part of an object's key it is assigned to a partition.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum S3PartitionBy {
    /// Every partition has every object.
    #[default]
    None,
    /// The whole key.
    Object,
    /// What a regular expression finds.
    Regex,
    /// Some characters.
    Substring,
    /// A date in it.
    Date,
}

/// A file or folder by its path.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LocalSource {
    /// Where it is.
    pub source_path: String,
    /// Whether the program may change it.
    pub read_write: bool,
    /// What is made when nothing is there.
    pub create_as: CreateAs,
}

/// What is made of a local path where nothing is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CreateAs {
    /// A folder.
    #[default]
    Dir,
    /// A file.
    File,
    /// Nothing: the job fails.
    NoCreate,
}

/// Where results go.
#[derive(Debug, Clone, PartialEq)]
pub enum Publisher {
    /// Into the mesh, by hash. The default.
    Blob(BlobPublisher),
    /// To the worker's disk, served over HTTP.
    Local,
    /// Into an S3 bucket.
    S3(S3Publisher),
    /// Into the S3 bucket that the requester's operator has set up.
    S3Managed,
    /// To IPFS.
    Ipfs,
    /// Nowhere; for tests.
    Noop,
}

/// How results stay in the mesh.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlobPublisher {
    /// How long they are kept after the job's end; without it as long as the node keeps results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Seconds>,
}

/// Where in S3 results go.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct S3Publisher {
    /// The bucket.
    pub bucket: String,
    /// The key, with `{executionID}`, `{jobID}`, `{nodeID}`, `{date}` and `{time}` filled in.
    pub key: String,
    /// The bucket's region.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Another service than Amazon's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// `gzip` or `plain`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encoding: String,
}

impl S3Publisher {
    /// What is filled into a key, and how many bytes that is: who ran it, which execution of which job, and when.
    pub const PLACEHOLDERS: [(&str, usize); 5] =
        [("{nodeID}", 64), ("{executionID}", 34), ("{jobID}", 34), ("{date}", 8), ("{time}", 6)];
}

impl From<Content> for BlobSource {
    /// All of some content.
    fn from(content: Content) -> Self {
        Self { root: BlobRoot::Content(content), path: String::new() }
    }
}

impl BlobRoot {
    /// Reads a hash or a ticket. Whether a ticket is sound shows when it is used.
    pub fn parse(text: &str, kind: ContentKind) -> Option<Self> {
        let is_ticket = |text: &str| {
            let encoded = text.strip_prefix("blob").unwrap_or_default();
            (MIN_TICKET_BYTES..=MAX_TICKET_BYTES).contains(&text.len())
                && encoded.bytes().all(|byte| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte))
                && !encoded.is_empty()
        };
        match text.parse() {
            Ok(hash) => Some(Self::Content(Content { hash, kind })),
            Err(_) => is_ticket(text).then(|| Self::Ticket(text.to_owned())),
        }
    }
}

impl Source {
    /// Its type in a job file.
    pub fn kind(&self) -> &'static str {
        match self {
            Source::Blob(_) => "blob",
            Source::Inline(_) => "inline",
            Source::UrlDownload(_) => "urlDownload",
            Source::S3(_) => "s3",
            Source::Ipfs(_) => "ipfs",
            Source::LocalDirectory(_) => "localDirectory",
        }
    }

    /// Whether the program writes it, where it lies.
    pub fn is_written(&self) -> bool {
        matches!(self, Source::LocalDirectory(local) if local.read_write)
    }
}

impl Resolve {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_requester(&self) -> bool {
        *self == Resolve::Requester
    }

    /// Who reads a source where its job does not say: the requester, but what a program writes is written where it runs.
    pub fn usual(source: &Source) -> Self {
        if source.is_written() { Resolve::Worker } else { Resolve::Requester }
    }
}

impl Publisher {
    /// How long results are kept, if the job says so.
    pub fn retention(&self) -> Option<Seconds> {
        if let Publisher::Blob(blob) = self { blob.retention } else { None }
    }

    /// Its type in a job file.
    pub fn kind(&self) -> &'static str {
        match self {
            Publisher::Blob(_) => "blob",
            Publisher::Local => "local",
            Publisher::S3(_) => "s3",
            Publisher::S3Managed => "s3managed",
            Publisher::Ipfs => "ipfs",
            Publisher::Noop => "noop",
        }
    }
}

impl S3PartitionBy {
    /// How each is written.
    pub const NAMES: [(&str, Self); 5] = [
        ("none", Self::None),
        ("object", Self::Object),
        ("regex", Self::Regex),
        ("substring", Self::Substring),
        ("date", Self::Date),
    ];
}

impl S3Partition {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// How a job file writes the kind of a blob.
fn content_kind_name(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Raw => "file",
        ContentKind::Collection => "folder",
    }
}

impl Serialize for BlobSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut blob = serializer.serialize_struct("BlobSource", 3)?;
        match &self.root {
            BlobRoot::Content(content) => {
                blob.serialize_field("Hash", &content.hash.to_string())?;
                blob.serialize_field("Kind", content_kind_name(content.kind))?;
            }
            BlobRoot::Ticket(ticket) => blob.serialize_field("Ticket", ticket)?,
        }
        if !self.path.is_empty() {
            blob.serialize_field("Path", &self.path)?;
        }
        blob.end()
    }
}

impl Serialize for Publisher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut publisher = serializer.serialize_struct("Publisher", 2)?;
        publisher.serialize_field("Type", self.kind())?;
        match self {
            Publisher::Blob(blob) if *blob != BlobPublisher::default() => publisher.serialize_field("Params", blob)?,
            Publisher::S3(s3) => publisher.serialize_field("Params", s3)?,
            _ => {}
        }
        publisher.end()
    }
}
