//! A client of a node's API, as the command line uses it.

mod sse;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::redirect::Policy;
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shoal_protocol::id::{BlobHash, ExecutionId, InvitationId, JobId, PeerId};
use shoal_protocol::job::Job;

use crate::api::{ELSEWHERE, PREFIX};
use crate::views::{
    BlobRow, BlobView, CollectedView, DiffView, DoctorView, EntryView, ErrorView, EventView, ExecutionView,
    FetchRequest, FetchedView, ImportRequest, ImportedView, InputProgressView, InviteRequest, InvitedView, JobSummary,
    JobView, KindView, MeshView, PeerView, PinView, RelayClientView, RelayView, ReplayView, SubmitReply, SubmitRequest,
    TicketView, UsageView,
};

pub use self::sse::Events;

/// How long a connection may take to come about: the node is on this machine, or near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take that needs no transfer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A client of one node.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is none that can be used.
    #[error("{0:?} is not the URL of an API: write http://IP:PORT")]
    Url(String),
    /// Nobody answers there.
    #[error("no node answers at {url}: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to the node at {url} broke: {reason}")]
    Broken {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The node says no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// A word for programs.
        code: String,
        /// Why, and what to do.
        message: String,
    },
    /// The answer is not one of ours.
    #[error("{url} does not answer like a shoal node of this version: {reason}")]
    Foreign {
        /// Where.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Which log is wanted.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Of which execution; none for the one that tells most.
    pub execution: Option<ExecutionId>,
    /// Whether to go on until the program has ended.
    pub follow: bool,
    /// Begin with so many of the last lines, instead of all.
    pub tail: Option<u32>,
}

