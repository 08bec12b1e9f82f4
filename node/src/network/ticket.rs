//! Join tickets: what somebody needs to find a mesh, as one word to copy.
//!
//! ```text
//! shoal1 ‖ base32( postcard{ mesh, peers } ‖ [ postcard{ expires, key, invitation } ] ‖ checksum 4 )
//! ```
//!
//! The second part is there if one of its fields is. Versions that know only the first say so. Lower case, no padding. The checksum is the start of a BLAKE3 hash: it tells a typing error from a dead mesh.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use shoal_protocol::id::{BlobHash, MeshId, MeshKey, PeerId};
use shoal_protocol::invitation::Secret;
use shoal_protocol::message::Contact;
use shoal_protocol::time::Time;
use shoal_protocol::wire::{self, canonical};

use crate::views::time::rfc3339;

/// What every ticket begins with.
pub(crate) const PREFIX: &str = "shoal1";
/// Bytes of the checksum.
const CHECKSUM: usize = 4;
/// Peers in a ticket: enough that one of them is up, few enough to paste.
pub const MAX_PEERS: usize = 8;
/// Length of a mesh's name, in bytes.
pub const MAX_MESH_NAME: usize = 64;
/// Length of a ticket, in characters: all peers with all their addresses, and the longest relay names.
pub const MAX_TICKET_CHARS: usize = 8_192;

/// A way into a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The name of the mesh.
    pub mesh: String,
    /// Members and where they are, at most [`MAX_PEERS`].
    pub peers: Vec<(PeerId, Contact)>,
    /// From when on it is not to be used.
    pub expires: Option<Time>,
    /// The key of the mesh, if it is private.
    pub key: Option<MeshKey>,
    /// What lets a newcomer into a private mesh.
    pub invitation: Option<Secret>,
}

/// What every ticket has.
#[derive(Serialize, Deserialize)]
struct Way {
    mesh: String,
    peers: Vec<(PeerId, Contact)>,
}

/// What some tickets have.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct More {
    expires: Option<Time>,
    key: Option<MeshKey>,
    invitation: Option<Secret>,
}

/// Why a text is no ticket, or not one for this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not begin like a ticket, or has characters that no ticket has.
    #[error("{0:?} is not a ticket; one begins with \"shoal1\" and is printed by `shoal ticket`")]
    NotATicket(String),
    /// It begins like a ticket, and goes on with something else.
    #[error("the ticket has {0:?} in it, which no ticket has: copy the one word that `shoal ticket` prints")]
    Character(char),
    /// The end is missing.
    #[error("the ticket is cut short: copy the whole word that `shoal ticket` prints")]
    CutShort,
    /// Some character is wrong.
    #[error("the ticket's checksum is wrong: a character was changed or lost; copy it again")]
    Checksum,
    /// The checksum is right and the content is none that this version knows.
    #[error("the ticket was made by another version of shoal")]
    OtherVersion,
    /// It leads into another mesh.
    #[error(
        "the ticket is of mesh {ticket:?} while this node is of mesh {node:?}; start the node with `--mesh {ticket}`"
    )]
    OtherMesh {
        /// The ticket's mesh.
        ticket: String,
        /// This node's mesh.
        node: String,
    },
    /// Its time is over.
    #[error("the ticket expired at {}; ask for another", rfc3339(*.0))]
    Expired(Time),
    /// It leads into a private mesh of the same name.
    #[error("the ticket is of another mesh that is called {0:?} too: this node cannot be in both")]
    OtherKey(String),
    /// It lets nobody in.
    #[error(
        "mesh {0:?} is private, and the ticket is no invitation: ask whoever holds the mesh's key for one \
         (`shoal mesh invite`)"
    )]
    NoInvitation(String),
}

impl Ticket {
    /// A ticket into the mesh called `mesh`, of peers that anybody may ask.
    pub fn new(mesh: impl Into<String>, peers: Vec<(PeerId, Contact)>) -> Self {
        Self { mesh: mesh.into(), peers, expires: None, key: None, invitation: None }
    }

