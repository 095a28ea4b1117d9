//! Running a kelp command with a time limit, and judging what it did.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// More than any command takes on a slow machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Waits for what nothing tells of.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A command to be run.
pub(crate) struct Kelp {
    command: Command,
    input: Option<Vec<u8>>,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    #[expect(dead_code, reason = "shown when an assertion fails")]
    command: String,
}

impl Kelp {
    pub(crate) fn new(command: Command) -> Self {
        Self {
            command,
            input: None,
        }
    }

    /// Writes this to its standard input, and closes it.
    pub(crate) fn input(mut self, bytes: &[u8]) -> Self {
        self.input = Some(bytes.to_vec());
        self
    }

    /// The command itself, to be started in another way.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    /// Starts it with pipes for all three streams.
    pub(crate) fn start(mut self) -> Child {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs it to its end, which includes that nobody holds its output open.
    pub(crate) fn done(mut self) -> Done {
        let words: Vec<_> = self
            .command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        let text = format!("kelp {}", words.join(" "));
        if self.input.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let input = self.input.unwrap_or_default();
        thread::spawn(move || {
            // It may have ended without reading all of it.
            let _ = stdin.map(|mut stdin| stdin.write_all(&input));
        });
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let code = wait(&mut child, &text);
        let received = |stream: mpsc::Receiver<Vec<u8>>, name: &str| {
            let bytes = stream.recv_timeout(LIMIT);
            let bytes = bytes.unwrap_or_else(|_| panic!("{text}: {name} is still open"));
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Done {
            code,
            stdout: received(stdout, "stdout"),
            stderr: received(stderr, "stderr"),
            command: text.clone(),
        }
    }

    /// Runs it; it must succeed and say nothing on standard error. What it prints.
    pub(crate) fn succeeds(self) -> String {
        let done = self.done();
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:#?}");
        done.stdout
    }

    /// Runs it; it must fail with this code and one line of error. The line.
    pub(crate) fn fails(self, code: i32) -> String {
        let done = self.done();
        assert_eq!(done.code, code, "{done:#?}");
        let line = done.stderr.strip_suffix('\n').unwrap_or(&done.stderr);
        assert!(
            line.starts_with("Error: ") && !line.contains('\n'),
            "{done:#?}"
        );
        line.to_owned()
    }
}

impl Done {
    /// Asserts the exit code; what it prints.
    pub(crate) fn exits(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:#?}");
        self.stdout
    }
}

/// Another program in the place of a command's, with its environment and its directory.
pub(crate) fn beside(inner: &Command, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(
            inner
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::null());
    if let Some(directory) = inner.get_current_dir() {
        command.current_dir(directory);
    }
    command
}

/// The command as what another program runs that is called with these words.
pub(crate) fn around(inner: &Command, program: &str, words: &[&str]) -> Command {
    let mut command = beside(inner, program);
    command
        .args(words)
        .arg(inner.get_program())
        .args(inner.get_args());
    command
}

/// The command under strace(1) with these flags, which writes to a file.
pub(crate) fn traced(inner: &Command, trace: &Path, flags: &[&str]) -> Command {
    let trace = trace.to_str().unwrap();
    let mut strace = around(inner, "strace", &[&["-o", trace], flags].concat());
    strace.stdout(Stdio::null()).stderr(Stdio::null());
    strace
}

/// The letter of a process's state (proc_pid_stat(5)); `None` if it is gone.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Reads a stream to its end, elsewhere.
pub(crate) fn collect(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Waits for the exit code; kills it and fails after the limit.
pub(crate) fn wait(child: &mut Child, text: &str) -> i32 {
    let status = wait_status(child, text);
    status.code().unwrap_or_else(|| panic!("{text}: {status}"))
}

/// [`wait`], for a command that a signal may end.
pub(crate) fn wait_status(child: &mut Child, text: &str) -> ExitStatus {
    let pid = Pid::from_child(child);
    let (sender, receiver) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = receiver.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = kill_process(pid, Signal::KILL);
        }
        late
    });
    let status = child.wait().unwrap();
    drop(sender);
    assert!(
        !watchdog.join().unwrap(),
        "{text}: not done after {LIMIT:?}"
    );
    status
}

/// Lines for a stream that is larger than any pipe.
pub(crate) fn many_lines() -> String {
    let mut text = String::new();
    for number in 0..400_000 {
        text.push_str(&number.to_string());
        text.push('\n');
    }
    text
}
