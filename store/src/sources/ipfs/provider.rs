//! Who has blocks: a trustless gateway, or a Kubo node. What they say is checked by whoever asks.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Body, Client, Response, StatusCode, Url};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::ipfs::{Address, CarReader, Cid, MAX_BLOCK_BYTES, RAW};
use crate::sources::DataError;
use crate::trees::Trees;

/// How long a connection may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long an import may rest before it is given up: Kubo writes all to its disk in the end.
const STALLED_AFTER: Duration = Duration::from_secs(120);
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

    /// Gives the node an archive, whose root it is to pin.
    pub(crate) async fn import<S>(&self, root: &str, archive: S) -> Result<(), String>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let moved = Arc::new(AtomicU64::new(0));
        let (kind, file) = form(archive, Arc::clone(&moved))?;
        let url = self.url("dag/import", &[("pin-roots", "true")]);
        let answer = async {
            let request = self.http.post(url).header(CONTENT_TYPE, kind).body(file);
            body(accepted(request.send().await.map_err(|error| describe(&error))?).await?, MAX_ANSWER_BYTES).await
        };
        check_import(root, &unless_stalled(answer, &moved).await?)
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

/// This node, for what it published itself.
#[async_trait]
impl Provider for Trees {
    async fn block(&self, cid: &Cid) -> Result<Bytes, String> {
        let block = Trees::block(self, cid).await.map_err(|error| error.to_string())?;
        block.ok_or_else(|| format!("it does not have block {cid}"))
    }

    async fn archive(&self, _: &Cid, _: &[String]) -> Result<Option<Archive>, String> {
        Ok(None)
    }
}

impl fmt::Display for Trees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this node")
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

/// An archive as a form with one file, which is how Kubo takes it: the form's type, and its body. Each piece that is
/// taken is counted.
fn form<S>(archive: S, moved: Arc<AtomicU64>) -> Result<(String, Body), String>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    // Drawn by chance: a result must not be able to hold it.
    let mut chance = [0; 16];
    getrandom::fill(&mut chance).map_err(|error| format!("the system gives no randomness: {error}"))?;
    let boundary = HEXLOWER.encode(&chance);
    let file = r#"Content-Disposition: form-data; name="file"; filename="result.car""#;
    let start = format!("--{boundary}\r\n{file}\r\nContent-Type: {CAR_TYPE}\r\n\r\n");
    let end = format!("\r\n--{boundary}--\r\n");
    let piece = |text: String| stream::iter([Ok(Bytes::from(text))]);
    let counted = archive.inspect(move |_| {
        moved.fetch_add(1, Ordering::Relaxed);
    });
    let body = Body::wrap_stream(piece(start).chain(counted).chain(piece(end)));
    Ok((format!("multipart/form-data; boundary={boundary}"), body))
}

/// Waits for work that may take long, as long as something moves.
async fn unless_stalled<T>(work: impl Future<Output = Result<T, String>>, moved: &AtomicU64) -> Result<T, String> {
    let mut work = std::pin::pin!(work);
    let mut before = 0;
    loop {
        if let Ok(done) = tokio::time::timeout(STALLED_AFTER, &mut work).await {
            return done;
        }
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return Err(format!("nothing moved for {STALLED_AFTER:?}"));
        }
        before = now;
    }
}

/// What Kubo says of an import: a line of JSON for each root.
fn check_import(root: &str, answer: &[u8]) -> Result<(), String> {
    let lines = answer.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    for line in lines.collect::<Vec<serde_json::Value>>() {
        if let Some(message) = line["Message"].as_str() {
            return Err(format!("it says: {}", quote(message)));
        }
        if line["Root"]["Cid"]["/"] == root {
            return match line["Root"]["PinErrorMsg"].as_str() {
                None | Some("") => Ok(()),
                Some(message) => Err(format!("it does not pin it: {}", quote(message))),
            };
        }
    }
    Err("it does not confirm the import".into())
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

    #[test]
    fn an_import_counts_when_kubo_says_that_it_pinned_the_root() {
        let table = [
            (r#"{"Root":{"Cid":{"/":"bafy"},"PinErrorMsg":""}}"#, Ok(())),
            ("{\"Stats\":{\"BlockCount\":3}}\n{\"Root\":{\"Cid\":{\"/\":\"bafy\"}}}\n", Ok(())),
            (r#"{"Root":{"Cid":{"/":"bafy"},"PinErrorMsg":"full"}}"#, Err("it does not pin it: full")),
            (r#"{"Root":{"Cid":{"/":"other"},"PinErrorMsg":""}}"#, Err("it does not confirm the import")),
            (r#"{"Message":"bad block","Code":0,"Type":"error"}"#, Err("it says: bad block")),
            ("", Err("it does not confirm the import")),
        ];
        for (answer, expected) in table {
            assert_eq!(check_import("bafy", answer.as_bytes()), expected.map_err(str::to_owned), "{answer}");
        }
    }
}
