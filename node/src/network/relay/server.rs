//! A relay: an HTTP server whose clients become streams of frames for one another, and beside it, at the same number in
//! UDP, a server that tells peers their own address (QAD).
//!
//! iroh-relay's parts do the work. The server around them is ours, because theirs counts nothing by client and takes
//! any number of connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use iroh_relay::KeyCache;
use iroh_relay::http::{CLIENT_AUTH_HEADER, ProtocolVersion, RELAY_PATH, RELAY_PROBE_PATH};
use iroh_relay::protos::handshake;
use iroh_relay::server::client::Config;
use iroh_relay::server::clients::Clients as Registry;
use iroh_relay::server::streams::RelayedStream;
use iroh_relay::server::{ClientRequest, DynAccessControl, Metrics, QuicConfig, Server as Discovery, ServerConfig};
use sha1::{Digest, Sha1};
use shoal_protocol::access::Access;
use shoal_protocol::id::MeshId;
use shoal_protocol::relay::{CHALLENGE_BYTES, Proof};
use shoal_protocol::wire::canonical;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::clients::{Clients, RelayClient};
use super::stream::Frames;
use super::{PROOF_PATH, RelayError, RelaySettings, tls};
use crate::membership::Membership;
use crate::network::identity::{endpoint_id, peer_of_endpoint};
use crate::network::places::{Place, Places};

/// Connections whose client has yet to say who it is. When all places are taken, the oldest is given to the next.
const MAX_PENDING: usize = 256;
/// How long a client may take to say who it is.
const ESTABLISH_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest frame, in bytes: the largest that iroh sends.
const MAX_FRAME_BYTES: usize = 1 << 20;
/// Keys whose decoding is remembered: those of the clients and of some who come and go.
const MAX_KEYS: usize = 4_096;
/// How often clients are looked at that may have to go.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Pause after a connection could not be taken: the process has no file left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many ports are tried when any will do, until one is free in TCP and in UDP.
const PORT_TRIES: usize = 16;
/// What a browser's handshake is hashed with (RFC 6455).
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What a client asks that looks for a portal before the internet.
const PORTAL_PATH: &str = "/generate_204";
const PORTAL_CHALLENGE: HeaderName = HeaderName::from_static("x-iroh-challenge");
const PORTAL_ANSWER: HeaderName = HeaderName::from_static("x-iroh-response");

/// A running relay.
pub(in crate::network) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    discovery: Discovery,
    /// Takes connections; ends when this is dropped.
    _accepting: JoinSet<()>,
}

struct Shared {
    key: SigningKey,
    mesh: MeshId,
    clients: Clients,
    access: Arc<dyn DynAccessControl>,
    registry: Registry,
    keys: KeyCache,
    metrics: Arc<Metrics>,
    places: Places,
    tls: Option<TlsAcceptor>,
}

impl Server {
    pub(super) async fn start(
        settings: &RelaySettings,
        key: SigningKey,
        mesh: MeshId,
        membership: Option<Membership>,
        access: Access,
    ) -> Result<Self, RelayError> {
        let tls = settings.tls.as_ref().map(|(certificate, key)| tls::given(certificate, key)).transpose()?;
        let (listener, discovery) = bind(settings.listen).await?;
        let address = listener.local_addr().map_err(|error| RelayError::bind(settings.listen, &error))?;
        let clients = Clients::new(mesh, membership, settings.limits.clone(), access);
        let shared = Arc::new(Shared {
            key,
            mesh,
            access: Arc::new(clients.clone()),
            clients,
            registry: Registry::default(),
            keys: KeyCache::new(MAX_KEYS),
            metrics: Arc::default(),
            places: Places::new(MAX_PENDING),
            tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, discovery, _accepting: accepting })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn clients(&self) -> Vec<RelayClient> {
        self.shared.clients.all()
    }

    /// Says goodbye to the clients.
    pub(super) async fn stop(self) {
        drop(self._accepting);
        self.shared.registry.shutdown().await;
        if let Err(error) = self.discovery.shutdown().await {
            tracing::debug!(%error, "address discovery did not end cleanly");
        }
    }
}

/// One number in TCP and in UDP.
async fn bind(listen: SocketAddr) -> Result<(TcpListener, Discovery), RelayError> {
    let mut tries = if listen.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let listener = TcpListener::bind(listen).await.map_err(|error| RelayError::bind(listen, &error))?;
        let address = listener.local_addr().map_err(|error| RelayError::bind(listen, &error))?;
        let mut quic = QuicConfig::new(address);
        quic.server_config = Some(tls::self_signed()?);
        let mut config = ServerConfig::default();
        config.quic = Some(quic);
        match Discovery::spawn(config).await {
            Ok(discovery) => return Ok((listener, discovery)),
            Err(error) if tries == 0 => {
                return Err(RelayError::Bind { listen: address, reason: format!("UDP: {error:#}") });
            }
            Err(_) => {}
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(Arc::clone(&shared).connected(stream));
                }
                Err(error) => {
                    tracing::debug!(%error, "the relay could not take a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = sweep.tick() => shared.sweep(),
        }
    }
}

impl Shared {
    /// Sends away who must not be here any more.
    fn sweep(&self) {
        for peer in self.clients.unwanted(Instant::now()) {
            if let Some(id) = endpoint_id(peer) {
                self.registry.disconnect(id, None);
            }
        }
    }

