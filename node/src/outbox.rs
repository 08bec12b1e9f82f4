//! Messages on their way to single peers.
//!
//! A message leaves at once while few requests to its peer are under way. Those that come meanwhile wait for one of
//! them to be answered and then leave together: the busier two nodes are, the fewer requests each message costs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shoal_protocol::id::PeerId;
use shoal_protocol::machine::Input;
use shoal_protocol::wire::Sealed;
use tokio::sync::mpsc;

use crate::direct::{self, MAX_TOGETHER, MAX_TOGETHER_BYTES, Request};
use crate::driver::Event;
use crate::network::{Network, RequestError};

/// Requests with messages that are under way to one peer: a second one, so that one that is lost holds nothing up.
const MAX_UNDER_WAY: usize = 2;
/// Messages that wait for one peer, which may never answer.
const MAX_WAITING: usize = 256;
/// Messages that wait or are on their way, over all peers; the protocol repeats what is dropped.
const MAX_MESSAGES: usize = 2_048;

/// Carries messages to peers. A clone is the same outbox.
#[derive(Clone)]
pub(crate) struct Outbox {
    network: Network,
    inbox: mpsc::Sender<Event>,
    peers: Arc<Mutex<Peers>>,
}

#[derive(Default)]
struct Peers {
    lines: BTreeMap<PeerId, Line>,
    messages: usize,
}

/// What is to go to one peer. It is there as long as a request is under way.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Sealed>,
    under_way: usize,
}

impl Outbox {
    /// What a peer has not understood is told to `inbox`.
    pub(crate) fn new(network: Network, inbox: mpsc::Sender<Event>) -> Self {
        Self { network, inbox, peers: Arc::default() }
    }

    /// Sends a message as soon as may be; it may be lost.
    pub(crate) fn send(&self, to: PeerId, sealed: Sealed) {
        let name = sealed.message().name();
        match self.lock().add(to, sealed) {
            Added::Waits => {}
            Added::Full => tracing::warn!(peer = %to.short(), message = name, "too many messages are on their way"),
            Added::Leaves => drop(tokio::spawn(self.clone().carry(to))),
        }
    }

    /// Sends what waits for a peer, until nothing does.
    async fn carry(self, to: PeerId) {
        loop {
            let together = self.lock().next(to);
            if together.is_empty() {
                return;
            }
            let messages = together.iter().map(|sealed| sealed.bytes().to_vec()).collect();
            let sent = self.network.request(to, direct::encode(&Request::Messages(messages))).await;
            self.lock().messages -= together.len();
            match sent {
                Ok(_) => {}
                Err(RequestError::NotUnderstood { version, places, .. }) => {
                    self.give_back(to, together, version, &places).await;
                }
                Err(error) => {
                    // The protocol says again what matters.
                    let names: Vec<_> = together.iter().map(|sealed| sealed.message().name()).collect();
                    tracing::debug!(peer = %to.short(), messages = ?names, %error, "not delivered");
                }
            }
        }
    }

