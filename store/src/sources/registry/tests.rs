//! Against a registry that does whatever a test wants. `127.0.0.1` is this machine's own, `127.0.0.2` another one.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use reqwest::dns::{Name, Resolve, Resolving};

use super::super::url::tests::server::{Answer, Server, file, head};
use super::*;
use crate::blobs::BlobsConfig;
use crate::state::State;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const CONFIG: &str = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers"}}"#;
const LAYERS: [&[u8]; 2] = [b"the lower layer", b"the upper layer"];
const PLATFORM: &str = "linux/amd64";

fn digest(bytes: &[u8]) -> ManifestDigest {
    ManifestDigest(sha256(bytes))
}

/// The manifest of an image of these layers.
fn manifest() -> String {
    let described = |kind: &str, bytes: &[u8]| {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, digest(bytes), bytes.len())
    };
    let layers: Vec<String> = LAYERS.iter().map(|layer| described("x", layer)).collect();
    let config = described("application/vnd.oci.image.config.v1+json", CONFIG.as_bytes());
    format!(r#"{{"config":{config},"layers":[{}]}}"#, layers.join(","))
}

/// A list with this image for one platform, and nothing behind its other entry.
fn index() -> String {
    let entry = |architecture: &str, digest: ManifestDigest| {
        let platform = format!(r#"{{"os":"linux","architecture":"{architecture}"}}"#);
        format!(r#"{{"mediaType":"m","digest":"{digest}","size":1,"platform":{platform}}}"#)
    };
    format!(r#"{{"manifests":[{},{}]}}"#, entry("arm64", digest(b"x")), entry("amd64", digest(manifest().as_bytes())))
}

fn id() -> ImageId {
    ImageId(sha256(CONFIG.as_bytes()))
}

fn path(request: &str) -> &str {
    request.split(' ').nth(1).unwrap_or_default()
}

/// The value of a request's header.
fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = request.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn said(status: u16, header: &str) -> Answer {
    Answer::of(head(status, header, 0))
}

/// What a good registry answers for the repository `a`.
fn good(request: &str) -> Answer {
    let (manifest, index) = (manifest(), index());
    let documents = [manifest.as_bytes(), index.as_bytes(), CONFIG.as_bytes(), LAYERS[0], LAYERS[1]];
    let Some((kind, named)) = path(request).strip_prefix("/v2/a/").and_then(|rest| rest.split_once('/')) else {
        return said(404, "A: b");
    };
    let found = match (kind, named) {
        ("manifests", "1") => Some(index.as_bytes()),
        _ => documents.into_iter().find(|document| digest(document).to_string() == named),
    };
    found.map_or_else(|| said(404, "A: b"), |bytes| file("A: b", bytes))
}

struct World {
    _dir: tempfile::TempDir,
    blobs: Blobs,
    cache: Cache,
    reader: Reader,
    heard: Mutex<Vec<Progress>>,
}

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: Name) -> Resolving {
        Box::pin(async { Err("no such name".into()) })
    }
}

impl World {
    async fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, config).unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), BlobsConfig::default()).await.unwrap();
        let state = Arc::new(State::open(&dir.path().join("state")).unwrap());
        let cache = Cache::new(blobs.clone(), state).unwrap();
        let limits = Limits {
            answer: Duration::from_secs(5),
            stall: Duration::from_millis(500),
            pause: Duration::from_millis(1),
            ..Limits::default()
        };
        let clients = Clients::with(Arc::new(NoNames), |address| address == ELSEWHERE);
        let reader = Reader { clients, limits, logins: Logins::at(Some(path)), private_addresses: false };
        Self { _dir: dir, blobs, cache, reader, heard: Mutex::default() }
    }

    async fn resolve(&self, registry: &Server, platform: &str) -> Result<ResolvedImage, DataError> {
        self.reader.resolve(&format!("127.0.0.1:{}/a:1", registry.port()).parse().unwrap(), platform).await
    }

    async fn fetch(&self, registry: &Server) -> Result<FetchedImage, ImageError> {
        self.fetch_as(registry, Asker::Owner, true, |_| {}).await
    }

    async fn fetch_as(
        &self,
        registry: &Server,
        asker: Asker,
        login: bool,
        change: impl FnOnce(&mut ImageRequest<'_>),
    ) -> Result<FetchedImage, ImageError> {
        let repository = format!("127.0.0.1:{}/a", registry.port()).parse().unwrap();
        let progress = |progress| self.heard.lock().unwrap().push(progress);
        let mut request = ImageRequest {
            repository: &repository,
            digest: digest(index().as_bytes()),
            id: id(),
            platform: PLATFORM,
            asker,
            login,
            max_bytes: 1_000_000,
            progress: &progress,
        };
        change(&mut request);
        self.reader.fetch(&self.blobs, &self.cache, &request).await
    }
}

