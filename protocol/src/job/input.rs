//! The short forms that the command line has for parts of a job: `-i`, `-p`, `-o`, `-I`, `-e` and `-l`.
//!
//! Local paths become `localDirectory` sources here; the command line makes blobs of them before it submits.

use crate::job::problem::quoted;
use crate::job::spec::{
    BlobPublisher, BlobRoot, BlobSource, InlineSource, InputSource, IpfsSource, LocalSource, Publisher, Resolve,
    ResultPath, S3Partition, S3PartitionBy, S3Publisher, S3Source, Source, UrlSource,
};
use crate::task::ContentKind;

/// Where an input is mounted when its flag does not say.
pub const DEFAULT_TARGET: &str = "/inputs";

/// Why a flag's value is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// It has not the form.
    #[error("{text} is not {what}: write {example}")]
    Form {
        /// What was written.
        text: String,
        /// What it should be.
        what: &'static str,
        /// What that looks like.
        example: &'static str,
    },
    /// A source's scheme is unknown.
    #[error(
        "{0} has an unknown scheme: use a path, blob://, ipfs://, ipns://, s3://, http://, https://, file:// or data:"
    )]
    Scheme(String),
    /// The source has no such option.
    #[error("'{key}' is no option of {source_kind} inputs; known are {known}")]
    Option {
        /// The option.
        key: String,
        /// The kind of source.
        source_kind: &'static str,
        /// Its options.
        known: &'static str,
    },
}

fn form(text: &str, what: &'static str, example: &'static str) -> InputError {
    InputError::Form { text: quoted(text), what, example }
}

/// Reads `-i`: `SOURCE[:TARGET]` or `src=SOURCE,dst=TARGET,opt=KEY=VALUE`.
pub fn input(text: &str) -> Result<InputSource, InputError> {
    let parts = if is_long(text) { long(text)? } else { short(text) };
    let source = source(parts.source, &parts.options)?;
    let target = parts.target.unwrap_or(DEFAULT_TARGET).to_owned();
    let resolve = Resolve::usual(&source);
    Ok(InputSource { source, alias: String::new(), target, resolve })
}

/// Reads `-I`: a module and the path (and import name) that it gets, `SOURCE:NAME`.
pub fn import_module(text: &str) -> Result<InputSource, InputError> {
    let parts = if is_long(text) { long(text)? } else { short(text) };
    let wrong = || form(text, "a module with its import name", "math.wasm:math");
    let target = parts.target.ok_or_else(wrong)?.to_owned();
    Ok(InputSource {
        source: source(parts.source, &parts.options)?,
        alias: String::new(),
        target,
        resolve: Resolve::Requester,
    })
}

/// Reads a source alone: a path, a blob hash, or a URI.
pub fn bare_source(text: &str) -> Result<Source, InputError> {
    source(text, &[])
}

/// Reads `-o`: `NAME:PATH`.
pub fn result_path(text: &str) -> Result<ResultPath, InputError> {
    let wrong = || form(text, "a result path", "NAME:PATH, for example out:/outputs");
    let (name, path) =
        text.split_once(':').filter(|(name, path)| !name.is_empty() && !path.is_empty()).ok_or_else(wrong)?;
    Ok(ResultPath { name: name.into(), path: path.into() })
}

/// Reads `-e`: `NAME=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), InputError> {
    pair(text).ok_or_else(|| form(text, "an environment variable", "NAME=VALUE"))
}

/// Reads `-l`: `KEY=VALUE`, or several with commas between them.
pub fn labels(text: &str) -> Result<Vec<(String, String)>, InputError> {
    text.split(',').map(|part| pair(part.trim()).ok_or_else(|| form(part, "a label", "KEY=VALUE"))).collect()
}

/// Reads `-V`: `NAME=VALUE` for a job file's template.
pub fn template_variable(text: &str) -> Result<(String, String), InputError> {
    pair(text).ok_or_else(|| form(text, "a template variable", "NAME=VALUE"))
}

/// Reads `-p`: `blob[,opt=retention=7d]`, `local`, `ipfs`, `s3managed`, or `s3://BUCKET/KEY[,opt=region=R,opt=endpoint=E]`.
pub fn publisher(text: &str) -> Result<Publisher, InputError> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default().trim();
    if let Some(rest) = strip_scheme(name, "s3") {
        return s3_publisher(text, rest, parts);
    }
    let name = name.trim_end_matches("://").to_ascii_lowercase();
    if name == "blob" {
        return blob_publisher(text, parts);
    }
    let options = parts.next();
    match name.as_str() {
        "local" if options.is_none() => Ok(Publisher::Local),
        "ipfs" if options.is_none() => Ok(Publisher::Ipfs),
        "s3managed" if options.is_none() => Ok(Publisher::S3Managed),
        _ => Err(form(text, "a publisher", "blob, local, ipfs, s3managed or s3://BUCKET/KEY")),
    }
}

