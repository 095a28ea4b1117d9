//! Which devices a container may use: `linux.resources.devices` as a program of the cgroup's (runtime-spec,
//! config-linux.md, "Allowed Device list"; cgroup-v2.rst, "Device controller").
//!
//! The rules hold in their order, a later one over those before it, and for each kind of access by itself: to be
//! read and written a device must be allowed both. What no rule is about is denied. After all of them come
//! the devices that every container has, and making any device node, which gives nobody the device; crun and
//! runc have the same ones. So the program asks from the last rule to the first, and is done when all
//! that is asked for is decided.
//!
//! The kernel takes such a program from the machine's root alone. Nobody else needs one: in a user namespace
//! no device can be made, and what is bound there its owner on the host has given.

use std::io;
use std::os::fd::AsFd;

use kelp_sys::bpf::{self, Instruction};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::cgroup::Cgroup;
use crate::error::Error;

/// The program's name, by which it is found again.
const NAME: &std::ffi::CStr = c"kelp_devices";

/// `BPF_DEVCG_DEV_*`
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// `BPF_DEVCG_ACC_*`
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const ALL: u32 = MAKE | READ | WRITE;

/// A rule; `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

const fn allowed(kind: u32, major: Option<u32>, minor: Option<u32>, access: u32) -> Rule {
    Rule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
    }
}

/// What stays allowed.
const DEFAULTS: &[Rule] = &[
    allowed(CHARACTER, None, None, MAKE),
    allowed(BLOCK, None, None, MAKE),
    // null, zero, full, random, urandom
    allowed(CHARACTER, Some(1), Some(3), ALL),
    allowed(CHARACTER, Some(1), Some(5), ALL),
    allowed(CHARACTER, Some(1), Some(7), ALL),
    allowed(CHARACTER, Some(1), Some(8), ALL),
    allowed(CHARACTER, Some(1), Some(9), ALL),
    // tty, console, ptmx, and what is in /dev/pts
    allowed(CHARACTER, Some(5), Some(0), ALL),
    allowed(CHARACTER, Some(5), Some(1), ALL),
    allowed(CHARACTER, Some(5), Some(2), ALL),
    allowed(CHARACTER, Some(136), None, ALL),
];

/// A program that decides about devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFilter {
    instructions: Vec<Instruction>,
}

impl DeviceFilter {
    /// From rules; none for an empty list, by which nothing is said about devices.
    pub fn new(rules: &[LinuxDeviceCgroup]) -> Result<Option<Self>, Error> {
        if rules.is_empty() {
            return Ok(None);
        }
        let mut all = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            let what = |why| format!("linux.resources.devices[{number}]: {why}");
            all.push(Rule::new(rule).map_err(|why| Error::Spec(what(why)))?);
        }
        all.extend(DEFAULTS);
        let instructions = compile(&all);
        Ok(Some(Self { instructions }))
    }

    /// Puts it in force for a cgroup and those below it, in the place of the one that there was.
    pub fn attach(&self, cgroup: &Cgroup) -> Result<(), Error> {
        let what = "linux.resources.devices: ";
        let program = bpf::load_device_program(&self.instructions, NAME)
            .map_err(|error| refused(&format!("{what}load the program"), error))?;
        let attach = || -> io::Result<()> {
            let before = bpf::device_programs(cgroup.as_fd(), NAME)?;
            let mut before = before.iter().map(AsFd::as_fd);
            // In one step: at no moment is nothing in force.
            bpf::attach_device_program(cgroup.as_fd(), program.as_fd(), before.next())?;
            before.try_for_each(|other| bpf::detach_device_program(cgroup.as_fd(), other))
        };
        let path = cgroup.path().display();
        attach().map_err(|error| refused(&format!("{what}attach the program to {path}"), error))
    }
}

fn refused(what: &str, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            " (it takes CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN in the first user namespace)"
        }
        io::ErrorKind::Unsupported => " (the kernel lacks CONFIG_CGROUP_BPF)",
        _ => "",
    };
    Error::io(format!("{what}{hint}"))(error)
}

