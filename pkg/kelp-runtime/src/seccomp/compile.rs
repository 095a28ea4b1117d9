//! From rules to a program.
//!
//! Numbers with the same outcome that lie side by side become a range, and the ranges a binary
//! search, so that a call takes a dozen instructions of some hundred. Where an outcome does not
//! depend on arguments, the kernel (5.11) finds that out when it loads the filter, and then runs
//! none of it for calls that are allowed.

use std::collections::HashMap;

use kelp_sys::seccomp::SockFilter;

use super::arch::{Arch, X32_BIT};
use super::bpf::{AND, ARCH, ARGUMENTS, Assembler, EQUAL, GREATER, LOAD, Label, NOT_LESS, NUMBER};
use super::rules::{CallTable, Compare, Condition, Outcome};

/// As the kernel's `BPF_MAXINSNS`.
pub(super) const MAX_INSTRUCTIONS: usize = 4096;

/// The program for these tables; a call of another architecture leads to `foreign`.
///
/// A call of x32 that the tables do not have is of another architecture too.
pub(super) fn assemble(tables: &[CallTable], foreign: u32) -> Vec<SockFilter> {
    let mut assembler = Assembler::default();
    let mut next = assembler.ret(foreign);
    // The first of the tables, the machine's own, is written last and so tested first.
    for table in tables.iter().rev() {
        // To a filter, x32 is a part of x86_64.
        if table.arch == Arch::X32 {
            continue;
        }
        let x32 = tables
            .iter()
            .find(|x32| table.arch == Arch::X86_64 && x32.arch == Arch::X32);
        let ranges = ranges(table, x32, foreign);
        let mut outcomes = HashMap::new();
        let search = search(&mut assembler, table.arch, &ranges, &mut outcomes);
        let found = assembler.then(LOAD, NUMBER, search);
        next = assembler.compare(EQUAL, table.arch.audit(), found, next);
    }
    assembler.then(LOAD, ARCH, next);
    assembler.finish()
}

/// Where ranges of numbers begin, and what they lead to; the first begins at 0.
fn ranges<'a>(table: &'a CallTable, x32: Option<&'a CallTable>, foreign: u32) -> Vec<Range<'a>> {
    let mut ranges = Ranges::default();
    ranges.table(table);
    if table.arch == Arch::X86_64 {
        match x32 {
            Some(x32) => ranges.table(x32),
            None => ranges.push(X32_BIT, Target::Fixed(foreign)),
        }
        // What syscall(-1) is in every architecture: a call that does not exist.
        ranges.push(u32::MAX, Target::Fixed(table.beyond));
    }
    ranges.0
}

struct Range<'a> {
    start: u32,
    target: Target<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    Fixed(u32),
    Outcome(&'a Outcome),
}

#[derive(Default)]
struct Ranges<'a>(Vec<Range<'a>>);

impl<'a> Ranges<'a> {
    fn push(&mut self, start: u32, target: Target<'a>) {
        if self.0.last().is_none_or(|last| last.target != target) {
            self.0.push(Range { start, target });
        }
    }

    fn table(&mut self, table: &'a CallTable) {
        let gap = |number| {
            Target::Fixed(if number > table.known {
                table.beyond
            } else {
                table.default
            })
        };
        let mut cursor = if table.arch == Arch::X32 { X32_BIT } else { 0 };
        for (number, outcome) in &table.calls {
            let number = *number;
            if cursor < number {
                self.gap(cursor, number, table.known, gap);
            }
            let target = if outcome.rules.is_empty() {
                Target::Fixed(outcome.otherwise)
            } else {
                Target::Outcome(outcome)
            };
            self.push(number, target);
            cursor = number + 1;
        }
        self.gap(cursor, u32::MAX, table.known, gap);
    }

    /// The numbers from `start` to before `end`, which may lie on both sides of `known`.
    fn gap(&mut self, start: u32, end: u32, known: u32, target: impl Fn(u32) -> Target<'a>) {
        self.push(start, target(start));
        if start <= known && known < end - 1 {
            self.push(known + 1, target(known + 1));
        }
    }
}

fn search<'a>(
    assembler: &mut Assembler,
    arch: Arch,
    ranges: &[Range<'a>],
    outcomes: &mut HashMap<&'a Outcome, Label>,
) -> Label {
    if let [range] = ranges {
        return match range.target {
            Target::Fixed(result) => assembler.ret(result),
            Target::Outcome(outcome) => *outcomes
                .entry(outcome)
                .or_insert_with(|| decide(assembler, arch, outcome)),
        };
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let not_less = search(assembler, arch, high, outcomes);
    let less = search(assembler, arch, low, outcomes);
    assembler.compare(NOT_LESS, high[0].start, not_less, less)
}

/// The rules of an outcome, one after the other.
fn decide(assembler: &mut Assembler, arch: Arch, outcome: &Outcome) -> Label {
    let mut no = assembler.ret(outcome.otherwise);
    for rule in outcome.rules.iter().rev() {
        let mut yes = assembler.ret(rule.result);
        for condition in rule.conditions.iter().rev() {
            yes = test(assembler, arch, *condition, yes, no);
        }
        no = yes;
    }
    no
}

/// One condition on an argument of two 32-bit words, which is all that classic BPF compares.
fn test(
    assembler: &mut Assembler,
    arch: Arch,
    condition: Condition,
    yes: Label,
    no: Label,
) -> Label {
    let (yes, no, compare) = match condition.compare {
        Compare::NotEqual => (no, yes, Compare::Equal),
        Compare::Less => (no, yes, Compare::NotLess),
        Compare::NotGreater => (no, yes, Compare::Greater),
        other => (yes, no, other),
    };
    let last = match compare {
        Compare::Equal => EQUAL,
        Compare::Greater => GREATER,
        _ => NOT_LESS,
    };
    let at = ARGUMENTS + 8 * u32::from(condition.argument);
    let (low_at, high_at) = if arch.big_endian() {
        (at + 4, at)
    } else {
        (at, at + 4)
    };
    let [low, high] = [condition.value as u32, (condition.value >> 32) as u32];
    let [low_mask, high_mask] = [condition.mask as u32, (condition.mask >> 32) as u32];

    let tested = assembler.compare(last, low, yes, no);
    let tested = load(assembler, low_at, low_mask, tested);
    // A half that is masked out and compared with 0 is always equal.
    if arch.narrow() || (high_mask == 0 && high == 0) {
        return tested;
    }
    let equal = assembler.compare(EQUAL, high, tested, no);
    let tested = if compare == Compare::Equal {
        equal
    } else {
        assembler.compare(GREATER, high, yes, equal)
    };
    load(assembler, high_at, high_mask, tested)
}

fn load(assembler: &mut Assembler, at: u32, mask: u32, next: Label) -> Label {
    let next = if mask == u32::MAX {
        next
    } else {
        assembler.then(AND, mask, next)
    };
    assembler.then(LOAD, at, next)
}