fn blob_publisher<'a>(text: &str, options: impl Iterator<Item = &'a str>) -> Result<Publisher, InputError> {
    let mut blob = BlobPublisher::default();
    for option in options {
        let (key, value) = option_pair(option).ok_or_else(|| form(text, "an option", "opt=retention=7d"))?;
        let wrong = |_| form(value, "a length of time", "opt=retention=7d");
        match key.to_ascii_lowercase().as_str() {
            "retention" => blob.retention = Some(value.parse().map_err(wrong)?),
            _ => return Err(unknown_option(key, "blob", "retention")),
        }
    }
    Ok(Publisher::Blob(blob))
}

fn s3_publisher<'a>(text: &str, rest: &str, options: impl Iterator<Item = &'a str>) -> Result<Publisher, InputError> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let mut s3 = S3Publisher { bucket: bucket.into(), key: key.into(), ..S3Publisher::default() };
    for option in options {
        let (key, value) = option_pair(option).ok_or_else(|| form(text, "an option", "opt=region=eu-west-1"))?;
        match key.to_ascii_lowercase().as_str() {
            "region" => s3.region = value.into(),
            "endpoint" => s3.endpoint = value.into(),
            "encoding" => s3.encoding = value.into(),
            _ => return Err(unknown_option(key, "s3", "region, endpoint, encoding")),
        }
    }
    Ok(Publisher::S3(s3))
}

/// A flag's parts, before they mean anything.
struct Parts<'a> {
    source: &'a str,
    target: Option<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

const SOURCE_KEYS: [&str; 2] = ["src", "source"];
const TARGET_KEYS: [&str; 4] = ["dst", "dest", "destination", "target"];

fn is_long(text: &str) -> bool {
    let key = text.split_once('=').map(|(key, _)| key.trim().to_ascii_lowercase()).unwrap_or_default();
    SOURCE_KEYS.contains(&key.as_str()) || TARGET_KEYS.contains(&key.as_str()) || key == "opt" || key == "option"
}

fn long(text: &str) -> Result<Parts<'_>, InputError> {
    let example = "src=SOURCE,dst=TARGET,opt=KEY=VALUE";
    let wrong = || form(text, "an input", example);
    let mut parts = Parts { source: "", target: None, options: Vec::new() };
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(wrong)?;
        let key = key.trim().to_ascii_lowercase();
        if SOURCE_KEYS.contains(&key.as_str()) {
            parts.source = value;
        } else if TARGET_KEYS.contains(&key.as_str()) {
            parts.target = Some(value);
        } else if let Some(option) = option_pair(part) {
            parts.options.push(option);
        } else {
            return Err(wrong());
        }
    }
    if parts.source.is_empty() { Err(wrong()) } else { Ok(parts) }
}

/// `SOURCE[:TARGET]`: the last colon divides, unless it belongs to the source.
fn short(text: &str) -> Parts<'_> {
    let whole = Parts { source: text, target: None, options: Vec::new() };
    let Some((source, target)) = text.rsplit_once(':') else { return whole };
    let is_web = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
    let is_scheme = target.starts_with("//") || source.is_empty() || text.starts_with("data:");
    // In a web address, what follows a colon is a port or part of the path, unless it is an absolute path.
    if is_scheme || target.is_empty() || (is_web && !target.starts_with('/')) {
        return whole;
    }
    Parts { source, target: Some(target), options: Vec::new() }
}

/// `opt=KEY=VALUE`.
fn option_pair(text: &str) -> Option<(&str, &str)> {
    let (word, option) = text.split_once('=')?;
    let is_option = ["opt", "option"].iter().any(|known| word.trim().eq_ignore_ascii_case(known));
    option.split_once('=').filter(|(key, _)| is_option && !key.is_empty())
}

fn pair(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.trim().is_empty())?;
    Some((key.trim().to_owned(), value.to_owned()))
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = text.split_once("://")?;
    found.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn unknown_option(key: &str, source_kind: &'static str, known: &'static str) -> InputError {
    InputError::Option { key: key.chars().take(60).collect(), source_kind, known }
}

