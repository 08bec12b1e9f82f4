//! Every file in `jobs/` ends as its first lines say: it runs, or it is refused in so many words.

use std::collections::BTreeMap;
use std::path::PathBuf;

use shoal_protocol::job::{self, Job};

fn files() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jobs");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The values of the comment lines `# key: value`.
fn comments<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let prefix = format!("# {key}: ");
    text.lines().filter_map(|line| line.strip_prefix(prefix.as_str())).collect()
}

fn variables(text: &str) -> BTreeMap<String, String> {
    let pairs = comments(text, "variables").into_iter().flat_map(|line| line.split(' '));
    pairs.map(|pair| job::input::template_variable(pair).unwrap()).collect()
}

/// What becomes of a job file: a line for each thing that is said about it.
fn outcome(text: &str) -> Vec<String> {
    let said = |what: &str, text: String| vec![format!("{what}: {text}")];
    let rendered = match job::render(text, &variables(text)) {
        Ok(rendered) => rendered,
        Err(why) => return said("refused", why.to_string()),
    };
    let parsed = match job::parse(&rendered) {
        Ok(parsed) => parsed,
        Err(why) => return said("refused", why.to_string()),
    };
    let mut lines: Vec<String> = parsed.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    if let Err(why) = job::validate(&parsed.job) {
        lines.extend(said("refused", why.to_string()));
    } else if let Err(why) = job::check_support(&parsed.job) {
        lines.extend(said("unsupported", why.to_string()));
    } else {
        lines.push("runs".into());
    }
    survives_json(&parsed.job);
    lines
}

fn survives_json(job: &Job) {
    let text = serde_json::to_string_pretty(job).unwrap();
    let again = job::parse(&text).unwrap();
    assert_eq!(&again.job, job, "{text}");
    assert!(again.warnings.is_empty(), "{:?}", again.warnings);
    assert_eq!(&serde_json::from_str::<Job>(&text).unwrap(), job);
}

#[test]
fn every_job_file_ends_as_it_says() {
    let mut checked = 0;
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let outcome = outcome(&text);
        let mut expectations = comments(&text, "expect");
        if expectations.is_empty() {
            // JSON has no comments.
            expectations.push("runs");
        }
        for expected in expectations {
            let (kind, part) = expected.split_once(": ").unwrap_or((expected, ""));
            let fits = outcome.iter().any(|line| line.starts_with(kind) && line.contains(part));
            assert!(fits, "{}: expected {expected:?} in {outcome:#?}", path.display());
        }
        checked += 1;
    }
    assert!(checked >= 20, "the folder of job files is not complete");
}
