//! The operator's list of paths that jobs may read or write.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// Most patterns of a list.
const MAX_PATTERNS: usize = 1_000;

/// Paths of this machine that jobs may read or write. An empty list allows nothing.
#[derive(Debug, Default, Clone)]
pub struct AllowList {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    paths: GlobMatcher,
    writable: bool,
}

/// Why there is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern} is no pattern of paths: {reason}")]
pub struct AllowListError {
    /// What was written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl AllowList {
    /// Reads patterns `GLOB[:ro|:rw]`; without a mode, paths may be read only. A pattern that names a folder allows all
    /// that is in it.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, AllowListError> {
        let rules: Vec<Rule> = patterns.into_iter().map(rule).collect::<Result<_, _>>()?;
        match rules.get(MAX_PATTERNS) {
            Some(rule) => Err(wrong(rule.paths.glob().glob(), format!("there are more than {MAX_PATTERNS}"))),
            None => Ok(Self { rules }),
        }
    }

    /// Whether jobs may read a path, all of whose links are resolved.
    pub(super) fn may_read(&self, path: &Path) -> bool {
        self.rules.iter().any(|rule| rule.covers(path))
    }

    /// Whether jobs may write it.
    pub(super) fn may_write(&self, path: &Path) -> bool {
        self.rules.iter().any(|rule| rule.writable && rule.covers(path))
    }

    /// Whether jobs may be given it to write at as long as they run: it is named itself, and nothing above it can be
    /// written by a job, which could put a link in its place in the moment before it is mounted.
    pub(super) fn may_mount(&self, path: &Path) -> bool {
        let is_named = |path: &Path| self.rules.iter().any(|rule| rule.writable && rule.paths.is_match(path));
        is_named(path) && !path.ancestors().skip(1).any(is_named)
    }
}

impl Rule {
    /// A folder covers what is in it, since whoever mounts the folder sees that too.
    fn covers(&self, path: &Path) -> bool {
        path.ancestors().any(|path| self.paths.is_match(path))
    }
}

fn rule(text: &str) -> Result<Rule, AllowListError> {
    let (pattern, writable) = match text.rsplit_once(':') {
        Some((pattern, "ro")) => (pattern, false),
        Some((pattern, "rw")) => (pattern, true),
        _ => (text, false),
    };
    if !pattern.starts_with('/') {
        return Err(wrong(text, "it must begin with /".into()));
    }
    if Path::new(pattern).components().any(|part| part == std::path::Component::ParentDir) {
        return Err(wrong(text, "it has '..'".into()));
    }
    let resolved = resolved(pattern);
    let glob = GlobBuilder::new(&resolved).literal_separator(true).backslash_escape(true).build();
    let glob = glob.map_err(|error| wrong(text, error.kind().to_string()))?;
    Ok(Rule { paths: glob.compile_matcher(), writable })
}

/// The pattern with the links in its literal beginning resolved, as those of paths are.
fn resolved(pattern: &str) -> String {
    let trimmed = if pattern.len() > 1 { pattern.trim_end_matches('/') } else { pattern };
    let literal: PathBuf = Path::new(trimmed).iter().take_while(|part| !is_glob(part)).collect();
    let Some(real) = literal.canonicalize().ok().and_then(|real| real.to_str().map(globset::escape)) else {
        return trimmed.to_owned();
    };
    match Path::new(trimmed).strip_prefix(&literal).ok().and_then(Path::to_str) {
        Some("") | None => real,
        Some(rest) => format!("{}/{rest}", real.trim_end_matches('/')),
    }
}

fn is_glob(part: &std::ffi::OsStr) -> bool {
    part.to_string_lossy().contains(['*', '?', '[', ']', '{', '}', '\\'])
}

fn wrong(pattern: &str, reason: String) -> AllowListError {
    AllowListError { pattern: pattern.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_allows_what_it_matches_and_what_is_in_that() {
        let table: [(&[&str], &str, bool, bool); 14] = [
            (&[], "/data", false, false),
            (&["/data-x"], "/data-x", true, false),
            (&["/data-x/"], "/data-x/a/b", true, false),
            (&["/data-x:ro"], "/data-x/a", true, false),
            (&["/data-x:rw"], "/data-x/a", true, true),
            (&["/data-x"], "/data-xy", false, false),
            (&["/data-x"], "/", false, false),
            (&["/data-x/*.csv"], "/data-x/a.csv", true, false),
            (&["/data-x/*.csv"], "/data-x/sub/a.csv", false, false),
            (&["/data-x/**/*.csv"], "/data-x/sub/a.csv", true, false),
            (&["/data-x/{a,b}"], "/data-x/b/c", true, false),
            (&["/data-x/{a,b}"], "/data-x/c", false, false),
            (&["/data-x", "/data-x/out:rw"], "/data-x/out/f", true, true),
            (&["/"], "/anything/at/all", true, false),
        ];
        for (patterns, path, read, write) in table {
            let list = AllowList::new(patterns.iter().copied()).unwrap();
            let path = Path::new(path);
            assert_eq!((list.may_read(path), list.may_write(path)), (read, write), "{patterns:?} {path:?}");
        }
    }

    #[test]
    fn patterns_that_are_none_say_why() {
        for (pattern, reason) in
            [("data", "begin with /"), ("/a/../b", "'..'"), ("/[", "unclosed"), ("", "begin with /")]
        {
            let error = AllowList::new([pattern]).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_link_in_a_pattern_means_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real [x]")).unwrap();
        std::os::unix::fs::symlink(root.join("real [x]"), root.join("link")).unwrap();
        let list = AllowList::new([format!("{}/link/*.csv", root.display()).as_str()]).unwrap();
        assert!(list.may_read(&root.join("real [x]/a.csv")));
        assert!(!list.may_read(&root.join("real [x]/a.txt")));
    }
}
