//! The file system of components: the descriptors of preview 1 under another name.

use std::ops::Bound;
use std::sync::Arc;

use wasmtime::component::{Linker, Resource};

use super::types::{
    Advice, Datetime, Descriptor, DescriptorFlags, DescriptorType, DirectoryEntry, Entries, ErrorCode, Input,
    MetadataHash, NewTimestamp, OpenFlags, Output, PathFlags, Stat, StreamFault,
};
use super::{Call, Data, Interface};
use crate::wasi::fs::Inode;
use crate::wasi::fs::path::GuestPath;
use crate::wasi::types::{Answer, Errno, FileType, fstflags, oflags, rights};
use crate::wasi::world::{Opening, World};

/// The descriptor of the root folder, which every program has.
const ROOT: u32 = 3;
/// Most bytes that one call reads.
const MAX_READ_BYTES: u64 = 1 << 20;

type Fd = Resource<Descriptor>;

pub(super) fn define<T: Data>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut types = Interface::new(linker, "wasi:filesystem/types")?;
    types.resource("descriptor", |world, descriptor: Descriptor| world.close(descriptor.0))?;
    types.resource("directory-entry-stream", |world, entries: Entries| world.tree.release(entries.folder))?;
    contents(&mut types)?;
    metadata(&mut types)?;
    paths(&mut types)?;
    types.code("[method]directory-entry-stream.read-directory-entry", |call, (entries,): (Resource<Entries>,)| {
        call.next_entry(&entries)
    })?;
    types.sure("filesystem-error-code", |call, (fault,): (Resource<StreamFault>,)| {
        Ok(Some(ErrorCode::from(call.get(&fault)?.0)))
    })?;
    let mut preopens = Interface::new(linker, "wasi:filesystem/preopens")?;
    preopens.sure("get-directories", |call, ()| {
        let root = call.open(ROOT, ".", PathFlags::empty(), OpenFlags::DIRECTORY, rights::ALL)?;
        Ok(vec![(root, "/".to_owned())])
    })
}

fn contents<T: Data>(types: &mut Interface<'_, T>) -> wasmtime::Result<()> {
    types.code("[method]descriptor.read-via-stream", |call, (fd, offset): (Fd, u64)| {
        let inode = call.streamed(&fd, rights::FD_READ)?;
        call.push(Input::File { inode, offset })
    })?;
    types.code("[method]descriptor.write-via-stream", |call, (fd, offset): (Fd, u64)| {
        let inode = call.streamed(&fd, rights::FD_WRITE)?;
        call.push(Output::File { inode, offset: Some(offset) })
    })?;
    types.code("[method]descriptor.append-via-stream", |call, (fd,): (Fd,)| {
        let inode = call.streamed(&fd, rights::FD_WRITE)?;
        call.push(Output::File { inode, offset: None })
    })?;
    types.code("[method]descriptor.read", |call, (fd, length, offset): (Fd, u64, u64)| {
        let fd = call.fd(&fd)?;
        let left = call.world.stat(fd)?.size.saturating_sub(offset);
        let length = length.min(left).min(MAX_READ_BYTES);
        call.charge(length)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| Errno::Inval)?];
        let read = call.world.read(fd, &mut bytes, Some(offset))?;
        bytes.truncate(read);
        Ok((bytes, read as u64 == left))
    })?;
    types.code("[method]descriptor.write", |call, (fd, bytes, offset): (Fd, Vec<u8>, u64)| {
        let fd = call.fd(&fd)?;
        call.charge(bytes.len() as u64)?;
        Ok(call.world.write(fd, &bytes, Some(offset))? as u64)
    })?;
    types.code("[method]descriptor.advise", |call, (fd, ..): (Fd, u64, u64, Advice)| call.fd(&fd).map(drop))?;
    types.code("[method]descriptor.sync-data", |call, (fd,): (Fd,)| call.fd(&fd).map(drop))?;
    types.code("[method]descriptor.sync", |call, (fd,): (Fd,)| call.fd(&fd).map(drop))?;
    types.code("[method]descriptor.set-size", |call, (fd, size): (Fd, u64)| {
        let fd = call.fd(&fd)?;
        call.world.set_size(fd, size)
    })?;
    types.code("[method]descriptor.read-directory", |call, (fd,): (Fd,)| {
        let fd = call.fd(&fd)?;
        let folder = call.world.base(fd)?;
        call.world.tree.acquire(folder);
        call.push(Entries { folder, last: None })
    })
}

