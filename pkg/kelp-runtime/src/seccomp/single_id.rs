//! What calls are answered with success where only one id is mapped.
//!
//! Without a range of subordinate ids, a container has user and group 0 and no other, and
//! setgroups(2) is refused for good (user_namespaces(7)). Package managers give files to other
//! owners, and stop at the error. A filter answers such a call with error number 0, which the
//! caller sees as success, and does nothing.
//!
//! A false success can harm, so only these are answered, and only where the true call can't work:
//! - chown and its kind, if an id is neither 0 nor -1: tar, dpkg, rpm and apk need it. The file
//!   stays the user's, which is what every file of the container is. With ids 0 and -1 the call is
//!   made, so that a file that is missing is still an error.
//! - setgroups, always: what starts a session as root (su, sshd, setpriv) sets root's groups first.
//!   The process keeps the user's groups, which it can't give up here in any way.
//!
//! Not answered:
//! - setuid and its kind: a program must not believe that it has dropped privileges when it has
//!   not. It gets EINVAL for an id that is not mapped, and its user learns that this image needs a
//!   range. Nor would an answer be enough for apt, which looks at its ids afterwards; apt is told
//!   to do without its sandbox user ([`APT_SANDBOX`]), and package scripts that run a command as
//!   another user expect that this can fail.
//! - mknod of devices: the node would be missing, and its opening fail at a distance. Fifos,
//!   sockets and the overlay's whiteouts work by themselves.
//! - setxattr of `security.capability`, which works in a user namespace (capabilities(7)); and of
//!   labels, whose failure those who set them expect.
//! - capset, mount, unshare, which work.
//!
//! The answers take the place of an ALLOW in the profile: what it refuses stays refused.

use super::rules::{ALLOW, Compare, Condition, ERRNO, Outcome, Rule};

/// Error number 0.
const SUCCESS: u32 = ERRNO;

/// A file that lets apt work with one id, and its content: for a container whose image has the
/// directory (apt.conf(5)).
pub const APT_SANDBOX: (&str, &str) = (
    "/etc/apt/apt.conf.d/99single-id",
    "APT::Sandbox::User \"root\";\n",
);

/// What `outcome` of the call becomes. `wide_ids` tells that the architecture has calls with 32-bit
/// ids beside older ones with 16 bits.
pub(super) fn pretend(name: &str, wide_ids: bool, outcome: Outcome) -> Outcome {
    let plain = name.strip_suffix("32").unwrap_or(name);
    // The arguments that are ids.
    let ids: &[u8] = match plain {
        "chown" | "lchown" | "fchown" => &[1, 2],
        "fchownat" => &[2, 3],
        "setgroups" => &[],
        _ => return outcome,
    };
    let narrow = wide_ids && plain == name && name != "fchownat";
    // An id is 32 bits; the rest of a register may hold anything.
    let all = if narrow { 0xffff } else { 0xffff_ffff };
    let answers: Vec<Vec<Condition>> = if ids.is_empty() {
        vec![Vec::new()]
    } else {
        let not = |argument, value| Condition {
            argument,
            mask: all,
            compare: Compare::NotEqual,
            value,
        };
        ids.iter()
            .map(|&argument| vec![not(argument, 0), not(argument, all)])
            .collect()
    };
    let mut rules = Vec::new();
    for rule in outcome.rules {
        if rule.result == ALLOW {
            rules.extend(answers.iter().map(|answer| Rule {
                conditions: [rule.conditions.as_slice(), answer].concat(),
                result: SUCCESS,
            }));
        }
        rules.push(rule);
    }
    if outcome.otherwise != ALLOW {
        return Outcome {
            rules,
            otherwise: outcome.otherwise,
        };
    }
    if ids.is_empty() {
        return Outcome {
            rules,
            otherwise: SUCCESS,
        };
    }
    rules.extend(answers.into_iter().map(|conditions| Rule {
        conditions,
        result: SUCCESS,
    }));
    Outcome {
        rules,
        otherwise: ALLOW,
    }
}

#[cfg(test)]
#[path = "single_id_tests.rs"]
mod tests;
