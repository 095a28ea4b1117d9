//! Starting another process in a running container.
//!
//! A joiner ([`crate::joiner`]) enters the container's namespaces through the init's pidfd in one
//! setns(2), and nothing stands between the caller and the process. The joiner's memory belongs to
//! the outer user namespace and is not dumpable: nothing inside can look into it or reach the file
//! it runs from.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_sys::clone::{Child, CloneFlags, clone3_sibling};
use kelp_sys::fd::{close_but, has_input};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::console::Console;
use crate::error::{Error, Failure, Step};
use crate::joiner::{Beginning, through_joiner};
use crate::launch::{READY, Starting, Stdio, pair};
use crate::message::send;
use crate::plan::ProcessPlan;
use crate::process::{self, Identity, Tie};
use crate::rootfd::Root;
use crate::rootfs;

/// A container to start a process in.
pub struct Target<'a> {
    /// Its init.
    pub init: BorrowedFd<'a>,
    /// The init's process id, for telling namespaces apart.
    pub pid: u32,
    /// Its cgroup, where the caller may start a process in it.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Who moves the process there otherwise, by number. It is asked while the process has the caller's ids and
    /// namespaces: systemd moves nobody who has become another (its `AttachProcessesToUnit`).
    pub enter_cgroup: Option<&'a dyn Fn(u32) -> Result<(), String>>,
    /// Whether its mount namespace is that of others, whose root is not its own.
    pub joins_mounts: bool,
    /// Whether the process goes on when the caller has ended.
    pub lasts: bool,
}

impl Target<'_> {
    /// Its root directory, where the mount namespace does not lead to that.
    fn root(&self) -> Result<Option<OwnedFd>, Error> {
        if !self.joins_mounts {
            return Ok(None);
        }
        let path = format!("/proc/{}/root", self.pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(&path, flags, Mode::empty()).map_err(io::Error::from);
        let root = root.map_err(Error::io(format!("open {path}")))?;
        // Looked at after that: its number was not another's.
        if has_input(self.init) {
            return Err(Error::Init("the container's init has ended".to_owned()));
        }
        Ok(Some(root))
    }
}

const KINDS: &[(&str, ThreadNameSpaceType)] = &[
    ("user", ThreadNameSpaceType::USER),
    ("mnt", ThreadNameSpaceType::MOUNT),
    ("pid", ThreadNameSpaceType::PROCESS_ID),
    ("net", ThreadNameSpaceType::NETWORK),
    ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
    ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
    ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
    ("time", ThreadNameSpaceType::TIME),
];

/// The namespaces of the init that are not the caller's. One that is the caller's own can't be
/// joined: entering the user namespace one is in is an error (setns(2)).
fn namespaces(pid: u32) -> Result<ThreadNameSpaceType, Error> {
    let mut set = ThreadNameSpaceType::empty();
    for &(name, kind) in KINDS {
        let look = |path: String| rustix::fs::stat(&path).map_err(|error| (path, error));
        let failed =
            |(path, error): (String, Errno)| Error::io(format!("look at {path}"))(error.into());
        let theirs = match look(format!("/proc/{pid}/ns/{name}")) {
            // A kernel without time namespaces.
            Err((_, Errno::NOENT)) if kind == ThreadNameSpaceType::TIME => continue,
            theirs => theirs.map_err(failed)?,
        };
        let ours = look(format!("/proc/self/ns/{name}")).map_err(failed)?;
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino) {
            set |= kind;
        }
    }
    Ok(set)
}

/// Starts the process; [`Starting::execute`] lets it go.
///
/// The caller must have one thread.
pub fn exec(
    plan: &ProcessPlan,
    target: &Target<'_>,
    stdio: Option<Stdio<'_>>,
) -> Result<Starting, Error> {
    let kinds = namespaces(target.pid)?;
    let root = target.root()?;
    plan.scheduling
        .bind_initial()
        .map_err(|failure| Error::Init(failure.text))?;
    let (parent_end, child_end) = pair()?;
    let mut parent_end = Some(parent_end);
    let beginning = Beginning {
        cgroup: target.cgroup,
        before: target.enter_cgroup,
    };
    let child = through_joiner(&plan.program(), beginning, |teller| {
        // Its copy, and the one of its child, would keep that from seeing that the parent's is closed.
        drop(parent_end.take());
        let kept = [teller, child_end.as_fd()];
        join(plan, (target, kinds, root.as_ref()), stdio, kept)
    })?;
    drop(child_end);
    let parent_end = parent_end.expect("the joiner took its own copy");
    Starting::new(child, parent_end, plan.program()).ready()
}

fn join(
    plan: &ProcessPlan,
    (target, kinds, root): (&Target<'_>, ThreadNameSpaceType, Option<&OwnedFd>),
    stdio: Option<Stdio<'_>>,
    [teller, parent]: [BorrowedFd<'_>; 2],
) -> Result<Child, Failure> {
    // Before it is undumpable: what /proc has of an undumpable process is the host's root's.
    process::set_by_proc(plan)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "become undumpable".to_owned())?;
    move_into_thread_name_spaces(target.init, kinds)
        .step(|| "enter the container's namespaces".to_owned())?;
    if let Some(root) = root {
        rootfs::enter(root.as_fd()).step(|| "enter the container's root".to_owned())?;
    }
    // A health check comes from a monitor whose memory belongs to the container's user namespace: whoever has the
    // capability to look into others there would find the host's directories in what this process has open.
    let mut kept = vec![teller, parent];
    kept.extend(stdio.iter().flat_map(|it| [it.stdin, it.stdout, it.stderr]));
    close_but(3 + plan.extras.preserved_fds, &kept).step(|| "close descriptors".to_owned())?;
    clone3_sibling(CloneFlags::empty(), None, || {
        let tie = Tie::Exec {
            lasts: target.lasts,
        };
        let failure = match prepare(plan, stdio, parent) {
            Ok(identity) => process::execute(plan, &identity, parent, tie),
            Err(failure) => failure,
        };
        let _ = send(parent, &failure.to_bytes(), &[]);
        1
    })
    .step(|| "fork inside the container".to_owned())
}

fn prepare(
    plan: &ProcessPlan,
    stdio: Option<Stdio<'_>>,
    parent: BorrowedFd<'_>,
) -> Result<Identity, Failure> {
    // Whoever is inside can stop this process for ever: then it ends with the one that waits for it,
    // whose end of the pair is closed if it has gone already.
    set_parent_process_death_signal(Some(Signal::KILL))
        .step(|| "set the parent death signal".to_owned())?;
    // The new one is dumpable again only by an exec; until then it is the joiner's copy.
    let root = open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step(|| "open the container's root".to_owned())?;
    let root = Root::new(root);
    let identity = Identity::resolve(plan, &root)?;
    if plan.terminal {
        let console = Console::open(&root, plan.terminal_size)?;
        send(parent, &[READY], &[console.master.as_fd()])
            .step(|| "send the terminal".to_owned())?;
        console.adopt(identity.uid)?;
        return Ok(identity);
    }
    send(parent, &[READY], &[]).step(|| "report to the parent".to_owned())?;
    rustix::process::setsid().step(|| "start a session".to_owned())?;
    if let Some(stdio) = stdio {
        process::place_stdio(stdio)?;
    }
    Ok(identity)
}