fn metadata<T: Data>(types: &mut Interface<'_, T>) -> wasmtime::Result<()> {
    types.code("[method]descriptor.get-flags", |call, (fd,): (Fd,)| {
        let fd = call.fd(&fd)?;
        flags_of(call.world, fd)
    })?;
    types.code("[method]descriptor.get-type", |call, (fd,): (Fd,)| {
        let inode = call.inode(&fd)?;
        Ok(DescriptorType::from(call.world.tree.stat(inode).kind))
    })?;
    types.code("[method]descriptor.stat", |call, (fd,): (Fd,)| {
        let inode = call.inode(&fd)?;
        Ok(stat_of(call.world, inode))
    })?;
    types.code("[method]descriptor.stat-at", |call, (fd, flags, path): (Fd, PathFlags, String)| {
        let inode = call.find(&fd, flags, &path)?;
        Ok(stat_of(call.world, inode))
    })?;
    types.code(
        "[method]descriptor.set-times",
        |call, (fd, access, modification): (Fd, NewTimestamp, NewTimestamp)| {
            let inode = call.inode(&fd)?;
            set_times(call.world, inode, access, modification)
        },
    )?;
    types.code(
        "[method]descriptor.set-times-at",
        |call, (fd, flags, path, access, modification): (Fd, PathFlags, String, NewTimestamp, NewTimestamp)| {
            let inode = call.find(&fd, flags, &path)?;
            set_times(call.world, inode, access, modification)
        },
    )?;
    types.sure("[method]descriptor.is-same-object", |call, (one, other): (Fd, Fd)| {
        Ok(call.inode(&one)? == call.inode(&other)?)
    })?;
    types.code("[method]descriptor.metadata-hash", |call, (fd,): (Fd,)| Ok(hash_of(call.inode(&fd)?)))?;
    types.code("[method]descriptor.metadata-hash-at", |call, (fd, flags, path): (Fd, PathFlags, String)| {
        Ok(hash_of(call.find(&fd, flags, &path)?))
    })
}

fn paths<T: Data>(types: &mut Interface<'_, T>) -> wasmtime::Result<()> {
    types.code("[method]descriptor.create-directory-at", |call, (fd, path): (Fd, String)| {
        let fd = call.fd(&fd)?;
        call.world.make_folder(fd, path.as_bytes())
    })?;
    types.code(
        "[method]descriptor.link-at",
        |call, (fd, flags, path, to_fd, to): (Fd, PathFlags, String, Fd, String)| {
            let inode = call.find(&fd, flags, &path)?;
            let to_fd = call.fd(&to_fd)?;
            call.world.add_name(inode, to_fd, to.as_bytes())
        },
    )?;
    types.code(
        "[method]descriptor.open-at",
        |call, (fd, follow, path, how, flags): (Fd, PathFlags, String, OpenFlags, DescriptorFlags)| {
            let fd = call.fd(&fd)?;
            call.open(fd, &path, follow, how, rights_of(flags))
        },
    )?;
    types.code("[method]descriptor.readlink-at", |call, (fd, path): (Fd, String)| {
        let fd = call.fd(&fd)?;
        Ok(call.world.read_link(fd, path.as_bytes())?.to_string())
    })?;
    types.code("[method]descriptor.remove-directory-at", |call, (fd, path): (Fd, String)| {
        let fd = call.fd(&fd)?;
        call.world.remove_folder(fd, path.as_bytes())
    })?;
    types.code("[method]descriptor.rename-at", |call, (fd, path, to_fd, to): (Fd, String, Fd, String)| {
        let (fd, to_fd) = (call.fd(&fd)?, call.fd(&to_fd)?);
        call.world.rename((fd, path.as_bytes()), (to_fd, to.as_bytes()))
    })?;
    types.code("[method]descriptor.symlink-at", |call, (fd, target, path): (Fd, String, String)| {
        let fd = call.fd(&fd)?;
        call.world.make_link(target.as_bytes(), fd, path.as_bytes())
    })?;
    types.code("[method]descriptor.unlink-file-at", |call, (fd, path): (Fd, String)| {
        let fd = call.fd(&fd)?;
        call.world.remove_file(fd, path.as_bytes())
    })
}

