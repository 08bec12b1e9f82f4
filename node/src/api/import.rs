//! `POST /blobs/import`: a file or folder of this machine, with progress for whoever accepts a stream of events, as
//! `POST /blobs/fetch` has it.

use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use shoal_store::blobs::{ComposeError, ImportProgress};
use tokio::sync::watch;

use super::Api;
use super::blobs::keep;
use super::error::ApiError;
use super::extract::Sent;
use super::pace::Pace;
use super::progress::{self, Work};
use crate::views::{BlobView, ImportRequest, ImportedView};

/// The word for a path that the node cannot see.
pub(crate) const ELSEWHERE: &str = "elsewhere";

/// Reads what lies on this machine, if the caller and the node mean the same by its path.
pub(super) async fn import(
    State(api): State<Api>,
    headers: HeaderMap,
    Sent(request): Sent<ImportRequest>,
) -> Result<Response, ApiError> {
    let seen = tokio::fs::metadata(&request.path).await;
    if !seen.is_ok_and(|seen| (seen.dev(), seen.ino()) == (request.device, request.inode)) {
        let message = format!("{} is not on the node's machine: upload it", request.path.display());
        return Err(ApiError::new(StatusCode::CONFLICT, ELSEWHERE, message));
    }
    let (told, progress) = watch::channel(ImportProgress::default());
    let import: Work<BlobView> = Box::pin(read(api.clone(), request, told));
    if progress::is_wanted(&headers) {
        let mut pace = Pace::default();
        return progress::answer(&api, import, progress, move |progress| view(&mut pace, progress));
    }
    Ok(Json(import.await?).into_response())
}

async fn read(api: Api, request: ImportRequest, told: watch::Sender<ImportProgress>) -> Result<BlobView, ApiError> {
    let blobs = api.node().blobs();
    let told = |progress| {
        told.send_replace(progress);
    };
    let imported = match request.in_place {
        true => blobs.import_in_place(&request.path, told).await,
        false => blobs.import_path_watched(&request.path, told).await,
    };
    Ok(keep(&api, imported.map_err(ComposeError::from)?).await)
}

fn view(pace: &mut Pace, ImportProgress { bytes, total }: ImportProgress) -> ImportedView {
    let (bytes_per_second, seconds_left) = pace.note(bytes, Some(total), Instant::now());
    ImportedView { bytes, total_bytes: total, bytes_per_second, seconds_left }
}
