//! How a program calls: arguments are numbers and places in its memory, answers are error numbers.
//!
//! A pointer outside the program's memory is `EFAULT`. Each call costs fuel, and each byte that it moves.

use std::ops::Range;

use wasmtime::{Caller, Extern, Linker, Trap};

use super::clock::{TICK_NS, Which};
use super::descriptors::Object;
use super::fs::Inode;
use super::fs::path::{GuestPath, MAX_PATH_BYTES};
use super::types::{Answer, Errno, Fault, FileType, rights};
use super::world::{Opening, World};

/// The import module that programs name.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";
/// What a call costs, in fuel, before what it moves (a unit a byte).
const CALL_FUEL: u64 = 100;
/// Buffers of one read or write.
const MAX_BUFFERS: u32 = 1_024;
/// Subscriptions of one poll.
const MAX_SUBSCRIPTIONS: u32 = 1_024;

/// What ends a run from within a call. Out of fuel is wasmtime's own trap.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("exited with code {0}")]
    Exit(i32),
    #[error("{0}")]
    Host(std::io::Error),
    #[error("the calling module exports no memory")]
    NoMemory,
}

/// One call in progress.
pub(crate) struct Call<'a> {
    memory: &'a mut [u8],
    world: &'a mut World,
    fuel: u64,
}

macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        /// Every function with the types of its parameters, `proc_exit` left out; each returns an `i32`.
        pub(crate) const FUNCTIONS: &[(&str, &[&str])] = &[$((stringify!($name), &[$(stringify!($type)),*])),*];

        /// Defines every function.
        pub(crate) fn add_to_linker<T: AsMut<World> + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
            $(linker.func_wrap(MODULE, stringify!($name), |caller: Caller<'_, T>, $($argument: $type),*| {
                answer(caller, |call| call.$name($($argument),*))
            })?;)*
            linker.func_wrap(MODULE, PROC_EXIT, |_: Caller<'_, T>, code: i32| -> wasmtime::Result<()> {
                Err(wasmtime::Error::new(Stop::Exit(code)))
            })?;
            Ok(())
        }
    };
}

/// The one function that returns nothing; it takes an `i32`.
pub(crate) const PROC_EXIT: &str = "proc_exit";

functions! {
    args_get(argv: u32, buffer: u32);
    args_sizes_get(count: u32, size: u32);
    environ_get(environ: u32, buffer: u32);
    environ_sizes_get(count: u32, size: u32);
    clock_res_get(id: u32, result: u32);
    clock_time_get(id: u32, precision: u64, result: u32);
    fd_advise(fd: u32, offset: u64, length: u64, advice: u32);
    fd_allocate(fd: u32, offset: u64, length: u64);
    fd_close(fd: u32);
    fd_datasync(fd: u32);
    fd_fdstat_get(fd: u32, result: u32);
    fd_fdstat_set_flags(fd: u32, flags: u32);
    fd_fdstat_set_rights(fd: u32, rights: u64, inheriting: u64);
    fd_filestat_get(fd: u32, result: u32);
    fd_filestat_set_size(fd: u32, size: u64);
    fd_filestat_set_times(fd: u32, atime: u64, mtime: u64, flags: u32);
    fd_pread(fd: u32, buffers: u32, count: u32, offset: u64, result: u32);
    fd_prestat_get(fd: u32, result: u32);
    fd_prestat_dir_name(fd: u32, name: u32, length: u32);
    fd_pwrite(fd: u32, buffers: u32, count: u32, offset: u64, result: u32);
    fd_read(fd: u32, buffers: u32, count: u32, result: u32);
    fd_readdir(fd: u32, buffer: u32, length: u32, cookie: u64, result: u32);
    fd_renumber(from: u32, to: u32);
    fd_seek(fd: u32, delta: u64, whence: u32, result: u32);
    fd_sync(fd: u32);
    fd_tell(fd: u32, result: u32);
    fd_write(fd: u32, buffers: u32, count: u32, result: u32);
    path_create_directory(fd: u32, path: u32, length: u32);
    path_filestat_get(fd: u32, lookup: u32, path: u32, length: u32, result: u32);
    path_filestat_set_times(fd: u32, lookup: u32, path: u32, length: u32, atime: u64, mtime: u64, flags: u32);
    path_link(fd: u32, lookup: u32, path: u32, length: u32, to_fd: u32, to: u32, to_length: u32);
    path_open(fd: u32, lookup: u32, path: u32, length: u32, oflags: u32, base: u64, inheriting: u64, fdflags: u32, result: u32);
    path_readlink(fd: u32, path: u32, length: u32, buffer: u32, size: u32, result: u32);
    path_remove_directory(fd: u32, path: u32, length: u32);
    path_rename(fd: u32, path: u32, length: u32, to_fd: u32, to: u32, to_length: u32);
    path_symlink(target: u32, target_length: u32, fd: u32, path: u32, length: u32);
    path_unlink_file(fd: u32, path: u32, length: u32);
    poll_oneoff(subscriptions: u32, events: u32, count: u32, result: u32);
    proc_raise(signal: u32);
    sched_yield();
    random_get(buffer: u32, length: u32);
    sock_accept(fd: u32, flags: u32, result: u32);
    sock_recv(fd: u32, buffers: u32, count: u32, flags: u32, size: u32, out_flags: u32);
    sock_send(fd: u32, buffers: u32, count: u32, flags: u32, size: u32);
    sock_shutdown(fd: u32, how: u32);
}

