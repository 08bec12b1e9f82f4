//! One run: create → start → wait → collect → remove. Whatever happens, the container is removed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::models::ContainerState;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptions, InspectContainerOptions, KillContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use shoal_protocol::task::{Docker, Outcome, Trap};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::container::{self, GPUS_LABEL, MAX_VOLUMES, Plan};
use super::engine::{Engine, plain};
use super::gpus::Taken;
use super::images::Ready;
use super::memory::Peak;
use super::network::{Attached, Lines, Whom};
use super::streams::{self, Printed};
use super::tree::{self, Measured};
use super::{DockerExecutor, lock, remove};
use crate::{Blobs, Finished, HostCalls, Outputs, RunError, Stage, Task};

/// How long a program may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(3);
/// How long the kernel may take to end what it killed.
const KILL_WAIT: Duration = Duration::from_secs(30);
/// How long the last of what was printed may take to come.
const DRAIN_WAIT: Duration = Duration::from_secs(10);
/// Pause between two looks at what the program has written.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The file in a run's folder that says that its results have been touched.
pub(super) const COLLECTING: &str = "collecting";
/// What engines answer when the program is not there or is no program.
const NO_PROGRAM: [i64; 2] = [126, 127];

/// A run in the making.
pub(super) struct Run<'a> {
    pub(super) executor: &'a DockerExecutor,
    pub(super) engine: Arc<Engine>,
    pub(super) task: Task,
    pub(super) docker: Docker,
    pub(super) execution: String,
}

/// Why a program was made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    Cancelled,
    TimedOut,
    WroteTooMuch,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) stopped: Option<Stopped>,
    pub(super) state: ContainerState,
    pub(super) printed: Printed,
    pub(super) run: Duration,
    pub(super) peak_memory_bytes: u64,
}

/// The files of standard output and error, where there are any.
pub(super) type Streams = [Option<PathBuf>; 2];

/// What streams are copied to.
pub(super) type Copying = JoinHandle<std::io::Result<Streams>>;

/// A container that goes when this does, and its network after it.
pub(super) struct Container {
    pub(super) engine: Arc<Engine>,
    pub(super) id: String,
    pub(super) gone: bool,
    pub(super) network: Option<Attached>,
}

impl<'a> Run<'a> {
    pub(super) fn new(executor: &'a DockerExecutor, engine: Arc<Engine>, mut task: Task, docker: Docker) -> Self {
        // The engine has a working folder of its own.
        for path in task.inputs.iter_mut().map(|input| &mut input.path).chain([&mut task.work_dir]) {
            *path = std::path::absolute(&path).unwrap_or_else(|_| std::mem::take(path));
        }
        let execution = task.work_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { executor, engine, task, docker, execution }
    }

    pub(super) async fn perform(self, blobs: &dyn Blobs, cancel: CancellationToken) -> Result<Finished, RunError> {
        lock(&self.executor.active).insert(self.execution.clone());
        let gpus = self.executor.gpus.take(self.docker.gpus, self.engine.facts.nvidia, &self.execution);
        let ended = match &gpus {
            Some(gpus) => self.to_the_end(blobs, &cancel, gpus).await,
            None => Err(RunError::Declined(format!("it has no {} free GPUs of one vendor", self.docker.gpus))),
        };
        lock(&self.executor.active).remove(&self.execution);
        ended
    }

    async fn to_the_end(
        &self,
        blobs: &dyn Blobs,
        cancel: &CancellationToken,
        gpus: &Taken<'_>,
    ) -> Result<Finished, RunError> {
        let told = |amount| _ = self.task.stage.send_replace(Stage::Preparing(amount));
        let ready = self.executor.images.ready(&self.engine, &self.docker, blobs, &told);
        let ready = cancel.run_until_cancelled(ready).await.ok_or(RunError::Cancelled)??;
        let mut container = self.make(ready, gpus).await?;
        let ended = self.run(&mut container, cancel).await;
        self.executor.remove(&self.engine, &container.id).await;
        container.gone = true;
        if let Some(network) = container.network.take() {
            self.executor.remove_network(network).await;
        }
        ended
    }

