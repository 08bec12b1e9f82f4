//! How a newcomer comes into a private mesh: it proves that it knows an invitation's secret, and gets a certificate.
//!
//! Holders of the mesh's key answer on a protocol of its own. The proof is bound to the connection, so a recorded one is
//! worth nothing; whoever has none gets no answer, only the end of the connection.

use std::time::Duration;

use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh::{Endpoint, EndpointAddr};
use shoal_protocol::id::{MeshId, PeerId};
use shoal_protocol::invitation::{Answer, Refusal, Request, Secret};
use shoal_protocol::limits::MAX_NEWS_BYTES;
use shoal_protocol::membership::{Certificate, Revocation};
use shoal_protocol::message::Contact;

use super::frame::{self, FrameError};
use super::identity::peer_of_endpoint;
use super::places::Places;
use super::ticket::Ticket;
use super::{NetworkConfig, NetworkError, addresses, book, doorman, endpoint, relay, swarm};
use crate::membership::Membership;

/// Newcomers that are answered at once.
const MAX_PENDING: usize = 32;
/// How long a newcomer may take.
const DOOR_TIMEOUT: Duration = Duration::from_secs(5);
/// How long reaching one peer of a ticket may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// How long its answer may take: it writes to its disk first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What a newcomer says, in bytes.
const MAX_REQUEST_BYTES: usize = 64;
/// Application close code of the door. It says nothing.
const CLOSED: u32 = 0;

/// Why a newcomer was not let in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The network does not start.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The issuer says no.
    #[error("cannot join private mesh {mesh:?}: {reason}; ask for another invitation")]
    Refused {
        /// The mesh.
        mesh: String,
        /// What it says.
        reason: Refusal,
    },
    /// A holder of the key was there and did not answer.
    #[error(
        "cannot join private mesh {0:?}: the node that could let us in does not know this invitation; ask for another"
    )]
    Unknown(String),
    /// Nobody was there.
    #[error(
        "cannot join private mesh {mesh:?}: the node that issued the invitation cannot be reached ({reason}); \
         it must be running and reachable the first time"
    )]
    Unreachable {
        /// The mesh.
        mesh: String,
        /// What happened at the last of the ticket's peers.
        reason: String,
    },
}

/// What a newcomer gets.
pub(crate) type Welcome = (Certificate, Vec<Revocation>);

/// Answers newcomers.
#[derive(Debug, Clone)]
pub(super) struct Door {
    membership: Membership,
    places: Places,
}

impl Door {
    pub(super) fn new(membership: Membership) -> Self {
        Self { membership, places: Places::new(MAX_PENDING) }
    }

    async fn answer(&self, connection: &Connection) -> Result<(), FrameError> {
        let mut asked = frame::accept(connection).await?;
        let request: Request = frame::read(&mut asked, MAX_REQUEST_BYTES).await?;
        let peer = peer_of_endpoint(connection.remote_id());
        let binding = binding(connection, self.membership.mesh())?;
        let Some(answer) = self.membership.redeem(peer, &request, &binding) else { return Ok(()) };
        let outcome = if let Answer::Refused(reason) = &answer { reason.to_string() } else { "welcome".into() };
        tracing::info!(peer = %peer.short(), invitation = %request.id, %outcome, "a newcomer");
        frame::send(connection, &[&frame::encode(&answer)]).await?;
        // The newcomer hangs up when it has read.
        connection.closed().await;
        Ok(())
    }
}

impl ProtocolHandler for Door {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let place = self.places.take();
        tokio::select! {
            _ = tokio::time::timeout(DOOR_TIMEOUT, self.answer(&connection)) => {}
            () = place.lost() => {}
        }
        connection.close(CLOSED.into(), b"");
        Ok(())
    }
}

/// Asks the ticket's peers, in turn, to let this node in. The socket is closed again when this returns.
pub(crate) async fn redeem(config: &NetworkConfig, ticket: &Ticket, secret: &Secret) -> Result<Welcome, JoinError> {
    let mut config = config.clone();
    config.listen.set_port(0);
    let (book, doorman) = (book::Book::default(), doorman::Doorman::new(config.access.clone()));
    let endpoint = endpoint::bind(&config, &book, &doorman, None, relay::for_newcomer(&ticket.peers)).await?;
    let welcome = ask_all(&endpoint, ticket, secret).await;
    endpoint.close().await;
    welcome
}

async fn ask_all(endpoint: &Endpoint, ticket: &Ticket, secret: &Secret) -> Result<Welcome, JoinError> {
    let mesh = || ticket.mesh.clone();
    let id = ticket.mesh_id();
    let mut answer = Err(JoinError::Unreachable { mesh: mesh(), reason: "the ticket names no peer".into() });
    for (peer, contact) in &ticket.peers {
        answer = match ask(endpoint, id, (*peer, contact), secret).await {
            Ok(Answer::Welcome { certificate, revoked }) => return Ok((certificate, revoked)),
            Ok(Answer::Refused(reason)) => return Err(JoinError::Refused { mesh: mesh(), reason }),
            Err(Silent::Unanswered) => Err(JoinError::Unknown(mesh())),
            // One that was there and said nothing tells more.
            Err(Silent::Unreachable(_)) if matches!(answer, Err(JoinError::Unknown(_))) => answer,
            Err(Silent::Unreachable(reason)) => Err(JoinError::Unreachable { mesh: mesh(), reason }),
        };
    }
    answer
}

/// Why there is no answer.
enum Silent {
    Unreachable(String),
    Unanswered,
}

async fn ask(
    endpoint: &Endpoint,
    mesh: MeshId,
    (peer, contact): (PeerId, &Contact),
    secret: &Secret,
) -> Result<Answer, Silent> {
    let unreachable = |reason: &str| Silent::Unreachable(format!("peer {}: {reason}", peer.short()));
    let address: EndpointAddr = addresses::endpoint_addr(peer, contact).ok_or_else(|| unreachable("no address"))?;
    let alpn = swarm::Names::new(mesh, true).join_alpn();
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect(address, &alpn));
    let connection = connecting.await.map_err(|_| unreachable("no answer"))?;
    let connection = connection.map_err(|error| unreachable(&format!("{error:#}")))?;
    let asked = async {
        let binding = binding(&connection, mesh)?;
        frame::send(&connection, &[&frame::encode(&secret.request(&binding))]).await?;
        frame::read(&mut frame::accept(&connection).await?, MAX_NEWS_BYTES).await
    };
    let answer: Result<Result<Answer, FrameError>, _> = tokio::time::timeout(ANSWER_TIMEOUT, asked).await;
    connection.close(CLOSED.into(), b"");
    answer.ok().and_then(Result::ok).ok_or(Silent::Unanswered)
}

/// What a proof is bound to: both ends of this one connection know it, and nobody else does.
fn binding(connection: &Connection, mesh: MeshId) -> Result<[u8; 32], FrameError> {
    let mut binding = [0; 32];
    let exported = connection.export_keying_material(&mut binding, b"EXPORTER-shoal-1-invitation", mesh.as_bytes());
    exported.map_err(|error| FrameError::Broken(format!("{error:?}")))?;
    Ok(binding)
}