/// Runs one call in the calling module's own memory and charges for it.
fn answer<T: AsMut<World> + 'static>(
    mut caller: Caller<'_, T>,
    act: impl FnOnce(&mut Call<'_>) -> Answer<()>,
) -> wasmtime::Result<i32> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::new(Stop::NoMemory));
    };
    let fuel = caller.get_fuel()?;
    let (memory, data) = memory.data_and_store_mut(&mut caller);
    let mut call = Call { memory, world: data.as_mut(), fuel };
    let result = call.charge(CALL_FUEL).and_then(|()| act(&mut call));
    let fuel = call.fuel;
    caller.set_fuel(fuel)?;
    match result {
        Ok(()) => Ok(0),
        Err(Fault::Errno(errno)) => Ok(i32::from(errno as u16)),
        Err(Fault::Host(error)) => Err(wasmtime::Error::new(Stop::Host(error))),
        Err(Fault::OutOfFuel) => Err(wasmtime::Error::new(Trap::OutOfFuel)),
    }
}

/// Arguments, environment, clocks, chance.
impl Call<'_> {
    fn args_get(&mut self, argv: u32, buffer: u32) -> Answer<()> {
        let strings = self.world.arguments.clone();
        self.put_strings(&strings, argv, buffer)
    }

    fn args_sizes_get(&mut self, count: u32, size: u32) -> Answer<()> {
        let (strings, bytes) = sizes(&self.world.arguments);
        self.put_u32(count, strings)?;
        self.put_u32(size, bytes)
    }

    fn environ_get(&mut self, environ: u32, buffer: u32) -> Answer<()> {
        let strings = self.world.environment.clone();
        self.put_strings(&strings, environ, buffer)
    }

    fn environ_sizes_get(&mut self, count: u32, size: u32) -> Answer<()> {
        let (strings, bytes) = sizes(&self.world.environment);
        self.put_u32(count, strings)?;
        self.put_u32(size, bytes)
    }

    fn clock_res_get(&mut self, id: u32, result: u32) -> Answer<()> {
        Which::of(id).ok_or(Errno::Inval)?;
        self.put_u64(result, TICK_NS)
    }

    fn clock_time_get(&mut self, id: u32, _precision: u64, result: u32) -> Answer<()> {
        let now = self.world.read_clock(id)?;
        self.put_u64(result, now)
    }

    fn random_get(&mut self, buffer: u32, length: u32) -> Answer<()> {
        let range = self.range(buffer, length)?;
        self.charge(u64::from(length))?;
        self.world.random.fill(&mut self.memory[range]);
        Ok(())
    }

    fn sched_yield(&mut self) -> Answer<()> {
        Ok(())
    }

    fn proc_raise(&mut self, _signal: u32) -> Answer<()> {
        Err(Errno::NoSys.into())
    }
}

