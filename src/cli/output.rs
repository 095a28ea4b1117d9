//! What the command line says: standard output with errors that are told, and lines on standard error.
//!
//! `println!` panics where its reader has gone or the disk is full, and a result that was not printed
//! is a failure of the command. A stream that another program made non-blocking is waited for.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use kelp_engine::Error;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::isatty;

/// Standard output did not take what was to be said.
#[derive(Debug)]
pub struct Failure(Errno);

impl Failure {
    /// Whether whoever read has seen enough: no error of anybody's, but the end.
    pub fn is_hangup(&self) -> bool {
        self.0 == Errno::PIPE
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&Error::io("write")(self.0).line())
    }
}

impl std::error::Error for Failure {}

/// Writes a text to standard output as it is.
pub fn text(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    write_all(rustix::stdio::stdout(), text.as_ref()).map_err(Failure)
}

/// Writes a line to standard output, at once.
pub fn line(text: impl fmt::Display) -> Result<(), Failure> {
    self::text(format!("{text}\n"))
}

/// Writes a line to standard error, where there is nobody to tell of a failure.
pub fn note(text: impl fmt::Display) {
    let _ = write_all(rustix::stdio::stderr(), format!("{text}\n").as_bytes());
}

/// Writes the line of an error.
pub fn error(text: impl fmt::Display) {
    note(format_args!("Error: {text}"));
}

/// Tells, as podman does, of a terminal that was asked for where none is typed at; the container gets
/// one all the same.
pub fn warn_without_terminal(interactive: bool, tty: bool) {
    if interactive && tty && !isatty(rustix::stdio::stdin()) {
        note(
            "Warning: The input device is not a TTY. The --tty and --interactive flags might not \
             work properly",
        );
    }
}

/// A stream of this process's that takes everything, however long its reader lets it wait.
pub struct Patient<F>(pub F);

impl<F: AsFd> Write for Patient<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(write_some(self.0.as_fd(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = write_some(fd, bytes)?;
        bytes = &bytes[count..];
    }
    Ok(())
}

fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::io::write(fd, bytes) {
            Err(Errno::INTR) => {}
            // The flag belongs to the open file, which others have as well: it is not ours to change.
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            },
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Read;

    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn a_stream_that_does_not_block_gets_everything() {
        let (reader, writer) = pipe().unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        // More than a pipe holds.
        let sent = vec![b'x'; 1 << 20];
        let read = std::thread::spawn(move || {
            let mut received = Vec::new();
            std::fs::File::from(reader).read_to_end(&mut received)
        });
        Patient(writer).write_all(&sent).unwrap();
        assert_eq!(read.join().unwrap().unwrap(), sent.len());
    }

    #[test]
    fn failures_are_said_in_a_line() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = write_all(full.as_fd(), b"x").unwrap_err();
        assert!(!Failure(error).is_hangup());
        assert_eq!(Failure(error).to_string(), "write: no space left on device");
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        assert!(Failure(write_all(writer.as_fd(), b"x").unwrap_err()).is_hangup());
    }
}
