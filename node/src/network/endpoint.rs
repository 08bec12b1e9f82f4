//! The one UDP socket: an iroh endpoint with our key, and how long it believes in silent peers.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use iroh::endpoint::{BindOpts, Builder, PortmapperConfig, QuicTransportConfig, presets};
use iroh::{Endpoint, RelayMap, RelayMode, Watcher};

use super::book::Book;
use super::doorman::Doorman;
use super::gate::Gate;
use super::identity::iroh_key;
use super::{NetworkConfig, NetworkError, relay};

/// Silence after which a connection is given up.
const MAX_SILENCE: Duration = Duration::from_secs(12);
/// Silence after which one of its paths is, and another one carries what was lost. With the pause between two messages of
/// a worker that is less than its lease, so that an address may change while it runs.
const MAX_PATH_SILENCE: Duration = Duration::from_secs(7);
/// How often a path is tried on which nothing else comes: what is lost is sent again before that is over.
const PATH_PING: Duration = Duration::from_secs(4);
/// Streams that a peer may have open on one connection. Each direct message is one.
pub(super) const MAX_STREAMS: u32 = 1_024;
/// What a peer may have sent on one connection without us reading it, in bytes.
pub(super) const RECEIVE_WINDOW: u32 = 8 << 20;
/// The same before a peer of a private mesh has shown its certificate.
const STRANGERS_WINDOW: u32 = 64 << 10;
/// Streams that it may open until then, one way: those of the handshake.
const STRANGERS_STREAMS: u32 = 2;
/// How long to wait for the endpoint to know an address of its own.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// Binds the socket. The endpoint looks up peers in `book`, and every connection passes the doorman, then the gate if
/// there is one. `relays` are used from the start; others come and go later.
pub(super) async fn bind(
    config: &NetworkConfig,
    book: &Book,
    doorman: &Doorman,
    gate: Option<&Gate>,
    relays: RelayMap,
) -> Result<Endpoint, NetworkError> {
    let builder = Endpoint::builder(presets::Minimal)
        .secret_key(iroh_key(&config.key))
        .address_lookup(book.lookup())
        .relay_mode(if config.loopback_only { RelayMode::Disabled } else { RelayMode::Custom(relays) })
        .ca_tls_config(relay::any_certificate())
        // We ask the router ourselves, see `mapping`.
        .portmapper_config(PortmapperConfig::Disabled)
        .transport_config(transport_config(gate.is_some()))
        .hooks(doorman.clone());
    let builder = match gate {
        Some(gate) => builder.hooks(gate.clone()),
        None => builder,
    };
    let failed = |reason: String| NetworkError::Bind { listen: config.listen, reason };
    let builder = sockets(builder, config.listen).map_err(&failed)?;
    let endpoint = builder.bind().await.map_err(|error| failed(format!("{error:#}")))?;
    wait_for_an_address(&endpoint).await;
    Ok(endpoint)
}

/// The address asked for and, when that is "any IPv4 address", any IPv6 address too where the machine has IPv6.
fn sockets(builder: Builder, listen: SocketAddr) -> Result<Builder, String> {
    let builder = builder.clear_ip_transports().bind_addr(listen).map_err(|error| error.to_string())?;
    if listen.ip() != IpAddr::from([0, 0, 0, 0]) {
        return Ok(builder);
    }
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, listen.port()));
    builder.bind_addr_with_opts(any, BindOpts::default().set_is_required(false)).map_err(|error| error.to_string())
}

/// Behind a gate, strangers cannot even open the streams that protocols use: the gate allows them later.
fn transport_config(is_gated: bool) -> QuicTransportConfig {
    let silence = MAX_SILENCE.try_into().expect("twelve seconds are a QUIC duration");
    let config = QuicTransportConfig::builder()
        .max_idle_timeout(Some(silence))
        .default_path_max_idle_timeout(MAX_PATH_SILENCE)
        .default_path_keep_alive_interval(PATH_PING);
    if is_gated {
        return config
            .max_concurrent_bidi_streams(0_u32.into())
            .max_concurrent_uni_streams(STRANGERS_STREAMS.into())
            .receive_window(STRANGERS_WINDOW.into())
            .build();
    }
    config.max_concurrent_bidi_streams(MAX_STREAMS.into()).receive_window(RECEIVE_WINDOW.into()).build()
}

/// Interfaces are looked at in the background; a ticket made before that would lead nowhere.
async fn wait_for_an_address(endpoint: &Endpoint) {
    let mut addresses = endpoint.watch_addr().stream();
    let known = async { while addresses.next().await.is_some_and(|address| address.is_empty()) {} };
    if tokio::time::timeout(ADDRESS_TIMEOUT, known).await.is_err() {
        tracing::warn!("no own address is known yet; others can not be invited before there is one");
    }
}