/// Descriptors.
impl Call<'_> {
    fn fd_advise(&mut self, fd: u32, _offset: u64, _length: u64, advice: u32) -> Answer<()> {
        self.world.inode(fd)?;
        if advice < 6 { Ok(()) } else { Err(Errno::Inval.into()) }
    }

    fn fd_allocate(&mut self, fd: u32, offset: u64, length: u64) -> Answer<()> {
        let inode = self.writable(fd)?;
        let end = offset.checked_add(length).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::FBig)?;
        if end > self.world.tree.file(inode)?.size() {
            let now = self.world.clock.stamp();
            self.world.tree.resize(inode, end, now)?;
        }
        Ok(())
    }

    fn fd_close(&mut self, fd: u32) -> Answer<()> {
        self.world.close(fd)
    }

    fn fd_datasync(&mut self, fd: u32) -> Answer<()> {
        self.fd_sync(fd)
    }

    /// Nothing to do: a run's files need not survive the machine.
    fn fd_sync(&mut self, fd: u32) -> Answer<()> {
        self.world.descriptors.get(fd).map(drop)
    }

    fn fd_fdstat_get(&mut self, fd: u32, result: u32) -> Answer<()> {
        let kind = self.world.stat(fd)?.kind;
        let descriptor = self.world.descriptors.get(fd)?;
        let mut bytes = [0; 24];
        bytes[0] = kind as u8;
        bytes[2..4].copy_from_slice(&descriptor.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&descriptor.rights.to_le_bytes());
        bytes[16..].copy_from_slice(&descriptor.inheriting.to_le_bytes());
        self.put(result, &bytes)
    }

    fn fd_fdstat_set_flags(&mut self, fd: u32, flags: u32) -> Answer<()> {
        let flags = low16(flags)?;
        if flags & !super::types::fdflags::ALL != 0 {
            return Err(Errno::Inval.into());
        }
        self.world.descriptors.get_mut(fd)?.flags = flags;
        Ok(())
    }

    /// Rights can only be given up.
    fn fd_fdstat_set_rights(&mut self, fd: u32, rights: u64, inheriting: u64) -> Answer<()> {
        let descriptor = self.world.descriptors.get_mut(fd)?;
        if rights & !descriptor.rights != 0 || inheriting & !descriptor.inheriting != 0 {
            return Err(Errno::NotCapable.into());
        }
        (descriptor.rights, descriptor.inheriting) = (rights, inheriting);
        Ok(())
    }

    fn fd_filestat_get(&mut self, fd: u32, result: u32) -> Answer<()> {
        let stat = self.world.stat(fd)?;
        self.put(result, &stat.encode())
    }

    fn fd_filestat_set_size(&mut self, fd: u32, size: u64) -> Answer<()> {
        let inode = self.writable(fd)?;
        let now = self.world.clock.stamp();
        if size > i64::MAX as u64 {
            return Err(Errno::FBig.into());
        }
        self.world.tree.resize(inode, size, now)
    }

    fn fd_filestat_set_times(&mut self, fd: u32, atime: u64, mtime: u64, flags: u32) -> Answer<()> {
        let inode = self.world.inode(fd)?;
        self.world.set_times(inode, atime, mtime, low16(flags)?)
    }

    fn fd_prestat_get(&mut self, fd: u32, result: u32) -> Answer<()> {
        let name = self.world.descriptors.get(fd)?.preopen.ok_or(Errno::BadF)?;
        self.put_u32(result, 0)?;
        self.put_u32(after(result, 4)?, u32::try_from(name.len()).map_err(|_| Errno::Range)?)
    }

    fn fd_prestat_dir_name(&mut self, fd: u32, name: u32, length: u32) -> Answer<()> {
        let path = self.world.descriptors.get(fd)?.preopen.ok_or(Errno::BadF)?;
        if (length as usize) < path.len() {
            return Err(Errno::NameTooLong.into());
        }
        self.put(name, path.as_bytes())
    }

    fn fd_read(&mut self, fd: u32, buffers: u32, count: u32, result: u32) -> Answer<()> {
        self.read(fd, buffers, count, None, result)
    }

    fn fd_pread(&mut self, fd: u32, buffers: u32, count: u32, offset: u64, result: u32) -> Answer<()> {
        self.read(fd, buffers, count, Some(offset), result)
    }

    fn fd_write(&mut self, fd: u32, buffers: u32, count: u32, result: u32) -> Answer<()> {
        self.write(fd, buffers, count, None, result)
    }

    fn fd_pwrite(&mut self, fd: u32, buffers: u32, count: u32, offset: u64, result: u32) -> Answer<()> {
        self.write(fd, buffers, count, Some(offset), result)
    }

    /// Fills the buffer to its end while there are entries; the last may be cut.
    fn fd_readdir(&mut self, fd: u32, buffer: u32, length: u32, cookie: u64, result: u32) -> Answer<()> {
        let mut room = self.range(buffer, length)?;
        let listing = self.world.listing(fd, cookie == 0)?;
        let first = usize::try_from(cookie).unwrap_or(usize::MAX).min(listing.len());
        for (index, (inode, kind, name)) in listing.iter().enumerate().skip(first) {
            for bytes in [&entry_head(index as u64 + 1, *inode, *kind, name)[..], name.as_bytes()] {
                let part = bytes.len().min(room.len());
                self.memory[room.start..room.start + part].copy_from_slice(&bytes[..part]);
                room.start += part;
            }
            if room.is_empty() {
                break;
            }
        }
        let used = length - u32::try_from(room.len()).map_err(|_| Errno::Range)?;
        self.charge(u64::from(used))?;
        self.put_u32(result, used)
    }

    fn fd_renumber(&mut self, from: u32, to: u32) -> Answer<()> {
        self.world.renumber(from, to)
    }

    fn fd_seek(&mut self, fd: u32, delta: u64, whence: u32, result: u32) -> Answer<()> {
        let offset = self.world.seek(fd, delta.cast_signed(), whence)?;
        self.put_u64(result, offset)
    }

    fn fd_tell(&mut self, fd: u32, result: u32) -> Answer<()> {
        self.fd_seek(fd, 0, 1, result)
    }

    fn sock_accept(&mut self, fd: u32, _flags: u32, _result: u32) -> Answer<()> {
        self.not_a_socket(fd)
    }

    fn sock_recv(&mut self, fd: u32, _: u32, _: u32, _: u32, _: u32, _: u32) -> Answer<()> {
        self.not_a_socket(fd)
    }

    fn sock_send(&mut self, fd: u32, _: u32, _: u32, _: u32, _: u32) -> Answer<()> {
        self.not_a_socket(fd)
    }

    fn sock_shutdown(&mut self, fd: u32, _how: u32) -> Answer<()> {
        self.not_a_socket(fd)
    }

    fn not_a_socket(&mut self, fd: u32) -> Answer<()> {
        self.world.descriptors.get(fd)?;
        Err(Errno::NotSock.into())
    }
}

