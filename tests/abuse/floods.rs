//! Peers that say or ask more than anybody may, in messages with which nothing is wrong, and are cut off for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use shoal_protocol::id::{ExecutionId, JobId, PeerId};
use shoal_protocol::limits::MAX_FAILURE_BYTES;
use shoal_protocol::message::{Fail, Message};
use shoal_protocol::task::Failure;
use shoal_protocol::wire::{self, canonical};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::hostile::Hostile;
use super::{fended, join};
use crate::support::{Mesh, until};

/// Requests to one peer that are under way.
const REQUESTS_AT_ONCE: usize = 100;
/// Messages in one request: as many as a node reads of one.
const MESSAGES_TOGETHER: usize = 32;

/// Goes on with `attack` until the node has cut the attacker off, for that reason.
fn until_cut_off(mesh: &Mesh, hostile: &mut Hostile, attack: impl Fn(&mut Hostile) + Sync) {
    let (node, over) = (&mesh.nodes[0], AtomicBool::new(false));
    std::thread::scope(|scope| {
        // What counts is how fast it comes, so nothing is asked between.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                attack(hostile);
            }
        });
        until("the attacker is cut off", || (fended(node, "CutOff") == 1).then_some(()));
        over.store(true, Ordering::Relaxed);
    });
    let log = node.log();
    let why = log.lines().find(|line| line.contains("is cut off")).unwrap_or_else(|| panic!("{log}"));
    assert!(why.contains("Excess"), "{why}");
    until("its connections are closed", || (hostile.peers() == 0).then_some(()));
}

/// A request of messages about the failures of executions that there are not, signed and well formed.
fn failures(hostile: &Hostile, key: &SigningKey, to: PeerId) -> Vec<u8> {
    let failure = Failure::HostFailed("x".repeat(MAX_FAILURE_BYTES));
    let fail = Message::Fail(Fail { job: JobId([1; 16]), execution: ExecutionId([2; 16]), failure });
    let sealed = wire::seal(key, hostile.network.mesh_id(), Some(to), fail);
    // Messages are the first kind of request.
    canonical(&(0_u8, vec![sealed.bytes().to_vec(); MESSAGES_TOGETHER]))
}

#[test]
fn whoever_says_more_than_a_speaker_may_is_cut_off() {
    let mesh = Mesh::start(1);
    let mut hostile = join(&mesh, 116);
    until_cut_off(&mesh, &mut hostile, |hostile| {
        hostile.gossip(100, |hostile| hostile.announcement(Duration::ZERO));
    });
}

#[test]
fn whoever_says_more_that_nobody_can_read_than_a_speaker_may_is_cut_off() {
    let mesh = Mesh::start(1);
    let mut hostile = join(&mesh, 117);
    until_cut_off(&mesh, &mut hostile, |hostile| hostile.gossip(100, Hostile::riddle));
}

#[test]
fn whoever_asks_more_than_a_peer_may_is_cut_off() {
    const SEED: u8 = 118;
    let (mesh, runtime) = (Mesh::start(1), Runtime::new().expect("a runtime starts"));
    let mut hostile = join(&mesh, SEED);
    let key = SigningKey::from_bytes(&[SEED; 32]);
    until_cut_off(&mesh, &mut hostile, |hostile| {
        let Some(peer) = hostile.network.peers().first().map(|info| info.peer) else { return };
        let request = failures(hostile, &key, peer);
        let mut asked = JoinSet::new();
        for _ in 0..REQUESTS_AT_ONCE {
            let (network, request) = (hostile.network.clone(), request.clone());
            asked.spawn_on(async move { network.request(peer, request).await }, runtime.handle());
        }
        runtime.block_on(asked.join_all());
    });
}
