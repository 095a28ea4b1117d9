//! What the kernel takes as a filter: its own checks, made here, and what runs of it give.

use kelp_runtime::seccomp::Program;

use crate::interpreter::{Call, run};

/// The kernel's `BPF_MAXINSNS`.
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;

/// `AUDIT_ARCH_*` of the architectures that are tried, and one that nobody has.
const ARCHITECTURES: [u32; 5] = [
    0xc000_003e,
    0x4000_0003,
    0xc000_00b7,
    0x8000_0016,
    0x1234_5678,
];

const NUMBERS: [u32; 8] = [0, 1, 59, 231, 435, 600, 0x4000_0001, u32::MAX];

const ARGUMENTS: [u64; 5] = [0, 16, 0xffff_ffff, 1 << 32, u64::MAX];

/// Asserts that the kernel would take it (kernel/seccomp.c, `seccomp_check_filter`; net/core/filter.c,
/// `bpf_check_classic`), and that each run ends with an action.
pub(crate) fn check(program: &Program, big_endian: bool) {
    let instructions = program.instructions();
    let length = instructions.len();
    assert!(
        (1..=MAX_INSTRUCTIONS).contains(&length),
        "{length} instructions"
    );
    for (at, instruction) in instructions.iter().enumerate() {
        let lands = |distance: usize| at + 1 + distance < length;
        let valid = match instruction.code {
            // A word of seccomp_data, which has 64 bytes.
            0x20 => instruction.k.is_multiple_of(4) && instruction.k < 64,
            0x54 => true,
            0x05 => lands(instruction.k as usize),
            0x15 | 0x25 | 0x35 => lands(instruction.jt.into()) && lands(instruction.jf.into()),
            0x06 => is_action(instruction.k),
            _ => false,
        };
        assert!(valid, "instruction {at}: {instruction:?}");
    }
    assert_eq!(instructions[length - 1].code, 0x06, "it runs past its end");
    for arch in ARCHITECTURES {
        for number in NUMBERS {
            for argument in ARGUMENTS {
                let call = Call {
                    arch,
                    number,
                    args: [argument; 6],
                };
                let (action, steps) = run(instructions, &call, big_endian);
                assert!(is_action(action) && steps <= length, "{call:x?}");
            }
        }
    }
}

/// `SECCOMP_RET_*` (linux/seccomp.h), each with what may be in its lower half.
fn is_action(value: u32) -> bool {
    match value & 0xffff_0000 {
        0x0005_0000 => value & 0xffff <= 4095,
        0x7ff0_0000 => true,
        0x8000_0000 | 0 | 0x0003_0000 | 0x7fc0_0000 | 0x7ffc_0000 | 0x7fff_0000 => {
            value.trailing_zeros() >= 16
        }
        _ => false,
    }
}