impl Client {
    /// A client of the API at `url`, which shows `token`.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, ClientError> {
        let url = url.trim().trim_end_matches('/').to_owned();
        let wrong = || ClientError::Url(url.clone());
        let parsed = reqwest::Url::parse(&url).map_err(|_| wrong())?;
        if parsed.scheme() != "http" || !parsed.has_host() {
            return Err(wrong());
        }
        // A token for this machine has no business at a proxy, or wherever a redirection leads.
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT);
        let http = http.tls_backend_preconfigured(no_tls()).build().map_err(|_| wrong())?;
        Ok(Self { http, url, token })
    }

    /// Where the node is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the node says about itself.
    pub async fn node(&self) -> Result<Value, ClientError> {
        self.get("/node").await
    }

    /// The node's join ticket, good for so many seconds; for ever for none.
    pub async fn ticket(&self, seconds: Option<u64>) -> Result<TicketView, ClientError> {
        let query = seconds.map(|seconds| format!("?seconds={seconds}")).unwrap_or_default();
        self.get(&format!("/ticket{query}")).await
    }

    /// The private mesh that the node is in.
    pub async fn mesh(&self) -> Result<MeshView, ClientError> {
        self.get("/mesh").await
    }

    /// Has the node make an invitation into its private mesh.
    pub async fn invite(&self, request: &InviteRequest) -> Result<InvitedView, ClientError> {
        self.json(self.request(Method::POST, "/mesh/invitations").json(request).timeout(ANSWER_TIMEOUT)).await
    }

    /// Has the node take back an invitation.
    pub async fn uninvite(&self, id: InvitationId) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &format!("/mesh/invitations/{id}"));
        self.send(request.timeout(ANSWER_TIMEOUT)).await.map(drop)
    }

    /// Has the node send a peer away from its private mesh.
    pub async fn revoke(&self, peer: PeerId) -> Result<(), ClientError> {
        let request = self.request(Method::PUT, &format!("/mesh/revoked/{peer}"));
        self.send(request.timeout(ANSWER_TIMEOUT)).await.map(drop)
    }

    /// The node's peers.
    pub async fn peers(&self) -> Result<Vec<PeerView>, ClientError> {
        self.get("/peers").await
    }

    /// What the node finds when it looks at itself.
    pub async fn doctor(&self) -> Result<DoctorView, ClientError> {
        self.get("/doctor").await
    }

    /// The relays that the node knows.
    pub async fn relays(&self) -> Result<Vec<RelayView>, ClientError> {
        self.get("/relays").await
    }

    /// Who uses the node's own relay.
    pub async fn relay_clients(&self) -> Result<Vec<RelayClientView>, ClientError> {
        self.get("/relay/clients").await
    }

    /// Submits a job, or has it checked. `progress` hears how far its inputs are.
    pub async fn submit(
        &self,
        job: &Job,
        local: bool,
        dry_run: bool,
        progress: &mut (dyn FnMut(InputProgressView) + Send),
    ) -> Result<SubmitReply, ClientError> {
        let request = self.request(Method::POST, "/jobs").json(&SubmitRequest { job, local, dry_run });
        sse::answered(self, request, progress).await
    }

    /// The newest jobs.
    pub async fn jobs(&self, limit: usize) -> Result<Vec<JobSummary>, ClientError> {
        self.get(&format!("/jobs?limit={limit}")).await
    }

    /// One job, by the beginning of its id.
    pub async fn job(&self, id: &str) -> Result<JobView, ClientError> {
        self.get(&format!("/jobs/{}", word(id))).await
    }

    /// A job's executions.
    pub async fn executions(&self, id: &str) -> Result<Vec<ExecutionView>, ClientError> {
        self.get(&format!("/jobs/{}/executions", word(id))).await
    }

    /// What happened to a job.
    pub async fn history(&self, id: &str) -> Result<Vec<EventView>, ClientError> {
        self.get(&format!("/jobs/{}/history", word(id))).await
    }

    /// Has the node run a partition of a job again and compare.
    pub async fn replay(&self, id: &str, partition: u32) -> Result<ReplayView, ClientError> {
        let path = format!("/jobs/{}/replay?partition={partition}", word(id));
        self.json(self.request(Method::POST, &path)).await
    }

    /// Has the node find where an execution's run parts from its own.
    pub async fn diff(&self, id: &str, partition: u32, execution: Option<&str>) -> Result<DiffView, ClientError> {
        let execution = execution.map(|id| format!("&execution={}", word(id))).unwrap_or_default();
        let path = format!("/jobs/{}/diff?partition={partition}{execution}", word(id));
        self.json(self.request(Method::POST, &path)).await
    }

    /// Stops a job.
    pub async fn stop(&self, id: &str) -> Result<JobView, ClientError> {
        self.json(self.request(Method::DELETE, &format!("/jobs/{}", word(id))).timeout(ANSWER_TIMEOUT)).await
    }

    /// A job's events from the first on, until the job is over.
    pub fn events(&self, job: JobId) -> Events {
        Events::new(self.clone(), job)
    }

    /// One stream (`stdout` or `stderr`) of a job's program.
    pub async fn logs(
        &self,
        id: &str,
        stream: &str,
        query: &LogQuery,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + use<>, ClientError> {
        let execution = query.execution.map(|id| format!("&execution={id}")).unwrap_or_default();
        let tail = query.tail.map(|lines| format!("&tail={lines}")).unwrap_or_default();
        let path = format!("/jobs/{}/logs?stream={stream}&follow={}{execution}{tail}", word(id), query.follow);
        let response = self.send(self.request(Method::GET, &path)).await?;
        Ok(self.bytes(response))
    }

    /// Has the node read a file or folder that lies on its machine; none if it is not the one that lies here.
    /// `progress` hears how far it is.
    pub async fn import(
        &self,
        request: &ImportRequest,
        progress: &mut (dyn FnMut(ImportedView) + Send),
    ) -> Result<Option<BlobView>, ClientError> {
        let request = self.request(Method::POST, "/blobs/import").json(request);
        match sse::answered(self, request, progress).await {
            Err(error) if error.code() == Some(ELSEWHERE) => Ok(None),
            imported => imported.map(Some),
        }
    }

    /// Uploads a blob.
    pub async fn upload(&self, body: Body) -> Result<BlobView, ClientError> {
        self.json(self.request(Method::PUT, "/blobs").body(body)).await
    }

    /// Makes a folder of blobs that the node has.
    pub async fn compose(&self, files: &[EntryView]) -> Result<BlobView, ClientError> {
        self.json(self.request(Method::POST, "/blobs/collections").json(files)).await
    }

    /// At most `limit` blobs of the node, behind the one called `after`.
    pub async fn blobs(&self, after: Option<BlobHash>, limit: usize) -> Result<Vec<BlobRow>, ClientError> {
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        self.get(&format!("/blobs?limit={limit}{after}")).await
    }

    /// What the node's blobs use.
    pub async fn usage(&self) -> Result<UsageView, ClientError> {
        self.get("/blobs/usage").await
    }

    /// The bytes of a blob that the node has.
    pub async fn read(
        &self,
        hash: BlobHash,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + use<>, ClientError> {
        let response = self.send(self.request(Method::GET, &format!("/blobs/{hash}"))).await?;
        Ok(self.bytes(response))
    }

    /// The files of a folder that the node has.
    pub async fn entries(&self, hash: BlobHash) -> Result<Vec<EntryView>, ClientError> {
        self.get(&format!("/blobs/{hash}/entries")).await
    }

    /// Has the node fetch content from the mesh; it may have it already. `progress` hears how far it is.
    pub async fn fetch(
        &self,
        request: &FetchRequest,
        progress: &mut (dyn FnMut(FetchedView) + Send),
    ) -> Result<BlobView, ClientError> {
        let request = self.request(Method::POST, "/blobs/fetch").json(request);
        sse::answered(self, request, progress).await
    }

    /// A person's pins.
    pub async fn pins(&self) -> Result<Vec<PinView>, ClientError> {
        self.get("/pins").await
    }

    /// Keeps content under a name: for so many seconds, or for good.
    pub async fn pin(
        &self,
        name: &str,
        hash: BlobHash,
        kind: KindView,
        for_seconds: Option<u64>,
    ) -> Result<PinView, ClientError> {
        let request = self.request(Method::PUT, &format!("/pins/{}", word(name)));
        let pin = PinView { name: String::new(), hash, kind, for_seconds, until: None };
        self.json(request.timeout(ANSWER_TIMEOUT).json(&pin)).await
    }

    /// Removes a pin.
    pub async fn unpin(&self, name: &str) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &format!("/pins/{}", word(name)));
        self.send(request.timeout(ANSWER_TIMEOUT)).await.map(drop)
    }

    /// Removes blobs that nobody wants, or only tells what that would be.
    pub async fn gc(&self, dry_run: bool) -> Result<CollectedView, ClientError> {
        self.json(self.request(Method::POST, &format!("/blobs/gc?dry_run={dry_run}"))).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{PREFIX}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path).timeout(ANSWER_TIMEOUT)).await
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| self.foreign(error.to_string()))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        match serde_json::from_slice::<ErrorView>(&bytes) {
            Ok(ErrorView { error }) => Err(ClientError::Refused { status, code: error.code, message: error.message }),
            Err(_) => Err(self.foreign(format!("it answers {status}"))),
        }
    }

    fn bytes(&self, response: Response) -> impl Stream<Item = Result<Bytes, ClientError>> + use<> {
        let client = self.clone();
        response.bytes_stream().map(move |piece| piece.map_err(|error| client.broken(&error)))
    }

    fn failed(&self, error: &reqwest::Error) -> ClientError {
        if error.is_connect() {
            return ClientError::Unreachable { url: self.url.clone(), reason: deepest(error) };
        }
        self.broken(error)
    }

    fn broken(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Broken { url: self.url.clone(), reason: deepest(error) }
    }

    fn foreign(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Foreign { url: self.url.clone(), reason: reason.into() }
    }
}

