//! Paths as a program writes them: bytes that may try anything.

use crate::wasi::types::{Answer, Errno};

/// Longest path, in bytes: of an argument, and of anything created, from the root.
pub(crate) const MAX_PATH_BYTES: usize = 1_024;
/// Longest name, in bytes: what every host's file system can store.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// One step of a path. `.` and empty steps are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Up,
    Down(&'a str),
}

/// A relative path, cut into steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestPath<'a> {
    pub(crate) steps: Vec<Step<'a>>,
    /// It ended in `/`, `.` or `..`: only a folder can be meant.
    pub(crate) folder: bool,
}

impl<'a> GuestPath<'a> {
    /// Cuts a path. Absolute ones are refused: a path is always relative to a descriptor.
    pub(crate) fn parse(bytes: &'a [u8]) -> Answer<Self> {
        if bytes.len() > MAX_PATH_BYTES {
            return Err(Errno::NameTooLong.into());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Errno::IlSeq)?;
        match text {
            "" => Err(Errno::NoEnt.into()),
            _ if text.starts_with('/') => Err(Errno::Perm.into()),
            _ if text.contains('\0') => Err(Errno::IlSeq.into()),
            _ => Self::cut(text),
        }
    }

    /// Cuts the target of a symbolic link; says too whether it begins at the root.
    pub(crate) fn of_link(target: &'a str) -> Answer<(Self, bool)> {
        let relative = target.trim_start_matches('/');
        Ok((Self::cut(relative)?, relative.len() < target.len()))
    }

    fn cut(text: &'a str) -> Answer<Self> {
        let steps = text.split('/').filter(|name| !matches!(*name, "" | ".")).map(step).collect::<Answer<_>>()?;
        let folder = matches!(text.rsplit('/').next(), Some("" | "." | ".."));
        Ok(Self { steps, folder })
    }

    /// The folder part and the last name; none if the path ends in no name.
    pub(crate) fn split_last(&self) -> Option<(&[Step<'a>], &'a str)> {
        match self.steps.split_last() {
            Some((Step::Down(name), parents)) => Some((parents, name)),
            _ => None,
        }
    }
}

fn step(name: &str) -> Answer<Step<'_>> {
    match name {
        ".." => Ok(Step::Up),
        _ if name.len() > MAX_NAME_BYTES => Err(Errno::NameTooLong.into()),
        _ => Ok(Step::Down(name)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_cut_into_steps() {
        let path = GuestPath::parse(b"a/./b//../c/").ok().unwrap();
        assert_eq!(path.steps, [Step::Down("a"), Step::Down("b"), Step::Up, Step::Down("c")]);
        assert!(path.folder);
        assert!(GuestPath::parse(b".").ok().unwrap().steps.is_empty());
    }

    #[test]
    fn what_no_folder_can_hold_is_refused() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        let longer = "x/".repeat(MAX_PATH_BYTES);
        for path in [&b"/etc/passwd"[..], b"", b"a\0b", b"\xff", long.as_bytes(), longer.as_bytes()] {
            assert!(GuestPath::parse(path).is_err(), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn no_step_is_a_path_of_its_own(bytes in prop::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), any::<u8>()], 0..40)) {
            if let Ok(path) = GuestPath::parse(&bytes) {
                for step in path.steps {
                    if let Step::Down(name) = step {
                        prop_assert!(!name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']));
                    }
                }
            }
        }
    }
}
