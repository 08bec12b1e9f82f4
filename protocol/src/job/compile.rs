//! From a job to the work that peers run: everything that determines the result, and nothing else.
//!
//! Two jobs that compute the same compile to the same bytes, whoever wrote them and however they are called.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{BlobHash, ImageId};
use crate::image::{BLOB_PREFIX, ImageName};
use crate::job::parse::LEGACY_IMPORTS;
use crate::job::paths::{below, normalised};
use crate::job::problem::Problems;
use crate::job::resolve::{Resolved, ResolvedInput, host_variables};
use crate::job::spec::{Docker, Engine, InputSource, Job, Resolve, Resources, Task, Timeouts, Wasm};
use crate::job::{support, validate};
use crate::limits::{
    DEFAULT_EXECUTION_MS, DEFAULT_FUEL, MAX_ANNOUNCED_INPUTS, MAX_EXECUTION_MS, MAX_MEMORY_BYTES, MAX_WORK_BYTES,
};
use crate::message::{self, ImageSource, NeededImage, Needs, SourceKind};
use crate::task::{
    self, Content, ContentKind, Divided, ImportModule, Invocation, Limits, Mount, ResultPath, Unread, Work,
};
use crate::time::Millis;
use crate::wire::canonical;

/// Encoded [`Needs`], in bytes: what an announcement of 1,024 has left beside its signature, contact and the rest.
pub const MAX_NEEDS_BYTES: usize = 320;

/// Why a job cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It breaks a rule, or this build cannot run it.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The caller has not resolved every input.
    #[error("the job has {inputs} inputs, but {resolved} were resolved")]
    Unresolved {
        /// Inputs of the job.
        inputs: usize,
        /// Inputs that were resolved.
        resolved: usize,
    },
    /// A host variable was not copied.
    #[error("the variable '{name}' is to be copied from '{host_name}' of this host; allow that, or write a value")]
    HostVariable {
        /// The job's variable.
        name: String,
        /// The host's variable.
        host_name: String,
    },
    /// A source divided its content into another number of parts than there are partitions.
    #[error("input '{target}' has {parts} parts, but the job has {partitions} partitions")]
    Parts {
        /// The input's target.
        target: String,
        /// Its parts.
        parts: usize,
        /// The job's partitions.
        partitions: u32,
    },
    /// A module would be read by workers.
    #[error("the module at '{0}' cannot be read by workers, since it must be the same for all: leave its Resolve out")]
    UnreadModule(String),
    /// A module is a folder without a module, or is not in its folder.
    #[error("no module at '{0}': an input or a file in it must be the module")]
    NoModule(String),
    /// The caller has not found the image.
    #[error("the image '{0}' was not looked up")]
    NoImage(String),
    /// A module's path is a folder with several modules.
    #[error("'{0}' is a folder with more than one .wasm file: write the path of the one that is meant")]
    ManyModules(String),
    /// Arguments, environment and inputs are too long together.
    #[error(
        "the job's arguments, environment and inputs take {0} bytes, more than {MAX_WORK_BYTES}: move data into input \
         files; an input that is divided takes 33 bytes for each partition"
    )]
    WorkTooLarge(usize),
    /// Constraints and the image's name are too long to announce.
    #[error(
        "the job's constraints and the name of its image take {0} bytes of its announcement, more than \
         {MAX_NEEDS_BYTES}: shorten them"
    )]
    NeedsTooLarge(usize),
}

