//! `shoal bench docker`: a job that does nothing on a node that is alone, and `docker run` of the same, in turns.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use shoal_executors::bench::Figure;
use shoal_protocol::job::spec::{Docker as Program, Engine, Job, Task};
use shoal_protocol::record::{JobState, Placement, Step};
use tokio::process::Command;

use super::output;
use crate::config::{Config, Loaded, Settings};
use crate::node::Node;

/// Runs of each before any is counted.
const WARM_UP: u32 = 2;
/// What the container of a job is given, in the words of `docker run`; memory, processor and user are the node's
/// defaults.
const BOUNDS: [&str; 15] = [
    "--network=none",
    "--init",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges:true",
    "--ipc=private",
    "--pids-limit=1024",
    "--memory=512000000",
    "--memory-swap=512000000",
    "--cpus=0.5",
    "--ulimit=nofile=16384",
    "--ulimit=core=0",
    "--tmpfs=/tmp:rw,exec,nosuid,nodev,size=256000000,mode=1777",
    "--log-driver=none",
    "--user=65534:65534",
];

/// Flags of `shoal bench docker`.
#[derive(Debug, Args)]
pub(super) struct Docker {
    /// An image that the engine has
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The command, which is to do nothing
    #[arg(value_name = "CMD", default_value = "true", trailing_var_arg = true)]
    command: Vec<String>,
    /// Runs of each
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    #[command(flatten)]
    pub(super) output: output::OutputFlag,
}

/// Times of one of the things that are compared.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Docker {
    pub(super) async fn measure(&self) -> Result<Vec<Figure>> {
        let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
        let node = Box::pin(Node::start(config(folder.path())?)).await?;
        let measured = self.take_turns(&node).await;
        node.shutdown().await;
        let [mut plain, mut bounded, mut jobs] = measured?;
        let ratio = jobs.median() / bounded.median();
        Ok(vec![
            figure("docker run, p50", plain.median(), "ms"),
            figure("docker run with the bounds of a job, p50", bounded.median(), "ms"),
            figure("job on a node that is alone, p50", jobs.median(), "ms"),
            figure("the same, p90", jobs.at(90), "ms"),
            figure("job against docker run with its bounds", ratio, "×"),
            figure("job against docker run", jobs.median() / plain.median(), "×"),
        ])
    }

    async fn take_turns(&self, node: &Node) -> Result<[Times; 3]> {
        let [mut plain, mut bounded, mut jobs] = [(); 3].map(|()| Times::default());
        for turn in 0..WARM_UP + self.runs {
            let times = [self.docker_run(&[]).await?, self.docker_run(&BOUNDS).await?, self.job(node).await?];
            if turn >= WARM_UP {
                [&mut plain, &mut bounded, &mut jobs].into_iter().zip(times).for_each(|(all, one)| all.0.push(one));
            }
        }
        Ok([plain, bounded, jobs])
    }

    /// As a person types it; the engine is that of `DOCKER_HOST`, as for the node.
    async fn docker_run(&self, flags: &[&str]) -> Result<Duration> {
        let start = Instant::now();
        let mut command = Command::new("docker");
        command.args(["run", "--rm"]).args(flags).arg(&self.image).args(&self.command).stdin(Stdio::null());
        let ran = command.output().await.context("cannot start `docker`, to which jobs are compared; install it")?;
        let took = start.elapsed();
        let said = String::from_utf8_lossy(&ran.stderr);
        let words = command.as_std().get_args().collect::<Vec<_>>().join(OsStr::new(" "));
        ensure!(ran.status.success(), "`docker {}` failed: {}", words.display(), said.trim());
        Ok(took)
    }

    /// From submitting to the result.
    async fn job(&self, node: &Node) -> Result<Duration> {
        let mut events = node.subscribe();
        let start = Instant::now();
        let id = node.submit(self.spec(), Placement::Here, &|_, _, _| {}).await?;
        loop {
            let event = events.recv().await.context("the node is behind with its news")?;
            if event.job == id && event.step == Step::End {
                break;
            }
        }
        let took = start.elapsed();
        match node.job(id)? {
            Some(job) if job.state == JobState::Completed => Ok(took),
            job => bail!("the job failed: {}", job.map_or_else(String::new, |job| job.reason)),
        }
    }

    fn spec(&self) -> Job {
        let program = Program { image: self.image.clone(), parameters: self.command.clone(), ..Program::default() };
        Job::new(Task::new(Engine::Docker(program)))
    }
}

impl Times {
    /// In milliseconds.
    fn median(&mut self) -> f64 {
        self.at(50)
    }

    /// So many percent were as fast or faster, in milliseconds.
    fn at(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let place = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

fn config(folder: &Path) -> Result<Config> {
    let settings = Settings {
        listen: Some(([127, 0, 0, 1], 0).into()),
        executors: Some(vec!["docker".into()]),
        ..Settings::default()
    };
    Ok(Config { loopback_only: true, passing: true, ..Loaded::new(folder, settings)?.config })
}

fn figure(name: &str, value: f64, unit: &'static str) -> Figure {
    Figure { name: name.into(), value, unit }
}
