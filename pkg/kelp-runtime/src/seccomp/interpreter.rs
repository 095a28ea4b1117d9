//! Runs a filter as the kernel would: for tests.

use kelp_sys::seccomp::SockFilter;

/// `struct seccomp_data` as the filter sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) arch: u32,
    pub(super) number: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    fn word(&self, at: u32, big_endian: bool) -> u32 {
        match at {
            0 => self.number,
            4 => self.arch,
            16..=60 if at.is_multiple_of(4) => {
                let arg = self.args[(at as usize - 16) / 8];
                let first = at.is_multiple_of(8);
                if first == big_endian {
                    (arg >> 32) as u32
                } else {
                    arg as u32
                }
            }
            _ => panic!("no word at {at}"),
        }
    }
}

/// The result, and how many instructions it took.
pub(super) fn run(program: &[SockFilter], call: &Call, big_endian: bool) -> (u32, usize) {
    let mut accumulator = 0_u32;
    let mut at = 0;
    for steps in 1.. {
        let SockFilter { code, jt, jf, k } = program[at];
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = call.word(k, big_endian),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x06 => return (k, steps),
            _ => panic!("no instruction {code:#x}"),
        }
    }
    unreachable!("a program ends")
}
