//! The `urlDownload` source: one file of the web, in a folder of its own.
//!
//! The bytes are those that the server sends, never decompressed. What was read before is used again when the server
//! says that it is still the same.

mod name;
pub(super) mod transfer;

#[cfg(test)]
pub(super) mod tests;

use reqwest::header::{
    CONTENT_DISPOSITION, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Response, Url};
use shoal_protocol::job::spec::UrlSource;

use self::name::file_name;
use self::transfer::{Answer, Bounds, Limits, Transfer};
use super::reach::{Clients, Reach};
use super::{Asker, Cache, DataError, Obtained, Request};
use crate::blobs::{Blobs, Imported};

#[derive(Debug)]
pub(super) struct Reader {
    clients: Clients,
    limits: Limits,
    /// Whether jobs of other peers may read from addresses that are not public.
    private_addresses: bool,
}

impl Reader {
    pub(super) fn new(private_addresses: bool) -> Self {
        Self { clients: Clients::new(), limits: Limits::default(), private_addresses }
    }

    pub(super) async fn obtain(
        &self,
        blobs: &Blobs,
        cache: &Cache,
        source: &UrlSource,
        request: &Request<'_>,
    ) -> Result<Obtained, DataError> {
        let url = parse(&source.url)?;
        let thing = shown(&url);
        let total = self.limits.total;
        let read = self.read(blobs, cache, source, url, request);
        let late = |_| DataError::new(thing, format!("was not read in {} s", total.as_secs()), TOO_SLOW);
        tokio::time::timeout(total, read).await.map_err(late)?
    }

    async fn read(
        &self,
        blobs: &Blobs,
        cache: &Cache,
        source: &UrlSource,
        url: Url,
        request: &Request<'_>,
    ) -> Result<Obtained, DataError> {
        let slot = cache.slot(format!("url {} {url}", source.checksum_sha256)).await;
        let known = slot.known().await;
        let reach = match request.asker {
            Asker::Owner => Reach::Anywhere,
            Asker::Peer if self.private_addresses => Reach::Anywhere,
            Asker::Peer => Reach::Public,
        };
        let thing = shown(&url);
        let bounds = Bounds { max_bytes: request.max_bytes, progress: request.progress };
        let mut transfer = Transfer::new(&self.clients, self.limits, url.clone(), reach, bounds);
        let condition = known.as_ref().map(|known| condition(&known.validator)).unwrap_or_default();
        let (answer, known) = match (transfer.ask(&condition).await?, known) {
            (Answer::Unchanged, Some(known)) => {
                let validator = known.validator;
                return Ok(Obtained { parts: known.parts, origin: origin(&thing, &validator) });
            }
            (Answer::Unchanged, None) => {
                return Err(DataError::new(thing, "answers that nothing has changed, to a first question", FAULTY));
            }
            (Answer::Content(answer), known) => (answer, known),
        };
        drop(known);
        let (name, validator) = (named(&url, &answer), validator(answer.headers()));
        let (file, sha256) = transfer.import(answer, blobs).await?;
        check(&thing, &source.checksum_sha256, sha256)?;
        let folder = folder(blobs, name, file).await.map_err(|reason| DataError::new(&thing, reason, "try again"))?;
        let parts = vec![folder];
        slot.remember(&parts, &validator).await;
        Ok(Obtained { parts, origin: origin(&thing, &validator) })
    }
}

/// What to do about a server that is too slow.
const TOO_SLOW: &str = "download it with other means, and submit the file";
/// What to do about a server that does not keep to HTTP.
const FAULTY: &str = "the server is at fault: download the file with other means, and submit it";

fn parse(text: &str) -> Result<Url, DataError> {
    // The text may hold a password, so it is not repeated.
    let wrong = |reason: String| DataError::new("the URL of an input", reason, "write http://HOST/PATH or https://…");
    let mut url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    match url.scheme() {
        "http" | "https" => {
            url.set_fragment(None);
            Ok(url)
        }
        scheme => Err(wrong(format!("has the scheme '{scheme}'"))),
    }
}

/// A URL as people may see it: passwords and signatures stay out.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if url.query().is_some() {
        url.set_query(Some("…"));
        return url.as_str().replace("%E2%80%A6", "…");
    }
    url.into()
}

fn named(url: &Url, answer: &Response) -> String {
    let disposition = answer.headers().get(CONTENT_DISPOSITION);
    let disposition = disposition.map(|value| String::from_utf8_lossy(value.as_bytes()));
    file_name(url, disposition.as_deref())
}

/// A folder that holds just the file, as programs written for Bacalhau expect it.
async fn folder(blobs: &Blobs, name: String, file: Imported) -> Result<Imported, String> {
    blobs.compose(vec![(name, file.content.hash)]).await.map_err(|error| error.to_string())
}

/// What tells later whether the file is still the same: its header's name and value. Empty if the server has nothing.
fn validator(headers: &HeaderMap) -> String {
    let found = [ETAG, LAST_MODIFIED].into_iter().find_map(|name| {
        let value = headers.get(&name)?.to_str().ok()?;
        Some(format!("{name}: {value}"))
    });
    found.unwrap_or_default()
}

/// Asks for the file only if it is not what `validator` says.
fn condition(validator: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some((name, value)) = validator.split_once(": ")
        && let Ok(value) = HeaderValue::from_str(value)
    {
        headers.insert(if name == ETAG.as_str() { IF_NONE_MATCH } else { IF_MODIFIED_SINCE }, value);
    }
    headers
}

fn origin(thing: &str, validator: &str) -> String {
    if validator.is_empty() { thing.to_owned() } else { format!("{thing} ({validator})") }
}

/// Compares the file's checksum with the wanted one, in hexadecimal or, as S3 has it, base64.
fn check(thing: &str, wanted: &str, sha256: [u8; 32]) -> Result<(), DataError> {
    let hex = data_encoding::HEXLOWER.encode(&sha256);
    let same =
        wanted.is_empty() || wanted.eq_ignore_ascii_case(&hex) || wanted == data_encoding::BASE64.encode(&sha256);
    let reason = || format!("has the SHA-256 {hex}, not {wanted}");
    if same { Ok(()) } else { Err(DataError::new(thing, reason(), "check the file, or correct ChecksumSHA256")) }
}
