//! A system call that is about to be made, and whether it changes what outlives a process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
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
    /// Those of them that may find a disk full; the runtime directory is in memory.
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

/// Changes by path, whatever it is: the call, which of its arguments that is, and whether it may need space.
const BY_PATH: &[(&str, usize, bool)] = &[
    ("creat", 0, true),
    ("rename", 1, true),
    ("renameat", 3, true),
    ("renameat2", 3, true),
    ("link", 1, true),
    ("linkat", 3, true),
    ("symlink", 1, true),
    ("symlinkat", 2, true),
    ("mkdir", 0, true),
    ("mkdirat", 1, true),
    ("mknod", 0, true),
    ("mknodat", 1, true),
    ("setxattr", 0, true),
    ("lsetxattr", 0, true),
    ("truncate", 0, true),
    ("sync", 0, false),
    ("unlink", 0, false),
    ("unlinkat", 1, false),
    ("rmdir", 0, false),
    ("removexattr", 0, false),
    ("lremovexattr", 0, false),
    ("chmod", 0, false),
    ("fchmodat", 1, false),
    ("fchmodat2", 1, false),
    ("chown", 0, false),
    ("lchown", 0, false),
    ("fchownat", 1, false),
    ("utime", 0, false),
    ("utimes", 0, false),
    ("futimesat", 1, false),
    ("utimensat", 1, false),
];

/// Calls that open a file, and which argument its path is.
const OPENING: &[(&str, usize)] = &[("open", 0), ("openat", 1), ("openat2", 1)];

/// The longest path (PATH_MAX of limits.h).
const PATH_LIMIT: usize = 4096;

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
        let wanted = |needs_space| {
            counted == Counted::Files || needs_space && !self.is_in_runtime_directory()
        };
        let descriptor = |position| self.is_file(self.arguments[position]);
        if let Some((_, position, space)) =
            BY_DESCRIPTOR.iter().find(|(name, ..)| *name == self.name)
        {
            return wanted(*space) && descriptor(*position);
        }
        if let Some((_, _, space)) = BY_PATH.iter().find(|(name, ..)| *name == self.name) {
            return wanted(*space);
        }
        match self.name {
            "open" => changes(self.arguments[1], counted) && wanted(true),
            "openat" => changes(self.arguments[2], counted) && wanted(true),
            "openat2" => changes(self.word(self.arguments[2]), counted) && wanted(true),
            "ioctl" => CLONES.contains(&self.arguments[1]),
            _ => false,
        }
    }

    /// Whether its file is below $XDG_RUNTIME_DIR.
    fn is_in_runtime_directory(&self) -> bool {
        const VARIABLE: &[u8] = b"XDG_RUNTIME_DIR=";
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let directory = variables.find_map(|variable| variable.strip_prefix(VARIABLE));
        let directory = directory.map(|name| PathBuf::from(OsStr::from_bytes(name)));
        directory.is_some_and(|directory| {
            self.object()
                .is_some_and(|path| path.starts_with(directory))
        })
    }

    /// What it is made on, as far as that can be told without following anything.
    fn object(&self) -> Option<PathBuf> {
        if let Some((_, position, _)) = BY_DESCRIPTOR.iter().find(|(name, ..)| *name == self.name) {
            return self.path(self.arguments[*position]);
        }
        let by_path = BY_PATH.iter().map(|(name, position, _)| (name, position));
        let opening = OPENING.iter().map(|(name, position)| (name, position));
        let (name, position) = by_path
            .chain(opening)
            .find(|(name, _)| **name == self.name)?;
        let path = self.text(self.arguments[*position])?;
        // Their directory is the argument before; creat(2) has none.
        let is_at = name.ends_with("at") || name.ends_with("at2");
        match position.checked_sub(1).filter(|_| is_at) {
            Some(directory) => Some(
                self.path(self.arguments[directory])
                    .unwrap_or_default()
                    .join(path),
            ),
            None => Some(path),
        }
    }

    /// A path in the caller's memory.
    fn text(&self, address: u64) -> Option<PathBuf> {
        let memory = File::open(format!("/proc/{}/mem", self.pid)).ok()?;
        let mut bytes = vec![0; PATH_LIMIT];
        // What lies behind it may not be mapped: what can be read is read.
        let count = memory.read_at(&mut bytes, address).ok()?;
        bytes.truncate(count);
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(PathBuf::from(OsStr::from_bytes(&bytes[..end])))
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
        let file = self.object().map(|path| path.display().to_string());
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
