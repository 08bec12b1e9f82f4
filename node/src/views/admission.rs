//! Which jobs of others a node takes. What its operator did not choose is left out.

use serde::Serialize;
use shoal_protocol::admission::Locality;

use crate::config::AdmissionConfig;

/// Which jobs of others a node takes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AdmissionView {
    /// Images that run; none for all that are not denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_images: Vec<String>,
    /// Images that do not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny_images: Vec<String>,
    /// Peers whose jobs run; none for all that are not blocked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_requesters: Vec<String>,
    /// Peers whose jobs do not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub block_requesters: Vec<String>,
    /// Whether jobs without inputs are refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reject_stateless: bool,
    /// `local` where data is not fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<String>,
    /// The command that is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_exec: Option<String>,
    /// The URL that is asked.
    #[serde(rename = "ProbeHTTP", skip_serializing_if = "Option::is_none")]
    pub probe_http: Option<String>,
}

impl AdmissionView {
    /// What an operator chose.
    pub fn of(config: &AdmissionConfig) -> Self {
        let AdmissionConfig { policy, probe_exec, probe_http } = config;
        Self {
            allow_images: words(&policy.allow_images),
            deny_images: words(&policy.deny_images),
            allow_requesters: words(&policy.allow_requesters),
            block_requesters: words(&policy.block_requesters),
            reject_stateless: policy.reject_stateless,
            locality: (policy.locality != Locality::default()).then(|| policy.locality.to_string()),
            probe_exec: probe_exec.clone(),
            probe_http: probe_http.as_ref().map(ToString::to_string),
        }
    }

    /// Whether every job is taken that can be run.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn words<T: ToString>(list: impl IntoIterator<Item = T>) -> Vec<String> {
    list.into_iter().map(|entry| entry.to_string()).collect()
}
