//! Generated names.

use kelp_args::names;
use kelp_state::ContainerId;

/// A new name, after `attempt` others that were taken.
pub(crate) fn generate(attempt: u32) -> String {
    let id = ContainerId::random();
    let number = u64::from_str_radix(&id.as_str()[..16], 16).unwrap_or_default();
    names::attempt(number, attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_are_an_adjective_and_a_surname() {
        let names: Vec<_> = (0..4).map(|_| generate(0)).collect();
        for name in &names {
            let (adjective, surname) = name.split_once('_').unwrap();
            let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(is_word(adjective) && is_word(surname), "{name}");
        }
        assert!(names.iter().any(|name| *name != names[0]), "{names:?}");
        assert!(generate(8).ends_with(|last: char| last.is_ascii_digit()));
    }
}
