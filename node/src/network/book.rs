//! The address book: where peers were last said to be.
//!
//! What peers say in tickets, announcements and identify ends up here, and every dial looks here (`/p2p/ID`). It is
//! bounded: a flood of invented peers only pushes out others that nobody mentioned for longer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iroh::address_lookup::memory::MemoryLookup;
use shoal_protocol::id::PeerId;
use shoal_protocol::limits::MAX_ADDRESSES;
use shoal_protocol::message::Contact;

use super::addresses;
use super::identity::endpoint_id;

/// Peers in the book.
pub(crate) const MAX_PEERS: usize = 4_096;

/// Addresses that a hint can put before those that are known.
const MAX_HINTED: usize = 2;

/// Where peers were last said to be. Clones share one book.
#[derive(Clone, Default)]
pub(crate) struct Book {
    pages: Arc<Mutex<Pages>>,
    lookup: MemoryLookup,
}

#[derive(Default)]
struct Pages {
    entries: BTreeMap<PeerId, Entry>,
    /// Peers by when they were last mentioned.
    order: BTreeMap<u64, PeerId>,
    mentions: u64,
}

struct Entry {
    contact: Contact,
    mention: u64,
}

impl Book {
    /// Writes down where `peer` is said to be, instead of what was said before. Says nothing when it leads nowhere.
    pub(crate) fn learn(&self, peer: PeerId, contact: &Contact) {
        let Some(address) = addresses::endpoint_addr(peer, contact) else { return };
        let mut pages = self.lock();
        let Some(gone) = pages.mention(peer, contact) else { return };
        self.lookup.set_endpoint_info(address);
        if let Some(id) = gone.and_then(endpoint_id) {
            self.lookup.remove_endpoint_info(id);
        }
    }

    /// Adds where somebody says that `peer` is to what is known of it. That comes first, since it is near if it is true,
    /// and leaves room for the rest.
    pub(crate) fn hint(&self, peer: PeerId, contact: &Contact) {
        let known = self.contact(peer).unwrap_or_default();
        let hinted = contact.addresses.iter().take(MAX_HINTED);
        let rest = known.addresses.iter().filter(|address| !contact.addresses.contains(address));
        let addresses = hinted.chain(rest).take(MAX_ADDRESSES).copied().collect();
        self.learn(peer, &Contact { addresses, relay: known.relay.or_else(|| contact.relay.clone()) });
    }

    /// Where `peer` was last said to be.
    pub(crate) fn contact(&self, peer: PeerId) -> Option<Contact> {
        self.lock().entries.get(&peer).map(|entry| entry.contact.clone())
    }

    /// Whether anything was said of `peer`.
    pub(crate) fn knows(&self, peer: PeerId) -> bool {
        self.lock().entries.contains_key(&peer)
    }

    /// What iroh asks when it dials a peer by name.
    pub(crate) fn lookup(&self) -> MemoryLookup {
        self.lookup.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// Notes the mention. None when it is no news, else the peer that had to go, if any.
    fn mention(&mut self, peer: PeerId, contact: &Contact) -> Option<Option<PeerId>> {
        self.mentions += 1;
        let mention = self.mentions;
        let known = self.entries.get_mut(&peer).map(|entry| {
            let before = std::mem::replace(&mut entry.mention, mention);
            (before, entry.contact == *contact)
        });
        self.order.insert(mention, peer);
        if let Some((before, same)) = known {
            self.order.remove(&before);
            if same {
                return None;
            }
        }
        self.entries.insert(peer, Entry { contact: contact.clone(), mention });
        if self.entries.len() <= MAX_PEERS {
            return Some(None);
        }
        let (_, gone) = self.order.pop_first()?;
        self.entries.remove(&gone);
        Some(Some(gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::identity::peer_of_key;
    use ed25519_dalek::SigningKey;

    fn contact(port: u16) -> Contact {
        Contact { addresses: vec![([192, 0, 2, 1], port).into()], relay: None }
    }

    #[test]
    fn the_last_word_counts() {
        let book = Book::default();
        let peer = peer_of_key(&SigningKey::from_bytes(&[1; 32]));
        book.learn(peer, &contact(1));
        book.learn(peer, &contact(2));
        book.learn(peer, &Contact::default());
        assert_eq!(book.contact(peer), Some(contact(2)));
        let info = book.lookup().get_endpoint_info(endpoint_id(peer).unwrap()).unwrap();
        assert_eq!(info.data.ip_addrs().count(), 1);
    }

    #[test]
    fn a_hint_is_tried_first_and_pushes_nothing_out_for_good() {
        let book = Book::default();
        let peer = peer_of_key(&SigningKey::from_bytes(&[1; 32]));
        let relay = Some("https://relay.example/".to_owned());
        book.learn(peer, &Contact { addresses: [contact(1), contact(2)].map(|c| c.addresses[0]).into(), relay });
        let false_ones = (10..20).flat_map(|port| contact(port).addresses).collect();
        book.hint(peer, &Contact { addresses: false_ones, relay: Some("https://other.example/".into()) });
        let known = book.contact(peer).unwrap();
        assert_eq!(known.addresses.iter().map(|a| a.port()).collect::<Vec<_>>(), [10, 11, 1, 2]);
        assert_eq!(known.relay.as_deref(), Some("https://relay.example/"));
    }

    #[test]
    fn a_full_book_forgets_who_was_not_mentioned_for_longest() {
        let mut pages = Pages::default();
        let name = |n: usize| PeerId(std::array::from_fn(|i| n.to_le_bytes().get(i).copied().unwrap_or(0)));
        for n in 0..MAX_PEERS {
            assert_eq!(pages.mention(name(n), &contact(1)), Some(None));
        }
        assert_eq!(pages.mention(name(0), &contact(1)), None, "no news, but a mention");
        assert_eq!(pages.mention(name(MAX_PEERS), &contact(1)), Some(Some(name(1))));
        assert_eq!((pages.entries.len(), pages.order.len()), (MAX_PEERS, MAX_PEERS));
    }
}
