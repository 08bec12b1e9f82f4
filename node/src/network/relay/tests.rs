//! A relay and its clients: who is let in, how much passes, and what a probe finds.

use std::time::{Duration, Instant};

use hyper::Request;
use iroh::endpoint::{PortmapperConfig, presets};
use iroh::{EndpointAddr, RelayMode, Watcher};
use iroh_relay::http::ProtocolVersion;
use iroh_relay::server::{Access, AccessControl, ClientRequest};
use shoal_protocol::access;
use shoal_protocol::id::MeshId;
use shoal_store::data_dir::DataDir;

use ed25519_dalek::SigningKey;

use super::clients::Clients;
use super::probe::{Claim, ProbeError, probe};
use super::*;
use crate::clock::Clock;
use crate::membership::Membership;
use crate::network::identity::{endpoint_id, iroh_key};

const MESH: MeshId = MeshId([3; 32]);
const ALPN: &[u8] = b"test";
/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn id(seed: u8) -> PeerId {
    peer_of_key(&key(seed))
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("this happens long before the deadline")
}

/// A relay of the peer of seed 1.
async fn server(limits: RelayLimits) -> (Server, RelayAddress) {
    let listen = "127.0.0.1:0".parse().unwrap();
    let settings = RelaySettings { listen, url: None, tls: None, limits };
    let server = Server::start(&settings, key(1), MESH, None, access::Access::default()).await.unwrap();
    let address = format!("http://{}", server.address()).parse().unwrap();
    (server, address)
}

/// An endpoint that has no other way than the relay.
async fn endpoint(seed: u8, relay: &RelayAddress) -> Endpoint {
    let map: RelayMap = iroh_config(relay, MESH.short()).into_iter().collect();
    let builder = Endpoint::builder(presets::Minimal).secret_key(iroh_key(&key(seed))).alpns(vec![ALPN.to_vec()]);
    let builder = builder.clear_ip_transports().portmapper_config(PortmapperConfig::Disabled);
    builder.relay_mode(RelayMode::Custom(map)).ca_tls_config(any_certificate()).bind().await.unwrap()
}

