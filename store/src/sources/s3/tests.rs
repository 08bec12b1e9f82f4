use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shoal_protocol::job::spec::{S3Partition, S3PartitionBy, Source};

use super::*;
use crate::blobs::BlobsConfig;
use crate::s3::fake::{Answer, Asked, Fake};
use crate::state::State;

/// The most that a source may hold here, in bytes.
const MAX_BYTES: u64 = 1_000;

struct World {
    _dir: tempfile::TempDir,
    blobs: Blobs,
    cache: Cache,
    reader: Reader,
    fake: Fake,
}

impl World {
    async fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = BlobsConfig { gc_interval: Duration::from_secs(3_600), ..BlobsConfig::default() };
        let blobs = Blobs::open(&dir.path().join("blobs"), config).await.unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.redb")).unwrap());
        let cache = Cache::new(blobs.clone(), state).unwrap();
        let reader = Reader { connector: Connector::for_tests(), private_addresses: false };
        Self { _dir: dir, blobs, cache, reader, fake: Fake::start(answer).await }
    }

    /// A source of key `key`.
    fn source(&self, key: &str) -> S3Source {
        S3Source { bucket: "b".into(), key: key.into(), endpoint: self.fake.endpoint.clone(), ..S3Source::default() }
    }

    async fn obtain(&self, source: &S3Source, partitions: u32) -> Result<Obtained, DataError> {
        self.obtain_for(Asker::Owner, source, partitions).await
    }

    async fn obtain_for(&self, asker: Asker, source: &S3Source, partitions: u32) -> Result<Obtained, DataError> {
        let wrapped = Source::S3(Box::new(source.clone()));
        let request = Request { source: &wrapped, asker, max_bytes: MAX_BYTES, partitions, progress: &|_| {} };
        self.reader.obtain(&self.blobs, &self.cache, source, &request).await
    }

    async fn refused(&self, source: &S3Source) -> String {
        self.obtain(source, 1).await.unwrap_err().to_string()
    }

    /// The files of each part, with their text.
    async fn parts(&self, obtained: &Obtained) -> Vec<BTreeMap<String, String>> {
        let mut parts = Vec::new();
        for part in &obtained.parts {
            let mut files = BTreeMap::new();
            for file in self.blobs.files(part.content.hash).await.unwrap() {
                let text = self.blobs.read(file.hash, MAX_BYTES).await.unwrap();
                files.insert(file.name, String::from_utf8(text.to_vec()).unwrap());
            }
            parts.push(files);
        }
        parts
    }
}

fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// A bucket `b` with objects below `logs/`, in two pages; what an object holds is its own key.
fn bucket(asked: &Asked) -> Answer {
    let page = |keys: &[&str], next| {
        let objects: Vec<_> = keys.iter().map(|key| (*key, "v1", key.len())).collect();
        Answer::listing(&objects, next)
    };
    if asked.path.contains("list-type=2") {
        return match asked.path.contains("continuation-token=more") {
            false => page(&["logs/2024-01/a.txt", "logs/2024-01/b.txt", "logs/folder/"], Some("more")),
            true => page(&["logs/2024-02/c.txt"], None),
        };
    }
    let key = asked.path.trim_start_matches("/b/").split('?').next().unwrap();
    Answer::object(key, "v1")
}

#[tokio::test]
async fn a_prefix_is_a_folder_of_what_is_below_it() {
    let world = World::new(bucket).await;
    let (a, b, c) = ("logs/2024-01/a.txt", "logs/2024-01/b.txt", "logs/2024-02/c.txt");
    let all = files(&[("2024-01/a.txt", a), ("2024-01/b.txt", b), ("2024-02/c.txt", c)]);
    let obtained = world.obtain(&world.source("logs/"), 4).await.unwrap();
    assert_eq!(world.parts(&obtained).await, std::slice::from_ref(&all), "one part for all partitions");
    let obtained = world.obtain(&world.source("logs/2024*"), 1).await.unwrap();
    assert_eq!(world.parts(&obtained).await, [all], "names keep what follows the last folder");
    let filtered = S3Source { filter: r"^2024-\d1/".into(), ..world.source("logs/") };
    let obtained = world.obtain(&filtered, 1).await.unwrap();
    assert_eq!(world.parts(&obtained).await, [files(&[("2024-01/a.txt", a), ("2024-01/b.txt", b)])]);
}

