//! Stepping through the system calls of a command and of everybody that it starts, to kill or to fail at
//! one of them.
//!
//! strace(1) counts the calls of each process alone, and each name alone: what it can't say is "the n-th call
//! of all that changes a file". Here one thread traces the whole command (ptrace(2)) and counts all such
//! calls in the order in which they are made, whoever makes them, so that a number is a moment. At the
//! chosen one the caller is stopped before the kernel does anything, and is killed, alone or with all the
//! others, or gets an error instead.
//!
//! A tracer takes setuid programs' privilege away, newuidmap's too: the commands have to find a user
//! namespace that they can join.

mod call;
mod chance;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use call::Call;
pub(crate) use call::Counted;
pub(crate) use chance::{Chance, is_nightly};

use crate::kelp::{LIMIT, around, collect};

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// Who makes it is killed, and the others go on.
    KillCaller,
    /// All are killed at once, as a cgroup's processes or a session's are.
    KillAll,
    /// It fails, and whoever tries again succeeds.
    Fail(Errno),
    /// It fails, and so does every counted one after it.
    FailFromHere(Errno),
    /// It waits while something else is done, see [`run_beside`], and so do the others at their next call.
    Wait,
}

/// What is done while a call waits, which is told: what it is, and who makes it.
type Beside<'a> = &'a (dyn Fn(&str) + Sync);

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
    /// How many calls were counted.
    pub(crate) calls: usize,
    /// The call that was struck, if it came to that, and who made it.
    pub(crate) struck: Option<String>,
}

impl Outcome {
    /// Its exit code, or what a shell shows for a signal.
    pub(crate) fn code(&self) -> i32 {
        let signal = || 128 + self.status.signal().unwrap_or_default();
        self.status.code().unwrap_or_else(signal)
    }
}

/// Runs a command to its end and that of everybody it has started; at the call of this number, from 1, the
/// blow falls.
pub(crate) fn run(command: &Command, counted: Counted, blow: Option<(usize, Blow)>) -> Outcome {
    run_to_end(command, counted, blow, &|_| {})
}

/// Runs a command to its end, and something else while it waits at the call of this number.
pub(crate) fn run_beside(
    command: &Command,
    counted: Counted,
    number: usize,
    beside: Beside<'_>,
) -> Outcome {
    run_to_end(command, counted, Some((number, Blow::Wait)), beside)
}

fn run_to_end(
    command: &Command,
    counted: Counted,
    blow: Option<(usize, Blow)>,
    beside: Beside<'_>,
) -> Outcome {
    // It stops until it is traced: whatever it starts is traced from its first call then.
    let stopped = ["-c", "kill -STOP $$; exec \"$@\"", "sh"];
    let mut command = around(command, "sh", &stopped);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::piped()).process_group(0);
    // A tracer is a thread, and may wait for its own alone.
    let tracer = thread::Builder::new().name(crate::skip::test_name());
    thread::scope(|scope| {
        let trace = || trace(&mut command, counted, blow, beside);
        tracer.spawn_scoped(scope, trace).unwrap().join().unwrap()
    })
}

#[expect(
    clippy::zombie_processes,
    reason = "the tracer waits for it by waitpid(2), as for all that it traces"
)]
fn trace(
    command: &mut Command,
    counted: Counted,
    blow: Option<(usize, Blow)>,
    beside: Beside<'_>,
) -> Outcome {
    let mut child = command.spawn().unwrap();
    let stderr = collect(child.stderr.take().unwrap());
    let main = Pid::from_raw(child.id() as i32);
    waitpid(main, Some(WaitPidFlag::WUNTRACED)).unwrap();
    let follow = Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(main, follow).unwrap();
    kill(main, Signal::SIGCONT).unwrap();
    let alive = Arc::new(Mutex::new(BTreeSet::from([main.as_raw()])));
    let (sender, receiver) = mpsc::channel::<()>();
    let late = watchdog(receiver, alive.clone());
    let mut tracer = Tracer {
        counted,
        blow,
        beside,
        alive,
        inside: BTreeMap::new(),
        calls: 0,
        struck: None,
    };
    let status = tracer.follow(main);
    drop(sender);
    assert!(!late.join().unwrap(), "not done after {LIMIT:?}");
    let text = |stream: mpsc::Receiver<Vec<u8>>| {
        let bytes = stream.recv_timeout(LIMIT).expect("the stream is open yet");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Outcome {
        status,
        stderr: text(stderr),
        calls: tracer.calls,
        struck: tracer.struck,
    }
}

/// Kills all that live when the time is up; whether it had to.
fn watchdog(
    done: mpsc::Receiver<()>,
    alive: Arc<Mutex<BTreeSet<i32>>>,
) -> thread::JoinHandle<bool> {
    thread::spawn(move || {
        let late = done.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
        if late {
            for &thread in alive.lock().unwrap().iter() {
                let _ = kill(Pid::from_raw(thread), Signal::SIGKILL);
            }
        }
        late
    })
}

struct Tracer<'a> {
    counted: Counted,
    blow: Option<(usize, Blow)>,
    beside: Beside<'a>,
    /// The threads that live.
    alive: Arc<Mutex<BTreeSet<i32>>>,
    /// Those that are in a call, with the error that it gets, if it does.
    inside: BTreeMap<Pid, Option<Errno>>,
    calls: usize,
    struck: Option<String>,
}

