//! The version of the protocol that this node speaks: the build's own, except in tests of what neighbouring versions make
//! of each other.

use shoal_protocol::wire::{self, Dialect};

use crate::config::Config;

#[cfg(not(debug_assertions))]
pub(crate) fn dialect(_: &Config) -> Dialect {
    wire::OWN
}

#[cfg(debug_assertions)]
pub(crate) fn dialect(config: &Config) -> Dialect {
    match config.misbehaviour {
        Some(crate::config::Misbehaviour::Speak { version, new_awards }) => of_version(version, new_awards),
        _ => wire::OWN,
    }
}

/// A version that is not there yet, as it might be: every message has more after what this build knows, and awards may be
/// a kind of message that this build does not know.
#[cfg(debug_assertions)]
fn of_version(version: u8, new_awards: bool) -> Dialect {
    use shoal_protocol::message::Message;
    use shoal_protocol::wire::{Unread, canonical, known_part, parse};

    const MORE: &[u8] = b"more";
    const NEW_KIND: u8 = 100;
    fn with_more(message: &Message) -> Vec<u8> {
        [&canonical(message), MORE].concat()
    }
    fn with_new_awards(message: &Message) -> Vec<u8> {
        match message {
            Message::Award(_) => [&[NEW_KIND][..], &with_more(message)].concat(),
            _ => with_more(message),
        }
    }
    fn read(payload: &[u8]) -> Result<Message, Unread> {
        known_part(payload.strip_prefix(&[NEW_KIND]).unwrap_or(payload))
    }
    let write = if new_awards { with_new_awards } else { with_more };
    let is_next = version == wire::OWN.version + 1;
    Dialect { version, write, read, read_before: Some(if is_next { parse } else { read }) }
}
