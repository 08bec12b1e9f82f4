//! How a path leads from a folder to a node: step by step, through symbolic links, and never above where it began.

use super::path::{GuestPath, Step};
use super::tree::{Inode, Tree};
use crate::wasi::types::{Answer, Errno};

/// Symbolic links that one path may lead through.
const MAX_LINKS: u32 = 40;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Node(Inode),
    /// Nothing there, but it could be made.
    Free(Inode, String),
}

impl Tree {
    /// Where `path` leads from `base`, never above it. A link at its end is followed if `follow` says so.
    pub(crate) fn resolve(&mut self, base: Inode, path: &GuestPath<'_>, follow: bool) -> Answer<Found> {
        let mut links = MAX_LINKS;
        let found = self.resolve_from((base, base), path, follow || path.folder, &mut links)?;
        if let (true, Found::Node(inode)) = (path.folder, &found) {
            self.folder(*inode)?;
        }
        Ok(found)
    }

    /// The node that `path` names.
    pub(crate) fn find(&mut self, base: Inode, path: &GuestPath<'_>, follow: bool) -> Answer<Inode> {
        match self.resolve(base, path, follow)? {
            Found::Node(inode) => Ok(inode),
            Found::Free(..) => Err(Errno::NoEnt.into()),
        }
    }

    /// The folder in which `path` names an entry, and the entry's name.
    pub(crate) fn find_parent<'a>(&mut self, base: Inode, path: &GuestPath<'a>) -> Answer<(Inode, &'a str)> {
        let (parents, name) = path.split_last().ok_or(Errno::Inval)?;
        let mut links = MAX_LINKS;
        let parent = self.walk((base, base), parents, &mut links)?;
        self.folder(parent)?;
        Ok((parent, name))
    }

    /// `from` is the folder that nothing may lead above, and the one to start in; `links` may still be followed.
    fn resolve_from(
        &mut self,
        from: (Inode, Inode),
        path: &GuestPath<'_>,
        follow: bool,
        links: &mut u32,
    ) -> Answer<Found> {
        let Some((parents, name)) = path.split_last() else {
            return Ok(Found::Node(self.walk(from, &path.steps, links)?));
        };
        let parent = self.walk(from, parents, links)?;
        let Some(inode) = self.entry(parent, name)? else { return Ok(Found::Free(parent, name.to_owned())) };
        match self.link_target(inode) {
            Some(target) if follow => self.follow((from.0, parent), &target, links),
            _ => Ok(Found::Node(inode)),
        }
    }

    fn walk(&mut self, (base, start): (Inode, Inode), path: &[Step<'_>], links: &mut u32) -> Answer<Inode> {
        let mut at = start;
        for step in path {
            self.work(1);
            at = match step {
                Step::Up if at == base => return Err(Errno::Perm.into()),
                Step::Up => {
                    self.folder(at)?;
                    self.node(at).parent
                }
                Step::Down(name) => self.down((base, at), name, links)?,
            };
        }
        Ok(at)
    }

    fn down(&mut self, (base, at): (Inode, Inode), name: &str, links: &mut u32) -> Answer<Inode> {
        let inode = self.entry(at, name)?.ok_or(Errno::NoEnt)?;
        let Some(target) = self.link_target(inode) else { return Ok(inode) };
        match self.follow((base, at), &target, links)? {
            Found::Node(inode) => Ok(inode),
            Found::Free(..) => Err(Errno::NoEnt.into()),
        }
    }

    /// Goes where a link in the folder `at` leads. An absolute one is for those who may see the root.
    fn follow(&mut self, (base, at): (Inode, Inode), target: &str, links: &mut u32) -> Answer<Found> {
        *links = links.checked_sub(1).ok_or(Errno::Loop)?;
        let (path, absolute) = GuestPath::of_link(target)?;
        let start = match absolute {
            true if base != Self::ROOT => return Err(Errno::Perm.into()),
            true => Self::ROOT,
            false => at,
        };
        let found = self.resolve_from((base, start), &path, true, links)?;
        if let (true, Found::Node(inode)) = (path.folder, &found) {
            self.folder(*inode)?;
        }
        Ok(found)
    }
}
