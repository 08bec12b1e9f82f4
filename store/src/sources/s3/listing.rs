//! What a source names: one object, or those whose keys begin with a prefix, each under the name it will have.

use std::time::Duration;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::ChecksumMode;
use regex::Regex;
use shoal_protocol::job::spec::S3Source;

use super::partition::regex;
use crate::blobs::{MAX_FILES, check_names};
use crate::s3::Connection;
use crate::sources::DataError;

/// The most keys that are looked at: a filter leaves fewer.
const MAX_LISTED: usize = 1 << 20;
/// How long listing may take in all.
const LONGEST: Duration = Duration::from_secs(120);

/// What a source names.
#[derive(Debug)]
pub(super) enum Wanted<'a> {
    /// One object, or one version of it.
    Object { key: &'a str, version: Option<String> },
    /// Every object below a prefix that passes the filter.
    Prefix { prefix: &'a str, filter: Option<Regex> },
}

/// An object as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) key: String,
    /// What the program calls it.
    pub(super) name: String,
    pub(super) etag: Option<String>,
    pub(super) version: Option<String>,
    pub(super) bytes: u64,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(source: &'a S3Source) -> Result<Self, DataError> {
        let key = source.key.trim();
        let prefix = key.strip_suffix('*').unwrap_or(key);
        if !prefix.is_empty() && prefix == key && !key.ends_with('/') {
            let version = (!source.version_id.is_empty()).then(|| source.version_id.clone());
            return Ok(Self::Object { key, version });
        }
        let of_one = [("VersionID", &source.version_id), ("ChecksumSHA256", &source.checksum_sha256)];
        if let Some((field, _)) = of_one.iter().find(|(_, value)| !value.is_empty()) {
            let thing = format!("s3://{}/{key}", source.bucket);
            let reason = format!("is a prefix, and {field} belongs to one object");
            return Err(DataError::new(thing, reason, format!("leave {field} out, or write the key of one object")));
        }
        let filter = (!source.filter.is_empty()).then(|| regex("Filter", &source.filter)).transpose()?;
        Ok(Self::Prefix { prefix, filter })
    }

    /// The object's key, or the prefix.
    pub(super) fn key(&self) -> &'a str {
        match self {
            Self::Object { key, .. } => key,
            Self::Prefix { prefix, .. } => prefix,
        }
    }

    /// Bacalhau's layout: folders that the prefix names are left out, and what follows them is kept.
    fn name(&self, key: &str) -> String {
        let folders = self.key().rfind('/').map_or(0, |end| end + 1);
        key.get(folders..).unwrap_or(key).to_owned()
    }

    fn takes(&self, key: &str) -> bool {
        match self {
            Self::Object { .. } => true,
            // What ends with `/` marks a folder, and has no content.
            Self::Prefix { .. } if key.ends_with('/') => false,
            Self::Prefix { prefix, filter } => {
                let rest = key.strip_prefix(prefix).unwrap_or(key);
                filter.as_ref().is_none_or(|filter| filter.is_match(rest))
            }
        }
    }
}

/// Everything that is wanted, by key, when all of it may be read.
pub(super) async fn list(
    connection: &Connection,
    wanted: &Wanted<'_>,
    max_bytes: u64,
) -> Result<Vec<Object>, DataError> {
    let uri = connection.uri(wanted.key());
    let found = match wanted {
        Wanted::Object { key, version } => head(connection, wanted, key, version.as_deref()).await.map(|one| vec![one]),
        Wanted::Prefix { .. } => match tokio::time::timeout(LONGEST, below(connection, wanted)).await {
            Ok(found) => found,
            Err(_) => {
                let reason = format!("was not listed within {} s", LONGEST.as_secs());
                Err(DataError::new(&uri, reason, "write a longer prefix"))
            }
        },
    };
    let objects = found?;
    check(&uri, &objects, max_bytes)?;
    Ok(objects)
}

