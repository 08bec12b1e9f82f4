//! One file over HTTP, in spite of servers that break off, redirect, refuse for a while, or never end.
//!
//! A transfer that breaks in the middle goes on where it was, if the server has a strong entity tag and resumes; else
//! it begins anew. Everything has a bound: redirects, retries, size, silence, slowness, and the whole.

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use futures_util::stream;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Response, StatusCode, Url};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::super::reach::{Clients, NotPublic, Reach};
use super::super::{DataError, Progress};
use super::{FAULTY, TOO_SLOW, shown};
use crate::blobs::{Blobs, Imported};

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 10;
/// Pieces that wait for the disk; the server waits meanwhile.
const MAX_WAITING: usize = 8;
/// Progress that earns a transfer its retries again, in bytes.
const WORTH_RETRYING: u64 = 1 << 20;
/// The least that a server must send in `Limits::slow`, in bytes.
const LEAST_BYTES: u64 = 60 << 10;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(in crate::sources) struct Limits {
    /// From a question to the first line of its answer, with the connection.
    pub(in crate::sources) answer: Duration,
    /// Between two pieces of a file.
    pub(in crate::sources) stall: Duration,
    /// A time in which some progress must be made: 1 KiB a second.
    pub(in crate::sources) slow: Duration,
    /// The first pause before a retry; each is twice as long as the one before.
    pub(in crate::sources) pause: Duration,
    /// The longest pause that a server may ask for.
    pub(in crate::sources) longest_pause: Duration,
    /// Retries in a row.
    pub(in crate::sources) retries: usize,
    /// All of it.
    pub(in crate::sources) total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            slow: Duration::from_secs(60),
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
            retries: 3,
            total: Duration::from_secs(6 * 3_600),
        }
    }
}

/// What a server says.
pub(super) enum Answer {
    /// The file, from its start.
    Content(Response),
    /// It is what it was.
    Unchanged,
}

/// Why there is no file.
enum Fault {
    /// It may be better in a moment, or when the server says.
    Passing { reason: String, remedy: &'static str, after: Option<Duration> },
    /// It will not be better.
    Lasting { reason: String, remedy: &'static str },
}

/// How much may come, and who hears how much has.
#[derive(Clone, Copy)]
pub(in crate::sources) struct Bounds<'a> {
    /// The most, in bytes.
    pub(in crate::sources) max_bytes: u64,
    /// Hears how much was read, often.
    pub(in crate::sources) progress: &'a (dyn Fn(Progress) + Send + Sync),
}

/// The reading of one URL.
pub(in crate::sources) struct Transfer<'a> {
    clients: &'a Clients,
    limits: Limits,
    url: Url,
    /// Where to it may lead; once it was seen to be outside, inside is closed.
    reach: Reach,
    bounds: Bounds<'a>,
    /// What shows the URL's own server who asks; no other gets it.
    authorization: Option<HeaderValue>,
    pauses: ExponentialBackoff,
    /// Of the file as far as it was handed on.
    sha256: Sha256,
    received: u64,
    /// What had been received at the last retry.
    retried_at: u64,
    total: Option<u64>,
}

impl<'a> Transfer<'a> {
    pub(in crate::sources) fn new(
        clients: &'a Clients,
        limits: Limits,
        url: Url,
        reach: Reach,
        bounds: Bounds<'a>,
    ) -> Self {
        let pauses = pauses(limits);
        let sha256 = Sha256::new();
        let (authorization, total) = (None, None);
        Self { clients, limits, url, reach, bounds, authorization, pauses, sha256, received: 0, retried_at: 0, total }
    }

    /// Shows the server who asks.
    pub(in crate::sources) fn authorized(self, authorization: Option<HeaderValue>) -> Self {
        Self { authorization, ..self }
    }

    /// Where to it may still lead.
    pub(in crate::sources) fn reach(&self) -> Reach {
        self.reach
    }

    /// Asks, with `headers`, until there is an answer that will not be better in a moment.
    pub(in crate::sources) async fn respond(&mut self, headers: &HeaderMap) -> Result<Response, DataError> {
        loop {
            let answer = match self.ask_once(headers).await {
                Ok(answer) if is_passing(answer.status()) => busy(&answer),
                other => other,
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(fault) => self.pause(fault).await?,
            }
        }
    }

