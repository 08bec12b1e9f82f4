//! Names of files in a folder that travels: relative, `/` between their parts, and harmless on every system.
//!
//! They come from other peers and become paths here, so nothing passes that could lead out of a folder, mean the
//! same file twice, or need a file to be a folder as well.

use std::collections::BTreeSet;

/// Longest name, in bytes; what common systems allow for a path is four times that.
pub const MAX_NAME_BYTES: usize = 1_024;
/// Longest part of a name, in bytes: the bound of common file systems.
const MAX_PART_BYTES: usize = 255;
/// Most parts of a name.
pub const MAX_DEPTH: usize = 64;

/// Why names cannot be those of a folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// One is no relative path in the plainest form.
    #[error("{name:?} is no name for a file in a folder: {reason}")]
    Bad {
        /// The name, or its beginning.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One is there twice.
    #[error("the name {0:?} is there twice")]
    Twice(String),
    /// One is a file, and another is below it.
    #[error("{file:?} is a file and a folder at once")]
    FileAndFolder {
        /// The name of the file.
        file: String,
    },
}

/// Checks one name.
pub(crate) fn check_name(name: &str) -> Result<(), NameError> {
    match flaw(name) {
        None => Ok(()),
        Some(reason) => Err(NameError::Bad { name: name.chars().take(80).collect(), reason }),
    }
}

/// Checks the names of one folder, alone and against each other.
pub(crate) fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), NameError> {
    let mut all = BTreeSet::new();
    for name in names {
        check_name(name)?;
        if !all.insert(name) {
            return Err(NameError::Twice(name.into()));
        }
    }
    for name in &all {
        let mut folders = name.match_indices('/').map(|(end, _)| &name[..end]);
        if let Some(file) = folders.find(|folder| all.contains(folder)) {
            return Err(NameError::FileAndFolder { file: file.into() });
        }
    }
    Ok(())
}

fn flaw(name: &str) -> Option<&'static str> {
    if name.len() > MAX_NAME_BYTES {
        return Some("it is too long");
    }
    if name.contains('\\') {
        return Some("it has a backslash");
    }
    if name.chars().any(char::is_control) {
        return Some("it has a control character");
    }
    if name.split('/').count() > MAX_DEPTH {
        return Some("it is too deep");
    }
    name.split('/').find_map(flaw_of_part)
}

fn flaw_of_part(part: &str) -> Option<&'static str> {
    match part {
        "" => Some("it is empty, begins or ends with `/`, or has `//`"),
        "." | ".." => Some("it has `.` or `..`"),
        _ if part.len() > MAX_PART_BYTES => Some("a part of it is too long"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_relative_names_pass() {
        for name in ["a", "a/b/c.txt", ".hidden", "..a", "a..", "ä ö/日本", "c:drive", "-", "a/.b/...", "con"] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn names_that_could_lead_elsewhere_do_not_pass() {
        let long = "x".repeat(MAX_PART_BYTES + 1);
        let longer = "x/".repeat(MAX_NAME_BYTES);
        let deep = format!("{}x", "x/".repeat(MAX_DEPTH));
        let plain = ["", "/", "/etc/passwd", "..", ".", "../a", "a/..", "a/../b", "a/./b", "a//b", "a/", "./a"];
        let odd = ["a\0b", "a\nb", "\u{7f}", "a\\b", "..\\a", "C:\\a", "\\\\server\\a", &long, &longer, &deep];
        for name in plain.into_iter().chain(odd) {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn names_that_are_in_each_others_way_do_not_pass() {
        assert_eq!(check_names(["a", "b", "a"]), Err(NameError::Twice("a".into())));
        assert_eq!(check_names(["a/b/c", "a/b"]), Err(NameError::FileAndFolder { file: "a/b".into() }));
        assert_eq!(check_names(["a", "a.b", "a/b"]), Err(NameError::FileAndFolder { file: "a".into() }));
        assert_eq!(check_names(["a-b", "a/b", "ab"]), Ok(()));
    }

    proptest! {
        #[test]
        fn a_name_that_passes_stays_below_its_folder(name in "[a-c./\\\\\0]{0,12}") {
            if check_name(&name).is_ok() {
                let path = std::path::Path::new("/root").join(&name);
                let normal = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
                prop_assert!(std::path::Path::new(&name).components().all(normal));
                prop_assert!(path.starts_with("/root") && path != std::path::Path::new("/root"));
            }
        }
    }
}
