//! seccomp(2): loading a filter.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One instruction of classic BPF; the kernel's `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SockFilter {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if a comparison holds.
    pub jt: u8,
    /// How many if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// The filter goes to every thread of the process.
pub const FLAG_TSYNC: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC as u32;
/// Actions other than allow are logged.
pub const FLAG_LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
/// Speculative store bypass stays allowed.
pub const FLAG_SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
/// A descriptor is returned that notifications are read from.
pub const FLAG_NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
/// A thread that can't take the filter is `ESRCH`, not its id; goes with the two flags that return
/// a number each.
pub const FLAG_TSYNC_ESRCH: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32;
/// A task that waits for a received notification can be killed only.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32;

/// Adds a filter to the calling thread, for good. Allocates nothing.
///
/// Returns the listener if `flags` have [`FLAG_NEW_LISTENER`]; it is close-on-exec.
///
/// # Errors
/// Those of seccomp(2): `EACCES` without `CAP_SYS_ADMIN` or no_new_privs, `EINVAL` for a program
/// or a flag that the kernel refuses. `ESRCH` if another thread could not take the filter.
pub fn set_mode_filter(flags: u32, program: &[SockFilter]) -> io::Result<Option<OwnedFd>> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    let raw = libc::sock_fprog {
        len,
        // The kernel only reads; SockFilter has the layout of sock_filter, asserted below.
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: raw and the instructions it points to live across the call, and len is their number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const raw,
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        number if flags & FLAG_NEW_LISTENER != 0 => {
            // SAFETY: with this flag a positive result is a descriptor that was just opened, and
            // that nothing else owns (seccomp(2)).
            Ok(Some(unsafe { OwnedFd::from_raw_fd(number as i32) }))
        }
        // The id of a thread that has another filter tree (TSYNC).
        _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// Whether the kernel has a flag: it looks at flags before the program, and without one says `EFAULT`.
pub fn has_flag(flag: u32) -> bool {
    // This one goes with a listener only (seccomp(2)).
    let others = if flag == FLAG_WAIT_KILLABLE_RECV {
        FLAG_NEW_LISTENER
    } else {
        0
    };
    // SAFETY: there is no program, which the kernel refuses without having changed anything.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flag | others,
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

const _: () = {
    assert!(size_of::<SockFilter>() == size_of::<libc::sock_filter>());
    assert!(align_of::<SockFilter>() == align_of::<libc::sock_filter>());
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_answers_in_its_thread_only() {
        // getppid returns the error number 77; everything else is allowed.
        let program = [
            (0x20, 0, 0, 0),
            (0x15, 0, 1, libc::SYS_getppid as u32),
            (0x06, 0, 0, 0x0005_004d),
            (0x06, 0, 0, 0x7fff_0000),
        ]
        .map(|(code, jt, jf, k)| SockFilter { code, jt, jf, k });
        let getppid = || {
            // SAFETY: getppid has no arguments and no memory effects.
            let result = unsafe { libc::syscall(libc::SYS_getppid) };
            if result == -1 {
                io::Error::last_os_error().raw_os_error()
            } else {
                None
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).unwrap();
                assert!(
                    set_mode_filter(FLAG_SPEC_ALLOW, &program)
                        .unwrap()
                        .is_none()
                );
                assert_eq!(getppid(), Some(77));
            });
        });
        assert_eq!(getppid(), None);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        // An ordinary user may load one only without new privileges, which a thread can't take back.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).unwrap();
                for program in [
                    &[][..],
                    &[SockFilter::default(); 1],
                    &vec![SockFilter::default(); 70_000],
                ] {
                    let error = set_mode_filter(0, program).unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
                }
            });
        });
    }
}