fn counted(server: &Server, seed: u8) -> RelayClient {
    server.clients().into_iter().find(|client| client.peer == id(seed)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_counted_and_a_client_is_kept_to_its_rate() {
    let (server, relay) = server(RelayLimits { bytes_per_second: 200_000, ..RelayLimits::default() }).await;
    let (one, two) = (endpoint(2, &relay).await, endpoint(3, &relay).await);
    within(async { tokio::join!(one.online(), two.online()) }).await;
    let accepting = tokio::spawn(async move {
        let connection = two.accept().await.unwrap().await.unwrap();
        let read = connection.accept_uni().await.unwrap().read_to_end(1 << 20).await.unwrap();
        (read.len(), two)
    });
    let url: RelayUrl = relay.to_string().parse().unwrap();
    let address = EndpointAddr::new(endpoint_id(id(3)).unwrap()).with_relay_url(url);
    let connection = within(one.connect(address, ALPN)).await.unwrap();
    let began = Instant::now();
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&vec![7; 600_000]).await.unwrap();
    stream.finish().unwrap();
    let (read, _two) = within(accepting).await.unwrap();
    assert_eq!(read, 600_000);
    assert!(began.elapsed() > Duration::from_secs(2), "three seconds of bytes took {:?}", began.elapsed());
    let [from, to] = [2, 3].map(|seed| counted(&server, seed));
    assert!(from.is_connected && from.received >= 600_000 && to.sent >= 600_000, "{from:?} {to:?}");
    assert!(from.received < 1_200_000 && to.received < 200_000, "{from:?} {to:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_relay_says_so_and_takes_the_next_when_one_has_gone() {
    let (_server, relay) = server(RelayLimits { clients: 1, ..RelayLimits::default() }).await;
    let first = endpoint(2, &relay).await;
    within(first.online()).await;
    let second = endpoint(3, &relay).await;
    is_told(&second, "full").await;
    first.close().await;
    within(second.online()).await;
}

/// Waits until a client was told why it is not relayed.
async fn is_told(client: &Endpoint, reason: &str) {
    let mut homes = client.home_relay_status();
    within(async {
        while !homes.get().iter().any(|home| home.auth_denied_reason() == Some(reason)) {
            homes.updated().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_operator_denies_is_told_so_and_the_others_are_relayed() {
    let (server, relay) = server(RelayLimits { denied: [id(2)].into(), ..RelayLimits::default() }).await;
    let (denied, other) = (endpoint(2, &relay).await, endpoint(3, &relay).await);
    is_told(&denied, "denied by its operator").await;
    within(other.online()).await;
    let clients: Vec<PeerId> = server.clients().iter().map(|client| client.peer).collect();
    assert_eq!(clients, [id(3)]);
}

#[tokio::test]
async fn whom_the_operator_wants_nowhere_is_not_relayed_either() {
    let lists = [
        access::Access { deny_peers: [id(2)].into(), ..access::Access::default() },
        access::Access { allow_peers: [id(3)].into(), ..access::Access::default() },
    ];
    for access in lists {
        let clients = Clients::new(MESH, None, RelayLimits::default(), access);
        assert!(!is_let_in(&clients, &comes(2, "")).await);
        assert!(is_let_in(&clients, &comes(3, "")).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_finds_whose_a_relay_is_and_goes_where_it_may() {
    let (server, relay) = server(RelayLimits::default()).await;
    let claim = |owner, mesh| Some(Claim { owner, mesh });
    assert!(probe(&relay, None, |_| true).await.is_ok());
    assert!(probe(&relay, claim(id(1), MESH), |_| true).await.is_ok());
    for wrong in [claim(id(2), MESH), claim(id(1), MeshId([4; 32]))] {
        assert!(matches!(probe(&relay, wrong, |_| true).await, Err(ProbeError::NotTheirs)));
    }
    assert!(matches!(probe(&relay, None, |ip| !ip.is_loopback()).await, Err(ProbeError::NoAddress)));
    server.stop().await;
    assert!(matches!(probe(&relay, None, |_| true).await, Err(ProbeError::Unreachable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_a_certificate_of_its_own_is_used_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let files = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&files.0, made.cert.pem()).unwrap();
    std::fs::write(&files.1, made.key_pair.serialize_pem()).unwrap();
    let limits = RelayLimits::default();
    let settings = RelaySettings { listen: "127.0.0.1:0".parse().unwrap(), url: None, tls: Some(files), limits };
    let server = Server::start(&settings, key(1), MESH, None, access::Access::default()).await.unwrap();
    let relay: RelayAddress = format!("https://{}", server.address()).parse().unwrap();
    assert!(probe(&relay, Some(Claim { owner: id(1), mesh: MESH }), |_| true).await.is_ok());
    within(endpoint(2, &relay).await.online()).await;
}

/// Somebody who comes to a relay with a pass.
fn comes(seed: u8, pass: &str) -> ClientRequest {
    let request = Request::get("/relay").header("authorization", format!("Bearer {pass}")).body(()).unwrap();
    ClientRequest::new(endpoint_id(id(seed)).unwrap(), ProtocolVersion::V2, request.into_parts().0)
}

async fn is_let_in(clients: &Clients, request: &ClientRequest) -> bool {
    AccessControl::on_connect(clients, request).await == Access::Allow
}

#[tokio::test]
async fn a_private_relay_lets_in_members_by_certificate_and_a_few_newcomers() {
    let dir = tempfile::tempdir().unwrap();
    let member = Membership::create(&DataDir::new(dir.path()), "home", id(1), Clock::start()).unwrap();
    let limits = RelayLimits { denied: [id(5)].into(), ..RelayLimits::default() };
    let clients = Clients::new(member.mesh(), Some(member.clone()), limits, access::Access::default());
    let own = pass::own(member.mesh(), Some(&member));
    assert!(is_let_in(&clients, &comes(1, &own)).await);
    assert!(!is_let_in(&clients, &comes(2, &own)).await, "a certificate is its peer's");
    for pass in ["", "newcomer2", &MESH.short(), &own[1..]] {
        assert!(!is_let_in(&clients, &comes(2, pass)).await, "{pass:?}");
    }
    assert!(!is_let_in(&clients, &comes(5, &pass::newcomer())).await, "this one is denied");
    let mut newcomers = 0;
    for seed in 10..60 {
        newcomers += u32::from(is_let_in(&clients, &comes(seed, &pass::newcomer())).await);
    }
    assert_eq!(newcomers, 16);
    assert!(clients.unwanted(Instant::now()).is_empty());
    let later = Instant::now() + Duration::from_secs(61);
    assert_eq!(clients.unwanted(later).len(), 16, "newcomers do not stay, members do");
}

#[tokio::test]
async fn a_public_relay_lets_in_anybody_but_who_means_another_mesh_and_few_times_the_same() {
    let clients =
        Clients::new(MESH, None, RelayLimits { clients: 2, ..RelayLimits::default() }, access::Access::default());
    assert!(!is_let_in(&clients, &comes(1, &MeshId([9; 32]).short())).await);
    let first = comes(1, "");
    assert!(is_let_in(&clients, &first).await);
    assert!(is_let_in(&clients, &comes(1, &MESH.short())).await);
    assert!(is_let_in(&clients, &comes(1, "")).await);
    assert!(!is_let_in(&clients, &comes(1, "")).await, "three connections are enough");
    AccessControl::on_disconnect(&clients, first.endpoint_id(), first.connection_id());
    assert!(is_let_in(&clients, &comes(1, "")).await);
    assert!(is_let_in(&clients, &comes(2, "")).await);
    assert!(!is_let_in(&clients, &comes(3, "")).await, "two clients were allowed");
    assert_eq!(clients.all().len(), 2);
}
