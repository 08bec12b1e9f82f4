//! Jobs: submit, list, describe, stop, and what happened to them.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use shoal_protocol::id::JobId;
use shoal_protocol::job::Job;
use shoal_protocol::record::Placement;
use shoal_store::sources::Progress;
use tokio::sync::watch;

use super::error::ApiError;
use super::extract::{Asked, Sent};
use super::progress::{self, Work};
use super::{Api, events, logs};
use crate::node::Node;
use crate::views::{
    DiffView, EventView, ExecutionView, InputProgressView, JobSummary, JobView, ReplayView, ResultView, SubmitReply,
    SubmitRequest,
};

/// Jobs that one list has at most, and how many it has unless told otherwise.
const MAX_LISTED: usize = 1_000;
const USUALLY_LISTED: usize = 10;

pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/jobs", post(submit).get(list))
        .route("/jobs/{id}", get(describe).delete(stop))
        .route("/jobs/{id}/executions", get(executions))
        .route("/jobs/{id}/history", get(history))
        .route("/jobs/{id}/events", get(events::events))
        .route("/jobs/{id}/logs", get(logs::logs))
        .route("/jobs/{id}/results", get(results))
        .route("/jobs/{id}/replay", post(replay))
        .route("/jobs/{id}/diff", post(diff))
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct From {
    from: Option<u32>,
}

#[derive(Deserialize)]
struct Partition {
    #[serde(default)]
    partition: u32,
    /// The beginning of an execution's id.
    execution: Option<String>,
}

/// Answers once the job is durable. Reading its inputs can take its time, so whoever wants to hears how far that is;
/// whoever goes away before ends it.
async fn submit(
    State(api): State<Api>,
    headers: HeaderMap,
    Sent(request): Sent<SubmitRequest<Job>>,
) -> Result<Response, ApiError> {
    let (told, progress) = watch::channel(InputProgressView::default());
    let taken = if request.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    let work: Work<SubmitReply> = Box::pin(take(api.clone(), request, told));
    if progress::is_wanted(&headers) {
        return progress::answer(&api, work, progress, |view| view);
    }
    Ok((taken, Json(work.await?)).into_response())
}

async fn take(
    api: Api,
    request: SubmitRequest<Job>,
    told: watch::Sender<InputProgressView>,
) -> Result<SubmitReply, ApiError> {
    let watcher = |index, target: &str, Progress { bytes, total }| {
        told.send_replace(InputProgressView { index, target: target.to_owned(), bytes, total_bytes: total });
    };
    if request.dry_run {
        api.node().validate(&request.job, &watcher).await?;
        return Ok(SubmitReply { job_id: None });
    }
    let placement = if request.local { Placement::Here } else { Placement::Mesh };
    Ok(SubmitReply { job_id: Some(api.node().submit(request.job, placement, &watcher).await?) })
}

async fn list(State(api): State<Api>, Asked(query): Asked<Limit>) -> Result<Json<Vec<JobSummary>>, ApiError> {
    let jobs = api.node().jobs(query.limit.unwrap_or(USUALLY_LISTED).min(MAX_LISTED))?;
    Ok(Json(jobs.iter().map(JobSummary::from).collect()))
}

async fn describe(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<JobView>, ApiError> {
    let job = api.node().resolve_job(&id)?;
    Ok(Json(view(api.node(), job).await?))
}

async fn stop(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<JobView>, ApiError> {
    let job = api.node().resolve_job(&id)?;
    api.node().stop(job).await?;
    Ok(Json(view(api.node(), job).await?))
}

async fn executions(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Vec<ExecutionView>>, ApiError> {
    let executions = api.node().executions(api.node().resolve_job(&id)?)?;
    Ok(Json(executions.iter().map(ExecutionView::from).collect()))
}

async fn history(
    State(api): State<Api>,
    Path(id): Path<String>,
    Asked(query): Asked<From>,
) -> Result<Json<Vec<EventView>>, ApiError> {
    let job = api.node().resolve_job(&id)?;
    let events = api.node().history(job, query.from.unwrap_or_default())?;
    Ok(Json(events.iter().map(EventView::from).collect()))
}

async fn results(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<ResultView>, ApiError> {
    let job = api.node().resolve_job(&id)?;
    let JobView { result, state, .. } = view(api.node(), job).await?;
    match result {
        Some(result) => Ok(Json(result)),
        None => {
            let message = format!("job {job} has no result: it is {state:?}");
            Err(ApiError::new(StatusCode::CONFLICT, "no_result", message))
        }
    }
}

/// Answers when the program has ended; whoever goes away stops it.
async fn replay(
    State(api): State<Api>,
    Path(id): Path<String>,
    Asked(query): Asked<Partition>,
) -> Result<Json<ReplayView>, ApiError> {
    let job = api.node().resolve_job(&id)?;
    let replay = api.node().replay(job, query.partition).await?;
    Ok(Json(ReplayView::from(&replay)))
}

async fn view(node: &Node, job: JobId) -> Result<JobView, ApiError> {
    // The job first: when it is over, the executions read after it are what they will stay.
    let record = node.job(job)?.ok_or_else(|| ApiError::no_job(job))?;
    let executions = node.executions(job)?;
    Ok(JobView::new(&record, &executions, node.result(job).await?))
}

/// Answers when the difference was found, after several runs here and at the worker; whoever goes away stops them.
async fn diff(
    State(api): State<Api>,
    Path(id): Path<String>,
    Asked(query): Asked<Partition>,
) -> Result<Json<DiffView>, ApiError> {
    let job = api.node().resolve_job(&id)?;
    let diff = api.node().diff(job, query.partition, query.execution).await?;
    Ok(Json(DiffView::from(&diff)))
}
