//! The secret that callers of the API show: kept in the data directory, readable by its owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

/// Bytes of chance in a token.
const TOKEN_BYTES: usize = 32;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("cannot use the API token in {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others could have read it.
    #[error(
        "the API token in {path} can be read by other users: remove it, and the node makes a new one",
        path = path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

/// The token in the file `path`; a new one if there is none. It stays the same across restarts, for scripts.
pub(super) fn load_or_create(path: &Path) -> Result<String, TokenError> {
    match load(path)? {
        Some(token) => Ok(token),
        None => create(path),
    }
}

/// The token in the file `path`, if it is a token that only its owner can read.
fn load(path: &Path) -> Result<Option<String>, TokenError> {
    let failed = |source| TokenError::Io { path: path.into(), source };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(TokenError::Open { path: path.into() });
    }
    let token = fs::read_to_string(path).map_err(failed)?;
    // A write that was cut short leaves no token.
    Ok(Some(token).filter(|token| HEXLOWER.decode(token.as_bytes()).is_ok_and(|bytes| bytes.len() == TOKEN_BYTES)))
}

fn create(path: &Path) -> Result<String, TokenError> {
    let failed = |source| TokenError::Io { path: path.into(), source };
    let mut secret = [0; TOKEN_BYTES];
    getrandom::fill(&mut secret).map_err(TokenError::Randomness)?;
    let token = HEXLOWER.encode(&secret);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(token.as_bytes()).map_err(failed)?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_secret_long_and_lasting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.token");
        let token = load_or_create(&path).unwrap();
        assert_eq!(token.len(), 2 * TOKEN_BYTES);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&path).unwrap(), token);
    }

    #[test]
    fn a_token_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.token");
        load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let message = load_or_create(&path).unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()) && message.contains("remove it"), "{message}");
    }

    #[test]
    fn half_a_token_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.token");
        let token = load_or_create(&path).unwrap();
        fs::write(&path, &token[..10]).unwrap();
        let other = load_or_create(&path).unwrap();
        assert!(other.len() == token.len() && other != token);
    }
}
