//! bpf(2): programs that decide which devices the processes of a cgroup may use.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::fd::check;

/// One instruction of eBPF; the kernel's `struct bpf_insn` (linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    operand: i32,
}

impl Instruction {
    /// What to do, with which registers; how many instructions to skip, or where in memory; the operand.
    pub const fn new(code: u8, target: u8, source: u8, offset: i16, operand: i32) -> Self {
        // Two bit fields in C, which lie in the order of the machine's bytes.
        let registers = if cfg!(target_endian = "little") {
            target | source << 4
        } else {
            target << 4 | source
        };
        Self {
            code,
            registers,
            offset,
            operand,
        }
    }

    /// What it was made from: code, target, source, offset and operand.
    pub const fn parts(self) -> (u8, u8, u8, i16, i32) {
        let (low, high) = (self.registers & 0xf, self.registers >> 4);
        let (target, source) = if cfg!(target_endian = "little") {
            (low, high)
        } else {
            (high, low)
        };
        (self.code, target, source, self.offset, self.operand)
    }

    /// The same with another offset.
    #[must_use]
    pub const fn with_offset(self, offset: i16) -> Self {
        Self { offset, ..self }
    }
}

// `enum bpf_cmd`
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;

/// `BPF_PROG_TYPE_CGROUP_DEVICE`
const TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: beside those that cgroups above it have, which all must allow as well.
const ALLOW_MULTI: u32 = 2;
/// `BPF_F_REPLACE` (Linux 5.6).
const REPLACE: u32 = 4;

/// `BPF_OBJ_NAME_LEN`, with the zero at the end.
const NAME: usize = 16;
/// How many programs of one cgroup are looked at; the kernel attaches no more (`BPF_CGROUP_MAX_PROGS`).
const MOST: usize = 64;

/// The members of `union bpf_attr` for `BPF_PROG_LOAD`, up to the name.
#[repr(C)]
struct Load {
    kind: u32,
    length: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME],
}

/// Those for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// Those for `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// Those for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Those for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    program: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`, of which the kernel stores as much as there is room for.
#[repr(C)]
#[derive(Default)]
struct Info {
    /// Type, id, tag, lengths, addresses, load time, owner, number of maps and their address.
    before: [u64; 8],
    name: [u8; NAME],
}

const _: () = {
    assert!(size_of::<Instruction>() == 8);
    assert!(size_of::<Load>() == 64);
    assert!(size_of::<Attach>() == 20);
    assert!(size_of::<Query>() == 32);
    assert!(size_of::<GetInfo>() == 16);
    assert!(size_of::<Info>() == 80);
};

/// A command with its attributes. `T` is one of the structures above that goes with the command, with
/// addresses in it that are valid for what the command does.
fn command<T>(number: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes no more than the size that is given, and every caller in this file
    // passes the command's own structure, whose addresses are of values that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            number,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    check(result)?;
    Ok(result as i32)
}

/// Takes a descriptor that a command has returned.
fn owned(number: i32) -> OwnedFd {
    // SAFETY: the two commands that this is called after return a descriptor that was just opened, is
    // close-on-exec, and that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Loads a program that decides about devices. `name` has up to 15 bytes: letters, digits, `_` and `.`.
///
/// # Errors
/// `EPERM` without CAP_BPF and CAP_NET_ADMIN in the first user namespace, `EACCES` and `EINVAL` for a program that
/// the kernel does not take, `ENOSYS` where it has no bpf(2).
pub fn load_device_program(program: &[Instruction], name: &CStr) -> io::Result<OwnedFd> {
    let mut attributes = Load {
        kind: TYPE_CGROUP_DEVICE,
        length: program.len() as u32,
        instructions: program.as_ptr() as u64,
        // It calls nothing that asks for a certain one.
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; NAME],
    };
    let bytes = name.to_bytes();
    if bytes.len() >= NAME {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    attributes.name[..bytes.len()].copy_from_slice(bytes);
    command(PROG_LOAD, &mut attributes).map(owned)
}

/// Attaches a program to a cgroup, in the place of `replaced` or beside others. It stays there until it is
/// detached or the cgroup is removed.
///
/// # Errors
/// `EPERM` without the right, or if a cgroup above has one that forbids others; `ENOENT` if `replaced` is not
/// attached there.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attributes = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI | replaced.map_or(0, |_| REPLACE),
        replaced: replaced.map_or(0, |program| program.as_raw_fd() as u32),
    };
    command(PROG_ATTACH, &mut attributes).map(drop)
}

/// Detaches a program from a cgroup.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
    };
    command(PROG_DETACH, &mut attributes).map(drop)
}

/// The programs for devices that are attached to a cgroup itself, and have this name.
pub fn device_programs(cgroup: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MOST];
    let mut attributes = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        padding: 0,
    };
    command(PROG_QUERY, &mut attributes)?;
    let mut found = Vec::new();
    for &id in ids.iter().take(attributes.count as usize) {
        let mut attributes = ById {
            id,
            next: 0,
            flags: 0,
        };
        let program = match command(PROG_GET_FD_BY_ID, &mut attributes) {
            // It has been detached meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            program => owned(program?),
        };
        if is_named(&program, name)? {
            found.push(program);
        }
    }
    Ok(found)
}

fn is_named(program: &OwnedFd, name: &CStr) -> io::Result<bool> {
    let mut info = Info::default();
    let mut attributes = GetInfo {
        program: program.as_raw_fd() as u32,
        length: size_of::<Info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    command(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(CStr::from_bytes_until_nul(&info.name).is_ok_and(|found| found == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_keeps_what_it_was_made_from() {
        let parts = (0x63, 10, 3, -4, 7);
        let (code, target, source, offset, operand) = parts;
        let instruction = Instruction::new(code, target, source, offset, operand);
        assert_eq!(instruction.parts(), parts);
        assert_eq!(instruction.with_offset(9).parts(), (0x63, 10, 3, 9, 7));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let error = load_device_program(&[], c"x").unwrap_err();
        assert!(
            matches!(error.raw_os_error(), Some(libc::E2BIG | libc::EPERM)),
            "{error}"
        );
        let error = load_device_program(&[], c"a_name_of_16_or_more").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    }
}
