//! Submits a job, waits for its end, and hands over what came of it: what `job run` and `wasm run` share.

mod flags;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt, pin_mut};
use shoal_protocol::id::JobId;
use shoal_protocol::job::spec::{Engine, Job, Verification, VerificationKind};
use shoal_protocol::record::JobState;

pub(super) use self::flags::RunFlags;
use super::connect::{self, Session};
use super::job::executions;
use super::output::{self, Format};
use super::progress::{self, Progress};
use super::signal::Stop;
use super::spec::{self, Described};
use super::{Global, Status, download, upload};
use crate::client::{Client, LogQuery};
use crate::views::{JobView, SubmitReply};

/// The most of a program's output that is shown without being asked for, in bytes.
const SHOWN_BYTES: usize = 8 << 10;
/// Times that a job which has ended is asked for until it says so itself.
const MAX_LOOKS: u32 = 100;
/// Pause between two of them.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Exit status of a command that a person interrupted, as shells have it.
const INTERRUPTED: u8 = 130;
/// Exit status of a command that has waited long enough, as `timeout` has it.
const TIMED_OUT: u8 = 124;

/// Everything about one run that does not change.
struct Run<'a> {
    session: &'a Session,
    flags: &'a RunFlags,
    format: Format,
    /// Whether nobody expects more than one execution.
    asked_for_one: bool,
    /// The job's id, once it is submitted.
    submitted: OnceLock<JobId>,
}

/// Runs a job that was described on the command line.
pub(super) async fn run_asked(global: &Global, mut job: Job, flags: &RunFlags) -> Result<Status> {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    // On the command line a person has asked for the variable by name.
    spec::copy_host_variables(&mut job, &environment)?;
    spec::check(&job).context("this job cannot run")?;
    run(global, global.format, Described { job, base: PathBuf::new() }, flags).await
}

/// Runs a job: here if it must be, in the mesh if it can be.
pub(super) async fn run(global: &Global, format: Format, described: Described, flags: &RunFlags) -> Result<Status> {
    flags.check()?;
    let Described { job, base } = described;
    let inputs = upload::local_inputs(&job, &base)?;
    if let Some(dir) = &flags.download {
        download::check_free(dir)?;
    }
    if flags.follow && format != Format::Table {
        bail!("--follow prints what the program prints, and --format one document: choose one of them");
    }
    // From here on an interrupt must not leave a node's temporary files behind.
    let mut stop = Stop::new()?;
    let session = tokio::select! {
        session = Box::pin(connect::session(global, &flags.join, executor(&job.task.engine))) => session?,
        () = stop.requested() => return Ok(Status::Other(INTERRUPTED)),
    };
    let asked_for_one = job.verification.executions == 1;
    let run = Run { session: &session, flags, format, asked_for_one, submitted: OnceLock::new() };
    let ended = tokio::select! {
        ended = Box::pin(run.to_the_end(job, inputs)) => ended,
        () = stop.requested() => Ok(run.interrupted()),
    };
    session.close().await;
    ended
}

/// What a node of our own must have to run the job.
fn executor(engine: &Engine) -> &'static str {
    match engine {
        Engine::Docker(_) => "docker",
        Engine::Wasm(_) | Engine::Noop => "wasm",
    }
}

