//! A peer that is connected and does not hear.

use iroh::Endpoint;
use iroh::endpoint::presets;
use libp2p::Swarm;
use libp2p::futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;

use shoal_protocol::wire;

use super::super::strangers::Strangers;
use super::super::swarm::{Behaviour, Names, swarm};
use super::super::topics::Topics;
use super::super::transport::Transport;
use super::super::{addresses, agent, identity, links::Links};
use super::*;

/// The swarm of a peer, without the task that looks after it.
async fn bare_swarm(seed: u8) -> (Swarm<Behaviour>, Router, Names) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let names = Names::new(MeshId::of("test"), false);
    let endpoint = Endpoint::builder(presets::Minimal).secret_key(identity::iroh_key(&key)).clear_ip_transports();
    let endpoint = endpoint.bind_addr("127.0.0.1:0").unwrap().bind().await.unwrap();
    let links = Links::new(Strangers::new(wire::OWN));
    let (transport, incoming) = Transport::new(endpoint.clone(), names.alpn().into(), links, Arc::new(|_| Vec::new()));
    let router = Router::builder(endpoint).accept(names.alpn(), incoming).spawn();
    let agent = agent::describe(wire::OWN.version, 0);
    let public = identity::libp2p_keypair(&key).public();
    let topics = Topics::new(&public.to_peer_id(), &names);
    (swarm(transport, public, &names, &topics, agent), router, names)
}

/// Runs the swarm until it has connected or lost its connection.
async fn until_connected(swarm: &mut Swarm<Behaviour>, connected: bool) {
    let is_it = |event: &SwarmEvent<_>| match event {
        SwarmEvent::ConnectionEstablished { .. } => connected,
        SwarmEvent::ConnectionClosed { .. } => !connected,
        _ => false,
    };
    while !is_it(&within(swarm.select_next_some()).await) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_say_what_it_hears_is_begun_again_with() {
    let mut node = Node::start(1, |_| {}).await;
    let (mut peer, _router, names) = bare_swarm(2).await;
    // What it says at the start of a connection is as good as lost.
    peer.behaviour_mut().gossip.unsubscribe(&names.relays());
    let addresses = addresses::multiaddrs(node.id(), &node.network.contact());
    let id = identity::libp2p_id(node.id());
    peer.dial(DialOpts::peer_id(id).addresses(addresses).build()).unwrap();
    until_connected(&mut peer, true).await;
    until_connected(&mut peer, false).await;
    peer.behaviour_mut().gossip.subscribe(&names.relays()).unwrap();
    let own = identity::peer_of_libp2p(peer.local_peer_id()).unwrap();
    let running = tokio::spawn(async move {
        loop {
            peer.select_next_some().await;
        }
    });
    node.sees(own).await;
    running.abort();
}
