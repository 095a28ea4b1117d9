//! From a set-up namespace to the program: ids, limits, capabilities, seccomp, exec.
//!
//! The last part of the init, and all of what exec does inside a container.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use kelp_sys::exec::{CStringArray, execve, reset_signals};
use kelp_sys::fd::{cloexec_from, close_but, dup_to};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, mkdirat, open};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags, accept_with};
use rustix::process::{Gid, Signal, Uid, set_parent_process_death_signal, setrlimit, umask};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::capabilities;
use crate::error::{Failure, FailureKind, Step, plain};
use crate::hooks;
use crate::launch::{GO, HELD, LEAVES, LISTENER, Stdio};
use crate::message::{receive, send};
use crate::plan::{Extras, ProcessPlan};
use crate::rootfd::Root;
use crate::user;

/// Who the program runs as.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// From the container's passwd.
    pub(crate) home: Option<Vec<u8>>,
}

impl Identity {
    /// Looks the user up in the container's own files, or takes the plan's numbers.
    pub(crate) fn resolve(plan: &ProcessPlan, root: &Root) -> Result<Self, Failure> {
        let extras = &plan.extras;
        let Some(text) = &extras.user else {
            return Ok(Self {
                uid: plan.uid,
                gid: plan.gid,
                groups: plan.groups.clone(),
                home: extras
                    .set_home
                    .then(|| user::home(root, plan.uid))
                    .flatten(),
            });
        };
        Self::look_up(root, text, &extras.groups)
    }

    /// Of a user by name or number, from the container's own files.
    pub(crate) fn look_up(root: &Root, text: &str, groups: &[String]) -> Result<Self, Failure> {
        let user =
            user::resolve(root, text, groups).map_err(|error| Failure::setup(error.to_string()))?;
        Ok(Self {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            home: Some(user.home.into_bytes()),
        })
    }
}

/// How long a process dies with the one that starts it.
#[derive(Clone, Copy, Debug, Default)]
pub enum Tie<'a> {
    /// For good: a container's first process.
    #[default]
    Life,
    /// One that exec adds: until it becomes the program, or for good.
    Exec {
        /// Whether it goes on without its caller.
        lasts: bool,
    },
    /// The same of a container's first process.
    Start,
    /// Until it waits at this gate.
    Gate(BorrowedFd<'a>),
}

/// Makes the standard streams those of `stdio`.
pub(crate) fn place_stdio(stdio: Stdio<'_>) -> Result<(), Failure> {
    // Copies above the three numbers first: a stream may sit on the place of another.
    let what = || "place the standard streams".to_owned();
    let raised =
        [stdio.stdin, stdio.stdout, stdio.stderr].map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3));
    for (number, fd) in raised.into_iter().enumerate() {
        dup_to(fd.step(what)?.as_fd(), number as i32).step(what)?;
    }
    Ok(())
}

/// Becomes the program; returns only if that failed.
pub(crate) fn execute(
    plan: &ProcessPlan,
    identity: &Identity,
    parent: BorrowedFd<'_>,
    tie: Tie<'_>,
) -> Failure {
    match become_user(plan, identity, parent, tie) {
        Ok(prepared) => run_program(plan, &prepared, parent, tie),
        Err(failure) => failure,
    }
}

struct Prepared {
    env: CStringArray,
    /// Where the program may be.
    candidates: Vec<CString>,
}