#[tokio::test]
async fn each_partition_has_a_part() {
    let world = World::new(bucket).await;
    let by = S3Partition { by: S3PartitionBy::Regex, pattern: r"^(\d+-\d+)".into(), ..S3Partition::default() };
    let obtained = world.obtain(&S3Source { partition: by, ..world.source("logs/") }, 3).await.unwrap();
    let parts: Vec<Vec<String>> =
        world.parts(&obtained).await.into_iter().map(|part| part.into_keys().collect()).collect();
    // FNV-1a of 2024-01 and 2024-02, modulo 3.
    assert_eq!(parts, [vec!["2024-01/a.txt".to_owned(), "2024-01/b.txt".into()], vec![], vec!["2024-02/c.txt".into()]]);
}

#[tokio::test]
async fn one_object_is_a_file_in_a_folder_and_read_as_it_was_listed() {
    let world = World::new(bucket).await;
    let source = S3Source { version_id: "7".into(), ..world.source("logs/2024-01/a.txt") };
    let obtained = world.obtain(&source, 1).await.unwrap();
    assert_eq!(world.parts(&obtained).await, [files(&[("a.txt", "logs/2024-01/a.txt")])]);
    assert!(obtained.origin.contains("version 7"), "{}", obtained.origin);
    let asked = world.fake.asked();
    assert!(asked.iter().all(|asked| asked.contains("versionId=7")), "{asked:?}");
}

#[tokio::test]
async fn what_is_unchanged_is_not_read_again() {
    let changed = Arc::new(AtomicUsize::new(0));
    let versions = Arc::clone(&changed);
    let world = World::new(move |asked: &Asked| {
        let tag = format!("v{}", versions.load(Ordering::SeqCst));
        match asked.path.contains("list-type=2") {
            true => Answer::listing(&[("p/new", &tag, 2), ("p/old", "v0", 2)], None),
            false if asked.path.contains("new") => Answer::object(&tag, &tag),
            false => Answer::object("v0", "v0"),
        }
    })
    .await;
    let gets = |world: &World| world.fake.asked().into_iter().filter(|asked| asked.starts_with("GET /b/p")).count();
    let first = world.obtain(&world.source("p/"), 1).await.unwrap();
    assert_eq!(gets(&world), 2);
    let again = world.obtain(&world.source("p/"), 1).await.unwrap();
    assert_eq!((gets(&world), again.parts[0].content), (2, first.parts[0].content));
    changed.store(1, Ordering::SeqCst);
    let other = world.obtain(&world.source("p/"), 1).await.unwrap();
    assert_eq!(gets(&world), 3, "only the object that changed is read");
    assert_eq!(world.parts(&other).await, [files(&[("new", "v1"), ("old", "v0")])]);
}

#[tokio::test]
async fn an_object_that_changes_meanwhile_is_an_error() {
    let world = World::new(|asked: &Asked| {
        if asked.method == "HEAD" {
            return Answer::object("text", "old");
        }
        assert_eq!(asked.headers["if-match"], "\"old\"");
        Answer::refusal(412, "PreconditionFailed", "")
    })
    .await;
    let error = world.refused(&world.source("k")).await;
    assert!(error.contains("s3://b/k: was changed while it was read"), "{error}");
}

