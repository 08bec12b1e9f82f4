//! Versions side by side: a node reads its own, the one before and the one after.
//!
//! A version may add fields to the end of a message, and variants to the end of an enum; it changes nothing else. So a
//! message of the next version begins with what this one knows, and one of the version before lacks nothing but its end.
//!
//! What a new version needs here: its number in [`limits`](crate::limits::VERSION), and a function that reads the version
//! before as [`OWN`]'s `read_before`. That function appends the defaults of the fields that the message lacks, and parses;
//! what has a variant that the version before does not know is malformed, since a node of that version would say so.

use super::{Unread, canonical, parse, parse_beginning};
use crate::limits::VERSION;
use crate::message::Message;
use crate::task::Work;

/// How a payload is read.
type Read = fn(&[u8]) -> Result<Message, Unread>;

/// How nodes of one version speak, and read those of the versions beside it.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// The version.
    pub version: u8,
    /// Writes a message.
    pub write: fn(&Message) -> Vec<u8>,
    /// Reads one that was written so.
    pub read: Read,
    /// Reads one of the version before, by that version's rules; none if this is the first that promises anything.
    pub read_before: Option<Read>,
}

/// What this build speaks.
pub const OWN: Dialect = Dialect { version: VERSION, write: canonical::<Message>, read: parse, read_before: None };

impl Dialect {
    /// Whether nodes of that version and of this one work together.
    pub fn speaks(&self, version: u8) -> bool {
        self.reader(version).is_some()
    }

    /// Reads a payload by the rules of the version that it is written in.
    pub fn read(&self, version: u8, payload: &[u8]) -> Result<Message, Unread> {
        self.reader(version).ok_or(Unread::Strange)?(payload)
    }

    fn reader(&self, version: u8) -> Option<Read> {
        match i16::from(version) - i16::from(self.version) {
            0 => Some(self.read),
            1 => Some(known_part),
            -1 => self.read_before,
            _ => None,
        }
    }

    /// What is wrong with a payload that cannot be read for that reason: with a version that is not known to its end,
    /// perhaps nothing.
    pub(super) fn blame(&self, version: u8, why: Unread) -> Unread {
        if version <= self.version && self.speaks(version) { why } else { Unread::Strange }
    }
}

