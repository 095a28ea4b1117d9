//! Calls about which nobody can be asked: the runtime makes them itself under the filter.
//!
//! Who is asked gets the descriptor for it from the runtime, and may know of no call but the program's. A call of
//! the runtime's that waits for an answer could wait for ever, so a profile that asks about one is refused.
//! About execve(2) somebody can be asked: that is the program's beginning.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action, LinuxSyscall};

use crate::error::Error;

/// When a process loads its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// With no_new_privs: last.
    Last,
    /// Without it: while there are capabilities for it, before it waits to be let go.
    Early,
    /// The same where startContainer hooks come after that.
    BeforeHooks,
}

/// What comes after the filter in any case: the descriptor is handed over, sent and closed.
const LAST: [&str; 2] = ["sendmsg", "close"];

/// What a process calls under an early filter until execve(2): the last settings, the wait to be let go, and
/// what memory it takes.
const EARLY: [&str; 14] = [
    "accept4",
    "brk",
    "capset",
    "close_range",
    "faccessat",
    "faccessat2",
    "mmap",
    "mremap",
    "munmap",
    "prctl",
    "recvmsg",
    "rt_sigaction",
    "rt_sigprocmask",
    "statx",
];

/// What it calls for hooks.
const HOOKS: [&str; 20] = [
    "clone",
    "clone3",
    "dup2",
    "dup3",
    "fcntl",
    "fstat",
    "lseek",
    "memfd_create",
    "newfstatat",
    "openat",
    "pidfd_open",
    "poll",
    "ppoll",
    "pread64",
    "prlimit64",
    "read",
    "vfork",
    "wait4",
    "waitid",
    "write",
];

/// Refuses a profile that asks somebody about a call of the runtime's own.
///
/// # Errors
/// [`Error::Spec`], with a way out.
pub fn check_asked(profile: &LinuxSeccomp, loaded: Loaded) -> Result<(), Error> {
    let mut actions = profile
        .syscalls()
        .iter()
        .flatten()
        .map(LinuxSyscall::action);
    let is_notify = |action| action == Action::ScmpActNotify;
    if !is_notify(profile.default_action()) && !actions.any(is_notify) {
        return Ok(());
    }
    let find = |names: &[&'static str]| names.iter().copied().find(|name| asks(profile, name));
    let why = if let Some(name) = find(&LAST) {
        format!("{name}: the runtime calls it to hand over the descriptor to be asked by")
    } else {
        let early = (loaded != Loaded::Last).then_some(&EARLY[..]);
        let hooks = (loaded == Loaded::BeforeHooks).then_some(&HOOKS[..]);
        let Some(name) = [early, hooks].into_iter().flatten().find_map(find) else {
            return Ok(());
        };
        format!(
            "{name}, which the runtime calls under the filter before the program runs: set \
             process.noNewPrivileges, with which the filter comes last"
        )
    };
    Err(Error::Spec(format!(
        "linux.seccomp: nobody can be asked about {why}"
    )))
}

/// Whether somebody may be asked about a call. The first rule without conditions decides ([`super::rules`]).
fn asks(profile: &LinuxSeccomp, name: &str) -> bool {
    let rules = profile.syscalls().iter().flatten();
    let mut rules = rules.filter(|rule| rule.names().iter().any(|it| it == name));
    let is_whole = |rule: &&LinuxSyscall| rule.args().as_ref().is_none_or(Vec::is_empty);
    match rules.clone().find(is_whole) {
        Some(rule) => rule.action() == Action::ScmpActNotify,
        None => {
            profile.default_action() == Action::ScmpActNotify
                || rules.any(|rule| rule.action() == Action::ScmpActNotify)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(default: &str, rules: &Value, loaded: Loaded) -> String {
        let profile = json!({"defaultAction": default, "syscalls": rules});
        let profile = serde_json::from_value(profile).unwrap();
        let checked = check_asked(&profile, loaded);
        checked.map_or_else(|error| error.to_string(), |()| String::new())
    }

    fn asked_about(name: &str, loaded: Loaded) -> String {
        let rules = json!([{"names": ["mkdir", name], "action": "SCMP_ACT_NOTIFY"}]);
        said("SCMP_ACT_ALLOW", &rules, loaded)
    }

    #[test]
    fn about_what_the_runtime_calls_under_the_filter_nobody_is_asked() {
        let all = [Loaded::Last, Loaded::Early, Loaded::BeforeHooks];
        let handed_over = "linux.seccomp: nobody can be asked about sendmsg: the runtime calls it to hand \
            over the descriptor to be asked by";
        for loaded in all {
            assert_eq!(asked_about("sendmsg", loaded), handed_over);
            for name in ["execve", "mount", "mknodat"] {
                assert_eq!(asked_about(name, loaded), "");
            }
        }
        let early = |name| {
            format!(
                "linux.seccomp: nobody can be asked about {name}, which the runtime calls under the filter \
                 before the program runs: set process.noNewPrivileges, with which the filter comes last"
            )
        };
        for (name, refused) in [("recvmsg", &all[1..]), ("wait4", &all[2..])] {
            for loaded in all {
                let expected = if refused.contains(&loaded) {
                    early(name)
                } else {
                    String::new()
                };
                assert_eq!(asked_about(name, loaded), expected);
            }
        }
    }

    #[test]
    fn the_default_and_conditions_count() {
        let allowed = json!([{"names": LAST, "action": "SCMP_ACT_ALLOW"}]);
        assert_eq!(said("SCMP_ACT_NOTIFY", &allowed, Loaded::Last), "");
        let unasked = said("SCMP_ACT_NOTIFY", &allowed, Loaded::Early);
        assert!(unasked.contains(EARLY[0]), "{unasked}");
        assert!(said("SCMP_ACT_NOTIFY", &json!([]), Loaded::Last).contains("sendmsg"));
        let some = json!([{
            "names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY",
            "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}],
        }]);
        assert!(said("SCMP_ACT_ALLOW", &some, Loaded::Last).contains("sendmsg"));
    }
}
