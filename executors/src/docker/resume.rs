//! A container that outlived its node: it is taken up where it is by now, which may be its end.
//!
//! The engine has kept what was printed meanwhile. Where it may have kept only a part, and where the program may not
//! have ended by itself, the run is given up: nobody could tell what is missing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bollard::models::{ContainerState, ContainerStateStatusEnum as Status};
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder};
use futures_util::{StreamExt, TryStreamExt};
use shoal_protocol::task::Network;
use tokio_util::sync::CancellationToken;

use super::container::{self, EXECUTION_LABEL, NODE_LABEL};
use super::lock;
use super::memory::Peak;
use super::run::{COLLECTING, Container, Copying, Ended, LOOK_EVERY, Run, drained, engine_failed};
use super::streams::{self, Printed};
use crate::{Finished, RunError};

/// What the engine's files hold beside each piece of what was printed, in bytes: no more than this.
const PIECE_OVERHEAD: u64 = 128;
/// The largest piece: by so much may such a file be smaller than it is allowed to be when the engine begins the next.
const PIECE_BYTES: u64 = (16 << 10) + PIECE_OVERHEAD;

impl Run<'_> {
    /// Takes up what an earlier process of this node began.
    pub(super) async fn resume(self, cancel: CancellationToken) -> Result<Finished, RunError> {
        // Noted when the container was found.
        let _gpus = self.executor.gpus.retaken(&self.execution);
        let ended = self.take_up(&cancel).await;
        lock(&self.executor.active).remove(&self.execution);
        ended
    }

    async fn take_up(&self, cancel: &CancellationToken) -> Result<Finished, RunError> {
        if let Network::Http(..) = self.docker.network {
            // The node's own part in it is gone. The next look at the engine removes all that is left of it.
            self.executor.untidy.store(true, Ordering::Relaxed);
            return Err(RunError::HostFailed(
                "the node was restarted, and with it the network of the container".into(),
            ));
        }
        let mut container = self.left().await?;
        tracing::info!(execution = self.execution, container = &container.id[..12], "taking up a container of before");
        let ended = self.follow(&container, cancel).await;
        self.executor.remove(&self.engine, &container.id).await;
        container.gone = true;
        // Its network may be left.
        self.executor.untidy.store(true, Ordering::Relaxed);
        ended
    }

    /// The container that an earlier process of this node made for the execution.
    async fn left(&self) -> Result<Container, RunError> {
        let node = format!("{NODE_LABEL}={}", self.executor.config.node);
        let labels = vec![node, format!("{EXECUTION_LABEL}={}", self.execution)];
        let filter = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
        let found = self.engine.client.list_containers(Some(options)).await;
        let mut found = found.map_err(|error| engine_failed("list its containers", &error))?;
        match (found.pop().and_then(|container| container.id), found.is_empty()) {
            (Some(id), true) => Ok(Container { engine: Arc::clone(&self.engine), id, gone: false, network: None }),
            (one, _) => {
                // More than one were never made for a run; the next look at the engine removes them.
                self.executor.untidy.fetch_or(one.is_some(), Ordering::Relaxed);
                Err(RunError::cut_off())
            }
        }
    }

    async fn follow(&self, container: &Container, cancel: &CancellationToken) -> Result<Finished, RunError> {
        let state = container.state().await?;
        let started = time(state.started_at.as_deref()).ok_or_else(RunError::cut_off)?;
        match state.status {
            Some(Status::RUNNING | Status::PAUSED) => {}
            Some(Status::EXITED) if self.ended_by_itself(container, started).await => {}
            _ => return Err(RunError::cut_off()),
        }
        if !self.engine.facts.keeps_output || self.task.work_dir.join(COLLECTING).exists() {
            return Err(RunError::cut_off());
        }
        let (printed, peak) = (Printed::default(), Peak::default());
        let copying = self.read(container, printed.clone());
        let gone = SystemTime::now().duration_since(started).unwrap_or_default();
        let time_left = self.task.timeout.saturating_sub(gone);
        let stopped = tokio::select! {
            stopped = self.watch(container, cancel, (&printed, &peak), time_left) => stopped?,
            () = self.until_incomplete(&printed) => return Err(incomplete()),
        };
        let streams = drained(copying).await?;
        let state = container.end().await?;
        if stopped.is_none() && !self.is_whole(&printed) {
            return Err(incomplete());
        }
        let run = ran(&state).unwrap_or(gone);
        self.judge(Ended { stopped, state, printed, run, peak_memory_bytes: peak.bytes() }, streams).await
    }

    /// Reads all that was printed, from the first byte, and goes on until the end.
    fn read(&self, container: &Container, printed: Printed) -> Copying {
        let options = LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).build();
        let (client, id) = (self.engine.client.clone(), container.id.clone());
        let paths = [self.task.stdout(), self.task.stderr()];
        let max_bytes = self.task.invocation.limits.output_bytes;
        tokio::spawn(async move {
            let output = client.logs(&id, Some(options)).boxed();
            streams::copy(output, None, paths, max_bytes, printed).await
        })
    }

    /// Waits until so much has come that the engine may have dropped some: going on would be in vain.
    async fn until_incomplete(&self, printed: &Printed) {
        while self.is_whole(printed) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the engine cannot have dropped anything: it does only when it has filled a file before.
    fn is_whole(&self, printed: &Printed) -> bool {
        let most = printed.bytes().saturating_add(printed.pieces().saturating_mul(PIECE_OVERHEAD));
        most.saturating_add(PIECE_BYTES) < container::log_bytes(self.task.invocation.limits.output_bytes)
    }

    /// Whether the program's end was its own: an engine that is stopped, or comes back from a crash, ends its containers.
    /// It tells of what has happened since its own start, so one that saw both ends of the run was there throughout.
    async fn ended_by_itself(&self, container: &Container, started: SystemTime) -> bool {
        let both = ["start", "die"].map(str::to_owned);
        let filter =
            HashMap::from([("container".to_owned(), vec![container.id.clone()]), ("event".to_owned(), both.to_vec())]);
        let options = EventsOptionsBuilder::default()
            .since(&unix(started - Duration::from_secs(1)))
            .until(&unix(SystemTime::now()))
            .filters(&filter)
            .build();
        let seen: Result<Vec<_>, _> = self.engine.client.events(Some(options)).try_collect().await;
        let seen = seen.unwrap_or_default();
        both.iter().all(|action| seen.iter().any(|event| event.action.as_ref() == Some(action)))
    }
}

