//! A profile's meaning: what an architecture's calls lead to.
//!
//! OCI leaves to libseccomp what several rules for one call mean; this is what runc and crun do
//! with it:
//! - a rule whose result is the default's is left out;
//! - the first rule without conditions decides, whatever the others say;
//! - without such a rule, those with conditions are tried in the profile's order;
//! - conditions of a rule hold together, but where two are about one argument, each is a rule of
//!   its own;
//! - names that no table has are passed over, and noted: profiles name calls of every architecture
//!   and of newer kernels;
//! - with a default of ERRNO, a number above the highest one that the profile names is ENOSYS: a
//!   call that is newer than the profile. Programs take that as "not there" and use the older
//!   call; with EPERM they would fail. A default that kills or traps stays what it is;
//! - on an architecture whose arguments are 32 bits wide, values are cut to 32 bits.
//!
//! Two differences: on x32, whose registers are 64 bits wide, all of an argument is compared; and
//! rules with inequalities on several arguments are taken at their word, where libseccomp 2.5 can
//! mix up two of them.
//!
//! Beyond it, a rule for socket(2) or shmat(2) and their like also holds for socketcall(2) and
//! ipc(2) where they are another way to the same call.

use std::cell::Cell;
use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};

use super::arch::Arch;
use super::single_id;
use crate::error::Error;

/// `SECCOMP_RET_*` (linux/seccomp.h)
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const KILL_THREAD: u32 = 0;
pub(super) const TRAP: u32 = 0x0003_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const NOTIFY: u32 = 0x7fc0_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;

/// The actions and what a filter returns for each.
pub(super) const ACTIONS: [(Action, u32); 9] = [
    (Action::ScmpActAllow, ALLOW),
    (Action::ScmpActErrno, ERRNO),
    (Action::ScmpActKill, KILL_THREAD),
    (Action::ScmpActKillProcess, KILL_PROCESS),
    (Action::ScmpActKillThread, KILL_THREAD),
    (Action::ScmpActLog, LOG),
    (Action::ScmpActNotify, NOTIFY),
    (Action::ScmpActTrace, TRACE),
    (Action::ScmpActTrap, TRAP),
];

/// How arguments are compared; by a mask, only what it has.
pub(super) const OPERATORS: [(Operator, Compare); 7] = [
    (Operator::ScmpCmpEq, Compare::Equal),
    (Operator::ScmpCmpGe, Compare::NotLess),
    (Operator::ScmpCmpGt, Compare::Greater),
    (Operator::ScmpCmpLe, Compare::NotGreater),
    (Operator::ScmpCmpLt, Compare::Less),
    (Operator::ScmpCmpMaskedEq, Compare::Equal),
    (Operator::ScmpCmpNe, Compare::NotEqual),
];

pub(super) const EPERM: u32 = 1;
pub(super) const ENOSYS: u32 = 38;
/// The largest error number that a call can return (linux/err.h).
const MAX_ERRNO: u32 = 4095;

/// `argument & mask <compare> value`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) mask: u64,
    pub(super) compare: Compare,
    pub(super) value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    NotGreater,
    Greater,
    NotLess,
}

/// All conditions hold: this is the result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) result: u32,
}

/// What a call leads to: the first rule that holds, or else the last word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outcome {
    pub(super) rules: Vec<Rule>,
    pub(super) otherwise: u32,
}

impl Outcome {
    pub(super) fn always(result: u32) -> Self {
        Self {
            rules: Vec::new(),
            otherwise: result,
        }
    }
}

/// What an architecture's calls lead to.
pub(super) struct CallTable {
    pub(super) arch: Arch,
    /// By number, the lowest first.
    pub(super) calls: Vec<(u32, Outcome)>,
    /// Calls that are in no rule.
    pub(super) default: u32,
    /// The highest number that the profile names, and the result above it.
    pub(super) known: u32,
    pub(super) beyond: u32,
}

/// A profile, checked.
pub(super) struct Rules<'a> {
    by_name: HashMap<&'a str, Named>,
    pub(super) default: u32,
    single_id: bool,
}

/// The rules for a name.
#[derive(Default)]
struct Named {
    list: Vec<Rule>,
    /// Whether a table has the name.
    exists: Cell<bool>,
}

impl<'a> Rules<'a> {
    /// Checks `profile`; without one, every call is allowed.
    pub(super) fn new(profile: Option<&'a LinuxSeccomp>, single_id: bool) -> Result<Self, Error> {
        let Some(profile) = profile else {
            return Ok(Self {
                by_name: HashMap::new(),
                default: ALLOW,
                single_id,
            });
        };
        let default = result(profile.default_action(), profile.default_errno_ret())?;
        if default == NOTIFY {
            return Err(Error::Spec(
                "seccomp: SCMP_ACT_NOTIFY can't be the default action".to_owned(),
            ));
        }
        let mut by_name: HashMap<&str, Named> = HashMap::new();
        for syscall in profile.syscalls().iter().flatten() {
            let rules = rules(syscall)?;
            for name in syscall.names() {
                let named = by_name.entry(name).or_default();
                named
                    .list
                    .extend(rules.iter().filter(|rule| rule.result != default).cloned());
            }
        }
        Ok(Self {
            by_name,
            default,
            single_id,
        })
    }

