//! What a node keeps of its private meshes: a folder each, below `meshes/`, open to its owner only.
//!
//! ```text
//! key         the mesh's secret key, at whoever made the mesh or was given a copy
//! membership  certificate, revocations and invitations
//! lock        held by the one process that may change these
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use rustix::fs::{FlockOperation, flock};

use crate::data_dir::DataDir;
use crate::identity::{self, IdentityError};

/// Length of a private mesh's name, in bytes.
const MAX_NAME: usize = 64;
/// Largest membership file, in bytes: all invitations with all whom they let in are below a tenth of it.
const MAX_MEMBERSHIP_BYTES: u64 = 64 << 20;

/// The folder of one private mesh, locked for this process.
#[derive(Debug)]
pub struct MeshDir {
    folder: PathBuf,
    _lock: File,
}

/// Why the folder of a mesh cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MeshDirError {
    /// Another process has it.
    #[error("private mesh {name:?} in {folder} is in use by a running node: stop it, or ask it through its API", folder = folder.display())]
    InUse {
        /// The mesh.
        name: String,
        /// Its folder.
        folder: PathBuf,
    },
    /// The name would not do for a folder.
    #[error(
        "{0:?} is no name for a private mesh: use 1 to {MAX_NAME} letters, digits, '-', '_' and '.', not '.' first"
    )]
    Name(String),
    /// Something in it cannot be made, read or written.
    #[error("cannot use {path}: {source}", path = path.display())]
    Io {
        /// What failed.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its key cannot be used.
    #[error(transparent)]
    Key(#[from] IdentityError),
}

/// Whether a private mesh may have this name.
pub fn is_name(name: &str) -> bool {
    let fits = (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('.');
    fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The names of the private meshes that a node with this data directory belongs to.
pub fn names(dir: &DataDir) -> Result<Vec<String>, MeshDirError> {
    let path = dir.meshes();
    let failed = |source| MeshDirError::Io { path: path.clone(), source };
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let entries = entries.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut names: Vec<String> = entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| is_known(dir, name));
    names.sort_unstable();
    Ok(names)
}

/// Whether a node with this data directory belongs to a private mesh of this name.
pub fn is_known(dir: &DataDir, name: &str) -> bool {
    let folder = dir.meshes().join(name);
    is_name(name) && (folder.join("key").exists() || folder.join("membership").exists())
}

impl MeshDir {
    /// Takes the folder of the mesh called `name` for this process, and makes it if it is not there.
    pub fn lock(dir: &DataDir, name: &str) -> Result<Self, MeshDirError> {
        if !is_name(name) {
            return Err(MeshDirError::Name(name.chars().take(80).collect()));
        }
        let folder = dir.meshes().join(name);
        let failed = |source| MeshDirError::Io { path: folder.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(folder.join("lock")).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { folder, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(MeshDirError::InUse { name: name.to_owned(), folder }),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// The mesh's secret key, if it is here.
    pub fn key(&self) -> Result<Option<SigningKey>, MeshDirError> {
        Ok(identity::load_if_there(&self.key_path())?)
    }

    /// Makes the mesh's key.
    pub fn create_key(&self) -> Result<SigningKey, MeshDirError> {
        Ok(identity::load_or_create(&self.key_path())?)
    }

    /// Where the mesh's secret key is.
    pub fn key_path(&self) -> PathBuf {
        self.folder.join("key")
    }

    /// Where the rest is.
    pub fn membership_path(&self) -> PathBuf {
        self.folder.join("membership")
    }

    /// What was saved last.
    pub fn load(&self) -> Result<Option<Vec<u8>>, MeshDirError> {
        let path = self.membership_path();
        let failed = |source| MeshDirError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_MEMBERSHIP_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    /// Saves instead of what was saved before. A crash leaves one or the other; when this returns it is durable.
    pub fn save(&self, bytes: &[u8]) -> Result<(), MeshDirError> {
        let path = self.membership_path();
        write(&self.folder, &path, bytes).map_err(|source| MeshDirError::Io { path, source })
    }
}

fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let owner_only = fs::Permissions::from_mode(0o600);
    let mut file = tempfile::Builder::new().prefix(".membership-").permissions(owner_only).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_dir() -> (tempfile::TempDir, DataDir) {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::new(root.path());
        (root, dir)
    }

    #[test]
    fn a_mesh_is_known_once_something_was_saved() {
        let (_root, dir) = data_dir();
        let mesh = MeshDir::lock(&dir, "home").unwrap();
        assert!(!is_known(&dir, "home") && names(&dir).unwrap().is_empty());
        mesh.save(b"one").unwrap();
        mesh.save(b"two").unwrap();
        assert_eq!(mesh.load().unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(names(&dir).unwrap(), ["home"]);
    }

    #[test]
    fn what_is_saved_is_for_its_owner_only() {
        let (_root, dir) = data_dir();
        let mesh = MeshDir::lock(&dir, "home").unwrap();
        mesh.create_key().unwrap();
        mesh.save(b"secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&mesh.key_path()), mode(&mesh.membership_path())), (0o600, 0o600));
        assert_eq!(mode(&dir.meshes().join("home")), 0o700);
        fs::set_permissions(mesh.key_path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(mesh.key().unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_second_process_is_told_to_ask_the_first() {
        let (_root, dir) = data_dir();
        let first = MeshDir::lock(&dir, "home").unwrap();
        assert!(matches!(MeshDir::lock(&dir, "home"), Err(MeshDirError::InUse { .. })));
        drop(MeshDir::lock(&dir, "other").unwrap());
        drop(first);
        drop(MeshDir::lock(&dir, "home").unwrap());
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        let (_root, dir) = data_dir();
        for name in ["", ".", "..", "../x", "a/b", "a b", "ä", ".hidden", &"x".repeat(65)] {
            assert!(matches!(MeshDir::lock(&dir, name), Err(MeshDirError::Name(_))), "{name}");
            assert!(!is_known(&dir, name));
        }
        assert!(!dir.meshes().exists());
    }
}
