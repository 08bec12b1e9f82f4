//! Blobs: upload, compose to folders, list, read, fetch from the mesh, collect.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::StreamExt;
use serde::Deserialize;
use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::task::{Content, ContentKind};
use shoal_store::blobs::{Imported, Status, StoreFailed, Usage};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::ReaderStream;

use super::Api;
use super::error::ApiError;
use super::extract::{Asked, Sent};
use crate::announcer;
use crate::tickets;
use crate::views::time::rfc3339;
use crate::views::{BlobPin, BlobRow, BlobView, CollectedView, EntryView, FetchRequest, PinUsage, UsageView};

/// Pieces of an upload that may wait for the store.
const MAX_PIECES: usize = 8;
/// Rows of one page of the blob list.
const MAX_ROWS: usize = 10_000;
/// Pins whose sizes are told.
const MAX_PINS: usize = 1_000;
/// How long the rest of an upload is read that was refused.
const LONGEST_REST: Duration = Duration::from_secs(5);

pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/blobs", put(upload).get(list).layer(DefaultBodyLimit::disable()))
        .route("/blobs/collections", post(compose))
        .route("/blobs/import", post(super::import::import))
        .route("/blobs/fetch", post(super::fetch::fetch))
        .route("/blobs/gc", post(collect))
        .route("/blobs/usage", get(usage))
        .route("/blobs/{hash}", get(read))
        .route("/blobs/{hash}/entries", get(entries))
}

/// Takes a body of any size as one blob; the disk is the limit, and the sender owns the disk.
async fn upload(State(api): State<Api>, body: Body) -> Result<Json<BlobView>, ApiError> {
    // The store wants a stream that threads can share, which a body is not.
    let (pieces, received) = mpsc::channel(MAX_PIECES);
    let forward = async move {
        let mut body = body.into_data_stream();
        while let Some(piece) = body.next().await {
            if pieces.send(piece.map_err(io::Error::other)).await.is_err() {
                // Refused. Who is still sending would not read the answer.
                let rest = body.for_each(async |_| {});
                let _ = tokio::time::timeout(LONGEST_REST, rest).await;
                break;
            }
        }
    };
    let (_, added) = tokio::join!(forward, api.node().blobs().add_stream(ReceiverStream::new(received)));
    let imported = added.map_err(|error| match error {
        StoreFailed::NoRoom(_) => ApiError::from(error),
        StoreFailed::Broken(_) => ApiError::malformed(format!("the upload broke off: {error}")),
    })?;
    Ok(Json(keep(&api, imported).await))
}

async fn compose(State(api): State<Api>, Sent(files): Sent<Vec<EntryView>>) -> Result<Json<BlobView>, ApiError> {
    let files = files.into_iter().map(|entry| (entry.name, entry.hash)).collect();
    let imported = api.node().blobs().compose(files).await?;
    Ok(Json(keep(&api, imported).await))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    after: Option<BlobHash>,
    limit: Option<usize>,
}

async fn list(State(api): State<Api>, Asked(query): Asked<ListQuery>) -> Result<Json<Vec<BlobRow>>, ApiError> {
    let blobs = api.node().blobs();
    let mut pins: BTreeMap<BlobHash, Vec<BlobPin>> = BTreeMap::new();
    for pin in blobs.pins().await? {
        let until = pin.until.map(rfc3339);
        pins.entry(pin.content.hash).or_default().push(BlobPin { name: pin.name, until });
    }
    let uses = blobs.last_uses().await?;
    let row = |(hash, status): (BlobHash, Status)| BlobRow {
        hash,
        bytes: status.bytes(),
        complete: status.is_complete(),
        last_use: uses.get(&hash).copied().map(rfc3339),
        pins: pins.remove(&hash).unwrap_or_default(),
    };
    let page = blobs.page(query.after, query.limit.unwrap_or(MAX_ROWS).min(MAX_ROWS)).await?;
    Ok(Json(page.into_iter().map(row).collect()))
}

