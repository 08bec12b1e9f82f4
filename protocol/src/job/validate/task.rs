//! What the fields of a task may hold.

use std::net::IpAddr;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};

use crate::job::data_url;
use crate::job::paths::{below, normalised};
use crate::job::problem::{Problems, nearest, quoted};
use crate::job::spec::{
    Docker, Engine, InputSource, Job, Network, NetworkKind, Port, Resolve, S3Partition, S3PartitionBy, Source, Task,
    Timeouts, Wasm,
};
use crate::limits::{MAX_DOMAINS, MAX_EXECUTION_MS, MAX_INPUTS, MAX_RESULT_PATHS, MAX_TEXT_BYTES, MAX_WORDS};
use crate::message::SourceKind;
use crate::task::network::is_domain;
use crate::task::{is_mountable, is_platform};

use super::{meta, publisher, unique};

/// Prefix of variables that the system sets.
const RESERVED_VARIABLES: &str = "BACALHAU_";
/// Names that a result collection has already.
const RESERVED_RESULTS: [&str; 3] = ["stdout", "stderr", "exitCode"];
/// Size of a SHA-256, in bytes.
const SHA256_BYTES: usize = 32;
/// Ports below belong to the system.
const FIRST_PORT: u16 = 1_024;

pub(super) fn check(path: &str, job: &Job, problems: &mut Problems) {
    let (task, count) = (&job.task, job.count);
    if task.name.trim().is_empty() {
        problems.push(format!("{path}.Name"), "is missing", "name the task, for example 'main'");
    }
    meta(&format!("{path}.Meta"), task.meta.keys(), problems);
    environment(path, task, problems);
    inputs(path, task, problems);
    results(path, task, problems);
    match &task.engine {
        Engine::Docker(program) => docker(&format!("{path}.Engine.Params"), program, job, problems),
        Engine::Wasm(program) => wasm(&format!("{path}.Engine.Params"), program, job, problems),
        Engine::Noop => {}
    }
    publisher::check(&format!("{path}.Publisher.Params"), &task.publisher, count, problems);
    network(&format!("{path}.Network"), &task.network, problems);
    timeouts(&format!("{path}.Timeouts"), task.timeouts, problems);
}

fn environment(path: &str, task: &Task, problems: &mut Problems) {
    for (name, value) in &task.env {
        let path = format!("{path}.Env");
        if name.starts_with(RESERVED_VARIABLES) {
            let remedy = format!("names with {RESERVED_VARIABLES} are set by the system");
            problems.push(&path, format!("has the variable {}", quoted(name)), remedy);
        } else if !is_variable_name(name) {
            let remedy = "write upper-case letters, digits and '_', a letter first";
            problems.push(&path, format!("has the variable {}", quoted(name)), remedy);
        }
        if value.is_empty() {
            problems.push(&path, format!("has no value for {}", quoted(name)), "write one or remove the variable");
        }
        if value.contains('\0') {
            problems.push(&path, format!("has a NUL character in {}", quoted(name)), "remove it");
        }
    }
}

/// A letter, then letters, digits and `_`; no letter is lower-case.
fn is_variable_name(name: &str) -> bool {
    let starts_well = name.starts_with(char::is_alphabetic);
    starts_well && name.chars().all(|c| (c.is_alphanumeric() || c == '_') && !c.is_lowercase())
}

fn inputs(path: &str, task: &Task, problems: &mut Problems) {
    let inputs = &task.input_sources;
    if inputs.len() > MAX_INPUTS {
        let remedy = format!("a job has at most {MAX_INPUTS}: put files into a folder");
        problems.push(format!("{path}.InputSources"), format!("has {} inputs", inputs.len()), remedy);
        return;
    }
    let field = |name: &'static str| move |index: usize| format!("{path}.InputSources[{index}].{name}");
    for (index, input) in inputs.iter().enumerate() {
        target(&field("Target")(index), &input.target, problems);
        source(&field("Source")(index), &input.source, problems);
        if input.resolve == Resolve::Worker && SourceKind::of(&input.source).is_none() {
            let reason = format!("is worker, but {} content is the same wherever it is read", input.source.kind());
            problems.push(field("Resolve")(index), reason, "leave it out");
        }
    }
    unique(field("Alias"), inputs.iter().map(|input| input.alias.as_str()), problems);
    let targets: Vec<String> = inputs.iter().map(|input| normalised(&input.target).unwrap_or_default()).collect();
    unique(field("Target"), targets.iter().map(String::as_str), problems);
}

fn target(path: &str, target: &str, problems: &mut Problems) {
    if target.is_empty() {
        problems.push(path, "is missing", "write where the program finds the input, for example '/inputs'");
    } else if normalised(target).is_none() {
        problems.push(path, format!("is {}", quoted(target)), "write an absolute path without '..'");
    }
}

