//! What a profile says about a call, word by word, with none of the compiler's code: for tests.

use std::collections::{HashMap, HashSet};

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
};

use super::arch::Arch;
use super::interpreter::Call;

pub(super) struct Oracle<'a> {
    profile: &'a LinuxSeccomp,
    archs: Vec<Known>,
}

struct Known {
    arch: Arch,
    names: HashMap<u32, &'static str>,
    newest: Option<u32>,
}

impl<'a> Oracle<'a> {
    pub(super) fn new(profile: &'a LinuxSeccomp, archs: &[Arch]) -> Self {
        let mentioned: HashSet<&str> = profile
            .syscalls()
            .iter()
            .flatten()
            .flat_map(|entry| entry.names().iter().map(String::as_str))
            .collect();
        let archs = archs.iter().map(|&arch| {
            let names: HashMap<_, _> = arch.calls().into_iter().collect();
            let newest = names
                .iter()
                .filter(|(number, name)| **number < arch.private() && mentioned.contains(*name))
                .map(|(number, _)| *number)
                .max();
            Known {
                arch,
                names,
                newest,
            }
        });
        Self {
            profile,
            archs: archs.collect(),
        }
    }

    pub(super) fn evaluate(&self, call: &Call) -> u32 {
        let profile = self.profile;
        let default = value(profile.default_action(), profile.default_errno_ret());
        let enosys = if default >> 16 == 5 {
            0x0005_0026
        } else {
            default
        };
        let x86_64 = call.arch == 0xc000_003e;
        if x86_64 && call.number == u32::MAX {
            return enosys;
        }
        let x32 = x86_64 && call.number >= 0x4000_0000;
        let known = self
            .archs
            .iter()
            .find(|known| known.arch.audit() == call.arch && (known.arch == Arch::X32) == x32);
        let Some(known) = known else {
            return 0x8000_0000;
        };
        let name = known.names.get(&call.number).copied().unwrap_or_default();

        let entries = || profile.syscalls().iter().flatten();
        let named = entries().any(|entry| entry.names().iter().any(|listed| listed == name));
        let mut rules = Vec::new();
        for entry in entries() {
            let result = value(entry.action(), entry.errno_ret());
            if result == default {
                continue;
            }
            let args = entry.args().clone().unwrap_or_default();
            let holds = |arg: &LinuxSeccompArg| holds(arg, call, known.arch.narrow());
            let mut indices: Vec<_> = args.iter().map(LinuxSeccompArg::index).collect();
            indices.sort_unstable();
            let twice = indices.windows(2).any(|pair| pair[0] == pair[1]);
            let matches = if twice {
                args.iter().any(holds)
            } else {
                args.iter().all(holds)
            };
            for listed in entry.names() {
                if listed == name {
                    rules.push((args.is_empty(), matches, result));
                }
            }
        }
        let always = rules.iter().find(|(always, ..)| *always);
        let first = rules.iter().find(|(_, matches, _)| *matches);
        if let Some((.., result)) = always.or(first) {
            return *result;
        }

        // The other way to the same call.
        let through = known.arch.multiplexed(name);
        for (other, _) in through.filter(|(_, number)| call.args[0] & 0xffff == *number) {
            for entry in entries().filter(|entry| entry.args().as_ref().is_none_or(Vec::is_empty)) {
                let result = value(entry.action(), entry.errno_ret());
                if result != default && entry.names().iter().any(|listed| listed == other) {
                    return result;
                }
            }
        }
        match known.newest {
            Some(newest) if call.number > newest && !named => enosys,
            _ => default,
        }
    }
}

fn holds(arg: &LinuxSeccompArg, call: &Call, narrow: bool) -> bool {
    let cut = |number: u64| {
        if narrow { number & 0xffff_ffff } else { number }
    };
    let given = cut(call.args[arg.index()]);
    let (one, two) = (cut(arg.value()), cut(arg.value_two().unwrap_or(0)));
    match arg.op() {
        Operator::ScmpCmpNe => given != one,
        Operator::ScmpCmpLt => given < one,
        Operator::ScmpCmpLe => given <= one,
        Operator::ScmpCmpEq => given == one,
        Operator::ScmpCmpGe => given >= one,
        Operator::ScmpCmpGt => given > one,
        Operator::ScmpCmpMaskedEq => given & one == two & one,
    }
}

fn value(action: Action, errno: Option<u32>) -> u32 {
    match action {
        Action::ScmpActKill | Action::ScmpActKillThread => 0,
        Action::ScmpActKillProcess => 0x8000_0000,
        Action::ScmpActTrap => 0x0003_0000,
        Action::ScmpActErrno => 0x0005_0000 + errno.unwrap_or(1),
        Action::ScmpActNotify => 0x7fc0_0000,
        Action::ScmpActTrace => 0x7ff0_0000 + errno.unwrap_or(1),
        Action::ScmpActLog => 0x7ffc_0000,
        Action::ScmpActAllow => 0x7fff_0000,
    }
}
