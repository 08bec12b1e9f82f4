//! Gossip that is not for everybody.

use super::*;

/// The shards that a small mesh of these tests is cut into.
const NEARBY: Audience = Audience { class: EVERYBODY.class, level: 1 };

/// A mesh of so many nodes that is cut into shards as soon as it can be.
async fn cut_mesh(size: u8) -> Vec<Node> {
    let first = Node::start(1, |config| config.shard_nodes = 2).await;
    let ticket = first.network.ticket();
    let mut nodes = vec![first];
    for seed in 2..=size {
        let join = |config: &mut NetworkConfig| (config.shard_nodes, config.join) = (2, vec![ticket.clone()]);
        nodes.push(Node::start(seed, join).await);
    }
    nodes
}

/// Says things beginning with `word` until all of these have heard one of them; returns what they have heard by then.
async fn say_until_heard(speaker: &Network, audience: Audience, word: &str, listeners: Vec<&mut Node>) -> Vec<Vec<u8>> {
    let (speaker, begins, word) = (speaker.clone(), word, word.to_owned());
    let speaking = tokio::spawn(async move {
        for n in 0_u32.. {
            speaker.gossip(audience, format!("{word} {n}").into_bytes()).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut heard = Vec::new();
    for listener in listeners {
        while {
            heard.push(within(listener.heard.recv()).await.unwrap().0);
            !heard.last().is_some_and(|words| words.starts_with(begins.as_bytes()))
        } {}
    }
    speaking.abort();
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_in_a_shard_is_heard_there_and_nowhere_else() {
    let mut nodes = cut_mesh(12).await;
    let speaker = nodes.remove(0);
    let is_near = |node: &Node| speaker.network.is_near(node.id(), NEARBY.level);
    let (mut near, mut far): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(is_near);
    assert!(!near.is_empty() && !far.is_empty(), "the names of these nodes lie on both sides");
    say_until_heard(&speaker.network, NEARBY, "near", near.iter_mut().collect()).await;
    let heard = say_until_heard(&speaker.network, EVERYBODY, "all", far.iter_mut().collect()).await;
    assert!(heard.iter().all(|words| words.starts_with(b"all")), "what is for others was heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_runs_nothing_hears_of_jobs_only_while_it_has_one_itself() {
    let mut one = Node::start(1, |_| {}).await;
    let other = Node::start(2, |config| config.join.push(one.network.ticket())).await;
    let join = |config: &mut NetworkConfig| {
        config.runs = BTreeSet::new();
        config.join = vec![one.network.ticket(), other.network.ticket()];
    };
    let mut idle = Node::start(3, join).await;
    one.sees(other.id()).await;
    idle.sees(one.id()).await;
    idle.sees(other.id()).await;
    say_until_heard(&other.network, EVERYBODY, "before", vec![&mut one]).await;
    let without = |node: &Node| node.network.without().get(&EVERYBODY.class).copied();
    within(async {
        while without(&one) != Some(1) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    say_until_heard(&idle.network, EVERYBODY, "mine", vec![&mut one]).await;
    let heard = say_until_heard(&other.network, EVERYBODY, "after", vec![&mut idle]).await;
    assert!(heard.iter().all(|words| words.starts_with(b"after")), "it heard what was not its business");
}