fn become_user(
    plan: &ProcessPlan,
    identity: &Identity,
    parent: BorrowedFd<'_>,
    tie: Tie<'_>,
) -> Result<Prepared, Failure> {
    if let Some(persona) = plan.personality {
        kelp_sys::process::set_personality(persona)
            .step(|| "set the execution domain".to_owned())?;
    }
    for &(resource, limit) in &plan.rlimits {
        setrlimit(resource, limit).step(|| format!("set the limit {resource:?}"))?;
    }
    plan.scheduling.apply()?;
    if matches!(tie, Tie::Exec { .. }) {
        plan.scheduling.bind_final()?;
    }
    usual_umask();
    let missing = enter_directory(plan)?;

    capabilities::keep_over_setuid().step(|| "keep the capabilities".to_owned())?;
    // Bounding set, groups, ids, then the rest: each needs a capability that a later step gives
    // up (capabilities(7)).
    capabilities::drop_bounding(&plan.capabilities)
        .step(|| "drop capabilities from the bounding set".to_owned())?;
    set_ids(identity, &plan.extras)?;
    // An init was root before.
    if matches!(tie, Tie::Exec { .. }) || (identity.uid, identity.gid) != (0, 0) {
        tie_again(parent)?;
    }
    if let Some(missing) = missing {
        missing.make_and_enter(plan)?;
    }
    if let Some(asked) = plan.umask {
        umask(Mode::from_raw_mode(asked));
    }
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true).step(|| "set no_new_privs".to_owned())?;
    } else {
        // Without no_new_privs a filter takes CAP_SYS_ADMIN, which the next step may take away.
        capabilities::regain_effective().step(|| "regain the capabilities".to_owned())?;
        load_seccomp(plan, parent)?;
    }
    capabilities::apply(&plan.capabilities).step(|| "set the capabilities".to_owned())?;

    let mut env = plan.env.clone();
    let has = |env: &[CString], name: &[u8]| {
        let mut entries = env.iter().map(CString::as_bytes);
        entries.any(|entry| entry.starts_with(name))
    };
    if plan.extras.set_home && !has(&env, b"HOME=") {
        let home = identity.home.as_deref().filter(|home| !home.is_empty());
        let mut entry = b"HOME=".to_vec();
        entry.extend_from_slice(home.unwrap_or(b"/"));
        env.extend(CString::new(entry));
    }
    if let Some(sockets) = &plan.extras.sockets {
        env.retain(|entry| !entry.as_bytes().starts_with(b"LISTEN_"));
        // Where a reaper is process 1, the program is its first child.
        let pid = std::process::id() + u32::from(plan.extras.init);
        let entries = sockets.environment(pid).into_iter();
        env.extend(entries.filter_map(|entry| CString::new(entry).ok()));
    }
    let watchdog = plan.extras.watchdog;
    if let Some(time) = watchdog.filter(|_| !has(&env, b"WATCHDOG_USEC=")) {
        env.extend(CString::new(format!("WATCHDOG_USEC={time}")));
    }
    let path = env
        .iter()
        .find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="))
        .unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(Prepared {
        candidates: candidates(&plan.argv.strings()[0], path),
        env: CStringArray::new(env),
    })
}

/// The container's own unless it asks for another, and that of what is made for it: whose umask starts it
/// does not matter.
pub(crate) fn usual_umask() {
    umask(Mode::from_raw_mode(0o022));
}

/// Does what is done by files of /proc, and is inherited. The calling process still sees the host's: what is
/// at these paths in a container may be anything.
pub(crate) fn set_by_proc(plan: &ProcessPlan) -> Result<(), Failure> {
    set_oom_score(plan, "self")?;
    set_labels(plan)
}

/// Has the next execve(2) enter what security modules call a profile or a label.
pub(crate) fn set_labels(plan: &ProcessPlan) -> Result<(), Failure> {
    set_profile(plan)?;
    set_label(plan)
}

/// Sets the OOM score of a process, a directory of /proc. To lower it takes a privilege outside of user
/// namespaces.
pub(crate) fn set_oom_score(plan: &ProcessPlan, process: &str) -> Result<(), Failure> {
    let Some(score) = plan.oom_score_adj else {
        return Ok(());
    };
    let what = || format!("set the OOM score to {score}");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let path = format!("/proc/{process}/oom_score_adj");
    let file = open(&path, flags, Mode::empty()).step(what)?;
    rustix::io::write(&file, score.to_string().as_bytes()).step(what)?;
    Ok(())
}

