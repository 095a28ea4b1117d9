//! Feeding a pipe from a file that still grows.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

use crate::Error;

/// The size of the pipe in bytes: the most that an ordinary user may ask for.
const PIPE_SIZE: usize = 1 << 20;

/// The buffer in bytes where splice(2) can't be had.
const BUFFER_SIZE: usize = 256 << 10;

/// How far a file has been written.
#[derive(Debug)]
pub(crate) struct Level {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy)]
struct State {
    length: u64,
    complete: bool,
    aborted: bool,
}

impl Level {
    /// A file with so many bytes.
    pub(crate) fn new(length: u64) -> Self {
        Self {
            state: Mutex::new(State {
                length,
                complete: false,
                aborted: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// The file has so many bytes now.
    pub(crate) fn raise(&self, length: u64) {
        self.change(|state| state.length = length);
    }

    /// The file will not grow any more.
    pub(crate) fn complete(&self) {
        self.change(|state| state.complete = true);
    }

    /// Nobody needs the rest, unless it was complete already.
    pub(crate) fn abort(&self) {
        self.change(|state| state.aborted = !state.complete);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until there is more than `position` bytes, or nothing more will come.
    fn wait_beyond(&self, position: u64) -> State {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *self
            .changed
            .wait_while(state, |state| {
                state.length <= position && !state.complete && !state.aborted
            })
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pipe as large as it gets: its reading and its writing end.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let (reader, writer) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe"))?;
    // Past the user's share of pipe memory the kernel says no; the pipe is then a small one.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_SIZE);
    Ok((reader, writer))
}

/// Moves a file, from its first byte on, into a pipe up to the end that `level` announces; false if it
/// was aborted. How far it is `told` hears now and then.
///
/// That the reader has gone is no error here: it knows best why.
pub(crate) fn feed(
    file: &File,
    level: &Level,
    pipe: &OwnedFd,
    told: &mut dyn FnMut(u64),
) -> Result<bool, Error> {
    feed_from(file, 0, level, pipe, told)
}

/// The same from another position on.
pub(crate) fn feed_from(
    file: &File,
    mut position: u64,
    level: &Level,
    pipe: &OwnedFd,
    told: &mut dyn FnMut(u64),
) -> Result<bool, Error> {
    loop {
        let state = level.wait_beyond(position);
        if state.aborted {
            return Ok(false);
        }
        while position < state.length {
            match splice(file, &mut position, pipe, state.length) {
                // Somebody has cut the file; the digest will say so.
                Ok(0) | Err(Errno::PIPE) => return Ok(true),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => {
                    if !copy(file, &mut position, pipe, state.length)? {
                        return Ok(true);
                    }
                }
                Err(error) => return Err(Error::io("feed a layer to the unpacker")(error)),
            }
            told(position);
        }
        if state.complete {
            return Ok(true);
        }
    }
}

fn splice(file: &File, position: &mut u64, pipe: &OwnedFd, end: u64) -> Result<usize, Errno> {
    let length = (end - *position).min(PIPE_SIZE as u64) as usize;
    rustix::pipe::splice(
        file,
        Some(position),
        pipe,
        None,
        length,
        SpliceFlags::empty(),
    )
}

/// The same through a buffer; false if the reader has gone.
fn copy(file: &File, position: &mut u64, pipe: &OwnedFd, end: u64) -> Result<bool, Error> {
    let mut buffer = vec![0; BUFFER_SIZE];
    let wanted = (end - *position).min(BUFFER_SIZE as u64) as usize;
    let read = file
        .read_at(&mut buffer[..wanted], *position)
        .map_err(Error::io("read a partial blob"))?;
    let mut rest = &buffer[..read];
    while !rest.is_empty() {
        match rustix::io::write(pipe, rest) {
            Ok(written) => {
                rest = &rest[written..];
                *position += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(Errno::PIPE) => return Ok(false),
            Err(error) => return Err(Error::io("feed a layer to the unpacker")(error)),
        }
    }
    Ok(read > 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_file_is_fed_while_it_grows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("part");
        let mut writer = File::create(&path).unwrap();
        let piece = vec![7_u8; 3 << 20];
        writer.write_all(&piece).unwrap();
        let level = Arc::new(Level::new(piece.len() as u64));
        let (reader, pipe) = pipe().unwrap();
        let received = thread::spawn(move || {
            let mut bytes = Vec::new();
            File::from(reader).read_to_end(&mut bytes).unwrap();
            bytes
        });
        let file = File::open(&path).unwrap();
        let fed = {
            let level = Arc::clone(&level);
            thread::spawn(move || {
                let mut told = 0;
                let fed = feed(&file, &level, &pipe, &mut |position| told = position).unwrap();
                (fed, told)
            })
        };
        writer.write_all(b"end").unwrap();
        level.raise(piece.len() as u64 + 3);
        level.complete();
        // What comes after the end is an abort that no longer matters.
        level.abort();
        assert_eq!(fed.join().unwrap(), (true, piece.len() as u64 + 3));
        let received = received.join().unwrap();
        assert_eq!(received.len(), piece.len() + 3);
        assert!(received.ends_with(b"end"));
    }

    #[test]
    fn an_abort_ends_the_feeding() {
        let level = Level::new(0);
        level.abort();
        let (_reader, pipe) = pipe().unwrap();
        let file = File::open("/dev/null").unwrap();
        assert!(!feed(&file, &level, &pipe, &mut |_| ()).unwrap());
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("part");
        std::fs::write(&path, [1; 100]).unwrap();
        let level = Level::new(100);
        let (reader, pipe) = pipe().unwrap();
        drop(reader);
        let file = File::open(&path).unwrap();
        assert!(feed(&file, &level, &pipe, &mut |_| ()).unwrap());
        assert!(copy(&File::open(&path).unwrap(), &mut 0, &pipe, 100).is_ok_and(|more| !more));
    }
}