    /// The id of its mesh.
    pub fn mesh_id(&self) -> MeshId {
        self.key.map_or_else(|| MeshId::of(&self.mesh), |key| MeshId::private(&self.mesh, key))
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Checks that the ticket leads into the mesh of that key, or into a public one for none.
    pub fn for_key(self, key: Option<MeshKey>) -> Result<Self, TicketError> {
        if self.key == key { Ok(self) } else { Err(TicketError::OtherKey(self.mesh)) }
    }

    /// Checks that the ticket leads into the mesh called `node`.
    pub fn for_mesh(self, node: &str) -> Result<Self, TicketError> {
        if self.mesh == node { Ok(self) } else { Err(TicketError::OtherMesh { ticket: self.mesh, node: node.into() }) }
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = canonical(&Way { mesh: self.mesh.clone(), peers: self.peers.clone() });
        let more = More { expires: self.expires, key: self.key, invitation: self.invitation };
        if more != More::default() {
            bytes.extend(canonical(&more));
        }
        let sum = checksum(&bytes);
        bytes.extend(sum);
        write!(f, "{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let not_a_ticket = || TicketError::NotATicket(text.chars().take(40).collect());
        if !text.is_empty() && text.len() < PREFIX.len() && PREFIX.starts_with(text) {
            return Err(TicketError::CutShort);
        }
        let digits = text.strip_prefix(PREFIX).ok_or_else(not_a_ticket)?;
        if text.len() > MAX_TICKET_CHARS {
            return Err(not_a_ticket());
        }
        if let Some(strange) = digits.chars().find(|digit| !is_digit(*digit)) {
            return Err(TicketError::Character(strange));
        }
        // A text of a length that base32 never has lost its end or a character of its middle: more often the end.
        let bytes = BASE32_NOPAD.decode(digits.to_ascii_uppercase().as_bytes()).map_err(|_| TicketError::CutShort)?;
        parse(&bytes)
    }
}

fn parse(bytes: &[u8]) -> Result<Ticket, TicketError> {
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(TicketError::CutShort)?;
    if checksum(body) != *sum {
        return Err(if is_cut(bytes) { TicketError::CutShort } else { TicketError::Checksum });
    }
    let (way, rest) = postcard::take_from_bytes::<Way>(body).map_err(|_| TicketError::OtherVersion)?;
    let more =
        if rest.is_empty() { More::default() } else { wire::parse(rest).map_err(|_| TicketError::OtherVersion)? };
    let (Way { mesh, peers }, More { expires, key, invitation }) = (way, more);
    let fits = mesh.len() <= MAX_MESH_NAME && peers.len() <= MAX_PEERS;
    if fits { Ok(Ticket { mesh, peers, expires, key, invitation }) } else { Err(TicketError::OtherVersion) }
}

/// Whether the bytes end in the middle of a ticket: within its content, or within its checksum.
fn is_cut(bytes: &[u8]) -> bool {
    let ends = |error| error == postcard::Error::DeserializeUnexpectedEnd;
    match postcard::take_from_bytes::<Way>(bytes) {
        Ok((_, rest)) if rest.len() <= CHECKSUM => rest.len() < CHECKSUM,
        Ok((_, rest)) => postcard::take_from_bytes::<More>(rest).map_or_else(ends, |(_, rest)| rest.len() < CHECKSUM),
        Err(error) => ends(error),
    }
}

fn is_digit(digit: char) -> bool {
    digit.is_ascii_lowercase() || ('2'..='7').contains(&digit)
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let hash = BlobHash::of(body);
    std::array::from_fn(|i| hash.0[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> Ticket {
        let contact = Contact {
            addresses: vec!["192.0.2.7:4001".parse().unwrap(), "[2001:db8::1]:4001".parse().unwrap()],
            relay: Some("https://relay.example".into()),
        };
        Ticket::new("shoal", vec![(PeerId([7; 32]), contact.clone()), (PeerId([9; 32]), contact)])
    }

    fn invitation() -> Ticket {
        let (expires, key) = (Some(Time(1_800_000_000_000)), Some(MeshKey([5; 32])));
        Ticket { expires, key, invitation: Some(Secret([6; 16])), ..ticket() }
    }

    #[test]
    fn a_ticket_is_one_lower_case_word_that_parses_back() {
        let text = ticket().to_string();
        assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{text}");
        assert_eq!(text.parse(), Ok(ticket()));
        assert_eq!(format!("  {text}\n").parse(), Ok(ticket()));
    }

    #[test]
    fn a_ticket_carries_more_and_parses_back() {
        assert_eq!(invitation().to_string().parse(), Ok(invitation()));
        let short = Ticket { expires: Some(Time(1)), ..ticket() };
        assert_eq!(short.to_string().parse(), Ok(short));
        assert!(!format!("{:?}", invitation()).contains("6, 6"), "its secret is not shown");
    }

    #[test]
    fn a_ticket_of_before_keeps_its_letters() {
        let text = ticket().to_string();
        let body = postcard::to_stdvec(&("shoal", &ticket().peers)).unwrap();
        let bytes = [body.clone(), checksum(&body).to_vec()].concat();
        assert_eq!(text, format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()));
    }

    #[test]
    fn an_invitation_without_its_end_or_with_another_letter_is_noticed() {
        let text = invitation().to_string();
        for length in 1..text.len() {
            let error = text[..length].parse::<Ticket>().unwrap_err();
            assert!(matches!(error, TicketError::CutShort | TicketError::Checksum), "first {length}: {error:?}");
        }
        for at in PREFIX.len()..text.len() - 1 {
            let other = if text.as_bytes()[at] == b'a' { "b" } else { "a" };
            let wrong = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(wrong.parse::<Ticket>().is_err(), "character {at}");
        }
    }

    #[test]
    fn a_ticket_is_of_one_key() {
        let (key, other) = (MeshKey([5; 32]), MeshKey([6; 32]));
        assert_eq!(invitation().for_key(Some(key)), Ok(invitation()));
        assert_eq!(invitation().for_key(Some(other)), Err(TicketError::OtherKey("shoal".into())));
        assert_eq!(invitation().for_key(None), Err(TicketError::OtherKey("shoal".into())));
        assert_eq!(ticket().for_key(Some(key)), Err(TicketError::OtherKey("shoal".into())));
        assert_ne!(ticket().mesh_id(), invitation().mesh_id());
    }

    #[test]
    fn a_ticket_ends_at_its_time() {
        assert!(invitation().is_expired(Time(1_800_000_000_000)) && !invitation().is_expired(Time(1_799_999_999_999)));
        assert!(!ticket().is_expired(Time::NEVER));
        assert!(TicketError::Expired(Time(1_800_000_000_000)).to_string().contains("2027-01-15"));
    }

    #[test]
    fn other_words_are_not_tickets() {
        for text in ["", "hello", "shoal2abcd", "SHOAL1ABCD"] {
            assert!(matches!(text.parse::<Ticket>(), Err(TicketError::NotATicket(_))), "{text}");
        }
        for (text, strange) in [("shoal1abc!", '!'), ("shoal1abcd0189", '0'), ("shoal1abc shoal1abc", ' ')] {
            assert_eq!(text.parse::<Ticket>(), Err(TicketError::Character(strange)));
        }
        assert!(matches!("shoal1a".repeat(9_999).parse::<Ticket>(), Err(TicketError::NotATicket(_))));
    }

    #[test]
    fn a_ticket_without_its_end_is_cut_short() {
        let text = ticket().to_string();
        for length in 1..text.len() {
            let error = text[..length].parse::<Ticket>();
            assert_eq!(error, Err(TicketError::CutShort), "first {length} of {} characters", text.len());
        }
    }

    #[test]
    fn a_changed_character_fails_the_checksum() {
        let text = ticket().to_string();
        // The last character may hold unused bits, and one in a length may pretend that there is more to come.
        for at in PREFIX.len()..text.len() - 1 {
            let other = if text.as_bytes()[at] == b'a' { "b" } else { "a" };
            let wrong = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            let error = wrong.parse::<Ticket>();
            assert!(matches!(error, Err(TicketError::Checksum | TicketError::CutShort)), "character {at}: {error:?}");
        }
        let wrong = text.replacen("shoal1a", "shoal1b", 1).replace("aaa", "aba");
        assert!(wrong.parse::<Ticket>().is_err());
    }

    #[test]
    fn a_ticket_of_another_mesh_names_both() {
        let error = ticket().for_mesh("home").unwrap_err().to_string();
        assert!(error.contains("\"shoal\"") && error.contains("\"home\""), "{error}");
        assert_eq!(ticket().for_mesh("shoal"), Ok(ticket()));
    }

    #[test]
    fn the_largest_ticket_fits() {
        let addresses = vec!["[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(); 4];
        let contact = Contact { addresses, relay: Some("r".repeat(shoal_protocol::limits::MAX_TEXT_BYTES)) };
        let peers = vec![(PeerId([255; 32]), contact); MAX_PEERS];
        let largest = Ticket { mesh: "m".repeat(MAX_MESH_NAME), peers, expires: Some(Time::NEVER), ..invitation() };
        assert!(largest.to_string().len() <= MAX_TICKET_CHARS);
        assert_eq!(largest.to_string().parse(), Ok(largest));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text in ".*", digits in "[a-z2-7]{0,300}") {
            let _ = text.parse::<Ticket>();
            let _ = format!("{PREFIX}{digits}").parse::<Ticket>();
        }

        #[test]
        fn any_checked_bytes_are_parsed_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            bytes.extend(checksum(&bytes));
            let _ = parse(&bytes);
            let mut longer = canonical(&Way { mesh: "home".into(), peers: vec![] });
            longer.extend(&bytes[..bytes.len() - CHECKSUM]);
            longer.extend(checksum(&longer));
            let _ = parse(&longer);
        }
    }
}