/// Has the next execve(2) take on the SELinux label (setexeccon(3)).
fn set_label(plan: &ProcessPlan) -> Result<(), Failure> {
    let Some(label) = &plan.label else {
        return Ok(());
    };
    let what = || format!("take on the SELinux label {label}");
    if !std::fs::exists("/sys/fs/selinux/enforce").unwrap_or(false) {
        let why = "SELinux is not on here: leave the label out";
        return Err(Failure::setup(format!("{}: {why}", what())));
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = open("/proc/thread-self/attr/exec", flags, Mode::empty()).step(what)?;
    rustix::io::write(&file, label.as_bytes()).step(what)?;
    Ok(())
}

/// Has the next execve(2) enter the AppArmor profile (`aa_change_onexec`).
fn set_profile(plan: &ProcessPlan) -> Result<(), Failure> {
    let Some(profile) = &plan.apparmor else {
        return Ok(());
    };
    let what = || format!("enter the AppArmor profile {profile}");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let open = |path| open(path, flags, Mode::empty());
    let file = match open("/proc/thread-self/attr/apparmor/exec") {
        // Before Linux 5.8, where it may be another module's.
        Err(Errno::NOENT) if has_apparmor() => open("/proc/thread-self/attr/exec"),
        Err(Errno::NOENT) => {
            return Err(Failure::setup(format!(
                "{}: this kernel has no AppArmor: leave the profile out",
                what()
            )));
        }
        file => file,
    }
    .step(what)?;
    match rustix::io::write(&file, format!("exec {profile}").as_bytes()) {
        Err(Errno::NOENT) => Err(Failure::setup(format!(
            "{}: it is not loaded: load it with apparmor_parser(8)",
            what()
        ))),
        result => result.step(what).map(drop),
    }
}

fn has_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text == b"Y\n")
}

fn set_ids(identity: &Identity, extras: &Extras) -> Result<(), Failure> {
    let groups: Vec<_> = identity
        .groups
        .iter()
        .map(|&gid| Gid::from_raw(gid))
        .collect();
    if !extras.keep_groups {
        match set_thread_groups(&groups) {
            // Where only one id is mapped, setgroups(2) is given up for good (user_namespaces(7)).
            Err(Errno::PERM) if extras.single_id || groups.is_empty() => {}
            result => result.step(|| "set the supplementary groups".to_owned())?,
        }
    }
    let gid = Gid::from_raw(identity.gid);
    set_thread_res_gid(gid, gid, gid).step(|| unmapped("group", identity.gid))?;
    let uid = Uid::from_raw(identity.uid);
    set_thread_res_uid(uid, uid, uid).step(|| unmapped("user", identity.uid))
}

/// Sets the parent-death signal once more, which a change of the ids has cleared (prctl(2),
/// `PR_SET_PDEATHSIG`). The parent may have died in between: then its end of the socket is closed.
fn tie_again(parent: BorrowedFd<'_>) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .step(|| "set the parent death signal".to_owned())?;
    let mut ends = [PollFd::from_borrowed_fd(parent, PollFlags::empty())];
    poll(&mut ends, Some(&Timespec::default())).step(|| "look at the parent".to_owned())?;
    if ends[0].revents().contains(PollFlags::HUP) {
        return Err(parent_has_gone());
    }
    Ok(())
}

fn parent_has_gone() -> Failure {
    Failure::setup("the monitor has gone")
}

fn unmapped(kind: &str, id: u32) -> String {
    let file = if kind == "user" {
        "/etc/subuid"
    } else {
        "/etc/subgid"
    };
    format!("become {kind} {id} (ids that are not mapped need a larger range in {file})")
}

/// A working directory that is to be made.
struct Missing {
    parent: OwnedFd,
    name: OsString,
}

/// Enters the working directory; if it is missing, the directories on the way to it are made, which
/// are root's, and the user who will be in it makes the last one.
fn enter_directory(plan: &ProcessPlan) -> Result<Option<Missing>, Failure> {
    match rustix::process::chdir(&plan.cwd) {
        Err(Errno::NOENT) if plan.makes_cwd => {}
        Err(Errno::NOENT) => {
            return Err(Failure {
                kind: FailureKind::NoDirectory,
                text: format!("{}: no such file or directory", entering(plan)),
            });
        }
        result => {
            result.step(|| entering(plan))?;
            return check_directory(plan).map(|()| None);
        }
    }
    let (Some(parent), Some(name)) = (plan.cwd.parent(), plan.cwd.file_name()) else {
        return Err(Errno::NOENT).step(|| entering(plan));
    };
    crate::init::become_root()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open("/", flags, Mode::empty()).step(|| entering(plan))?;
    let parent = Root::new(root)
        .mkdir_all(parent, 0o755)
        .step(|| entering(plan))?;
    Ok(Some(Missing {
        parent,
        name: name.to_owned(),
    }))
}

