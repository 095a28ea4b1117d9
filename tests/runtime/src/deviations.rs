//! Where kelp-runtime is not as the specification says, on purpose.

use rustix::process::geteuid;

use crate::case::{Named, Result, Results};

/// A case, whether it is one of an ordinary user's alone, and why.
const DEVIATIONS: &[(&str, bool, &str)] = &[
    (
        "lifecycle/delete_of_a_created_container",
        false,
        "engines delete what they have created and not started, as runc and crun let them",
    ),
    (
        "users/umask_of_the_caller",
        false,
        "images count on 0022, which runc and crun set, whoever calls them",
    ),
    (
        "exec/of_a_created_container",
        true,
        "what waits to be started is out of reach for all but root, so that nothing that is added \
         gets at the program by it that the runtime is",
    ),
];

/// Why kelp-runtime does not pass a case, if that is known.
pub(crate) fn reason((theme, case): Named) -> Option<&'static str> {
    let name = format!("{}/{}", theme.name, case.name);
    DEVIATIONS
        .iter()
        .find(|(known, of_user, _)| *known == name && !(*of_user && geteuid().is_root()))
        .map(|(_, _, why)| *why)
}

/// Whether kelp-runtime is what it is said to be: each case passes that is not on the list, and none that is.
pub(crate) fn are_as_listed(results: &Results) -> bool {
    results.iter().all(|(named, result)| match result {
        Result::Passed => reason(*named).is_none(),
        Result::Failed(_) => reason(*named).is_some(),
        Result::NotApplicable(_) => true,
    })
}