/// Paths. Lookup flags only tell about symbolic links, and there are none.
impl Call<'_> {
    fn path_create_directory(&mut self, fd: u32, path: u32, length: u32) -> Answer<()> {
        let bytes = self.path(path, length)?;
        let (parent, name) = self.parent(fd, &bytes)?;
        let now = self.world.clock.stamp();
        self.world.tree.create_folder(parent, name, now).map(drop)
    }

    fn path_filestat_get(&mut self, fd: u32, _: u32, path: u32, length: u32, result: u32) -> Answer<()> {
        let inode = self.find(fd, path, length)?;
        let stat = self.world.tree.stat(inode);
        self.put(result, &stat.encode())
    }

    #[expect(clippy::too_many_arguments, reason = "the ABI's")]
    fn path_filestat_set_times(
        &mut self,
        fd: u32,
        _: u32,
        path: u32,
        length: u32,
        atime: u64,
        mtime: u64,
        flags: u32,
    ) -> Answer<()> {
        let inode = self.find(fd, path, length)?;
        self.world.set_times(inode, atime, mtime, low16(flags)?)
    }

    #[expect(clippy::too_many_arguments, reason = "the ABI's")]
    fn path_open(
        &mut self,
        fd: u32,
        _: u32,
        path: u32,
        length: u32,
        oflags: u32,
        base: u64,
        inheriting: u64,
        fdflags: u32,
        result: u32,
    ) -> Answer<()> {
        self.range(result, 4)?;
        let bytes = self.path(path, length)?;
        let opening = Opening { oflags: low16(oflags)?, fdflags: low16(fdflags)?, rights: base, inheriting };
        let opened = self.world.open(fd, &GuestPath::parse(&bytes)?, opening)?;
        self.put_u32(result, opened)
    }

    #[expect(clippy::too_many_arguments, reason = "the ABI's")]
    fn path_link(&mut self, fd: u32, _: u32, _: u32, _: u32, to_fd: u32, _: u32, _: u32) -> Answer<()> {
        self.world.base(fd)?;
        self.world.base(to_fd)?;
        Err(Errno::NotSup.into())
    }

    fn path_symlink(&mut self, _: u32, _: u32, fd: u32, _: u32, _: u32) -> Answer<()> {
        self.world.base(fd)?;
        Err(Errno::NotSup.into())
    }

    /// Whatever exists is no link.
    fn path_readlink(&mut self, fd: u32, path: u32, length: u32, _: u32, _: u32, _: u32) -> Answer<()> {
        self.find(fd, path, length)?;
        Err(Errno::Inval.into())
    }

    fn path_remove_directory(&mut self, fd: u32, path: u32, length: u32) -> Answer<()> {
        let bytes = self.path(path, length)?;
        let (parent, name) = self.parent(fd, &bytes)?;
        let now = self.world.clock.stamp();
        self.world.tree.remove_folder(parent, name, now)
    }

    fn path_unlink_file(&mut self, fd: u32, path: u32, length: u32) -> Answer<()> {
        let bytes = self.path(path, length)?;
        let (parent, name) = self.parent(fd, &bytes)?;
        let now = self.world.clock.stamp();
        self.world.tree.remove_file(parent, name, now)
    }

    fn path_rename(&mut self, fd: u32, path: u32, length: u32, to_fd: u32, to: u32, to_length: u32) -> Answer<()> {
        let (from_bytes, to_bytes) = (self.path(path, length)?, self.path(to, to_length)?);
        let (from, to) = (self.parent(fd, &from_bytes)?, self.parent(to_fd, &to_bytes)?);
        let now = self.world.clock.stamp();
        self.world.tree.rename(from, to, now)
    }

    fn path(&self, path: u32, length: u32) -> Answer<Vec<u8>> {
        if length as usize > MAX_PATH_BYTES {
            return Err(Errno::NameTooLong.into());
        }
        Ok(self.memory[self.range(path, length)?].to_vec())
    }

    fn find(&mut self, fd: u32, path: u32, length: u32) -> Answer<Inode> {
        let bytes = self.path(path, length)?;
        let base = self.world.base(fd)?;
        self.world.tree.find(base, &GuestPath::parse(&bytes)?)
    }

    fn parent<'p>(&mut self, fd: u32, bytes: &'p [u8]) -> Answer<(Inode, &'p str)> {
        let path = GuestPath::parse(bytes)?;
        let base = self.world.base(fd)?;
        let (parent, name) = self.world.tree.find_parent(base, &path)?;
        // "file/" names no file.
        if let (true, Some(inode)) = (path.folder, self.world.tree.entry(parent, name)?) {
            self.world.tree.folder(inode)?;
        }
        Ok((parent, name))
    }
}

