//! Calls on descriptors.

use super::{Call, after, low16};
use crate::wasi::fs::Inode;
use crate::wasi::types::{Answer, Errno, FileType, fdflags};

impl Call<'_> {
    pub(super) fn fd_advise(&mut self, fd: u32, _offset: u64, _length: u64, advice: u32) -> Answer<()> {
        self.world.inode(fd)?;
        if advice < 6 { Ok(()) } else { Err(Errno::Inval.into()) }
    }

    pub(super) fn fd_allocate(&mut self, fd: u32, offset: u64, length: u64) -> Answer<()> {
        let inode = self.world.writable(fd)?;
        let end = offset.checked_add(length).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::FBig)?;
        if end > self.world.tree.file(inode)?.size() {
            let now = self.world.clock.stamp();
            self.world.tree.resize(inode, end, now)?;
        }
        Ok(())
    }

    pub(super) fn fd_close(&mut self, fd: u32) -> Answer<()> {
        self.world.close(fd)
    }

    pub(super) fn fd_datasync(&mut self, fd: u32) -> Answer<()> {
        self.fd_sync(fd)
    }

    /// Nothing to do: a run's files need not survive the machine.
    pub(super) fn fd_sync(&mut self, fd: u32) -> Answer<()> {
        self.world.descriptors.get(fd).map(drop)
    }

    pub(super) fn fd_fdstat_get(&mut self, fd: u32, result: u32) -> Answer<()> {
        let kind = self.world.stat(fd)?.kind;
        let descriptor = self.world.descriptors.get(fd)?;
        let mut bytes = [0; 24];
        bytes[0] = kind as u8;
        bytes[2..4].copy_from_slice(&descriptor.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&descriptor.rights.to_le_bytes());
        bytes[16..].copy_from_slice(&descriptor.inheriting.to_le_bytes());
        self.put(result, &bytes)
    }

    pub(super) fn fd_fdstat_set_flags(&mut self, fd: u32, flags: u32) -> Answer<()> {
        let flags = low16(flags)?;
        if flags & !fdflags::ALL != 0 {
            return Err(Errno::Inval.into());
        }
        self.world.descriptors.get_mut(fd)?.flags = flags;
        Ok(())
    }

    /// Rights can only be given up.
    pub(super) fn fd_fdstat_set_rights(&mut self, fd: u32, rights: u64, inheriting: u64) -> Answer<()> {
        let descriptor = self.world.descriptors.get_mut(fd)?;
        if rights & !descriptor.rights != 0 || inheriting & !descriptor.inheriting != 0 {
            return Err(Errno::NotCapable.into());
        }
        (descriptor.rights, descriptor.inheriting) = (rights, inheriting);
        Ok(())
    }

    pub(super) fn fd_filestat_get(&mut self, fd: u32, result: u32) -> Answer<()> {
        let stat = self.world.stat(fd)?;
        self.put(result, &stat.encode())
    }

    pub(super) fn fd_filestat_set_size(&mut self, fd: u32, size: u64) -> Answer<()> {
        self.world.set_size(fd, size)
    }

    pub(super) fn fd_filestat_set_times(&mut self, fd: u32, atime: u64, mtime: u64, flags: u32) -> Answer<()> {
        let inode = self.world.inode(fd)?;
        self.world.set_times(inode, atime, mtime, low16(flags)?)
    }

    pub(super) fn fd_prestat_get(&mut self, fd: u32, result: u32) -> Answer<()> {
        let name = self.world.descriptors.get(fd)?.preopen.ok_or(Errno::BadF)?;
        self.put_u32(result, 0)?;
        self.put_u32(after(result, 4)?, u32::try_from(name.len()).map_err(|_| Errno::Range)?)
    }

    pub(super) fn fd_prestat_dir_name(&mut self, fd: u32, name: u32, length: u32) -> Answer<()> {
        let path = self.world.descriptors.get(fd)?.preopen.ok_or(Errno::BadF)?;
        if (length as usize) < path.len() {
            return Err(Errno::NameTooLong.into());
        }
        self.put(name, path.as_bytes())
    }

    pub(super) fn fd_read(&mut self, fd: u32, buffers: u32, count: u32, result: u32) -> Answer<()> {
        self.read(fd, buffers, count, None, result)
    }

    pub(super) fn fd_pread(&mut self, fd: u32, buffers: u32, count: u32, offset: u64, result: u32) -> Answer<()> {
        self.read(fd, buffers, count, Some(offset), result)
    }

    pub(super) fn fd_write(&mut self, fd: u32, buffers: u32, count: u32, result: u32) -> Answer<()> {
        self.write(fd, buffers, count, None, result)
    }

    pub(super) fn fd_pwrite(&mut self, fd: u32, buffers: u32, count: u32, offset: u64, result: u32) -> Answer<()> {
        self.write(fd, buffers, count, Some(offset), result)
    }

    /// Fills the buffer to its end while there are entries; the last may be cut.
    pub(super) fn fd_readdir(&mut self, fd: u32, buffer: u32, length: u32, cookie: u64, result: u32) -> Answer<()> {
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
        let end = room.start;
        let used = length - u32::try_from(room.len()).map_err(|_| Errno::Range)?;
        self.world.calls.moved(&self.memory[end - used as usize..end]);
        self.charge(u64::from(used))?;
        self.put_u32(result, used)
    }

    pub(super) fn fd_renumber(&mut self, from: u32, to: u32) -> Answer<()> {
        self.world.renumber(from, to)
    }

    pub(super) fn fd_seek(&mut self, fd: u32, delta: u64, whence: u32, result: u32) -> Answer<()> {
        let offset = self.world.seek(fd, delta.cast_signed(), whence)?;
        self.put_u64(result, offset)
    }

    pub(super) fn fd_tell(&mut self, fd: u32, result: u32) -> Answer<()> {
        self.fd_seek(fd, 0, 1, result)
    }

    pub(super) fn sock_accept(&mut self, fd: u32, _flags: u32, _result: u32) -> Answer<()> {
        self.not_a_socket(fd)
    }

    pub(super) fn sock_recv(&mut self, fd: u32, _: u32, _: u32, _: u32, _: u32, _: u32) -> Answer<()> {
        self.not_a_socket(fd)
    }

    pub(super) fn sock_send(&mut self, fd: u32, _: u32, _: u32, _: u32, _: u32) -> Answer<()> {
        self.not_a_socket(fd)
    }

    pub(super) fn sock_shutdown(&mut self, fd: u32, _how: u32) -> Answer<()> {
        self.not_a_socket(fd)
    }

    fn not_a_socket(&mut self, fd: u32) -> Answer<()> {
        self.world.descriptors.get(fd)?;
        Err(Errno::NotSock.into())
    }
}

fn entry_head(next: u64, inode: Inode, kind: FileType, name: &str) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&next.to_le_bytes());
    bytes[8..16].copy_from_slice(&inode.to_le_bytes());
    bytes[16..20].copy_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes[20] = kind as u8;
    bytes
}
