//! Whom registries know the operator as: what `docker login` has left, read anew each time.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError as Error, DockerCredential, get_credential_from_reader};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// Docker Hub, as `docker login` writes it.
const HUB: &str = "https://index.docker.io/v1/";
/// Docker Hub, as names of images have it.
const HUB_REGISTRY: &str = "docker.io";
/// How long a helper may take to say a password: it may ask a keychain.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest configuration of docker, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What shows a registry who asks. Never shown to anybody else.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// A name and a password.
    Password(String, Zeroizing<String>),
    /// A token that stands for both.
    Token(Zeroizing<String>),
}

/// The logins of the operator.
#[derive(Debug, Default)]
pub(super) struct Logins {
    /// Docker's configuration; none where nobody has a home.
    config: Option<PathBuf>,
    /// One helper at a time: one that hangs must not hang many.
    turn: Arc<Mutex<()>>,
}

impl Logins {
    /// Those of the user that this process runs as: `DOCKER_CONFIG`, else `~/.docker`.
    pub(super) fn of_user() -> Self {
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
        let folder = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        Self::at(folder.or_else(home).map(|folder| folder.join("config.json")))
    }

    pub(super) fn at(config: Option<PathBuf>) -> Self {
        Self { config, turn: Arc::default() }
    }

    /// What `docker login` left for a registry. Where that cannot be had, the registry is asked as a stranger.
    pub(super) async fn find(&self, registry: &str) -> Option<Login> {
        let config = self.config.clone()?;
        let server = if registry == HUB_REGISTRY { HUB } else { registry }.to_owned();
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turn).lock_owned()).await.ok()?;
        let find = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            find(&config, &server)
        });
        let why = match tokio::time::timeout(PATIENCE, find).await {
            Ok(Ok(Ok(login))) => return Some(login),
            Ok(Ok(Err(Error::NoCredentialConfigured | Error::ConfigNotFound))) => return None,
            Ok(Ok(Err(error))) => in_words(&error),
            Ok(Err(_)) | Err(_) => "the credential helper does not answer",
        };
        tracing::warn!(registry, why, "docker's login is not used");
        None
    }
}

fn find(config: &PathBuf, server: &str) -> Result<Login, Error> {
    let file = File::open(config).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::ConfigNotFound,
        _ => Error::ConfigReadError,
    })?;
    let found = get_credential_from_reader(BufReader::new(file.take(MAX_CONFIG_BYTES)), server)?;
    Ok(match found {
        DockerCredential::IdentityToken(token) => Login::Token(token.into()),
        DockerCredential::UsernamePassword(name, password) => Login::Password(name, password.into()),
    })
}

/// What went wrong, without what a helper printed: it may be the secret.
fn in_words(error: &Error) -> &'static str {
    match error {
        Error::HelperCommunicationError => "the credential helper cannot be run",
        Error::MalformedHelperResponse => "the credential helper's answer is malformed",
        Error::HelperFailure { .. } => "the credential helper has none, or fails",
        Error::CredentialDecodingError | Error::CredentialMismatchError => "its entry in config.json is malformed",
        Error::ConfigReadError => "config.json cannot be read",
        Error::NoCredentialConfigured | Error::ConfigNotFound => "there is none",
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(config: &str) -> (tempfile::TempDir, Logins) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, config).unwrap();
        (dir, Logins::at(Some(path)))
    }

    fn password(name: &str, word: &str) -> Option<Login> {
        Some(Login::Password(name.into(), word.to_owned().into()))
    }

    #[tokio::test]
    async fn each_registry_gets_its_own_login_and_no_other() {
        // ann:secret, bob:word
        let (_dir, logins) = logins(
            r#"{"auths": {"x.org:5000": {"auth": "YW5uOnNlY3JldA=="}, "https://index.docker.io/v1/": {"auth": "Ym9iOndvcmQ="},
                "y.org": {"identitytoken": "t", "auth": "YW5uOg=="}}}"#,
        );
        assert_eq!(logins.find("x.org:5000").await, password("ann", "secret"));
        assert_eq!(logins.find("docker.io").await, password("bob", "word"));
        assert_eq!(logins.find("y.org").await, Some(Login::Token("t".to_owned().into())));
        for other in ["x.org", "x.org:5001", "sub.x.org:5000", "z.org", "evil.org/x.org:5000"] {
            assert_eq!(logins.find(other).await, None, "{other}");
        }
    }

    #[tokio::test]
    async fn without_a_configuration_everybody_is_a_stranger() {
        for logins in [Logins::at(None), Logins::at(Some("/nowhere/config.json".into())), logins("nonsense").1] {
            assert_eq!(logins.find("x.org").await, None);
        }
    }

    #[tokio::test]
    async fn a_helper_that_is_not_there_is_no_login() {
        let (_dir, logins) = logins(r#"{"credHelpers": {"x.org": "shoal-test-missing"}, "auths": {"x.org": {}}}"#);
        assert_eq!(logins.find("x.org").await, None);
    }

    #[test]
    fn a_login_is_not_printed() {
        let login = Login::Password("ann".into(), "secret".to_owned().into());
        assert_eq!(format!("{login:?}"), "Login(…)");
        let error = Error::HelperFailure { helper: "x".into(), stdout: "secret".into(), stderr: "secret".into() };
        assert!(!in_words(&error).contains("secret"));
    }
}
