//! libp2p over iroh: connections of one iroh endpoint as a libp2p transport.
//!
//! The endpoint does TLS, hole punching, relays and address discovery, so listening only means to announce what the
//! endpoint knows about itself. Its router hands over inbound connections through [`Incoming`].

mod dial;
mod muxer;

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures_util::future::{BoxFuture, Ready, ready};
use futures_util::{FutureExt, Stream, stream::BoxStream, stream::StreamExt};
use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh::{Endpoint, EndpointAddr, TransportAddr, Watcher};
use libp2p::Multiaddr;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use shoal_protocol::id::PeerId;
use tokio::sync::mpsc;

use self::dial::Dials;
use self::muxer::Muxer;
use super::addresses;
use super::identity::{libp2p_id, peer_of_endpoint};
use super::links::Links;
use super::unreached::Unreached;

/// Inbound connections that may wait for the swarm. A full queue holds back the router's accept tasks.
const MAX_WAITING: usize = 64;

/// Why the transport could not connect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportFailure {
    /// The peer could not be reached, or is not who it should be.
    #[error("cannot connect: {0}")]
    Connect(Unreached),
    /// Another address of the same dial was used for all of them.
    #[error("this address shares the fate of the peer's other addresses")]
    SharedDial,
}

/// Ways to a peer to try beside those that it told.
pub(crate) type Detours = Arc<dyn Fn(PeerId) -> Vec<TransportAddr> + Send + Sync>;

/// What a connection becomes: who is there, and streams.
pub(crate) type Output = (libp2p::PeerId, StreamMuxerBox);

/// The transport. Its inbound connections come from the [`Incoming`] made with it.
pub(crate) struct Transport {
    endpoint: Endpoint,
    alpn: Arc<[u8]>,
    links: Links,
    detours: Detours,
    incoming: mpsc::Receiver<Connection>,
    listener: Option<Listener>,
    dials: Dials,
    waker: Option<Waker>,
}

/// Takes connections from the endpoint's router and gives them to the transport.
#[derive(Debug, Clone)]
pub(crate) struct Incoming(mpsc::Sender<Connection>);

impl ProtocolHandler for Incoming {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        self.0.send(connection).await.map_err(AcceptError::from_err)
    }
}

/// The endpoint's own addresses, as announced so far.
struct Listener {
    id: ListenerId,
    changes: BoxStream<'static, EndpointAddr>,
    announced: BTreeSet<Multiaddr>,
    events: VecDeque<Event>,
}

type Event = TransportEvent<Ready<Result<Output, TransportFailure>>, TransportFailure>;

impl Transport {
    /// A transport over `endpoint` that speaks `alpn`, and the handler to register for `alpn` at the router.
    pub(crate) fn new(endpoint: Endpoint, alpn: Arc<[u8]>, links: Links, detours: Detours) -> (Self, Incoming) {
        let (sender, incoming) = mpsc::channel(MAX_WAITING);
        let transport =
            Self { endpoint, alpn, links, detours, incoming, listener: None, dials: Dials::default(), waker: None };
        (transport, Incoming(sender))
    }

    fn incoming_event(&self, listener_id: ListenerId, connection: Connection) -> Event {
        let send_back_addr = remote_address(&connection);
        let local_addr = self.listener.as_ref().and_then(|listener| listener.announced.first().cloned());
        TransportEvent::Incoming {
            listener_id,
            upgrade: ready(Ok(established(&self.links, connection))),
            local_addr: local_addr.unwrap_or_else(Multiaddr::empty),
            send_back_addr,
        }
    }
}

impl libp2p::Transport for Transport {
    type Output = Output;
    type Error = TransportFailure;
    type ListenerUpgrade = Ready<Result<Output, TransportFailure>>;
    type Dial = BoxFuture<'static, Result<Output, TransportFailure>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<TransportFailure>> {
        if self.listener.is_some() {
            // One socket, one listener: there is nothing else to listen on.
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        let changes = self.endpoint.watch_addr().stream().boxed();
        self.listener = Some(Listener { id, changes, announced: BTreeSet::new(), events: VecDeque::new() });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listener.take_if(|listener| listener.id == id).is_some()
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<TransportFailure>> {
        let Some((peer, way)) = addresses::parse(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        // Whoever wants it dialled: the DHT hears of peers from others, which may speak its version.
        if let Some(version) = self.links.strangers().resting(peer_of_endpoint(peer), Instant::now()) {
            return Ok(ready(Err(TransportFailure::Connect(Unreached::OtherVersion(version)))).boxed());
        }
        let attempt = self.dials.attempt(peer, way);
        let (endpoint, alpn, links) = (self.endpoint.clone(), Arc::clone(&self.alpn), self.links.clone());
        let detours = (self.detours)(peer_of_endpoint(peer));
        Ok(async move { Ok(established(&links, attempt.run(endpoint, alpn, detours).await?)) }.boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        self.waker = Some(cx.waker().clone());
        let this = &mut *self;
        let Some(listener) = &mut this.listener else { return Poll::Pending };
        if let Poll::Ready(event) = listener.poll(cx, &this.endpoint) {
            return Poll::Ready(event);
        }
        let id = listener.id;
        match this.incoming.poll_recv(cx) {
            Poll::Ready(Some(connection)) => Poll::Ready(this.incoming_event(id, connection)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Listener {
    /// The next address that appeared or went away.
    fn poll(&mut self, cx: &mut Context<'_>, endpoint: &Endpoint) -> Poll<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            match Pin::new(&mut self.changes).poll_next(cx) {
                Poll::Ready(Some(address)) => self.announce(endpoint, &address),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn announce(&mut self, endpoint: &Endpoint, address: &EndpointAddr) {
        let own = libp2p_id(peer_of_endpoint(endpoint.id()));
        let now: BTreeSet<Multiaddr> = address.addrs.iter().filter_map(|way| addresses::multiaddr(own, way)).collect();
        let listener_id = self.id;
        let gone = self.announced.difference(&now).cloned();
        let new = now.difference(&self.announced).cloned();
        let gone = gone.map(|listen_addr| TransportEvent::AddressExpired { listener_id, listen_addr });
        let new = new.map(|listen_addr| TransportEvent::NewAddress { listener_id, listen_addr });
        self.events.extend(gone.chain(new));
        self.announced = now;
    }
}

fn established(links: &Links, connection: Connection) -> Output {
    let peer = peer_of_endpoint(connection.remote_id());
    links.add(peer, &connection);
    (libp2p_id(peer), StreamMuxerBox::new(Muxer::new(connection)))
}

/// Where an inbound connection comes from, as far as it is known yet.
fn remote_address(connection: &Connection) -> Multiaddr {
    let id = libp2p_id(peer_of_endpoint(connection.remote_id()));
    let paths = connection.paths();
    let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next());
    path.and_then(|path| addresses::multiaddr(id, path.remote_addr())).unwrap_or_else(Multiaddr::empty)
}
