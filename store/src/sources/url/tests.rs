//! Against a server that does whatever a test wants. `127.0.0.1` plays the internet here, and `127.0.0.2` an address
//! that only this machine can reach.

pub(in crate::sources) mod server;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use shoal_protocol::job::spec::Source;
use shoal_protocol::task::ContentKind;

use self::server::{Answer, Server, file, head};
use super::*;
use crate::blobs::BlobsConfig;
use crate::sources::Progress;
use crate::state::State;

const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const MAX_BYTES: u64 = 8 << 20;

/// Names with several addresses answer with the first, then with the second, and so on.
struct Names {
    addresses: BTreeMap<&'static str, Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.addresses.get(name.as_str()).cloned();
        let turn = self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let addresses = found.ok_or("no such name")?;
            let address = addresses[turn.min(addresses.len() - 1)];
            Ok(Box::new(std::iter::once(SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

struct World {
    _dir: tempfile::TempDir,
    blobs: Blobs,
    cache: Cache,
    reader: Reader,
    heard: Mutex<Vec<Progress>>,
}

impl World {
    async fn new() -> Self {
        Self::with_names([]).await
    }

    async fn with_names<const N: usize>(names: [(&'static str, Vec<IpAddr>); N]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (blobs, cache) = open(dir.path()).await;
        let names = Names { addresses: names.into(), asked: AtomicUsize::new(0) };
        let limits = Limits {
            answer: Duration::from_secs(2),
            stall: Duration::from_millis(500),
            slow: Duration::from_millis(100),
            pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(1_500),
            ..Limits::default()
        };
        let clients = Clients::with(Arc::new(names), |address| address != INSIDE);
        let reader = Reader { clients, limits, private_addresses: false };
        Self { _dir: dir, blobs, cache, reader, heard: Mutex::default() }
    }

    async fn obtain(&self, asker: Asker, source: UrlSource) -> Result<Obtained, DataError> {
        let note = |progress| self.heard.lock().unwrap().push(progress);
        let wrapped = Source::UrlDownload(source.clone());
        let request = Request { source: &wrapped, asker, max_bytes: MAX_BYTES, partitions: 1, progress: &note };
        self.reader.obtain(&self.blobs, &self.cache, &source, &request).await
    }

    async fn read(&self, url: String) -> Result<Obtained, DataError> {
        self.obtain(Asker::Owner, UrlSource { url, ..UrlSource::default() }).await
    }

    async fn read_for_peer(&self, url: String) -> Result<Obtained, DataError> {
        self.obtain(Asker::Peer, UrlSource { url, ..UrlSource::default() }).await
    }

    /// The one file of what was read.
    async fn file(&self, obtained: &Obtained) -> (String, Vec<u8>) {
        let [part] = &obtained.parts[..] else { panic!("{obtained:?}") };
        assert_eq!(part.content.kind, ContentKind::Collection);
        let files = self.blobs.files(part.content.hash).await.unwrap();
        let [file] = &files[..] else { panic!("{files:?}") };
        (file.name.clone(), self.blobs.read(file.hash, MAX_BYTES).await.unwrap().to_vec())
    }

    async fn content(&self, url: String) -> Vec<u8> {
        let obtained = self.read(url).await.unwrap();
        self.file(&obtained).await.1
    }

    async fn refused(&self, url: String, words: &[&str]) {
        let error = self.read(url).await.unwrap_err();
        for word in words {
            assert!(error.to_string().contains(word), "{word:?} is missing in: {error}");
        }
        assert!(!error.remedy.is_empty());
    }
}

async fn open(dir: &Path) -> (Blobs, Cache) {
    let config = BlobsConfig { gc_interval: Duration::from_secs(3_600), ..BlobsConfig::default() };
    let blobs = Blobs::open(&dir.join("blobs"), config).await.unwrap();
    let state = Arc::new(State::open(&dir.join("state.redb")).unwrap());
    let cache = Cache::new(blobs.clone(), state).unwrap();
    (blobs, cache)
}

/// Bytes that are different everywhere.
fn large() -> Vec<u8> {
    (0..500_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test]
async fn a_file_is_read_into_a_folder_under_its_name() {
    let world = World::new().await;
    let server = Server::start(OUTSIDE, |_, _| file("ETag: \"v1\"", b"hello")).await;
    let obtained = world.read(server.url("/data/a.csv?key=secret#part")).await.unwrap();
    assert_eq!(world.file(&obtained).await, ("a.csv".into(), b"hello".to_vec()));
    assert!(obtained.origin.ends_with("/data/a.csv?… (etag: \"v1\")"), "{}", obtained.origin);
    assert_eq!(*world.heard.lock().unwrap(), [Progress { bytes: 5, total: Some(5) }]);
    assert!(server.request(0).contains("accept-encoding: identity"), "{}", server.request(0));
}

#[tokio::test]
async fn what_the_server_sends_is_kept_as_it_is() {
    let world = World::new().await;
    let packed = b"\x1f\x8bnot really packed";
    let server = Server::start(OUTSIDE, |_, _| file("Content-Encoding: gzip", packed)).await;
    assert_eq!(world.content(server.url("/a")).await, packed);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let server = Server::start(OUTSIDE, move |_, _| Answer::of(chunked)).await;
    assert_eq!(world.content(server.url("/a")).await, b"abcde");
    let named = "Content-Disposition: attachment; filename=\"../b.txt\"";
    let server = Server::start(OUTSIDE, move |_, _| file(named, b"x")).await;
    let obtained = world.read(server.url("/download?id=7")).await.unwrap();
    assert_eq!(world.file(&obtained).await.0, "b.txt");
}

#[tokio::test]
async fn a_file_that_has_not_changed_is_not_sent_again() {
    for (validator, condition) in [
        ("ETag: \"v1\"", "if-none-match: \"v1\""),
        ("ETag: W/\"weak\"", "if-none-match: W/\"weak\""),
        ("Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT", "if-modified-since: Wed, 21 Oct 2015 07:28:00 GMT"),
    ] {
        let world = World::new().await;
        let answer = move |_, request: &str| match request.contains(condition) {
            true => Answer::of("HTTP/1.1 304 Not Modified\r\n\r\n"),
            false => file(validator, b"hello"),
        };
        let server = Server::start(OUTSIDE, answer).await;
        let first = world.read(server.url("/a")).await.unwrap();
        let second = world.read(server.url("/a")).await.unwrap();
        assert_eq!(first.parts[0].content, second.parts[0].content);
        assert_eq!(first.origin, second.origin);
        assert!(server.request(1).contains(condition), "{}", server.request(1));
    }
}

#[tokio::test]
async fn a_file_that_has_changed_or_has_no_tag_is_read_again() {
    let world = World::new().await;
    let server = Server::start(OUTSIDE, |n, _| file(&format!("ETag: \"v{n}\""), n.to_string().as_bytes())).await;
    let url = server.url("/a");
    assert_eq!([world.content(url.clone()).await, world.content(url).await], [b"0", b"1"]);
    let server = Server::start(OUTSIDE, |n, _| file("X: y", n.to_string().as_bytes())).await;
    let url = server.url("/a");
    assert_eq!([world.content(url.clone()).await, world.content(url).await], [b"0", b"1"]);
}

#[tokio::test]
async fn many_readers_of_one_url_transfer_it_once() {
    let world = World::new().await;
    let answer = |_, request: &str| match request.contains("if-none-match") {
        true => Answer::of("HTTP/1.1 304 Not Modified\r\n\r\n"),
        false => file("ETag: \"v1\"", &large()),
    };
    let server = Server::start(OUTSIDE, answer).await;
    let readers = (0..8).map(|_| world.read(server.url("/a")));
    let contents = futures_util::future::join_all(readers).await;
    let contents: Vec<_> = contents.into_iter().map(|obtained| obtained.unwrap().parts[0].content).collect();
    assert!(contents.iter().all(|content| *content == contents[0]));
    let whole = (0..server.count()).filter(|&n| !server.request(n).contains("if-none-match")).count();
    assert_eq!((server.count(), whole), (8, 1));
}

#[tokio::test]
async fn a_transfer_that_breaks_off_goes_on_where_it_was() {
    let world = World::new().await;
    let (all, cut) = (large(), 1_200_000);
    let rest = head(206, &format!("ETag: \"v1\"\r\nContent-Range: bytes {cut}-1999999/2000000"), all.len() - cut);
    let (begun, rest) = (file("ETag: \"v1\"", &all).cut(cut, 2_000_000), Answer::of(rest).and(&all[cut..]));
    let server = Server::start(OUTSIDE, move |n, _| if n == 0 { begun.clone() } else { rest.clone() }).await;
    assert!(world.content(server.url("/a")).await == all);
    assert_eq!(server.count(), 2);
    let request = server.request(1);
    assert!(request.contains("range: bytes=1200000-") && request.contains("if-range: \"v1\""), "{request}");
}

#[tokio::test]
async fn a_file_that_changes_under_the_transfer_is_read_anew() {
    for tag in ["ETag: \"v1\"", "ETag: W/\"v1\"", "X: y"] {
        let world = World::new().await;
        let begun = file(tag, &large()).cut(700_000, 2_000_000);
        let changed = file("ETag: \"v2\"", b"another");
        let server = Server::start(OUTSIDE, move |n, _| if n == 0 { begun.clone() } else { changed.clone() }).await;
        assert_eq!(world.content(server.url("/a")).await, b"another", "{tag}");
    }
}

#[tokio::test]
async fn a_server_that_always_breaks_off_is_given_up() {
    let world = World::new().await;
    let server = Server::start(OUTSIDE, |_, _| file("ETag: \"v1\"", b"hello").cut(3, 5)).await;
    world.refused(server.url("/a"), &["broke off", "/a"]).await;
    assert!(server.count() <= 8, "{}", server.count());
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let world = World::new().await;
    let busy = |n, _: &str| match n {
        0 => Answer::of("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"),
        1 => Answer::of("HTTP/1.1 429 Slowly\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"),
        _ => file("X: y", b"hello"),
    };
    let server = Server::start(OUTSIDE, busy).await;
    assert_eq!(world.content(server.url("/a")).await, b"hello");

    let server = Server::start(OUTSIDE, |_, _| Answer::of("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")).await;
    world.refused(server.url("/a"), &["answers 500", "try again later"]).await;
    assert_eq!(server.count(), 4);

    let tomorrow = "HTTP/1.1 503 Busy\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(OUTSIDE, move |_, _| Answer::of(tomorrow)).await;
    world.refused(server.url("/a"), &["answers 503"]).await;
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn answers_that_are_no_file_are_named() {
    let world = World::new().await;
    for (status, words) in [
        (404, ["404", "check the address"]),
        (410, ["410", "check the address"]),
        (401, ["401", "USER:PASSWORD@"]),
        (403, ["403", "download it"]),
        (204, ["204", "that of a file"]),
        (206, ["206", "that of a file"]),
        (304, ["nothing has changed", "at fault"]),
    ] {
        let server = Server::start(OUTSIDE, move |_, _| Answer::of(head(status, "X: y", 0))).await;
        world.refused(server.url("/a"), &words).await;
        assert_eq!(server.count(), 1, "{status}");
    }
    let server = Server::start(OUTSIDE, |_, _| Answer::of("SSH-2.0-nothing\r\n")).await;
    world.refused(server.url("/a"), &["cannot be reached"]).await;
}

#[tokio::test]
async fn redirects_are_followed_for_a_while() {
    let world = World::new().await;
    let steps = |_, request: &str| match request.split(' ').nth(1).unwrap() {
        "/end" => file("X: y", b"hello"),
        "/a" => Answer::of(head(302, "Location: b?x=1", 0)),
        "/b?x=1" => Answer::of(head(307, "Location: //127.0.0.1/end", 0)),
        "/circle" => Answer::of(head(301, "Location: /circle#again", 0)),
        "/ftp" => Answer::of(head(301, "Location: ftp://127.0.0.1/", 0)),
        "/nowhere" => Answer::of(head(301, "X: y", 0)),
        path => Answer::of(head(303, &format!("Location: {path}x"), 0)),
    };
    let server = Server::start(OUTSIDE, steps).await;
    let port = server.url("");
    let to_port = move |n: usize, request: &str| match steps(n, request) {
        answer if request.starts_with("GET /b") => {
            drop(answer);
            Answer::of(head(307, &format!("Location: {port}/end"), 0))
        }
        answer => answer,
    };
    let server = Server::start(OUTSIDE, to_port).await;
    let obtained = world.read(server.url("/a")).await.unwrap();
    assert_eq!(world.file(&obtained).await, ("a".into(), b"hello".to_vec()));
    world.refused(server.url("/circle"), &["in a circle"]).await;
    world.refused(server.url("/ftp"), &["'ftp'"]).await;
    world.refused(server.url("/nowhere"), &["to nowhere"]).await;
    let before = server.count();
    world.refused(server.url("/x"), &["more than 10 times"]).await;
    assert_eq!(server.count() - before, 11);
}

#[tokio::test]
async fn a_job_of_a_peer_reads_nothing_from_inside() {
    let world = World::with_names([("inside.test", vec![INSIDE]), ("outside.test", vec![OUTSIDE])]).await;
    let inside = Server::start(INSIDE, |_, _| file("X: y", b"secret")).await;
    for url in [inside.url("/a"), inside.url_at("inside.test", "/a")] {
        let error = world.read_for_peer(url.clone()).await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.2, which is not a public address"), "{error}");
        let own = world.read(url).await.unwrap();
        assert_eq!(world.file(&own).await.1, b"secret", "its own node may");
        drop(own);
    }
    assert_eq!(inside.count(), 2, "only for the owner");
    let outside = Server::start(OUTSIDE, |_, _| file("X: y", b"open")).await;
    assert!(world.read_for_peer(outside.url_at("outside.test", "/a")).await.is_ok());
}

#[tokio::test]
async fn nobody_outside_can_send_a_reader_inside() {
    let world = World::with_names([("inside.test", vec![INSIDE])]).await;
    let inside = Server::start(INSIDE, |_, _| file("X: y", b"secret")).await;
    for target in [inside.url("/a"), inside.url_at("inside.test", "/a")] {
        let location = format!("Location: {target}");
        let outside = Server::start(OUTSIDE, move |_, _| Answer::of(head(302, &location, 0))).await;
        for asker in [Asker::Owner, Asker::Peer] {
            let source = UrlSource { url: outside.url("/a"), ..UrlSource::default() };
            let error = world.obtain(asker, source).await.unwrap_err().to_string();
            assert!(error.contains("not a public address"), "{error}");
        }
    }
    assert_eq!(inside.count(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_address_gains_nothing() {
    let world = World::with_names([("rebound.test", vec![OUTSIDE, INSIDE])]).await;
    let outside = Server::start(OUTSIDE, |_, _| file("ETag: \"v1\"", &large()).cut(700_000, 2_000_000)).await;
    let inside = Server::start_on(SocketAddr::new(INSIDE, outside.port()), |_, _| file("X: y", b"secret")).await;
    let error = world.read(outside.url_at("rebound.test", "/a")).await.unwrap_err().to_string();
    assert!(error.contains("not a public address"), "{error}");
    assert_eq!((outside.count(), inside.count()), (1, 0));
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_before_it_comes_or_cut_off() {
    let world = World::new().await;
    let server = Server::start(OUTSIDE, |_, _| Answer::of(head(200, "X: y", 10 << 30)).endlessly(b"zeros")).await;
    world.refused(server.url("/a"), &["10737418240 bytes", "8388608"]).await;
    assert!(world.heard.lock().unwrap().is_empty(), "not a byte was read");

    let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let piece = [b"10000\r\n".as_slice(), &[0; 0x10000], b"\r\n"].concat();
    let server = Server::start(OUTSIDE, move |_, _| Answer::of(endless).endlessly(&piece)).await;
    world.refused(server.url("/a"), &["more than the 8388608 bytes"]).await;
    assert_eq!(server.count(), 1);
    assert_eq!(world.blobs.usage().await.unwrap().used, 0, "nothing of it was kept");
}

#[tokio::test]
async fn a_server_that_falls_silent_or_drips_is_left() {
    let world = World::new().await;
    let server = Server::start(OUTSIDE, |_, _| Answer::of(head(200, "X: y", 5)).and(b"he").hanging()).await;
    world.refused(server.url("/a"), &["sent nothing for 500ms"]).await;
    let server = Server::start(OUTSIDE, |_, _| Answer::of(head(200, "X: y", 1 << 20)).dripping(b".")).await;
    world.refused(server.url("/a"), &["less than 1 KiB a second"]).await;
    assert_eq!(server.count(), 1);
    let server = Server::start(OUTSIDE, |_, _| Answer::of("").hanging()).await;
    let reader =
        Reader { limits: Limits { retries: 0, ..world.reader.limits }, clients: Clients::new(), ..world.reader };
    World { reader, ..world }.refused(server.url("/a"), &["did not answer within 2s"]).await;
}

#[tokio::test]
async fn a_checksum_must_match() {
    let world = World::new().await;
    let server = Server::start(OUTSIDE, |_, _| file("X: y", b"hello")).await;
    let read = async |checksum_sha256: &str| {
        let source = UrlSource { url: server.url("/a"), checksum_sha256: checksum_sha256.into() };
        world.obtain(Asker::Owner, source).await
    };
    let right = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    for checksum in [right, &right.to_uppercase(), "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="] {
        assert!(read(checksum).await.is_ok(), "{checksum}");
    }
    let error = read(&right.replace('2', "3")).await.unwrap_err().to_string();
    assert!(error.contains(right) && error.contains("ChecksumSHA256"), "{error}");
}

#[tokio::test]
async fn a_password_goes_to_its_host_and_nowhere_else() {
    let world = World::with_names([("other.test", vec![OUTSIDE])]).await;
    let other = Server::start(OUTSIDE, |_, _| Answer::of(head(404, "X: y", 0))).await;
    let location = format!("Location: {}", other.url_at("user2:other@other.test", "/b?token=hidden"));
    let server = Server::start(OUTSIDE, move |_, _| Answer::of(head(302, &location, 0))).await;
    let error = world.read(server.url_at("user:hunter2@127.0.0.1", "/a?signature=abc")).await.unwrap_err().to_string();
    assert!(server.request(0).contains("authorization: Basic dXNlcjpodW50ZXIy"), "{}", server.request(0));
    assert!(!other.request(0).contains("authorization"), "{}", other.request(0));
    for secret in ["hunter2", "signature=abc", "hidden"] {
        assert!(!error.contains(secret), "{error}");
    }
}

#[tokio::test]
async fn hosts_that_cannot_be_had_are_named_with_the_reason() {
    let world = World::with_names([("plain.test", vec![OUTSIDE])]).await;
    let nobody = Server::start(OUTSIDE, |_, _| Answer::of("")).await.stop();
    world.refused(format!("http://127.0.0.1:{nobody}/a"), &["cannot be reached", "refused", "check the address"]).await;
    world.refused("http://missing.test/a".into(), &["missing.test", "no such name"]).await;
    let plain = Server::start(OUTSIDE, |_, _| Answer::of("HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let secure = plain.url_at("plain.test", "/a").replace("http:", "https:");
    world.refused(secure, &["cannot be trusted", "certificate"]).await;
    world.refused("gopher://user:hunter2@host/".into(), &["'gopher'"]).await;
    world.refused("http://".into(), &["the URL of an input", "empty host"]).await;
}
