//! Who has blocks: a trustless gateway, or a Kubo node. What they say is checked by whoever asks.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::ipfs::{Address, CarReader, Cid, MAX_BLOCK_BYTES, RAW};
use crate::sources::DataError;

/// How long a connection may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Most redirects of one request.
const MAX_REDIRECTS: usize = 3;
/// Most bytes that are read of what a node answers besides blocks.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Most letters of a provider's own words in an error.
const MAX_QUOTE: usize = 200;

const RAW_TYPE: &str = "application/vnd.ipld.raw";
const CAR_TYPE: &str = "application/vnd.ipld.car";

/// Blocks as they arrive.
pub(super) type Archive = CarReader<Pin<Box<dyn AsyncRead + Send>>>;

/// Somebody who may have blocks. Errors are reasons, for a person.
#[async_trait]
pub(super) trait Provider: fmt::Display + fmt::Debug + Send + Sync {
    /// One block, of at most [`MAX_BLOCK_BYTES`].
    async fn block(&self, cid: &Cid) -> Result<Bytes, String>;

    /// The blocks on the way down from `cid`, and all below its end; none if there are no archives to be had.
    async fn archive(&self, cid: &Cid, way: &[String]) -> Result<Option<Archive>, String>;
}

/// A trustless gateway: HTTP, `GET /ipfs/CID?format=raw|car`.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    base: Url,
    http: Client,
}

/// A Kubo node: HTTP, `POST /api/v0/…`.
#[derive(Debug, Clone)]
pub(crate) struct Kubo {
    base: Url,
    http: Client,
}

impl Gateway {
    pub(super) fn new(text: &str) -> Result<Self, DataError> {
        let remedy = "write the option ipfs_gateways like https://gateway.example";
        Ok(Self { base: base(text, "gateway", remedy)?, http: client("gateway")? })
    }

    fn url(&self, cid: &Cid, way: &[String], query: &[(&str, &str)]) -> Url {
        let mut url = at(&self.base, &["ipfs", &cid.to_string()]);
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.extend(way);
        }
        url.query_pairs_mut().extend_pairs(query);
        url
    }

    async fn get(&self, url: Url, accept: String) -> Result<Response, String> {
        self.http.get(url).header(ACCEPT, accept).send().await.map_err(|error| describe(&error))
    }
}

#[async_trait]
impl Provider for Gateway {
    async fn block(&self, cid: &Cid) -> Result<Bytes, String> {
        let response = self.get(self.url(cid, &[], &[("format", "raw")]), RAW_TYPE.into()).await?;
        match response.status() {
            StatusCode::OK => body(response, MAX_BLOCK_BYTES).await,
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(format!("it does not have block {cid}")),
            status => Err(format!("it answered {status}")),
        }
    }

    async fn archive(&self, cid: &Cid, way: &[String]) -> Result<Option<Archive>, String> {
        let accept = format!("{CAR_TYPE}; version=1; order=dfs; dups=y");
        let query = [("format", "car"), ("dag-scope", "all"), ("car-order", "dfs"), ("car-dups", "y")];
        let response = self.get(self.url(cid, way, &query), accept).await?;
        let is_archive = |value: &str| value.starts_with(CAR_TYPE);
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        match response.status() {
            StatusCode::OK => Ok(kind.is_some_and(is_archive).then(|| archive(response))),
            // What some answer who do not know the format.
            status if status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED => Ok(None),
            status => Err(format!("it answered {status}")),
        }
    }
}

impl Kubo {
    pub(crate) fn new(text: &str) -> Result<Self, DataError> {
        let remedy = "write the option ipfs_api like http://127.0.0.1:5001";
        Ok(Self { base: base(text, "Kubo node", remedy)?, http: client("Kubo node")? })
    }

    /// Where a name points to now. Kubo checks the name's signature, or asks DNS.
    pub(super) async fn resolve(&self, name: &str) -> Result<Address, String> {
        #[derive(serde::Deserialize)]
        struct Resolved {
            #[serde(rename = "Path")]
            path: String,
        }
        let response = self.post("name/resolve", &[("arg", &format!("/ipns/{name}")), ("recursive", "true")]).await?;
        let answer = body(response, MAX_ANSWER_BYTES).await?;
        let resolved: Resolved =
            serde_json::from_slice(&answer).map_err(|_| "it answered something else".to_owned())?;
        Address::parse(&resolved.path)
            .map_err(|reason| format!("it answered {}, which {reason}", quote(&resolved.path)))
    }

    async fn post(&self, command: &str, query: &[(&str, &str)]) -> Result<Response, String> {
        let response = self.http.post(self.url(command, query)).send().await.map_err(|error| describe(&error))?;
        accepted(response).await
    }

