use axum::http::Request;
use shoal_protocol::id::{ExecutionId, JobId, PeerId};
use shoal_protocol::job::spec::Publisher;
use shoal_protocol::time::Time;
use shoal_store::blobs::{Blobs, BlobsConfig, ResultFiles, ResultPart};
use shoal_store::publishers::{Publication, Publishers, PublishersConfig};
use tower::ServiceExt;

use super::*;

/// A gateway with one published result, and the result's CID.
struct World {
    _dir: tempfile::TempDir,
    router: Router,
    cid: String,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), BlobsConfig::default()).await.unwrap();
        let state = shoal_store::state::State::open(&dir.path().join("state.redb")).unwrap();
        let trees = Trees::new(blobs.clone(), std::sync::Arc::new(state));
        let config = PublishersConfig { folder: dir.path().join("published"), ..PublishersConfig::default() };
        let publishers = Publishers::new(blobs.clone(), trees.clone(), config).unwrap();
        let part = |text: &'static str| ResultPart::Bytes(text.into());
        let result = blobs.collect(ResultFiles::new(0, part("out\n"), part(""))).await.unwrap();
        let publication = Publication {
            publisher: &Publisher::Ipfs,
            result: result.content,
            job: JobId([1; 16]),
            partition: (0, 1),
            execution: ExecutionId([2; 16]),
            worker: PeerId([3; 32]),
            at: Time(0),
        };
        let published = publishers.publish(&publication).await.unwrap().unwrap();
        let cid = published.uri.strip_prefix("ipfs://").unwrap().to_owned();
        Self { _dir: dir, router: router(trees), cid }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(path.replace("ROOT", &self.cid));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        (status, headers, axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec())
    }
}

#[tokio::test]
async fn a_block_or_an_archive_is_given_as_the_caller_says() {
    let world = World::new().await;
    for (path, accept) in [("/ipfs/ROOT/stdout?format=raw", ""), ("/ipfs/ROOT/stdout", RAW)] {
        let (status, headers, body) = world.ask("GET", path, &[("accept", accept)]).await;
        assert_eq!((status, body), (StatusCode::OK, b"out\n".to_vec()), "{path}");
        assert_eq!(headers["content-type"], RAW);
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
    for (path, accept) in [("/ipfs/ROOT?format=car", ""), ("/ipfs/ROOT?dag-scope=all", CAR)] {
        let (status, headers, body) = world.ask("GET", path, &[("accept", accept)]).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(headers["content-type"].to_str().unwrap().starts_with(CAR), "{headers:?}");
        assert!(body.windows(4).any(|window| window == b"out\n"), "the archive holds the files");
    }
    let root = world.ask("GET", "/ipfs/ROOT?format=car&dag-scope=entity", &[]).await.2;
    assert!(!root.windows(4).any(|window| window == b"out\n"), "a folder alone is without its files");
    let (status, headers, body) = world.ask("HEAD", "/ipfs/ROOT/stdout?format=raw", &[]).await;
    assert_eq!((status, body.len()), (StatusCode::OK, 0));
    assert_eq!(headers["content-length"], "4");
}

#[tokio::test]
async fn what_is_known_already_is_not_sent_again() {
    let world = World::new().await;
    for path in ["/ipfs/ROOT?format=raw", "/ipfs/ROOT?format=car"] {
        let tag = world.ask("GET", path, &[]).await.1["etag"].to_str().unwrap().to_owned();
        let (status, _, body) = world.ask("GET", path, &[("if-none-match", &tag)]).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0), "{path}");
    }
}

#[tokio::test]
async fn everything_else_is_refused_with_a_reason() {
    let world = World::new().await;
    let table = [
        ("/ipfs/ROOT", StatusCode::NOT_ACCEPTABLE, "format=raw or format=car"),
        ("/ipfs/ROOT?format=tar", StatusCode::NOT_ACCEPTABLE, "format=raw or format=car"),
        ("/ipfs/nonsense?format=raw", StatusCode::BAD_REQUEST, "is no CID"),
        ("/ipfs/ROOT/other?format=raw", StatusCode::NOT_FOUND, "has not published"),
        ("/ipfs/ROOT/%2e%2e/x?format=raw", StatusCode::NOT_FOUND, "has not published"),
        (
            "/ipfs/bafkreifjc7p7jwfxzhc5qwqmdpsnuvgvsglbic6hf5vvx7asvxs23pcgl4?format=raw",
            StatusCode::NOT_FOUND,
            "has not published",
        ),
        ("/ipfs/ROOT?format=car&dag-scope=some", StatusCode::BAD_REQUEST, "dag-scope is all, entity or block"),
        ("/ipfs/ROOT?format=car&entity-bytes=0:9", StatusCode::NOT_IMPLEMENTED, "entity-bytes"),
    ];
    for (path, status, reason) in table {
        let (found, _, body) = world.ask("GET", path, &[]).await;
        assert_eq!(found, status, "{path}");
        assert!(String::from_utf8_lossy(&body).contains(reason), "{path}");
    }
    // What asks whether this is a gateway: the empty block in its own name.
    assert_eq!(world.ask("GET", "/ipfs/bafkqaaa?format=raw", &[]).await.0, StatusCode::OK);
}
