//! Reads a job file, YAML or JSON, into a [`Job`] with every default.
//!
//! The rules are Bacalhau's: keys in any case, unknown keys refused at the top and ignored (with a warning)
//! below, system fields refused, one task. Files of its older versions are brought up to date first. What each field may hold is for [`validate`](mod@crate::job::validate).

mod task;

mod legacy;

pub(crate) use task::LEGACY_IMPORTS;

use serde::de::{DeserializeSeed, Deserializer, Error as _};
use serde_saphyr::options::MergeKeyPolicy;

use crate::job::node::{Bounds, Node};
use crate::job::problem::{Problem, Problems};
use crate::job::read::{Fields, Reader};
use crate::job::spec::{
    Constraint, DEFAULT_NAMESPACE, Engine, Job, JobKind, OPERATORS, Source, Verification, VerificationKind,
};
use crate::limits::{MAX_EXECUTIONS, MAX_PARTITIONS};

/// Size of a job file, in bytes. Larger inputs are blobs.
pub const MAX_SPEC_BYTES: usize = 10 << 20;

/// What a job file says, and what of it was ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The job.
    pub job: Job,
    /// What was ignored or understood differently.
    pub warnings: Vec<Problem>,
}

/// Why a text is no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is too large.
    #[error("the job file has {0} bytes, more than {MAX_SPEC_BYTES}: make large inputs blobs or files")]
    TooLarge(usize),
    /// It is neither YAML nor JSON, or a hostile one.
    #[error("the job file is not valid YAML or JSON: {0}")]
    Syntax(String),
    /// It is not a job.
    #[error(transparent)]
    Problems(#[from] Problems),
}

/// Fields that the system sets; a file that has them describes a job that ran, not one to run.
const SYSTEM_FIELDS: [&str; 6] = ["ID", "State", "Version", "Revision", "CreateTime", "ModifyTime"];

/// Reads a job file whose template has been rendered.
pub fn parse(text: &str) -> Result<Parsed, ParseError> {
    if text.len() > MAX_SPEC_BYTES {
        return Err(ParseError::TooLarge(text.len()));
    }
    Ok(read(document(text)?)?)
}

/// Reads a job out of a document of another format.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Job, D::Error> {
    let node = Bounds::default().seed().deserialize(deserializer)?;
    read(node).map(|parsed| parsed.job).map_err(D::Error::custom)
}

/// Reads one source, in the form in which it is written in a job: what an invocation holds of sources that workers read.
pub fn source(text: &str) -> Result<Source, ParseError> {
    let node = json(text).map_err(|why| ParseError::Syntax(why.to_string()))?;
    let mut reader = Reader::default();
    let source = reader.source("Source".to_owned(), Some(node));
    reader.problems.into_result()?;
    source.ok_or_else(|| ParseError::Syntax("there is no source".to_owned()))
}

fn document(text: &str) -> Result<Node, ParseError> {
    // JSON first: its escapes are not all YAML's. What merely looks like JSON may still be YAML.
    if text.trim_start().starts_with('{') {
        match json(text) {
            Err(why) if why.is_data() => return Err(ParseError::Syntax(why.to_string())),
            Err(_) => {}
            Ok(node) => return Ok(node),
        }
    }
    yaml(text)
}

fn json(text: &str) -> Result<Node, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let node = Bounds::default().seed().deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(node)
}

fn yaml(text: &str) -> Result<Node, ParseError> {
    /// Events of a document, and the same again for what its aliases repeat.
    const MAX_EVENTS: usize = 300_000;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 40,
            flow_nesting_limit: 40,
            max_events: MAX_EVENTS,
            max_nodes: MAX_EVENTS,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_documents: 1,
            max_total_scalar_bytes: 2 * MAX_SPEC_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_EVENTS,
            max_replay_stack_depth: 16,
        },
        merge_keys: MergeKeyPolicy::Merge,
        with_snippet: false,
    };
    let bounds = Bounds::default();
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        bounds.seed().deserialize(deserializer)
    });
    read.map_err(|why| ParseError::Syntax(why.to_string()))
}

fn read(node: Node) -> Result<Parsed, Problems> {
    let mut reader = Reader::default();
    let node = if legacy::is_legacy(&node) { reader.modernised(node) } else { node };
    let job = reader.job(node);
    let Reader { problems, warnings } = reader;
    problems.into_result()?;
    Ok(Parsed { job: job.expect("a job without problems was read"), warnings })
}

