//! Streams and waiting. Streams are always ready; waiting for clocks alone moves virtual time to the first of them.

use wasmtime::component::{Linker, Resource};

use super::types::{ErrorCode, Input, Output, Pollable, StreamFault};
use super::{Call, Data, Interface};
use crate::wasi::clock::Which;
use crate::wasi::descriptors::Object;
use crate::wasi::types::{Answer, Errno};

/// Most bytes that one call reads, and that a stream says it can take.
const MAX_MOVED_BYTES: u64 = 1 << 20;
/// Pollables of one poll.
const MAX_POLLED: usize = 1_024;

pub(super) fn define<T: Data>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut error = Interface::new(linker, "wasi:io/error")?;
    error.resource("error", |_, _: StreamFault| Ok(()))?;
    error.sure("[method]error.to-debug-string", |call, (fault,): (Resource<StreamFault>,)| {
        Ok(format!("{:?}", ErrorCode::from(call.get(&fault)?.0)))
    })?;
    poll(linker)?;
    let mut streams = Interface::new(linker, "wasi:io/streams")?;
    inputs(&mut streams)?;
    outputs(&mut streams)?;
    Interface::new(linker, "wasi:cli/stdin")?.sure("get-stdin", |call, ()| call.stdin())?;
    Interface::new(linker, "wasi:cli/stdout")?.sure("get-stdout", |call, ()| call.push(Output::Stream(1)))?;
    Interface::new(linker, "wasi:cli/stderr")?.sure("get-stderr", |call, ()| call.push(Output::Stream(2)))
}

fn poll<T: Data>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut poll = Interface::new(linker, "wasi:io/poll")?;
    poll.resource("pollable", |_, _: Pollable| Ok(()))?;
    poll.sure("[method]pollable.ready", |call, (pollable,): (Resource<Pollable>,)| call.is_ready(&pollable))?;
    poll.done("[method]pollable.block", |call, (pollable,): (Resource<Pollable>,)| {
        let wait = call.wait(&pollable)?;
        call.world.clock.sleep(wait);
        Ok(())
    })?;
    poll.sure("poll", |call, (pollables,): (Vec<Resource<Pollable>>,)| call.poll(&pollables))
}

fn inputs<T: Data>(streams: &mut Interface<'_, T>) -> wasmtime::Result<()> {
    streams.resource("input-stream", |world, input: Input| match input {
        Input::Empty => Ok(()),
        Input::File { inode, .. } => world.tree.release(inode),
    })?;
    for name in ["[method]input-stream.read", "[method]input-stream.blocking-read"] {
        streams.stream(name, |call, (input, length): (Resource<Input>, u64)| call.read(&input, length))?;
    }
    for name in ["[method]input-stream.skip", "[method]input-stream.blocking-skip"] {
        streams.stream(name, |call, (input, length): (Resource<Input>, u64)| {
            Ok(call.read(&input, length)?.map(|bytes| bytes.len() as u64))
        })?;
    }
    streams.sure("[method]input-stream.subscribe", |call, (_,): (Resource<Input>,)| call.push(Pollable::Ready))
}

fn outputs<T: Data>(streams: &mut Interface<'_, T>) -> wasmtime::Result<()> {
    streams.resource("output-stream", |world, output: Output| match output {
        Output::Stream(_) => Ok(()),
        Output::File { inode, .. } => world.tree.release(inode),
    })?;
    streams.stream("[method]output-stream.check-write", |_, (_,): (Resource<Output>,)| Ok(Some(MAX_MOVED_BYTES)))?;
    for name in ["[method]output-stream.write", "[method]output-stream.blocking-write-and-flush"] {
        streams.stream(name, |call, (output, bytes): (Resource<Output>, Vec<u8>)| call.write(&output, &bytes))?;
    }
    for name in ["[method]output-stream.flush", "[method]output-stream.blocking-flush"] {
        streams.stream(name, |_, (_,): (Resource<Output>,)| Ok(Some(())))?;
    }
    for name in ["[method]output-stream.write-zeroes", "[method]output-stream.blocking-write-zeroes-and-flush"] {
        streams.stream(name, |call, (output, length): (Resource<Output>, u64)| {
            let length = usize::try_from(length.min(MAX_MOVED_BYTES + 1)).map_err(|_| Errno::Inval)?;
            if length as u64 > MAX_MOVED_BYTES {
                return Err(Errno::Inval.into());
            }
            call.write(&output, &vec![0; length])
        })?;
    }
    for name in ["[method]output-stream.splice", "[method]output-stream.blocking-splice"] {
        streams.stream(name, |call, (output, input, length): (Resource<Output>, Resource<Input>, u64)| {
            let Some(bytes) = call.read(&input, length)? else { return Ok(None) };
            Ok(call.write(&output, &bytes)?.map(|()| bytes.len() as u64))
        })?;
    }
    streams.sure("[method]output-stream.subscribe", |call, (_,): (Resource<Output>,)| call.push(Pollable::Ready))
}