impl Call<'_> {
    fn fd(&mut self, fd: &Fd) -> Answer<u32> {
        Ok(self.get(fd)?.0)
    }

    fn inode(&mut self, fd: &Fd) -> Answer<Inode> {
        let fd = self.fd(fd)?;
        self.world.inode(fd)
    }

    fn find(&mut self, fd: &Fd, flags: PathFlags, path: &str) -> Answer<Inode> {
        let fd = self.fd(fd)?;
        self.world.find(fd, path.as_bytes(), flags == PathFlags::SYMLINK_FOLLOW)
    }

    /// The file behind a descriptor with a right, held for a stream.
    fn streamed(&mut self, fd: &Fd, right: u64) -> Answer<Inode> {
        let fd = self.fd(fd)?;
        if self.world.descriptors.get(fd)?.rights & right == 0 {
            return Err(Errno::BadF.into());
        }
        let inode = self.world.inode(fd)?;
        self.world.tree.file(inode)?;
        self.world.tree.acquire(inode);
        Ok(inode)
    }

    fn open(&mut self, fd: u32, path: &str, follow: PathFlags, how: OpenFlags, rights: u64) -> Answer<Fd> {
        let flag = |flag: OpenFlags, bit| if how & flag == flag { bit } else { 0 };
        let oflags = flag(OpenFlags::CREATE, oflags::CREAT)
            | flag(OpenFlags::DIRECTORY, oflags::DIRECTORY)
            | flag(OpenFlags::EXCLUSIVE, oflags::EXCL)
            | flag(OpenFlags::TRUNCATE, oflags::TRUNC);
        let follow = follow == PathFlags::SYMLINK_FOLLOW;
        let opening = Opening { follow, oflags, fdflags: 0, rights, inheriting: rights::ALL };
        let opened = self.world.open(fd, &GuestPath::parse(path.as_bytes())?, opening)?;
        self.push(Descriptor(opened))
    }

    /// The entry after the last that was told, in name order. What is added or removed meanwhile disturbs nothing.
    fn next_entry(&mut self, entries: &Resource<Entries>) -> Answer<Option<DirectoryEntry>> {
        let Entries { folder, last } = self.get(entries)?;
        let (folder, last) = (*folder, last.clone());
        self.world.tree.work(1);
        let after = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.world.tree.folder(folder)?.entries.range::<str, _>((after, Bound::Unbounded)).next();
        let Some((name, inode)) = next.map(|(name, inode)| (Arc::clone(name), *inode)) else { return Ok(None) };
        self.get(entries)?.last = Some(Arc::clone(&name));
        Ok(Some(DirectoryEntry { kind: self.world.tree.stat(inode).kind.into(), name: name.to_string() }))
    }
}

fn rights_of(flags: DescriptorFlags) -> u64 {
    let mut all = rights::ALL & !(rights::FD_READ | rights::FD_WRITE);
    if flags & DescriptorFlags::READ == DescriptorFlags::READ {
        all |= rights::FD_READ;
    }
    if flags & DescriptorFlags::WRITE == DescriptorFlags::WRITE {
        all |= rights::FD_WRITE;
    }
    all
}

fn flags_of(world: &World, fd: u32) -> Answer<DescriptorFlags> {
    let rights = world.descriptors.get(fd)?.rights;
    let folder = world.stat(fd)?.kind == FileType::Directory;
    let mut flags = DescriptorFlags::empty();
    if rights & rights::FD_READ != 0 {
        flags |= DescriptorFlags::READ;
    }
    if folder {
        flags |= DescriptorFlags::MUTATE_DIRECTORY;
    } else if rights & rights::FD_WRITE != 0 {
        flags |= DescriptorFlags::WRITE;
    }
    Ok(flags)
}

fn stat_of(world: &World, inode: Inode) -> Stat {
    let stat = world.tree.stat(inode);
    let time = |ns| Some(Datetime::of(ns));
    let (data_access, data_modification, status_change) = (time(stat.atime), time(stat.mtime), time(stat.ctime));
    let (kind, link_count, size) = (stat.kind.into(), stat.links, stat.size);
    Stat { kind, link_count, size, data_access, data_modification, status_change }
}

fn set_times(world: &mut World, inode: Inode, access: NewTimestamp, modification: NewTimestamp) -> Answer<()> {
    let (atime, access) = told(access, fstflags::ATIM, fstflags::ATIM_NOW);
    let (mtime, modification) = told(modification, fstflags::MTIM, fstflags::MTIM_NOW);
    world.set_times(inode, atime, mtime, access | modification)
}

fn told(time: NewTimestamp, given: u16, now: u16) -> (u64, u16) {
    match time {
        NewTimestamp::NoChange => (0, 0),
        NewTimestamp::Now => (0, now),
        NewTimestamp::Timestamp(time) => (time.ns(), given),
    }
}

/// Equal for the same file only. C libraries take the lower half for the inode number.
fn hash_of(inode: Inode) -> MetadataHash {
    MetadataHash { lower: inode, upper: 1 }
}
