//! Peers that ask or say too much, and what becomes of them.

use std::net::SocketAddr;

use shoal_protocol::conduct::Offence;

use super::*;

async fn pair(strict: impl FnOnce(&mut NetworkConfig)) -> [Node; 2] {
    let strict = Node::start(1, strict).await;
    let ticket = strict.network.ticket();
    let mut other = Node::start(2, |config| config.join.push(ticket)).await;
    other.sees(strict.id()).await;
    [strict, other]
}

/// Waits until `other` has been cut off and has been refused when it came again.
async fn is_cut_off(strict: &Node, other: &mut Node) {
    other.misses(strict.id()).await;
    assert_eq!(strict.network.fended().cut_off, 1);
    within(async {
        while strict.network.fended().connections == 0 || !strict.network.peers().is_empty() {
            let _ = other.network.request(strict.id(), vec![1]).await;
        }
    })
    .await;
}

/// Reports as many forgeries as cost the connection: one more than five, since marks fade meanwhile.
fn forge(strict: &Node, forger: &Node) {
    (0..6).for_each(|_| strict.network.report(forger.id(), Offence::Forged));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_that_passes_on_far_more_than_anybody_may_is_cut_off() {
    let few = Rate { per_second: 1, burst: 100 };
    let [strict, mut flooder] = pair(|config| config.rates.gossip = few).await;
    within(async {
        for n in 0_u64.. {
            if strict.network.fended().cut_off > 0 {
                break;
            }
            flooder.network.gossip(EVERYBODY, n.to_le_bytes().repeat(10)).await;
        }
    })
    .await;
    assert!(strict.network.fended().gossip > 0);
    is_cut_off(&strict, &mut flooder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_far_more_than_it_may_is_cut_off() {
    let few = Rate { per_second: 1, burst: 10 };
    let [strict, mut flooder] = pair(|config| config.rates.requests = few).await;
    within(async {
        while strict.network.fended().cut_off == 0 {
            let _ = flooder.network.request(strict.id(), vec![1]).await;
        }
    })
    .await;
    assert!(strict.network.fended().requests > 0);
    is_cut_off(&strict, &mut flooder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_again_under_new_names_is_not_let_in() {
    let there = |seed, address: &'static str, ticket: &Ticket| {
        let ticket = ticket.clone();
        Node::start(seed, move |config| {
            config.listen = SocketAddr::new(address.parse().unwrap(), 0);
            config.join.push(ticket);
        })
    };
    let strict = Node::start(1, |_| {}).await;
    let ticket = strict.network.ticket();
    let mut friend = there(2, "127.0.0.2", &ticket).await;
    friend.sees(strict.id()).await;
    for seed in 3..6 {
        let mut hostile = there(seed, "127.0.0.2", &ticket).await;
        hostile.sees(strict.id()).await;
        forge(&strict, &hostile);
        hostile.misses(strict.id()).await;
    }
    let refused = strict.network.fended().connections;
    let again = there(6, "127.0.0.2", &ticket).await;
    within(async {
        while strict.network.fended().connections == refused {
            let _ = again.network.request(strict.id(), vec![1]).await;
        }
    })
    .await;
    there(7, "127.0.0.3", &ticket).await.sees(strict.id()).await;
    assert_eq!(friend.network.request(strict.id(), vec![1]).await, Ok(vec![1]), "whoever was there stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_reported_for_forging_is_cut_off_from_blobs_too() {
    let [strict, mut forger] = pair(|_| {}).await;
    let content = strict.add(noise(1_024, 1)).await;
    let got = forger.network.fetch(content, vec![strict.id()], 1 << 20, |_| {}).await;
    assert_eq!(got, Ok(1_024));
    let content = strict.add(noise(1_024, 2)).await;
    forge(&strict, &forger);
    is_cut_off(&strict, &mut forger).await;
    let got = within(forger.network.fetch(content, vec![strict.id()], 1 << 20, |_| {})).await;
    assert!(matches!(got, Err(FetchError::Nowhere { .. } | FetchError::Stalled { .. })), "{got:?}");
}