    /// Asks for the file, with `condition` among the headers, until there is a lasting answer.
    pub(super) async fn ask(&mut self, condition: &HeaderMap) -> Result<Answer, DataError> {
        loop {
            match self.ask_once(condition).await.and_then(understood) {
                Ok(answer) => return Ok(answer),
                Err(fault) => self.pause(fault).await?,
            }
        }
    }

    /// Makes a blob of the file that `answer` brings, and tells its SHA-256.
    pub(in crate::sources) async fn import(
        &mut self,
        answer: Response,
        blobs: &Blobs,
    ) -> Result<(Imported, [u8; 32]), DataError> {
        let mut answer = answer;
        loop {
            match self.import_once(answer, blobs).await {
                Ok(imported) => return Ok((imported, self.sha256.clone().finalize().into())),
                Err(fault) => self.pause(fault).await?,
            }
            answer = match self.ask(&HeaderMap::new()).await? {
                Answer::Content(answer) => answer,
                Answer::Unchanged => return Err(self.error("answers that it has not changed, unasked", FAULTY)),
            };
        }
    }

    async fn import_once(&mut self, answer: Response, blobs: &Blobs) -> Result<Imported, Fault> {
        self.begin(&answer)?;
        let (pieces, mut received) = mpsc::channel(MAX_WAITING);
        let added = blobs.add_stream(stream::poll_fn(move |context| received.poll_recv(context)));
        let (fed, added) = tokio::join!(self.feed(answer, pieces), added);
        fed?;
        let full = "make room on the node's disk, and see that its blob store works";
        added.map_err(|error| lasting(error.to_string(), full))
    }

