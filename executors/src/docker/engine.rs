//! The engine: where it is, what it can do, and whether that is enough to run strangers' programs.

use std::collections::BTreeSet;

use bollard::errors::Error;
use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use shoal_protocol::job::spec::NetworkKind;

use super::gpus::NvidiaBy;

/// Where the engine is unless `DOCKER_HOST` or the operator says otherwise.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// The only log driver that gives back the very bytes that were printed.
pub(super) const LOG_DRIVER: &str = "local";
/// How long the engine may take to answer a request, in seconds. Streams may last longer.
const ANSWER_SECONDS: u64 = 120;

/// Why there is no engine to run containers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers.
    #[error("no engine answers at {host}: {reason}; start it (`systemctl start docker`), or set DOCKER_HOST")]
    Absent {
        /// Where it was looked for.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// It answers, but its containers could not be kept within bounds.
    #[error(
        "the engine at {host} {lack}: containers of strangers would not be safe there; configure it, or use another"
    )]
    Unfit {
        /// Where it is.
        host: String,
        /// What it lacks.
        lack: String,
    },
}

/// An engine that answered, and can do what is needed.
#[derive(Debug)]
pub(super) struct Engine {
    host: String,
    pub(super) client: Docker,
    pub(super) facts: Facts,
}

/// What an engine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `OS/ARCHITECTURE` of what it runs.
    pub platform: String,
    /// Its version.
    pub version: String,
    /// Processors, in thousandths of a core.
    pub cpu_millis: u32,
    /// Whether it runs as an ordinary user, who is root in its containers.
    pub is_rootless: bool,
    /// Networks that its containers are given, beside none.
    pub networks: BTreeSet<NetworkKind>,
    /// Whether it can keep what a container prints, byte by byte and up to a bound.
    pub keeps_output: bool,
    /// How it gives NVIDIA's GPUs to containers, if it does.
    pub nvidia: Option<NvidiaBy>,
    /// What runs containers, if that is not the engine's own choice.
    pub runtime: Option<String>,
}

impl Engine {
    /// Asks the engine at `host` what it can do. It must have `runtime`, if one is named.
    pub(super) async fn find(host: &str, runtime: Option<&str>) -> Result<Self, EngineError> {
        let absent = |error: Error| EngineError::Absent { host: host.into(), reason: plain(&error) };
        let client = connect(host).map_err(absent)?.negotiate_version().await.map_err(absent)?;
        let info = client.info().await.map_err(absent)?;
        let facts = facts(&info, runtime).map_err(|lack| EngineError::Unfit { host: host.into(), lack })?;
        Ok(Self { host: host.to_owned(), client, facts })
    }

    /// A connection of its own: an engine that is being stopped may still answer on old ones, and takes no new ones.
    pub(super) fn anew(&self) -> Result<Docker, Error> {
        connect_as(&self.host, &self.client.client_version())
    }

    /// Whether it still answers.
    pub(super) async fn answers(&self) -> bool {
        self.client.ping().await.is_ok()
    }
}

/// A connection, which is not made before it is used.
pub(super) fn connect(host: &str) -> Result<Docker, Error> {
    connect_as(host, API_DEFAULT_VERSION)
}

fn connect_as(host: &str, version: &ClientVersion) -> Result<Docker, Error> {
    if host.starts_with("unix://") {
        Docker::connect_with_unix(host, ANSWER_SECONDS, version)
    } else {
        Docker::connect_with_http(host, ANSWER_SECONDS, version)
    }
}

/// What the engine said, without the words of the client around it.
pub(super) fn plain(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } => "it does not answer".into(),
        Error::RequestTimeoutError => format!("it did not answer within {ANSWER_SECONDS} s"),
        other => other.to_string(),
    }
}

/// Whether the engine does not know what was named.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

