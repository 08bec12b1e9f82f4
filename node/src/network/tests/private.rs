//! Private meshes: members talk as in any mesh, and nobody else gets a byte.

use std::sync::atomic::Ordering;

use iroh::endpoint::{Connection, PortmapperConfig, presets};
use iroh::protocol::{AcceptError, ProtocolHandler, Router};
use iroh::{Endpoint, EndpointAddr};
use shoal_protocol::invitation::{Refusal, Secret};
use shoal_protocol::limits::{CERTIFICATE_MS, RENEW_AFTER_MS};
use shoal_protocol::membership::{Authority, Certificate, Hello};
use shoal_store::data_dir::DataDir;
use tempfile::TempDir;

use super::super::frame;
use super::super::join::{JoinError, Welcome, redeem};
use super::*;
use crate::clock::Clock;
use crate::membership::Membership;

const MESH: &str = "test";
const DAY: Millis = 86_400_000;

/// A private mesh whose key the node of seed 1 holds.
struct Home {
    holder: Membership,
    clock: Clock,
    dirs: Vec<TempDir>,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn id(seed: u8) -> PeerId {
    identity::peer_of_key(&key(seed))
}

impl Home {
    fn new() -> Self {
        Self::at(Clock::start())
    }

    /// All memberships go by this clock.
    fn at(clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let holder = Membership::create(&DataDir::new(dir.path()), MESH, id(1), clock).unwrap();
        Self { holder, clock, dirs: vec![dir] }
    }

    /// Lets in the node of that seed.
    fn member(&mut self, seed: u8) -> Membership {
        let (secret, _) = self.holder.invite(1, DAY).unwrap();
        let binding = [0; 32];
        let answer = self.holder.redeem(id(seed), &secret.request(&binding), &binding).unwrap();
        let shoal_protocol::invitation::Answer::Welcome { certificate, revoked } = answer else {
            panic!("the invitation is good")
        };
        self.entered(seed, (certificate, revoked))
    }

    fn entered(&mut self, seed: u8, welcome: Welcome) -> Membership {
        let dir = tempfile::tempdir().unwrap();
        let (data, mesh) = (DataDir::new(dir.path()), (MESH, self.holder.key()));
        self.dirs.push(dir);
        Membership::enter(&data, mesh, id(seed), self.clock, welcome).unwrap()
    }

    async fn start(&self) -> Node {
        start(1, &self.holder, None).await
    }

    fn ticket(&self, node: &Node, secret: Option<Secret>) -> Ticket {
        Ticket { invitation: secret, ..node.network.ticket() }
    }

    fn authority(&self) -> Authority {
        Authority::new(MESH, self.holder.key())
    }

