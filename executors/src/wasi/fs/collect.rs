//! The end of a run: what the program left at its result paths gets its names on disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::tree::{Inode, Kind, Tree};

impl Tree {
    /// Moves each result path to a file or folder `result-N` in `target`, in order, and removes the scratch files.
    ///
    /// Whatever is mounted inside a result path is not part of it, and symbolic links are not: a collection of blobs
    /// has none. A file with several names is there under each.
    pub(crate) fn collect(self, target: &Path) -> io::Result<Vec<PathBuf>> {
        let (mut paths, mut moved) = (Vec::new(), BTreeMap::new());
        for (index, inode) in self.results.iter().enumerate() {
            let path = target.join(format!("result-{index}"));
            self.write_out(*inode, path.clone(), &mut moved)?;
            paths.push(path);
        }
        if self.scratch_made {
            std::fs::remove_dir_all(&self.scratch)?;
        }
        Ok(paths)
    }

    fn write_out(&self, inode: Inode, path: PathBuf, moved: &mut BTreeMap<Inode, PathBuf>) -> io::Result<()> {
        let mut stack = vec![(inode, path)];
        while let Some((inode, path)) = stack.pop() {
            match &self.node(inode).kind {
                Kind::File(_) if moved.contains_key(&inode) => std::fs::hard_link(&moved[&inode], path)?,
                Kind::File(content) => {
                    content.move_to(&path)?;
                    if self.node(inode).names > 1 {
                        moved.insert(inode, path);
                    }
                }
                Kind::Folder(folder) => {
                    std::fs::create_dir(&path)?;
                    let own = folder.entries.iter().filter(|(_, child)| !self.node(**child).mount);
                    stack.extend(own.map(|(name, child)| (*child, path.join(&**name))));
                }
                Kind::Link(_) => {}
            }
        }
        Ok(())
    }
}
