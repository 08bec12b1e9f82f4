//! How a program calls: arguments are numbers and places in its memory, answers are error numbers.
//!
//! A pointer outside the program's memory is `EFAULT`. Each call costs fuel, and each byte that it moves.

mod process;

mod descriptors;

mod paths;

mod poll;

mod memory;

use wasmtime::{Caller, Extern, Linker};

use super::types::{Answer, Errno, Fault};
use super::world::World;
use crate::wasm::fuel::Fuel;
use crate::wasm::rewrite::Meter;

/// The import module that programs name.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";
/// What a call costs, in fuel, before what it moves (a unit a byte).
const CALL_FUEL: u64 = 100;

/// What ends a run from within a call to the host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("exited with code {0}")]
    Exit(i32),
    #[error("{0}")]
    Host(std::io::Error),
    #[error("a call that has no errors was refused: {0:?}")]
    Refused(Errno),
    #[error("the calling module exports no memory")]
    NoMemory,
    #[error("fuel limit reached")]
    OutOfFuel,
    #[error("metered stack exhausted")]
    StackExhausted,
    #[error("stopped")]
    Killed,
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

        /// Defines every function, as rewritten modules import it: with the meter.
        pub(crate) fn add_to_linker<T: AsMut<World> + AsMut<Fuel> + 'static>(
            linker: &mut Linker<T>,
        ) -> wasmtime::Result<()> {
            $(linker.func_wrap(MODULE, stringify!($name), |caller: Caller<'_, T>, $($argument: $type,)* meter: i64| {
                let arguments = [$((stringify!($argument), u64::from($argument))),*];
                answer(caller, meter, stringify!($name), &arguments, |call| call.$name($($argument),*))
            })?;)*
            linker.func_wrap(MODULE, PROC_EXIT, |mut caller: Caller<'_, T>, code: i32, meter: i64| {
                let calls = &mut AsMut::<World>::as_mut(caller.data_mut()).calls;
                calls.begin(PROC_EXIT, &[("code", u64::from(code.cast_unsigned()))]);
                calls.end(ENDED);
                AsMut::<Fuel>::as_mut(caller.data_mut()).keep(meter);
                Err::<i64, _>(wasmtime::Error::new(Stop::Exit(code)))
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

/// What is recorded as the result of a call that ended the run; error numbers are smaller.
const ENDED: u64 = 1 << 32;

/// Runs one call in the calling module's own memory, records it and charges for it, from the reserve before the
/// program's slice.
fn answer<T: AsMut<World> + AsMut<Fuel> + 'static>(
    mut caller: Caller<'_, T>,
    meter: i64,
    name: &str,
    arguments: &[(&str, u64)],
    act: impl FnOnce(&mut Call<'_>) -> Answer<()>,
) -> wasmtime::Result<(i32, i64)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::new(Stop::NoMemory));
    };
    let meter = Meter::from_bits(meter);
    let (memory, data) = memory.data_and_store_mut(&mut caller);
    let fuel = AsMut::<Fuel>::as_mut(data).take(meter)?;
    let mut call = Call { memory, world: data.as_mut(), fuel };
    call.world.calls.begin(name, arguments);
    let result = call.charge(CALL_FUEL).and_then(|()| call.perform(act));
    call.world.calls.end(match &result {
        Ok(()) => 0,
        Err(Fault::Errno(errno)) => *errno as u64,
        Err(Fault::Host(_) | Fault::OutOfFuel) => ENDED,
    });
    let left = call.fuel;
    let meter = AsMut::<Fuel>::as_mut(data).give(left, meter, meter.fuel).to_bits();
    match result {
        Ok(()) => Ok((0, meter)),
        Err(Fault::Errno(errno)) => Ok((i32::from(errno as u16), meter)),
        Err(Fault::Host(error)) => Err(wasmtime::Error::new(Stop::Host(error))),
        Err(Fault::OutOfFuel) => Err(wasmtime::Error::new(Stop::OutOfFuel)),
    }
}

/// A place in memory, some bytes on.
fn after(at: u32, bytes: u32) -> Answer<u32> {
    Ok(at.checked_add(bytes).ok_or(Errno::Fault)?)
}

/// Flags are 16 bits wide.
fn low16(flags: u32) -> Answer<u16> {
    Ok(u16::try_from(flags).map_err(|_| Errno::Inval)?)
}
