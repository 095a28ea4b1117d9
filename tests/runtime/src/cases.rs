//! Every case, by theme.

mod lifecycle;
mod mount_options;
mod mounts;
mod namespaces;
mod process;

use crate::case::{Case, Theme};

const fn theme(name: &'static str, cases: &'static [Case]) -> Theme {
    Theme { name, cases }
}

/// All themes, in the order in which they are played.
pub(crate) const THEMES: &[Theme] = &[
    theme("lifecycle", lifecycle::CASES),
    theme("namespaces", namespaces::CASES),
    theme("mounts", mounts::CASES),
    theme("mount_options", mount_options::CASES),
    theme("process", process::CASES),
];