/// What a subscription waits for.
enum Wait {
    Clock { which: Which, until: u64 },
    Descriptor { kind: u8, fd: u32 },
}

/// Waiting. Files are always ready; where only clocks are waited for, virtual time jumps to the first of them.
impl Call<'_> {
    fn poll_oneoff(&mut self, subscriptions: u32, events: u32, count: u32, result: u32) -> Answer<()> {
        if count == 0 || count > MAX_SUBSCRIPTIONS {
            return Err(Errno::Inval.into());
        }
        let mut waits = Vec::new();
        for index in 0..count {
            waits.push(self.subscription(after(subscriptions, index * 48)?)?);
        }
        if !waits.iter().any(|(_, wait)| matches!(wait, Wait::Descriptor { .. })) {
            self.sleep(&waits);
        }
        let mut ready = 0;
        for (userdata, wait) in &waits {
            if let Some((errno, kind, bytes)) = self.event(wait) {
                self.put_event(after(events, ready * 32)?, *userdata, errno, kind, bytes)?;
                ready += 1;
            }
        }
        self.put_u32(result, ready)
    }

    fn subscription(&self, at: u32) -> Answer<(u64, Wait)> {
        let bytes = &self.memory[self.range(at, 48)?];
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let wait = match bytes[8] {
            0 => {
                let which = Which::of(u32_at(16)).ok_or(Errno::Inval)?;
                let (timeout, absolute) = (u64_at(24), bytes[40] & 1 == 1);
                let now = self.world.clock.now(which);
                Wait::Clock { which, until: if absolute { timeout } else { now.saturating_add(timeout) } }
            }
            kind @ (1 | 2) => Wait::Descriptor { kind, fd: u32_at(16) },
            _ => return Err(Errno::Inval.into()),
        };
        Ok((u64_at(0), wait))
    }

    fn sleep(&mut self, waits: &[(u64, Wait)]) {
        let clock = &mut self.world.clock;
        let spans = waits.iter().filter_map(|(_, wait)| match wait {
            Wait::Clock { which, until } => Some(clock.until(*which, *until)),
            Wait::Descriptor { .. } => None,
        });
        let shortest = spans.min().unwrap_or(0);
        clock.sleep(shortest);
    }

    fn event(&self, wait: &Wait) -> Option<(u16, u8, u64)> {
        match wait {
            Wait::Clock { which, until } => (self.world.clock.until(*which, *until) == 0).then_some((0, 0, 0)),
            Wait::Descriptor { kind, fd } => match self.world.stat(*fd) {
                Ok(stat) => Some((0, *kind, stat.size)),
                Err(_) => Some((Errno::BadF as u16, *kind, 0)),
            },
        }
    }

    fn put_event(&mut self, at: u32, userdata: u64, errno: u16, kind: u8, ready_bytes: u64) -> Answer<()> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&userdata.to_le_bytes());
        bytes[8..10].copy_from_slice(&errno.to_le_bytes());
        bytes[10] = kind;
        bytes[16..24].copy_from_slice(&ready_bytes.to_le_bytes());
        self.put(at, &bytes)
    }
}

