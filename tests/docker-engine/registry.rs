//! A small registry: it serves images of this machine's engine, wants a password if it is told to, and waits with
//! layers as long as a test likes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::docker::engine::docker;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The type of a layer, and how it is compressed.
type Packing = (&'static str, fn(&[u8]) -> Vec<u8>);
const GZIP: Packing = ("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip);
const ZSTD: Packing = ("application/vnd.oci.image.layer.v1.tar+zstd", zstd);

/// A running registry, until dropped.
pub struct Registry {
    address: SocketAddr,
    shelf: Arc<Shelf>,
    _runtime: Runtime,
}

/// What it has, and how it answers.
#[derive(Default)]
struct Shelf {
    /// By path below `/v2/`.
    documents: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    /// Digests of layers.
    layers: Mutex<Vec<String>>,
    /// Whom it answers, as `Basic …`; everybody where nobody is named.
    password: Mutex<Option<String>>,
    /// Paths that were asked for.
    asked: Mutex<Vec<String>>,
    /// Whether it keeps layers back.
    held: watch::Sender<bool>,
}

impl Registry {
    pub fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let shelf = Arc::new(Shelf::default());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state((address, Arc::clone(&shelf)));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, shelf, _runtime: runtime }
    }

    /// Gives one of the engine's images a name here.
    pub fn push(&self, repository: &str, tag: &str, image: &str) {
        let manifest = self.image(repository, image, GZIP, None);
        self.name_it(repository, tag, manifest);
    }

    /// The same, with layers that are compressed with zstd.
    pub fn push_zstd(&self, repository: &str, tag: &str, image: &str) {
        let manifest = self.image(repository, image, ZSTD, None);
        self.name_it(repository, tag, manifest);
    }

    /// Gives a name to a list of one image for each architecture, which differ in what they say of it alone.
    pub fn push_for(&self, repository: &str, tag: &str, image: &str, architectures: &[&str]) {
        let entries = architectures.iter().map(|architecture| {
            let (_, manifest) = self.image(repository, image, GZIP, Some(architecture));
            let mut entry = self.put(repository, "manifests", MANIFEST, manifest);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        });
        let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries.collect::<Vec<_>>()});
        self.name_it(repository, tag, (INDEX, serde_json::to_vec(&list).unwrap()));
    }

    /// Takes an image's parts in, and returns its manifest.
    fn image(
        &self,
        repository: &str,
        image: &str,
        (layer_type, pack): Packing,
        architecture: Option<&str>,
    ) -> (&'static str, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("docker save {image} | tar -xC {}", dir.path().display());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let saved: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
        let mut layers = Vec::new();
        for layer in saved[0]["Layers"].as_array().unwrap() {
            layers.push(self.put(repository, "blobs", layer_type, pack(&read(layer.as_str().unwrap()))));
        }
        let digests = layers.iter().filter_map(|layer| layer["digest"].as_str()).map(str::to_owned);
        lock(&self.shelf.layers).extend(digests);
        let mut config = read(saved[0]["Config"].as_str().unwrap());
        if let Some(architecture) = architecture {
            let mut changed: Value = serde_json::from_slice(&config).unwrap();
            changed["architecture"] = architecture.into();
            config = serde_json::to_vec(&changed).unwrap();
        }
        let config = self.put(repository, "blobs", CONFIG, config);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        (MANIFEST, serde_json::to_vec(&manifest).unwrap())
    }

    /// Has a manifest or a list go by its digest, and by a tag.
    fn name_it(&self, repository: &str, tag: &str, (media, document): (&str, Vec<u8>)) {
        self.put(repository, "manifests", media, document.clone());
        lock(&self.shelf.documents).insert(format!("{repository}/manifests/{tag}"), (media.into(), document));
    }

    fn put(&self, repository: &str, kind: &str, media: &str, bytes: Vec<u8>) -> Value {
        let (size, digest) = (bytes.len(), sha256(&bytes));
        lock(&self.shelf.documents).insert(format!("{repository}/{kind}/{digest}"), (media.into(), bytes));
        json!({"mediaType": media, "size": size, "digest": digest})
    }

    /// From now on only those are answered who show this, `Basic …`, for a token.
    pub fn close(&self, password: &str) {
        *lock(&self.shelf.password) = Some(password.into());
    }

    /// Keeps layers back, or no more.
    pub fn hold(&self, held: bool) {
        self.shelf.held.send_replace(held);
    }

    /// How many paths were asked for that hold this.
    pub fn asked(&self, word: &str) -> usize {
        lock(&self.shelf.asked).iter().filter(|path| path.contains(word)).count()
    }

    /// An image's name.
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// Its host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

async fn answer(State((address, shelf)): State<(SocketAddr, Arc<Shelf>)>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    lock(&shelf.asked).push(path.clone());
    let wanted = lock(&shelf.password).clone();
    let status = |status| Response::builder().status(status);
    if path == "/token" {
        let right = wanted.is_some() && shown == wanted.as_deref();
        let (code, token) = if right { (StatusCode::OK, "right") } else { (StatusCode::OK, "wrong") };
        return status(code).body(json!({"token": token}).to_string().into()).unwrap();
    }
    if wanted.is_some() && shown != Some("Bearer right") {
        let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"test\"");
        return status(StatusCode::UNAUTHORIZED).header(WWW_AUTHENTICATE, challenge).body(Body::empty()).unwrap();
    }
    if lock(&shelf.layers).iter().any(|digest| path.ends_with(digest.as_str())) {
        let _ = shelf.held.subscribe().wait_for(|held| !held).await;
    }
    let found = lock(&shelf.documents).get(path.trim_start_matches("/v2/")).cloned();
    match found {
        Some((media, bytes)) => status(StatusCode::OK).header(CONTENT_TYPE, media).body(bytes.into()).unwrap(),
        None => status(StatusCode::NOT_FOUND).body(Body::empty()).unwrap(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

fn sha256(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let sum = Command::new("sha256sum").arg(file.path()).output().unwrap().stdout;
    format!("sha256:{}", &String::from_utf8(sum).unwrap()[..64])
}

/// Removes an image from the engine, with every name that it has.
pub fn forget(image: &str) {
    if let Some(id) = docker(&["image", "inspect", "--format", "{{.Id}}", image]) {
        docker(&["rmi", "-f", &id]);
    }
}
