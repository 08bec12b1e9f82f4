//! What must become a blob or a value before a job can be compiled, and by whom.
//!
//! The command line replaces local paths (of its own machine) and host variables; the node that takes the job
//! replaces inline data. Each lists what there is, obtains it, and puts it back by its place.

use std::collections::BTreeMap;

use crate::id::BlobHash;
use crate::job::paths::normalised;
use crate::job::spec::{Engine, HOST_VARIABLE_PREFIX, Job, Resolve, Source};
use crate::task::{Content, Image};

/// An input that is a path of the submitting machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalPath<'a> {
    /// Which of the task's inputs it is.
    pub input: usize,
    /// The path, as written.
    pub path: &'a str,
}

/// An input that is written into the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InlineData<'a> {
    /// Which of the task's inputs it is.
    pub input: usize,
    /// The `data:` URL; [`data_url::parse`](crate::job::data_url::parse) decodes it.
    pub url: &'a str,
}

/// An environment variable whose value is a variable of the submitting machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostVariable<'a> {
    /// The job's variable.
    pub name: &'a str,
    /// The submitting machine's variable.
    pub host_name: &'a str,
}

/// What the inputs of a job are, now that they are blobs, and where it will run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The determinism profile to run under, for example `wasm-3`, or the image's platform, for example `linux/amd64`.
    pub profile: String,
    /// The image of a container, and its size in bytes where it comes from: a blob, or a registry as far as is known.
    pub image: Option<(Image, u64)>,
    /// For each of the task's inputs, in their order, what it is.
    pub inputs: Vec<ResolvedInput>,
}

/// What one input is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedInput {
    /// The file or folder and its size in bytes (of a folder, that of all its files together): one for all partitions,
    /// or one for each; nothing where workers read it.
    pub parts: Vec<(Content, u64)>,
    /// Of a folder that [`module_folders`] names: its files by relative path, each with its size in bytes.
    pub files: BTreeMap<String, (BlobHash, u64)>,
}

impl ResolvedInput {
    /// What it is, if that is the same for all partitions.
    pub fn common(&self) -> Option<(Content, u64)> {
        let first = self.parts.first().copied()?;
        self.parts.iter().all(|part| *part == first).then_some(first)
    }
}

/// The inputs that are paths of the submitting machine, and not of workers. Writable ones are not among them: no blob can replace them.
pub fn local_paths(job: &Job) -> Vec<LocalPath<'_>> {
    let found = job.task.input_sources.iter().enumerate().filter_map(|(input, source)| match &source.source {
        Source::LocalDirectory(local) if !local.read_write && source.resolve == Resolve::Requester => {
            Some(LocalPath { input, path: &local.source_path })
        }
        _ => None,
    });
    found.collect()
}

/// The inputs that are written into the job.
pub fn inline_data(job: &Job) -> Vec<InlineData<'_>> {
    let found = job.task.input_sources.iter().enumerate().filter_map(|(input, source)| match &source.source {
        Source::Inline(inline) => Some(InlineData { input, url: &inline.url }),
        _ => None,
    });
    found.collect()
}

/// Puts `source` in the place of an input's; nothing happens when there is no such input.
pub fn replace_source(job: &mut Job, input: usize, source: Source) {
    if let Some(place) = job.task.input_sources.get_mut(input) {
        place.source = source;
    }
}

/// The environment variables that are still to be copied from the submitting machine, if its operator allows.
pub fn host_variables(job: &Job) -> Vec<HostVariable<'_>> {
    let found =
        job.task.env.iter().filter_map(|(name, value)| {
            Some(HostVariable { name, host_name: value.strip_prefix(HOST_VARIABLE_PREFIX)? })
        });
    found.collect()
}

/// Sets the value of an environment variable.
pub fn replace_variable(job: &mut Job, name: &str, value: String) {
    job.task.env.insert(name.to_owned(), value);
}

/// The inputs that, if they are folders, hold a module of the program: compiling needs the list of their files.
pub fn module_folders(job: &Job) -> Vec<usize> {
    let program = match &job.task.engine {
        Engine::Wasm(wasm) => std::iter::once(&wasm.entry_module).chain(&wasm.import_modules).collect(),
        Engine::Docker(_) | Engine::Noop => Vec::new(),
    };
    let modules = program.into_iter().chain(&job.verification.validator);
    let modules: Vec<String> = modules.filter_map(|path| normalised(path)).collect();
    let holds_module = |target: &str| {
        let target = normalised(target);
        target.is_some_and(|target| modules.iter().any(|path| crate::job::paths::below(path, &target).is_some()))
    };
    let inputs = job.task.input_sources.iter().enumerate();
    inputs.filter(|(_, input)| holds_module(&input.target)).map(|(index, _)| index).collect()
}
