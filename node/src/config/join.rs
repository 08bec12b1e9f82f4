//! What `--join` takes: a ticket, a multiaddress, or a file with one of these a line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use shoal_protocol::id::PeerId;
use shoal_protocol::message::Contact;

use super::ConfigError;
use crate::network::parse_multiaddr;
use crate::network::ticket::{PREFIX, Ticket};

/// Largest file of tickets, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Tickets and addresses together.
const MAX_JOINS: usize = 256;
/// How the multiaddresses begin that could lead to a node. Other texts with a slash are paths.
const ADDRESSES: [&str; 6] = ["/ip4/", "/ip6/", "/dns/", "/dns4/", "/dns6/", "/p2p/"];
/// What is shown of an invitation, in characters.
const SHOWN: usize = 12;

/// Everything to join with.
#[derive(Debug, Default)]
pub(super) struct Joins {
    pub(super) tickets: Vec<Ticket>,
    pub(super) peers: Vec<(PeerId, Contact)>,
}

impl Joins {
    /// Reads the words, and the files that they name.
    pub(super) fn read(words: &[String]) -> Result<Self, ConfigError> {
        let mut joins = Self::default();
        for word in words.iter().map(|word| word.trim()).filter(|word| !word.is_empty()) {
            if !joins.add(word)? {
                joins.read_file(Path::new(word))?;
            }
        }
        if joins.tickets.len() + joins.peers.len() > MAX_JOINS {
            return Err(ConfigError::Join(format!("more than {MAX_JOINS} tickets and addresses; a few are enough")));
        }
        Ok(joins)
    }

    /// The mesh of the first ticket.
    pub(super) fn mesh(&self) -> Option<&str> {
        Some(&self.tickets.first()?.mesh)
    }

    /// Takes a ticket or an address. False for what could only be a file.
    fn add(&mut self, word: &str) -> Result<bool, ConfigError> {
        if ADDRESSES.iter().any(|start| word.starts_with(start)) {
            self.peers.push(parse_multiaddr(word).ok_or_else(|| ConfigError::Join(no_address(word)))?);
        } else if word.starts_with(PREFIX) {
            self.tickets.push(word.parse()?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let failed = |line, reason| ConfigError::JoinFile { path: path.to_owned(), line, reason };
        let before = self.tickets.len() + self.peers.len();
        for (at, line) in read(path)?.lines().enumerate().take(MAX_JOINS * 64) {
            let word = line.split('#').next().unwrap_or_default().trim();
            let added = if word.is_empty() { Ok(true) } else { self.add(word) };
            match added {
                Ok(true) => {}
                Ok(false) => return Err(failed(Some(at + 1), nothing(word))),
                Err(ConfigError::Ticket(error)) => return Err(failed(Some(at + 1), error.to_string())),
                Err(ConfigError::Join(reason)) => return Err(failed(Some(at + 1), reason)),
                Err(error) => return Err(error),
            }
        }
        // Most likely whatever should have written it has failed: without it the node would be alone, or in another mesh.
        if self.tickets.len() + self.peers.len() == before {
            return Err(failed(None, "holds no ticket and no multiaddress".to_owned()));
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |reason| ConfigError::JoinFile { path: path.to_owned(), line: None, reason };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ConfigError::Join(nothing(&path.to_string_lossy())));
        }
        Err(error) => return Err(failed(format!("cannot be read: {error}"))),
    };
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| failed(format!("cannot be read: {error}")))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(failed(format!("is larger than {MAX_FILE_BYTES} bytes; a few tickets are enough")));
    }
    Ok(text)
}

fn nothing(word: &str) -> String {
    let start: String = word.chars().take(40).collect();
    format!(
        "{start:?} is no ticket (one begins with \"{PREFIX}\"), no multiaddress \
         (/ip4/…/udp/…/quic-v1/p2p/…), and no file of these"
    )
}

fn no_address(word: &str) -> String {
    let start: String = word.chars().take(120).collect();
    format!(
        "{start:?} leads to no node: write /ip4/ADDRESS/udp/PORT/quic-v1/p2p/ID, as in `Multiaddrs` of \
         `shoal node info`"
    )
}

/// What may be shown of a word: an invitation is a secret.
pub(super) fn shown(word: &str) -> String {
    let is_invitation = word.trim().parse::<Ticket>().is_ok_and(|ticket| ticket.invitation.is_some());
    if is_invitation { format!("{}… (an invitation)", &word.trim()[..SHOWN]) } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use shoal_protocol::id::MeshKey;
    use shoal_protocol::invitation::Secret;

    use super::*;

    const ID: &str = "12D3KooWGzBXWNvHpLALvMAdPYaCQWDkBRVpSTnUVVqMKk1LSwyh";

    fn read(words: &[&str]) -> Result<Joins, ConfigError> {
        Joins::read(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.txt");
        std::fs::write(&path, text).unwrap();
        (dir, path.display().to_string())
    }

    fn address() -> String {
        format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{ID}")
    }

    #[test]
    fn tickets_addresses_and_files_of_them_are_joined() {
        let ticket = Ticket::new("home", vec![]).to_string();
        let (_dir, path) = file(&format!("# ours\n\n{ticket}  # the first\n  {}\n", address()));
        let joins = read(&[&path, "", &ticket, &address()]).unwrap();
        assert_eq!((joins.tickets.len(), joins.peers.len(), joins.mesh()), (2, 2, Some("home")));
        assert_eq!(joins.peers[0].1.addresses, ["192.0.2.1:4001".parse().unwrap()]);
    }

    #[test]
    fn what_cannot_be_joined_is_named_with_its_line() {
        let (_dir, path) = file("# x\nshoal1abc\n");
        let (_other, words) = file("\n\nsomewhere");
        let (_third, addresses) = file("/ip4/192.0.2.1/tcp/4001");
        let (_fourth, empty) = file("# to be written\n");
        let table = [
            (vec!["gibberish"], vec!["gibberish", "no ticket", "no file"]),
            (vec!["/ip4/192.0.2.1/udp/4001/quic-v1"], vec!["leads to no node", "quic-v1/p2p/ID"]),
            (vec![&path], vec![&path, "line 2", "cut short"]),
            (vec![&words], vec![&words, "line 3", "somewhere"]),
            (vec![&addresses], vec![&addresses, "line 1", "leads to no node"]),
            (vec![&empty], vec![&empty, "holds no ticket"]),
            (vec!["/"], vec!["/", "cannot be read"]),
        ];
        for (words, expected) in table {
            let error = read(&words).unwrap_err().to_string();
            expected.iter().for_each(|word| assert!(error.contains(word), "{word:?} in {error:?}"));
        }
    }

    #[test]
    fn files_are_bounded_and_do_not_name_files() {
        let (_dir, path) = file(&"# nothing\n".repeat(200_000));
        assert!(read(&[&path]).unwrap_err().to_string().contains("larger than"));
        let (_other, nested) = file(&path);
        assert!(read(&[&nested]).unwrap_err().to_string().contains("line 1"));
        let address = address();
        assert!(read(&vec![&*address; MAX_JOINS + 1]).unwrap_err().to_string().contains("more than 256"));
    }

    #[test]
    fn an_invitation_is_not_shown() {
        let ticket = Ticket::new("home", vec![]);
        let (key, secret) = (Some(MeshKey([1; 32])), Some(Secret([2; 16])));
        let invitation = Ticket { key, invitation: secret, ..ticket.clone() }.to_string();
        assert!(shown(&invitation).len() < 40 && shown(&invitation).ends_with("(an invitation)"));
        assert_eq!(shown(&ticket.to_string()), ticket.to_string());
    }
}