/// Compiles a job whose sources are resolved: the work, and what a worker needs for it.
///
/// Preferences (constraints with `favour_`) are not part of the needs: no worker is ruled out by them.
pub fn compile(job: &Job, resolved: &Resolved) -> Result<(Work, Needs), CompileError> {
    validate::validate(job)?;
    support::check(job)?;
    let all = pair(job, &resolved.inputs)?;
    let validator = job.verification.validator.as_ref().map(|path| module(path, &all)).transpose()?;
    let inputs: Vec<Pair<'_>> = all.into_iter().filter(|(input, _)| !job.is_for_validator(input)).collect();
    let environment = environment(job)?;
    let program = Program::find(job, resolved, &inputs)?;
    let needs = needs(job, resolved, &inputs, &program)?;
    let invocation = Invocation {
        environment,
        inputs: mounts(&job.task.engine, &inputs),
        unread: unread(&inputs),
        result_paths: result_paths(job),
        limits: limits(&program.engine, &job.task.resources),
        engine: program.engine,
    };
    let execution_timeout_ms = execution_timeout(job.task.timeouts);
    let compare = job.verification.compare.resolve(&job.task.result_paths).expect("a valid job compares something");
    let work = Work {
        invocation,
        divided: divided(&inputs),
        partitions: job.count,
        execution_timeout_ms,
        compare,
        validator: validator.map(|(module, _)| module),
    };
    let size = canonical(&work).len();
    if size > MAX_WORK_BYTES { Err(CompileError::WorkTooLarge(size)) } else { Ok((work, needs)) }
}

/// An input as described and as found.
type Pair<'a> = (&'a InputSource, &'a ResolvedInput);

fn pair<'a>(job: &'a Job, resolved: &'a [ResolvedInput]) -> Result<Vec<Pair<'a>>, CompileError> {
    let inputs = &job.task.input_sources;
    if inputs.len() != resolved.len() {
        return Err(CompileError::Unresolved { inputs: inputs.len(), resolved: resolved.len() });
    }
    let pairs: Vec<Pair<'a>> = inputs.iter().zip(resolved).collect();
    let odd = |(input, resolved): &&Pair<'_>| match (input.resolve, resolved.parts.len()) {
        (Resolve::Worker, parts) => parts != 0,
        (Resolve::Requester, parts) => parts != 1 && parts != job.count as usize,
    };
    match pairs.iter().find(odd) {
        None => Ok(pairs),
        Some((input, resolved)) => {
            let (target, parts) = (input.target.clone(), resolved.parts.len());
            Err(CompileError::Parts { target, parts, partitions: job.count })
        }
    }
}