fn source(path: &str, source: &Source, problems: &mut Problems) {
    let path = |name: &str| format!("{path}.Params.{name}");
    let mut required = |name: &str, value: &str, remedy: &str| {
        if value.trim().is_empty() {
            problems.push(path(name), "is missing", remedy);
        }
    };
    match source {
        Source::Blob(source) => {
            if !source.path.is_empty() && normalised(&source.path).is_none_or(|path| path[1..] != source.path) {
                let reason = format!("is {}", quoted(&source.path));
                problems.push(path("Path"), reason, "write the path of a file or folder, without '..'");
            }
        }
        Source::Ipfs(source) => required("CID", &source.cid, "write the content id"),
        Source::LocalDirectory(source) => required("SourcePath", &source.source_path, "write a path"),
        Source::S3(source) => {
            required("Bucket", &source.bucket, "write the bucket's name");
            endpoint(&path("Endpoint"), &source.endpoint, problems);
            checksum(&path("ChecksumSHA256"), &source.checksum_sha256, problems);
            s3_partition(&path("Partition"), &source.partition, problems);
        }
        Source::UrlDownload(source) => {
            let scheme = source.url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
            if !matches!(scheme.as_deref(), Some("http" | "https")) {
                // The rest of it may hold a password.
                let reason =
                    scheme.map_or("has no scheme".into(), |scheme| format!("has the scheme {}", quoted(&scheme)));
                problems.push(path("URL"), reason, "write a URL that starts with http:// or https://");
            }
            checksum(&path("ChecksumSHA256"), &source.checksum_sha256, problems);
        }
        Source::Inline(source) => {
            if let Err(why) = data_url::parse(&source.url) {
                problems.push(path("URL"), why.to_string(), "write 'data:TYPE;base64,DATA'");
            }
        }
    }
}

fn checksum(path: &str, checksum: &str, problems: &mut Problems) {
    let bytes = HEXLOWER_PERMISSIVE.decode(checksum.as_bytes()).or_else(|_| BASE64.decode(checksum.as_bytes()));
    if !checksum.is_empty() && bytes.map_or(true, |bytes| bytes.len() != SHA256_BYTES) {
        problems.push(path, format!("is {}", quoted(checksum)), "write a SHA-256 as 64 hex digits or in base64");
    }
}

/// The endpoint of a service like S3. The reason does not repeat it: there may be a password in it.
pub(super) fn endpoint(path: &str, endpoint: &str, problems: &mut Problems) {
    let remedy = "write a URL like http://192.0.2.7:9000, without a path or password";
    let Some((scheme, rest)) = endpoint.split_once("://") else {
        if !endpoint.is_empty() {
            problems.push(path, "is no URL", remedy);
        }
        return;
    };
    let host = rest.split('/').next().unwrap_or_default();
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        problems.push(path, format!("has the scheme {}", quoted(scheme)), remedy);
    } else if host.contains('@') {
        problems.push(path, "has credentials in it, which job files must not have", remedy);
    } else if host.is_empty() || rest.contains(['?', '#', ',']) {
        problems.push(path, "has more or less than a host and a path", remedy);
    }
}

fn s3_partition(path: &str, partition: &S3Partition, problems: &mut Problems) {
    let by = partition.by;
    if by == S3PartitionBy::Regex && partition.pattern.is_empty() {
        problems.push(format!("{path}.Pattern"), "is missing", "write the regular expression to partition by");
    }
    if by == S3PartitionBy::Substring && partition.start_index >= partition.end_index {
        let reason = format!("is {}, but StartIndex is {}", partition.end_index, partition.start_index);
        problems.push(format!("{path}.EndIndex"), reason, "write a larger one");
    }
    if by == S3PartitionBy::Date && partition.date_format.is_empty() {
        problems.push(format!("{path}.DateFormat"), "is missing", "write the form of the date, as in Go");
    }
}

fn results(path: &str, task: &Task, problems: &mut Problems) {
    let results = &task.result_paths;
    if results.len() > MAX_RESULT_PATHS {
        let remedy = format!("a job has at most {MAX_RESULT_PATHS}: write into one folder");
        problems.push(format!("{path}.ResultPaths"), format!("has {} paths", results.len()), remedy);
        return;
    }
    let field = |name: &'static str| move |index: usize| format!("{path}.ResultPaths[{index}].{name}");
    for (index, result) in results.iter().enumerate() {
        result_name(&field("Name")(index), &result.name, problems);
        if !result.path.starts_with('/') || normalised(&result.path).is_none_or(|path| path == "/") {
            let remedy = "write an absolute path below '/', without '..'";
            problems.push(field("Path")(index), format!("is {}", quoted(&result.path)), remedy);
        }
    }
    unique(field("Name"), results.iter().map(|result| result.name.as_str()), problems);
    let paths: Vec<String> = results.iter().map(|result| normalised(&result.path).unwrap_or_default()).collect();
    unique(field("Path"), paths.iter().map(String::as_str), problems);
}

