//! Messages as bytes: one canonical encoding, a version, a signature, and a bound on every size.
//!
//! ```text
//! version 1 ‖ from 32 ‖ to 32 (zero: everybody) ‖ signature 64 ‖ message (postcard)
//! ```
//!
//! The signature covers the version, the mesh, the receiver and the message, so that nothing can be replayed to another
//! peer, into another mesh or as something else. This envelope is the same in all versions: whose a message is can be
//! told of one that cannot be read. What [`open`] returns has been checked once and is trusted after.

mod dialect;

use std::sync::Arc;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Serialize, de::DeserializeOwned};

use crate::id::{MeshId, PeerId};
use crate::limits::{MAX_DIRECT_BYTES, MAX_GOSSIP_BYTES};
use crate::message::{Message, OutOfBounds};

pub use dialect::{Dialect, OWN, known_part};

const HEADER: usize = 1 + 32 + 32 + 64;

/// A message with its sender, as signed. Cheap to clone: gossip is handed to many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed(Arc<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    envelope: Envelope,
    message: Message,
    bytes: Vec<u8>,
}

/// What every version says of a message outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The version that it is written in.
    pub version: u8,
    /// Who signed it.
    pub from: PeerId,
    /// Whom it is for; nobody means everybody.
    pub to: Option<PeerId>,
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than its header.
    #[error("message is cut short")]
    Short,
    /// Longer than its kind may be.
    #[error("message of {0} bytes is too large")]
    Large(usize),
    /// The sender's key or signature is wrong, or it was meant for another mesh.
    #[error("message is not signed by its sender for this mesh")]
    Signature,
    /// It is signed by whom it names, and this node cannot read it.
    #[error("message of peer {} in protocol version {}: {why}", .envelope.from.short(), .envelope.version)]
    Unread {
        /// What is known of it.
        envelope: Envelope,
        /// Why it cannot be read.
        why: Unread,
    },
}

/// Why a signed message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Its version may say what this node does not know.
    #[error("this node does not understand it")]
    Strange,
    /// The bytes are no message, or not the canonical form of one.
    #[error("it is malformed")]
    Malformed,
    /// A part is larger than the protocol allows.
    #[error("it is malformed: {0}")]
    OutOfBounds(#[from] OutOfBounds),
    /// Gossip with a receiver, or a direct message without one.
    #[error("it does not travel this way")]
    WrongWay,
}

/// The one encoding of a value: what is hashed, signed and saved.
pub fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("protocol types always encode")
}

/// Decodes a value and insists that the bytes are its canonical encoding.
pub fn parse<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, Unread> {
    match parse_beginning(bytes)? {
        (value, []) => Ok(value),
        _ => Err(Unread::Malformed),
    }
}

/// Decodes a value that the bytes begin with in its canonical encoding; returns what follows it too.
fn parse_beginning<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), Unread> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| Unread::Malformed)?;
    let is_canonical = canonical(&value) == bytes[..bytes.len() - rest.len()];
    if is_canonical { Ok((value, rest)) } else { Err(Unread::Malformed) }
}

/// Signs `message`, to one peer or to everybody, in this node's own version.
pub fn seal(key: &SigningKey, mesh: MeshId, to: Option<PeerId>, message: Message) -> Sealed {
    OWN.seal(key, mesh, to, message)
}

/// Checks and decodes a message. Whether `to` is this node is for the caller to check.
pub fn open(mesh: MeshId, bytes: &[u8]) -> Result<Sealed, OpenError> {
    OWN.open(mesh, bytes)
}

impl Dialect {
    /// Signs `message`, to one peer or to everybody.
    pub fn seal(&self, key: &SigningKey, mesh: MeshId, to: Option<PeerId>, message: Message) -> Sealed {
        let envelope = Envelope { version: self.version, from: PeerId(key.verifying_key().to_bytes()), to };
        let payload = (self.write)(&message);
        let signature = key.sign(&envelope.signed_bytes(mesh, &payload));
        let bytes = [&envelope.bytes()[..], &signature.to_bytes(), &payload].concat();
        Sealed(Arc::new(Inner { envelope, message, bytes }))
    }

    /// Checks and decodes a message. Whether `to` is this node is for the caller to check.
    pub fn open(&self, mesh: MeshId, bytes: &[u8]) -> Result<Sealed, OpenError> {
        if bytes.len() > MAX_DIRECT_BYTES {
            return Err(OpenError::Large(bytes.len()));
        }
        let (header, payload) = bytes.split_at_checked(HEADER).ok_or(OpenError::Short)?;
        let envelope = Envelope::of(header);
        let key = VerifyingKey::from_bytes(&envelope.from.0).map_err(|_| OpenError::Signature)?;
        let signature = Signature::from_bytes(&array(&header[65..]));
        let signed = envelope.signed_bytes(mesh, payload);
        key.verify_strict(&signed, &signature).map_err(|_| OpenError::Signature)?;
        let read = self.read(envelope.version, payload).and_then(|message| envelope.checked(message));
        let message = read.map_err(|why| OpenError::Unread { envelope, why: self.blame(envelope.version, why) })?;
        if message.is_gossip() && bytes.len() > MAX_GOSSIP_BYTES {
            return Err(OpenError::Large(bytes.len()));
        }
        Ok(Sealed(Arc::new(Inner { envelope, message, bytes: bytes.to_vec() })))
    }
}

impl Envelope {
    /// What bytes say of themselves before anything is checked. None if they are too short for a message.
    pub fn claimed(bytes: &[u8]) -> Option<Self> {
        bytes.split_at_checked(HEADER).map(|(header, _)| Self::of(header))
    }

    fn of(header: &[u8]) -> Self {
        let to = Some(PeerId(array(&header[33..65]))).filter(|to| to.0 != [0; 32]);
        Self { version: header[0], from: PeerId(array(&header[1..33])), to }
    }

    fn bytes(&self) -> Vec<u8> {
        [&[self.version][..], &self.from.0, &self.receiver()].concat()
    }

    fn signed_bytes(&self, mesh: MeshId, payload: &[u8]) -> Vec<u8> {
        [&b"shoal 1 message"[..], &[self.version], &mesh.0, &self.receiver(), payload].concat()
    }

    fn receiver(&self) -> [u8; 32] {
        self.to.map_or([0; 32], |to| to.0)
    }

    /// The message, if it is within its bounds and travels as it is addressed.
    fn checked(&self, message: Message) -> Result<Message, Unread> {
        message.check()?;
        if message.is_gossip() == self.to.is_none() { Ok(message) } else { Err(Unread::WrongWay) }
    }
}

impl Sealed {
    /// Takes a message as if it had been opened. For simulation, where nobody forges.
    pub fn assume(from: PeerId, to: Option<PeerId>, message: Message) -> Self {
        let envelope = Envelope { version: OWN.version, from, to };
        Self(Arc::new(Inner { envelope, message, bytes: Vec::new() }))
    }

    /// Who signed it.
    pub fn from(&self) -> PeerId {
        self.0.envelope.from
    }

    /// Whom it is for; nobody means everybody.
    pub fn to(&self) -> Option<PeerId> {
        self.0.envelope.to
    }

    /// What it says.
    pub fn message(&self) -> &Message {
        &self.0.message
    }

    /// What it says.
    pub fn into_message(self) -> Message {
        Arc::unwrap_or_clone(self.0).message
    }

    /// As it travels: what was signed, for evidence.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the header is cut at fixed places")
}
