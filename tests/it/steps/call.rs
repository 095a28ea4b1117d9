//! A system call that is about to be made, and whether it changes what outlives a process.

use std::fs;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::Pid;
#[cfg(target_arch = "x86_64")]
use syscalls::Sysno;

/// Which calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Those that change a file, a directory or a lock of the file system's; what goes to a pipe, a socket
    /// or a device changes none.
    Files,
    /// Those of them that may find a file system full.
    Space,
}

/// A call that a thread is about to make.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    name: &'static str,
    arguments: [u64; 6],
    pid: Pid,
}

/// Changes by a descriptor: the call, which of its arguments that is, and whether it may need space.
const BY_DESCRIPTOR: &[(&str, usize, bool)] = &[
    ("write", 0, true),
    ("pwrite64", 0, true),
    ("writev", 0, true),
    ("pwritev", 0, true),
    ("pwritev2", 0, true),
    ("splice", 2, true),
    ("sendfile", 0, true),
    ("copy_file_range", 2, true),
    ("fallocate", 0, true),
    ("ftruncate", 0, true),
    ("fsync", 0, true),
    ("fdatasync", 0, true),
    ("syncfs", 0, true),
    ("sync_file_range", 0, true),
    ("fsetxattr", 0, true),
    ("fremovexattr", 0, false),
    ("fchmod", 0, false),
    ("fchown", 0, false),
    ("flock", 0, false),
];

/// Changes by path, whatever it is; whether they may need space.
const BY_PATH: &[(&str, bool)] = &[
    ("creat", true),
    ("rename", true),
    ("renameat", true),
    ("renameat2", true),
    ("link", true),
    ("linkat", true),
    ("symlink", true),
    ("symlinkat", true),
    ("mkdir", true),
    ("mkdirat", true),
    ("mknod", true),
    ("mknodat", true),
    ("setxattr", true),
    ("lsetxattr", true),
    ("truncate", true),
    ("sync", false),
    ("unlink", false),
    ("unlinkat", false),
    ("rmdir", false),
    ("removexattr", false),
    ("lremovexattr", false),
    ("chmod", false),
    ("fchmodat", false),
    ("fchmodat2", false),
    ("chown", false),
    ("lchown", false),
    ("fchownat", false),
    ("utime", false),
    ("utimes", false),
    ("futimesat", false),
    ("utimensat", false),
];

/// FICLONE and FICLONERANGE of ioctl_ficlonerange(2).
const CLONES: [u64; 2] = [0x4004_9409, 0x4020_940d];

impl Call {
    /// The call at whose beginning a thread is stopped.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn of(pid: Pid) -> Option<Self> {
        let registers = nix::sys::ptrace::getregs(pid).ok()?;
        Some(Self {
            name: Sysno::new(registers.orig_rax as usize)?.name(),
            arguments: [
                registers.rdi,
                registers.rsi,
                registers.rdx,
                registers.r10,
                registers.r8,
                registers.r9,
            ],
            pid,
        })
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn of(_pid: Pid) -> Option<Self> {
        None
    }

    pub(super) fn is_counted(&self, counted: Counted) -> bool {
        let wanted = |needs_space| needs_space || counted == Counted::Files;
        let descriptor = |position| self.is_file(self.arguments[position]);
        if let Some((_, position, space)) =
            BY_DESCRIPTOR.iter().find(|(name, ..)| *name == self.name)
        {
            return wanted(*space) && descriptor(*position);
        }
        if let Some((_, space)) = BY_PATH.iter().find(|(name, _)| *name == self.name) {
            return wanted(*space);
        }
        match self.name {
            "open" => changes(self.arguments[1], counted),
            "openat" => changes(self.arguments[2], counted),
            "openat2" => changes(self.word(self.arguments[2]), counted),
            "ioctl" => CLONES.contains(&self.arguments[1]),
            _ => false,
        }
    }

    /// Whether a descriptor is one of a file system that a disk may have.
    fn is_file(&self, descriptor: u64) -> bool {
        let Some(path) = self.path(descriptor) else {
            // Whose descriptors can't be seen may have any.
            return true;
        };
        path.is_absolute()
            && !["/dev", "/proc", "/sys", "/memfd:"]
                .iter()
                .any(|other| path.to_string_lossy().starts_with(other))
    }

    /// A word of the caller's memory, such as the flags with which `struct open_how` begins.
    fn word(&self, address: u64) -> u64 {
        let address = std::ptr::with_exposed_provenance_mut(address as usize);
        nix::sys::ptrace::read(self.pid, address).unwrap_or_default() as u64
    }

    fn path(&self, descriptor: u64) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/fd/{}", self.pid, descriptor as i32)).ok()
    }

    /// What it was, to be told while the caller is stopped.
    pub(super) fn describe(&self) -> String {
        let command = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let role: Vec<_> = command.split(' ').skip(1).take(2).collect();
        let file = BY_DESCRIPTOR.iter().find(|(name, ..)| *name == self.name);
        let file = file.and_then(|(_, position, _)| self.path(self.arguments[*position]));
        let file = file.map(|path| path.display().to_string());
        format!(
            "{} {} by {:?}",
            self.name,
            file.unwrap_or_default(),
            role.join(" ")
        )
    }
}

/// Whether a file that is opened so is made, emptied, or to be written.
fn changes(flags: u64, counted: Counted) -> bool {
    const ACCESS: u64 = 0o3;
    const CREATE: u64 = 0o100;
    const TRUNCATE: u64 = 0o1000;
    flags & CREATE != 0
        || counted == Counted::Files && (flags & TRUNCATE != 0 || flags & ACCESS != 0)
}

/// The process that a thread is of.
pub(super) fn process_of(thread: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    let number = line.and_then(|number| number.trim().parse().ok());
    Pid::from_raw(number.unwrap_or(thread.as_raw()))
}

/// Has the kernel make no call at all.
#[cfg(target_arch = "x86_64")]
pub(super) fn skip(pid: Pid) -> nix::Result<()> {
    let mut registers = nix::sys::ptrace::getregs(pid)?;
    registers.orig_rax = u64::MAX;
    nix::sys::ptrace::setregs(pid, registers)
}

/// Has the call that has just ended return an error.
#[cfg(target_arch = "x86_64")]
pub(super) fn set_result(pid: Pid, error: Errno) -> nix::Result<()> {
    let mut registers = nix::sys::ptrace::getregs(pid)?;
    registers.rax = -(error as i64) as u64;
    nix::sys::ptrace::setregs(pid, registers)
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn skip(_pid: Pid) -> nix::Result<()> {
    Err(Errno::ENOSYS)
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn set_result(_pid: Pid, _error: Errno) -> nix::Result<()> {
    Err(Errno::ENOSYS)
}