fn result_name(path: &str, name: &str, problems: &mut Problems) {
    if RESERVED_RESULTS.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        problems.push(path, format!("is {}, which every result has already", quoted(name)), "write another name");
    } else if name.is_empty() || name == "." || name == ".." || name.len() > MAX_TEXT_BYTES || has_separator(name) {
        let remedy = "write a plain folder name without '/'";
        problems.push(path, format!("is {}", quoted(name)), remedy);
    }
}

fn has_separator(name: &str) -> bool {
    name.chars().any(|c| c == '/' || c == '\\' || c.is_control())
}

fn docker(path: &str, program: &Docker, job: &Job, problems: &mut Problems) {
    if program.image.trim().is_empty() {
        problems.push(format!("{path}.Image"), "is missing", "name the image, for example 'busybox:1.37'");
    } else if !is_image(&program.image) {
        let remedy = "write a name like 'busybox:1.37', an id like 'sha256:…', or 'blob://HASH'";
        problems.push(format!("{path}.Image"), format!("is {}", quoted(&program.image)), remedy);
    }
    if let Some(folder) = program.working_directory.as_deref().filter(|folder| !folder.starts_with('/')) {
        problems.push(format!("{path}.WorkingDirectory"), format!("is {}", quoted(folder)), "write an absolute path");
    }
    if let Some(platform) = program.platform.as_deref().filter(|platform| !is_platform(platform)) {
        let remedy = "write OS/ARCHITECTURE as images have it, for example 'linux/arm64'";
        problems.push(format!("{path}.Platform"), format!("is {}", quoted(platform)), remedy);
    }
    for variable in program.environment_variables.iter().filter(|variable| !variable.contains('=')) {
        problems.push(format!("{path}.EnvironmentVariables"), format!("has {}", quoted(variable)), "write NAME=VALUE");
    }
    if program.entrypoint.len() + program.parameters.len() > MAX_WORDS {
        problems.push(format!("{path}.Parameters"), "has too many words", format!("write at most {MAX_WORDS}"));
    }
    let words = program.entrypoint.iter().chain(&program.parameters).chain(&program.working_directory);
    if words.chain(&program.environment_variables).any(|word| word.contains('\0')) {
        problems.push(path, "has a NUL character in a word of the command or a variable", "remove it");
    }
    let mounts = mounts(&job.task, |input| !job.is_for_validator(input));
    for (field, target) in mounts.iter().filter(|(_, target)| !is_mountable(target)) {
        let remedy = "choose a path that is neither '/' nor in /dev, /proc or /sys, which belong to the container";
        problems.push(field, format!("is {}", quoted(target)), remedy);
    }
    overlaps(&mounts, problems);
}

/// A name becomes part of what an engine is asked for: it may hold nothing that has another meaning there.
fn is_image(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    name.len() <= MAX_TEXT_BYTES && name.chars().all(plain) && !name.contains("..") && !name.starts_with(['/', '.'])
}

fn wasm(path: &str, program: &Wasm, job: &Job, problems: &mut Problems) {
    let task = &job.task;
    if program.entry_module.is_empty() {
        let remedy = "write the Target path of the input that is the program";
        problems.push(format!("{path}.EntryModule"), "is missing", remedy);
    } else {
        module(&format!("{path}.EntryModule"), &program.entry_module, task, problems);
    }
    if program.import_modules.len() > MAX_INPUTS {
        problems.push(format!("{path}.ImportModules"), "has too many modules", format!("write at most {MAX_INPUTS}"));
        return;
    }
    for (index, import) in program.import_modules.iter().enumerate() {
        module(&format!("{path}.ImportModules[{index}]"), import, task, problems);
    }
    let is_mounted = |input: &InputSource| !program.is_module(input) && !job.is_for_validator(input);
    overlaps(&mounts(task, is_mounted), problems);
}

/// A module is an input, or a file in an input that is a folder.
pub(super) fn module(path: &str, module: &str, task: &Task, problems: &mut Problems) {
    let wanted = normalised(module).unwrap_or_default();
    let targets: Vec<String> = task.input_sources.iter().filter_map(|input| normalised(&input.target)).collect();
    if targets.iter().any(|target| below(&wanted, target).is_some()) {
        return;
    }
    let remedy = match nearest(&wanted, targets.iter().map(String::as_str)) {
        Some(near) => format!("did you mean '{near}'?"),
        None => "write the Target of one of the InputSources".into(),
    };
    problems.push(path, format!("is {}, but no input has that target", quoted(module)), remedy);
}