impl Missing {
    /// Makes it with the ids of the user and every capability: it is the user's from its beginning,
    /// and nothing that is there is given away, whatever others put in its place meanwhile.
    fn make_and_enter(self, plan: &ProcessPlan) -> Result<(), Failure> {
        capabilities::regain_effective().step(|| "regain the capabilities".to_owned())?;
        match mkdirat(&self.parent, &self.name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => {}
            result => result.step(|| entering(plan))?,
        }
        rustix::process::chdir(&plan.cwd).step(|| entering(plan))?;
        check_directory(plan)
    }
}

/// The working directory has to be inside the root: a path through a leaked descriptor would be
/// outside.
fn check_directory(plan: &ProcessPlan) -> Result<(), Failure> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        _ => Err(Failure::setup(format!(
            "{}: it is outside of the container's root",
            entering(plan)
        ))),
    }
}

fn entering(plan: &ProcessPlan) -> String {
    format!("change to the working directory {}", plan.cwd.display())
}

/// Loads the filter. Where it asks somebody about calls, whoever is at the other end of `speaker` gets the
/// descriptor to be asked by.
fn load_seccomp(plan: &ProcessPlan, speaker: BorrowedFd<'_>) -> Result<(), Failure> {
    let Some(program) = &plan.seccomp else {
        return Ok(());
    };
    let what = || "load the seccomp filter".to_owned();
    if let Some(listener) = program.load().step(what)? {
        // Closed here: as long as somebody has one, a call waits also for an agent that is gone.
        send(speaker, &[LISTENER], &[listener.as_fd()]).step(what)?;
    }
    Ok(())
}

fn run_program(
    plan: &ProcessPlan,
    prepared: &Prepared,
    parent: BorrowedFd<'_>,
    tie: Tie<'_>,
) -> Failure {
    if let Tie::Gate(gate) = tie {
        // A program that is not there is better told now than when it is started.
        if let Err(failure) = look_for(&prepared.candidates) {
            return failure;
        }
        return match wait_at(gate, parent, plan) {
            Ok((starter, state)) => {
                let failure = become_program(plan, prepared, (starter.as_fd(), tie), &state);
                let _ = send(starter.as_fd(), &failure.to_bytes(), &[]);
                failure
            }
            Err(failure) => failure,
        };
    }
    let state = match wait_for_go(parent) {
        Ok(state) => state,
        Err(failure) => return failure,
    };
    if matches!(tie, Tie::Exec { lasts: true } | Tie::Start)
        && let Err(failure) = untie()
    {
        return failure;
    }
    become_program(plan, prepared, (parent, tie), &state)
}

fn untie() -> Result<(), Failure> {
    set_parent_process_death_signal(None).step(|| "clear the parent death signal".to_owned())
}

/// Waits until the parent has written down that the container is there, and then until somebody comes to the
/// gate and says the word: their connection, and the state that hooks are told. Whoever comes and goes
/// without it has changed nothing.
fn wait_at(
    gate: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    plan: &ProcessPlan,
) -> Result<(OwnedFd, Vec<u8>), Failure> {
    send(parent, &[HELD], &[]).step(|| "report to the parent".to_owned())?;
    wait_for_go(parent)?;
    close_but(3 + plan.extras.preserved_fds, &[gate, parent])
        .step(|| "close descriptors".to_owned())?;
    untie()?;
    send(parent, &[HELD], &[]).step(|| "report to the parent".to_owned())?;
    loop {
        let starter = match accept_with(gate, SocketFlags::CLOEXEC) {
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            starter => starter.step(|| "wait to be started".to_owned())?,
        };
        if let Ok(state) = wait_for_go(starter.as_fd()) {
            return Ok((starter, state));
        }
    }
}