    /// Makes the container. Not to be given up halfway, when the engine may have made it without our knowing.
    async fn make(&self, ready: Ready<'_>, gpus: &Taken<'_>) -> Result<Container, RunError> {
        let (dir, count) = (self.results_dir(), self.task.invocation.result_paths.len());
        let results = blocking(move || tree::make(&dir, count)).await?.map_err(|error| host(&error))?;
        let image_config = ready.image.config.clone().unwrap_or_default();
        if image_config.volumes.as_ref().is_some_and(|volumes| volumes.len() > MAX_VOLUMES) {
            return Err(RunError::Declined(format!("its image has more than {MAX_VOLUMES} volumes")));
        }
        let image = ready.image.id.clone().unwrap_or_default();
        let network = self.attached().await?;
        let body = self.plan(image, &image_config, results, &network, gpus).body();
        let made = self.engine.client.create_container(None::<CreateContainerOptions>, body).await;
        let made = made.map_err(|error| engine_failed("make the container", &error))?;
        Ok(Container { engine: Arc::clone(&self.engine), id: made.id, gone: false, network: Some(network) })
    }

    async fn attached(&self) -> Result<Attached, RunError> {
        let whom = Whom {
            labels: self.executor.labels(&self.execution),
            execution: &self.execution,
            dir: &self.task.work_dir,
            max_bytes: self.task.invocation.limits.output_bytes,
        };
        let attached = self.executor.networks.attach(&self.engine, &self.docker.network, whom).await;
        attached.map_err(|why| RunError::HostFailed(format!("cannot make the network of the container: {why}")))
    }

