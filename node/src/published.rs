//! What this node has published, for everybody, over HTTP.
//!
//! It listens only where the operator says, apart from the API, and gives out what was put there to be given out:
//! paths are made of ids that were read, never of what a caller writes. Other publishers add their own paths.

mod listener;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as Params, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use shoal_protocol::id::{ExecutionId, JobId};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use self::listener::Bounded;
use crate::api::reachable;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve published results on {address}: {source}; choose another address with --publish-listen")]
pub struct PublishedError {
    /// The address asked for.
    address: SocketAddr,
    /// What the system says.
    source: io::Error,
}

/// An address where nothing is answered yet.
pub(crate) struct Published {
    listener: Bounded,
    address: SocketAddr,
}

impl Published {
    /// Takes the address; port 0 picks one.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, PublishedError> {
        let error = |source| PublishedError { address, source };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        Ok(Self { listener: Bounded::new(listener), address })
    }

    /// Where it is, as seen from here. Whether others can reach that, only its operator knows.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", reachable(self.address))
    }

    /// Answers until the task is dropped.
    pub(crate) async fn serve(self, router: Router) {
        if let Err(error) = axum::serve(self.listener, router).await {
            tracing::warn!(%error, "published results are not served any more");
        }
    }
}

/// The paths of archives that the `local` publisher has written into `folder`.
pub(crate) fn archives(folder: PathBuf) -> Router {
    Router::new().route("/{job}/{file}", get(archive)).with_state(Archives { folder: folder.into() })
}

#[derive(Clone)]
struct Archives {
    folder: std::sync::Arc<Path>,
}

/// One archive, or the parts of it that were asked for.
async fn archive(
    State(archives): State<Archives>,
    Params((job, file)): Params<(String, String)>,
    request: Request,
) -> Response {
    let Some((job, execution)) = named(&job, &file) else { return nothing() };
    let path = archives.folder.join(job.to_string()).join(format!("{execution}.tar.gz"));
    let mut served = match ServeFile::new(path).oneshot(request).await {
        Ok(served) if served.status() == StatusCode::NOT_FOUND => return nothing(),
        Ok(served) => served.map(Body::new),
        Err(never) => match never {},
    };
    // The archive of an execution never changes, so that its id tells it from every other.
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{execution}\"")) {
        served.headers_mut().insert(header::ETAG, tag);
    }
    served.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    served
}

fn named(job: &str, file: &str) -> Option<(JobId, ExecutionId)> {
    Some((job.parse().ok()?, file.strip_suffix(".tar.gz")?.parse().ok()?))
}

fn nothing() -> Response {
    (StatusCode::NOT_FOUND, "nothing is published here\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: &[u8] = b"0123456789";

    struct World {
        _dir: tempfile::TempDir,
        router: Router,
        path: String,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (job, execution) = (JobId([1; 16]), ExecutionId([2; 16]));
            let published = dir.path().join("published");
            std::fs::create_dir_all(published.join(job.to_string())).unwrap();
            let path = format!("{job}/{execution}.tar.gz");
            std::fs::write(published.join(&path), BYTES).unwrap();
            std::fs::write(published.join(job.to_string()).join("other"), "secret").unwrap();
            std::fs::write(dir.path().join("api.token"), "secret").unwrap();
            Self { _dir: dir, router: archives(published), path: format!("/{path}") }
        }

        async fn ask(&self, method: &str, path: &str, range: Option<&str>) -> (StatusCode, Vec<u8>) {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(range) = range {
                request = request.header("range", range);
            }
            let answer = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let status = answer.status();
            (status, axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap().to_vec())
        }
    }

    #[tokio::test]
    async fn an_archive_is_given_whole_or_in_part() {
        let world = World::new();
        assert_eq!(world.ask("GET", &world.path, None).await, (StatusCode::OK, BYTES.to_vec()));
        assert_eq!(world.ask("HEAD", &world.path, None).await, (StatusCode::OK, vec![]));
        let part = world.ask("GET", &world.path, Some("bytes=7-")).await;
        assert_eq!(part, (StatusCode::PARTIAL_CONTENT, b"789".to_vec()));
        assert_eq!(world.ask("GET", &world.path, Some("bytes=99-")).await.0, StatusCode::RANGE_NOT_SATISFIABLE);
    }

    #[tokio::test]
    async fn nothing_else_is_given() {
        let world = World::new();
        let job = JobId([1; 16]);
        let paths = [
            "/".to_owned(),
            format!("/{job}"),
            format!("/{job}/"),
            format!("/{job}/other"),
            format!("/{job}/{}.tar.gz", ExecutionId([3; 16])),
            "/../api.token".into(),
            "/%2e%2e/api.token".into(),
            format!("/{job}/..%2f..%2f..%2fapi.token"),
            format!("/{job}/..%2f..%2fapi.token.tar.gz"),
        ];
        for path in paths {
            let (status, body) = world.ask("GET", &path, None).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            assert!(!body.windows(6).any(|window| window == b"secret"), "{path}");
        }
        assert_eq!(world.ask("PUT", &world.path, None).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }
}