impl Run<'_> {
    fn client(&self) -> &Client {
        &self.session.client
    }

    async fn to_the_end(&self, mut job: Job, inputs: Vec<(usize, PathBuf)>) -> Result<Status> {
        if self.flags.detaches() && self.session.is_ephemeral() {
            bail!("--detach needs a running node, or the job would end with this command: start one with `shoal node`");
        }
        upload::replace_inputs(self.client(), &mut job, inputs).await?;
        let local = self.session.is_alone();
        if local {
            alone(&mut job);
        }
        if self.flags.dry_run {
            self.submit(&job, local, true).await?;
            return self.show_spec(&job);
        }
        let id = self.submit(&job, local, false).await?.job_id.context("the node gave the job no id")?;
        let _ = self.submitted.set(id);
        if self.flags.id_only {
            output::print(&id.to_string())?;
        }
        if self.flags.detaches() { self.detached(id).await } else { self.wait(id).await }
    }

    async fn submit(&self, job: &Job, local: bool, dry_run: bool) -> Result<SubmitReply> {
        let mut inputs = progress::Inputs::new(self.flags.id_only);
        Ok(self.client().submit(job, local, dry_run, &mut |view| inputs.show(&view)).await?)
    }

    fn show_spec(&self, job: &Job) -> Result<Status> {
        // There is no table of a job: its file is the form that people know.
        let format = if self.format == Format::Table { Format::Yaml } else { self.format };
        output::show(format, job, |_| String::new())?;
        Ok(Status::Done)
    }

    async fn detached(&self, id: JobId) -> Result<Status> {
        match self.format {
            _ if self.flags.id_only => {}
            Format::Table => {
                output::print(&id.to_string())?;
                output::note(hints(id));
            }
            format => output::show(format, &self.client().job(&id.to_string()).await?, |_| String::new())?,
        }
        Ok(Status::Done)
    }

    async fn wait(&self, id: JobId) -> Result<Status> {
        let quiet = self.flags.id_only || self.flags.follow;
        if !quiet {
            output::note(format_args!("job {id}"));
        }
        let ended = self.ended(id, quiet);
        let job = match self.flags.patience() {
            None => ended.await?,
            Some(time) => match tokio::time::timeout(time, ended).await {
                Ok(job) => job?,
                Err(_) => return self.out_of_patience(id).await,
            },
        };
        self.hand_over(&job).await?;
        Ok(if job.is_success() { Status::Done } else { Status::JobFailed })
    }

    /// The job once it is over.
    async fn ended(&self, id: JobId, quiet: bool) -> Result<JobView> {
        if self.flags.follow {
            tokio::join!(self.watch(id, true), self.follow(id)).0
        } else {
            self.watch(id, quiet).await
        }
    }

    /// Shows what happens until the job is over.
    async fn watch(&self, id: JobId, quiet: bool) -> Result<JobView> {
        let mut events = self.client().events(id);
        let mut progress = Progress::new(quiet, self.flags.group_events);
        while let Some(event) = events.next().await? {
            progress.show(&event);
        }
        progress.finish();
        for _ in 0..MAX_LOOKS {
            let job = self.client().job(&id.to_string()).await?;
            if job.state.is_over() {
                return Ok(job);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        bail!("the node is stopping; job {id} goes on when it is started again on the same data directory")
    }

    /// Copies what the program prints. That is a service: its failure is not the job's.
    async fn follow(&self, id: JobId) {
        let query = LogQuery { follow: true, ..LogQuery::default() };
        let (out, err) =
            tokio::join!(copy_log(self.client(), id, "stdout", &query), copy_log(self.client(), id, "stderr", &query),);
        for error in [out, err].into_iter().filter_map(Result::err) {
            output::note(format_args!("note: the program's output is not complete: {error:#}"));
        }
    }

    async fn hand_over(&self, job: &JobView) -> Result<()> {
        let kept = self.keep(job).await?;
        if self.session.is_alone() && !self.asked_for_one {
            connect::warn_alone();
        }
        if job.state != JobState::Completed {
            output::note(format_args!("error: job {} is {:?}: {}", job.job_id, job.state, job.state_reason));
        }
        if self.flags.id_only {
            return Ok(());
        }
        match self.format {
            Format::Table if self.flags.follow => output::note(self.summary(job, kept.as_deref())),
            Format::Table => {
                output::print(&output::clean(&self.summary(job, kept.as_deref())))?;
                self.show_stdout(job).await?;
            }
            format => output::show(format, job, |_| String::new())?,
        }
        Ok(())
    }

    /// Writes the result where it was asked for, or where it outlives a node of our own.
    async fn keep(&self, job: &JobView) -> Result<Option<PathBuf>> {
        if job.result.is_none() {
            return Ok(None);
        }
        let dir = match &self.flags.download {
            Some(dir) => dir.clone(),
            None if self.session.is_ephemeral() && !self.is_shown_whole(job).await? => download::usual_dir(job.job_id),
            None => return Ok(None),
        };
        download::job_result(self.client(), job, &dir).await?;
        Ok(Some(dir))
    }

    /// Whether what is printed shows all that the job made. Programs that want a document name a folder themselves.
    async fn is_shown_whole(&self, job: &JobView) -> Result<bool> {
        if self.format != Format::Table || self.flags.id_only {
            output::note("note: the result goes with its node when this command ends; --download DIR keeps it");
            return Ok(true);
        }
        let has_paths = job.spec.pointer("/Tasks/0/ResultPaths").and_then(|paths| paths.as_array());
        let Some(hash) = job.verification.result_hash else { return Ok(false) };
        if has_paths.is_some_and(|paths| !paths.is_empty()) {
            return Ok(false);
        }
        let stdout = download::head(self.client(), hash, "stdout", SHOWN_BYTES).await?;
        Ok(self.flags.follow || stdout.is_none_or(|(bytes, whole)| whole && is_text(&bytes)))
    }

    /// Shows what the program printed, if that is short and fit for a terminal.
    async fn show_stdout(&self, job: &JobView) -> Result<()> {
        let Some(hash) = job.verification.result_hash.filter(|_| job.result.is_some()) else {
            return Ok(());
        };
        match download::head(self.client(), hash, "stdout", SHOWN_BYTES).await? {
            Some((bytes, true)) if !bytes.is_empty() && is_text(&bytes) => {
                output::print("\nstdout:")?;
                output::write(&bytes)?;
            }
            _ => {}
        }
        match download::head(self.client(), hash, "stderr", SHOWN_BYTES).await? {
            Some((bytes, true)) if !job.is_success() && !bytes.is_empty() && is_text(&bytes) => {
                output::note(format_args!("\nstderr:\n{}", String::from_utf8_lossy(&bytes).trim_end()));
            }
            _ => {}
        }
        Ok(())
    }

    /// The outcome of a job in a few lines.
    fn summary(&self, job: &JobView, kept: Option<&Path>) -> String {
        let mut rows = vec![("Job", job.job_id.to_string()), ("State", format!("{:?}", job.state))];
        if !job.state_reason.is_empty() {
            rows.push(("Reason", job.state_reason.clone()));
        }
        rows.push(("Verified", job.verification.in_words()));
        rows.extend(job.exit_in_words().map(|code| ("Exit code", code)));
        if let Some(result) = &job.result {
            rows.extend(result.hash.map(|hash| ("Result", hash.to_string())));
            rows.extend(result.published.iter().map(|published| ("Published", published.uri.clone())));
        }
        match kept {
            Some(dir) => rows.push(("Output", format!("in {}", dir.display()))),
            // A node that goes with this command cannot be asked later.
            None if job.result.is_some() && !self.session.is_ephemeral() => {
                rows.push(("Output", format!("shoal job get {}", job.job_id.short())));
            }
            None => {}
        }
        let mut summary = output::pairs(rows);
        if self.flags.node_details && !job.executions.is_empty() {
            summary = format!("{summary}\n\n{}", executions::table(&job.executions));
        }
        summary
    }

    fn interrupted(&self) -> Status {
        match self.submitted.get() {
            Some(id) if !self.session.is_ephemeral() => {
                output::note(format_args!("\ndetached: job {id} goes on\n{}", hints(*id)));
            }
            _ => output::note("\nstopped"),
        }
        Status::Other(INTERRUPTED)
    }

    /// Says that nobody waits any more; who wants a document gets what is known by now.
    async fn out_of_patience(&self, id: JobId) -> Result<Status> {
        if self.session.is_ephemeral() {
            output::note(format_args!("the time to wait is over: job {id} ends with this command's own node"));
        } else {
            output::note(format_args!("the time to wait is over, but job {id} goes on\n{}", hints(id)));
        }
        if self.format != Format::Table && !self.flags.id_only {
            output::show(self.format, &self.client().job(&id.to_string()).await?, |_| String::new())?;
        }
        Ok(Status::Other(TIMED_OUT))
    }
}

/// What this node runs by itself is one execution of each partition, whatever the job wished for.
fn alone(job: &mut Job) {
    let mut inputs = std::mem::take(&mut job.task.input_sources);
    inputs.retain(|input| !job.is_for_validator(input));
    job.task.input_sources = inputs;
    job.verification = Verification::completed(VerificationKind::None, Some(1), Some(1), Some(1));
}

fn hints(id: JobId) -> String {
    let short = id.short();
    format!("  shoal job describe {short}   what it is doing\n  shoal job get {short}        its result")
}

/// Whether bytes can go to a terminal without doing anything to it.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(|c| !c.is_control() || "\n\r\t".contains(c)))
}