    /// A certificate that the mesh's key signed then.
    fn certificate(&self, seed: u8, at: Time) -> Certificate {
        let path = self.dirs[0].path().join("meshes").join(MESH).join("key");
        let signer = shoal_store::identity::load_if_there(&path).unwrap().unwrap();
        self.authority().certify(&signer, id(seed), at)
    }
}

async fn start(seed: u8, membership: &Membership, join: Option<Ticket>) -> Node {
    let change = |config: &mut NetworkConfig| {
        config.membership = Some(membership.clone());
        config.join.extend(join);
    };
    Node::start(seed, change).await
}

/// An endpoint that is no node.
async fn stranger(seed: u8) -> Endpoint {
    let builder = Endpoint::builder(presets::Minimal).secret_key(identity::iroh_key(&key(seed)));
    let builder = builder.portmapper_config(PortmapperConfig::Disabled).clear_ip_transports();
    builder.bind_addr("127.0.0.1:0").unwrap().bind().await.unwrap()
}

fn address(node: &Node) -> EndpointAddr {
    addresses::endpoint_addr(node.id(), &node.network.contact()).unwrap()
}

/// Connects, says `said` on a stream if there is something, and waits for the end: which must come without a word.
async fn is_shut_out(endpoint: &Endpoint, node: &Node, alpn: &[u8], said: Option<Vec<u8>>) {
    let Ok(connection) = endpoint.connect(address(node), alpn).await else { return };
    if let Some(said) = said {
        let mut stream = connection.open_uni().await.unwrap();
        let _ = stream.write_all(&said).await;
        let _ = stream.finish();
    }
    assert!(within(connection.open_bi()).await.is_err(), "a stranger opened a stream");
    let reason = within(connection.closed()).await;
    let iroh::endpoint::ConnectionError::ApplicationClosed(closed) = &reason else { panic!("{reason}") };
    assert!(closed.reason.is_empty() && closed.error_code == 0_u32.into(), "{reason}");
    assert_eq!(connection.stats().frame_rx.stream, 0, "not a byte of any stream was answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_gossip_ask_and_fetch_as_in_any_mesh() {
    let mut home = Home::new();
    let first = home.start().await;
    let ticket: Ticket = first.network.ticket().to_string().parse().unwrap();
    assert_eq!(ticket.key, Some(home.holder.key()));
    let mut nodes = vec![first];
    for seed in [2, 3] {
        nodes.push(start(seed, &home.member(seed), Some(ticket.clone())).await);
    }
    for seed in [2, 3] {
        nodes[0].sees(id(seed)).await;
        nodes[5 - usize::from(seed) - 1].sees(id(seed)).await;
    }
    nodes[1].network.gossip(EVERYBODY, b"among us".to_vec()).await;
    assert_eq!(within(nodes[2].heard.recv()).await.unwrap().0, b"among us");
    assert_eq!(nodes[2].network.request(id(2), vec![5]).await, Ok(vec![5]));
    let content = nodes[1].add(noise(3 << 20, 40)).await;
    assert_eq!(within(nodes[2].network.fetch(content, vec![id(2)], 4 << 20, |_| {})).await, Ok(3 << 20));
    assert_eq!(nodes[0].network.members().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_no_byte_on_any_protocol() {
    let mut home = Home::new();
    let mut first = home.start().await;
    let second = start(2, &home.member(2), Some(first.network.ticket())).await;
    first.sees(id(2)).await;
    let names = swarm::Names::new(home.holder.mesh(), true);
    let public = swarm::Names::new(MeshId::of(MESH), false);
    let endpoint = stranger(66).await;
    for alpn in [names.alpn(), names.blobs_alpn(), names.join_alpn(), public.alpn(), iroh_blobs::ALPN.to_vec()] {
        for said in [vec![], b"GET / HTTP/1.1\r\n\r\n".to_vec(), noise(100_000, 41)] {
            is_shut_out(&endpoint, &first, &alpn, Some(said.clone())).await;
            is_shut_out(&endpoint, &second, &alpn, Some(said)).await;
        }
    }
    assert!(first.network.shared.gate.as_ref().unwrap().refused() >= 6);
    assert_eq!(first.network.request(id(2), vec![1]).await, Ok(vec![1]), "members go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_not_ones_own_open_nothing() {
    let mut home = Home::new();
    let mut first = home.start().await;
    let honest = home.member(2);
    let _second = start(2, &honest, Some(first.network.ticket())).await;
    first.sees(id(2)).await;
    let recorded = honest.hello().unwrap();
    let now = home.holder.now();
    let elsewhere = Authority::new("other", home.holder.key()).certify(&key(9), id(66), now);
    let expired = home.certificate(66, Time(now.0 - CERTIFICATE_MS));
    let good = home.certificate(66, now);
    home.holder.revoke(id(66)).unwrap();
    let hello = |certificate| frame::encode(&Hello { certificate, ..recorded });
    let table = [
        ("recorded from somebody else", frame::encode(&recorded)),
        ("of another mesh", hello(elsewhere)),
        ("expired", hello(expired)),
        ("revoked", hello(good)),
        ("too long", [&u32::MAX.to_be_bytes()[..], &noise(60_000, 43)].concat()),
        ("cut short", frame::encode(&recorded)[..40].to_vec()),
    ];
    let names = swarm::Names::new(home.holder.mesh(), true);
    let endpoint = stranger(66).await;
    for (what, said) in table {
        for alpn in [names.alpn(), names.blobs_alpn()] {
            tracing::debug!(what, "is shut out");
            is_shut_out(&endpoint, &first, &alpn, Some(said.clone())).await;
        }
    }
    assert_eq!(first.network.request(id(2), vec![1]).await, Ok(vec![1]), "members go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_certificate_opens_what_the_others_do_not() {
    let mut home = Home::new();
    let first = home.start().await;
    let hello = frame::encode(&home.member(66).hello().unwrap());
    let (endpoint, alpn) = (stranger(66).await, swarm::Names::new(home.holder.mesh(), true).alpn());
    let connection = endpoint.connect(address(&first), &alpn).await.unwrap();
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut answer = within(connection.accept_uni()).await.unwrap();
    let answered: Hello = within(frame::read(&mut answer, 256)).await.unwrap();
    assert_eq!(home.authority().check(&answered.certificate, id(1), home.holder.now()), Ok(()));
    assert!(answered.renews);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_do_not_keep_a_member_out() {
    let mut home = Home::new();
    let mut first = home.start().await;
    let endpoint = stranger(66).await;
    let alpn = swarm::Names::new(home.holder.mesh(), true).alpn();
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(endpoint.connect(address(&first), &alpn).await.unwrap());
    }
    let _second = start(2, &home.member(2), Some(first.network.ticket())).await;
    first.sees(id(2)).await;
    for connection in &silent {
        within(connection.closed()).await;
    }
}

/// Takes whatever comes, and answers with noise.
#[derive(Debug, Clone)]
struct Impostor;

impl ProtocolHandler for Impostor {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        if let Ok(mut stream) = connection.open_uni().await {
            let _ = stream.write_all(&noise(50_000, 44)).await;
        }
        connection.closed().await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_says_nothing_to_an_impostor() {
    let mut home = Home::new();
    let membership = home.member(2);
    let member = start(2, &membership, None).await;
    let (endpoint, names) = (stranger(66).await, swarm::Names::new(home.holder.mesh(), true));
    let socket = endpoint.bound_sockets()[0];
    let _router = Router::builder(endpoint).accept(names.alpn(), Impostor).accept(names.blobs_alpn(), Impostor).spawn();
    member.network.learn(id(66), &Contact { addresses: vec![socket], relay: None });
    let asked = within(member.network.request(id(66), b"secret".to_vec())).await;
    assert_eq!(asked, Err(RequestError::Unreachable(id(66))));
    let missing = Content { hash: BlobHash::of(b"nobody has this"), kind: ContentKind::Raw };
    assert!(within(member.network.fetch(missing, vec![id(66)], 100, |_| {})).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_revoked_are_cut_off_at_once_everywhere() {
    let mut home = Home::new();
    let first = home.start().await;
    let ticket = first.network.ticket();
    let mut nodes = vec![first];
    let memberships = [home.member(2), home.member(3), home.member(4)];
    for (seed, membership) in [2, 3, 4].into_iter().zip(&memberships) {
        nodes.push(start(seed, membership, Some(ticket.clone())).await);
    }
    for node in &mut nodes {
        for seed in [1, 2, 3, 4] {
            if id(seed) != node.id() {
                node.sees(id(seed)).await;
            }
        }
    }
    let away = nodes.pop().unwrap();
    within(away.network.shutdown()).await;
    let content = nodes[2].add(noise(200_000, 45)).await;
    assert_eq!(within(nodes[1].network.fetch(content, vec![id(3)], 300_000, |_| {})).await, Ok(200_000));

    let revocation = home.holder.revoke(id(2)).unwrap();
    nodes[0].network.spread(&revocation).await;
    nodes[0].misses(id(2)).await;
    nodes[2].misses(id(2)).await;
    assert!(memberships[1].is_revoked(id(2)), "another member has heard");
    assert!(!memberships[2].is_revoked(id(2)), "one that is away has not");
    let other = nodes[2].add(noise(200_000, 46)).await;
    assert!(within(nodes[1].network.fetch(other, vec![id(3)], 300_000, |_| {})).await.is_err());
    assert!(within(nodes[1].network.request(id(3), vec![1])).await.is_err());
    assert_eq!(nodes[2].network.request(id(2), vec![1]).await, Err(RequestError::Unreachable(id(2))));

    // It comes back and meets another member, not the holder of the key.
    let back = start(4, &memberships[2], Some(nodes[2].network.ticket())).await;
    nodes[2].sees(id(4)).await;
    assert!(memberships[2].is_revoked(id(2)) && back.network.is_revoked(id(2)));
    assert!(within(nodes[1].network.request(id(4), vec![1])).await.is_err());
    assert_eq!(nodes[2].network.request(id(4), vec![1]).await, Ok(vec![1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_certificate_and_a_renewed_one_comes_back() {
    let mut home = Home::new();
    let mut first = home.start().await;
    let nearly_over = home.certificate(2, Time(home.holder.now().0 - (CERTIFICATE_MS - 5_000)));
    let member = home.entered(2, (nearly_over, vec![]));
    let _second = start(2, &member, Some(first.network.ticket())).await;
    first.sees(id(2)).await;
    assert!(nearly_over.expires < member.standing().unwrap().expires, "whoever holds the key has renewed it");
    let gate = first.network.shared.gate.clone().unwrap();
    assert_eq!(gate.members(), [(id(2), nearly_over.expires)]);
    let looks = tokio::spawn(async move {
        let mut look = tokio::time::interval(Duration::from_millis(100));
        loop {
            look.tick().await;
            gate.close_expired();
        }
    });
    first.misses(id(2)).await;
    assert!(nearly_over.expires <= home.holder.now(), "not before");
    first.sees(id(2)).await;
    assert_eq!(first.network.members(), [(id(2), member.standing().unwrap().expires)]);
    looks.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stays_connected_visits_a_holder_when_its_certificate_is_due() {
    let (clock, passed) = Clock::by_hand();
    let mut home = Home::at(clock);
    let mut first = home.start().await;
    let membership = home.member(2);
    let ticket = first.network.ticket();
    let often = |config: &mut NetworkConfig| {
        (config.membership, config.renew_every) = (Some(membership.clone()), Duration::from_millis(100));
        config.join.push(ticket);
    };
    let mut second = Node::start(2, often).await;
    first.sees(id(2)).await;
    second.sees(id(1)).await;
    let issued = membership.standing().unwrap();
    passed.fetch_add(RENEW_AFTER_MS - DAY, Ordering::Relaxed);
    assert!(!issued.is_due(clock.now()) && membership.renewers().is_empty(), "not yet");
    assert_eq!(membership.standing().unwrap(), issued);
    passed.fetch_add(2 * DAY, Ordering::Relaxed);
    within(async {
        while membership.standing().unwrap() == issued {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let renewed = membership.standing().unwrap();
    assert!(!renewed.is_due(clock.now()) && renewed.expires >= issued.expires + (RENEW_AFTER_MS - DAY));
    assert_eq!(home.holder.admits(id(2), &renewed), Ok(()));
    assert_eq!(second.network.request(id(1), vec![1]).await, Ok(vec![1]), "nothing was interrupted");
}

fn newcomer(seed: u8) -> NetworkConfig {
    let store = MemStore::new();
    let mut config = NetworkConfig::new(key(seed), MESH, (*store).clone());
    (config.listen, config.loopback_only) = ("127.0.0.1:0".parse().unwrap(), true);
    config
}

async fn ask(seed: u8, ticket: &Ticket) -> Result<Welcome, JoinError> {
    within(Box::pin(redeem(&newcomer(seed), ticket, &ticket.invitation.unwrap()))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_lets_a_newcomer_in_once() {
    let mut home = Home::new();
    let first = home.start().await;
    let (secret, _) = home.holder.invite(1, DAY).unwrap();
    let ticket = home.ticket(&first, Some(secret)).to_string().parse().unwrap();
    let welcome = ask(2, &ticket).await.unwrap();
    let second = start(2, &home.entered(2, welcome), Some(first.network.ticket())).await;
    assert_eq!(within(second.network.request(id(1), vec![1])).await, Ok(vec![1]));
    let again = ask(3, &ticket).await.unwrap_err();
    assert!(matches!(&again, JoinError::Refused { reason: Refusal::UsedUp(1), .. }), "{again}");
    assert!(again.to_string().contains("ask for another"), "{again}");
    assert!(ask(2, &ticket).await.is_ok(), "whose answer may have been lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_newcomers_at_once_share_no_use() {
    let home = Home::new();
    let first = home.start().await;
    let ticket = home.ticket(&first, Some(home.holder.invite(1, DAY).unwrap().0));
    let (two, three) = tokio::join!(ask(2, &ticket), ask(3, &ticket));
    assert_eq!([two.is_ok(), three.is_ok()].iter().filter(|ok| **ok).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_gets_no_answer_and_an_absent_issuer_is_named() {
    let home = Home::new();
    let first = home.start().await;
    home.holder.invite(1, DAY).unwrap();
    let ticket = home.ticket(&first, Some(Secret([3; 16])));
    assert!(matches!(ask(2, &ticket).await, Err(JoinError::Unknown(_))));
    let (gone, contact, _socket) = dead_peer(77);
    let ticket = Ticket { peers: vec![(gone, contact)], ..ticket };
    let error = ask(2, &ticket).await.unwrap_err().to_string();
    assert!(error.contains(&gone.short()) && error.contains("must be running"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_restarted_knows_its_invitations() {
    let mut home = Home::new();
    let first = home.start().await;
    let (secret, _) = home.holder.invite(2, DAY).unwrap();
    let ticket = home.ticket(&first, Some(secret));
    ask(2, &ticket).await.unwrap();
    within(first.network.shutdown()).await;
    let (listen, dir) = (ticket.peers[0].1.addresses[0], DataDir::new(home.dirs[0].path()));
    let parted = std::mem::replace(&mut home.holder, home_of_nobody());
    // The folder is locked until the last handle is gone.
    drop(parted);
    let holder = loop {
        match Membership::open(&dir, MESH, id(1), Clock::start()) {
            Ok(holder) => break holder.unwrap(),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let again = |config: &mut NetworkConfig| {
        (config.listen, config.membership) = (listen, Some(holder.clone()));
    };
    let _first = Node::start(1, again).await;
    ask(3, &ticket).await.unwrap();
    assert!(matches!(ask(4, &ticket).await, Err(JoinError::Refused { reason: Refusal::UsedUp(2), .. })));
}

/// A membership to put in the place of another.
fn home_of_nobody() -> Membership {
    let dir = tempfile::tempdir().unwrap();
    Membership::create(&DataDir::new(dir.path()), "nobody", id(99), Clock::start()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_a_private_mesh_is_none_of_the_public_one() {
    let home = Home::new();
    let first = home.start().await;
    let mut config = newcomer(2);
    config.join.push(first.network.ticket());
    let Err(error) = Network::start(config).await else { panic!("it is no member") };
    assert!(matches!(&error, NetworkError::Ticket(TicketError::OtherKey(_))), "{error}");
}