    /// What the calls of `arch` lead to.
    pub(super) fn table(&self, arch: Arch) -> CallTable {
        let all: Vec<_> = arch
            .calls()
            .into_iter()
            .map(|(number, name)| (number, name, self.by_name.get(name)))
            .collect();
        let named = all
            .iter()
            .filter(|(number, _, rules)| *number < arch.private() && rules.is_some());
        // A profile that names none says nothing about what is new.
        let known = named.map(|(number, ..)| *number).max().unwrap_or(u32::MAX);
        let beyond = if self.default & !0xffff == ERRNO {
            ERRNO | ENOSYS
        } else {
            self.default
        };
        let wide_ids = self.single_id && all.iter().any(|(_, name, _)| *name == "chown32");
        let mut calls = Vec::with_capacity(all.len());
        for (number, name, rules) in all {
            if let Some(rules) = rules {
                rules.exists.set(true);
            }
            let rules = rules.map(|rules| rules.list.as_slice());
            let otherwise = if rules.is_none() && number > known {
                beyond
            } else {
                self.default
            };
            let mut outcome = self.outcome(arch, name, rules, otherwise);
            if self.single_id {
                outcome = single_id::pretend(name, wide_ids, outcome);
            }
            if outcome != Outcome::always(otherwise) || rules.is_some() {
                calls.push((number, outcome));
            }
        }
        calls.sort_unstable_by_key(|(number, _)| *number);
        CallTable {
            arch,
            calls,
            default: self.default,
            known,
            beyond,
        }
    }

    /// Names that none of the tables made so far has, sorted.
    pub(super) fn unknown(&self) -> Vec<&'a str> {
        let unknown = self.by_name.iter().filter(|(_, rules)| !rules.exists.get());
        let mut names: Vec<&str> = unknown.map(|(name, _)| *name).collect();
        names.sort_unstable();
        names
    }

    fn outcome(&self, arch: Arch, name: &str, rules: Option<&[Rule]>, otherwise: u32) -> Outcome {
        let own = rules.unwrap_or_default();
        if let Some(rule) = own.iter().find(|rule| rule.conditions.is_empty()) {
            return Outcome::always(rule.result);
        }
        let mut rules = own.to_vec();
        for (other, number) in arch.multiplexed(name) {
            // Conditions are about arguments that are in memory there, out of a filter's sight.
            let mut others = self
                .by_name
                .get(other)
                .into_iter()
                .flat_map(|other| &other.list);
            let always = others.find(|rule| rule.conditions.is_empty());
            rules.extend(always.map(|rule| Rule {
                conditions: vec![Condition {
                    argument: 0,
                    // The upper half of ipc's is a version.
                    mask: 0xffff,
                    compare: Compare::Equal,
                    value: number,
                }],
                result: rule.result,
            }));
        }
        Outcome { rules, otherwise }
    }
}

/// The rules that an entry of a profile is.
fn rules(syscall: &LinuxSyscall) -> Result<Vec<Rule>, Error> {
    let result = result(syscall.action(), syscall.errno_ret())?;
    let conditions = syscall
        .args()
        .iter()
        .flatten()
        .map(condition)
        .collect::<Result<Vec<_>, _>>()?;
    let mut seen = 0_u8;
    let mut repeated = false;
    for condition in &conditions {
        repeated |= seen & 1 << condition.argument != 0;
        seen |= 1 << condition.argument;
    }
    if !repeated {
        return Ok(vec![Rule { conditions, result }]);
    }
    Ok(conditions
        .into_iter()
        .map(|condition| Rule {
            conditions: vec![condition],
            result,
        })
        .collect())
}

fn condition(arg: &LinuxSeccompArg) -> Result<Condition, Error> {
    if arg.index() > 5 {
        return Err(Error::Spec(format!(
            "seccomp: a system call has no argument {}",
            arg.index()
        )));
    }
    let mut operators = OPERATORS.iter();
    let compare = operators.find(|(known, _)| *known == arg.op());
    let &(operator, compare) =
        compare.ok_or_else(|| Error::Spec(format!("seccomp: {} is not known here", arg.op())))?;
    let (mask, value) = match operator {
        // Both sides are masked (seccomp_rule_add(3)).
        Operator::ScmpCmpMaskedEq => (
            arg.value(),
            arg.value_two().unwrap_or_default() & arg.value(),
        ),
        _ => (u64::MAX, arg.value()),
    };
    Ok(Condition {
        argument: arg.index() as u8,
        mask,
        compare,
        value,
    })
}

/// The filter's return value for an action (runtime-spec, config-linux.md, "Seccomp").
fn result(action: Action, errno: Option<u32>) -> Result<u32, Error> {
    let mut actions = ACTIONS.iter();
    let base = actions.find(|(known, _)| *known == action);
    // The enumeration has no other ones; one that comes to it is refused until it is in the table.
    let &(_, base) =
        base.ok_or_else(|| Error::Spec(format!("seccomp: {action} is not known here")))?;
    if !matches!(base, ERRNO | TRACE) {
        if errno.is_some() {
            return Err(Error::Spec(format!(
                "seccomp: {action} does not take an error number"
            )));
        }
        return Ok(base);
    }
    let number = errno.unwrap_or(EPERM);
    // A tracer's is any 16-bit message.
    let max = if base == TRACE { 0xffff } else { MAX_ERRNO };
    if number > max {
        return Err(Error::Spec(format!(
            "seccomp: {number} is not an error number"
        )));
    }
    Ok(base | number)
}
