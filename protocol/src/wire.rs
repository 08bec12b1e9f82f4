//! Messages as bytes: one canonical encoding, a version, a signature, and a bound on every size.
//!
//! ```text
//! version 1 ‖ from 32 ‖ to 32 (zero: everybody) ‖ signature 64 ‖ message (postcard)
//! ```
//!
//! The signature covers the mesh, the receiver and the message, so that nothing can be replayed to another
//! peer or into another mesh. What [`open`] returns has been checked once and is trusted after.

use std::sync::Arc;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Serialize, de::DeserializeOwned};

use crate::id::{MeshId, PeerId};
use crate::limits::{MAX_DIRECT_BYTES, MAX_GOSSIP_BYTES, VERSION};
use crate::message::{Message, OutOfBounds};

const HEADER: usize = 1 + 32 + 32 + 64;

/// A message with its sender, as signed. Cheap to clone: gossip is handed to many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed(Arc<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    from: PeerId,
    to: Option<PeerId>,
    message: Message,
    bytes: Vec<u8>,
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
    /// Another protocol version.
    #[error("message has protocol version {0}, this node speaks {VERSION}")]
    Version(u8),
    /// The sender's key or signature is wrong, or it was meant for another mesh.
    #[error("message is not signed by its sender for this mesh")]
    Signature,
    /// The bytes are no message, or not the canonical form of one.
    #[error("message is malformed")]
    Malformed,
    /// A part is larger than the protocol allows.
    #[error("message is malformed: {0}")]
    OutOfBounds(#[from] OutOfBounds),
    /// Gossip with a receiver, or a direct message without one.
    #[error("message does not travel this way")]
    WrongWay,
}

/// The one encoding of a value: what is hashed, signed and saved.
pub fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("protocol types always encode")
}

/// Decodes a value and insists that the bytes are its canonical encoding.
pub fn parse<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, OpenError> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| OpenError::Malformed)?;
    if rest.is_empty() && canonical(&value) == bytes { Ok(value) } else { Err(OpenError::Malformed) }
}

/// Signs `message`, to one peer or to everybody.
pub fn seal(key: &SigningKey, mesh: MeshId, to: Option<PeerId>, message: Message) -> Sealed {
    let from = PeerId(key.verifying_key().to_bytes());
    let payload = canonical(&message);
    let signature = key.sign(&signed_bytes(mesh, to, &payload));
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.push(VERSION);
    bytes.extend(from.0);
    bytes.extend(to.map_or([0; 32], |to| to.0));
    bytes.extend(signature.to_bytes());
    bytes.extend(payload);
    Sealed(Arc::new(Inner { from, to, message, bytes }))
}

/// Checks and decodes a message. Whether `to` is this node is for the caller to check.
pub fn open(mesh: MeshId, bytes: &[u8]) -> Result<Sealed, OpenError> {
    if bytes.len() > MAX_DIRECT_BYTES {
        return Err(OpenError::Large(bytes.len()));
    }
    let (header, payload) = bytes.split_at_checked(HEADER).ok_or(OpenError::Short)?;
    if header[0] != VERSION {
        return Err(OpenError::Version(header[0]));
    }
    let from = PeerId(array(&header[1..33]));
    let to = Some(PeerId(array(&header[33..65]))).filter(|to| to.0 != [0; 32]);
    let key = VerifyingKey::from_bytes(&from.0).map_err(|_| OpenError::Signature)?;
    let signature = Signature::from_bytes(&array(&header[65..129]));
    key.verify_strict(&signed_bytes(mesh, to, payload), &signature).map_err(|_| OpenError::Signature)?;
    let message: Message = parse(payload)?;
    message.check()?;
    if message.is_gossip() != to.is_none() {
        return Err(OpenError::WrongWay);
    }
    if message.is_gossip() && bytes.len() > MAX_GOSSIP_BYTES {
        return Err(OpenError::Large(bytes.len()));
    }
    Ok(Sealed(Arc::new(Inner { from, to, message, bytes: bytes.to_vec() })))
}

impl Sealed {
    /// Takes a message as if it had been opened. For simulation, where nobody forges.
    pub fn assume(from: PeerId, to: Option<PeerId>, message: Message) -> Self {
        Self(Arc::new(Inner { from, to, message, bytes: Vec::new() }))
    }

    /// Who signed it.
    pub fn from(&self) -> PeerId {
        self.0.from
    }

    /// Whom it is for; nobody means everybody.
    pub fn to(&self) -> Option<PeerId> {
        self.0.to
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

fn signed_bytes(mesh: MeshId, to: Option<PeerId>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"shoal 1 message".to_vec();
    bytes.extend(mesh.0);
    bytes.extend(to.map_or([0; 32], |to| to.0));
    bytes.extend(payload);
    bytes
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the header is cut at fixed places")
}
