//! What a regular file holds: shared with its copy where the file system can (ioctl_ficlone(2)),
//! else copied within the kernel (copy_file_range(2)), and its holes left out.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{SeekFrom, Stat, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::{Errno, pread, pwrite};

use crate::Copier;

/// Bytes that are read at a time where the kernel does not copy by itself.
const BUFFER: usize = 128 << 10;

/// The unit of `st_blocks` (stat(3type)).
const BLOCK: u64 = 512;

impl Copier {
    /// Copies the content of a regular file to an empty one.
    pub(crate) fn contents(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        stat: &Stat,
    ) -> io::Result<()> {
        let size = stat.st_size.cast_unsigned();
        if size == 0 {
            return Ok(());
        }
        if self.reflinks {
            match ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                // Not these file systems, and so no file of theirs.
                Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::NOSYS) => {
                    self.reflinks = false;
                }
                // Not this file.
                Err(_) => {}
            }
        }
        if stat.st_blocks.cast_unsigned() * BLOCK >= size {
            return self.range(from, to, 0, size);
        }
        ftruncate(to, size)?;
        let mut at = 0;
        while at < size {
            let start = match seek(from, SeekFrom::Data(at)) {
                Ok(start) => start,
                // A hole to the end.
                Err(Errno::NXIO) => break,
                // No holes are known: all of it is data.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => return self.range(from, to, at, size),
                Err(error) => return Err(error.into()),
            };
            at = seek(from, SeekFrom::Hole(start))?.min(size);
            self.range(from, to, start, at)?;
        }
        Ok(())
    }

    /// Copies the bytes from `at` to `end`; a file that has become shorter ends the copy.
    fn range(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        mut at: u64,
        end: u64,
    ) -> io::Result<()> {
        while at < end {
            let (mut source, mut target) = (at, at);
            let length = usize::try_from(end - at).unwrap_or(usize::MAX);
            match copy_file_range(from, Some(&mut source), to, Some(&mut target), length) {
                Ok(0) => return Ok(()),
                Ok(copied) => at += copied as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::IO) => {
                    return self.by_hand(from, to, at, end);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(crate) fn by_hand(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        mut at: u64,
        end: u64,
    ) -> io::Result<()> {
        self.buffer.resize(BUFFER, 0);
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
            let read = pread(from, &mut self.buffer[..most], at)?;
            if read == 0 {
                return Ok(());
            }
            let mut written = 0;
            while written < read {
                written += pwrite(to, &self.buffer[written..read], at + written as u64)?;
            }
            at += read as u64;
        }
        Ok(())
    }
}
