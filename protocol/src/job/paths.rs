//! Paths inside a job's file tree: always absolute, always with `/`.

/// The path with one leading `/`, without empty and `.` parts; nothing if it has `..` or is no path.
///
/// A missing leading `/` does not matter, as in Bacalhau's mount tree.
pub(crate) fn normalised(path: &str) -> Option<String> {
    if path.is_empty() || path.contains(['\0', '\\']) {
        return None;
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") { None } else { Some(format!("/{}", parts.join("/"))) }
}

/// What remains of `path` below `folder`: empty when they are equal, nothing when it is elsewhere. Both normalised.
pub(crate) fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_absolute_and_plain() {
        let table = [
            ("/a/b", Some("/a/b")),
            ("a//b/./", Some("/a/b")),
            ("/", Some("/")),
            ("./x", Some("/x")),
            ("", None),
            ("/a/../b", None),
            ("a\\b", None),
            ("/..a", Some("/..a")),
        ];
        for (path, expected) in table {
            assert_eq!(normalised(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_path_is_below_its_folder_only() {
        assert_eq!(below("/a/b", "/a"), Some("b"));
        assert_eq!(below("/a", "/a"), Some(""));
        assert_eq!(below("/ab", "/a"), None);
        assert_eq!(below("/a", "/"), Some("a"));
        assert_eq!(below("/a", "/a/b"), None);
    }
}
