//! Generated names.

use kelp_args::names;
use kelp_state::ContainerId;

use crate::Error;

/// Reserves a new name; those that are taken are passed over.
pub(crate) fn reserve_generated(
    reserve: impl Fn(&str) -> Result<(), kelp_state::Error>,
) -> Result<String, Error> {
    let mut attempt = 0;
    loop {
        let name = generate(attempt);
        attempt += 1;
        match reserve(&name) {
            Ok(()) => return Ok(name),
            Err(kelp_state::Error::NameInUse { .. } | kelp_state::Error::NameOfPod { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A new name, after `attempt` others that were taken.
fn generate(attempt: u32) -> String {
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