#[tokio::test]
async fn a_checksum_is_compared_in_either_spelling() {
    let world = World::new(|_: &Asked| Answer::object("text", "v1")).await;
    let with = |checksum: &str| S3Source { checksum_sha256: checksum.into(), ..world.source("k") };
    let good = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1";
    let base64 = data_encoding::BASE64.encode(&data_encoding::HEXLOWER.decode(good.as_bytes()).unwrap());
    for checksum in [good, base64.as_str()] {
        assert!(world.obtain(&with(checksum), 1).await.is_ok(), "{checksum}");
    }
    let error = world.refused(&with(&good.replace('9', "8"))).await;
    assert!(error.contains(&format!("has the SHA-256 {base64}, not the one that the job names")), "{error}");
    let error = world.refused(&with("abc")).await;
    assert!(error.contains("ChecksumSHA256 that is none"), "{error}");
    let error = world.refused(&S3Source { checksum_sha256: good.into(), ..world.source("k/") }).await;
    assert!(error.contains("ChecksumSHA256 belongs to one object"), "{error}");
}

#[tokio::test]
async fn a_transfer_that_breaks_off_is_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let world = World::new(move |asked: &Asked| {
        let is_first = asked.method == "GET" && count.fetch_add(1, Ordering::SeqCst) == 0;
        let object = Answer::object("all of it", "v1");
        if is_first { Answer { body: b"all".to_vec(), length: Some(9), ..object } } else { object }
    })
    .await;
    let obtained = world.obtain(&world.source("k"), 1).await.unwrap();
    assert_eq!(world.parts(&obtained).await, [files(&[("k", "all of it")])]);
    assert_eq!(tries.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let world = World::new(|asked: &Asked| match asked.method.as_str() {
        "HEAD" => Answer::object("all of it", "v1"),
        _ => Answer { body: b"all".to_vec(), length: Some(9), stalls: true, ..Answer::object("", "v1") },
    })
    .await;
    let error = world.refused(&world.source("k")).await;
    assert!(error.contains("s3://b/k: breaks off after 3 of 9 bytes"), "{error}");
}

