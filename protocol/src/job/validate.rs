//! What a job's fields may hold: Bacalhau's rules and those of our additions.
//!
//! Whether this build can run a valid job is for [`support`](crate::job::support).

mod task;

mod publisher;

use std::collections::BTreeSet;

use crate::job::problem::{Problems, quoted};
use crate::job::spec::{Compare, Constraint, Engine, Job, Task, Verification, VerificationKind};
use crate::limits::{MAX_CONSTRAINT_VALUES, MAX_CONSTRAINTS, MAX_EXECUTIONS, MAX_PARTITIONS, MAX_TEXT_BYTES};
use crate::message::Operator;
use crate::task::STREAMS;

/// Prefix of meta keys that the system keeps for itself.
const RESERVED_META: &str = "bacalhau.org/";

/// Checks every rule, and names every field that breaks one.
pub fn validate(job: &Job) -> Result<(), Problems> {
    let mut problems = Problems::default();
    names(job, &mut problems);
    count(job, &mut problems);
    let many = job.constraints.len();
    if many > MAX_CONSTRAINTS {
        let remedy = format!("a job has at most {MAX_CONSTRAINTS}");
        problems.push("Job.Constraints", format!("has {many} constraints"), remedy);
    }
    for (index, rule) in job.constraints.iter().enumerate() {
        constraint(&format!("Job.Constraints[{index}]"), rule, &mut problems);
    }
    meta("Job.Meta", job.meta.keys(), &mut problems);
    verification(&job.verification, &job.task, &mut problems);
    task::check("Job.Tasks[0]", job, &mut problems);
    problems.into_result()
}

fn names(job: &Job, problems: &mut Problems) {
    let name = job.name.as_deref().unwrap_or("-");
    for (path, text) in [("Job.Name", name), ("Job.Namespace", job.namespace.as_str())] {
        if text.trim().is_empty() || text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
            let remedy = format!("write 1 to {MAX_TEXT_BYTES} printable characters");
            problems.push(path, format!("is {}", quoted(text)), remedy);
        }
    }
}

fn count(job: &Job, problems: &mut Problems) {
    let kind = job.kind.name();
    if job.count > MAX_PARTITIONS {
        problems.push("Job.Count", format!("is {}", job.count), format!("write at most {MAX_PARTITIONS}"));
    }
    if job.kind.is_everywhere() && job.count > 1 {
        let remedy = format!("remove it: a job of type {kind} runs on every matching node");
        problems.push("Job.Count", format!("is {}, but the type is {kind}", job.count), remedy);
    }
}

fn constraint(path: &str, rule: &Constraint, problems: &mut Problems) {
    let key = rule.key.strip_prefix(crate::job::spec::SOFT_PREFIX).unwrap_or(&rule.key);
    if key.trim().is_empty() || rule.key.len() > MAX_TEXT_BYTES {
        let remedy = format!("name the label that is compared, with at most {MAX_TEXT_BYTES} bytes");
        problems.push(format!("{path}.Key"), format!("is {}", quoted(&rule.key)), remedy);
    }
    let path = format!("{path}.Values");
    let many = rule.values.len();
    let (fits, wanted) = match rule.operator {
        Operator::In | Operator::NotIn => (many >= 1, "at least one value"),
        Operator::Exists | Operator::Absent => (many == 0, "no value"),
        _ => (many == 1, "exactly one value"),
    };
    if !fits {
        let operator = crate::job::spec::operator_name(rule.operator);
        problems.push(&path, format!("has {many} values"), format!("operator '{operator}' takes {wanted}"));
    }
    if many > MAX_CONSTRAINT_VALUES {
        problems.push(&path, format!("has {many} values"), format!("write at most {MAX_CONSTRAINT_VALUES}"));
    }
    if rule.values.iter().any(|value| value.len() > MAX_TEXT_BYTES) {
        problems.push(&path, "has a very long value", format!("values have at most {MAX_TEXT_BYTES} bytes"));
    }
    if matches!(rule.operator, Operator::Greater | Operator::Less) {
        rule.values.iter().filter(|value| value.parse::<i64>().is_err()).for_each(|value| {
            problems.push(&path, format!("has {}", quoted(value)), "gt and lt compare with a whole number");
        });
    }
}

