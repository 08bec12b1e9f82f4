//! The node's proxy for one container: HTTP to the hosts that its job names, and to nobody else.
//!
//! Plain requests are read and written anew ([`forward`]); TLS passes through unread once it has asked for the host
//! that the proxy was asked for ([`tunnel`]). There is no other way out of the container, so what is refused here is
//! not reached: names are looked up here, and a connection goes to the very address that was checked. A redirect is a
//! request like any other.

mod target;

mod forward;

mod tunnel;

mod meter;

mod notes;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use shoal_protocol::task::network::covers;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use meter::{Metered, Traffic};
use target::{Host, Target};
use tunnel::Tunnel;

pub(super) use notes::{Notes, notes};

/// Connections of one container at once; more wait.
const MAX_CONNECTIONS: usize = 64;
/// Connections and requests of one container: who would occupy the node with them comes to an end.
const MAX_REQUESTS: u64 = 100_000;
/// The head of a request or an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Headers of a request or an answer.
const MAX_HEADERS: usize = 128;
/// How long a program may take to say what it wants.
const HEAD_WAIT: Duration = Duration::from_secs(30);
/// How long looking a name up may take, and connecting to one address.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long nothing may pass in either direction.
const IDLE_WAIT: Duration = Duration::from_secs(300);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Look-ups of one node at once, each of which takes a thread.
const MAX_LOOKUPS: usize = 16;
/// Ports below are those of other protocols, except the two of HTTP.
const FIRST_FREE_PORT: u16 = 1_024;
/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who knows the addresses of names.
#[async_trait]
pub(in super::super) trait Names: std::fmt::Debug + Send + Sync {
    /// All addresses of a name.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// What the machine knows of names.
#[derive(Debug)]
pub(in super::super) struct SystemNames(Semaphore);

/// What one container may do.
pub(super) struct Proxy {
    domains: Vec<String>,
    names: Arc<dyn Names>,
    /// To which addresses a connection may go.
    may_reach: fn(IpAddr) -> bool,
    traffic: Arc<Traffic>,
}

/// Why a request is not answered by whom it was for.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("not one of the job's domains")]
    NotListed,
    #[error("port {0} is neither 80, 443 nor above 1023")]
    Port(u16),
    #[error("it is {0}, which is no public address of another machine")]
    NotPublic(IpAddr),
    #[error("the TLS within asks for {0}")]
    OtherName(String),
    #[error("only TLS passes through CONNECT")]
    NoTls,
    #[error("what the job sends and receives has reached its Disk")]
    UsedUp,
    #[error("the job has made {MAX_REQUESTS} requests")]
    TooMany,
    #[error("{0}")]
    Malformed(&'static str),
    #[error("its name has no address here")]
    Unresolved,
    #[error("it does not answer: {0}")]
    Unreachable(String),
}

/// An answer: what the host says, or our own words.
type Answer = Response<Either<Incoming, Full<Bytes>>>;

impl Default for SystemNames {
    fn default() -> Self {
        Self(Semaphore::new(MAX_LOOKUPS))
    }
}

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let _turn = self.0.acquire().await.map_err(io::Error::other)?;
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

impl Proxy {
    /// A proxy for hosts of `domains`, through which at most `max_bytes` pass.
    pub(super) fn new(
        domains: Vec<String>,
        names: Arc<dyn Names>,
        may_reach: fn(IpAddr) -> bool,
        max_bytes: u64,
        notes: Notes,
    ) -> Self {
        Self { domains, names, may_reach, traffic: Arc::new(Traffic::new(max_bytes, notes)) }
    }

