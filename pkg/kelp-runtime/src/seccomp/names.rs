//! What a profile may say, by the names that the specification has for it.

use kelp_sys::seccomp as sys;

use super::FLAGS;
use super::arch::Arch;
use super::rules::{ACTIONS, OPERATORS};

/// The actions.
pub fn actions() -> Vec<String> {
    ACTIONS
        .iter()
        .map(|(action, _)| action.to_string())
        .collect()
}

/// The ways to compare an argument.
pub fn operators() -> Vec<String> {
    let names = OPERATORS.iter().map(|(operator, _)| operator.to_string());
    names.collect()
}

/// The architectures.
pub fn architectures() -> Vec<String> {
    let mut names: Vec<_> = Arch::ALL.map(|arch| arch.to_oci().to_string()).into();
    names.sort_unstable();
    names
}

/// The flags.
pub fn flags() -> Vec<String> {
    FLAGS.iter().map(|(flag, _)| flag.to_string()).collect()
}

/// Those that the running kernel has.
pub fn supported_flags() -> Vec<String> {
    let has = FLAGS.iter().filter(|(_, bit)| sys::has_flag(*bit));
    has.map(|(flag, _)| flag.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{
        Arch as OciArch, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag,
        LinuxSeccompOperator as Operator,
    };

    fn is_known<T: serde::de::DeserializeOwned>(name: &str) -> bool {
        serde_json::from_value::<T>(name.into()).is_ok()
    }

    #[test]
    fn names_are_the_specifications() {
        for (names, is_known) in [
            (actions(), is_known::<Action> as fn(&str) -> bool),
            (operators(), is_known::<Operator>),
            (architectures(), is_known::<OciArch>),
            (flags(), is_known::<Flag>),
        ] {
            assert!(names.is_sorted(), "{names:?}");
            for name in &names {
                assert!(is_known(name), "{name}");
            }
        }
        let all = flags();
        assert!(supported_flags().iter().all(|flag| all.contains(flag)));
    }

    #[test]
    fn a_flag_that_no_kernel_has_is_not_supported() {
        assert!(!sys::has_flag(1 << 30));
        assert!(sys::has_flag(sys::FLAG_TSYNC));
    }
}
