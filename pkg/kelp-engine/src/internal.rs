//! The hidden roles, and starting them.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use kelp_monitor::role::Handed;
use kelp_runtime::sockets::Sockets;
use kelp_state::paths;
use kelp_sys::clone::Child;
use kelp_sys::exec::CStringArray;
use kelp_sys::process::{Exit, wait_pidfd};
use kelp_sys::spawn::Spawn;
use kelp_userns::UserNamespace;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::{ContainerId, Engine, Error, container, doctor_overlay, garbage, host, pod, unshare};

/// Runs the hidden role that `args` name; the exit code.
pub fn run(args: &[String]) -> i32 {
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["monitor", id, preserved, sockets, whose] => monitor(id, preserved, sockets, whose, false),
        ["monitor", id, preserved, sockets, whose, "enters"] => {
            monitor(id, preserved, sockets, whose, true)
        }
        ["copy", id, request] => on_container(id, |engine, id| {
            container::copy::role::run(engine, id, request)
        }),
        ["diff", id] => on_container(id, container::diff::role),
        ["diff-layers", top, ..] => container::diff::layers_role(top, &words[2..]),
        ["exec", id] => on_container(id, container::exec::keeper::run),
        ["empty", ..] => garbage::empty_role(&words[1..]),
        ["own", ..] => host::own_role(&words[1..]),
        ["pause"] => pod::pause::run(),
        ["pack", id, what] => {
            on_container(id, |engine, id| container::pack::role(engine, id, what))
        }
        ["podman-layer", ..] => kelp_image::transport::podman::assemble::main(&args[1..]),
        ["populate", ..] => kelp_image::populate::main(&args[1..]),
        ["probe-overlay", path] => doctor_overlay::role(path),
        ["reap", child] => kelp_runtime::reaper::run(child),
        ["sibling", ..] => kelp_image::sibling::main(&args[1..]),
        ["unshare", "--", ..] => unshare::role(&args[2..]),
        ["unpack", ..] => kelp_image::role::unpack_main(&args[1..]),
        ["remove", ..] => kelp_image::role::remove_main(&args[1..]),
        ["usage", ..] => kelp_image::disk::main(&args[1..]),
        ["verify", ..] => kelp_image::verify::verify_main(&args[1..]),
        _ => 125,
    }
}

/// With so many descriptors for the program, of which so many are sockets that it is told of. One that `enters` the
/// user namespace does so before all else.
fn monitor(id: &str, preserved: &str, sockets: &str, whose: &str, enters: bool) -> i32 {
    let (Ok(id), Ok(preserved), Ok(sockets)) = (
        id.parse::<ContainerId>(),
        preserved.parse(),
        sockets.parse(),
    ) else {
        return 125;
    };
    let handed = Handed {
        preserved,
        sockets: Sockets::named(sockets),
        is_main: whose == "main",
        enters,
        ..Handed::default()
    };
    if enters && !kelp_monitor::role::enter_user(&handed) {
        return 125;
    }
    let Ok(engine) = Engine::open() else {
        return 125;
    };
    kelp_monitor::role::run(&engine.paths, id, &handed)
}

/// Runs a role that is about a container.
fn on_container(id: &str, role: impl FnOnce(&Engine, &ContainerId) -> i32) -> i32 {
    match (id.parse(), Engine::open()) {
        (Ok(id), Ok(engine)) => role(&engine, &id),
        _ => 125,
    }
}

/// Descriptors for a role, and the numbers they get there.
pub(crate) type Fds<'a> = Vec<(BorrowedFd<'a>, RawFd)>;

/// Starts this binary in a hidden role, inside `userns`, in a session of its own.
pub(crate) fn spawn(role: &[&str], userns: &UserNamespace, fds: Fds<'_>) -> Result<Child, Error> {
    spawn_until(role, userns, fds, None)
}

/// The same, in the caller's own user namespace; it gets `death_signal` when the thread that starts it
/// ends.
pub(crate) fn spawn_outside(
    role: &[&str],
    fds: Fds<'_>,
    death_signal: Option<Signal>,
) -> Result<Child, Error> {
    start(role, None, fds, death_signal)
}

