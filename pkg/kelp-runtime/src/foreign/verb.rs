//! Calling a runtime.
//!
//! It runs as root of the user namespace, in the mount namespace of its stage, as the child of a process
//! that is there for the call alone: that process waits for it, reads what it has written to the stage,
//! and hands over the process that it has made and the terminal. A process that a runtime leaves behind
//! becomes the child of the nearest sub-reaper above (prctl(2), `PR_SET_CHILD_SUBREAPER`), which is the
//! caller.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use kelp_sys::clone::{Child, CloneFlags, clone3};
use kelp_sys::exec::CStringArray;
use kelp_sys::namespace::enter_user;
use kelp_sys::process::{Exit, pid_of, wait_pidfd};
use kelp_sys::spawn::{Spawn, number};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen,
    socket_with,
};
use rustix::process::{
    Pid, PidfdFlags, Signal, geteuid, getpid, pidfd_open, set_parent_process_death_signal,
};
use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, capabilities, clear_ambient_capability_set,
    move_into_link_name_space, set_capabilities,
};

use super::{BUNDLE, Foreign, Refusal, STATE, Stage, message};
use crate::error::{Error, Failure, Step};
use crate::init::become_root;
use crate::launch::{GO, Guarded, READY, Stdio, pair};
use crate::message::{receive, send};

/// The most that is read of a log, in bytes.
const MAX_LOG: u64 = 1 << 16;

/// What a runtime is called with, besides its words.
#[derive(Clone, Copy, Default)]
pub struct Around<'a> {
    /// The standard streams of the process that it makes, where that has no terminal.
    pub stdio: Option<Stdio<'a>>,
    /// Where what is written to that standard error can be read, without waiting, by who does not pass it on.
    pub complaints: Option<BorrowedFd<'a>>,
    /// Whether that has a terminal.
    pub terminal: bool,
    /// The user namespace, where it is not the caller's.
    pub user: Option<BorrowedFd<'a>>,
    /// The cgroup that it is called in, where it is not the caller's.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// What is done with its process, by number, before anything else happens in it.
    pub before: Option<&'a dyn Fn(u32) -> Result<(), String>>,
}

/// What a runtime has made.
#[derive(Debug)]
pub struct Made {
    /// A process.
    pub child: Child,
    /// The outer end of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// The words of a call.
pub(super) struct Call {
    pub(super) words: Vec<String>,
    /// Whether it makes a process.
    pub(super) makes: bool,
    /// A file, as descriptor 3.
    pub(super) file: Option<OwnedFd>,
}

impl Stage {
    /// Has the container made, up to its program. The caller becomes its parent, if it is a sub-reaper.
    pub fn create(
        &self,
        runtime: &Foreign,
        id: &str,
        program: &str,
        around: Around<'_>,
    ) -> Result<Made, Error> {
        let bundle = self.place().join(BUNDLE).display().to_string();
        let words = ["create".to_owned(), "--bundle".to_owned(), bundle];
        let call = || {
            Ok(Call {
                words: words.to_vec(),
                makes: true,
                file: None,
            })
        };
        self.caller(runtime, id, program, around).made(call)
    }

    /// Has the program run.
    pub fn start(&self, runtime: &Foreign, id: &str, program: &str) -> Result<(), Error> {
        let caller = self.caller(runtime, id, program, Around::default());
        caller.done(&["start"])
    }

    /// Has everything removed that the runtime keeps of the container, whose processes are killed.
    pub fn delete(&self, runtime: &Foreign, id: &str) -> Result<(), Error> {
        let caller = self.caller(runtime, id, "", Around::default());
        caller.done(&["delete", "--force"])
    }

    pub(super) fn caller<'a>(
        &'a self,
        runtime: &'a Foreign,
        id: &'a str,
        program: &'a str,
        around: Around<'a>,
    ) -> Caller<'a> {
        Caller {
            stage: self,
            runtime,
            id,
            program,
            around,
        }
    }
}

/// Why a call failed: a step before it, or what the runtime says.
pub(super) enum Said {
    Step(Failure),
    Refused(Refusal, String),
}