    /// Tells which of the messages a peer has not understood: those at `places`, or all.
    async fn give_back(&self, to: PeerId, sent: Vec<Sealed>, version: u8, places: &[u8]) {
        let is_meant = |place: usize| places.is_empty() || places.iter().any(|known| usize::from(*known) == place);
        for (_, sealed) in sent.into_iter().enumerate().filter(|(place, _)| is_meant(*place)) {
            let _ = self.inbox.send(Event::Input(Input::NotUnderstood(to, sealed, version))).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
enum Added {
    /// A request is to be begun, which will take it along.
    Leaves,
    /// It goes with the next request.
    Waits,
    /// There is no room.
    Full,
}

impl Peers {
    fn add(&mut self, to: PeerId, sealed: Sealed) -> Added {
        let waiting = self.lines.get(&to).map_or(0, |line| line.waiting.len());
        if self.messages >= MAX_MESSAGES || waiting >= MAX_WAITING {
            return Added::Full;
        }
        self.messages += 1;
        let line = self.lines.entry(to).or_default();
        line.waiting.push_back(sealed);
        if line.under_way >= MAX_UNDER_WAY {
            return Added::Waits;
        }
        line.under_way += 1;
        Added::Leaves
    }

    /// Takes what leaves in one request: the oldest first, and at least one. Nothing ends the request's turn.
    fn next(&mut self, to: PeerId) -> Vec<Sealed> {
        let (mut together, mut bytes) = (Vec::new(), 0);
        let Some(line) = self.lines.get_mut(&to) else { return together };
        while let Some(sealed) = line.waiting.front() {
            bytes += sealed.bytes().len();
            if together.len() >= MAX_TOGETHER || (bytes > MAX_TOGETHER_BYTES && !together.is_empty()) {
                break;
            }
            together.extend(line.waiting.pop_front());
        }
        if together.is_empty() {
            line.under_way -= 1;
            if line.under_way == 0 {
                self.lines.remove(&to);
            }
        }
        together
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use shoal_protocol::id::{ExecutionId, JobId, MeshId};
    use shoal_protocol::message::{Award, Contact, Message, Resources, RevealPlease};
    use shoal_protocol::wire;

    use super::*;

    const TO: PeerId = PeerId([2; 32]);

    fn sealed(message: Message) -> Sealed {
        wire::seal(&SigningKey::from_bytes(&[1; 32]), MeshId::of("test"), Some(TO), message)
    }

    fn small() -> Sealed {
        sealed(Message::RevealPlease(RevealPlease { job: JobId([3; 16]), execution: ExecutionId([4; 16]) }))
    }

    fn large() -> Sealed {
        sealed(Message::Award(Award {
            job: JobId([3; 16]),
            execution: ExecutionId([4; 16]),
            partition: 0,
            attempt: 0,
            nonce: 0,
            work: vec![0; shoal_protocol::limits::MAX_WORK_BYTES],
            resources: Resources::default(),
            contact: Contact::default(),
        }))
    }

    #[test]
    fn a_message_leaves_at_once_until_enough_are_under_way_and_the_rest_leave_together() {
        let mut peers = Peers::default();
        assert_eq!([peers.add(TO, small()), peers.add(TO, small())], [Added::Leaves, Added::Leaves]);
        assert_eq!([peers.next(TO).len(), peers.next(TO).len()], [2, 0]);
        peers.lines.entry(TO).or_default().under_way = MAX_UNDER_WAY;
        (0..MAX_TOGETHER + 3).for_each(|_| assert_eq!(peers.add(TO, small()), Added::Waits));
        assert_eq!([peers.next(TO).len(), peers.next(TO).len(), peers.next(TO).len()], [MAX_TOGETHER, 3, 0]);
        assert_eq!(peers.next(TO).len(), 0);
        assert!(peers.lines.is_empty(), "nothing is remembered of a peer to which nothing goes");
    }

    #[test]
    fn what_leaves_together_is_never_more_than_a_peer_reads() {
        let mut peers = Peers::default();
        for message in [small(), large(), small(), large(), small(), small()] {
            assert_ne!(peers.add(TO, message), Added::Full);
        }
        for expected in [1, 1, 1, 1, 2] {
            let together = peers.next(TO);
            assert_eq!(together.len(), expected);
            let messages = together.iter().map(|sealed| sealed.bytes().to_vec()).collect();
            assert!(direct::encode(&Request::Messages(messages)).len() <= crate::network::MAX_REQUEST_BYTES);
        }
    }

    #[test]
    fn messages_that_find_no_room_are_dropped_and_one_peer_cannot_take_it_all() {
        let mut peers = Peers::default();
        (0..MAX_WAITING).for_each(|_| assert_ne!(peers.add(TO, small()), Added::Full));
        assert_eq!(peers.add(TO, small()), Added::Full);
        for index in MAX_WAITING..MAX_MESSAGES {
            let other = PeerId([u8::try_from(3 + index % 100).unwrap(); 32]);
            assert_ne!(peers.add(other, small()), Added::Full);
        }
        assert_eq!(peers.add(PeerId([250; 32]), small()), Added::Full);
        assert!(!peers.lines.contains_key(&PeerId([250; 32])));
    }
}
