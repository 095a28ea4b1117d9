//! `unshare`: a command of the host's, run with the ids that containers have.
//!
//! It has a mount namespace of its own, in which its mounts are and with which they end. Containers with the
//! usual id map that are started meanwhile, by whomever, join its user namespace, so that what is called in
//! there can look into them: the process that waits for the command is registered as a monitor is.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use kelp_state::shown::Place;
use kelp_state::{Paths, paths};
use kelp_sys::clone::{Child, CloneFlags, clone3};
use kelp_sys::fd::has_input;
use kelp_sys::namespace::enter_user;
use kelp_sys::process::wait_pidfd;
use kelp_sys::signal::{self, Origin, SIGCHLD, SignalSet, set_mask};
use kelp_sys::spawn::keep_capabilities;
use kelp_userns::shared;
use rustix::process::{
    DumpableBehavior, Pid, Signal, getpid, getppid, set_dumpable_behavior,
    set_parent_process_death_signal,
};

use crate::container::config::UserMode;
use crate::terminal::DEADLY;
use crate::{Engine, Error, host, internal};

/// SIGINT and SIGQUIT, which a terminal sends.
const KEYS: [i32; 2] = [2, 3];

/// SIGUSR1 and SIGUSR2.
const USER: [i32; 2] = [10, 12];

impl Engine {
    /// Becomes who runs `command` in the user namespace of containers and a mount namespace of its own;
    /// returns only if that fails. The calling process must have one thread.
    pub fn unshare(&self, command: &[String]) -> Result<Infallible, Error> {
        let userns = self.user_namespace(host::id_map(&UserMode::Host)?)?;
        enter_user(userns.as_fd()).map_err(Error::io("enter the user namespace"))?;
        keep_capabilities().map_err(Error::io("keep capabilities in the user namespace"))?;
        crate::umask::restore();
        // A fresh exec comes first, so that nothing of the outer namespace's memory is in this one.
        let error = Command::new(internal::own_path()?)
            .args(["internal", "unshare", "--"])
            .args(command)
            // In there kelp has another user id, and would look for other directories.
            .envs(paths::environment()?)
            // Scripts that podman's users have look for these.
            .env("CONTAINERS_GRAPHROOT", &self.paths.data)
            .env("CONTAINERS_RUNROOT", &self.paths.runtime)
            .exec();
        Err(Error::io("start `kelp internal unshare`")(error))
    }
}

/// The role: makes the mount namespace and runs the command; the exit code.
pub(crate) fn role(command: &[String]) -> i32 {
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {}", error.line());
            125
        }
    }
}

fn run(command: &[String]) -> Result<i32, Error> {
    // What containers have in this namespace must not look into it; the command is another program.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    kelp_sys::namespace::unshare_mounts().map_err(Error::io("make a mount namespace"))?;
    let key = host::id_map(&UserMode::Host)?.key();
    let paths = Paths::from_env()?;
    let _registration = shared::register(&paths.runtime, &key, std::process::id())?;
    // A terminal's stop and continue are for both, and are left alone.
    let signals = SignalSet::of(&[DEADLY, &USER, &[SIGCHLD]].concat());
    set_mask(&signals);
    let parent = getpid();
    let child = clone3(CloneFlags::empty(), None, || {
        become_command(command, parent)
    })
    .map_err(Error::io("make a process"))?;
    let code = wait(&child, &signals);
    // Who was started in here keeps the namespace, in which nobody could unmount anything any more.
    for place in Place::all(&paths.data) {
        place.unmount_here();
    }
    code
}

/// Becomes the command, with no signal blocked; the exit code if that fails.
fn become_command(command: &[String], parent: Pid) -> i32 {
    let Some((program, arguments)) = command.split_first() else {
        return 125;
    };
    // Who kills kelp means the command, which nobody else knows of. Set first and looked at second, so that
    // a parent that is killed in between is noticed.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    if getppid() != Some(parent) {
        return 125;
    }
    // It would be inherited.
    set_mask(&SignalSet::empty());
    let error = Command::new(program).args(arguments).exec();
    let code = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    eprintln!(
        "Error: {}",
        Error::io(format!("execute {program}"))(error).line()
    );
    code
}

/// Waits for the command, and passes signals on; its exit code.
fn wait(child: &Child, signals: &SignalSet) -> Result<i32, Error> {
    loop {
        if has_input(child.pidfd.as_fd()) {
            let exit = wait_pidfd(child.pidfd.as_fd());
            return Ok(exit.map_err(Error::io("wait for the command"))?.code());
        }
        match signal::wait_with_origin(signals) {
            None | Some((SIGCHLD, _)) => {}
            // A terminal has sent these to the command as well.
            Some((number, Origin::Kernel)) if KEYS.contains(&number) => {}
            Some((number, _)) => drop(signal::kill(child.pid, number)),
        }
    }
}