#[tokio::test]
async fn a_service_that_says_nothing_is_given_up() {
    let world =
        World::new(|_: &Asked| Answer { status: 200, length: Some(1), stalls: true, ..Answer::default() }).await;
    let started = Instant::now();
    let error = world.refused(&world.source("k/")).await;
    assert!(error.contains("did not answer within 10 s") || error.contains("not as S3 does"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn sizes_are_bounded_before_and_while_reading() {
    let world = World::new(|asked: &Asked| match asked.path.contains("list-type=2") {
        true => Answer::listing(&[("p/a", "v", 600), ("p/b", "v", 600)], None),
        false if asked.method == "HEAD" => Answer::object("shor", "v"),
        false => Answer::object("longer", "v"),
    })
    .await;
    let error = world.refused(&world.source("p/")).await;
    assert!(error.contains("holds 1200 bytes in 2 objects, and 1000 are allowed"), "{error}");
    assert_eq!(world.fake.asked().len(), 1, "nothing was read");
    let error = world.refused(&world.source("k")).await;
    assert!(error.contains("more than the 4 bytes that were announced"), "{error}");
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused_by_name() {
    for name in ["../x", "a/../../x", "/etc/passwd", "a//b", "a\\b"] {
        let key = format!("p/{name}");
        let world = World::new(move |_: &Asked| Answer::listing(&[(&key, "v", 1)], None)).await;
        let error = world.refused(&world.source("p/")).await;
        assert!(error.contains(&format!("{name:?} is no name for a file")), "{error}");
        assert_eq!(world.fake.asked().len(), 1, "nothing was read");
    }
}

#[tokio::test]
async fn a_listing_without_end_is_given_up() {
    let world = World::new(|_: &Asked| Answer::listing(&[("p/a", "v", 1)], Some("again"))).await;
    let error = world.refused(&world.source("p/")).await;
    assert!(error.contains("lists the same page again and again"), "{error}");
}

#[tokio::test]
async fn refusals_name_the_thing_the_reason_and_the_remedy() {
    let table = [
        (404, "NoSuchBucket", "", "bucket b: is not on http", "check the bucket's name"),
        (404, "NoSuchKey", "", "s3://b/k: is not there", "a prefix ends with / or *"),
        (404, "NoSuchVersion", "", "s3://b/k: has no such version", "VersionID"),
        (403, "InvalidAccessKeyId", "known-key", "does not know the access key", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "known-key", "the secret key does not fit", "AWS_SECRET_ACCESS_KEY"),
        (403, "AccessDenied", "", "s3://b/k: access is denied", "let the node's credentials read"),
        (400, "ExpiredToken", "", "the session of the credentials has ended", "renew"),
        (403, "RequestTimeTooSkewed", "", "the clocks of this machine", "set this machine's clock"),
        (400, "Strange", "said so", "refuses with status 400: Strange said so", "check bucket"),
        (501, "NotImplemented", "no", "refuses with status 501: NotImplemented no", "check bucket"),
    ];
    for (status, code, message, reason, remedy) in table {
        let world = World::new(move |_: &Asked| Answer::refusal(status, code, message)).await;
        let error = world.refused(&world.source("k")).await;
        assert!(error.contains(reason) && error.contains(remedy), "{code}: {error}");
        assert!(!error.contains("known-key") && !error.contains("hidden-secret"), "{code}: {error}");
    }
}

#[tokio::test]
async fn the_right_region_is_told() {
    let moved = |_: &Asked| Answer {
        headers: vec![("x-amz-bucket-region", "eu-west-1".into())],
        ..Answer::refusal(301, "PermanentRedirect", "")
    };
    let text = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'";
    let malformed = move |_: &Asked| Answer::refusal(400, "AuthorizationHeaderMalformed", text);
    for world in [World::new(moved).await, World::new(malformed).await] {
        let error = world.refused(&S3Source { region: "us-east-1".into(), ..world.source("k/") }).await;
        assert!(error.contains("bucket b: is not in region us-east-1"), "{error}");
        assert!(error.contains("it is in eu-west-1: set Region"), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_an_error_at_once() {
    let world = World::new(bucket).await;
    let empty = World::new(|_: &Asked| Answer::listing(&[("p/folder/", "v", 0)], None)).await;
    let error = empty.refused(&empty.source("p/")).await;
    assert!(error.contains("s3://b/p/: no object is there"), "{error}");
    let error = world.refused(&S3Source { filter: "(".into(), ..world.source("p/") }).await;
    assert!(error.contains("Filter \"(\": unclosed group"), "{error}");
    let error = world.refused(&S3Source { version_id: "7".into(), ..world.source("p/") }).await;
    assert!(error.contains("VersionID belongs to one object"), "{error}");
    let table = [("ftp://x", "scheme 'ftp'"), ("nonsense", "is no URL"), ("http://u:pass@h", "has credentials in it")];
    for (endpoint, reason) in table {
        let error = world.refused(&S3Source { endpoint: endpoint.into(), ..world.source("k") }).await;
        assert!(error.contains(reason) && !error.contains("pass@"), "{error}");
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = world.refused(&S3Source { endpoint: format!("http://{gone}"), ..world.source("k") }).await;
    assert!(error.contains("cannot be reached") && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn jobs_of_other_peers_reach_no_private_address_and_get_no_credentials() {
    let mut world = World::new(bucket).await;
    let port = world.fake.endpoint.rsplit(':').next().unwrap().to_owned();
    for host in ["127.0.0.1", "localhost", "[::1]", "0x7f.1"] {
        let source = S3Source { endpoint: format!("http://{host}:{port}"), ..world.source("logs/") };
        let error = world.obtain_for(Asker::Peer, &source, 1).await.unwrap_err().to_string();
        assert!(error.contains("is not a public address"), "{error}");
    }
    assert!(world.fake.asked().is_empty());
    world.reader.private_addresses = true;
    assert!(world.obtain_for(Asker::Peer, &world.source("logs/"), 1).await.is_ok());
    assert!(world.fake.signed().is_empty(), "the owner's credentials are for the owner's jobs");
    assert!(world.obtain_for(Asker::Owner, &world.source("logs/"), 1).await.is_ok());
    assert!(!world.fake.signed().is_empty());
}