    fn plan<'p>(
        &'p self,
        image: String,
        image_config: &'p bollard::models::ImageConfig,
        results: Vec<PathBuf>,
        network: &'p Attached,
        gpus: &Taken<'_>,
    ) -> Plan<'p> {
        let config = &self.executor.config;
        let invocation = &self.task.invocation;
        let user = image_config.user.as_deref().unwrap_or_default();
        let node = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mut labels = self.executor.labels(&self.execution);
        labels.extend((!gpus.mine.is_empty()).then(|| (GPUS_LABEL.to_owned(), gpus.ids())));
        let staged = |writable| {
            let inputs = self.task.inputs.iter().filter(move |input| input.writable == writable);
            inputs.map(|input| (input.path.clone(), input.target.clone()))
        };
        let paths = invocation.result_paths.iter().map(|result| result.path.clone());
        Plan {
            docker: &self.docker,
            limits: invocation.limits,
            environment: self.environment(network),
            image,
            image_config,
            facts: &self.engine.facts,
            user: container::user(user, &self.engine.facts, node, config.allow_root),
            labels,
            network: &network.mode,
            inputs: staged(false).collect(),
            written: results.into_iter().zip(paths).chain(staged(true)).collect(),
            gpus: gpus.given(self.engine.facts.nvidia),
        }
    }

    /// The job's variables, and those of its network that it does not set itself.
    fn environment(&self, network: &Attached) -> Vec<String> {
        let own = &self.task.invocation.environment;
        let of_network = network.variables.iter().filter(|(name, _)| !own.contains_key(*name));
        let of_network = of_network.map(|(name, value)| format!("{name}={value}"));
        own.iter().map(|(name, value)| format!("{name}={value}")).chain(of_network).collect()
    }

    async fn run(&self, container: &mut Container, cancel: &CancellationToken) -> Result<Finished, RunError> {
        if cancel.is_cancelled() {
            return Err(RunError::Cancelled);
        }
        let printed = Printed::default();
        let notes = container.network.as_mut().and_then(Attached::notes);
        let copying = self.attach(container, notes, printed.clone()).await?;
        let began = Instant::now();
        let started = self.engine.client.start_container(&container.id, None::<StartContainerOptions>).await;
        if let Err(error) = started {
            copying.abort();
            return self.not_started(container, &error).await;
        }
        self.task.stage.send_replace(Stage::Running);
        let peak = Peak::default();
        let stopped = self.watch(container, cancel, (&printed, &peak), self.task.timeout).await?;
        let run = began.elapsed();
        let streams = drained(copying).await?;
        let state = container.end().await?;
        self.judge(Ended { stopped, state, printed, run, peak_memory_bytes: peak.bytes() }, streams).await
    }

    /// What a run is that ended like this.
    pub(super) async fn judge(&self, ended: Ended, streams: Streams) -> Result<Finished, RunError> {
        let limits = self.task.invocation.limits;
        let outcome = match ended.stopped {
            Some(Stopped::Cancelled) => return Err(RunError::Cancelled),
            Some(Stopped::TimedOut) => return Err(RunError::TimedOut(self.task.timeout)),
            None if ended.printed.bytes() <= limits.output_bytes => outcome(&ended.state),
            // Perhaps it ended before anybody looked.
            None | Some(Stopped::WroteTooMuch) => Outcome::Trapped(Trap::OutOfDisk),
        };
        // Who died for want of memory held all that there was, whatever the last look saw.
        let is_full = outcome == Outcome::Trapped(Trap::OutOfMemory);
        let peak_memory_bytes = if is_full { limits.memory_bytes } else { ended.peak_memory_bytes };
        let finished = self.finished(outcome, streams, ended.run).await?;
        Ok(Finished { peak_memory_bytes, ..finished })
    }

    /// Takes what the program prints, from before its first byte.
    async fn attach(&self, container: &Container, notes: Option<Lines>, printed: Printed) -> Result<Copying, RunError> {
        let options = AttachContainerOptionsBuilder::default().stream(true).stdout(true).stderr(true).build();
        let attached = self.engine.client.attach_container(&container.id, Some(options)).await;
        let attached = attached.map_err(|error| engine_failed("attach to the container", &error))?;
        let paths = [self.task.stdout(), self.task.stderr()];
        let max_bytes = self.task.invocation.limits.output_bytes;
        Ok(tokio::spawn(streams::copy(attached.output, notes, paths, max_bytes, printed)))
    }

    /// Waits for the program's end, and brings it about if it must be.
    pub(super) async fn watch(
        &self,
        container: &Container,
        cancel: &CancellationToken,
        (printed, peak): (&Printed, &Peak),
        time_left: Duration,
    ) -> Result<Option<Stopped>, RunError> {
        let stopped = tokio::select! {
            ended = container.ended() => return ended.map(|()| None),
            () = cancel.cancelled() => Stopped::Cancelled,
            () = tokio::time::sleep(time_left) => Stopped::TimedOut,
            () = self.until_too_much(printed) => Stopped::WroteTooMuch,
            never = peak.watch(container) => match never {},
        };
        container.stop(stopped != Stopped::WroteTooMuch).await?;
        Ok(Some(stopped))
    }

    async fn until_too_much(&self, printed: &Printed) {
        let max_bytes = self.task.invocation.limits.output_bytes;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let dir = self.results_dir();
            match blocking(move || tree::measure(&dir)).await {
                Ok(Measured::Bytes(bytes)) if bytes.saturating_add(printed.bytes()) <= max_bytes => {}
                Ok(_) => return,
                // The runtime is stopping, and with it everything else.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// The program is not there, which is its job's answer; or the engine cannot start anything.
    async fn not_started(&self, container: &Container, error: &Error) -> Result<Finished, RunError> {
        let code = container.state().await?.exit_code.unwrap_or_default();
        if !NO_PROGRAM.contains(&code) {
            return Err(engine_failed("start the container", error));
        }
        let stderr = self.task.stderr();
        tokio::fs::write(&stderr, format!("{}\n", plain(error))).await.map_err(|error| host(&error))?;
        let outcome = Outcome::Exited(i32::try_from(code).unwrap_or(1));
        self.finished(outcome, [None, Some(stderr)], Duration::ZERO).await
    }

    async fn finished(&self, outcome: Outcome, [stdout, stderr]: Streams, run: Duration) -> Result<Finished, RunError> {
        let (outcome, results) = self.collect(outcome, [&stdout, &stderr]).await?;
        Ok(Finished {
            outcome,
            outputs: Outputs { stdout, stderr, results },
            run,
            fuel_used: 0,
            peak_memory_bytes: 0,
            calls: HostCalls { digest: *blake3::hash(b"").as_bytes(), count: 0 },
            trace: None,
            backtrace: None,
        })
    }

    /// Makes the result paths what can be kept. Those that are too large are not: nobody could fetch them.
    async fn collect(
        &self,
        outcome: Outcome,
        printed: [&Option<PathBuf>; 2],
    ) -> Result<(Outcome, Vec<(String, PathBuf)>), RunError> {
        let printed: u64 = printed.into_iter().flatten().map(|path| path.metadata().map_or(0, |file| file.len())).sum();
        let (dir, max_bytes) = (self.results_dir(), self.task.invocation.limits.output_bytes);
        let paths = self.task.invocation.result_paths.clone();
        let collected = blocking(move || -> std::io::Result<_> {
            // From here on the folders are not what the program left.
            std::fs::write(dir.with_file_name(COLLECTING), "")?;
            let fits =
                |measured| matches!(measured, Measured::Bytes(bytes) if bytes.saturating_add(printed) <= max_bytes);
            let results = paths.iter().enumerate().map(|(index, path)| (path, dir.join(index.to_string())));
            let results: Vec<_> = results.collect();
            let mut whole = outcome != Outcome::Trapped(Trap::OutOfDisk);
            for (path, folder) in &results {
                whole = whole && tree::tidy(folder, &path.path)?;
            }
            // What was a link and became a file counts as well.
            whole = whole && fits(tree::measure(&dir));
            let outcome = if whole { outcome } else { Outcome::Trapped(Trap::OutOfDisk) };
            if !whole {
                std::fs::rename(&dir, dir.with_file_name("dropped"))?;
                tree::make(&dir, results.len())?;
            }
            Ok((outcome, results.into_iter().map(|(path, folder)| (path.name.clone(), folder)).collect()))
        });
        collected.await?.map_err(|error| RunError::HostFailed(format!("collecting results: {error}")))
    }

    fn results_dir(&self) -> PathBuf {
        self.task.work_dir.join("results")
    }
}

/// How a program ended that was left alone.
fn outcome(state: &ContainerState) -> Outcome {
    let code = i32::try_from(state.exit_code.unwrap_or_default()).unwrap_or(1);
    // A program may lose a child for want of memory and go on: then what it says counts.
    if state.oom_killed == Some(true) && code != 0 {
        Outcome::Trapped(Trap::OutOfMemory)
    } else {
        Outcome::Exited(code)
    }
}

impl Container {
    /// Waits until no process of it is left.
    async fn ended(&self) -> Result<(), RunError> {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let ended = self.engine.client.wait_container(&self.id, Some(options)).next().await;
        match ended {
            // Codes that are not zero come as errors.
            Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) => Err(engine_failed("wait for the container", &error)),
            None => Err(RunError::HostFailed("its docker engine went away".into())),
        }
    }

    /// Asks the program to end, if there is time for it, and makes it.
    async fn stop(&self, may_end_itself: bool) -> Result<(), RunError> {
        if may_end_itself {
            self.signal("SIGTERM").await;
            if let Ok(ended) = tokio::time::timeout(GRACE, self.ended()).await {
                return ended;
            }
        }
        self.signal("SIGKILL").await;
        let ended = tokio::time::timeout(KILL_WAIT, self.ended()).await;
        ended.unwrap_or_else(|_| Err(RunError::HostFailed("its docker engine does not end the container".into())))
    }

    async fn signal(&self, signal: &str) {
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        if let Err(error) = self.engine.client.kill_container(&self.id, Some(options)).await {
            // Mostly it has just ended.
            tracing::debug!(container = self.id, error = plain(&error), signal, "not sent");
        }
    }

    /// How it ended. An engine that is being stopped ends its containers, which says nothing about their programs; it
    /// takes no new connections then.
    pub(super) async fn end(&self) -> Result<ContainerState, RunError> {
        let client = self.engine.anew().map_err(|error| engine_failed("look at the container", &error))?;
        let seen = client.inspect_container(&self.id, None::<InspectContainerOptions>).await;
        Ok(seen.map_err(|error| engine_failed("look at the container", &error))?.state.unwrap_or_default())
    }

    pub(super) async fn state(&self) -> Result<ContainerState, RunError> {
        let seen = self.engine.client.inspect_container(&self.id, None::<InspectContainerOptions>).await;
        Ok(seen.map_err(|error| engine_failed("look at the container", &error))?.state.unwrap_or_default())
    }
}