/// A login of ann, whose password is secret, at a registry.
fn login(registry: &Server) -> String {
    format!(r#"{{"auths": {{"127.0.0.1:{}": {{"auth": "YW5uOnNlY3JldA=="}}}}}}"#, registry.port())
}

const ANN: &str = "Basic YW5uOnNlY3JldA==";

fn requests(server: &Server) -> Vec<String> {
    (0..server.count()).map(|number| server.request(number)).collect()
}

#[tokio::test]
async fn a_tag_stands_for_one_platforms_image() {
    let registry = Server::start(HERE, |_, request| good(request)).await;
    let world = World::new("{}").await;
    let found = world.resolve(&registry, PLATFORM).await.unwrap();
    let bytes = (CONFIG.len() + LAYERS.concat().len()) as u64;
    assert_eq!(found, ResolvedImage { digest: digest(manifest().as_bytes()), id: id(), bytes });
    let error = world.resolve(&registry, "linux/s390x").await.unwrap_err().to_string();
    assert!(error.contains("not there for linux/s390x, but for linux/amd64, linux/arm64"), "{error}");
}

#[tokio::test]
async fn an_image_is_fetched_once_and_its_progress_is_told() {
    let registry = Server::start(HERE, |_, request| good(request)).await;
    let world = World::new("{}").await;
    let first = world.fetch(&registry).await.unwrap();
    assert_eq!(first.config, CONFIG);
    for (layer, expected) in first.layers.iter().zip(LAYERS) {
        assert_eq!(world.blobs.read(layer.content.hash, 1_000).await.unwrap(), expected);
    }
    let total = LAYERS.concat().len() as u64;
    assert_eq!(world.heard.lock().unwrap().last(), Some(&Progress { bytes: total, total: Some(total) }));
    let _second = world.fetch(&registry).await.unwrap();
    let blobs = requests(&registry).iter().filter(|request| path(request).contains("blobs/")).count();
    assert_eq!(blobs, 2 + LAYERS.len(), "a configuration each time, the layers once");
}

#[tokio::test]
async fn what_a_registry_gives_instead_is_refused() {
    let world = World::new("{}").await;
    let other = |what: &'static [u8], instead: &'static str| {
        Server::start(HERE, move |_, request| {
            let wanted = path(request).ends_with(&digest(what).to_string());
            if wanted { file("A: b", instead.as_bytes()) } else { good(request) }
        })
    };
    let registry = other(LAYERS[1], "the other layer").await;
    let error = world.fetch(&registry).await.unwrap_err().to_string();
    assert!(error.contains("another content") && error.contains(&digest(LAYERS[1]).to_string()), "{error}");
    let registry = other(LAYERS[1], "a layer that is longer than it should be").await;
    assert!(matches!(world.fetch(&registry).await, Err(ImageError::Missing(_))));
    let registry = other(CONFIG.as_bytes(), "{}").await;
    assert!(world.fetch(&registry).await.unwrap_err().to_string().contains("another content"));
    let registry = Server::start(HERE, |_, _| file("A: b", manifest().as_bytes())).await;
    let error = world.fetch(&registry).await.unwrap_err().to_string();
    assert!(error.contains(&format!("is given as {}", digest(manifest().as_bytes()))), "{error}");
    let registry = Server::start(HERE, |_, request| good(request)).await;
    let wrong = world.fetch_as(&registry, Asker::Owner, false, |request| request.id = ImageId([9; 32])).await;
    assert!(wrong.unwrap_err().to_string().contains("not sha256:0909"));
}

#[tokio::test]
async fn an_image_that_is_too_large_is_not_begun() {
    let registry = Server::start(HERE, |_, request| good(request)).await;
    let world = World::new("{}").await;
    let fetched = world.fetch_as(&registry, Asker::Owner, false, |request| request.max_bytes = 10).await;
    assert!(matches!(fetched, Err(ImageError::Unfit(_))), "{fetched:?}");
    assert!(requests(&registry).iter().all(|request| path(request).contains("/manifests/")));
}

/// A registry that wants a token of its own, and the password for it.
async fn with_tokens() -> Server {
    let port = Arc::new(Mutex::new(0));
    let known = Arc::clone(&port);
    let server = Server::start(HERE, move |_, request| {
        let shown = header(request, "Authorization");
        match path(request).strip_prefix("/token?") {
            Some("service=it&scope=repository%3Aa%3Apull") if shown == Some(ANN) => file("A: b", br#"{"token":"t1"}"#),
            Some(_) => said(401, "A: b"),
            None if shown == Some("Bearer t1") => good(request),
            None => {
                let realm = format!("http://127.0.0.1:{}/token", known.lock().unwrap());
                said(401, &format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"it\",scope=\"x\""))
            }
        }
    });
    let server = server.await;
    *port.lock().unwrap() = server.port();
    server
}

#[tokio::test]
async fn a_login_buys_a_token_and_only_where_it_may_be_shown() {
    let registry = with_tokens().await;
    let world = World::new(&login(&registry)).await;
    world.resolve(&registry, PLATFORM).await.unwrap();
    let _fetched = world.fetch(&registry).await.unwrap();
    let before = registry.count();
    let error = world.fetch_as(&registry, Asker::Owner, false, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("private, or not there") && error.contains("push-image"), "{error}");
    let strangers = requests(&registry).split_off(before);
    assert!(!strangers.is_empty() && strangers.iter().all(|request| header(request, "Authorization").is_none()));
}

#[tokio::test]
async fn a_password_is_shown_to_a_registry_that_asks_and_to_nobody_it_leads_to() {
    let other = Server::start(ELSEWHERE, |_, request| {
        let layer = LAYERS.iter().find(|layer| path(request).ends_with(&digest(layer).to_string()));
        file("A: b", layer.unwrap())
    });
    let other = other.await;
    let url = other.url("");
    let registry = Server::start(HERE, move |_, request| match header(request, "Authorization") {
        Some(ANN) if LAYERS.iter().any(|layer| path(request).ends_with(&digest(layer).to_string())) => {
            said(307, &format!("Location: {url}{}", path(request)))
        }
        Some(ANN) => good(request),
        _ => said(401, "WWW-Authenticate: Basic realm=\"x\""),
    });
    let registry = registry.await;
    let _fetched = World::new(&login(&registry)).await.fetch(&registry).await.unwrap();
    assert_eq!(other.count(), LAYERS.len());
    assert!(requests(&other).iter().all(|request| header(request, "Authorization").is_none()));
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_repeated() {
    let registry = Server::start(HERE, |_, _| said(401, "WWW-Authenticate: Basic realm=\"x\"")).await;
    let world = World::new(&login(&registry)).await;
    let error = world.fetch(&registry).await.unwrap_err().to_string();
    assert!(error.contains("login notwithstanding") && !error.contains("secret"), "{error}");
    assert_eq!(registry.count(), 2);
}

#[tokio::test]
async fn tokens_are_not_fetched_where_anybody_could_listen() {
    let challenge = "WWW-Authenticate: Bearer realm=\"ftp://127.0.0.1/token\"";
    let registry = Server::start(HERE, move |_, _| said(401, challenge)).await;
    let error = World::new("{}").await.fetch(&registry).await.unwrap_err().to_string();
    assert!(error.contains("without TLS"), "{error}");
}

#[tokio::test]
async fn jobs_of_others_reach_no_registry_inside() {
    let registry = Server::start(HERE, |_, request| good(request)).await;
    let mut world = World::new("{}").await;
    let error = world.fetch_as(&registry, Asker::Peer, false, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("not a public address"), "{error}");
    assert_eq!(registry.count(), 0);
    world.reader.private_addresses = true;
    let _fetched = world.fetch_as(&registry, Asker::Peer, false, |_| {}).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_fails_for_a_moment_is_asked_again_and_a_lasting_no_is_not() {
    let registry =
        Server::start(HERE, |number, request| if number % 2 == 0 { said(503, "A: b") } else { good(request) });
    let registry = registry.await;
    let _fetched = World::new("{}").await.fetch(&registry).await.unwrap();
    let registry = Server::start(HERE, |_, _| said(404, "A: b")).await;
    let error = World::new("{}").await.fetch(&registry).await.unwrap_err().to_string();
    assert!(error.contains("is not in its registry") && registry.count() == 1, "{error}");
    let stalling = Server::start(HERE, |_, request| match path(request).ends_with(&digest(LAYERS[0]).to_string()) {
        true => file("A: b", LAYERS[0]).cut(3, LAYERS[0].len()).hanging(),
        false => good(request),
    });
    let error = World::new("{}").await.fetch(&stalling.await).await.unwrap_err().to_string();
    assert!(error.contains("sent nothing for"), "{error}");
}
