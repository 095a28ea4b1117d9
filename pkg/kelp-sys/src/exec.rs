//! execve(2) and what has to be reset before it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A null-terminated array of C strings, as execve(2) takes it, built before a fork.
pub struct CStringArray {
    pointers: Vec<*const libc::c_char>,
    strings: Vec<CString>,
}

impl CStringArray {
    /// Takes the strings.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain(std::iter::once(std::ptr::null()))
            .collect();
        Self { pointers, strings }
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Replaces the program; returns only on failure.
pub fn execve(program: &CStr, argv: &CStringArray, envp: &CStringArray) -> io::Error {
    // SAFETY: program is null-terminated; both arrays end in null and point into strings that the
    // CStringArray values own.
    unsafe {
        libc::execve(
            program.as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
        )
    };
    io::Error::last_os_error()
}

/// Replaces the program by the file that `fd` names; returns only on failure.
pub fn fexecve(fd: BorrowedFd<'_>, argv: &CStringArray, envp: &CStringArray) -> io::Error {
    // SAFETY: the path is an empty C string, which AT_EMPTY_PATH allows; the arrays as in execve.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Whether the calling process, with the ids and capabilities that it has now, may execute the file that `fd` names.
///
/// # Errors
/// `EACCES` if it may not.
pub fn may_execute(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the path is an empty C string, which AT_EMPTY_PATH allows.
    let result = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::X_OK,
            libc::AT_EMPTY_PATH | libc::AT_EACCESS,
        )
    };
    crate::fd::check(result)
}

/// Sets every signal to its default action and unblocks all of them: ignored signals and the mask
/// survive execve(2), and the Rust runtime ignores SIGPIPE.
pub fn reset_signals() {
    // Of the kernel itself: the C library keeps signals 32 and 33, and its posix_spawn(3) ignores them.
    // All zeroes is a struct sigaction with SIG_DFL, no flags and an empty mask.
    let default = [0_u64; 8];
    for signal in 1..=64 {
        // SAFETY: SIG_DFL runs no code; the array is longer than the kernel's structure. Errors (SIGKILL,
        // SIGSTOP) mean that there is nothing to reset.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8,
            )
        };
    }
    crate::signal::set_mask(&crate::signal::SignalSet::empty());
}