    async fn connected(self: Arc<Self>, stream: TcpStream) {
        let place = Arc::new(self.places.take());
        let _ = stream.set_nodelay(true);
        let served = async {
            match self.tls.clone() {
                None => self.serve(stream, &place).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => self.serve(stream, &place).await,
                    Err(error) => tracing::debug!(%error, "no TLS with a relay's client"),
                },
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(ESTABLISH_TIMEOUT, served) => {}
            () = place.lost() => {}
        }
    }

    /// Answers a connection's requests until it becomes a client's.
    async fn serve<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self: &Arc<Self>,
        stream: T,
        place: &Arc<Place>,
    ) {
        let service = service_fn(|request| {
            let answer = self.answer(request, place);
            async move { Ok::<_, io::Error>(answer) }
        });
        let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        if let Err(error) = served {
            tracing::debug!(%error, "a request to the relay broke");
        }
    }

    fn answer(self: &Arc<Self>, request: Request<Incoming>, place: &Arc<Place>) -> Response<String> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, RELAY_PATH) => self.upgrade(request, Arc::clone(place)),
            (&Method::GET, RELAY_PROBE_PATH) => Response::new(String::new()),
            (&Method::GET, PORTAL_PATH) => no_portal(&request),
            (&Method::GET, PROOF_PATH) => self.prove(request.uri().query().unwrap_or_default()),
            _ => refusal(StatusCode::NOT_FOUND, "this is a relay of a shoal mesh"),
        }
    }

    /// Shows whose relay this is.
    fn prove(&self, challenge: &str) -> Response<String> {
        let challenge = data_encoding::HEXLOWER.decode(challenge.as_bytes()).ok();
        match challenge.and_then(|challenge| <[u8; CHALLENGE_BYTES]>::try_from(challenge).ok()) {
            Some(challenge) => {
                let proof = Proof::new(&self.key, self.mesh, &challenge);
                Response::new(data_encoding::HEXLOWER.encode(&canonical(&proof)))
            }
            None => refusal(StatusCode::BAD_REQUEST, "ask with 32 bytes in hexadecimal digits"),
        }
    }

    fn upgrade(self: &Arc<Self>, mut request: Request<Incoming>, place: Arc<Place>) -> Response<String> {
        let header = |name: HeaderName| request.headers().get(name)?.to_str().ok();
        let offered = header(SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
        let version = offered.split(',').filter_map(|word| ProtocolVersion::match_from_str(word.trim())).max();
        let key = header(SEC_WEBSOCKET_KEY).filter(|_| header(UPGRADE).is_some_and(|to| to == "websocket"));
        let (Some(version), Some(key)) = (version, key) else {
            return refusal(
                StatusCode::BAD_REQUEST,
                "clients of a relay come by websocket, in a version of iroh-relay",
            );
        };
        let accept =
            data_encoding::BASE64.encode(&Sha1::new().chain_update(key).chain_update(WEBSOCKET_GUID).finalize());
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let welcomed = async {
                let upgraded = hyper::upgrade::on(&mut request).await.map_err(|error| error.to_string())?;
                let (parts, _) = request.into_parts();
                shared.welcome(TokioIo::new(upgraded), parts, version).await
            };
            let welcomed = tokio::select! {
                welcomed = tokio::time::timeout(ESTABLISH_TIMEOUT, welcomed) => welcomed.unwrap_or(Err("it took too long".into())),
                () = place.lost() => Err("others needed the room".into()),
            };
            if let Err(reason) = welcomed {
                tracing::debug!(%reason, "no client of the relay");
            }
        });
        let switching = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "upgrade")
            .header(SEC_WEBSOCKET_ACCEPT, accept)
            .header(SEC_WEBSOCKET_PROTOCOL, version.to_header_value());
        switching.body(String::new()).expect("the headers are valid")
    }

    /// Has a client prove its key, lets it in if it belongs here, and begins to relay.
    async fn welcome<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: T,
        parts: Parts,
        version: ProtocolVersion,
    ) -> Result<(), String> {
        let limits = tokio_websockets::Limits::default().max_payload_len(Some(MAX_FRAME_BYTES));
        let mut frames = Frames::new(tokio_websockets::ServerBuilder::new().limits(limits).serve(stream));
        let shown = parts.headers.get(CLIENT_AUTH_HEADER).cloned();
        let proven = handshake::serverside(&mut frames, shown).await.map_err(|error| error.to_string())?;
        let request = ClientRequest::new(proven.client_key, version, parts);
        let admitted = proven.authorize_with(&request, &self.access, &mut frames).await;
        let guard = admitted.map_err(|error| error.to_string())?;
        if let Some(account) = self.clients.account(peer_of_endpoint(request.endpoint_id())) {
            frames.charge_to(account);
        }
        let stream = RelayedStream::new(frames, self.keys.clone());
        self.registry.register(Config::new(guard, stream, version), Arc::clone(&self.metrics));
        Ok(())
    }
}

/// Says that nothing stands between the client and the internet.
fn no_portal(request: &Request<Incoming>) -> Response<String> {
    let is_plain = |text: &&str| {
        text.len() < 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    let challenge = request.headers().get(PORTAL_CHALLENGE).and_then(|challenge| challenge.to_str().ok());
    let mut response = Response::builder().status(StatusCode::NO_CONTENT);
    if let Some(challenge) = challenge.filter(is_plain) {
        response = response.header(PORTAL_ANSWER, format!("response {challenge}"));
    }
    response.body(String::new()).expect("the headers are valid")
}

fn refusal(status: StatusCode, reason: &str) -> Response<String> {
    let mut response = Response::new(format!("{reason}\n"));
    *response.status_mut() = status;
    response
}