async fn usage(State(api): State<Api>) -> Result<Json<UsageView>, ApiError> {
    let blobs = api.node().blobs();
    let Usage { quota, used, pinned, yielding, in_use, cache, partial, promised, free } = blobs.usage().await?;
    let for_others = yielding;
    let mut pins = Vec::new();
    for pin in blobs.pins().await? {
        let bytes = blobs.status(pin.content).await.map_or(0, Status::bytes);
        pins.push(PinUsage { name: pin.name, bytes });
    }
    pins.sort_by_key(|pin| std::cmp::Reverse(pin.bytes));
    pins.truncate(MAX_PINS);
    Ok(Json(UsageView { quota, used, pinned, for_others, in_use, cache, partial, promised, free, pins }))
}

async fn read(State(api): State<Api>, Path(hash): Path<String>) -> Result<Response, ApiError> {
    let hash = parse(&hash)?;
    let blobs = api.node().blobs();
    let content = Content { hash, kind: ContentKind::Raw };
    match blobs.status(content).await? {
        Status::Complete { bytes } => {
            // Once bytes flow, no error has words any more.
            blobs.look_at(content).await?;
            let body = Body::from_stream(ReaderStream::new(blobs.reader(hash)));
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, bytes.to_string()),
            ];
            Ok((headers, body).into_response())
        }
        Status::Missing | Status::Partial { .. } => Err(not_here(hash)),
    }
}

async fn entries(State(api): State<Api>, Path(hash): Path<String>) -> Result<Json<Vec<EntryView>>, ApiError> {
    let files = api.node().blobs().files(parse(&hash)?).await?;
    let entry = |file: shoal_store::blobs::FolderFile| {
        let bytes = file.status.is_complete().then(|| file.status.bytes());
        EntryView { name: file.name, hash: file.hash, bytes }
    };
    Ok(Json(files.into_iter().map(entry).collect()))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CollectQuery {
    dry_run: bool,
}

async fn collect(State(api): State<Api>, Asked(query): Asked<CollectQuery>) -> Result<Json<CollectedView>, ApiError> {
    let blobs = api.node().blobs();
    let collected = if query.dry_run { blobs.unwanted().await? } else { blobs.gc().await? };
    let swept = if query.dry_run { 0 } else { api.node().0.publishing.sweep().await? };
    Ok(Json(CollectedView { blobs: collected.blobs, bytes: collected.bytes + swept }))
}

/// What is to be fetched, and who is asked first.
pub(super) fn wanted(api: &Api, request: FetchRequest) -> Result<(Content, Vec<PeerId>), ApiError> {
    match (request.ticket, request.hash) {
        (Some(ticket), None) => {
            let wrong = || ApiError::malformed("this is not a blob ticket: `shoal job describe` shows a result's");
            let (content, provider) = tickets::read(api.node().network(), &ticket).ok_or_else(wrong)?;
            Ok((content, vec![provider]))
        }
        (None, Some(hash)) => Ok((request.kind.content(hash), request.providers)),
        _ => Err(ApiError::malformed("give either a Ticket or a Hash")),
    }
}

/// Keeps what is here for a while, so that its name can be used.
pub(super) async fn keep(api: &Api, imported: Imported) -> BlobView {
    let Imported { content, bytes, guard } = imported;
    let node = &api.node().0;
    let offer = node.offers.offer(announcer::hashes(&node.blobs, content).await);
    api.leases().keep(guard, offer);
    let ticket = tickets::write(api.node().network(), content);
    BlobView { hash: content.hash, kind: content.kind.into(), bytes, ticket }
}

fn parse(hash: &str) -> Result<BlobHash, ApiError> {
    hash.parse().map_err(|error: shoal_protocol::id::ParseIdError| ApiError::malformed(error.to_string()))
}

fn not_here(hash: BlobHash) -> ApiError {
    let message = format!("blob {hash} is not here, or not all of it: fetch it with `shoal blob get {hash}`");
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}