    /// Answers what is asked at `listener`, until it is dropped or there was too much.
    pub(super) async fn serve(self, listener: TcpListener) {
        let (proxy, turns, mut connections) =
            (Arc::new(self), Arc::new(Semaphore::new(MAX_CONNECTIONS)), JoinSet::new());
        while proxy.traffic.one_more() {
            let turn = Arc::clone(&turns).acquire_owned().await.expect("it is never closed");
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => drop(connections.spawn(Arc::clone(&proxy).connection(stream, turn))),
                Err(error) => {
                    tracing::debug!(%error, "a container's connection is not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        proxy.traffic.notes().refused("everything from now on", &Refusal::TooMany);
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, _turn: OwnedSemaphorePermit) {
        let tunnel = Mutex::new(None);
        let (proxy, slot) = (&self, &tunnel);
        let service = service_fn(|request| async move { Ok::<_, Infallible>(proxy.answer(request, slot).await) });
        let mut server = http1::Builder::new();
        // Who says no more may still listen.
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT).half_close(true);
        server.max_header_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS).max_buf_size(2 * MAX_HEAD_BYTES);
        let served = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        if let Err(error) = served {
            tracing::debug!(%error, "a container's connection ended early");
        }
        let tunnel: Option<Tunnel> = tunnel.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(tunnel) = tunnel {
            tunnel.run(&self).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>, tunnel: &Mutex<Option<Tunnel>>) -> Answer {
        let method = request.method().clone();
        let target = match Target::of(&request) {
            Ok(target) => target,
            Err(refusal) => return refusal.answer(),
        };
        let answered = match method {
            _ if !self.traffic.one_more() => Err(Refusal::TooMany),
            Method::CONNECT => match Tunnel::open(self, request, target.clone()).await {
                Ok(opened) => {
                    *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
                    Ok(Response::new(Either::Right(Full::default())))
                }
                Err(refusal) => Err(refusal),
            },
            _ => forward::forward(self, request, &target).await,
        };
        match answered {
            Ok(answer) => {
                tracing::debug!(%method, %target, status = answer.status().as_u16(), "a container's request passed");
                answer
            }
            Err(refusal) => {
                self.traffic.notes().refused(&format!("{method} {target}"), &refusal);
                refusal.answer()
            }
        }
    }

    /// A connection to the target, if it may be reached.
    async fn connect(&self, target: &Target) -> Result<Metered<TcpStream>, Refusal> {
        if !covers(&self.domains, &target.host.to_string()) {
            return Err(Refusal::NotListed);
        }
        if !matches!(target.port, 80 | 443 | FIRST_FREE_PORT..) {
            return Err(Refusal::Port(target.port));
        }
        if self.traffic.is_used_up() {
            return Err(Refusal::UsedUp);
        }
        let mut failed = Refusal::Unresolved;
        for address in self.addresses(target).await? {
            let connected = TcpStream::connect(SocketAddr::new(address, target.port));
            match tokio::time::timeout(CONNECT_WAIT, connected).await {
                Ok(Ok(stream)) => return Ok(Metered::new(stream, Arc::clone(&self.traffic))),
                Ok(Err(error)) => failed = Refusal::Unreachable(error.to_string()),
                Err(_) => failed = Refusal::Unreachable("it takes too long".into()),
            }
        }
        Err(failed)
    }

    /// The addresses of the target that may be reached.
    async fn addresses(&self, target: &Target) -> Result<Vec<IpAddr>, Refusal> {
        let found = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let found = tokio::time::timeout(CONNECT_WAIT, self.names.addresses(name)).await;
                found.ok().and_then(Result::ok).unwrap_or_default()
            }
        };
        let (public, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| (self.may_reach)(*address));
        match others.first() {
            Some(private) if public.is_empty() => Err(Refusal::NotPublic(*private)),
            _ => Ok(public.into_iter().take(MAX_ADDRESSES).collect()),
        }
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::Unresolved | Refusal::Unreachable(_) => StatusCode::BAD_GATEWAY,
            Refusal::TooMany => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::FORBIDDEN,
        }
    }

    fn answer(&self) -> Answer {
        let words = Full::new(Bytes::from(format!("shoal: {self}\n")));
        let mut answer = Response::new(Either::Right(words));
        *answer.status_mut() = self.status();
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

#[cfg(test)]
mod tests;