impl From<Failure> for Said {
    fn from(failure: Failure) -> Self {
        Self::Step(failure)
    }
}

impl Said {
    fn to_bytes(&self) -> Vec<u8> {
        let (kind, text) = match self {
            Self::Step(failure) => (b's', &failure.text),
            Self::Refused(Refusal::Setup, text) => (b'S', text),
            Self::Refused(Refusal::NotFound, text) => (b'N', text),
            Self::Refused(Refusal::NotExecutable, text) => (b'X', text),
        };
        let mut bytes = vec![kind];
        bytes.extend_from_slice(text.as_bytes());
        bytes.truncate(4096);
        bytes
    }

    fn to_error(bytes: &[u8]) -> Error {
        let text = String::from_utf8_lossy(&bytes[1..]).into_owned();
        let refusal = match bytes[0] {
            b'N' => Refusal::NotFound,
            b'X' => Refusal::NotExecutable,
            b'S' => Refusal::Setup,
            _ => return Error::Init(text),
        };
        Error::Refused { refusal, text }
    }
}

/// One call, and the process that is there for it.
pub(super) struct Caller<'a> {
    stage: &'a Stage,
    runtime: &'a Foreign,
    id: &'a str,
    program: &'a str,
    around: Around<'a>,
}

impl Caller<'_> {
    /// Has a process made.
    pub(super) fn made(&self, call: impl FnOnce() -> Result<Call, Failure>) -> Result<Made, Error> {
        let mut fds = self.run(call)?.into_iter();
        let gone = || Error::Init(format!("{}: the process has ended", self.runtime.name));
        let pidfd = fds.next().ok_or_else(gone)?;
        Ok(Made {
            child: Child {
                pid: pid_of(pidfd.as_fd()).ok_or_else(gone)?,
                pidfd,
            },
            terminal: fds.next(),
        })
    }

    /// Has something done that makes none.
    fn done(&self, words: &[&str]) -> Result<(), Error> {
        let call = || {
            Ok(Call {
                words: words.iter().map(|word| (*word).to_owned()).collect(),
                makes: false,
                file: None,
            })
        };
        self.run(call).map(drop)
    }

    /// Calls the runtime, with what `call` says once it is asked in the stage.
    fn run(&self, call: impl FnOnce() -> Result<Call, Failure>) -> Result<Vec<OwnedFd>, Error> {
        let name = &self.runtime.name;
        let (parent_end, child_end) = pair()?;
        let mut parent_end = Some(parent_end);
        let caller = clone3(CloneFlags::empty(), self.around.cgroup, || {
            drop(parent_end.take());
            match self.act(child_end.as_fd(), call) {
                Ok(fds) => {
                    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                    i32::from(send(child_end.as_fd(), &[READY], &fds).is_err())
                }
                Err(said) => {
                    let _ = send(child_end.as_fd(), &said.to_bytes(), &[]);
                    1
                }
            }
        });
        let caller = Guarded::new(caller.map_err(Error::io("fork"))?);
        drop(child_end);
        let parent_end = parent_end.expect("the child took its own copy");
        if let Some(before) = self.around.before {
            let pid = caller.pid.as_raw_nonzero().get().unsigned_abs();
            before(pid).map_err(Error::Init)?;
        }
        // A failed send means that it is gone; then so is its message, or its absence.
        let _ = send(parent_end.as_fd(), &[GO], &[]);
        let mut buffer = vec![0; 4096];
        let (length, fds) = receive(parent_end.as_fd(), &mut buffer, RecvFlags::empty())
            .map_err(Error::io(format!("hear from {name}")))?;
        match buffer[..length].first() {
            Some(&READY) => Ok(fds),
            Some(_) => Err(Said::to_error(&buffer[..length])),
            None => Err(Error::Init(format!("the caller of {name} was killed"))),
        }
    }

    /// Calls the runtime; the pidfd of the process that it has made, and the terminal.
    fn act(
        &self,
        parent: BorrowedFd<'_>,
        call: impl FnOnce() -> Result<Call, Failure>,
    ) -> Result<Vec<OwnedFd>, Said> {
        set_parent_process_death_signal(Some(Signal::KILL))
            .step(|| "set the parent death signal".to_owned())?;
        let mut byte = [0_u8; 1];
        let (length, _) = receive(parent, &mut byte, RecvFlags::empty())
            .step(|| "wait for the parent".to_owned())?;
        if length == 0 {
            return Err(Failure::setup("the parent has gone").into());
        }
        let path = &self.runtime.path;
        // By the user's own rights: the container's root may have none on the way there.
        let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .step(|| format!("open the runtime {}", path.display()))?;
        let file =
            rustix::io::fcntl_dupfd_cloexec(file, 16).step(|| "copy a descriptor".to_owned())?;
        self.enter()?;
        let call = call()?;
        let console = if call.makes && self.around.terminal {
            Some(Listening::open(self.own("console"))?)
        } else {
            None
        };
        self.execute(&call, &file, console.as_ref())?;
        if !call.makes {
            return Ok(Vec::new());
        }
        let mut fds = vec![self.process()?];
        if let Some(console) = console {
            fds.push(console.terminal(&self.runtime.name)?);
        }
        Ok(fds)
    }

    /// A file of this call's own in the stage.
    fn own(&self, name: &str) -> PathBuf {
        let pid = getpid().as_raw_nonzero();
        self.stage.place().join(format!("{name}.{pid}"))
    }

    /// Enters the namespaces, as root, with nothing of the caller's capabilities to inherit.
    fn enter(&self) -> Result<(), Failure> {
        let what = || "enter the runtime's mount namespace".to_owned();
        if let Some(user) = self.around.user {
            enter_user(user).step(what)?;
        }
        move_into_link_name_space(self.stage.as_fd(), Some(LinkNameSpaceType::Mount)).step(what)?;
        become_root()?;
        rustix::process::chdir("/").step(what)?;
        if !geteuid().is_root() {
            // Where only one id is mapped, and that is not 0.
            return kelp_sys::spawn::keep_capabilities().step(what);
        }
        clear_ambient_capability_set().step(what)?;
        let mut sets = capabilities(None).step(what)?;
        sets.inheritable = CapabilitySet::empty();
        set_capabilities(None, sets).step(what)
    }

    fn words(&self, call: &Call, console: Option<&Listening>) -> Vec<String> {
        let place = self.stage.place();
        let mut words = vec![self.runtime.path.display().to_string()];
        let mut set = |name: &str, value: String| {
            if !self.runtime.has_flag(name) {
                words.extend([name.to_owned(), value]);
            }
        };
        set("--root", place.join(STATE).display().to_string());
        set("--log", self.own("log").display().to_string());
        set("--log-format", "json".to_owned());
        words.extend(self.runtime.inherit_flag().map(str::to_owned));
        words.extend(self.runtime.flags.iter().cloned());
        words.extend(call.words.iter().cloned());
        if call.makes {
            words.extend([
                "--pid-file".to_owned(),
                self.own("pid").display().to_string(),
            ]);
        }
        if let Some(console) = console {
            let path = console.path.display().to_string();
            words.extend(["--console-socket".to_owned(), path]);
        }
        words.push(self.id.to_owned());
        words
    }

    /// Runs it to its end.
    fn execute(
        &self,
        call: &Call,
        file: &OwnedFd,
        console: Option<&Listening>,
    ) -> Result<(), Said> {
        let what = || format!("run {}", self.runtime.path.display());
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).step(what)?;
        let heard = memfd_create("kelp-stderr", MemfdFlags::CLOEXEC).step(what)?;
        let mut fds: Vec<(BorrowedFd<'_>, RawFd)> = match self.around.stdio.filter(|_| call.makes) {
            Some(stdio) => vec![(stdio.stdin, 0), (stdio.stdout, 1), (stdio.stderr, 2)],
            None => vec![(null.as_fd(), 0), (null.as_fd(), 1), (heard.as_fd(), 2)],
        };
        if let Some(file) = &call.file {
            fds.push((file.as_fd(), 3));
        }
        let words = self.words(call, console);
        let argv = |words: &[String]| {
            let words = words.iter().map(|word| CString::new(word.as_str()));
            CStringArray::new(words.filter_map(Result::ok).collect())
        };
        let start = |program: OsString, fds| {
            Spawn {
                program: CString::new(program.into_vec()).unwrap_or_default(),
                argv: argv(&words),
                envp: environment(),
                fds,
                userns: None,
                session: false,
                death_signal: Some(Signal::KILL),
            }
            .start()
        };
        let child = start(self.runtime.path.clone().into_os_string(), fds.clone())
            // The container's root has no rights on the way, or the stage covers it.
            .or_else(|_| {
                start(
                    format!("/proc/self/fd/{}", number(file.as_fd())).into(),
                    fds,
                )
            })
            .step(what)?;
        let exit = wait_pidfd(child.pidfd.as_fd()).step(what)?;
        if exit == Exit::Code(0) {
            let _ = fs::remove_file(self.own("log"));
            return Ok(());
        }
        let mut stderr = Vec::new();
        let mut heard = fs::File::from(heard);
        let _ = heard.rewind();
        let _ = heard.take(MAX_LOG).read_to_end(&mut stderr);
        let complaints = self.around.complaints.map(|fd| fd.try_clone_to_owned());
        if let Some(Ok(complaints)) = complaints {
            // To its end, or to where there is nothing more yet.
            let _ = fs::File::from(complaints)
                .take(MAX_LOG)
                .read_to_end(&mut stderr);
        }
        Err(self.refusal(call, exit, &stderr))
    }

    /// What a runtime that has failed says.
    fn refusal(&self, call: &Call, exit: Exit, stderr: &[u8]) -> Said {
        let mut log = Vec::new();
        let path = self.own("log");
        if let Ok(file) = fs::File::open(&path) {
            let _ = file.take(MAX_LOG).read_to_end(&mut log);
        }
        let _ = fs::remove_file(path);
        let name = &self.runtime.name;
        let said = message::last(&log, stderr).unwrap_or_else(|| match exit {
            Exit::Code(code) => format!("{} failed with exit code {code}", call.words[0]),
            Exit::Signal(signal) => format!("{} was killed by signal {signal}", call.words[0]),
        });
        let refusal = Refusal::of(&said, self.program);
        let said = said.strip_prefix(&format!("{name}: ")).unwrap_or(&said);
        Said::Refused(refusal, format!("{name}: {said}"))
    }

    /// The process that it has made, by the file in which it says so.
    fn process(&self) -> Result<OwnedFd, Failure> {
        let path = self.own("pid");
        let what = || format!("read the process id that {} has written", self.runtime.name);
        let text = fs::read_to_string(&path).step(what)?;
        let _ = fs::remove_file(&path);
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::setup(format!("{}: {text:?} is none", what())))?;
        pidfd_open(pid, PidfdFlags::empty()).step(what)
    }
}

/// The caller's own.
fn environment() -> CStringArray {
    let entry = |(name, value): (OsString, OsString)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    CStringArray::new(std::env::vars_os().filter_map(entry).collect())
}

/// The socket to which a runtime sends the outer end of the terminal.
struct Listening {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listening {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let what = || format!("listen on {}", path.display());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).step(what)?;
        bind(&socket, &SocketAddrUnix::new(&path).step(what)?).step(what)?;
        listen(&socket, 1).step(what)?;
        Ok(Self { socket, path })
    }

    /// What has been sent by now.
    fn terminal(&self, name: &str) -> Result<OwnedFd, Failure> {
        let what = || format!("get the terminal from {name}");
        let connection = accept_with(&self.socket, SocketFlags::CLOEXEC).step(what)?;
        let _ = fs::remove_file(&self.path);
        // runc sends the terminal's name, crun a byte.
        let mut buffer = [0_u8; 4096];
        let (_, mut fds) =
            receive(connection.as_fd(), &mut buffer, RecvFlags::DONTWAIT).step(what)?;
        fds.pop()
            .ok_or_else(|| Failure::setup(format!("{}: it has sent none", what())))
    }
}