impl Rule {
    fn new(rule: &LinuxDeviceCgroup) -> Result<Self, String> {
        let kind = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => None,
            LinuxDeviceType::B => Some(BLOCK),
            LinuxDeviceType::C | LinuxDeviceType::U => Some(CHARACTER),
            LinuxDeviceType::P => return Err("a fifo is no device: type is a, b or c".to_owned()),
        };
        let number = |name: &str, number: Option<i64>| match number {
            None | Some(-1) => Ok(None),
            Some(number) => u32::try_from(number)
                .map(Some)
                .map_err(|_| format!("{name} {number}: use a number from 0 on, or -1 for any")),
        };
        let mut access = 0;
        for letter in rule.access().iter().flat_map(|access| access.chars()) {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MAKE,
                _ => return Err(format!("access {letter:?}: use r, w and m")),
            };
        }
        Ok(Self {
            allow: rule.allow(),
            kind,
            major: number("major", rule.major())?,
            minor: number("minor", rule.minor())?,
            // None is said: all.
            access: if access == 0 { ALL } else { access },
        })
    }

    /// Whether it is about every device and every access, so that none before it matters.
    fn is_last_word(&self) -> bool {
        (self.kind, self.major, self.minor) == (None, None, None) && self.access == ALL
    }
}

// Registers. The kernel passes `struct bpf_cgroup_dev_ctx` in the second: access and type in one number, major,
// minor.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// What is asked for and not decided yet.
const LEFT: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Codes (instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbc;
const MOVE_OPERAND: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP: u8 = 0x05;
/// Of 32 bits (Linux 5.1), so that an operand is no negative number.
const JUMP_IF_NOT_EQUAL: u8 = 0x56;
const JUMP_IF_ANY_BIT: u8 = 0x46;
const EXIT: u8 = 0x95;

/// A jump to where the rule ends, which is not known yet.
const TO_THE_NEXT: i16 = i16::MAX;

fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        Instruction::new(LOAD_WORD, KIND, CONTEXT, 0, 0),
        Instruction::new(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        Instruction::new(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        Instruction::new(MOVE, LEFT, KIND, 0, 0),
        Instruction::new(SHIFT_RIGHT, LEFT, 0, 0, 16),
        Instruction::new(AND, KIND, 0, 0, 0xffff),
    ];
    for rule in rules.iter().rev() {
        if rule.is_last_word() {
            // The kernel takes no instruction that is never reached.
            program.extend(answer(rule.allow));
            return program;
        }
        let begin = program.len();
        push_rule(rule, &mut program);
        let end = program.len();
        for (at, instruction) in program.iter_mut().enumerate().skip(begin) {
            if instruction.parts().3 == TO_THE_NEXT {
                // A rule has a dozen of them.
                *instruction = instruction.with_offset((end - at - 1) as i16);
            }
        }
    }
    program.extend(answer(false));
    program
}

fn push_rule(rule: &Rule, program: &mut Vec<Instruction>) {
    let fields = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)];
    for (register, value) in fields {
        if let Some(value) = value {
            let value = value.cast_signed();
            program.push(Instruction::new(
                JUMP_IF_NOT_EQUAL,
                register,
                0,
                TO_THE_NEXT,
                value,
            ));
        }
    }
    if rule.allow {
        let others = (ALL & !rule.access).cast_signed();
        program.extend([
            Instruction::new(AND, LEFT, 0, 0, others),
            Instruction::new(JUMP_IF_NOT_EQUAL, LEFT, 0, TO_THE_NEXT, 0),
        ]);
    } else {
        let access = rule.access.cast_signed();
        program.extend([
            Instruction::new(JUMP_IF_ANY_BIT, LEFT, 0, 1, access),
            Instruction::new(JUMP, 0, 0, TO_THE_NEXT, 0),
        ]);
    }
    program.extend(answer(rule.allow));
}

fn answer(allow: bool) -> [Instruction; 2] {
    [
        Instruction::new(MOVE_OPERAND, RESULT, 0, 0, i32::from(allow)),
        Instruction::new(EXIT, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests;
