//! Every case, by theme.

mod bad_input;
mod cgroups;
mod command_line;
mod controllers;
mod device_list;
mod devices;
mod events;
mod exec;
mod hooks;
mod host;
mod lifecycle;
mod mount_options;
mod mounts;
mod namespaces;
mod net_devices;
mod notify;
mod privileges;
mod process;
mod propagation;
mod root;
mod scheduling;
mod seccomp;
mod systemd;
mod terminal;
mod time;
mod users;

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
    theme("hooks", hooks::CASES),
    theme("users", users::CASES),
    theme("time", time::CASES),
    theme("root", root::CASES),
    theme("propagation", propagation::CASES),
    theme("devices", devices::CASES),
    theme("privileges", privileges::CASES),
    theme("host", host::CASES),
    theme("scheduling", scheduling::CASES),
    theme("device_list", device_list::CASES),
    theme("terminal", terminal::CASES),
    theme("seccomp", seccomp::CASES),
    theme("notify", notify::CASES),
    theme("cgroups", cgroups::CASES),
    theme("controllers", controllers::CASES),
    theme("systemd", systemd::CASES),
    theme("net_devices", net_devices::CASES),
    theme("bad_input", bad_input::CASES),
    theme("exec", exec::CASES),
    theme("command_line", command_line::CASES),
    theme("events", events::CASES),
];
