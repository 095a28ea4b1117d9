//! A process of the runtime's own in a container's namespaces: what runs its createContainer hooks.
//!
//! By then the init has the container's OOM score, AppArmor profile and SELinux label, and what it forks has them
//! too; the hooks are the runtime's (runtime-spec, config.md, "CreateContainer Hooks"). So they are run by
//! another child of the caller. The init is undumpable, and nobody else may open its namespaces unless he is the
//! host's root: it sends them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use kelp_sys::clone::{CloneFlags, clone3_sibling};
use kelp_sys::process::{Exit, wait_pidfd};
use oci_spec::runtime::Hook;
use rustix::fs::{Mode, OFlags, fstat, open, stat};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::move_into_link_name_space;

use crate::error::{Error, Failure, Step};
use crate::hooks;
use crate::init::become_root;
use crate::joiner::{Beginning, through_joiner};
use crate::launch::{Guarded, pair};
use crate::message::{receive, send};

/// The namespaces of a process in /proc, in the order in which they are joined: the user namespace gives the
/// right to the others. A kernel without time namespaces lacks the last.
const FILES: [&str; 8] = ["user", "pid", "net", "ipc", "uts", "cgroup", "mnt", "time"];

/// Opens the calling process's namespaces.
pub(crate) fn own_namespaces() -> Result<Vec<OwnedFd>, Failure> {
    let mut all = Vec::new();
    for file in FILES {
        let path = format!("/proc/self/ns/{file}");
        match open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => {}
            namespace => all.push(namespace.step(|| format!("open {path}"))?),
        }
    }
    Ok(all)
}

/// Runs hooks in these namespaces, as their root; `state` is what they are told.
///
/// The caller must have one thread.
pub(crate) fn run_hooks(
    name: &str,
    list: &[Hook],
    namespaces: &[OwnedFd],
    state: &[u8],
) -> Result<(), Error> {
    let others = others(namespaces).map_err(Error::io("look at the container's namespaces"))?;
    let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let (told, teller) = pair()?;
    let child = through_joiner("", Beginning::default(), |_| {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .step(|| "become undumpable".to_owned())?;
        for namespace in others {
            move_into_link_name_space(namespace.as_fd(), None)
                .step(|| "enter the container's namespaces".to_owned())?;
        }
        clone3_sibling(CloneFlags::empty(), None, || {
            let run = || {
                set_parent_process_death_signal(Some(Signal::KILL))
                    .step(|| "set the parent death signal".to_owned())?;
                // Where the caller is, as far as it is there: entering has led to the root.
                let _ = rustix::process::chdir(&directory);
                become_root()?;
                hooks::run(name, list, state).map_err(|error| Failure::hook(&error))
            };
            match run() {
                Ok(()) => 0,
                Err(failure) => {
                    let _ = send(teller.as_fd(), &failure.to_bytes(), &[]);
                    1
                }
            }
        })
        .step(|| "fork inside the container".to_owned())
    })?;
    drop(teller);
    let child = Guarded::new(child);
    let exit = wait_pidfd(child.pidfd.as_fd());
    child.release();
    if exit.map_err(Error::io(format!("wait for the {name} hooks")))? == Exit::Code(0) {
        return Ok(());
    }
    let mut buffer = [0_u8; 4096];
    match receive(told.as_fd(), &mut buffer, RecvFlags::DONTWAIT) {
        Ok((length @ 1.., _)) => Err(Failure::to_error(&buffer[..length], "")),
        _ => Err(Error::Hook(format!("the {name} hooks were killed"))),
    }
}

/// Those that the caller is not in: one that is the caller's own may be out of reach in a user namespace, and
/// the user namespace itself can't be joined then (setns(2)).
fn others(namespaces: &[OwnedFd]) -> io::Result<Vec<&OwnedFd>> {
    let mut others = Vec::new();
    for (file, namespace) in FILES.iter().zip(namespaces) {
        let own = stat(format!("/proc/self/ns/{file}"))?;
        let that = fstat(namespace)?;
        if (own.st_dev, own.st_ino) != (that.st_dev, that.st_ino) {
            others.push(namespace);
        }
    }
    Ok(others)
}
