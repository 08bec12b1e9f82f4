//! Folders that a container wrote: how much they hold, and what of it is kept.
//!
//! Nothing here follows a link or trusts a name, a mode or a depth: a tree may be deeper than a path is long.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Folders within each other: what a result may have.
const MAX_DEPTH: usize = 64;
/// Files and folders of all result paths together: what a result may have.
const MAX_ENTRIES: usize = 65_536;
/// Links that lead to links are followed so far.
const MAX_LINKS: usize = 8;
/// What a file takes beside its content, in bytes, and is not held against its program.
const BLOCK_BYTES: u64 = 4_096;
/// For everybody: which user the container's programs are is nobody's choice here, and the folder above is closed.
const OPEN: u32 = 0o777;

/// What lies in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measured {
    /// So many bytes, as long as a file claims to be or as its blocks are, whichever is more.
    Bytes(u64),
    /// More files or folders, or deeper ones, than a result may have; or a folder that may hide them, closed to us.
    TooMany,
}

/// Makes a folder that only this user can enter, and open folders in it.
pub(super) fn make(parent: &Path, count: usize) -> io::Result<Vec<PathBuf>> {
    DirBuilder::new().mode(0o700).create(parent)?;
    let make = |index: usize| {
        let path = parent.join(index.to_string());
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(OPEN))?;
        Ok(path)
    };
    (0..count).map(make).collect()
}

/// Adds up what lies below `root`, while it may change.
pub(super) fn measure(root: &Path) -> Measured {
    let (mut bytes, mut entries) = (0_u64, 0);
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let listed = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Measured::TooMany,
            listed => listed,
        };
        // What has gone meanwhile holds nothing.
        for entry in listed.into_iter().flatten().flatten() {
            entries += 1;
            if entries > MAX_ENTRIES || depth > MAX_DEPTH {
                return Measured::TooMany;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(size(&metadata));
            if metadata.is_dir() {
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    Measured::Bytes(bytes)
}

fn size(metadata: &Metadata) -> u64 {
    let on_disk = metadata.blocks().saturating_mul(512).saturating_sub(BLOCK_BYTES);
    if metadata.is_file() { on_disk.max(metadata.len()) } else { on_disk }
}

/// Leaves nothing but files and folders, all readable. The container has ended, so nothing changes meanwhile.
///
/// A link to a file of the same result path becomes that file; every other link, and every device, socket and pipe,
/// is removed. `target` is where the container had the folder. Gives up, with false, where there is too much.
pub(super) fn tidy(root: &Path, target: &str) -> io::Result<bool> {
    let (mut links, mut entries) = (Vec::new(), 0);
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        unlock(&folder, 0o700)?;
        for entry in fs::read_dir(&folder)? {
            entries += 1;
            if entries > MAX_ENTRIES || depth > MAX_DEPTH {
                return Ok(false);
            }
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push((path, depth + 1));
            } else if kind.is_file() {
                unlock(&path, 0o600)?;
            } else if kind.is_symlink() {
                links.push(path);
            } else {
                fs::remove_file(path)?;
            }
        }
    }
    replace(links, root, target)?;
    Ok(true)
}

/// Gives the node's user what it needs, and takes setuid and its kin away.
fn unlock(path: &Path, bits: u32) -> io::Result<()> {
    let mode = fs::symlink_metadata(path)?.mode() & 0o7777;
    let wanted = (mode | bits) & 0o777;
    if mode == wanted { Ok(()) } else { fs::set_permissions(path, fs::Permissions::from_mode(wanted)) }
}

fn replace(mut links: Vec<PathBuf>, root: &Path, target: &str) -> io::Result<()> {
    for _ in 0..MAX_LINKS {
        let mut later = Vec::new();
        for link in std::mem::take(&mut links) {
            match inside(&link, root, target) {
                Some(file) => {
                    fs::remove_file(&link)?;
                    fs::hard_link(file, &link)?;
                }
                None => later.push(link),
            }
        }
        links = later;
    }
    links.into_iter().try_for_each(fs::remove_file)
}