/// What is mounted for a program: the field that says where, and the path.
fn mounts(task: &Task, is_mounted: impl Fn(&InputSource) -> bool) -> Vec<(String, String)> {
    let inputs = task.input_sources.iter().enumerate().filter(|(_, input)| is_mounted(input));
    let inputs = inputs.map(|(index, input)| (format!("Job.Tasks[0].InputSources[{index}].Target"), &input.target));
    let results = task.result_paths.iter().enumerate();
    let results = results.map(|(index, result)| (format!("Job.Tasks[0].ResultPaths[{index}].Path"), &result.path));
    inputs.chain(results).filter_map(|(field, path)| Some((field, normalised(path)?))).collect()
}

/// What a program sees must not depend on the order of mounting: no mount lies within another.
fn overlaps(mounts: &[(String, String)], problems: &mut Problems) {
    for (field, inner) in mounts {
        let outer = mounts.iter().find(|(other, outer)| other != field && below(inner, outer).is_some());
        // Equal paths are seen from both sides: one report is enough.
        if let Some((other, outer)) = outer.filter(|(other, outer)| outer != inner || other < field) {
            let reason = format!("is {}, which lies within {} of '{other}'", quoted(inner), quoted(outer));
            problems.push(field, reason, "choose paths that do not contain one another");
        }
    }
}

impl Wasm {
    /// Whether an input is one of the program's modules, and not mounted therefore.
    pub(crate) fn is_module(&self, input: &InputSource) -> bool {
        let target = normalised(&input.target);
        let mut modules = std::iter::once(&self.entry_module).chain(&self.import_modules);
        target.is_some() && modules.any(|module| normalised(module) == target)
    }
}

fn network(path: &str, network: &Network, problems: &mut Problems) {
    if !network.domains.is_empty() && network.kind != NetworkKind::Http {
        problems.push(format!("{path}.Domains"), "is only for Type: HTTP", "set the type or remove the domains");
    }
    for (index, domain) in network.domains.iter().enumerate().filter(|(_, domain)| !is_domain(domain)) {
        let remedy = "write a lower-case host name, '.example.org' for all of a domain, or an IP address";
        problems.push(format!("{path}.Domains[{index}]"), format!("is {}", quoted(domain)), remedy);
    }
    let many = network.domains.len();
    if many > MAX_DOMAINS {
        problems.push(format!("{path}.Domains"), format!("has {many} domains"), format!("write at most {MAX_DOMAINS}"));
    }
    if many == 0 && network.kind == NetworkKind::Http {
        let remedy = "name the hosts that the program may ask, or write Type: None";
        problems.push(format!("{path}.Domains"), "is empty, so that Type: HTTP reaches nobody", remedy);
    }
    let has_ports = matches!(network.kind, NetworkKind::Host | NetworkKind::Bridge);
    if !network.ports.is_empty() && !has_ports {
        problems.push(format!("{path}.Ports"), "is only for Type: Host or Bridge", "set the type or remove the ports");
    }
    for (index, number) in network.ports.iter().enumerate() {
        port(&format!("{path}.Ports[{index}]"), number, network.kind, problems);
    }
    let name = |index: usize| format!("{path}.Ports[{index}].Name");
    unique(name, network.ports.iter().map(|port| port.name.as_str()), problems);
}

fn port(path: &str, port: &Port, kind: NetworkKind, problems: &mut Problems) {
    let letters = port.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !letters || !port.name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        let remedy = "write letters, digits and '_', as in a variable's name";
        problems.push(format!("{path}.Name"), format!("is {}", quoted(&port.name)), remedy);
    }
    if port.fixed != 0 && port.fixed < FIRST_PORT {
        problems.push(format!("{path}.Static"), format!("is {}", port.fixed), format!("write {FIRST_PORT} or more"));
    }
    if port.target != 0 && kind != NetworkKind::Bridge {
        problems.push(format!("{path}.Target"), "is only for Type: Bridge", "remove it");
    }
    if !port.host_network.is_empty() && port.host_network.parse::<IpAddr>().is_err() {
        let reason = format!("is {}", quoted(&port.host_network));
        problems.push(format!("{path}.HostNetwork"), reason, "write an IP address");
    }
}

fn timeouts(path: &str, timeouts: Timeouts, problems: &mut Problems) {
    let Timeouts { execution_secs, queue_secs, total_secs } = timeouts;
    let most = MAX_EXECUTION_MS / 1_000;
    if execution_secs > most {
        let remedy = format!("write at most {most} seconds");
        problems.push(format!("{path}.ExecutionTimeout"), format!("is {execution_secs}"), remedy);
    }
    if total_secs > 0 && execution_secs.saturating_add(queue_secs) > total_secs {
        let reason =
            format!("is {total_secs}, less than ExecutionTimeout {execution_secs} and QueueTimeout {queue_secs}");
        problems.push(format!("{path}.TotalTimeout"), reason, "make it at least their sum");
    }
}