fn incomplete() -> RunError {
    RunError::HostFailed("the node was restarted, and its engine may not have kept all that was printed".into())
}

/// A time as engines read it.
fn unix(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

/// How long the program ran.
fn ran(state: &ContainerState) -> Option<Duration> {
    time(state.finished_at.as_deref())?.duration_since(time(state.started_at.as_deref())?).ok()
}

/// A time as engines write it; none for one that never was, which they write as the year 1.
fn time(text: Option<&str>) -> Option<SystemTime> {
    humantime::parse_rfc3339(text?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_program_ran_is_what_the_engine_says() {
        let state = |started: &str, finished: &str| ContainerState {
            started_at: Some(started.into()),
            finished_at: Some(finished.into()),
            ..ContainerState::default()
        };
        let table = [
            (state("2026-01-02T03:04:05.5Z", "2026-01-02T03:04:07.75Z"), Some(Duration::from_millis(2_250))),
            (state("2026-01-02T03:04:05Z", "0001-01-01T00:00:00Z"), None),
            (state("2026-01-02T03:04:05Z", "2026-01-02T03:04:04Z"), None),
            (state("yesterday", "today"), None),
        ];
        for (state, expected) in table {
            assert_eq!(ran(&state), expected, "{state:?}");
        }
    }
}
