//! Hooks: programs of the host's that are told of a container's steps (runtime-spec, config.md,
//! "POSIX-platform Hooks").

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use oci_spec::runtime::Hook;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::Error;
use crate::record::State;

/// Runs each, with the state on its standard input; the first that fails ends it.
pub(crate) fn run(name: &str, hooks: Option<&Vec<Hook>>, state: &State) -> Result<(), Error> {
    for hook in hooks.into_iter().flatten() {
        one(hook, state).map_err(|why| {
            Error::State(format!("the {name} hook {}: {why}", hook.path().display()))
        })?;
    }
    Ok(())
}

/// The same for hooks whose failure is only told, on standard error.
pub(crate) fn run_all(name: &str, hooks: Option<&Vec<Hook>>, state: &State) {
    for hook in hooks.into_iter().flatten() {
        if let Err(why) = one(hook, state) {
            let _ = writeln!(
                std::io::stderr(),
                "warning: the {name} hook {}: {why}",
                hook.path().display()
            );
        }
    }
}

fn one(hook: &Hook, state: &State) -> Result<(), String> {
    let mut command = Command::new(hook.path());
    if let [name, arguments @ ..] = hook.args().as_deref().unwrap_or_default() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
        command.args(arguments);
    }
    command.env_clear();
    for entry in hook.env().iter().flatten() {
        if let Some((name, value)) = entry.split_once('=') {
            command.env(name, value);
        }
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let failed = |error: std::io::Error| error.to_string();
    let mut child = command.spawn().map_err(failed)?;
    let state = serde_json::to_vec(state).map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may not want to know; the state fits into a pipe.
        let _ = stdin.write_all(&state);
    }
    if let Some(seconds) = hook.timeout() {
        let limit = Duration::from_secs(seconds.unsigned_abs());
        if !ends_within(child.id(), limit).map_err(failed)? {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it ran for longer than its timeout of {seconds} s"));
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(4096).read_to_string(&mut said);
    }
    let said = said.trim();
    Err(if said.is_empty() {
        status.to_string()
    } else {
        format!("{status}: {said}")
    })
}

fn ends_within(pid: u32, limit: Duration) -> std::io::Result<bool> {
    let pid = Pid::from_raw(pid.cast_signed()).ok_or(rustix::io::Errno::SRCH)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    kelp_sys::fd::wait_input(pidfd.as_fd(), limit)
}
