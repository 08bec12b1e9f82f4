//! Values as operators write them: what is wrong with one is said with its name and where it came from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;

use shoal_executors::docker::AllowedGpus;
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::job::units::Bytes;
use shoal_protocol::message::{ExecutorKind, SourceKind};
use shoal_store::sources::AllowList;

use super::{ConfigError, LoginScope, Origin};
use crate::network::LEAST_MAX_PEERS;

pub(super) fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let pair = |word: &str| {
        let reason = || format!("{word:?} is not a label; write KEY=VALUE");
        let (key, value) = word.split_once('=').ok_or_else(reason)?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    let labels = text.split(',').filter(|word| !word.trim().is_empty()).map(pair).collect::<Result<_, String>>();
    labels.map_err(|reason| ConfigError::Value { name: "SHOAL_LABELS", origin: "environment", reason })
}

pub(super) fn parse_executors(words: &[String], origin: Origin) -> Result<BTreeSet<ExecutorKind>, ConfigError> {
    let parse = |word: &String| match word.as_str() {
        "wasm" => Ok(Some(ExecutorKind::Wasm)),
        "docker" => Ok(Some(ExecutorKind::Docker)),
        "none" | "" => Ok(None),
        other => Err(format!("there is no executor {other:?}; use wasm, docker, or none for a node that only submits")),
    };
    let kinds = words.iter().map(parse).collect::<Result<Vec<_>, _>>();
    let value = |reason| ConfigError::Value { name: "executors", origin: origin.as_str(), reason };
    Ok(kinds.map_err(value)?.into_iter().flatten().collect())
}

pub(super) fn allow_list(patterns: &[String], origin: Origin) -> Result<AllowList, ConfigError> {
    let list = AllowList::new(patterns.iter().map(String::as_str));
    list.map_err(|error| ConfigError::Value {
        name: "allow_local_paths",
        origin: origin.as_str(),
        reason: format!("{error}; write an absolute GLOB, GLOB:ro or GLOB:rw"),
    })
}

/// Where an engine can be.
pub(super) fn docker_address(text: String, origin: Origin) -> Result<Option<String>, ConfigError> {
    match text.split_once("://") {
        None if text.is_empty() => Ok(None),
        Some(("unix" | "tcp" | "http", rest)) if !rest.is_empty() => Ok(Some(text)),
        _ => Err(ConfigError::Value {
            name: "docker_host",
            origin: origin.as_str(),
            reason: format!("{text:?} is no address of an engine; write unix:///PATH or tcp://HOST:PORT"),
        }),
    }
}

/// What runs containers.
pub(super) fn docker_runtime_name(text: String, origin: Origin) -> Result<Option<String>, ConfigError> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !is_name {
        let reason = format!("{text:?} is no name of a runtime; write one that `docker info` lists, for example runsc");
        return Err(ConfigError::Value { name: "docker_runtime", origin: origin.as_str(), reason });
    }
    Ok(Some(text).filter(|name| !name.is_empty()))
}

/// Which GPUs containers may have.
pub(super) fn allowed_gpus(words: Vec<String>, origin: Origin) -> Result<AllowedGpus, ConfigError> {
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["all"] => Ok(AllowedGpus::All),
        ["none" | ""] | [] => Ok(AllowedGpus::Only(Vec::new())),
        _ if words.iter().any(|word| word.is_empty() || word == "all" || word == "none") => {
            let reason = "all and none stand alone; write one of them, or ids as `shoal node info` shows them".into();
            Err(ConfigError::Value { name: "gpus", origin: origin.as_str(), reason })
        }
        _ => Ok(AllowedGpus::Only(words)),
    }
}

/// Whether images of registries are pulled.
pub(super) fn parse_pull(text: &str, origin: Origin) -> Result<bool, ConfigError> {
    match text {
        "missing" => Ok(true),
        "never" => Ok(false),
        other => Err(ConfigError::Value {
            name: "docker_pull",
            origin: origin.as_str(),
            reason: format!("{other:?} is neither missing nor never"),
        }),
    }
}

