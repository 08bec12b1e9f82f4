//! Questions about one repository, with the right to ask them: registries answer the first with a challenge, which is
//! met with a token or a password.
//!
//! A password goes to the registry that it is for and to the server of tokens that this registry names, over TLS; a
//! redirect takes nothing along.

use bytes::{Bytes, BytesMut};
use data_encoding::BASE64;
use http_auth::parse_challenges;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use shoal_protocol::image::Repository;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::super::DataError;
use super::super::reach::{Clients, Reach};
use super::super::url::transfer::{Bounds, Limits, Transfer};
use super::logins::Login;

/// The registry of Docker Hub's images is elsewhere than their names say.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// The answer of a server of tokens, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 << 10;
/// What to do about a registry that does not answer as one.
const FAULTY: &str = "check the name, and that a registry answers there";

/// A conversation about one repository.
pub(super) struct Session<'a> {
    clients: &'a Clients,
    limits: Limits,
    repository: &'a Repository,
    /// Where to the registry may lead.
    reach: Reach,
    login: Option<Login>,
    /// What met the challenge.
    authorization: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Password,
    Token { realm: String, service: Option<String> },
}

impl<'a> Session<'a> {
    pub(super) fn new(
        clients: &'a Clients,
        limits: Limits,
        repository: &'a Repository,
        reach: Reach,
        login: Option<Login>,
    ) -> Self {
        Self { clients, limits, repository, reach, login, authorization: None }
    }

    /// A small answer, and whether it is one.
    pub(super) async fn get(&mut self, path: &str, accept: &str, max_bytes: u64) -> Result<Bytes, DataError> {
        let answer = self.ask(path, accept, Bounds { max_bytes, progress: &|_| {} }).await?.1;
        self.body(answer, max_bytes).await
    }

