//! The end of a run: what the program left at its result paths gets its names on disk.

use std::io;
use std::path::{Path, PathBuf};

use super::tree::{Inode, Kind, Tree};

impl Tree {
    /// Moves each result path to a file or folder `result-N` in `target`, in order, and removes the scratch files.
    /// Whatever is mounted inside a result path is not part of it.
    pub(crate) fn collect(self, target: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for (index, inode) in self.results.iter().enumerate() {
            let path = target.join(format!("result-{index}"));
            self.write_out(*inode, path.clone())?;
            paths.push(path);
        }
        if self.scratch_made {
            std::fs::remove_dir_all(&self.scratch)?;
        }
        Ok(paths)
    }

    fn write_out(&self, inode: Inode, path: PathBuf) -> io::Result<()> {
        let mut stack = vec![(inode, path)];
        while let Some((inode, path)) = stack.pop() {
            match &self.node(inode).kind {
                Kind::File(content) => std::fs::rename(content.path(), path)?,
                Kind::Folder(folder) => {
                    std::fs::create_dir(&path)?;
                    let own = folder.entries.iter().filter(|(_, child)| !self.node(**child).mount);
                    stack.extend(own.map(|(name, child)| (*child, path.join(&**name))));
                }
            }
        }
        Ok(())
    }
}
