//! An assembler of classic BPF for seccomp filters.
//!
//! Jumps go forward only and, with a condition, at most 255 instructions far. So a program is
//! written from its end: what a jump leads to is there before the jump, and its distance is known.
//! Where that is too far, an unconditional jump, which has 32 bits, is put in reach.

use std::collections::HashMap;

use kelp_sys::seccomp::SockFilter;

/// `BPF_LD | BPF_W | BPF_ABS`: loads a word of `seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`
pub(super) const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`
pub(super) const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`
pub(super) const EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`
pub(super) const GREATER: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`
pub(super) const NOT_LESS: u16 = 0x35;
/// `BPF_RET | BPF_K`
pub(super) const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
pub(super) const ARGUMENTS: u32 = 16;

/// Two less than the reach of a jump: either target may get an instruction put in front of it.
const REACH: usize = 253;

/// A place in the program, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

#[derive(Default)]
pub(super) struct Assembler {
    reversed: Vec<SockFilter>,
    /// The latest of each return.
    returns: HashMap<u32, Label>,
}

impl Assembler {
    /// Ends the filter with `value`; one that is in reach is used again.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        if let Some(&label) = self.returns.get(&value)
            && self.distance(label) < REACH
        {
            return label;
        }
        let label = self.push(RETURN, 0, 0, value);
        self.returns.insert(value, label);
        label
    }

    /// Compares the accumulator with `k`, and goes to `yes` or `no`.
    pub(super) fn compare(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.in_reach(yes);
        let no = self.in_reach(no);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(code, jt, jf, k)
    }

    /// An instruction that goes on to `next`.
    pub(super) fn then(&mut self, code: u16, k: u32, next: Label) -> Label {
        let distance = self.distance(next);
        if distance > 0 {
            self.push(JUMP, 0, 0, distance as u32);
        }
        self.push(code, 0, 0, k)
    }

    /// The program, which begins with what was written last.
    pub(super) fn finish(mut self) -> Vec<SockFilter> {
        self.reversed.reverse();
        self.reversed
    }

    /// How many instructions the next one would skip to get to `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0 - 1
    }

    fn in_reach(&mut self, label: Label) -> Label {
        let distance = self.distance(label);
        if distance <= REACH {
            return label;
        }
        let target = self.reversed[label.0];
        if target.code == RETURN {
            return self.ret(target.k);
        }
        self.push(JUMP, 0, 0, distance as u32)
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(SockFilter { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }
}
