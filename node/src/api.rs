//! The node's HTTP API, which the command line uses and nothing bypasses.
//!
//! Versioned paths below `/api/v1`, JSON in and out, a job's events as server-sent events. It listens on loopback
//! unless told otherwise, and a `guard` stands before every path: callers show the token that lies in the data
//! directory, readable by its owner only, and web pages are kept out. What must not grow has a bound here.

mod guard;

mod error;

mod extract;

mod jobs;

mod events;

mod logs;

mod blobs;

mod fetch;

mod import;

mod pace;

mod progress;

mod pins;

mod mesh;

mod membership;

mod leases;

mod token;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use shoal_store::data_dir::DataDir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::node::Node;
use crate::views::SettingView;

use self::error::ApiError;
use self::leases::Leases;

pub use self::token::TokenError;

pub(crate) use self::import::ELSEWHERE;

/// Where all paths begin.
pub const PREFIX: &str = "/api/v1";
/// Largest body of a request that is not an upload, in bytes: the largest folder's list of names.
const MAX_BODY_BYTES: usize = 96 << 20;
/// Largest job, in bytes: the largest job file, and as much again for its JSON escapes.
const MAX_JOB_BYTES: usize = 2 * shoal_protocol::job::parse::MAX_SPEC_BYTES;
/// Requests that are answered at once; more are refused as busy.
const MAX_REQUESTS: usize = 512;
/// Event and log streams that are open at once; more are refused as busy.
const MAX_STREAMS: usize = 256;
/// How long streams and requests may take to end when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What every handler has.
#[derive(Clone)]
pub(crate) struct Api(Arc<Shared>);

struct Shared {
    node: Node,
    settings: Vec<SettingView>,
    leases: Leases,
    streams: Arc<Semaphore>,
    stopping: CancellationToken,
}

/// A running API.
#[must_use = "the API goes on until it is stopped"]
pub struct Server {
    url: String,
    address_file: PathBuf,
    stopping: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

/// Why the API did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("the API cannot listen on {address}: {source}; choose another address with --api-listen")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The token cannot be read or made.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The address cannot be written where commands look for it.
    #[error("cannot write {path}: {source}", path = path.display())]
    AddressFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Server {
    /// Serves `node` on `address` and writes where into the data directory. `settings` is what `/config` shows.
    pub async fn start(node: Node, address: SocketAddr, settings: Vec<SettingView>) -> Result<Self, ServeError> {
        let dir = DataDir::new(&node.config().data_dir);
        let token = token::load_or_create(&dir.api_token())?;
        let bind = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let url = format!("http://{}", reachable(listener.local_addr().map_err(bind)?));
        let address_file = dir.api_addr();
        write_atomically(&address_file, &url)
            .map_err(|source| ServeError::AddressFile { path: address_file.clone(), source })?;
        let stopping = CancellationToken::new();
        let router = router(Api::new(node, settings, stopping.clone()), token);
        let stopped = stopping.clone().cancelled_owned();
        let task = tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Ok(Self { url, address_file, stopping, task })
    }

    /// Where it is, for example `http://127.0.0.1:4000`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Takes no more requests, ends streams, and removes the address from the data directory.
    pub async fn stop(mut self) {
        let _ = std::fs::remove_file(&self.address_file);
        self.stopping.cancel();
        if tokio::time::timeout(STOP_TIMEOUT, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Api {
    fn new(node: Node, settings: Vec<SettingView>, stopping: CancellationToken) -> Self {
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        Self(Arc::new(Shared { node, settings, leases: Leases::default(), streams, stopping }))
    }

    fn node(&self) -> &Node {
        &self.0.node
    }

    fn leases(&self) -> &Leases {
        &self.0.leases
    }

    /// The right to one more stream, for as long as it lives.
    fn stream_slot(&self) -> Result<tokio::sync::OwnedSemaphorePermit, ApiError> {
        let slot = Arc::clone(&self.0.streams).try_acquire_owned();
        slot.map_err(|_| ApiError::busy(format!("{MAX_STREAMS} streams are open already: close some, or try later")))
    }

    /// Ends when the node stops.
    fn stopping(&self) -> tokio_util::sync::WaitForCancellationFutureOwned {
        self.0.stopping.clone().cancelled_owned()
    }
}

fn router(api: Api, token: String) -> Router {
    let paths = jobs::router().layer(DefaultBodyLimit::max(MAX_JOB_BYTES));
    let others = blobs::router().merge(pins::router()).merge(mesh::router()).merge(membership::router());
    let paths = paths.merge(others.layer(DefaultBodyLimit::max(MAX_BODY_BYTES)));
    guard::guarded(Router::new().nest(PREFIX, paths).with_state(api), token)
}

/// A listener on all addresses is reached from here on loopback.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// A command that looks at the wrong moment sees the old file or the new one.
fn write_atomically(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests;