/// Memory and fuel.
impl Call<'_> {
    /// Takes fuel; what is not there ends the run.
    fn charge(&mut self, fuel: u64) -> Answer<()> {
        let left = self.fuel.checked_sub(fuel);
        self.fuel = left.unwrap_or(0);
        left.map(drop).ok_or(Fault::OutOfFuel)
    }

    fn range(&self, start: u32, length: u32) -> Answer<Range<usize>> {
        let (start, length) = (start as usize, length as usize);
        let end = start.checked_add(length).filter(|end| *end <= self.memory.len()).ok_or(Errno::Fault)?;
        Ok(start..end)
    }

    fn put(&mut self, at: u32, bytes: &[u8]) -> Answer<()> {
        let range = self.range(at, u32::try_from(bytes.len()).map_err(|_| Errno::Fault)?)?;
        self.memory[range].copy_from_slice(bytes);
        Ok(())
    }

    fn put_u32(&mut self, at: u32, value: u32) -> Answer<()> {
        self.put(at, &value.to_le_bytes())
    }

    fn put_u64(&mut self, at: u32, value: u64) -> Answer<()> {
        self.put(at, &value.to_le_bytes())
    }

    fn get_u32(&self, at: u32) -> Answer<u32> {
        let range = self.range(at, 4)?;
        Ok(u32::from_le_bytes(std::array::from_fn(|i| self.memory[range.start + i])))
    }

    fn put_strings(&mut self, strings: &[Vec<u8>], pointers: u32, buffer: u32) -> Answer<()> {
        let (mut pointer, mut at) = (pointers, buffer);
        for string in strings {
            self.put_u32(pointer, at)?;
            self.put(at, string)?;
            pointer = after(pointer, 4)?;
            at = after(at, u32::try_from(string.len()).map_err(|_| Errno::Fault)?)?;
        }
        Ok(())
    }

    /// The buffers of a read or write, each within memory.
    fn buffers(&self, buffers: u32, count: u32) -> Answer<Vec<Range<usize>>> {
        if count > MAX_BUFFERS {
            return Err(Errno::Inval.into());
        }
        let buffer = |index| {
            let at = after(buffers, index * 8)?;
            self.range(self.get_u32(at)?, self.get_u32(after(at, 4)?)?)
        };
        (0..count).map(buffer).collect()
    }

    fn read(&mut self, fd: u32, buffers: u32, count: u32, at: Option<u64>, result: u32) -> Answer<()> {
        self.each_buffer(fd, buffers, count, at, result, |call, buffer, at| {
            call.world.read(fd, &mut call.memory[buffer], at)
        })
    }

    fn write(&mut self, fd: u32, buffers: u32, count: u32, at: Option<u64>, result: u32) -> Answer<()> {
        self.each_buffer(fd, buffers, count, at, result, |call, buffer, at| {
            call.world.write(fd, &call.memory[buffer], at)
        })
    }

    /// Moves buffer after buffer until one is not moved whole; what was moved before an error counts.
    fn each_buffer(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        at: Option<u64>,
        result: u32,
        mut transfer: impl FnMut(&mut Self, Range<usize>, Option<u64>) -> Answer<usize>,
    ) -> Answer<()> {
        self.world.descriptors.get(fd)?;
        self.range(result, 4)?;
        let mut moved = 0;
        for buffer in self.buffers(buffers, count)? {
            let length = buffer.len();
            let position = at.map(|at| at.saturating_add(moved));
            match transfer(self, buffer, position) {
                Ok(part) => {
                    moved += part as u64;
                    self.charge(part as u64)?;
                    if part < length {
                        break;
                    }
                }
                Err(Fault::Errno(_)) if moved > 0 => break,
                Err(fault) => return Err(fault),
            }
        }
        self.put_u32(result, u32::try_from(moved).map_err(|_| Errno::Range)?)
    }

    /// A file that a descriptor may change.
    fn writable(&self, fd: u32) -> Answer<Inode> {
        let descriptor = self.world.descriptors.get(fd)?;
        match descriptor.object {
            Object::Node { inode, .. } if descriptor.rights & rights::FD_WRITE != 0 => {
                self.world.tree.file(inode)?;
                Ok(inode)
            }
            _ => Err(Errno::Inval.into()),
        }
    }
}

fn after(at: u32, bytes: u32) -> Answer<u32> {
    Ok(at.checked_add(bytes).ok_or(Errno::Fault)?)
}

fn low16(flags: u32) -> Answer<u16> {
    Ok(u16::try_from(flags).map_err(|_| Errno::Inval)?)
}

fn sizes(strings: &[Vec<u8>]) -> (u32, u32) {
    let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
    (number(strings.len()), number(strings.iter().map(Vec::len).sum::<usize>()))
}

fn entry_head(next: u64, inode: Inode, kind: FileType, name: &str) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&next.to_le_bytes());
    bytes[8..16].copy_from_slice(&inode.to_le_bytes());
    bytes[16..20].copy_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes[20] = kind as u8;
    bytes
}
