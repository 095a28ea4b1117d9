//! `--sdnotify`: telling the service manager that the container runs, as sd_notify(3) has it.
//!
//! The monitor says it by itself: it is the unit's main process from then on, and it lives. What a process says
//! that ends at once is lost where the manager asks for its unit after that.

pub mod proxy;

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with,
};
use rustix::process::{PidfdFlags, getpid, getppid, pidfd_open};
use serde::{Deserialize, Serialize};

/// Names the manager's socket in the environment of whoever starts the container.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Who tells the service manager that the service is ready, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// The monitor, once the program runs.
    Conmon,
    /// The program, through [`proxy`].
    Container,
    /// The monitor, once a health check was passed.
    Healthy,
    /// Nobody.
    Ignore,
}

/// How long a manager may take to read what it was told before.
const PATIENCE: Duration = Duration::from_secs(5);

impl Notify {
    /// Tells the manager, if there is one, that the program runs and that this process is the main one of the
    /// service; whether that is ready is told by whoever is to.
    pub(crate) fn begun(self, container: &str) -> io::Result<()> {
        let monitor = std::process::id();
        let rest = match self {
            Self::Ignore => return Ok(()),
            Self::Conmon => format!("READY=1\nSTATUS=container {container} runs"),
            Self::Container => format!("STATUS=container {container} runs and is not ready yet"),
            Self::Healthy => format!("STATUS=container {container} runs and is not healthy yet"),
        };
        say(&format!("MAINPID={monitor}\n{rest}"))
    }

    /// The container has passed a health check for the first time.
    pub(crate) fn healthy(self, container: &str) {
        if self == Self::Healthy {
            let _ = say(&format!("READY=1\nSTATUS=container {container} is healthy"));
        }
    }
}

/// In how many microseconds the manager wants to hear, again and again, that the service lives, if it has said so to
/// the process that started this one (sd_watchdog_enabled(3)).
pub(crate) fn watchdog() -> Option<u64> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let starter = getppid().map(|pid| pid.as_raw_pid().unsigned_abs().into());
    let is_meant = std::env::var_os("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == starter;
    number("WATCHDOG_USEC").filter(|time| is_meant && *time > 0)
}

/// Where there is a manager, goes on in a child, which that manager, the reaper of its services, has become the parent
/// of. It does not wait for the end of a main process that is somebody else's child: it sends it SIGKILL as soon as
/// `ExecStop=` is over, and the service has failed.
///
/// The caller must have one thread.
pub(crate) fn leave_starter() -> io::Result<()> {
    if std::env::var_os(SOCKET).is_none() {
        return Ok(());
    }
    let left = pidfd_open(getpid(), PidfdFlags::empty())?;
    kelp_sys::clone::fork_and(|_| 0)?;
    // Readable once its children are the reaper's.
    let mut ended = [PollFd::new(&left, PollFlags::IN)];
    while matches!(poll(&mut ended, None), Err(Errno::INTR)) {}
    Ok(())
}

/// Tells the manager something, if there is one.
fn say(message: &str) -> io::Result<()> {
    match std::env::var_os(SOCKET) {
        Some(socket) => Ok(tell(
            socket.as_encoded_bytes(),
            message.as_bytes(),
            SendFlags::empty(),
        )?),
        None => Ok(()),
    }
}

/// Tells the manager something, if there is one, unless it has yet to read what it was told before: then this is
/// lost.
pub fn say_at_once(message: &str) {
    if let Some(socket) = std::env::var_os(SOCKET) {
        let flags = SendFlags::DONTWAIT;
        let _ = tell(socket.as_encoded_bytes(), message.as_bytes(), flags);
    }
}

/// Sends one datagram to a path, or to an abstract name, which begins with an at sign there.
fn tell(socket: &[u8], message: &[u8], how: SendFlags) -> Result<(), Errno> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(socket)?,
    };
    let flags = SocketFlags::CLOEXEC;
    let from = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    set_socket_timeout(&from, Timeout::Send, Some(PATIENCE))?;
    loop {
        match sendto(&from, message, SendFlags::NOSIGNAL | how, &address) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("kelp-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, text) in [
            (UnixDatagram::bind(&path), path.to_str().unwrap().to_owned()),
            (UnixDatagram::bind_addr(&address), format!("@{name}")),
        ] {
            let socket = socket.unwrap();
            tell(text.as_bytes(), b"READY=1", SendFlags::empty()).unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            tell(path.to_str().unwrap().as_bytes(), b"x", SendFlags::DONTWAIT),
            Err(Errno::NOENT)
        );
    }
}
