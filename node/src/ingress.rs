//! What peers say, on its way to the driver: opened, checked and priced. What is forged, stale or too much stops here, and
//! whoever sent what no honest peer sends is reported.

use std::sync::Arc;

use shoal_protocol::budget::{Budgets, Ruling};
use shoal_protocol::conduct::Offence;
use shoal_protocol::id::{MeshId, PeerId};
use shoal_protocol::machine::Input;
use shoal_protocol::message::Message;
use shoal_protocol::shard::Audience;
use shoal_protocol::wire::{Dialect, Envelope, OpenError, Sealed, Unread};
use shoal_store::blobs::Blobs;
use tokio::sync::{Semaphore, mpsc};

use crate::clock::Clock;
use crate::direct::{self, MAX_TOGETHER, Request};
use crate::driver::Event;
use crate::engine::Containers;
use crate::hands::Runs;
use crate::logs;
use crate::means::means;
use crate::network::{Events, Network, NetworkEvent, Reply, Validity};
use crate::skew::Skew;

/// Announcements that are priced at once; more are dropped, and come again if nobody takes the job.
const MAX_PRICING: usize = 64;
/// Log requests that are answered at once.
const MAX_LOG_READS: usize = 16;

/// Takes what the network hears.
pub(crate) struct Ingress {
    pub(crate) me: PeerId,
    pub(crate) mesh: MeshId,
    pub(crate) dialect: Dialect,
    pub(crate) clock: Clock,
    pub(crate) skew: Skew,
    pub(crate) network: Network,
    pub(crate) blobs: Blobs,
    pub(crate) containers: Option<Containers>,
    /// Whether images of registries are pulled.
    pub(crate) pulls: bool,
    pub(crate) runs: Runs,
    pub(crate) inbox: mpsc::Sender<Event>,
    pub(crate) pricing: Arc<Semaphore>,
    pub(crate) log_reads: Arc<Semaphore>,
    /// What is passed on of whom.
    pub(crate) budgets: Budgets,
}

impl Ingress {
    pub(crate) fn slots() -> (Arc<Semaphore>, Arc<Semaphore>) {
        (Arc::new(Semaphore::new(MAX_PRICING)), Arc::new(Semaphore::new(MAX_LOG_READS)))
    }

    /// Runs until the network has ended.
    pub(crate) async fn run(mut self, mut events: Events) {
        while let Some(event) = events.recv().await {
            match event {
                NetworkEvent::Gossip { id, source, audience, bytes } => {
                    let validity = self.gossip(source, audience, &bytes);
                    self.network.validate(id, source, validity);
                }
                NetworkEvent::Request { from, bytes, reply } => self.request(from, &bytes, reply).await,
                NetworkEvent::Corrupt(peer) => self.pass(Input::Corrupt(peer)),
                NetworkEvent::PeerUp(peer) => tracing::info!(peer = %peer.short(), "connected"),
                NetworkEvent::PeerDown(peer) => tracing::info!(peer = %peer.short(), "disconnected"),
            }
        }
    }

    fn gossip(&mut self, source: PeerId, audience: Audience, bytes: &[u8]) -> Validity {
        let now = self.clock.now();
        if let Some(Envelope { from, .. }) = Envelope::claimed(bytes) {
            // Members that have not heard of it yet may have passed it on, and others have other lists.
            if self.network.is_revoked(from) || !self.network.wants(from) {
                return Validity::Ignore;
            }
            if let Some(ruling) = self.budgets.foresee(now, source, from) {
                return self.obey(ruling, source);
            }
        }
        let sealed = match self.dialect.open(self.mesh, bytes) {
            Ok(sealed) if self.is_in_place(&sealed, audience) => sealed,
            Err(OpenError::Unread { envelope, why }) if !is_to_blame(source, envelope, why) => {
                tracing::debug!(version = envelope.version, from = %envelope.from.short(), %why, "not passed on");
                let offence = self.budgets.strange(now, source, envelope.from);
                offence.into_iter().for_each(|offence| self.network.report(source, offence));
                return Validity::Ignore;
            }
            Ok(_) | Err(_) => {
                self.network.report(source, Offence::Forged);
                return Validity::Reject;
            }
        };
        self.compare_clocks(&sealed);
        let ruling = self.budgets.rule(now, source, &sealed);
        if ruling == Ruling::Accept {
            match sealed.message() {
                Message::Announce(_) => self.price(sealed),
                _ => self.pass(Input::Heard(sealed)),
            }
        }
        self.obey(ruling, source)
    }

    /// What is told of a message that `source` has passed on, and what is told to it.
    fn obey(&self, ruling: Ruling, source: PeerId) -> Validity {
        match ruling {
            Ruling::Accept => return Validity::Accept,
            Ruling::Ignore(excess) => tracing::debug!(?excess, from = %source.short(), "not passed on"),
            Ruling::Blame(offence) => self.network.report(source, offence),
        }
        Validity::Ignore
    }

