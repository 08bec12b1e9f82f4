//! What a relay's client shows, and who is let in: members of the mesh, and for a while whoever wants to become one.
//!
//! The relay's handshake proves the client's key. In a private mesh the client shows its certificate beside it, which
//! is worth nothing to anybody else. A public mesh lets in anybody, except who names another mesh by mistake, and what
//! they get is bounded. iroh shows a pass only to relays that its node uses, and not to one that it meets a peer at.

use data_encoding::BASE64URL_NOPAD;
use shoal_protocol::id::{MeshId, PeerId};
use shoal_protocol::membership::Certificate;
use shoal_protocol::wire::{canonical, parse};

use crate::membership::Membership;

/// What a newcomer of a private mesh shows, that has no certificate yet.
const NEWCOMER: &str = "newcomer";
/// Longest pass that is looked at, in characters.
const MAX_PASS_CHARS: usize = 512;

/// As what a client is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It belongs to the mesh.
    Member,
    /// It may come to belong to it: a short time, and little.
    Newcomer,
}

/// What this node shows to relays.
pub(in crate::network) fn own(mesh: MeshId, membership: Option<&Membership>) -> String {
    match membership {
        Some(membership) => match membership.hello() {
            Some(hello) => BASE64URL_NOPAD.encode(&canonical(&hello.certificate)),
            None => NEWCOMER.to_owned(),
        },
        None => mesh.short(),
    }
}

/// What a node shows that has yet to be let into a private mesh.
pub(in crate::network) fn newcomer() -> String {
    NEWCOMER.to_owned()
}

/// As what `peer` is let in with this pass, if at all.
pub(super) fn standing(mesh: MeshId, membership: Option<&Membership>, peer: PeerId, pass: &str) -> Option<Standing> {
    if pass.len() > MAX_PASS_CHARS {
        return None;
    }
    let Some(membership) = membership else {
        return (pass.is_empty() || pass == mesh.short()).then_some(Standing::Member);
    };
    if pass == NEWCOMER {
        return (!membership.is_revoked(peer)).then_some(Standing::Newcomer);
    }
    let certificate: Certificate = parse(&BASE64URL_NOPAD.decode(pass.as_bytes()).ok()?).ok()?;
    membership.admits(peer, &certificate).ok().map(|()| Standing::Member)
}