/// The file that a link leads to, if that is in the same tree, and no part of the way is a link.
fn inside(link: &Path, root: &Path, target: &str) -> Option<PathBuf> {
    let words = fs::read_link(link).ok()?;
    let from = link.parent()?.strip_prefix(root).ok()?;
    let way = match words.strip_prefix(target) {
        Ok(rest) => rest.to_owned(),
        Err(_) if words.is_absolute() => return None,
        Err(_) => from.join(words),
    };
    let mut path = PathBuf::new();
    for part in way.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => path.pop().then_some(())?,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    let mut found = root.to_owned();
    let mut is_file = false;
    for part in path.components() {
        found.push(part);
        let kind = fs::symlink_metadata(&found).ok()?.file_type();
        if !kind.is_dir() && !kind.is_file() {
            return None;
        }
        is_file = kind.is_file();
    }
    is_file.then_some(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = make(&dir.path().join("results"), 1).unwrap().remove(0);
        (dir, root)
    }

    #[test]
    fn what_a_tree_holds_is_what_its_files_claim_and_take() {
        let (_dir, root) = tree();
        fs::create_dir(root.join("folder")).unwrap();
        fs::write(root.join("folder/file"), [1; 100]).unwrap();
        assert_eq!(measure(&root), Measured::Bytes(100));
        fs::File::create(root.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(measure(&root), Measured::Bytes((1 << 40) + 100));
    }

    #[test]
    fn a_tree_that_is_too_deep_is_too_much() {
        let (_dir, root) = tree();
        fs::create_dir_all(root.join("d/".repeat(MAX_DEPTH + 2))).unwrap();
        assert_eq!(measure(&root), Measured::TooMany);
        assert!(!tidy(&root, "/out").unwrap());
    }

    #[test]
    fn links_inside_become_files_and_all_others_go() {
        let (dir, root) = tree();
        fs::write(dir.path().join("secret"), "of the host").unwrap();
        fs::create_dir_all(root.join("lib/deep")).unwrap();
        fs::write(root.join("lib/so.1"), "code").unwrap();
        symlink("so.1", root.join("lib/so")).unwrap();
        symlink("../so", root.join("lib/deep/so")).unwrap();
        symlink("/out/lib/so.1", root.join("absolute")).unwrap();
        symlink("lib", root.join("folder")).unwrap();
        symlink("folder/so.1", root.join("through")).unwrap();
        symlink(dir.path().join("secret"), root.join("secret")).unwrap();
        symlink("../../secret", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/etc/passwd", root.join("passwd")).unwrap();
        fs::write(root.join("tool"), "x").unwrap();
        fs::set_permissions(root.join("tool"), fs::Permissions::from_mode(0o6755)).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), pipe, rustix::fs::Mode::RWXU, 0).unwrap();
        fs::create_dir_all(root.join("closed/in")).unwrap();
        fs::write(root.join("closed/in/x"), "x").unwrap();
        fs::set_permissions(root.join("closed/in"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o300)).unwrap();
        assert!(tidy(&root, "/out").unwrap());
        assert_eq!(fs::read_to_string(root.join("closed/in/x")).unwrap(), "x");
        for name in ["lib/so", "lib/deep/so", "absolute"] {
            assert!(root.join(name).symlink_metadata().unwrap().is_file(), "{name}");
            assert_eq!(fs::read_to_string(root.join(name)).unwrap(), "code", "{name}");
        }
        for name in ["folder", "through", "secret", "up", "loop", "passwd", "pipe"] {
            assert!(root.join(name).symlink_metadata().is_err(), "{name}");
        }
        assert_eq!(fs::metadata(root.join("tool")).unwrap().mode() & 0o7777, 0o755);
    }
}