impl Call<'_> {
    fn stdin(&mut self) -> Answer<Resource<Input>> {
        let input = match self.world.descriptors.get(0)?.object {
            Object::Node { inode, .. } => {
                self.world.tree.acquire(inode);
                Input::File { inode, offset: 0 }
            }
            _ => Input::Empty,
        };
        self.push(input)
    }

    /// Reads some bytes; none at all at the end.
    fn read(&mut self, input: &Resource<Input>, length: u64) -> Answer<Option<Vec<u8>>> {
        let Input::File { inode, offset } = *self.get(input)? else { return Ok(None) };
        let left = self.world.tree.file(inode)?.size().saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(length.min(left).min(MAX_MOVED_BYTES)).map_err(|_| Errno::Inval)?];
        self.charge(bytes.len() as u64)?;
        if bytes.is_empty() {
            return Ok((length == 0).then_some(bytes));
        }
        let read = self.world.tree.read(inode, &mut bytes, offset)?;
        bytes.truncate(read);
        *self.get(input)? = Input::File { inode, offset: offset + read as u64 };
        Ok(Some(bytes))
    }

    /// Writes all bytes, or as many as there is room for and then fails.
    fn write(&mut self, output: &Resource<Output>, bytes: &[u8]) -> Answer<Option<()>> {
        self.charge(bytes.len() as u64)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.write_some(output, rest)?;
            rest = &rest[written..];
        }
        Ok(Some(()))
    }

    fn write_some(&mut self, output: &Resource<Output>, bytes: &[u8]) -> Answer<usize> {
        let now = self.world.clock.stamp();
        match *self.get(output)? {
            Output::Stream(fd) => self.world.write(fd, bytes, None),
            Output::File { inode, offset: Some(offset) } => {
                let written = self.world.tree.write(inode, bytes, offset, now)?;
                *self.get(output)? = Output::File { inode, offset: Some(offset + written as u64) };
                Ok(written)
            }
            Output::File { inode, offset: None } => {
                let end = self.world.tree.file(inode)?.size();
                self.world.tree.write(inode, bytes, end, now)
            }
        }
    }

    /// Nanoseconds until a pollable is ready.
    fn wait(&mut self, pollable: &Resource<Pollable>) -> Answer<u64> {
        match *self.get(pollable)? {
            Pollable::Ready => Ok(0),
            Pollable::Until(at) => Ok(self.world.clock.until(Which::Monotonic, at)),
        }
    }

    /// Asking takes time, as reading a clock does: who asks again and again is answered in the end.
    fn is_ready(&mut self, pollable: &Resource<Pollable>) -> Answer<bool> {
        let ready = self.wait(pollable)? == 0;
        if !ready {
            self.world.clock.read(Which::Monotonic);
        }
        Ok(ready)
    }

    fn poll(&mut self, pollables: &[Resource<Pollable>]) -> Answer<Vec<u32>> {
        if pollables.is_empty() || pollables.len() > MAX_POLLED {
            return Err(Errno::Inval.into());
        }
        let waits = pollables.iter().map(|pollable| self.wait(pollable)).collect::<Answer<Vec<_>>>()?;
        let first = waits.iter().min().copied().unwrap_or(0);
        self.world.clock.sleep(first);
        Ok((0..).zip(waits).filter(|(_, wait)| *wait <= first).map(|(index, _)| index).collect())
    }
}
