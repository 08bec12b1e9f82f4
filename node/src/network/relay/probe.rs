//! Asks a relay whether it is there and, where somebody says that it is theirs, whose it is.
//!
//! Addresses come from peers, so a probe goes to what everybody may reach, or to where the peer itself was met; it
//! connects to the very address that was checked, asks for one fixed path and reads little.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use shoal_protocol::id::{MeshId, PeerId};
use shoal_protocol::relay::{CHALLENGE_BYTES, Host, Proof, RelayAddress};
use shoal_protocol::wire::parse;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{PROOF_PATH, tls};

/// How long a probe may take. Less than gossip waits for the verdict on an announcement.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const MAX_TRIED: usize = 2;
/// Largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 1_024;

/// Whose the relay is said to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) owner: PeerId,
    pub(super) mesh: MeshId,
}

/// Why a relay is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("it leads to no address that may be asked")]
    NoAddress,
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it is not the relay of whoever announced it")]
    NotTheirs,
    #[error("it took too long")]
    TimedOut,
}

/// How long the relay takes to answer, in milliseconds. `may_ask` says which addresses may be connected to.
pub(super) async fn probe(
    address: &RelayAddress,
    claim: Option<Claim>,
    may_ask: impl Fn(IpAddr) -> bool,
) -> Result<f64, ProbeError> {
    let probing = async {
        let (stream, took) = connect(address, may_ask).await?;
        let answer = if address.is_secure {
            let config = tls::client().map_err(|error| ProbeError::Unreachable(error.to_string()))?;
            let connecting = TlsConnector::from(Arc::new(config)).connect(server_name(address)?, stream);
            ask(address, connecting.await.map_err(unreachable)?, claim).await?
        } else {
            ask(address, stream, claim).await?
        };
        answer.then_some(took.as_secs_f64() * 1_000.0).ok_or(ProbeError::NotTheirs)
    };
    tokio::time::timeout(PROBE_TIMEOUT, probing).await.map_err(|_| ProbeError::TimedOut)?
}

async fn connect(
    address: &RelayAddress,
    may_ask: impl Fn(IpAddr) -> bool,
) -> Result<(TcpStream, Duration), ProbeError> {
    let mut failure = ProbeError::NoAddress;
    for socket in sockets(address).await?.into_iter().filter(|socket| may_ask(socket.ip())).take(MAX_TRIED) {
        let began = Instant::now();
        match TcpStream::connect(socket).await {
            Ok(stream) => return Ok((stream, began.elapsed())),
            Err(error) => failure = unreachable(error),
        }
    }
    Err(failure)
}

async fn sockets(address: &RelayAddress) -> Result<Vec<SocketAddr>, ProbeError> {
    match &address.host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, address.port)]),
        Host::Name(name) => {
            Ok(tokio::net::lookup_host((name.as_str(), address.port)).await.map_err(unreachable)?.collect())
        }
    }
}

fn server_name(address: &RelayAddress) -> Result<ServerName<'static>, ProbeError> {
    match &address.host {
        Host::Ip(ip) => Ok(ServerName::from(*ip)),
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| ProbeError::NoAddress),
    }
}

/// Whether what answers is a relay and, if that was claimed, whose.
async fn ask<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    address: &RelayAddress,
    stream: T,
    claim: Option<Claim>,
) -> Result<bool, ProbeError> {
    let broken = |error: &dyn std::fmt::Display| ProbeError::Unreachable(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let connection = tokio::spawn(connection);
    let mut challenge = [0; CHALLENGE_BYTES];
    getrandom::fill(&mut challenge).map_err(|error| broken(&error))?;
    let url = address.to_string();
    let authority = url.split('/').nth(2).unwrap_or_default();
    let request = Request::get(format!("{PROOF_PATH}?{}", data_encoding::HEXLOWER.encode(&challenge)))
        .header(HOST, authority)
        .header(CONNECTION, "close")
        .body(String::new())
        .map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let is_ok = response.status() == StatusCode::OK;
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    connection.abort();
    let body = body.map_err(|error| broken(&error))?.to_bytes();
    let proof = data_encoding::HEXLOWER.decode(&body).ok().and_then(|bytes| parse::<Proof>(&bytes).ok());
    let is_theirs = |proof: Proof| claim.is_none_or(|claim| proof.is_of(claim.owner, claim.mesh, &challenge));
    Ok(is_ok && proof.is_some_and(is_theirs))
}

fn unreachable(error: std::io::Error) -> ProbeError {
    ProbeError::Unreachable(error.to_string())
}