/// Becomes the program; returns only if that failed. `speaker` hears of what happens on the way, and `state`
/// is what hooks are told.
fn become_program(
    plan: &ProcessPlan,
    prepared: &Prepared,
    (speaker, tie): (BorrowedFd<'_>, Tie<'_>),
    state: &[u8],
) -> Failure {
    if let Err(error) = cloexec_from(3 + plan.extras.preserved_fds) {
        return Failure::setup(format!("close descriptors: {error}"));
    }
    if let Err(error) = hooks::run("startContainer", &plan.start_hooks, state) {
        return Failure::hook(&error);
    }
    reset_signals();
    if plan.extras.init
        && let Err(failure) = crate::reaper::fork_program(plan.terminal, plan.reaper.as_ref())
    {
        return failure;
    }
    if matches!(tie, Tie::Gate(_)) {
        let _ = send(speaker, &[LEAVES], &[]);
    }
    // With no_new_privs the filter comes last: it need not allow what stood before it, and somebody may be asked
    // about all that is called from here on but how the descriptor to be asked by is handed over.
    if plan.no_new_privileges
        && let Err(failure) = load_seccomp(plan, speaker)
    {
        return failure;
    }
    execute_first(&plan.argv, prepared)
}

/// Waits for the word to go on, and the state that comes with it, if any does.
pub(crate) fn wait_for_go(parent: BorrowedFd<'_>) -> Result<Vec<u8>, Failure> {
    let what = || "wait for the parent".to_owned();
    let mut byte = [0_u8; 1];
    let (length, mut fds) = receive(parent, &mut byte, RecvFlags::empty()).step(what)?;
    if length == 0 || byte[0] != GO {
        return Err(parent_has_gone());
    }
    let mut state = Vec::new();
    if let Some(file) = fds.pop() {
        File::from(file).read_to_end(&mut state).step(what)?;
    }
    Ok(state)
}

/// Whether there is a program to be executed, as [`execute_first`] would find it.
fn look_for(candidates: &[CString]) -> Result<(), Failure> {
    let mut found = Err(Errno::NOENT);
    for path in candidates {
        match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
            // As execve(2) has it.
            Ok(()) if place(path).is_dir() => found = Err(Errno::ACCESS),
            Ok(()) => return Ok(()),
            Err(Errno::ACCESS) => found = Err(Errno::ACCESS),
            Err(_) => {}
        }
    }
    found.map_err(|error| exec_failure(&error.into(), Path::new("")))
}

fn place(path: &CStr) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()))
}

/// Where a program may be: as it is named, or in the directories of the container's PATH.
fn candidates(name: &CStr, path: &[u8]) -> Vec<CString> {
    if name.to_bytes().contains(&b'/') {
        return vec![name.to_owned()];
    }
    let directories = path.split(|&byte| byte == b':');
    let paths = directories.map(|directory| match directory {
        b"" => [b".", b"/".as_slice(), name.to_bytes()].concat(),
        _ => [directory, b"/", name.to_bytes()].concat(),
    });
    paths.filter_map(|path| CString::new(path).ok()).collect()
}

/// Executes the first that is there, as execvp(3) does; returns only if none can be. Allocates nothing before
/// the last has failed.
fn execute_first(argv: &CStringArray, prepared: &Prepared) -> Failure {
    let Prepared { env, candidates } = prepared;
    if let [only] = candidates.as_slice() {
        let error = execve(only, argv, env);
        return exec_failure(&error, place(only));
    }
    let mut worst = None;
    for path in candidates {
        let error = execve(path, argv, env);
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV) => {}
            Some(Errno::ACCESS) => worst = Some(error),
            _ => return exec_failure(&error, place(path)),
        }
    }
    match worst {
        Some(error) => exec_failure(&error, Path::new("")),
        None => Failure {
            kind: FailureKind::NotFound,
            text: String::new(),
        },
    }
}

fn exec_failure(error: &io::Error, path: &Path) -> Failure {
    match Errno::from_io_error(error) {
        // ENOENT also means a missing interpreter of a script or a dynamic program.
        Some(Errno::NOENT) if !path.exists() => Failure {
            kind: FailureKind::NotFound,
            text: String::new(),
        },
        Some(Errno::NOENT) => Failure {
            kind: FailureKind::NotFound,
            text: "its interpreter is missing".to_owned(),
        },
        Some(Errno::NOTDIR) => Failure {
            kind: FailureKind::NotFound,
            text: String::new(),
        },
        _ => Failure {
            kind: FailureKind::NotExecutable,
            text: plain(error),
        },
    }
}
