//! Which jobs of others a node takes, as its operator writes it.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

use reqwest::Url;
use shoal_protocol::admission::Admission;

use super::{ConfigError, Origin};

/// Most entries of one list: each is compared with every announcement.
const MAX_ENTRIES: usize = 1_024;

/// Which jobs of others run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// What an announcement or the work itself decides.
    pub policy: Admission,
    /// A command that is asked about each job.
    pub probe_exec: Option<String>,
    /// A URL that is asked about each job.
    pub probe_http: Option<Url>,
}

/// A value and where it came from.
pub(super) type Written<T> = (T, Origin);

/// All of it, as written.
pub(super) struct Given {
    pub(super) allow_images: Written<Vec<String>>,
    pub(super) deny_images: Written<Vec<String>>,
    pub(super) allow_requesters: Written<Vec<String>>,
    pub(super) block_requesters: Written<Vec<String>>,
    pub(super) reject_stateless: bool,
    pub(super) locality: Written<String>,
    pub(super) probe_exec: String,
    pub(super) probe_http: Written<String>,
}

pub(super) fn read(given: Given) -> Result<AdmissionConfig, ConfigError> {
    let policy = Admission {
        allow_images: entries("allow_images", &given.allow_images)?,
        deny_images: entries("deny_images", &given.deny_images)?,
        allow_requesters: BTreeSet::from_iter(entries("allow_requesters", &given.allow_requesters)?),
        block_requesters: BTreeSet::from_iter(entries("block_requesters", &given.block_requesters)?),
        reject_stateless: given.reject_stateless,
        locality: given.locality.0.parse().map_err(|reason| wrong("locality", given.locality.1, reason))?,
    };
    let (url, origin) = given.probe_http;
    let probe_http = Some(url).filter(|url| !url.is_empty()).map(|url| address(&url)).transpose();
    Ok(AdmissionConfig {
        policy,
        probe_exec: Some(given.probe_exec).filter(|command| !command.trim().is_empty()),
        probe_http: probe_http.map_err(|reason| wrong("probe_http", origin, reason))?,
    })
}

pub(super) fn entries<T: FromStr<Err: Display>>(
    name: &'static str,
    (words, origin): &Written<Vec<String>>,
) -> Result<Vec<T>, ConfigError> {
    if words.len() > MAX_ENTRIES {
        return Err(wrong(name, *origin, format!("has {} entries; write at most {MAX_ENTRIES}", words.len())));
    }
    let words = words.iter().filter(|word| !word.is_empty());
    let parsed = words.map(|word| word.parse().map_err(|error: T::Err| wrong(name, *origin, error.to_string())));
    parsed.collect()
}

/// Where a probe is asked. Everybody who may see the node's settings sees it.
fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url =
        url.ok_or_else(|| format!("{text:?} is no URL to post to; write http://HOST[:PORT]/PATH or https://…"))?;
    if url.password().is_some() || !url.username().is_empty() {
        return Err("has a name or a password in it, which `shoal config show` would show: write it without".to_owned());
    }
    Ok(url)
}

fn wrong(name: &'static str, origin: Origin, reason: String) -> ConfigError {
    ConfigError::Value { name, origin: origin.as_str(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    fn given() -> Given {
        let list = || (Vec::new(), Origin::Default);
        Given {
            allow_images: list(),
            deny_images: list(),
            allow_requesters: list(),
            block_requesters: list(),
            reject_stateless: false,
            locality: ("anywhere".into(), Origin::Default),
            probe_exec: String::new(),
            probe_http: (String::new(), Origin::Default),
        }
    }

    fn list(word: &str) -> Written<Vec<String>> {
        (vec![word.to_owned()], Origin::File)
    }

    #[test]
    fn nothing_is_refused_unless_somebody_says_so() {
        assert_eq!(read(given()).unwrap(), AdmissionConfig::default());
        let chosen = Given {
            allow_images: list("busybox:*"),
            block_requesters: list(PEER),
            probe_http: ("http://127.0.0.1:9000/ask?a=b".into(), Origin::Flag),
            ..given()
        };
        let chosen = read(chosen).unwrap();
        assert_eq!((chosen.policy.allow_images.len(), chosen.policy.block_requesters.len()), (1, 1));
        assert_eq!(chosen.probe_http.unwrap().path(), "/ask");
    }

    #[test]
    fn a_wrong_value_names_its_setting_and_what_would_be_right() {
        let url = |text: &str| (text.to_owned(), Origin::Environment);
        let many = (vec!["a".to_owned(); MAX_ENTRIES + 1], Origin::File);
        let table = [
            (Given { allow_images: list("Busy Box"), ..given() }, "config.toml allow_images: \"Busy Box\" means no"),
            (Given { deny_images: many, ..given() }, "config.toml deny_images: has 1025 entries"),
            (Given { allow_requesters: list("ann"), ..given() }, "config.toml allow_requesters: \"ann\" is not a peer"),
            (Given { block_requesters: list("1234"), ..given() }, "64 hex digits"),
            (Given { locality: ("near".into(), Origin::Flag), ..given() }, "flag locality: there is no locality"),
            (Given { probe_http: url("ftp://a"), ..given() }, "environment probe_http: \"ftp://a\" is no URL"),
            (Given { probe_http: url("/ask"), ..given() }, "write http://HOST"),
            (Given { probe_http: url("http://ann:secret@a/"), ..given() }, "password in it"),
        ];
        for (given, expected) in table {
            let error = read(given).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
    }
}