fn facts(info: &SystemInfo, runtime: Option<&str>) -> Result<Facts, String> {
    let security = info.security_options.as_deref().unwrap_or_default();
    let has = |name: &str| security.iter().any(|option| option.split(',').any(|word| word == name));
    let needed = [
        (info.os_type.as_deref() == Some("linux"), "does not run Linux containers"),
        (info.memory_limit == Some(true), "cannot limit memory"),
        (info.cpu_cfs_quota == Some(true), "cannot limit processor time"),
        (info.pids_limit == Some(true), "cannot limit the number of processes"),
        (has("name=seccomp"), "does not filter system calls (seccomp)"),
    ];
    if let Some((_, lack)) = needed.iter().find(|(is_there, _)| !is_there) {
        return Err((*lack).to_owned());
    }
    if let Some(name) = runtime {
        has_runtime(info, name)?;
    }
    let processors = u32::try_from(info.ncpu.unwrap_or(1)).unwrap_or(1).max(1);
    Ok(Facts {
        platform: format!("linux/{}", architecture(info.architecture.as_deref().unwrap_or_default())),
        version: info.server_version.clone().unwrap_or_default(),
        cpu_millis: processors.saturating_mul(1_000),
        is_rootless: has("name=rootless"),
        networks: BTreeSet::new(),
        keeps_output: log_drivers(info).iter().any(|driver| driver == LOG_DRIVER),
        nvidia: NvidiaBy::of(info),
        runtime: runtime.map(str::to_owned),
    })
}

/// Whether the engine knows a runtime. Those that are programs of its containerd it finds without being told.
fn has_runtime(info: &SystemInfo, name: &str) -> Result<(), String> {
    let mut known: Vec<&str> = info.runtimes.iter().flatten().map(|(known, _)| known.as_str()).collect();
    if known.contains(&name) || name.starts_with("io.containerd.") {
        return Ok(());
    }
    known.sort_unstable();
    Err(format!("has no runtime {name:?} (it has {})", known.join(", ")))
}

fn log_drivers(info: &SystemInfo) -> &[String] {
    info.plugins.as_ref().and_then(|plugins| plugins.log.as_deref()).unwrap_or_default()
}

/// What this machine runs, as images have it: `linux/ARCHITECTURE`.
pub fn platform_here() -> String {
    format!("linux/{}", architecture(std::env::consts::ARCH))
}

/// The name that images have for what the kernel calls its machine.
fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "arm",
        "x86" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> SystemInfo {
        SystemInfo {
            os_type: Some("linux".into()),
            architecture: Some("x86_64".into()),
            memory_limit: Some(true),
            cpu_cfs_quota: Some(true),
            pids_limit: Some(true),
            ncpu: Some(2),
            security_options: Some(vec!["name=seccomp,profile=default".into()]),
            ..SystemInfo::default()
        }
    }

    #[test]
    fn an_engine_that_can_bound_its_containers_is_fit() {
        let found = facts(&info(), None).unwrap();
        assert_eq!((found.platform.as_str(), found.cpu_millis, found.is_rootless), ("linux/amd64", 2_000, false));
        let rootless = SystemInfo {
            security_options: Some(vec!["name=seccomp,profile=default".into(), "name=rootless".into()]),
            ..info()
        };
        assert!(facts(&rootless, None).unwrap().is_rootless);
    }

    #[test]
    fn an_engine_that_lacks_a_bound_is_not() {
        let table = [
            (SystemInfo { os_type: Some("windows".into()), ..info() }, "Linux"),
            (SystemInfo { memory_limit: Some(false), ..info() }, "memory"),
            (SystemInfo { cpu_cfs_quota: None, ..info() }, "processor"),
            (SystemInfo { pids_limit: Some(false), ..info() }, "processes"),
            (SystemInfo { security_options: None, ..info() }, "seccomp"),
        ];
        for (info, word) in table {
            assert!(facts(&info, None).unwrap_err().contains(word), "{word}");
        }
    }

    #[test]
    fn a_runtime_that_the_engine_lacks_is_named_beside_those_that_it_has() {
        let runtimes = ["runc", "runsc"].map(|name| (name.to_owned(), bollard::models::Runtime::default()));
        let info = SystemInfo { runtimes: Some(runtimes.into()), ..info() };
        let lack = facts(&info, Some("kata")).unwrap_err();
        assert!(lack.contains("\"kata\"") && lack.contains("runc, runsc"), "{lack}");
        for name in ["runsc", "io.containerd.kata.v2"] {
            assert_eq!(facts(&info, Some(name)).unwrap().runtime.as_deref(), Some(name));
        }
    }
}