pub(super) fn parse_login_scopes(words: &[String], origin: Origin) -> Result<Vec<LoginScope>, ConfigError> {
    let scopes = words.iter().filter(|word| !word.is_empty()).map(|word| LoginScope::parse(word));
    let value = |reason| ConfigError::Value { name: "docker_share_login", origin: origin.as_str(), reason };
    scopes.collect::<Result<_, String>>().map_err(value)
}

/// A switch in the environment.
pub(super) fn flag(name: &'static str, text: &str) -> Result<bool, ConfigError> {
    let reason = format!("{text:?} is neither true nor false");
    text.trim().parse().map_err(|_| ConfigError::Value { name, origin: "environment", reason })
}

pub(super) fn parse_sources(words: &[String], origin: Origin) -> Result<BTreeSet<SourceKind>, ConfigError> {
    let parse = |word: &String| {
        let found = SourceKind::ALL.iter().find(|(name, _)| name == word).map(|(_, kind)| *kind);
        found.ok_or_else(|| format!("there is no source {word:?} that workers read; use url, s3, ipfs or local"))
    };
    let kinds = words.iter().filter(|word| !matches!(word.as_str(), "" | "none")).map(parse);
    let value = |reason| ConfigError::Value { name: "sources", origin: origin.as_str(), reason };
    kinds.collect::<Result<_, _>>().map_err(value)
}

pub(super) fn parse_networks(words: &[String], origin: Origin) -> Result<BTreeSet<NetworkKind>, ConfigError> {
    let parse = |word: &String| match word.to_ascii_lowercase().as_str() {
        "http" => Ok(NetworkKind::Http),
        "bridge" => Ok(NetworkKind::Bridge),
        "host" => Ok(NetworkKind::Host),
        other => Err(format!("there is no network {other:?} to be opened; use http, bridge, host, or none")),
    };
    let kinds = words.iter().filter(|word| !matches!(word.as_str(), "" | "none")).map(parse);
    let value = |reason| ConfigError::Value { name: "docker_networks", origin: origin.as_str(), reason };
    kinds.collect::<Result<_, _>>().map_err(value)
}

/// A value with a unit.
pub(super) fn amount<T: FromStr<Err: Display>>(
    name: &'static str,
    origin: Origin,
    text: &str,
) -> Result<T, ConfigError> {
    text.parse().map_err(|error: T::Err| ConfigError::Value {
        name,
        origin: origin.as_str(),
        reason: error.to_string(),
    })
}

/// Where to listen.
pub(super) fn socket(name: &'static str, origin: Origin, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::Value {
        name,
        origin: origin.as_str(),
        reason: format!("{text:?} is no address to listen on; write IP:PORT, for example 0.0.0.0:3340"),
    })
}

pub(super) fn at_least_one(name: &'static str, origin: Origin, count: u64) -> Result<u64, ConfigError> {
    let reason = "a job that is forgotten as it ends has no result; write at least 1".to_owned();
    if count > 0 { Ok(count) } else { Err(ConfigError::Value { name, origin: origin.as_str(), reason }) }
}

pub(super) fn enough_peers(name: &'static str, origin: Origin, count: u64) -> Result<usize, ConfigError> {
    let reason = || format!("a node needs at least {LEAST_MAX_PEERS} peers to hear of all jobs; write that or more");
    let enough = usize::try_from(count).ok().filter(|count| *count >= LEAST_MAX_PEERS);
    enough.ok_or_else(|| ConfigError::Value { name, origin: origin.as_str(), reason: reason() })
}

/// Bytes a second, with or without `/s` behind them.
pub(super) fn rate(name: &'static str, origin: Origin, text: &str) -> Result<Option<u64>, ConfigError> {
    let text = text.trim().trim_end_matches("/s");
    if text.is_empty() {
        return Ok(None);
    }
    match amount::<Bytes>(name, origin, text)?.0 {
        0 => Err(ConfigError::Value {
            name,
            origin: origin.as_str(),
            reason: "nothing could pass at 0 bytes a second; write a rate like 10MB, or nothing for no limit".into(),
        }),
        bytes => Ok(Some(bytes)),
    }
}
