//! A peer that means harm: the network's own stack, with nothing behind it that keeps to any rule.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ed25519_dalek::SigningKey;
use shoal::network::ticket::Ticket;
use shoal::network::{Network, NetworkConfig, NetworkEvent, Validity};
use shoal_protocol::id::{BlobHash, JobId, MeshId};
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::message::{Announce, Contact, ExecutorKind, Message, Needs, Resources};
use shoal_protocol::shard::Audience;
use shoal_protocol::time::Time;
use shoal_protocol::wire::{self, Dialect, Sealed, canonical};
use tokio::runtime::Runtime;

/// The mesh that nodes are in unless told otherwise.
const MESH: &str = "public";
/// Whom it speaks to: all who run modules.
const EVERYBODY: Audience = Audience { class: ExecutorKind::Wasm, level: 0 };

/// How many names are few.
pub(super) const FEW: u64 = 50;
/// Messages of others that are recorded; later ones are not.
const MAX_RECORDED: usize = 10_000;

/// A peer with a key of its own and a connection to the mesh.
pub(super) struct Hostile {
    runtime: Runtime,
    recorded: Arc<Mutex<Vec<Vec<u8>>>>,
    pub(super) network: Network,
    key: SigningKey,
    jobs: u64,
    /// What its jobs need, if workers are to bid for them.
    bait: Option<Needs>,
}

impl Hostile {
    /// Joins the mesh of these tickets, from this address of the loopback.
    pub(super) fn join(seed: u8, address: &str, tickets: &[&str]) -> Self {
        let runtime = Runtime::new().expect("a runtime starts");
        let key = SigningKey::from_bytes(&[seed; 32]);
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&recorded);
        let network = runtime.block_on(async {
            let store = iroh_blobs::store::mem::MemStore::new();
            let mut config = NetworkConfig::new(key.clone(), MESH, (*store).clone());
            config.listen = SocketAddr::new(address.parse().expect("it is an address"), 0);
            config.loopback_only = true;
            config.runs = BTreeSet::from([EVERYBODY.class]);
            config.join = tickets.iter().map(|ticket| ticket.parse::<Ticket>().expect("it is a ticket")).collect();
            let (network, mut events) = Network::start(config).await.expect("it starts");
            let judge = network.clone();
            tokio::spawn(async move {
                while let Some(event) = events.recv().await {
                    match event {
                        NetworkEvent::Gossip { id, source, bytes, .. } => {
                            let mut recorded = record.lock().unwrap_or_else(PoisonError::into_inner);
                            if recorded.len() < MAX_RECORDED {
                                recorded.push(bytes);
                            }
                            judge.validate(id, source, Validity::Accept);
                        }
                        NetworkEvent::Request { reply, .. } => reply.send(Vec::new()),
                        _ => {}
                    }
                }
            });
            network
        });
        Self { runtime, recorded, network, key, jobs: 0, bait: None }
    }

    /// How many peers talk to it.
    pub(super) fn peers(&self) -> usize {
        self.network.peers().len()
    }

    /// What others have gossiped since it came, as it came.
    pub(super) fn recorded(&self) -> Vec<Vec<u8>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says so many things to all, one after the other and as fast as they can be said.
    pub(super) fn gossip(&mut self, times: u32, mut what: impl FnMut(&mut Self) -> Vec<u8>) {
        for _ in 0..times {
            let bytes = what(self);
            self.runtime.block_on(self.network.gossip(EVERYBODY, bytes));
        }
    }

    /// Asks every peer for something.
    pub(super) fn ask_all(&self, bytes: &[u8]) {
        self.runtime.block_on(async {
            for peer in self.network.peers() {
                let asked = self.network.request(peer.peer, bytes.to_vec());
                let _ = tokio::time::timeout(Duration::from_secs(1), asked).await;
            }
        });
    }

    /// A well-formed announcement of a job that there is not, said so long ago.
    pub(super) fn announcement(&mut self, age: Duration) -> Vec<u8> {
        let key = self.key.clone();
        self.announcement_of(&key, &wire::OWN, age)
    }

    /// An announcement that every worker can bid for, of a job that nobody will award: it asks for what one did that was
    /// heard, if one was.
    pub(super) fn bait(&mut self) -> Vec<u8> {
        if self.bait.is_none() {
            let needs = |bytes: &Vec<u8>| match wire::open(MeshId::of(MESH), bytes).ok()?.into_message() {
                Message::Announce(announce) => Some(announce.needs),
                _ => None,
            };
            let needs = self.recorded().iter().find_map(needs);
            self.bait = needs.map(|needs| Needs { resources: Resources::default(), inputs: Vec::new(), ..needs });
        }
        self.announcement(Duration::ZERO)
    }

    /// What a node of the next version might say: it is signed, and nobody here can read it.
    pub(super) fn riddle(&mut self) -> Vec<u8> {
        let write = |message: &Message| [&[100], &canonical(message)[..]].concat();
        let (key, next) = (self.key.clone(), Dialect { version: wire::OWN.version + 1, write, ..wire::OWN });
        self.announcement_of(&key, &next, Duration::ZERO)
    }

    /// The same in the name of a key that nobody has seen.
    pub(super) fn announcement_of_nobody(&mut self) -> Vec<u8> {
        let name = BlobHash::of(&self.jobs.to_le_bytes());
        self.announcement_of(&SigningKey::from_bytes(&name.0), &wire::OWN, Duration::ZERO)
    }

    /// The same in the name of one of few keys, each of which is the next one's turn.
    pub(super) fn announcement_of_few(&mut self) -> Vec<u8> {
        let name = BlobHash::of(&(self.jobs % FEW).to_be_bytes());
        self.announcement_of(&SigningKey::from_bytes(&name.0), &wire::OWN, Duration::ZERO)
    }

    fn announcement_of(&mut self, key: &SigningKey, dialect: &Dialect, age: Duration) -> Vec<u8> {
        self.jobs += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set") - age;
        let announce = Announce {
            job: JobId(BlobHash::of(&self.jobs.to_le_bytes()).0[..16].try_into().expect("it has sixteen bytes")),
            at: Time(u64::try_from(now.as_millis()).expect("it is not that late")),
            round: 0,
            wanted: 3,
            partitions: 1,
            excluded: Vec::new(),
            work: BlobHash([0; 32]),
            needs: self.bait.clone().unwrap_or_else(needs_of_nobody),
            window_ms: 20_000,
            level: 0,
            mesh_size: 10,
            refusals: 0,
            contact: Contact::default(),
        };
        let sealed: Sealed = dialect.seal(key, MeshId::of(MESH), None, Message::Announce(announce));
        sealed.bytes().to_vec()
    }
}

/// What no worker has.
fn needs_of_nobody() -> Needs {
    Needs {
        executor: ExecutorKind::Wasm,
        profile: "of nobody".into(),
        resources: Resources::default(),
        inputs: Vec::new(),
        input_bytes: 0,
        constraints: Vec::new(),
        sources: Vec::new(),
        image: None,
        network: NetworkKind::None,
        image_name: String::new(),
        data: 0,
        data_bits: 0,
    }
}

/// So many bytes that are no message.
pub(super) fn garbage(number: u64) -> Vec<u8> {
    BlobHash::of(&number.to_le_bytes()).0.repeat(20)
}