/// Reads a message of the next version: what this one knows of it, whatever follows.
pub fn known_part(payload: &[u8]) -> Result<Message, Unread> {
    let (message, _) = parse_beginning::<Message>(payload)?;
    // Work is read whole or not at all: who passed over a part of it would compute something else.
    if let Message::Award(award) = &message {
        parse::<Work>(&award.work)?;
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::super::{Envelope, OpenError};
    use super::*;
    use crate::id::{ExecutionId, JobId, MeshId, PeerId};
    use crate::message::{Award, Contact, Ending, Resources, RevealPlease, Settle};

    /// The version after this one, as it might be: `Settle` has one more field, and awards are another variant.
    const NEXT: Dialect =
        Dialect { version: VERSION + 1, write: write_next, read: read_next, read_before: Some(read_own_as_before) };

    const THANKS: u8 = 1;
    const NEW_VARIANT: u8 = 100;

    fn write_next(message: &Message) -> Vec<u8> {
        let payload = canonical(message);
        match message {
            Message::Settle(_) => [&payload[..], &[THANKS]].concat(),
            Message::Award(_) => [&[NEW_VARIANT][..], &payload].concat(),
            _ => payload,
        }
    }

    fn read_next(payload: &[u8]) -> Result<Message, Unread> {
        match payload {
            [NEW_VARIANT, payload @ ..] => parse(payload),
            [payload @ .., THANKS] if matches!(known_part(payload), Ok(Message::Settle(_))) => parse(payload),
            payload => parse(payload),
        }
    }

    /// What a new version writes for the one before: the fields that are missing have their defaults.
    fn read_own_as_before(payload: &[u8]) -> Result<Message, Unread> {
        match parse(payload)? {
            Message::Settle(_) => read_next(&[payload, &[THANKS]].concat()),
            message => Ok(message),
        }
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn mesh() -> MeshId {
        MeshId::of("neighbours")
    }

    fn settle() -> Message {
        Message::Settle(Settle { job: JobId([1; 16]), execution: ExecutionId([2; 16]), ending: Ending::Unused })
    }

    fn please() -> Message {
        Message::RevealPlease(RevealPlease { job: JobId([1; 16]), execution: ExecutionId([2; 16]) })
    }

    fn award(work: Vec<u8>) -> Message {
        Message::Award(Award {
            job: JobId([1; 16]),
            execution: ExecutionId([2; 16]),
            partition: 0,
            attempt: 0,
            nonce: 0,
            work,
            resources: Resources::default(),
            contact: Contact::default(),
        })
    }

    /// What a node that speaks `listener` makes of what one that speaks `speaker` says.
    fn hear(speaker: &Dialect, listener: &Dialect, message: Message) -> Result<Message, Unread> {
        let sealed = speaker.seal(&key(), mesh(), Some(PeerId([3; 32])), message);
        match listener.open(mesh(), sealed.bytes()) {
            Ok(sealed) => Ok(sealed.into_message()),
            Err(OpenError::Unread { envelope, why }) => {
                let from = PeerId(key().verifying_key().to_bytes());
                assert_eq!(envelope, Envelope { version: speaker.version, from, to: Some(PeerId([3; 32])) });
                Err(why)
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn neighbours_read_what_both_know() {
        for message in [settle(), please()] {
            for (speaker, listener) in [(&OWN, &NEXT), (&NEXT, &OWN), (&NEXT, &NEXT), (&OWN, &OWN)] {
                assert_eq!(hear(speaker, listener, message.clone()), Ok(message.clone()));
            }
        }
    }

    #[test]
    fn what_only_the_next_version_knows_is_strange_and_not_malformed() {
        assert_eq!(hear(&NEXT, &OWN, award(Vec::new())), Err(Unread::Strange));
        assert_eq!(hear(&NEXT, &NEXT, award(Vec::new())), Ok(award(Vec::new())));
    }

    #[test]
    fn an_award_is_not_understood_if_its_work_is_not() {
        let plain = Dialect { write: canonical::<Message>, ..NEXT };
        assert_eq!(hear(&plain, &OWN, award(vec![99; 5])), Err(Unread::Strange));
        assert_eq!(
            hear(&OWN, &OWN, award(vec![99; 5])),
            Ok(award(vec![99; 5])),
            "the worker says what is wrong with it"
        );
    }

    #[test]
    fn a_version_further_away_is_strange_whatever_it_says() {
        let far = Dialect { version: NEXT.version + 1, ..OWN };
        assert_eq!(hear(&far, &OWN, please()), Err(Unread::Strange));
        assert_eq!(hear(&OWN, &far, please()), Err(Unread::Strange));
        let before = Dialect { version: VERSION - 1, ..OWN };
        assert_eq!(hear(&before, &OWN, please()), Err(Unread::Strange), "nothing before the first promises anything");
        let spoken = |dialect: Dialect| (0..=u8::MAX).filter(|version| dialect.speaks(*version)).collect::<Vec<_>>();
        assert_eq!(spoken(OWN), [VERSION, VERSION + 1]);
        assert_eq!(spoken(NEXT), [VERSION, VERSION + 1, VERSION + 2]);
        assert_eq!(spoken(Dialect { version: u8::MAX, ..NEXT }), [u8::MAX - 1, u8::MAX]);
    }

    #[test]
    fn nothing_follows_a_message_of_the_own_version_or_the_one_before() {
        let longer = Dialect { write: |message| [&canonical(message)[..], &[0]].concat(), ..OWN };
        for listener in [OWN, NEXT] {
            assert_eq!(hear(&longer, &listener, please()), Err(Unread::Malformed));
        }
    }

    #[test]
    fn the_version_is_signed() {
        let sealed = OWN.seal(&key(), mesh(), Some(PeerId([3; 32])), please());
        let renamed = [&[NEXT.version][..], &sealed.bytes()[1..]].concat();
        assert_eq!(OWN.open(mesh(), &renamed).unwrap_err(), OpenError::Signature);
    }
}
