//! `--sdnotify`: telling the service manager that the container runs, as sd_notify(3) has it.
//!
//! The monitor says it by itself: it is the unit's main process from then on, and it lives. What a process says
//! that ends at once is lost where the manager asks for its unit after that.

use std::io;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with,
};
use serde::{Deserialize, Serialize};

/// Names the manager's socket in the environment of whoever starts the container.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Who tells the service manager, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// The monitor, once the program runs.
    Conmon,
    /// Nobody.
    Ignore,
}

/// Tells the manager, if there is one, that the service is ready and that this process is its main one.
pub(crate) fn ready(container: &str) -> io::Result<()> {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return Ok(());
    };
    let monitor = std::process::id();
    let message = format!("MAINPID={monitor}\nREADY=1\nSTATUS=container {container} runs");
    tell(socket.as_encoded_bytes(), message.as_bytes())?;
    Ok(())
}

/// Sends one datagram to a path, or to an abstract name, which begins with an at sign there.
fn tell(socket: &[u8], message: &[u8]) -> Result<(), Errno> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(socket)?,
    };
    let flags = SocketFlags::CLOEXEC;
    let from = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    loop {
        match sendto(&from, message, SendFlags::NOSIGNAL, &address) {
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
            tell(text.as_bytes(), b"READY=1").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            tell(path.to_str().unwrap().as_bytes(), b"x"),
            Err(Errno::NOENT)
        );
    }
}
