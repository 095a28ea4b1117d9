//! netdevice(7): the flags of a network interface.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::fd::check;

/// Brings an interface of the calling thread's network namespace up.
///
/// A fresh namespace has `lo`, and it is down. For a child between fork and exec too: nothing is
/// allocated.
///
/// # Errors
/// `ENODEV` if there is no such interface, `EPERM` without CAP_NET_ADMIN in the user namespace that
/// owns the network namespace, `ENAMETOOLONG` for 16 bytes or more.
pub fn bring_up(interface: &CStr) -> io::Result<()> {
    // SAFETY: ifreq is made of integers and arrays of them, for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.to_bytes();
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    // Any socket will do: it only names the network namespace.
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: SIOCGIFFLAGS reads the name from the ifreq and stores the flags in it; the pointer
    // is valid for one.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFFLAGS as _,
            &raw mut request,
        )
    };
    check(libc::c_long::from(result))?;
    // SAFETY: SIOCGIFFLAGS has just stored this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | (libc::IFF_UP as libc::c_short);
    // SAFETY: SIOCSIFFLAGS reads the name and the flags from the ifreq, both of which are set.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    check(libc::c_long::from(result))
}