    /// An answer that holds what was asked for, and the transfer that brings it. The challenge is met on the way.
    pub(super) async fn ask<'b>(
        &mut self,
        path: &str,
        accept: &str,
        bounds: Bounds<'b>,
    ) -> Result<(Transfer<'b>, Response), DataError>
    where
        'a: 'b,
    {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).expect("kinds of documents are headers"));
        for is_last in [false, true] {
            let url = self.url(path)?;
            let transfer = Transfer::new(self.clients, self.limits, url, self.reach, bounds);
            let mut transfer = transfer.authorized(self.authorization.clone());
            let answer = transfer.respond(&headers).await?;
            self.reach = transfer.reach();
            match answer.status() {
                StatusCode::OK => return Ok((transfer, answer)),
                StatusCode::UNAUTHORIZED if !is_last => self.meet(&answer).await?,
                status => return Err(self.refused(status)),
            }
        }
        unreachable!("the last answer is one or the other")
    }

    fn url(&self, path: &str) -> Result<Url, DataError> {
        let scheme = if self.repository.is_loopback() { "http" } else { "https" };
        let host = if self.repository.registry() == HUB.0 { HUB.1 } else { self.repository.registry() };
        let url = format!("{scheme}://{host}/v2/{}/{path}", self.repository.path());
        Url::parse(&url).map_err(|error| self.error(format!("is nowhere: {error}"), FAULTY))
    }

    /// Meets the challenge of an answer that refuses.
    async fn meet(&mut self, answer: &Response) -> Result<(), DataError> {
        let challenges = answer.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = challenges.filter_map(|value| challenge(value.to_str().ok()?)).next();
        let authorization = match challenge {
            Some(Challenge::Token { realm, service }) => self.token(&realm, service.as_deref()).await?,
            Some(Challenge::Password) => match &self.login {
                Some(Login::Password(name, password)) => basic(name, password),
                Some(Login::Token(_)) | None => return Err(self.refused(StatusCode::UNAUTHORIZED)),
            },
            None => return Err(self.refused(StatusCode::UNAUTHORIZED)),
        };
        let mut value =
            HeaderValue::from_str(&authorization).map_err(|_| self.error("gives a token that is none", FAULTY))?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(())
    }

    async fn token(&self, realm: &str, service: Option<&str>) -> Result<Zeroizing<String>, DataError> {
        let mut url = Url::parse(realm).map_err(|_| self.error("names no server of tokens", FAULTY))?;
        if url.scheme() != "https" && !(url.scheme() == "http" && self.repository.is_loopback()) {
            return Err(self.error("wants its token fetched without TLS", FAULTY));
        }
        let scope = format!("repository:{}:pull", self.repository.path());
        let answer = match &self.login {
            Some(Login::Token(token)) => self.exchange(&url, service, &scope, token).await?,
            login => {
                url.query_pairs_mut()
                    .extend_pairs(service.map(|service| ("service", service)))
                    .append_pair("scope", &scope);
                let shown = match login {
                    Some(Login::Password(name, password)) => Some(basic(name, password)),
                    _ => None,
                };
                let shown = shown.and_then(|shown| HeaderValue::from_str(&shown).ok());
                let bounds = Bounds { max_bytes: MAX_TOKEN_BYTES, progress: &|_| {} };
                let transfer = Transfer::new(self.clients, self.limits, url, self.reach, bounds);
                transfer.authorized(shown).respond(&HeaderMap::new()).await?
            }
        };
        if answer.status() != StatusCode::OK {
            return Err(self.refused(StatusCode::UNAUTHORIZED));
        }
        let granted = self.body(answer, MAX_TOKEN_BYTES).await?;
        let granted: Granted =
            serde_json::from_slice(&granted).map_err(|_| self.error("gives a token that cannot be read", FAULTY))?;
        let token = if granted.token.is_empty() { granted.access_token } else { granted.token };
        Ok(Zeroizing::new(format!("Bearer {token}")))
    }

    /// Gets a token for one that `docker login` was given instead of a password.
    async fn exchange(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: &str,
        token: &str,
    ) -> Result<Response, DataError> {
        let mut form = realm.clone();
        form.query_pairs_mut()
            .clear()
            .extend_pairs([("grant_type", "refresh_token"), ("client_id", "shoal"), ("scope", scope)])
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("refresh_token", token);
        let client = self.clients.get(realm, self.reach).map_err(|error| self.error(error.to_string(), FAULTY))?;
        let question = client.post(realm.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let question = question.body(form.query().unwrap_or_default().to_owned());
        let answer = timeout(self.limits.answer, question.send()).await;
        // The client's own error names the URL, which holds nothing secret here, but says little more.
        answer
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| self.error("has a server of tokens that does not answer", FAULTY))
    }

    async fn body(&self, mut answer: Response, max_bytes: u64) -> Result<Bytes, DataError> {
        let mut body = BytesMut::new();
        loop {
            let piece = timeout(self.limits.stall, answer.chunk()).await;
            let piece = piece.ok().and_then(Result::ok).ok_or_else(|| self.error("broke off its answer", FAULTY))?;
            let Some(piece) = piece else { return Ok(body.freeze()) };
            body.extend_from_slice(&piece);
            if body.len() as u64 > max_bytes {
                return Err(self.error(format!("answers with more than {max_bytes} bytes"), FAULTY));
            }
        }
    }

    fn refused(&self, status: StatusCode) -> DataError {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.login.is_some() => self.error(
                "is refused by its registry, docker's login notwithstanding",
                "check the name, and log in again",
            ),
            // Registries say the same of what is private and of what is not there.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.error(
                "is refused by its registry: it is private, or not there",
                "check the name, or push it as a blob with `shoal docker push-image`",
            ),
            StatusCode::NOT_FOUND => self.error("is not in its registry", "check the name"),
            status => self.error(format!("has a registry that answers {status}"), FAULTY),
        }
    }

    pub(super) fn error(&self, reason: impl Into<String>, remedy: &str) -> DataError {
        DataError::new(format!("image {}", self.repository), reason, remedy)
    }
}

fn basic(name: &str, password: &str) -> Zeroizing<String> {
    let plain = Zeroizing::new(format!("{name}:{password}"));
    Zeroizing::new(format!("Basic {}", *Zeroizing::new(BASE64.encode(plain.as_bytes()))))
}

/// What a `WWW-Authenticate` asks for, if that can be met.
fn challenge(header: &str) -> Option<Challenge> {
    let challenges = parse_challenges(header).ok()?;
    let token = challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case("Bearer"));
    if let Some(token) = token {
        let value = |wanted: &str| {
            let found = token.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.to_unescaped())
        };
        return Some(Challenge::Token { realm: value("realm")?, service: value("service") });
    }
    let password = challenges.iter().any(|challenge| challenge.scheme.eq_ignore_ascii_case("Basic"));
    password.then_some(Challenge::Password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let realm = || "https://auth.docker.io/token".to_owned();
        let table = [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#,
                Some(Challenge::Token { realm: realm(), service: Some("registry.docker.io".into()) }),
            ),
            (
                r#"bearer Realm="https://auth.docker.io/token""#,
                Some(Challenge::Token { realm: realm(), service: None }),
            ),
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Password)),
            (
                r#"Basic realm="x", Bearer realm="https://auth.docker.io/token""#,
                Some(Challenge::Token { realm: realm(), service: None }),
            ),
            (r#"Bearer service="x""#, None),
            ("Negotiate", None),
            (r#"Bearer realm="unended"#, None),
            ("", None),
        ];
        for (header, expected) in table {
            assert_eq!(challenge(header), expected, "{header}");
        }
    }
}