fn source(text: &str, options: &[(&str, &str)]) -> Result<Source, InputError> {
    if text.is_empty() {
        return Err(form(text, "an input", "a path, a blob hash or a URI"));
    }
    if text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:")) {
        no_options(options, "inline")?;
        return Ok(Source::Inline(InlineSource { url: text.into() }));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return if is_blob(text) { blob(text, options) } else { local(text, options) };
    };
    match scheme.to_ascii_lowercase().as_str() {
        "blob" => blob(rest, options),
        "file" => local(rest, options),
        "s3" => s3(rest, options),
        "ipfs" => {
            no_options(options, "ipfs")?;
            Ok(Source::Ipfs(IpfsSource { cid: rest.into() }))
        }
        "ipns" => {
            no_options(options, "ipns")?;
            Ok(Source::Ipfs(IpfsSource { cid: format!("ipns://{rest}") }))
        }
        "http" | "https" => {
            let mut url = UrlSource { url: text.into(), ..UrlSource::default() };
            for &(key, value) in options {
                match key.to_ascii_lowercase().as_str() {
                    "checksum-256" | "checksum256" => url.checksum_sha256 = value.into(),
                    _ => return Err(unknown_option(key, "urlDownload", "checksum-256")),
                }
            }
            Ok(Source::UrlDownload(url))
        }
        _ => Err(InputError::Scheme(quoted(text))),
    }
}

fn no_options(options: &[(&str, &str)], source_kind: &'static str) -> Result<(), InputError> {
    options.first().map_or(Ok(()), |(key, _)| Err(unknown_option(key, source_kind, "none")))
}

/// Whether a text without scheme is content in the mesh rather than a path. `./` before it makes it a path.
fn is_blob(text: &str) -> bool {
    let root = text.split_once('/').map_or(text, |(root, _)| root);
    BlobRoot::parse(root, ContentKind::Raw).is_some()
}

/// `HASH` is a file, `HASH/` a folder; `opt=kind=folder` says the same. `HASH/PATH` is a part of a folder. A ticket,
/// which knows what it is, can stand in the place of a hash.
fn blob(text: &str, options: &[(&str, &str)]) -> Result<Source, InputError> {
    let (root, path, mut kind) = match text.split_once('/') {
        Some((root, path)) => (root, path.trim_matches('/'), ContentKind::Collection),
        None => (text, "", ContentKind::Raw),
    };
    for (key, value) in options {
        kind = match (key.to_ascii_lowercase().as_str(), value.to_ascii_lowercase().as_str()) {
            ("kind", "file") => ContentKind::Raw,
            ("kind", "folder") => ContentKind::Collection,
            _ => return Err(unknown_option(key, "blob", "kind=file, kind=folder")),
        };
    }
    let wrong = || form(text, "a blob", "blob://HASH, blob://HASH/ for a folder, blob://HASH/PATH or a blob ticket");
    let root = BlobRoot::parse(root, kind).ok_or_else(wrong)?;
    Ok(Source::Blob(BlobSource { root, path: path.to_owned() }))
}

fn local(path: &str, options: &[(&str, &str)]) -> Result<Source, InputError> {
    let mut local = LocalSource { source_path: path.into(), ..LocalSource::default() };
    for (key, value) in options {
        local.read_write = match (key.to_ascii_lowercase().as_str(), value.to_ascii_lowercase().as_str()) {
            ("rw" | "read-write" | "readwrite", "true") => true,
            ("rw" | "read-write" | "readwrite", "false") => false,
            _ => return Err(unknown_option(key, "file", "rw=true, rw=false")),
        };
    }
    Ok(Source::LocalDirectory(local))
}

fn s3(rest: &str, options: &[(&str, &str)]) -> Result<Source, InputError> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let mut s3 = S3Source { bucket: bucket.into(), key: key.into(), ..S3Source::default() };
    for &(key, value) in options {
        let place = match key.to_ascii_lowercase().as_str() {
            "endpoint" => &mut s3.endpoint,
            "region" => &mut s3.region,
            "versionid" | "version-id" => &mut s3.version_id,
            "checksum-256" | "checksum256" => &mut s3.checksum_sha256,
            "filter" => &mut s3.filter,
            "pattern" => &mut s3.partition.pattern,
            "date-format" | "dateformat" => &mut s3.partition.date_format,
            option @ ("partition" | "start-index" | "startindex" | "end-index" | "endindex") => {
                s3_partition(&mut s3.partition, option, value)?;
                continue;
            }
            _ => return Err(unknown_option(key, "s3", S3_OPTIONS)),
        };
        *place = value.into();
    }
    Ok(Source::S3(Box::new(s3)))
}

const S3_OPTIONS: &str = "endpoint, region, versionID, checksum-256, filter, partition, pattern, start-index, \
                          end-index, date-format";

fn s3_partition(partition: &mut S3Partition, option: &str, value: &str) -> Result<(), InputError> {
    let wrong = |example| form(value, "a partition", example);
    let index = || value.parse().map_err(|_| wrong("opt=start-index=0,opt=end-index=4"));
    match option {
        "partition" => {
            let known = S3PartitionBy::NAMES.iter().find(|(name, _)| value.eq_ignore_ascii_case(name));
            partition.by = known.ok_or_else(|| wrong("opt=partition=object, regex, substring, date or none"))?.1;
        }
        "start-index" | "startindex" => partition.start_index = index()?,
        _ => partition.end_index = index()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