    /// Takes note of what the whole file is to be.
    fn begin(&mut self, answer: &Response) -> Result<(), Fault> {
        (self.sha256, self.received, self.retried_at) = (Sha256::new(), 0, 0);
        self.total = answer.content_length();
        match self.total {
            Some(total) if total > self.bounds.max_bytes => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    /// Hands on the file. However it ends early, the receiver hears of it: half a file must not pass for one.
    async fn feed(&mut self, answer: Response, pieces: mpsc::Sender<io::Result<Bytes>>) -> Result<(), Fault> {
        let fed = self.feed_resuming(answer, &pieces).await;
        if fed.is_err() {
            let _ = pieces.send(Err(io::Error::other("the transfer has failed"))).await;
        }
        fed
    }

    async fn feed_resuming(
        &mut self,
        mut answer: Response,
        pieces: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), Fault> {
        let tag = strong_tag(&answer);
        while let Err(fault) = self.copy(&mut answer, pieces).await {
            let Some(tag) = tag.as_ref().filter(|_| self.received > 0) else { return Err(fault) };
            tracing::debug!(url = shown(&self.url), at = self.received, "goes on with a transfer that broke off");
            self.wait(fault).await?;
            answer = self.resume(tag).await?;
        }
        Ok(())
    }

    /// Copies what one answer brings.
    async fn copy(&mut self, answer: &mut Response, pieces: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), Fault> {
        let (mut since, mut before) = (Instant::now(), self.received);
        loop {
            let stalled = |_| passing(format!("sent nothing for {:?}", self.limits.stall), TOO_SLOW);
            let piece = timeout(self.limits.stall, answer.chunk()).await.map_err(stalled)?;
            let Some(piece) = piece.map_err(|error| broken(&error))? else { return Ok(()) };
            self.received += piece.len() as u64;
            if self.received > self.bounds.max_bytes {
                return Err(self.too_large());
            }
            if since.elapsed() > self.limits.slow {
                if self.received - before < LEAST_BYTES {
                    return Err(lasting("sends less than 1 KiB a second".into(), TOO_SLOW));
                }
                (since, before) = (Instant::now(), self.received);
            }
            self.sha256.update(&piece);
            let gone = |_| lasting("was not stored".into(), "see that the node's blob store works");
            pieces.send(Ok(piece)).await.map_err(gone)?;
            (self.bounds.progress)(Progress { bytes: self.received, total: self.total });
        }
    }

    /// The rest of the file whose strong entity tag is `tag`. A server that cannot go on is asked for all of it later.
    async fn resume(&mut self, tag: &HeaderValue) -> Result<Response, Fault> {
        let mut headers = HeaderMap::new();
        let range = format!("bytes={}-", self.received);
        headers.insert(RANGE, HeaderValue::from_str(&range).expect("digits are a header's value"));
        headers.insert(IF_RANGE, tag.clone());
        loop {
            match self.ask_once(&headers).await {
                Ok(answer) if continues(&answer, self.received, tag) => return Ok(answer),
                Ok(_) => return Err(passing("broke off and does not go on where it was".into(), TOO_SLOW)),
                Err(fault) => self.wait(fault).await?,
            }
        }
    }

    /// Asks once, and follows redirects.
    async fn ask_once(&mut self, headers: &HeaderMap) -> Result<Response, Fault> {
        let (mut url, mut reach) = (self.url.clone(), self.reach);
        let mut visited = BTreeSet::new();
        loop {
            let answer = self.send(&url, reach, headers).await?;
            reach = self.clients.beyond(answer.remote_addr(), reach);
            if url == self.url {
                self.reach = reach;
            }
            let Some(next) = redirect(&url, &answer)? else { return Ok(answer) };
            visited.insert(url.to_string());
            if visited.contains(next.as_str()) {
                return Err(lasting("redirects in a circle".into(), "use the address where the file is"));
            }
            if visited.len() > MAX_REDIRECTS {
                let reason = format!("redirects more than {MAX_REDIRECTS} times");
                return Err(lasting(reason, "use the address where the file is"));
            }
            url = next;
        }
    }

    async fn send(&self, url: &Url, reach: Reach, headers: &HeaderMap) -> Result<Response, Fault> {
        let client = self.clients.get(url, reach).map_err(|error| not_public(&error))?;
        let question = client.get(url.clone()).headers(headers.clone()).header(ACCEPT_ENCODING, "identity");
        let question = match &self.authorization {
            Some(shown) if url.origin() == self.url.origin() => question.header(AUTHORIZATION, shown),
            _ => question,
        };
        let late = |_| passing(format!("did not answer within {:?}", self.limits.answer), "see that its server is up");
        timeout(self.limits.answer, question.send()).await.map_err(late)?.map_err(|error| unanswered(&error))
    }

    /// Pauses before the next try; an error if there is to be none.
    async fn pause(&mut self, fault: Fault) -> Result<(), DataError> {
        self.wait(fault).await.map_err(|fault| match fault {
            Fault::Passing { reason, remedy, .. } | Fault::Lasting { reason, remedy } => self.error(reason, remedy),
        })
    }

    async fn wait(&mut self, fault: Fault) -> Result<(), Fault> {
        let Fault::Passing { reason, remedy, after } = fault else { return Err(fault) };
        if self.received >= self.retried_at + WORTH_RETRYING {
            self.pauses = pauses(self.limits);
        }
        self.retried_at = self.received;
        let after = after.unwrap_or_default();
        match self.pauses.next() {
            Some(pause) if after <= self.limits.longest_pause => {
                tracing::debug!(url = shown(&self.url), reason, "tries a source again");
                tokio::time::sleep(pause.max(after)).await;
                Ok(())
            }
            _ => Err(lasting(reason, remedy)),
        }
    }

    fn too_large(&self) -> Fault {
        let most = self.bounds.max_bytes;
        let reason = match self.total {
            Some(total) if total > most => format!("has {total} bytes, more than the {most} that an input may have"),
            _ => format!("has more than the {most} bytes that an input may have"),
        };
        lasting(reason, "use a smaller file")
    }

    fn error(&self, reason: impl Into<String>, remedy: &str) -> DataError {
        DataError::new(shown(&self.url), reason, remedy)
    }
}

fn pauses(limits: Limits) -> ExponentialBackoff {
    let builder = ExponentialBuilder::new().with_min_delay(limits.pause).with_max_delay(limits.longest_pause);
    builder.with_max_times(limits.retries).with_jitter().build()
}

fn passing(reason: String, remedy: &'static str) -> Fault {
    Fault::Passing { reason, remedy, after: None }
}

fn lasting(reason: String, remedy: &'static str) -> Fault {
    Fault::Lasting { reason, remedy }
}

fn not_public(error: &NotPublic) -> Fault {
    let remedy = "name the address itself in a job of your own node, or let its operator allow private addresses";
    lasting(error.to_string(), remedy)
}

/// Tells the file from everything else that a server may say.
fn understood(answer: Response) -> Result<Answer, Fault> {
    let status = answer.status();
    let reason = format!("answers {status}");
    match status {
        StatusCode::OK => Ok(Answer::Content(answer)),
        StatusCode::NOT_MODIFIED => Ok(Answer::Unchanged),
        status if is_passing(status) => busy(&answer),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(lasting(reason, "write USER:PASSWORD@ before the host, or download it and submit the file"))
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(lasting(reason, "check the address")),
        _ => Err(lasting(reason, "check that the address is that of a file")),
    }
}

/// Whether an answer may be another one in a moment.
fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

fn busy<T>(answer: &Response) -> Result<T, Fault> {
    let reason = format!("answers {}", answer.status());
    let after = answer.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    Err(Fault::Passing { reason, remedy: "try again later", after })
}

/// Reads seconds, or a date.
fn retry_after(value: &str) -> Option<Duration> {
    let until = |date: SystemTime| date.duration_since(SystemTime::now()).unwrap_or_default();
    value.trim().parse().map(Duration::from_secs).ok().or_else(|| httpdate::parse_http_date(value).ok().map(until))
}

/// Where an answer sends us. Passwords stay with the host that they are for.
fn redirect(from: &Url, answer: &Response) -> Result<Option<Url>, Fault> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let elsewhere = |reason: &str| lasting(reason.into(), "use the address where the file is");
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| elsewhere("redirects to nowhere"))?;
    let mut to = from.join(location).map_err(|error| elsewhere(&format!("redirects to no URL: {error}")))?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") => return Err(elsewhere("redirects from https to http, where anybody could answer")),
        (_, "http" | "https") => {}
        (_, scheme) => return Err(elsewhere(&format!("redirects to the scheme '{scheme}'"))),
    }
    if to.origin() != from.origin() {
        let _ = to.set_username("");
        let _ = to.set_password(None);
    }
    to.set_fragment(None);
    Ok(Some(to))
}

