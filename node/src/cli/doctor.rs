//! `shoal doctor`: what is wrong, and what to do about it. It looks at the running node, or at what lies on the disk.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use shoal_executors::docker::DEFAULT_HOST;
use shoal_protocol::message::ExecutorKind;
use shoal_store::data_dir::DataDir;
use shoal_store::identity;

use super::{Global, Status, connect, output};
use crate::client::Client;
use crate::clock::Clock;
use crate::config::{Config, Loaded, Settings};
use crate::doctor::{self, machine};
use crate::membership::Membership;
use crate::views::doctor::{Check, DoctorView, Finding, State};

/// Flags of `shoal doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    output: output::OutputFlag,
}

impl Doctor {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let findings = match connect::find(global).await {
            Ok(Some(client)) => of_node(&client).await?,
            Ok(None) => without_node(&global.data_dir()?),
            Err(error) => {
                let here = of_machine(&global.data_dir()?);
                std::iter::once(unanswered(&output::told(&error))).chain(here).collect()
            }
        };
        let view = DoctorView::new(findings);
        output::show(self.output.format(global.format), &view, table)?;
        Ok(if view.healthy { Status::Done } else { Status::Unwell })
    }
}

async fn of_node(client: &Client) -> Result<Vec<Finding>> {
    let (own, node) = (env!("CARGO_PKG_VERSION"), client.node().await?);
    let version = node["Version"].as_str().unwrap_or_default();
    let what = format!("a node of version {version} answers at {}", client.url());
    let first = if version == own {
        Finding::ok(Check::Node, what)
    } else {
        let what = format!("{what}, and this command is of version {own}");
        Finding::note(Check::Node, what, "they may not understand each other", "restart the node with this version")
    };
    Ok(std::iter::once(first).chain(client.doctor().await?.findings).collect())
}

fn unanswered(reason: &str) -> Finding {
    let why = "without its API nothing else can be found out";
    Finding::wrong(Check::Node, reason, why, "do what the message says, or look at the node's log")
}

/// What can be looked at while no node runs.
fn without_node(dir: &Path) -> Vec<Finding> {
    let data_dir = DataDir::new(dir);
    let holder = data_dir.holder();
    let mut findings = vec![absent(dir, holder.as_deref())];
    findings.extend(of_machine(dir));
    match Loaded::new(dir, Settings::default()) {
        Ok(loaded) => findings.extend(of_settings(&loaded.config, holder.is_some())),
        Err(error) => findings.push(Finding::wrong(
            Check::Settings,
            error.to_string(),
            "a node does not start with settings that it does not understand",
            format!("mend {} or the environment variable", data_dir.config().display()),
        )),
    }
    findings
}

fn of_machine(dir: &Path) -> impl Iterator<Item = Finding> + use<> {
    [machine::data_dir(dir), machine::identity(dir)].into_iter().chain(machine::disk(dir))
}

fn absent(dir: &Path, holder: Option<&str>) -> Finding {
    let dir = dir.display();
    match holder {
        Some(holder) => Finding::wrong(
            Check::Node,
            format!("a node{holder} has the data directory {dir}, and its API does not answer"),
            "no command can reach it",
            "if it is just starting, ask again in some seconds; if not, look at its log and restart it",
        ),
        None => Finding::wrong(
            Check::Node,
            format!("no node is running on the data directory {dir}"),
            "the network can only be looked at by a running node, and nobody's jobs run here",
            "start one with `shoal node`, and ask again; or name another with --data-dir or --api",
        ),
    }
}

/// What a node with these settings would meet. `is_held`: one is using them now.
fn of_settings(config: &Config, is_held: bool) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(Check::Settings, "the settings are understood")];
    if config.executors.contains(&ExecutorKind::Docker) {
        let host = config.docker.host.as_deref().unwrap_or(DEFAULT_HOST);
        findings.push(machine::docker(machine::engine(host)));
    }
    if !is_held {
        findings.extend(machine::port(config.listen));
        findings.extend(membership(config));
    }
    findings
}

/// The membership of a private mesh, or the doubt whether one was meant.
fn membership(config: &Config) -> Option<Finding> {
    let dir = DataDir::new(&config.data_dir);
    let Ok(Some(key)) = identity::load_if_there(&dir.identity_key()) else { return None };
    match Membership::open(&dir, &config.mesh, identity::peer_id(&key), Clock::start()) {
        Ok(Some(membership)) => Some(doctor::membership(&membership)),
        Ok(None) => doctor::mistyped(&config.mesh, &doctor::mesh_names(config)),
        Err(error) => {
            let why = "the node does not start in this mesh";
            Some(Finding::wrong(Check::Membership, error.to_string(), why, "do what the message says"))
        }
    }
}

/// The worst first, and what all is well last.
fn table(view: &DoctorView) -> String {
    let mut findings: Vec<&Finding> = view.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.state));
    let told: Vec<String> = findings.into_iter().map(paragraph).collect();
    let wrong = view.findings.iter().filter(|finding| finding.state == State::Wrong).count();
    let sum = match wrong {
        0 => "Nothing is wrong.".to_owned(),
        wrong => format!("{} found something wrong.", output::count(wrong as u64, "check")),
    };
    format!("{}\n\n{sum}", told.join("\n"))
}

fn paragraph(finding: &Finding) -> String {
    let word = match finding.state {
        State::Ok => "ok   ",
        State::Note => "note ",
        State::Wrong => "WRONG",
    };
    let more = [("why", &finding.why), ("do", &finding.remedy)];
    let more = more.iter().filter_map(|(name, text)| Some(format!("\n       {name}: {}", text.as_ref()?)));
    format!("{word}  {}{}", finding.what, more.collect::<String>())
}