/// The task's variables and the job's type. Ids are left out: with them no two computations would be equal.
fn environment(job: &Job) -> Result<BTreeMap<String, String>, CompileError> {
    if let Some(variable) = host_variables(job).first() {
        let (name, host_name) = (variable.name.to_owned(), variable.host_name.to_owned());
        return Err(CompileError::HostVariable { name, host_name });
    }
    let mut environment = job.task.env.clone();
    if let Engine::Docker(docker) = &job.task.engine {
        let pairs = docker.environment_variables.iter().filter_map(|variable| variable.split_once('='));
        environment.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    environment.insert("BACALHAU_JOB_TYPE".into(), job.kind.name().into());
    Ok(environment)
}

/// A module and its size.
type Module = (BlobHash, u64);

/// The engine, the blobs that are its program, and the image of a container.
struct Program {
    engine: task::Engine,
    blobs: Vec<Module>,
    image: Option<NeededImage>,
}

impl Program {
    fn find(job: &Job, resolved: &Resolved, inputs: &[Pair<'_>]) -> Result<Self, CompileError> {
        match &job.task.engine {
            Engine::Wasm(wasm) => Self::wasm(wasm, resolved, inputs),
            Engine::Docker(docker) => Self::docker(docker, &job.task, resolved),
            Engine::Noop => unreachable!("support refuses it"),
        }
    }

    fn wasm(wasm: &Wasm, resolved: &Resolved, inputs: &[Pair<'_>]) -> Result<Self, CompileError> {
        let imports = wasm.import_modules.iter().map(|path| Ok((import_name(path, inputs), module(path, inputs)?)));
        let imports = imports.collect::<Result<BTreeMap<String, Module>, CompileError>>()?;
        let entry = module(&wasm.entry_module, inputs)?;
        let blobs = std::iter::once(entry).chain(imports.values().copied()).collect();
        let imports = imports.into_iter().map(|(name, (module, _))| ImportModule { name, module });
        let engine = task::Engine::Wasm(task::Wasm {
            profile: resolved.profile.clone(),
            module: entry.0,
            imports: imports.collect(),
            entry_point: wasm.entrypoint.clone(),
            arguments: wasm.parameters.clone(),
        });
        Ok(Self { engine, blobs, image: None })
    }

    fn docker(docker: &Docker, task: &Task, resolved: &Resolved) -> Result<Self, CompileError> {
        let no_image = || CompileError::NoImage(docker.image.clone());
        let (image, bytes) = resolved.image.clone().ok_or_else(no_image)?;
        let (blobs, needed) = (image.blob().map(|hash| (hash, bytes)).into_iter().collect(), needed(&image, bytes));
        let engine = task::Engine::Docker(task::Docker {
            platform: resolved.profile.clone(),
            image,
            entrypoint: docker.entrypoint.clone(),
            parameters: docker.parameters.clone(),
            working_directory: docker.working_directory.clone(),
            network: task::Network::of(&task.network),
            cpu_millis: task.resources.cpu.0,
            gpus: task.resources.gpu.0,
        });
        Ok(Self { engine, blobs, image: Some(needed) })
    }
}

fn needed(image: &task::Image, bytes: u64) -> NeededImage {
    let (source, bytes) = match image.origin {
        task::ImageOrigin::Engine => (ImageSource::Nowhere, 0),
        task::ImageOrigin::Blob(_) => (ImageSource::Peers, 0),
        task::ImageOrigin::Registry(..) => (ImageSource::Registry, bytes),
    };
    NeededImage { id: image.id, source, bytes }
}

/// A module is an input that is a file, a file in a folder, the one `.wasm` file of a folder, or its only file.
fn module(path: &str, inputs: &[Pair<'_>]) -> Result<Module, CompileError> {
    let missing = || CompileError::NoModule(path.to_owned());
    let wanted = normalised(path).ok_or_else(missing)?;
    let found = inputs.iter().filter_map(|(input, resolved)| {
        let target = normalised(&input.target)?;
        Some((below(&wanted, &target)?.to_owned(), *resolved))
    });
    // The longest target, so the least that remains, is the input that is meant.
    let (rest, resolved) = found.min_by_key(|(rest, _)| rest.len()).ok_or_else(missing)?;
    // What differs between partitions is no program.
    if resolved.parts.is_empty() {
        return Err(CompileError::UnreadModule(path.to_owned()));
    }
    let (content, bytes) = resolved.common().ok_or_else(missing)?;
    match (content.kind, rest.as_str()) {
        (ContentKind::Raw, "") => Ok((content.hash, bytes)),
        (ContentKind::Raw, _) => Err(missing()),
        (ContentKind::Collection, "") => only_module(path, resolved),
        (ContentKind::Collection, rest) => resolved.files.get(rest).copied().ok_or_else(missing),
    }
}

fn only_module(path: &str, folder: &ResolvedInput) -> Result<Module, CompileError> {
    // What a URL gives is a folder with one file, which may be called anything.
    let alone = folder.files.len() == 1;
    let mut modules = folder.files.iter().filter(|(name, _)| alone || name.ends_with(".wasm"));
    match (modules.next(), modules.next()) {
        (Some((_, module)), None) => Ok(*module),
        (None, _) => Err(CompileError::NoModule(path.to_owned())),
        (Some(_), Some(_)) => Err(CompileError::ManyModules(path.to_owned())),
    }
}

/// The name by which other modules import the one at `path`: the path itself, as Bacalhau looks modules up by
/// import name in the file tree. Old files give no paths, so there an input's alias is the name.
fn import_name(path: &str, inputs: &[Pair<'_>]) -> String {
    let path = normalised(path).unwrap_or_default();
    let alias = inputs.iter().find(|(input, _)| normalised(&input.target).as_ref() == Some(&path));
    match alias.map(|(input, _)| input.alias.as_str()) {
        Some(alias) if path.starts_with(LEGACY_IMPORTS) && !alias.is_empty() => alias.to_owned(),
        _ => path.trim_start_matches('/').to_owned(),
    }
}

fn is_module(engine: &Engine, input: &InputSource) -> bool {
    matches!(engine, Engine::Wasm(wasm) if wasm.is_module(input))
}

/// What the program reads, by target. Modules are not among it: the engine has them already.
fn mounts(engine: &Engine, inputs: &[Pair<'_>]) -> Vec<Mount> {
    let mounted = inputs.iter().filter(|(input, _)| !is_module(engine, input)).filter_map(|(input, resolved)| {
        Some(Mount { target: normalised(&input.target)?, content: resolved.common()?.0 })
    });
    let mut mounts: Vec<Mount> = mounted.collect();
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    mounts
}

/// What workers read themselves, by target.
fn unread(inputs: &[Pair<'_>]) -> Vec<Unread> {
    let unread = inputs.iter().filter(|(input, _)| input.resolve == Resolve::Worker);
    let unread = unread.filter_map(|(input, _)| {
        let source = serde_json::to_string(&input.source).expect("a source is plain data");
        Some(Unread { target: normalised(&input.target)?, source })
    });
    let mut unread: Vec<Unread> = unread.collect();
    unread.sort_by(|a, b| a.target.cmp(&b.target));
    unread
}

/// What differs between partitions, by target.
fn divided(inputs: &[Pair<'_>]) -> Vec<Divided> {
    let divided = inputs.iter().filter(|(_, resolved)| !resolved.parts.is_empty() && resolved.common().is_none());
    let divided = divided.filter_map(|(input, resolved)| {
        let parts = resolved.parts.iter().map(|(content, _)| *content).collect();
        Some(Divided { target: normalised(&input.target)?, parts })
    });
    let mut divided: Vec<Divided> = divided.collect();
    divided.sort_by(|a, b| a.target.cmp(&b.target));
    divided
}

fn result_paths(job: &Job) -> Vec<ResultPath> {
    let paths = job.task.result_paths.iter();
    let paths =
        paths.filter_map(|result| Some(ResultPath { name: result.name.clone(), path: normalised(&result.path)? }));
    let mut paths: Vec<ResultPath> = paths.collect();
    paths.sort_by(|a, b| a.name.cmp(&b.name));
    paths
}

fn limits(engine: &task::Engine, resources: &Resources) -> Limits {
    let (memory_bytes, fuel) = match engine {
        task::Engine::Wasm(_) => (resources.memory.0.min(MAX_MEMORY_BYTES), DEFAULT_FUEL),
        task::Engine::Docker(_) => (resources.memory.0, 0),
    };
    Limits { memory_bytes, fuel, output_bytes: resources.disk.0 }
}

/// One run may take its own timeout, else the whole job's, else the default.
fn execution_timeout(timeouts: Timeouts) -> Millis {
    let set = [timeouts.execution_secs, timeouts.total_secs].into_iter().find(|&secs| secs > 0);
    set.map_or(DEFAULT_EXECUTION_MS, |secs| secs.saturating_mul(1_000)).min(MAX_EXECUTION_MS)
}

fn needs(job: &Job, resolved: &Resolved, inputs: &[Pair<'_>], program: &Program) -> Result<Needs, CompileError> {
    let contents = contents(inputs, program);
    let constraints = job.constraints.iter().filter(|constraint| !constraint.is_soft());
    let constraints = constraints.map(|constraint| message::Constraint {
        key: constraint.key.clone(),
        operator: constraint.operator,
        values: constraint.values.clone(),
    });
    let unread = inputs.iter().filter(|(input, _)| input.resolve == Resolve::Worker);
    let sources: BTreeSet<SourceKind> = unread.filter_map(|(input, _)| SourceKind::of(&input.source)).collect();
    // Nobody knows yet which partition a worker will get: the largest one is the price, and none is named.
    let largest = inputs.iter().filter(|(_, resolved)| resolved.common().is_none());
    let largest = largest.map(|(_, resolved)| resolved.parts.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0));
    let sizes = contents.iter().map(|(_, bytes)| *bytes).chain(largest);
    let input_bytes = sizes.fold(0, u64::saturating_add);
    let data = Data::of(&job.task.engine, inputs);
    let mut needs = Needs {
        executor: program.engine.kind(),
        profile: resolved.profile.clone(),
        resources: announced(&job.task.resources, input_bytes),
        inputs: Vec::new(),
        input_bytes,
        constraints: constraints.collect(),
        sources: sources.into_iter().collect(),
        image: program.image,
        network: job.task.network.kind,
        image_name: image_name(job, &program.engine),
        data: data.amount,
        data_bits: 0,
    };
    let size = canonical(&needs).len();
    if size > MAX_NEEDS_BYTES {
        return Err(CompileError::NeedsTooLarge(size));
    }
    // The largest matter most to a worker's price; as many are named as there is room for.
    for (index, content) in contents.into_iter().take(MAX_ANNOUNCED_INPUTS).enumerate() {
        needs.inputs.push(content);
        if canonical(&needs).len() > MAX_NEEDS_BYTES {
            needs.inputs.pop();
            break;
        }
        needs.data_bits |= u8::from(data.common.contains(&content.0)) << index;
    }
    Ok(needs)
}

/// Inputs that are data rather than programs.
struct Data {
    /// Those that are the same for all partitions.
    common: BTreeSet<Content>,
    /// How many there are, with those that are not.
    amount: u16,
}

impl Data {
    fn of(engine: &Engine, inputs: &[Pair<'_>]) -> Self {
        let data = inputs.iter().filter(|(input, resolved)| !is_module(engine, input) && !resolved.parts.is_empty());
        let (common, divided): (Vec<_>, Vec<_>) = data.partition(|(_, resolved)| resolved.common().is_some());
        let common: BTreeSet<Content> = common.iter().filter_map(|(_, resolved)| Some(resolved.common()?.0)).collect();
        let amount = u16::try_from(common.len() + divided.len()).unwrap_or(u16::MAX);
        Self { common, amount }
    }
}

/// What the image of a container is called: a name that nobody could read is left out.
fn image_name(job: &Job, engine: &task::Engine) -> String {
    match (&job.task.engine, engine) {
        (Engine::Docker(spec), task::Engine::Docker(docker)) => match docker.image.blob() {
            Some(hash) => format!("{BLOB_PREFIX}{hash}"),
            // An id reads like a tag of `sha256`.
            None if spec.image.parse::<ImageId>().is_ok() => String::new(),
            None => spec.image.parse().map_or_else(|_| String::new(), |name: ImageName| name.familiar()),
        },
        _ => String::new(),
    }
}

/// Every file and folder that each worker fetches, once, the largest first.
fn contents(inputs: &[Pair<'_>], program: &Program) -> Vec<(Content, u64)> {
    let mounted = inputs.iter().filter_map(|(_, resolved)| resolved.common());
    // A module in a folder is fetched with it, and costs nothing more.
    let in_folders =
        |hash: &BlobHash| inputs.iter().any(|(_, resolved)| resolved.files.values().any(|(file, _)| file == hash));
    let blobs = program.blobs.iter().filter(|(hash, _)| !in_folders(hash));
    let blobs = blobs.map(|&(hash, bytes)| (Content { hash, kind: ContentKind::Raw }, bytes));
    let sizes: BTreeMap<Content, u64> = mounted.chain(blobs).collect();
    let mut contents: Vec<(Content, u64)> = sizes.into_iter().collect();
    contents.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    contents
}

/// What a worker sets aside: on its disk there must be room for the inputs and for all that the program may write.
fn announced(resources: &Resources, input_bytes: u64) -> message::Resources {
    message::Resources {
        cpu_millis: resources.cpu.0,
        memory_bytes: resources.memory.0,
        disk_bytes: resources.disk.0.saturating_add(input_bytes),
        gpus: resources.gpu.0,
    }
}

#[cfg(test)]
mod tests;
