//! The node's one key: made on first start, read ever after, shown to nobody.
//!
//! The file holds the 32-byte ed25519 seed as 64 hex digits and a newline.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ed25519_dalek::{SECRET_KEY_LENGTH, SigningKey};
use shoal_protocol::id::PeerId;
use zeroize::Zeroizing;

const HEX_LENGTH: usize = 2 * SECRET_KEY_LENGTH;

/// Why a node has no key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is there but cannot be read.
    #[error("cannot read the key in {path}: {source}", path = path.display())]
    Unreadable {
        /// The key file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Other users of the machine can read or change the key.
    #[error(
        "the key in {path} is open to other users (mode {mode:03o}): run `chmod 600 {path}`, \
         or remove the file to get a new identity if they may have copied it",
        path = path.display()
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no key. It is left as it is.
    #[error(
        "{path} does not hold a key (64 hex digits): restore it from a backup, \
         or move it away to get a new identity",
        path = path.display()
    )]
    Malformed {
        /// The key file.
        path: PathBuf,
    },
    /// There was no key, and a new one cannot be saved.
    #[error("cannot save a new key in {path}: {source}", path = path.display())]
    NotSaved {
        /// The key file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The key in the file at `path`, which is made if it is not there.
pub fn load_or_create(path: &Path) -> Result<SigningKey, IdentityError> {
    match load_if_there(path)? {
        Some(key) => Ok(key),
        None => create(path),
    }
}

/// The key in the file at `path`, if there is one.
pub fn load_if_there(path: &Path) -> Result<Option<SigningKey>, IdentityError> {
    match File::open(path) {
        Ok(file) => load(path, file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Unreadable { path: path.into(), source }),
    }
}

/// The name that a key gives its owner.
pub fn peer_id(key: &SigningKey) -> PeerId {
    PeerId(key.verifying_key().to_bytes())
}

fn load(path: &Path, file: File) -> Result<SigningKey, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable { path: path.into(), source };
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.into(), mode });
    }
    // One byte more than a key and its newline, so that a longer file is noticed.
    let mut text = Zeroizing::new(Vec::with_capacity(HEX_LENGTH + 2));
    file.take(HEX_LENGTH as u64 + 2).read_to_end(&mut text).map_err(unreadable)?;
    parse(&text).ok_or_else(|| IdentityError::Malformed { path: path.into() })
}

fn parse(text: &[u8]) -> Option<SigningKey> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    let mut seed = Zeroizing::new([0; SECRET_KEY_LENGTH]);
    if digits.len() != HEX_LENGTH {
        return None;
    }
    HEXLOWER.decode_mut(digits, seed.as_mut()).ok()?;
    Some(SigningKey::from_bytes(&seed))
}

fn create(path: &Path) -> Result<SigningKey, IdentityError> {
    let not_saved = |source| IdentityError::NotSaved { path: path.into(), source };
    let mut seed = Zeroizing::new([0; SECRET_KEY_LENGTH]);
    getrandom::fill(seed.as_mut()).map_err(|error| not_saved(io::Error::other(error)))?;
    match save(path, &seed) {
        Ok(()) => Ok(SigningKey::from_bytes(&seed)),
        // Somebody else was faster: theirs is the key.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load_or_create(path),
        Err(source) => Err(not_saved(source)),
    }
}

/// Writes the whole key under another name first, so that a crash leaves all of it or nothing.
fn save(path: &Path, seed: &[u8; SECRET_KEY_LENGTH]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut text = Zeroizing::new([b'\n'; HEX_LENGTH + 1]);
    HEXLOWER.encode_mut(seed, &mut text[..HEX_LENGTH]);
    let owner_only = fs::Permissions::from_mode(0o600);
    let mut file = tempfile::Builder::new().prefix(".identity-").permissions(owner_only).tempfile_in(folder)?;
    file.write_all(text.as_ref())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.key");
        (dir, path)
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_node_keeps_the_identity_of_its_first_start() {
        let (dir, path) = key_file();
        let first = load_or_create(&path).unwrap();
        let second = load_or_create(&path).unwrap();
        assert_eq!(peer_id(&first), peer_id(&second));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the key is left behind");
    }

    #[test]
    fn two_nodes_have_two_identities() {
        let (_dir, path) = key_file();
        let (_other_dir, other) = key_file();
        let (one, two) = (load_or_create(&path).unwrap(), load_or_create(&other).unwrap());
        assert_ne!(peer_id(&one), peer_id(&two));
    }

    #[test]
    fn a_new_key_is_for_its_owner_only() {
        let (_dir, path) = key_file();
        load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let (_dir, path) = key_file();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            write(&path, &"a1".repeat(32), mode);
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, IdentityError::Exposed { mode: found, .. } if found == mode), "{error}");
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
    }

    #[test]
    fn garbage_is_refused_and_kept() {
        let (_dir, path) = key_file();
        for garbage in ["", "\n", "hello", &"A1".repeat(32), &"a1".repeat(31), &"a1".repeat(33), &"a1\n".repeat(32)] {
            write(&path, garbage, 0o600);
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, IdentityError::Malformed { .. }), "{garbage:?}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), garbage);
        }
    }

    #[test]
    fn a_key_without_its_newline_is_still_a_key() {
        let (_dir, path) = key_file();
        write(&path, &"a1".repeat(32), 0o600);
        assert_eq!(load_or_create(&path).unwrap().to_bytes(), [0xa1; 32]);
    }

    #[test]
    fn nodes_that_start_at_once_agree_on_one_key() {
        let (_dir, path) = key_file();
        let start = || peer_id(&load_or_create(&path).unwrap());
        let ids: Vec<_> = std::thread::scope(|scope| {
            let nodes: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            nodes.into_iter().map(|node| node.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
    }

    #[test]
    fn a_key_that_cannot_be_saved_is_an_error_with_its_path() {
        let (dir, _) = key_file();
        let path = dir.path().join("missing").join("identity.key");
        let error = load_or_create(&path).unwrap_err();
        assert!(matches!(error, IdentityError::NotSaved { .. }));
        assert!(error.to_string().contains(&path.display().to_string()));
    }
}
