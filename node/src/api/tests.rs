//! The API around a real node on loopback, without a client or a connection.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::config::{Loaded, Settings};

const TOKEN: &str = "secret";

/// A node that has nobody, and its API.
struct World {
    node: Node,
    router: Router,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings { listen: Some(loopback), join: Some(Vec::new()), ..Settings::default() };
        let mut loaded = Loaded::new(dir.path(), settings).unwrap();
        loaded.config.loopback_only = true;
        let node = Box::pin(Node::start(loaded.config)).await.unwrap();
        let router = router(Api::new(node.clone(), Vec::new(), CancellationToken::new()), TOKEN.into());
        Self { node, router, _dir: dir }
    }

    async fn raw(&self, method: Method, path: &str, body: impl Into<Body>) -> (StatusCode, Vec<u8>) {
        let request = Request::builder().method(method).uri(format!("{PREFIX}{path}"));
        let request =
            request.header(header::HOST, "127.0.0.1").header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    async fn json(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, bytes) = self.raw(method, path, body).await;
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.json(Method::GET, path, Value::Null).await
    }

    async fn upload(&self, bytes: &'static str) -> String {
        let (status, body) = self.raw(Method::PUT, "/blobs", bytes).await;
        assert_eq!(status, StatusCode::OK);
        let blob: Value = serde_json::from_slice(&body).unwrap();
        blob["Hash"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_node_tells_about_itself() {
    let world = World::new().await;
    let (_, info) = world.get("/node").await;
    assert_eq!(info["PeerID"], world.node.peer_id().to_string());
    let (_, ticket) = world.get("/ticket").await;
    assert!(ticket["Ticket"].as_str().unwrap().starts_with("shoal1"));
    assert_eq!(world.get("/peers").await, (StatusCode::OK, json!([])));
    assert_eq!(world.get("/jobs").await, (StatusCode::OK, json!([])));
}

#[tokio::test]
async fn what_was_uploaded_can_be_read_composed_pinned_and_collected() {
    let world = World::new().await;
    let hash = world.upload("hello").await;
    assert_eq!(world.raw(Method::GET, &format!("/blobs/{hash}"), Body::empty()).await.1, b"hello");

    let files = json!([{"Name": "a/b", "Hash": hash}, {"Name": "c", "Hash": hash}]);
    let (status, folder) = world.json(Method::POST, "/blobs/collections", files).await;
    assert_eq!((status, &folder["Kind"]), (StatusCode::OK, &json!("folder")));
    let root = folder["Hash"].as_str().unwrap();
    let (_, entries) = world.get(&format!("/blobs/{root}/entries")).await;
    let expected = json!([{"Name": "a/b", "Hash": hash, "Bytes": 5}, {"Name": "c", "Hash": hash, "Bytes": 5}]);
    assert_eq!(entries, expected);

    let pin = json!({"Hash": root, "Kind": "folder"});
    assert_eq!(world.json(Method::PUT, "/pins/mine", pin).await.0, StatusCode::OK);
    assert_eq!(world.get("/pins").await.1, json!([{"Name": "mine", "Hash": root, "Kind": "folder"}]));
    let (_, collected) = world.json(Method::POST, "/blobs/gc", Value::Null).await;
    assert_eq!(collected["Blobs"], 0);
    assert_eq!(world.json(Method::DELETE, "/pins/mine", Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(world.json(Method::DELETE, "/pins/mine", Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_wrong_has_a_code_and_a_message() {
    let world = World::new().await;
    let hash = "00".repeat(32);
    let file = json!([{"Name": "../x", "Hash": world.upload("x").await}]);
    let lone = json!({"Job": {"Type": "batch", "Tusks": []}});
    let table = [
        (world.get("/jobs/j-12").await, StatusCode::NOT_FOUND, "not_found"),
        (world.get("/jobs/j-xyz").await, StatusCode::BAD_REQUEST, "malformed"),
        (world.get("/jobs/j-12/events").await, StatusCode::NOT_FOUND, "not_found"),
        (world.get("/jobs/j-12/logs").await, StatusCode::NOT_FOUND, "not_found"),
        (world.get("/jobs?limit=x").await, StatusCode::BAD_REQUEST, "malformed"),
        (world.get(&format!("/blobs/{hash}")).await, StatusCode::NOT_FOUND, "not_found"),
        (world.get("/blobs/abc").await, StatusCode::BAD_REQUEST, "malformed"),
        (world.get("/nothing").await, StatusCode::NOT_FOUND, "not_found"),
        (world.json(Method::DELETE, "/jobs/j-12", Value::Null).await, StatusCode::NOT_FOUND, "not_found"),
        (world.json(Method::PUT, "/jobs", Value::Null).await, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
        (world.json(Method::POST, "/jobs", lone).await, StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
        (world.json(Method::POST, "/blobs/collections", file).await, StatusCode::BAD_REQUEST, "malformed"),
        (
            world.json(Method::POST, "/blobs/fetch", json!({"Ticket": "blobx"})).await,
            StatusCode::BAD_REQUEST,
            "malformed",
        ),
        (world.json(Method::POST, "/blobs/fetch", json!({})).await, StatusCode::BAD_REQUEST, "malformed"),
        (world.json(Method::PUT, "/pins/x", json!({"Hash": hash})).await, StatusCode::NOT_FOUND, "not_found"),
    ];
    for (row, ((status, body), expected, code)) in table.into_iter().enumerate() {
        assert_eq!((status, &body["error"]["code"]), (expected, &json!(code)), "row {row}: {body}");
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "row {row}: {body}");
    }
}

#[tokio::test]
async fn a_job_that_cannot_run_names_the_field_and_leaves_nothing() {
    let world = World::new().await;
    let job = json!({"Type": "batch", "Cuont": 1, "Tasks": []});
    let (status, body) = world.json(Method::POST, "/jobs", json!({"Job": job})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(body["error"]["message"].as_str().unwrap().contains("Cuont"), "{body}");
    assert_eq!(world.get("/jobs").await.1, json!([]));
}

#[tokio::test]
async fn a_server_says_where_it_is_while_it_runs() {
    let world = World::new().await;
    let dir = DataDir::new(&world.node.config().data_dir);
    let server = Server::start(world.node.clone(), ([127, 0, 0, 1], 0).into(), Vec::new()).await.unwrap();
    assert_eq!(std::fs::read_to_string(dir.api_addr()).unwrap(), server.url());
    let token = std::fs::read_to_string(dir.api_token()).unwrap();
    let client = crate::client::Client::new(server.url(), Some(token)).unwrap();
    assert_eq!(client.node().await.unwrap()["PeerID"], world.node.peer_id().to_string());
    let stranger = crate::client::Client::new(server.url(), None).unwrap();
    assert_eq!(stranger.node().await.unwrap_err().code(), Some("unauthorized"));
    server.stop().await;
    assert!(!dir.api_addr().exists());
    assert!(client.node().await.unwrap_err().is_absent());
}

#[tokio::test]
async fn what_the_node_does_not_see_is_not_added_in_place() {
    let world = World::new().await;
    let other = tempfile::NamedTempFile::new().unwrap();
    let path = other.path().canonicalize().unwrap();
    let request = json!({"Path": path, "Device": 0, "Inode": 0, "InPlace": true});
    let (status, body) = world.json(Method::POST, "/blobs/import", request).await;
    assert_eq!((status, body["error"]["code"].as_str()), (StatusCode::CONFLICT, Some("elsewhere")), "{body}");
}