impl Reader {
    fn job(&mut self, node: Node) -> Option<Job> {
        let mut fields = self.fields("Job", Some(node).filter(|node| *node != Node::Null));
        self.refuse_system_fields(&mut fields);
        let name = self.text(&mut fields, "Name").filter(|name| !name.is_empty());
        let namespace = self.text(&mut fields, "Namespace").filter(|namespace| !namespace.is_empty());
        let kind = self.job_kind(&mut fields);
        let priority = self.whole(&mut fields, "Priority", (i64::MIN, i64::MAX)).unwrap_or_default();
        let count = self.count(&mut fields);
        let constraints = self.list(&mut fields, "Constraints");
        let constraints = constraints.into_iter().filter_map(|(path, node)| self.constraint(path, node)).collect();
        let meta = self.text_map(&mut fields, "Meta");
        let labels = self.text_map(&mut fields, "Labels");
        let task = self.only_task(&mut fields);
        let verification = fields.take("Verification");
        let verification = self.verification(fields.path_of("Verification"), verification, task.as_ref());
        self.close_strictly(&fields);
        let (kind, task) = (kind?, task?);
        Some(Job {
            name,
            namespace: namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.into()),
            kind,
            priority,
            count: count.unwrap_or(kind.default_count()),
            constraints,
            meta,
            labels,
            task,
            verification: verification?,
        })
    }

    fn refuse_system_fields(&mut self, fields: &mut Fields) {
        for name in SYSTEM_FIELDS {
            if fields.take_quietly(name).is_some() {
                self.problems.push(fields.path_of(name), "is set by the system", "remove it");
            }
        }
    }

    fn job_kind(&mut self, fields: &mut Fields) -> Option<JobKind> {
        const KINDS: [(&str, JobKind); 4] = [
            ("batch", JobKind::Batch),
            ("ops", JobKind::Ops),
            ("service", JobKind::Service),
            ("daemon", JobKind::Daemon),
        ];
        self.required_choice(fields, "Type", &KINDS, "write batch, ops, service or daemon")
    }

    fn count(&mut self, fields: &mut Fields) -> Option<u32> {
        self.whole(fields, "Count", (0, MAX_PARTITIONS))
    }

    fn constraint(&mut self, path: String, node: Node) -> Option<Constraint> {
        let mut fields = self.fields(path, Some(node));
        let key = self.text(&mut fields, "Key").unwrap_or_default();
        let operator =
            self.required_choice(&mut fields, "Operator", &OPERATORS, "write =, !=, in, notin, exists, !, gt or lt");
        let values = self.texts(&mut fields, "Values");
        self.close(&fields);
        Some(Constraint { key, operator: operator?, values })
    }

    fn only_task(&mut self, fields: &mut Fields) -> Option<crate::job::spec::Task> {
        let mut tasks = self.list(fields, "Tasks").into_iter();
        let Some((path, node)) = tasks.next() else {
            self.missing(fields, "Tasks", "write one task with a Name and an Engine");
            return None;
        };
        if tasks.len() > 0 {
            self.warn(fields.path_of("Tasks"), "has more than one task; only the first runs", "split it into jobs");
        }
        self.task(path, node)
    }

    fn verification(
        &mut self,
        path: String,
        node: Option<Node>,
        task: Option<&crate::job::spec::Task>,
    ) -> Option<Verification> {
        const KINDS: [(&str, VerificationKind); 2] =
            [("none", VerificationKind::None), ("quorum", VerificationKind::Quorum)];
        let mut fields = self.fields(path, node);
        let kind = self.choice(&mut fields, "Type", &KINDS);
        let [agreement, executions, max_executions] =
            ["Agreement", "Executions", "MaxExecutions"].map(|name| self.whole(&mut fields, name, (1, MAX_EXECUTIONS)));
        let compare = self.text(&mut fields, "Compare").filter(|compare| !compare.trim().is_empty());
        let validator = self.text(&mut fields, "Validator").filter(|validator| !validator.trim().is_empty());
        let compares = compare.is_some() || validator.is_some();
        self.close(&fields);
        let kind = kind.unwrap_or(match task?.engine {
            Engine::Wasm(_) => VerificationKind::Quorum,
            // Whoever asks another engine for agreement wants a quorum.
            Engine::Docker(_) | Engine::Noop if executions.max(agreement) > Some(1) || compares => {
                VerificationKind::Quorum
            }
            Engine::Docker(_) | Engine::Noop => VerificationKind::None,
        });
        let compare = compare.map(|text| text.parse().unwrap_or_default()).unwrap_or_default();
        let completed = Verification::completed(kind, agreement, executions, max_executions);
        Some(Verification { compare, validator, ..completed })
    }
}

#[cfg(test)]
mod tests;
