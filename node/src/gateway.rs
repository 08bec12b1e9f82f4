//! A trustless gateway of IPFS for what this node published: blocks and archives, which whoever asks can check.
//!
//! After the specification "Trustless Gateway" of IPFS, without `entity-bytes`. Other content, and files put together,
//! are not to be had here.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use shoal_store::trees::{Found, Scope, TreeError, Trees};

const RAW: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car";
/// What a CID names never changes.
const FOREVER: &str = "public, max-age=29030400, immutable";

/// The paths of the gateway.
pub(crate) fn router(trees: Trees) -> Router {
    Router::new().route("/ipfs/{*address}", get(content)).with_state(trees)
}

/// What may be asked for besides the address.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Asked {
    format: Option<String>,
    dag_scope: Option<String>,
    entity_bytes: Option<String>,
}

/// A form of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Block,
    Archive(Scope),
}

async fn content(
    State(trees): State<Trees>,
    Path(address): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    match answer(&trees, &address, &asked, &headers).await {
        Ok(response) => response,
        Err((status, reason)) => (status, format!("{reason}\n")).into_response(),
    }
}

type Refusal = (StatusCode, String);

async fn answer(trees: &Trees, address: &str, asked: &Asked, headers: &HeaderMap) -> Result<Response, Refusal> {
    let form = form(asked, headers)?;
    let mut parts = address.split('/').filter(|part| !part.is_empty());
    let cid = parts.next().unwrap_or_default();
    let path: Vec<&str> = parts.collect();
    let found = trees.find(cid, &path).await.map_err(refusal)?;
    let found = found.ok_or((StatusCode::NOT_FOUND, format!("this node has not published {address}")))?;
    let tag = tag(&found, form);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag || known.trim() == "*")) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let cid = found.cid();
    let (kind, name, body) = match form {
        Form::Block => {
            let block = trees.root_block(&found).await.map_err(refusal)?;
            (RAW.to_owned(), format!("{cid}.bin"), Body::from(block))
        }
        Form::Archive(scope) => {
            let kind = format!("{CAR}; version=1; order=dfs; dups=y");
            (kind, format!("{cid}.car"), Body::from_stream(trees.archive(found, scope)))
        }
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CACHE_CONTROL, FOREVER.to_owned()),
        (header::ETAG, tag),
        // Pages of others may read what is public anyway.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned()),
    ];
    Ok((headers, body).into_response())
}

/// The form that is asked for, by the query or else by the header.
fn form(asked: &Asked, headers: &HeaderMap) -> Result<Form, Refusal> {
    if asked.entity_bytes.is_some() {
        return Err((StatusCode::NOT_IMPLEMENTED, "parts of files (entity-bytes) are not served here".to_owned()));
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match asked.format.as_deref() {
        Some("raw") => Ok(Form::Block),
        Some("car") => Ok(Form::Archive(scope(asked)?)),
        None if accept.contains(RAW) => Ok(Form::Block),
        None if accept.contains(CAR) => Ok(Form::Archive(scope(asked)?)),
        _ => Err((StatusCode::NOT_ACCEPTABLE, "ask for format=raw or format=car".to_owned())),
    }
}

fn scope(asked: &Asked) -> Result<Scope, Refusal> {
    match asked.dag_scope.as_deref() {
        None | Some("all") => Ok(Scope::All),
        Some("entity") => Ok(Scope::Entity),
        Some("block") => Ok(Scope::Block),
        Some(_) => Err((StatusCode::BAD_REQUEST, "dag-scope is all, entity or block".to_owned())),
    }
}

/// What tells one answer from another. Archives of the same blocks may differ in bytes, so theirs is weak.
fn tag(found: &Found, form: Form) -> String {
    let cid = found.cid();
    match form {
        Form::Block => format!("\"{cid}.raw\""),
        Form::Archive(scope) => format!("W/\"{cid}.{scope:?}.car\""),
    }
}

fn refusal(error: TreeError) -> Refusal {
    match error {
        TreeError::Address(reason) => (StatusCode::BAD_REQUEST, reason),
        error => {
            tracing::warn!(%error, "a published tree cannot be read");
            (StatusCode::INTERNAL_SERVER_ERROR, "this block cannot be read now".to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