fn check(uri: &str, objects: &[Object], max_bytes: u64) -> Result<(), DataError> {
    if objects.is_empty() {
        let reason = "no object is there, or none that passes the filter";
        return Err(DataError::new(uri, reason, "check the prefix and the filter"));
    }
    let bytes = objects.iter().fold(0, |sum: u64, object| sum.saturating_add(object.bytes));
    if bytes > max_bytes {
        let reason = format!("holds {bytes} bytes in {} objects, and {max_bytes} are allowed", objects.len());
        return Err(DataError::new(uri, reason, "write a longer prefix or a filter"));
    }
    check_names(objects.iter().map(|object| object.name.as_str())).map_err(|error| {
        DataError::new(uri, error.to_string(), "rename the object, or leave it out with a prefix or a filter")
    })
}

async fn head(
    connection: &Connection,
    wanted: &Wanted<'_>,
    key: &str,
    version: Option<&str>,
) -> Result<Object, DataError> {
    let request = connection.client.head_object().bucket(&connection.bucket).key(key);
    let request = request.set_version_id(version.map(str::to_owned)).checksum_mode(ChecksumMode::Enabled);
    match request.send().await {
        Ok(head) => Ok(Object {
            key: key.to_owned(),
            name: wanted.name(key),
            etag: head.e_tag,
            version: version.map(str::to_owned).or(head.version_id),
            bytes: u64::try_from(head.content_length.unwrap_or_default()).unwrap_or_default(),
        }),
        // The answer to a HEAD has no body, which would say why.
        Err(SdkError::ServiceError(_)) => Err(reason(connection, key, version).await),
        Err(error) => Err(connection.explain(key, &error)),
    }
}

/// Why an object cannot be read.
async fn reason(connection: &Connection, key: &str, version: Option<&str>) -> DataError {
    let request = connection.client.get_object().bucket(&connection.bucket).key(key).range("bytes=0-0");
    match request.set_version_id(version.map(str::to_owned)).send().await {
        Err(error) => connection.explain(key, &error),
        Ok(_) => DataError::new(connection.uri(key), "can be read, but not asked about", "try again"),
    }
}

async fn below(connection: &Connection, wanted: &Wanted<'_>) -> Result<Vec<Object>, DataError> {
    let prefix = wanted.key();
    let (mut objects, mut listed, mut token) = (Vec::new(), 0, None);
    loop {
        let request = connection.client.list_objects_v2().bucket(&connection.bucket).prefix(prefix);
        let page = request.set_continuation_token(token.clone()).send().await;
        let page = page.map_err(|error| connection.explain(prefix, &error))?;
        listed += page.contents().len();
        objects.extend(wanted_of(&page, wanted));
        if objects.len() > MAX_FILES || listed > MAX_LISTED {
            let reason = format!("has more than {MAX_FILES} objects, or {MAX_LISTED} before the filter");
            return Err(DataError::new(connection.uri(prefix), reason, "write a longer prefix, or pack the objects"));
        }
        match page.next_continuation_token {
            Some(next) if page.is_truncated == Some(true) && token.as_ref() != Some(&next) => token = Some(next),
            Some(_) if page.is_truncated == Some(true) => {
                let reason = format!("{} lists the same page again and again", connection.service());
                return Err(DataError::new(connection.uri(prefix), reason, "the service is at fault"));
            }
            _ => return Ok(objects),
        }
    }
}

fn wanted_of<'a>(page: &'a ListObjectsV2Output, wanted: &'a Wanted<'_>) -> impl Iterator<Item = Object> + 'a {
    page.contents().iter().filter_map(|object| {
        let key = object.key().filter(|key| wanted.takes(key))?;
        Some(Object {
            key: key.to_owned(),
            name: wanted.name(key),
            etag: object.e_tag.clone(),
            version: None,
            bytes: u64::try_from(object.size.unwrap_or_default()).unwrap_or_default(),
        })
    })
}
