//! From a job file to a job: template, parsing, and what only the submitting machine knows.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use regex::Regex;
use shoal_protocol::id::BlobHash;
use shoal_protocol::job::parse::MAX_SPEC_BYTES;
use shoal_protocol::job::resolve;
use shoal_protocol::job::spec::{Job, Source};
use shoal_protocol::job::{self, input};
use shoal_protocol::task::{Content, ContentKind};

use super::output;

/// Where a job comes from, and what fills its template.
#[derive(Debug, Clone, Args)]
pub(super) struct SpecFlags {
    /// The job file, YAML or JSON; `-` reads stdin
    #[arg(value_name = "FILE|-", default_value = "-")]
    file: PathBuf,
    /// Set a variable of the file's template (repeatable)
    #[arg(short = 'V', long = "template-vars", value_name = "NAME=VALUE")]
    vars: Vec<String>,
    /// Let the file use those variables of this environment whose names match, in its template and as `env:NAME`
    #[arg(short = 'E', long = "template-envs", value_name = "REGEX")]
    envs: Option<String>,
    /// Take the file as it is, without filling a template
    #[arg(long)]
    no_template: bool,
    /// Do not say what of the file is ignored
    #[arg(long)]
    hide_warnings: bool,
}

/// A job, and the folder that its relative paths start from.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) job: Job,
    pub(super) base: PathBuf,
}

impl SpecFlags {
    /// Reads the job, and checks it as far as that needs no node.
    pub(super) fn read(&self) -> Result<Described> {
        let text = self.text()?;
        let environment = self.environment()?;
        let text = if self.no_template { text } else { self.filled(&text, &environment)? };
        let parsed = job::parse(&text).with_context(|| format!("{} is not a job that can run", self.name()))?;
        if !self.hide_warnings {
            parsed.warnings.iter().for_each(|warning| output::note(format_args!("warning: {warning}")));
        }
        let mut job = parsed.job;
        copy_host_variables(&mut job, &environment)?;
        check(&job).with_context(|| format!("{} is not a job that can run", self.name()))?;
        let base = if self.is_stdin() { None } else { self.file.parent() };
        Ok(Described { job, base: base.unwrap_or(Path::new("")).to_owned() })
    }

    fn is_stdin(&self) -> bool {
        self.file == Path::new("-")
    }

    fn name(&self) -> String {
        if self.is_stdin() { "stdin".into() } else { self.file.display().to_string() }
    }

    fn text(&self) -> Result<String> {
        let open = || -> std::io::Result<Box<dyn Read>> {
            if self.is_stdin() {
                Ok(Box::new(std::io::stdin()))
            } else {
                Ok(Box::new(std::fs::File::open(&self.file)?))
            }
        };
        let mut text = String::new();
        let limit = MAX_SPEC_BYTES as u64 + 1;
        let read = open().and_then(|file| file.take(limit).read_to_string(&mut text));
        read.with_context(|| format!("cannot read the job file {}", self.name()))?;
        Ok(text)
    }

    /// What the file may know of this environment: nothing unless it is allowed.
    fn environment(&self) -> Result<BTreeMap<String, String>> {
        let Some(pattern) = &self.envs else { return Ok(BTreeMap::new()) };
        let pattern = Regex::new(pattern).with_context(|| format!("-E {pattern} is not a regular expression"))?;
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Ok(std::env::vars_os().filter_map(text).filter(|(name, _)| pattern.is_match(name)).collect())
    }

    fn filled(&self, text: &str, environment: &BTreeMap<String, String>) -> Result<String> {
        let mut vars = environment.clone();
        for var in &self.vars {
            vars.extend([input::template_variable(var)?]);
        }
        let filled = job::render(text, &vars);
        filled.with_context(|| {
            format!("the template in {} cannot be filled (-V NAME=VALUE sets a variable)", self.name())
        })
    }
}

/// Checks a job as far as that needs no node, as if its local files were blobs already.
pub(super) fn check(job: &Job) -> Result<()> {
    job::validate(job)?;
    let mut job = job.clone();
    let local: Vec<usize> = resolve::local_paths(&job).iter().map(|local| local.input).collect();
    for input in local {
        let blob = Content { hash: BlobHash([0; 32]), kind: ContentKind::Raw };
        resolve::replace_source(&mut job, input, Source::Blob(blob.into()));
    }
    Ok(job::check_support(&job)?)
}

/// Sets variables whose value is `env:NAME`. A file does not get at the environment of whoever runs it by itself.
pub(super) fn copy_host_variables(job: &mut Job, allowed: &BTreeMap<String, String>) -> Result<()> {
    let mut found = Vec::new();
    for variable in resolve::host_variables(job) {
        let (name, host_name) = (variable.name, variable.host_name);
        match allowed.get(host_name) {
            Some(value) => found.push((name.to_owned(), value.clone())),
            None => bail!(
                "variable {name} asks for {host_name} of this machine's environment, which is not set or not allowed: \
                 set it, and allow it with -E '^{host_name}$'"
            ),
        }
    }
    for (name, value) in found {
        resolve::replace_variable(job, &name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "
Type: batch
Name: {{.name}}
Tasks:
  - Name: main
    Engine: {Type: wasm, Params: {EntryModule: /main.wasm}}
    Env: {WHO: 'env:HOME'}
    InputSources:
      - {Target: /main.wasm, Source: {Type: localDirectory, Params: {SourcePath: main.wasm}}}
";

    fn flags(dir: &tempfile::TempDir, text: &str) -> SpecFlags {
        let file = dir.path().join("job.yaml");
        std::fs::write(&file, text).unwrap();
        let envs = Some("^HOME$".into());
        SpecFlags { file, vars: vec!["name=x".into()], envs, no_template: false, hide_warnings: true }
    }

    #[test]
    fn a_file_is_filled_and_its_paths_start_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let described = flags(&dir, JOB).read().unwrap();
        assert_eq!(described.base, dir.path());
        assert_eq!(described.job.name.as_deref(), Some("x"));
        assert_eq!(described.job.task.env["WHO"], std::env::var("HOME").unwrap());
    }

    #[test]
    fn an_environment_that_was_not_allowed_stays_unread() {
        let dir = tempfile::tempdir().unwrap();
        let error = SpecFlags { envs: None, ..flags(&dir, JOB) }.read().unwrap_err().to_string();
        assert!(error.contains("HOME") && error.contains("-E"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let table = [
            (flags(&dir, "Typ: batch\nTasks: []").read(), "Type"),
            (SpecFlags { vars: Vec::new(), ..flags(&dir, JOB) }.read(), "name"),
            (flags(&dir, &JOB.replace("wasm, P", "noop, P")).read(), "noop"),
            (SpecFlags { file: dir.path().join("none.yaml"), ..flags(&dir, JOB) }.read(), "none.yaml"),
        ];
        for (result, expected) in table {
            let error = format!("{:#}", result.unwrap_err());
            assert!(error.contains(expected) && error.contains(".yaml"), "{expected}: {error}");
        }
    }
}