fn meta<'a>(path: &str, keys: impl Iterator<Item = &'a String>, problems: &mut Problems) {
    for key in keys.filter(|key| key.starts_with(RESERVED_META)) {
        problems.push(
            path,
            format!("has the key {}", quoted(key)),
            format!("keys with '{RESERVED_META}' are reserved"),
        );
    }
}

/// 1 ≤ agreement ≤ executions ≤ most executions ≤ the mesh's limit.
fn verification(verification: &Verification, task: &Task, problems: &mut Problems) {
    let Verification { kind, agreement, executions, max_executions, .. } = *verification;
    let path = |name: &str| format!("Job.Verification.{name}");
    if agreement == 0 {
        problems.push(path("Agreement"), "is 0", "write at least 1");
    }
    if agreement > executions {
        let remedy = "start at least as many executions as must agree";
        problems.push(path("Agreement"), format!("is {agreement}, but Executions is {executions}"), remedy);
    }
    if executions > max_executions {
        let remedy = "allow at least as many executions as are started";
        problems.push(path("Executions"), format!("is {executions}, but MaxExecutions is {max_executions}"), remedy);
    }
    if max_executions > MAX_EXECUTIONS {
        problems.push(path("MaxExecutions"), format!("is {max_executions}"), format!("write at most {MAX_EXECUTIONS}"));
    }
    if kind == VerificationKind::None && agreement > 1 {
        let remedy = "write Type: quorum, or leave Agreement out";
        problems.push(path("Agreement"), format!("is {agreement}, but Type is none"), remedy);
    }
    if kind == VerificationKind::Quorum && matches!(task.engine, Engine::Noop) {
        problems.push(path("Type"), "is quorum, but the engine is noop", "write Type: none");
    }
    compare(&verification.compare, kind, task, problems);
    if let Some(validator) = &verification.validator {
        let path = path("Validator");
        if kind == VerificationKind::None {
            let remedy = "write Type: quorum: one execution is compared with no other";
            problems.push(&path, format!("is {}, but Type is none", quoted(validator)), remedy);
        }
        task::module(&path, validator, task, problems);
    }
}

fn compare(compare: &Compare, kind: VerificationKind, task: &Task, problems: &mut Problems) {
    let path = "Job.Verification.Compare";
    if kind == VerificationKind::None && *compare != Compare::All {
        let remedy = "write Type: quorum: one execution is compared with no other";
        problems.push(path, format!("is {}, but Type is none", quoted(&compare.to_string())), remedy);
    }
    if compare.resolve(&task.result_paths).is_some() {
        return;
    }
    match compare {
        Compare::Outputs => {
            let remedy = "add a result path, or compare all or stdout";
            problems.push(path, "is outputs, but the job has no ResultPaths", remedy);
        }
        part => {
            let names = task.result_paths.iter().map(|result| result.name.as_str()).chain(STREAMS);
            let listed = ["all", "outputs"].into_iter().chain(names).map(quoted).collect::<Vec<_>>().join(", ");
            let reason = format!("is {}, which is no part of the result", quoted(&part.to_string()));
            problems.push(path, reason, format!("write one of {listed}"));
        }
    }
}

/// Notes every value that is there more than once.
fn unique<'a>(path: impl Fn(usize) -> String, values: impl Iterator<Item = &'a str>, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, value) in values.enumerate().filter(|(_, value)| !value.is_empty()) {
        if !seen.insert(value) {
            problems.push(path(index), format!("is {}, which another one has too", quoted(value)), "write another one");
        }
    }
}

#[cfg(test)]
mod tests;