impl Drop for Container {
    /// Whoever gave up waiting for the run must not leave it behind.
    fn drop(&mut self) {
        if !self.gone
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (engine, id, network) = (Arc::clone(&self.engine), std::mem::take(&mut self.id), self.network.take());
            runtime.spawn(async move {
                remove(&engine, &id).await;
                drop(network);
            });
        }
    }
}

/// The files of what was printed, once the last of it has come.
pub(super) async fn drained(mut copying: Copying) -> Result<Streams, RunError> {
    match tokio::time::timeout(DRAIN_WAIT, &mut copying).await {
        Ok(copied) => copied.map_err(|error| host(&error))?.map_err(|error| host(&error)),
        Err(_) => {
            copying.abort();
            Err(RunError::HostFailed("its docker engine does not end the program's output".into()))
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RunError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| host(&error))
}

fn host(error: &impl std::fmt::Display) -> RunError {
    RunError::HostFailed(error.to_string())
}

pub(super) fn engine_failed(what: &str, error: &Error) -> RunError {
    RunError::HostFailed(format!("its docker engine cannot {what}: {}", plain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_died_for_want_of_memory_is_told_from_one_that_went_on() {
        let state =
            |code, oom_killed| ContainerState { exit_code: Some(code), oom_killed, ..ContainerState::default() };
        let table = [
            (state(0, Some(false)), Outcome::Exited(0)),
            (state(3, None), Outcome::Exited(3)),
            (state(137, Some(false)), Outcome::Exited(137)),
            (state(137, Some(true)), Outcome::Trapped(Trap::OutOfMemory)),
            (state(0, Some(true)), Outcome::Exited(0)),
        ];
        for (state, expected) in table {
            assert_eq!(outcome(&state), expected, "{state:?}");
        }
    }
}
