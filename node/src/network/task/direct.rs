//! Direct messages: our requests to one peer, and theirs to us.

use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::FutureExt;
use libp2p::request_response::{self, Message, OutboundFailure, OutboundRequestId, ResponseChannel};
use shoal_protocol::conduct::Offence;
use shoal_protocol::id::PeerId;
use tokio::sync::{mpsc, oneshot};

use super::super::codec::{Answer, NotUnderstood};
use super::super::identity::{libp2p_id, peer_of_libp2p};
use super::super::swarm::MAX_REQUESTS_PER_PEER;
use super::super::{NetworkEvent, Reply, RequestError, addresses};
use super::dht::Query;
use super::{RequestReply, Task};

/// Requests of ours under way.
const MAX_REQUESTS: usize = 8_192;
/// Requests of ours to one peer that wait until others to it are over.
const MAX_WAITING_PER_PEER: usize = 1_024;
/// What of a request counts as one, in bytes: about a message, of which several may come together.
const TOKEN_BYTES: usize = 256;
/// Requests of others that the node is working on.
const MAX_WORKING: usize = 512;

impl Task {
    /// Sends a request. A peer that nothing is known of is looked up first.
    pub(super) fn request(&mut self, to: PeerId, bytes: Vec<u8>, reply: RequestReply) {
        let id = libp2p_id(to);
        if to == self.shared.own {
            let _ = reply.send(Err(RequestError::NoSuchPeer(to)));
        } else if self.requests.len() >= MAX_REQUESTS {
            let _ = reply.send(Err(RequestError::Overloaded));
        } else if self.requests_to.get(&to).is_some_and(|under_way| *under_way >= MAX_REQUESTS_PER_PEER) {
            self.wait(to, bytes, reply);
        } else if self.can_reach(to, &id) {
            self.send(to, bytes, reply);
        } else {
            self.locate(to, Query::Request { to, bytes, reply });
        }
    }

    pub(super) fn send(&mut self, to: PeerId, bytes: Vec<u8>, reply: RequestReply) {
        self.trim.talked(to);
        let addresses = vec![addresses::by_name(to)];
        let request = self.swarm.behaviour_mut().direct.send_request_with_addresses(&libp2p_id(to), bytes, addresses);
        self.requests.insert(request, (to, reply));
        *self.requests_to.entry(to).or_default() += 1;
    }

    /// Keeps a request until another one to the same peer is over.
    fn wait(&mut self, to: PeerId, bytes: Vec<u8>, reply: RequestReply) {
        let waiting = self.waiting.entry(to).or_default();
        if waiting.len() < MAX_WAITING_PER_PEER {
            waiting.push_back((bytes, reply));
        } else {
            let _ = reply.send(Err(RequestError::Overloaded));
        }
    }

    /// Sends the next request that waits for `peer` and that somebody still waits for.
    fn send_next(&mut self, peer: PeerId) {
        let Some(waiting) = self.waiting.get_mut(&peer) else { return };
        let next = std::iter::from_fn(|| waiting.pop_front()).find(|(_, reply)| !reply.is_closed());
        if waiting.is_empty() {
            self.waiting.remove(&peer);
        }
        if let Some((bytes, reply)) = next {
            self.send(peer, bytes, reply);
        }
    }

    /// A request of ours that is over.
    fn over(&mut self, request: OutboundRequestId) -> Option<(PeerId, RequestReply)> {
        let (peer, reply) = self.requests.remove(&request)?;
        if let Entry::Occupied(mut under_way) = self.requests_to.entry(peer) {
            *under_way.get_mut() -= 1;
            if *under_way.get() == 0 {
                under_way.remove();
            }
        }
        self.send_next(peer);
        Some((peer, reply))
    }

    fn can_reach(&mut self, peer: PeerId, id: &libp2p::PeerId) -> bool {
        self.swarm.is_connected(id) || self.shared.book.knows(peer) || self.is_routable(id)
    }

    pub(super) fn on_direct(&mut self, event: request_response::Event<Vec<u8>, Answer>) {
        match event {
            request_response::Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.on_request(&peer, request, channel);
            }
            request_response::Event::Message { message: Message::Response { request_id, response }, .. } => {
                let Some((peer, reply)) = self.over(request_id) else { return };
                let _ = reply.send(match response {
                    Answer::Bytes(bytes) => Ok(bytes),
                    Answer::Busy => Err(RequestError::Busy(peer)),
                    Answer::NotUnderstood(NotUnderstood { version, places }) => {
                        Err(RequestError::NotUnderstood { peer, version, places })
                    }
                });
            }
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                let Some((peer, reply)) = self.over(request_id) else { return };
                let _ = reply.send(Err(failure(peer, &error)));
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "request not answered");
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn on_request(&mut self, id: &libp2p::PeerId, bytes: Vec<u8>, channel: ResponseChannel<Answer>) {
        let Some(from) = peer_of_libp2p(id) else { return };
        let (sender, answer) = oneshot::channel();
        let price = u32::try_from(bytes.len().div_ceil(TOKEN_BYTES)).unwrap_or(u32::MAX).max(1);
        let request = NetworkEvent::Request { from, bytes, reply: Reply(sender) };
        if self.may_work(from, price) && self.hand_over_request(request) {
            self.working.push(answer.map(move |answer| (channel, answer.ok())).boxed());
        } else {
            self.answer_with(channel, Answer::Busy);
        }
    }

    fn may_work(&mut self, from: PeerId, price: u32) -> bool {
        self.trim.talked(from);
        if !self.request_rates.take_many(from, price, Instant::now()) {
            tracing::debug!(peer = %from.short(), "peer asks more than allowed");
            self.shared.counted.requests.fetch_add(1, Ordering::Relaxed);
            self.on_offence(from, Offence::Excess);
            return false;
        }
        self.working.len() < MAX_WORKING
    }

    fn hand_over_request(&self, request: NetworkEvent) -> bool {
        match self.events.others.try_send(request) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!("the node is too slow for its requests; some are answered with \"busy\"");
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Sends the node's answer. Without one the channel closes, and the other side hears of it at once.
    pub(super) fn answer(&mut self, channel: ResponseChannel<Answer>, answer: Option<Answer>) {
        if let Some(answer) = answer {
            self.answer_with(channel, answer);
        }
    }

    fn answer_with(&mut self, channel: ResponseChannel<Answer>, answer: Answer) {
        if self.swarm.behaviour_mut().direct.send_response(channel, answer).is_err() {
            tracing::debug!("the answer came too late");
        }
    }
}

fn failure(peer: PeerId, error: &OutboundFailure) -> RequestError {
    match error {
        OutboundFailure::DialFailure => RequestError::Unreachable(peer),
        OutboundFailure::Timeout => RequestError::TimedOut(peer),
        OutboundFailure::ConnectionClosed => RequestError::Broken { peer, reason: "the connection closed".into() },
        OutboundFailure::UnsupportedProtocols => RequestError::OtherProtocol(peer),
        OutboundFailure::Io(error) => RequestError::Broken { peer, reason: error.to_string() },
    }
}