    /// Whether something is gossip at all, and said by a member of the audience to whom it is addressed.
    fn is_in_place(&self, sealed: &Sealed, audience: Audience) -> bool {
        let is_meant = match sealed.message() {
            Message::Announce(announce) => announce.audience() == audience,
            Message::Bid(_) => true,
            _ => false,
        };
        is_meant && self.network.is_near(sealed.from(), audience.level)
    }

    fn compare_clocks(&self, sealed: &Sealed) {
        if let Message::Announce(announce) = sealed.message()
            && sealed.from() != self.me
        {
            self.skew.hear(sealed.from(), announce.at, self.clock.now());
        }
    }

    /// Finds out what this node has for a job, then passes the announcement on.
    fn price(&self, sealed: Sealed) {
        let Ok(slot) = Arc::clone(&self.pricing).try_acquire_owned() else { return };
        let (blobs, containers, inbox) = (self.blobs.clone(), self.containers.clone(), self.inbox.clone());
        let pulls = self.pulls;
        tokio::spawn(async move {
            let Message::Announce(announce) = sealed.message() else { return };
            let means = means(&blobs, containers.as_ref(), pulls, &announce.needs).await;
            let _ = inbox.send(Event::Input(Input::Announced(sealed, means))).await;
            drop(slot);
        });
    }

    async fn request(&self, from: PeerId, bytes: &[u8], reply: Reply) {
        match direct::decode::<Request>(bytes) {
            Some(Request::Messages(messages)) => match self.messages(from, &messages).await {
                Some(strange) if strange.is_empty() => reply.send(Vec::new()),
                Some(strange) => reply.not_understood(self.dialect.version, strange),
                None => {}
            },
            Some(Request::Log(request)) => {
                let Ok(slot) = Arc::clone(&self.log_reads).try_acquire_owned() else { return };
                let runs = self.runs.clone();
                tokio::spawn(async move {
                    if let Some(piece) = logs::read_run(&runs, from, request).await {
                        reply.send(direct::encode(&piece));
                    }
                    drop(slot);
                });
            }
            None if self.network.protocol_of(from).is_some_and(|version| version > self.dialect.version) => {
                reply.not_understood(self.dialect.version, Vec::new());
            }
            None => {
                tracing::debug!(peer = %from.short(), "a request that is none");
                self.network.report(from, Offence::Forged);
            }
        }
    }

    /// Passes messages on, and returns the places of those that another version may understand. The first that is not what
    /// it should be ends it: whoever sends such things gets no answer, and no more work out of this node.
    async fn messages(&self, from: PeerId, messages: &[Vec<u8>]) -> Option<Vec<u8>> {
        let is_addressed = |sender, receiver| sender == from && receiver == Some(self.me);
        let mut strange = Vec::new();
        for (place, bytes) in (0..).zip(messages.iter().take(MAX_TOGETHER)) {
            match self.dialect.open(self.mesh, bytes) {
                Ok(sealed) if is_addressed(sealed.from(), sealed.to()) => {
                    self.inbox.send(Event::Input(Input::Heard(sealed))).await.ok()?;
                }
                Err(OpenError::Unread { envelope, why: Unread::Strange })
                    if is_addressed(envelope.from, envelope.to) =>
                {
                    strange.push(place);
                }
                Ok(_) | Err(_) => {
                    tracing::debug!(peer = %from.short(), "a message that is not what it should be");
                    self.network.report(from, Offence::Forged);
                    return None;
                }
            }
        }
        (messages.len() <= MAX_TOGETHER).then_some(strange)
    }

    fn pass(&self, input: Input) {
        if self.inbox.try_send(Event::Input(input)).is_err() {
            tracing::debug!("dropped: too much to do");
        }
    }
}

/// Whether `source` is to blame for gossip that is signed by whom it names and cannot be read. Whoever only passed it on
/// may speak another version, in which nothing is wrong with it.
fn is_to_blame(source: PeerId, envelope: Envelope, why: Unread) -> bool {
    envelope.from == source && why != Unread::Strange
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_speaker_is_to_blame_for_what_a_signed_message_says() {
        let [speaker, neighbour] = [PeerId([1; 32]), PeerId([2; 32])];
        let envelope = Envelope { version: 6, from: speaker, to: None };
        let table = [
            (speaker, Unread::Malformed, true),
            (speaker, Unread::WrongWay, true),
            (speaker, Unread::Strange, false),
            (neighbour, Unread::Malformed, false),
            (neighbour, Unread::Strange, false),
        ];
        for (source, why, expected) in table {
            assert_eq!(is_to_blame(source, envelope, why), expected, "{source} {why}");
        }
    }
}