impl Tracer<'_> {
    /// Follows all until the last has ended; the status of the first.
    fn follow(&mut self, main: Pid) -> ExitStatus {
        let mut status = None;
        let mut end = |pid, raw| {
            if pid == main {
                status = Some(ExitStatus::from_raw(raw));
            }
        };
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    end(pid, code << 8);
                    self.gone(pid);
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    end(pid, signal as i32);
                    self.gone(pid);
                }
                Ok(WaitStatus::PtraceSyscall(pid)) => self.at_call(pid),
                Ok(WaitStatus::PtraceEvent(pid, _, event)) => {
                    if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 {
                        // Any thread may execute; the one that is left is in that call.
                        self.inside.insert(pid, None);
                    }
                    self.go_on(pid, None);
                }
                Ok(WaitStatus::Stopped(pid, signal)) => self.go_on(pid, Some(signal)),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return status.expect("the command has ended"),
                Err(error) => panic!("waitpid: {error}"),
            }
        }
    }

    fn gone(&mut self, pid: Pid) {
        self.alive.lock().unwrap().remove(&pid.as_raw());
        self.inside.remove(&pid);
    }

    /// One that was killed meanwhile is not there to go on.
    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        self.alive.lock().unwrap().insert(pid.as_raw());
        let killed = matches!(
            (self.blow, &self.struck),
            (Some((_, Blow::KillAll)), Some(_))
        );
        if killed {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = ptrace::syscall(pid, signal);
    }

    fn at_call(&mut self, pid: Pid) {
        if let Some(error) = self.inside.remove(&pid) {
            if let Some(error) = error {
                let _ = call::set_result(pid, error);
            }
        } else {
            let error = Call::of(pid).and_then(|call| self.begin(pid, &call));
            self.inside.insert(pid, error);
        }
        self.go_on(pid, None);
    }

    /// A call that begins; the error that it gets.
    fn begin(&mut self, pid: Pid, call: &Call) -> Option<Errno> {
        if !call.is_counted(self.counted) {
            return None;
        }
        self.calls += 1;
        let (number, blow) = self.blow?;
        let falls = match blow {
            Blow::FailFromHere(_) => self.calls >= number,
            _ => self.calls == number,
        };
        if !falls {
            return None;
        }
        self.struck.get_or_insert_with(|| call.describe());
        match blow {
            Blow::KillCaller => {
                let _ = kill(call::process_of(pid), Signal::SIGKILL);
            }
            Blow::KillAll => {
                for &thread in self.alive.lock().unwrap().iter() {
                    let _ = kill(Pid::from_raw(thread), Signal::SIGKILL);
                }
            }
            Blow::Fail(error) | Blow::FailFromHere(error) => {
                call::skip(pid).ok()?;
                return Some(error);
            }
            Blow::Wait => (self.beside)(&call.describe()),
        }
        None
    }
}

#[test]
fn every_step_is_one_of_the_command() {
    if !cfg!(target_arch = "x86_64") {
        crate::skip::skip("x86_64, whose registers the tracer knows");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let mut shell = Command::new("sh");
    let script = "(echo one >\"$1\") && echo two >>\"$1\" && mkdir \"$1.d\"";
    shell.args(["-c", script, "sh"]).arg(&file);
    let counted = Counted::Files;
    let whole = run(&shell, counted, None);
    assert_eq!((whole.code(), whole.stderr.as_str()), (0, ""), "{whole:#?}");
    // A file is opened twice to be written, and written twice; a directory is made.
    assert_eq!(whole.calls, 5, "{whole:#?}");
    let content = |number, blow| {
        let _ = std::fs::remove_file(&file);
        let _ = std::fs::remove_dir(directory.path().join("file.d"));
        let outcome = run(&shell, counted, Some((number, blow)));
        assert!(outcome.struck.is_some(), "{outcome:#?}");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        (outcome.code(), text, outcome.stderr)
    };
    for (number, text) in [
        (1, ""),
        (2, ""),
        (3, "one\n"),
        (4, "one\n"),
        (5, "one\ntwo\n"),
    ] {
        let (code, found, _) = content(number, Blow::KillAll);
        assert_eq!((code, found.as_str()), (137, text), "{number}");
    }
    let (code, found, stderr) = content(5, Blow::Fail(Errno::ENOSPC));
    assert_eq!((code, found.as_str()), (1, "one\ntwo\n"));
    assert!(stderr.contains("No space left on device"), "{stderr}");
    // A disk that is full from a call on: what needs no space is not counted.
    std::fs::remove_dir_all(directory.path().join("file.d")).unwrap_or_default();
    std::fs::remove_file(&file).unwrap();
    let full = Some((1, Blow::FailFromHere(Errno::ENOSPC)));
    let outcome = run(&shell, Counted::Space, full);
    assert_ne!(outcome.code(), 0);
    assert!(!file.exists(), "{outcome:#?}");
    // No disk is full where the runtime directory is.
    shell.env("XDG_RUNTIME_DIR", directory.path());
    let outcome = run(&shell, Counted::Space, full);
    assert_eq!((outcome.code(), outcome.calls), (0, 0), "{outcome:#?}");
}