    fn url(&self, command: &str, query: &[(&str, &str)]) -> Url {
        let mut url = at(&self.base, &["api", "v0"]);
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.extend(command.split('/'));
        }
        url.query_pairs_mut().extend_pairs(query);
        url
    }
}

#[async_trait]
impl Provider for Kubo {
    async fn block(&self, cid: &Cid) -> Result<Bytes, String> {
        body(self.post("block/get", &[("arg", &cid.to_string())]).await?, MAX_BLOCK_BYTES).await
    }

    async fn archive(&self, cid: &Cid, way: &[String]) -> Result<Option<Archive>, String> {
        // An export is of all below a block, so the way to it is gone block by block.
        if !way.is_empty() || cid.codec() == RAW {
            return Ok(None);
        }
        let response = self.post("dag/export", &[("arg", &cid.to_string()), ("progress", "false")]).await?;
        Ok(Some(archive(response)))
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gateway {}", shown(&self.base))
    }
}

impl fmt::Display for Kubo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kubo node {}", shown(&self.base))
    }
}

fn archive(response: Response) -> Archive {
    let bytes = response.bytes_stream().map_err(|error| io::Error::other(describe(&error)));
    CarReader::new(Box::pin(StreamReader::new(bytes)))
}

/// An answer's body, of at most `limit` bytes.
async fn body(mut response: Response, limit: usize) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(|error| describe(&error))? {
        if body.len() + piece.len() > limit {
            return Err(format!("it answered more than {limit} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// An answer that is no error. Kubo says what is wrong in a field of JSON.
async fn accepted(response: Response) -> Result<Response, String> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let answer = body(response, MAX_ANSWER_BYTES).await.unwrap_or_default();
    let said = serde_json::from_slice::<serde_json::Value>(&answer).ok();
    match said.as_ref().and_then(|said| said["Message"].as_str()) {
        Some(message) => Err(format!("it says: {}", quote(message))),
        None => Err(format!("it answered {status}")),
    }
}

fn base(text: &str, what: &str, remedy: &str) -> Result<Url, DataError> {
    let wrong = |reason: &str| DataError::new(format!("the {what}'s address"), reason, remedy);
    let mut url: Url = text.trim().parse().map_err(|_| wrong("is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("is no URL of http or https"));
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn at(base: &Url, parts: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(parts);
    }
    url
}

fn client(what: &str) -> Result<Client, DataError> {
    // Whoever in this process is first sets it; all set the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().connect_timeout(CONNECT_WITHIN).redirect(Policy::custom(redirect));
    let broken = |error| DataError::new(format!("the {what}"), describe(&error), "check the system's certificates");
    builder.build().map_err(broken)
}

/// Follows a gateway to its own subdomains, where some serve each CID, and to nobody else.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let near = attempt.previous().first().is_some_and(|first| {
        let (from, to) = (first.host_str().unwrap_or_default(), attempt.url().host_str().unwrap_or_default());
        let secure = first.scheme() != "https" || attempt.url().scheme() == "https";
        secure && (to == from || to.ends_with(&format!(".{from}")))
    });
    if near && attempt.previous().len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
}

/// An address without the password that may be in it.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = url.path().trim_end_matches('/');
    format!("{}://{}{port}{path}", url.scheme(), url.host_str().unwrap_or_default())
}

/// The last cause of a failed request: the rest repeats its address.
fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it does not answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_connect() {
        format!("it cannot be reached ({cause})")
    } else {
        format!("the transfer failed ({cause})")
    }
}

fn quote(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_QUOTE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_never_shown() {
        let gateway = Gateway::new("https://user:secret@gateway.example:8443/trustless/?key=secret").unwrap();
        assert_eq!(gateway.to_string(), "gateway https://gateway.example:8443/trustless");
        let kubo = Kubo::new("http://user:secret@[::1]:5001/").unwrap();
        assert_eq!(kubo.to_string(), "Kubo node http://[::1]:5001");
        let error = Kubo::new("secret").unwrap_err().to_string();
        assert!(error.contains("ipfs_api") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn names_on_the_way_cannot_leave_the_path() {
        let gateway = Gateway::new("http://gateway.example/base").unwrap();
        let cid: Cid = "bafkqablimvwgy3y".parse().unwrap();
        let way = ["a b".to_owned(), "?x=y#z".to_owned(), "%2e".to_owned()];
        let url = gateway.url(&cid, &way, &[("format", "car")]);
        let expected = "http://gateway.example/base/ipfs/bafkqablimvwgy3y/a%20b/%3Fx=y%23z/%252e?format=car";
        assert_eq!(url.as_str(), expected);
    }
}