/// Copies one stream of a program's output to ours.
pub(super) async fn copy_log(client: &Client, id: JobId, stream: &str, query: &LogQuery) -> Result<()> {
    let pieces = client.logs(&id.to_string(), stream, query).await?;
    pin_mut!(pieces);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        match stream {
            "stdout" => output::write(&piece)?,
            _ => std::io::Write::write_all(&mut std::io::stderr().lock(), &piece)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shoal_protocol::job::input::input;
    use shoal_protocol::job::spec::Task;

    use super::*;

    #[test]
    fn a_job_alone_is_one_execution_that_verifies_nothing() {
        let mut job = Job::new(Task::new(Engine::Noop));
        job.verification = Verification::completed(VerificationKind::Quorum, None, None, None);
        job.verification.validator = Some("/validator.wasm".into());
        let at = |target: &str| input(&format!("{}:{target}", "ab".repeat(32))).unwrap();
        job.task.input_sources = vec![at("/data"), at("/validator.wasm")];
        alone(&mut job);
        assert_eq!(job.verification, Verification::completed(VerificationKind::None, Some(1), Some(1), Some(1)));
        let targets: Vec<&str> = job.task.input_sources.iter().map(|input| input.target.as_str()).collect();
        assert_eq!(targets, ["/data"], "no validator is run, so the program does not find one");
    }

    #[test]
    fn only_plain_text_goes_to_a_terminal() {
        assert!(is_text("a\tb\r\nü\n".as_bytes()));
        assert!(!is_text(b"\x1b]0;title\x07") && !is_text(b"\xff\xfe") && !is_text(b"\0"));
    }
}
