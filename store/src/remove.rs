//! Folders that a program wrote go, however they are made.
//!
//! Nothing here follows a link or trusts a name, a mode or a depth. A tree may be deeper than a path is long and than
//! a thread has stack, so it is not walked by recursion, as the standard library would.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

/// How a folder is opened: it, and not what a link leads to.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a folder with everything in it; it may be gone already.
///
/// What lies two levels below is moved up before its folder goes, so that neither stack nor open files grow.
pub fn remove_tree(root: &Path) -> io::Result<()> {
    let top = match rustix::fs::open(root, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ACCESS) => {
            fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
            rustix::fs::open(root, FOLDER, Mode::empty())?
        }
        opened => opened?,
    };
    let mut moved = 0;
    loop {
        let folders = empty(&top)?;
        if folders.is_empty() {
            return fs::remove_dir(root);
        }
        for name in folders {
            raise(&top, &name, &mut moved)?;
        }
    }
}

/// Moves the folders of a folder into the one above, and removes it.
fn raise(top: &OwnedFd, name: &CString, moved: &mut u64) -> io::Result<()> {
    unlock(top, name);
    let folder = rustix::fs::openat(top, name, FOLDER, Mode::empty())?;
    for inner in empty(&folder)? {
        unlock(&folder, &inner);
        rustix::fs::renameat(&folder, &inner, top, free_name(top, moved))?;
    }
    Ok(rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR)?)
}

/// A name that is not taken.
fn free_name(top: &OwnedFd, moved: &mut u64) -> String {
    loop {
        *moved += 1;
        let name = format!(".removed-{moved}");
        if rustix::fs::statat(top, &name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return name;
        }
    }
}

/// Makes a folder one that we can enter and change, if it is ours; else the next step says why it cannot be.
fn unlock(above: &OwnedFd, name: &CString) {
    let _ = rustix::fs::chmodat(above, name, Mode::RWXU, AtFlags::empty());
}

/// Removes what is in a folder but its folders, and returns their names.
fn empty(folder: &impl AsFd) -> io::Result<Vec<CString>> {
    let mut folders = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        // Asked of the system, because not every file system says in its listing what an entry is.
        let kind = rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
        if rustix::fs::FileType::from_raw_mode(kind).is_dir() {
            folders.push(name);
        } else {
            rustix::fs::unlinkat(folder, &name, AtFlags::empty())?;
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_that_is_deeper_than_a_path_goes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut at = rustix::fs::open(&root, FOLDER, Mode::empty()).unwrap();
        for _ in 0..2_500 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", FOLDER, Mode::empty()).unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists() && dir.path().exists());
        remove_tree(&root).unwrap();
    }

    #[test]
    fn removing_follows_no_link_and_opens_what_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("locked")).unwrap();
        fs::write(dir.path().join("mine"), "kept").unwrap();
        fs::write(root.join("locked/file"), "x").unwrap();
        fs::set_permissions(root.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
        symlink(dir.path(), root.join("out")).unwrap();
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        assert_eq!(fs::read_to_string(dir.path().join("mine")).unwrap(), "kept");
    }
}