/// The same, in `userns`; it gets `death_signal` when the thread that starts it ends.
pub(crate) fn spawn_until(
    role: &[&str],
    userns: &UserNamespace,
    fds: Fds<'_>,
    death_signal: Option<Signal>,
) -> Result<Child, Error> {
    start(role, Some(userns.as_fd()), fds, death_signal)
}

fn start(
    role: &[&str],
    userns: Option<BorrowedFd<'_>>,
    fds: Fds<'_>,
    death_signal: Option<Signal>,
) -> Result<Child, Error> {
    let mut argv = vec![cstring("kelp"), cstring("internal")];
    argv.extend(role.iter().copied().map(cstring));
    let own = paths::environment()?;
    let is_own = |name: &OsString| own.iter().any(|(own, _)| name == own);
    let envp = std::env::vars_os()
        .filter(|(name, _)| !is_own(name))
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .chain(own.iter().map(|(name, path)| {
            let path = path.as_os_str().as_bytes();
            (name.as_bytes().to_vec(), path.to_vec())
        }))
        .filter_map(|(name, value)| CString::new([&name[..], b"=", &value].concat()).ok())
        .collect();
    Spawn {
        program: own_binary()?,
        argv: CStringArray::new(argv),
        envp: CStringArray::new(envp),
        fds,
        userns,
        session: true,
        death_signal,
    }
    .start()
    .map_err(Error::io(format!("start `kelp internal {}`", role[0])))
}

/// Runs this binary in a hidden role, inside `userns`; how it ended.
pub(crate) fn run_role(role: &[&str], userns: &UserNamespace) -> Result<Exit, Error> {
    let child = spawn(role, userns, Vec::new())?;
    wait_pidfd(child.pidfd.as_fd())
        .map_err(Error::io(format!("wait for `kelp internal {}`", role[0])))
}

/// The same for a role that says something on standard output; what it said. It is killed when the
/// calling thread ends.
pub(crate) fn run_role_said(
    role: &[&str],
    userns: &UserNamespace,
) -> Result<(Exit, Vec<u8>), Error> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe"))?;
    let fds = vec![(write.as_fd(), 1)];
    let child = spawn_until(role, userns, fds, Some(Signal::KILL))?;
    drop(write);
    let what = || format!("wait for `kelp internal {}`", role[0]);
    let mut said = Vec::new();
    File::from(read)
        .read_to_end(&mut said)
        .map_err(Error::io(what()))?;
    let exit = wait_pidfd(child.pidfd.as_fd()).map_err(Error::io(what()))?;
    Ok((exit, said))
}

/// The file that this process was executed from, also if it has been replaced since. After an execution from a
/// mount of the file alone ([`kelp_runtime::program`]) the link's text is no path to it.
fn own_binary() -> Result<CString, Error> {
    static PATH: OnceLock<Option<CString>> = OnceLock::new();
    PATH.get_or_init(|| {
        const ITSELF: &str = "/proc/self/exe";
        let path = std::fs::read_link(ITSELF).ok()?;
        let itself = std::fs::metadata(ITSELF).ok()?;
        let is_itself =
            |found: Metadata| (found.dev(), found.ino()) == (itself.dev(), itself.ino());
        if std::fs::metadata(&path).is_ok_and(is_itself) {
            return Some(cstring_os(path.as_os_str()));
        }
        Some(cstring(ITSELF))
    })
    .clone()
    .ok_or_else(|| {
        Error::io("find kelp's own binary: is /proc mounted?")(std::io::Error::from(
            std::io::ErrorKind::NotFound,
        ))
    })
}

/// [`own_binary`] as a path.
pub(crate) fn own_path() -> Result<PathBuf, Error> {
    Ok(PathBuf::from(OsStr::from_bytes(own_binary()?.as_bytes())))
}

fn cstring(text: &str) -> CString {
    cstring_os(OsStr::new(text))
}

fn cstring_os(text: &OsStr) -> CString {
    CString::new(text.as_bytes()).unwrap_or_default()
}
