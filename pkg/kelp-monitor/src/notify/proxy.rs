//! A socket in the container through which its program speaks to the service manager, as far as that is its to
//! say.
//!
//! The monitor passes on what the program tells of its own state. Whose process is the main one, who may speak and
//! which descriptors are kept is not the program's to say: its numbers are those of another pid namespace, and
//! what comes along is closed unread, which is all that a barrier asks for (sd_notify_barrier(3)).

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv, socket_with,
};

use super::say_at_once;

/// The directory of the socket, in the container's record.
pub const DIRECTORY: &str = "notify";

/// Where that is in the container.
pub const PLACE: &str = "/run/notify";

/// The socket in it.
pub const NAME: &str = "notify.sock";

/// What is passed on, of sd_notify(3).
const PASSED: [&str; 11] = [
    "BUSERROR",
    "ERRNO",
    "EXIT_STATUS",
    "EXTEND_TIMEOUT_USEC",
    "MONOTONIC_USEC",
    "READY",
    "RELOADING",
    "STATUS",
    "STOPPING",
    "WATCHDOG",
    "WATCHDOG_USEC",
];

/// The longest message that systemd takes (`NOTIFY_BUFFER_MAX`).
const LONGEST: usize = 4096;

/// Messages that are heard before something else is seen to.
const TURN: usize = 16;

/// The socket.
#[derive(Debug)]
pub(crate) struct Proxy {
    socket: OwnedFd,
    /// Whether there is a manager that wants to hear.
    passes: bool,
}

impl Proxy {
    /// Binds it in this record, for everybody in the container.
    pub(crate) fn bind(record: &Path, passes: bool) -> io::Result<Self> {
        let path = record.join(DIRECTORY);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(&path, flags, Mode::empty())?;
        let _ = fs::remove_file(path.join(NAME));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        // Through the directory's descriptor: a socket's path has at most 108 bytes (unix(7)).
        let number = kelp_sys::spawn::number(directory.as_fd());
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{number}/{NAME}"))?;
        bind(&socket, &address)?;
        fs::set_permissions(path.join(NAME), fs::Permissions::from_mode(0o666))?;
        Ok(Self { socket, passes })
    }

    /// What becomes readable when the program has said something.
    pub(crate) fn awaited(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Passes on what the program has said.
    pub(crate) fn turn(&self) {
        for _ in 0..TURN {
            // A byte more than is taken: what is longer is cut off, and not passed on.
            let mut buffer = [0; LONGEST + 1];
            let length = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            if length <= LONGEST
                && let Some(message) = passed(&buffer[..length])
            {
                // As the program would: a manager that does not read holds nobody up.
                if self.passes {
                    say_at_once(&message);
                }
            }
        }
    }
}

/// The lines of a message that are passed on.
fn passed(message: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(message).ok()?;
    let is_passed = |line: &&str| {
        let name = line.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| PASSED.contains(&name))
    };
    let lines: Vec<_> = text.lines().filter(is_passed).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_programs_to_say_is_passed_on() {
        for (message, expected) in [
            (&b"READY=1"[..], Some("READY=1")),
            (b"READY=1\nSTATUS=a=b\n", Some("READY=1\nSTATUS=a=b")),
            (b"MAINPID=1\nREADY=1\nFDSTORE=1", Some("READY=1")),
            (
                b"RELOADING=1\nMONOTONIC_USEC=7",
                Some("RELOADING=1\nMONOTONIC_USEC=7"),
            ),
            (b"WATCHDOG=trigger", Some("WATCHDOG=trigger")),
            (b"BARRIER=1", None),
            (b"NOTIFYACCESS=all", None),
            (b"READY", None),
            (b"ready=1", None),
            (b"STATUS=\xff", None),
            (b"", None),
        ] {
            assert_eq!(passed(message).as_deref(), expected, "{message:?}");
        }
        assert!(PASSED.is_sorted());
    }

    #[test]
    fn everybody_may_write_to_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("d".repeat(120));
        fs::create_dir_all(long.join(DIRECTORY)).unwrap();
        for _ in 0..2 {
            Proxy::bind(&long, true).unwrap();
            let metadata = fs::metadata(long.join(DIRECTORY).join(NAME)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o666);
        }
    }
}
