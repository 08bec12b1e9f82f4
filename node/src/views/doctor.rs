//! What `shoal doctor` finds.

use serde::{Deserialize, Serialize};

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DoctorView {
    /// Whether nothing is wrong.
    pub healthy: bool,
    /// One or more for each check.
    pub findings: Vec<Finding>,
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Finding {
    /// What was looked at, as a word that programs can rely on.
    pub check: Check,
    /// How bad it is.
    pub state: State,
    /// What was found.
    pub what: String,
    /// Why that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Whether a node runs and answers.
    Node,
    /// Settings of file and environment.
    Settings,
    /// The data directory and who may use it.
    DataDir,
    /// The node's key.
    Identity,
    /// Room on the disk.
    Disk,
    /// The docker engine.
    Docker,
    /// The mesh's name.
    Mesh,
    /// The certificate of a private mesh.
    Membership,
    /// Who is connected.
    Peers,
    /// Whether packets pass directly.
    Udp,
    /// Whether others can begin to talk to this node.
    Reachable,
    /// Relays.
    Relays,
    /// The machine's clock.
    Clock,
    /// The build.
    Version,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All well.
    Ok,
    /// It works, and could be better.
    Note,
    /// It does not work.
    Wrong,
}

impl DoctorView {
    /// What these findings come to.
    pub fn new(findings: Vec<Finding>) -> Self {
        Self { healthy: findings.iter().all(|finding| finding.state != State::Wrong), findings }
    }
}

impl Finding {
    /// All well.
    pub fn ok(check: Check, what: impl Into<String>) -> Self {
        Self { check, state: State::Ok, what: what.into(), why: None, remedy: None }
    }

    /// It works, and could be better.
    pub fn note(check: Check, what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Note, why: Some(why.into()), remedy: Some(remedy.into()), ..Self::ok(check, what) }
    }

    /// It does not work.
    pub fn wrong(check: Check, what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Wrong, ..Self::note(check, what, why, remedy) }
    }
}