/// An entity tag that promises the same bytes.
fn strong_tag(answer: &Response) -> Option<HeaderValue> {
    answer.headers().get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned()
}

/// Whether an answer is the rest of the same file from byte `at` on.
fn continues(answer: &Response, at: u64, tag: &HeaderValue) -> bool {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let from = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
    let same = answer.headers().get(ETAG).is_none_or(|other| other == tag);
    answer.status() == StatusCode::PARTIAL_CONTENT && from == Some(at) && same
}

fn broken(error: &reqwest::Error) -> Fault {
    passing(format!("broke off: {}", deepest(error)), "try again later")
}

/// Says why nobody answered, and what may be done about that.
fn unanswered(error: &reqwest::Error) -> Fault {
    if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<NotPublic>()) {
        return not_public(refused);
    }
    let reason = deepest(error);
    if causes(error).any(is_tls) {
        let remedy = "check the server's certificate, this machine's clock, and the certificates that it trusts";
        return lasting(format!("cannot be trusted: {reason}"), remedy);
    }
    if error.is_timeout() {
        return passing("does not let us connect in time".into(), "check the address, and that its server is up");
    }
    passing(format!("cannot be reached: {reason}"), "check the address, and that its server is up")
}

/// An error of TLS travels inside others of input and output.
fn is_tls(cause: &(dyn Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    cause.is::<rustls::Error>() || inner.is_some_and(|inner| is_tls(inner))
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

/// The innermost error: the outer ones repeat the URL.
fn deepest(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "no reason given".to_owned(), ToString::to_string)
}
