//! One simulated node: a machine when it is up, a disk always, and what its host is doing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use ed25519_dalek::SigningKey;
use shoal_protocol::auction::Offering;
use shoal_protocol::id::{ExecutionId, PeerId};
use shoal_protocol::machine::{Machine, View};
use shoal_protocol::message::{Contact, ExecutorKind, Resources};
use shoal_protocol::time::Time;

use crate::chance::Chance;
use crate::disk::Disk;
use crate::jobs;
use crate::peers::Behaviour;

/// A node of the simulated mesh.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) me: PeerId,
    /// Only where messages are really signed.
    pub(crate) key: Option<SigningKey>,
    pub(crate) behaviour: Behaviour,
    pub(crate) offering: Offering,
    pub(crate) view: View,
    /// How much longer than usual its runs take, in percent.
    pub(crate) pace: u64,
    /// None while it is down.
    pub(crate) machine: Option<Machine>,
    pub(crate) disk: Disk,
    /// Counts restarts, so that what a former life began does not end in this one.
    pub(crate) life: u32,
    /// The earliest planned wake-up.
    pub(crate) wake: Time,
    /// It crashes after so many more outputs.
    pub(crate) fuse: Option<u32>,
    /// It will never come back.
    pub(crate) gone: bool,
    /// What its host runs right now.
    pub(crate) running: BTreeMap<ExecutionId, Resources>,
    /// What its host fetches right now.
    pub(crate) fetching: BTreeMap<ExecutionId, PeerId>,
}

impl Node {
    /// A node that is down; `start` brings it up.
    pub(crate) fn new(number: u32, key: Option<SigningKey>, chance: &mut Chance) -> Self {
        let me = match &key {
            Some(key) => PeerId(key.verifying_key().to_bytes()),
            None => PeerId(chance.bytes()),
        };
        Self {
            me,
            key,
            behaviour: Behaviour::Honest,
            offering: Offering::default(),
            view: View { contact: contact(Ipv4Addr::from_bits(0x0a00_0000 + number)), ..View::default() },
            pace: chance.between(50, 200),
            machine: None,
            disk: Disk::default(),
            life: 0,
            wake: Time::NEVER,
            fuse: None,
            gone: false,
            running: BTreeMap::new(),
            fetching: BTreeMap::new(),
        }
    }

    /// Lets it run programs for others.
    pub(crate) fn offer(&mut self) {
        self.offering.executors = [(ExecutorKind::Wasm, jobs::PROFILE.into())].into();
        self.offering.capacity = jobs::worker_capacity();
        self.offering.keep_ms = jobs::KEEP_MS;
    }

    /// Moves it into the one public network that all neighbours share.
    pub(crate) fn move_in(&mut self, number: u32) {
        let [.., last] = number.to_be_bytes();
        self.view.contact = contact(Ipv4Addr::new(93, 184, 216, last));
    }

    /// Brings it up with what is on its disk.
    pub(crate) fn start(&mut self, now: Time, seed: [u8; 32], remember: bool) {
        let mut machine = Machine::new(self.me, self.offering.clone(), seed);
        machine.observe(self.view.clone());
        if remember {
            machine.restore(now, self.disk.records());
        }
        self.machine = Some(machine);
    }

    /// Loses everything that is not on its disk.
    pub(crate) fn crash(&mut self) {
        self.machine = None;
        self.life += 1;
        self.fuse = None;
        self.wake = Time::NEVER;
        self.running.clear();
        self.fetching.clear();
    }

    pub(crate) fn is_up(&self) -> bool {
        self.machine.is_some()
    }
}

fn contact(ip: Ipv4Addr) -> Contact {
    Contact { addresses: vec![SocketAddr::from((ip, 4_433))], relay: None }
}