impl ClientError {
    /// Whether nobody answers, or somebody who is no node.
    pub fn is_absent(&self) -> bool {
        matches!(self, ClientError::Unreachable { .. } | ClientError::Foreign { .. })
    }

    /// The word that the node gave for its refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// TLS that trusts nobody: we speak plain HTTP, but the library that we share with others wants an answer.
fn no_tls() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("ring supports the usual versions");
    config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}

/// A word of a path, with everything escaped that would mean something else there.
fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    // `.` and `..` would be resolved away.
    let dots = text.bytes().all(|byte| byte == b'.');
    let escape = |byte: u8| if plain(byte) && !dots { char::from(byte).into() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

/// What the innermost error says: the outer ones only repeat the URL.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_cannot_be_used_are_named() {
        for url in ["", "127.0.0.1:4000", "https://127.0.0.1:4000", "file:///x", "http://"] {
            assert!(Client::new(url, None).is_err_and(|error| error.to_string().contains(url)), "{url}");
        }
        assert_eq!(Client::new(" http://127.0.0.1:4000/\n", None).unwrap().url(), "http://127.0.0.1:4000");
    }

    #[test]
    fn words_of_a_path_stay_one_word() {
        assert_eq!(word("j-12ab"), "j-12ab");
        assert_eq!(word("../a b?c"), "..%2Fa%20b%3Fc");
        assert_eq!(word(".."), "%2E%2E");
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Client::new(&url, None).unwrap().node().await.unwrap_err();
        assert!(error.is_absent() && error.to_string().contains(&url), "{error}");
    }
}
