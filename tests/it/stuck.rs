//! A program that hangs in the kernel, and a monitor that does not run: no command about others waits for
//! them, and those about them end in bounded time.
//!
//! What hangs waits for a file system in user space whose server is this test. Before that has answered
//! FUSE_INIT whoever wants something of it waits in state D, and a fatal signal ends that. Once it has read a
//! request and does not answer, no signal does (fuse(4), the kernel's Documentation/filesystems/fuse.rst,
//! "Interrupting filesystem operations"). Without one, whoever has called vfork(2) is in state D until the child
//! has executed its program.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::SocketAddrUnix;
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open,
};

use crate::env::Env;
use crate::kelp::{LIMIT, collect, state_of, wait, wait_until};
use crate::kill::combination::kill_all;
use crate::life::make_fifo;
use crate::skip;
use crate::streams_stuck::knock;

/// Mounts a file system of which the caller takes the other end, lets go of that end, and looks for a file
/// of it.
const HANGS: &str = "mkdir /mnt; exec 3<>/dev/fuse
    mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none /mnt || exit 9
    echo mounted >/shared/mounted; read go </shared/go; exec 3<&-; trap : USR1";

/// Whoever looks: process 1, or a child of it. A signal that has a handler wakes it, and then it waits in state D.
const FIRST: &str = "[ -e /mnt/file ]";
const CHILD: &str = "trap 'exit 5' TERM; (trap : USR1; [ -e /mnt/file ]) & while :; do wait; done";

/// Commands that have nothing to wait for: less than what anybody waits for who does, and much on a busy machine.
const QUICK: Duration = Duration::from_secs(4);

/// The other end of a file system; all that waits for it goes on when it is closed.
struct Server {
    device: File,
}

impl Server {
    /// Takes descriptor 3 of a process, whose user namespace is the caller's own.
    fn of(process: u32) -> Self {
        let pid = Pid::from_raw(process as i32).unwrap();
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let device = pidfd_getfd(&process, 3, PidfdGetfdFlags::empty()).unwrap();
        Self {
            device: device.into(),
        }
    }

    /// Reads a request: what it is, and its number.
    fn request(&mut self) -> (u32, [u8; 8]) {
        let mut request = [0; 8 << 10];
        let length = self.device.read(&mut request).unwrap();
        assert!(length >= 40, "fuse_in_header of linux/fuse.h");
        let what = u32::from_ne_bytes(request[4..8].try_into().unwrap());
        (what, request[8..16].try_into().unwrap())
    }

    /// Answers the first request, FUSE_INIT, and then reads one that it does not answer.
    fn holds_a_request(&mut self) {
        let (_, unique) = self.request();
        self.answer_init(unique);
        self.request();
    }

    /// Answers a request: fuse_out_header of linux/fuse.h, and what follows that.
    fn answer(&mut self, unique: [u8; 8], body: &[u8]) {
        let length = u32::try_from(16 + body.len()).unwrap();
        let header = [&length.to_ne_bytes()[..], &[0; 4], &unique].concat();
        self.device.write_all(&[&header, body].concat()).unwrap();
    }

    /// fuse_init_out: protocol 7.31, and writes of a page.
    fn answer_init(&mut self, unique: [u8; 8]) {
        let mut body = [0; 64];
        body[0..4].copy_from_slice(&7_u32.to_ne_bytes());
        body[4..8].copy_from_slice(&31_u32.to_ne_bytes());
        body[20..24].copy_from_slice(&4096_u32.to_ne_bytes());
        self.answer(unique, &body);
    }

    /// Serves a file until who has it open gives it up; the request that tells of that is not answered.
    fn serves_until_a_flush(&mut self) -> [u8; 8] {
        loop {
            let (what, unique) = self.request();
            match what {
                // FUSE_LOOKUP and fuse_entry_out: a regular file, number 2.
                1 => {
                    let mut body = [0; 128];
                    body[0..8].copy_from_slice(&2_u64.to_ne_bytes());
                    body[40..48].copy_from_slice(&2_u64.to_ne_bytes());
                    body[100..104].copy_from_slice(&0o100_644_u32.to_ne_bytes());
                    body[104..108].copy_from_slice(&1_u32.to_ne_bytes());
                    self.answer(unique, &body);
                }
                // FUSE_FORGET has no answer.
                2 => {}
                // FUSE_OPEN and fuse_open_out.
                14 => self.answer(unique, &[0; 16]),
                25 => return unique,
                26 => self.answer_init(unique),
                other => panic!("request {other}"),
            }
        }
    }
}

/// A container whose program hangs, and the other end of what it waits for.
struct Stuck {
    /// The process that hangs.
    process: u32,
    server: Server,
}

impl Stuck {
    /// Starts one with these flags. In a file system that was never served, a fatal signal ends it.
    fn start(env: &Env, name: &str, flags: &[&str], looks: &str, is_served: bool) -> Self {
        let (first, mut server) = serve(env, name, flags, looks);
        if is_served {
            server.holds_a_request();
        }
        let process = if looks == FIRST {
            first
        } else {
            let children = format!("/proc/{first}/task/{first}/children");
            let child = || fs::read_to_string(&children).unwrap().trim().parse().ok();
            wait_until("it has a child", || child().is_some());
            child().unwrap()
        };
        if is_served {
            signal(process, Signal::USR1);
        }
        wait_until("it hangs", || state_of(process) == Some('D'));
        Self { process, server }
    }

    /// Lets it go on, which by now is to its end.
    fn ends(self) {
        drop(self.server);
        wait_until("it has ended", || state_of(self.process).is_none());
    }
}

/// Starts a container that has mounted a file system and does something with it then; its first process, and the
/// other end.
fn serve(env: &Env, name: &str, flags: &[&str], does: &str) -> (u32, Server) {
    let shared = env.path(&format!("h/{name}"));
    fs::create_dir(&shared).unwrap();
    make_fifo(&shared.join("mounted"));
    make_fifo(&shared.join("go"));
    let volume = format!("{}:/shared", shared.display());
    let image = env.busybox();
    let run = ["run", "-d", "--network=none", "--name", name, "-v", &volume];
    let rights = ["--device=/dev/fuse", "--cap-add=SYS_ADMIN"];
    let script = format!("{HANGS}; {does}");
    let program = [image.as_str(), "sh", "-c", &script];
    env.kelp(&[&run[..], &rights, flags, &program].concat())
        .succeeds();
    let said = fs::read_to_string(shared.join("mounted")).unwrap();
    assert_eq!(said, "mounted\n");
    let first = show(env, "{{.State.Pid}}", name).parse().unwrap();
    let server = Server::of(first);
    fs::write(shared.join("go"), "go\n").unwrap();
    (first, server)
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process as i32).unwrap(), signal).unwrap();
}

fn show(env: &Env, format: &str, name: &str) -> String {
    let shown = env.kelp(&["inspect", "-f", format, name]).succeeds();
    shown.trim_end().to_owned()
}

/// The same words in the order of their names: what `ps -a` says.
fn states(env: &Env) -> String {
    let format = "{{.Names}} {{.State}} {{.ExitCode}}";
    let lines = quick(env, &["ps", "-a", "--sort=names", "--format", format]);
    lines.lines().collect::<Vec<_>>().join(", ")
}

/// Runs a command that must not be held up.
fn quick(env: &Env, words: &[&str]) -> String {
    let start = Instant::now();
    let said = env.kelp(words).succeeds();
    let time = start.elapsed();
    assert!(time < QUICK, "{words:?} took {time:?}");
    said
}

/// Commands at once: each fails with a line that has its part, within this time.
fn fail(env: &Env, time: Duration, commands: &[(&[&str], &str)]) {
    let start = Instant::now();
    let running: Vec<_> = commands
        .iter()
        .map(|(words, _)| env.kelp(words).start())
        .collect();
    for (child, (words, part)) in running.into_iter().zip(commands) {
        let output = child.wait_with_output().unwrap();
        let took = start.elapsed();
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.contains(part), "{words:?}: {line}");
        assert!(
            line.starts_with("Error: ") && line.lines().count() == 1,
            "{words:?}: {line}"
        );
        assert_eq!(output.status.code(), Some(125), "{words:?}: {line}");
        assert!(took < time, "{words:?} took {took:?}");
    }
}

/// Looks at all containers and at this one; uses another one, and runs, stops and removes a third.
fn nobody_is_held_up(env: &Env, name: &str) {
    let image = env.busybox();
    let third = ["run", "-d", "--name=third", "--network=none", &image];
    for words in [
        &["ps"][..],
        &["ps", "-a", "--size", "--ns"],
        &["info"],
        &["stats", "--no-stream"],
        &["stats", "--no-stream", "other"],
        &["system", "df"],
        &["events", "--stream=false"],
        &["inspect", "other"],
        &["logs", "other"],
        &["top", "other"],
        &["exec", "other", "true"],
        &["logs", name],
        &["top", name],
        &["port", name],
        &["diff", name],
        &["run", "--rm", "--network=none", &image, "true"],
        &[&third[..], &["sleep", "1000"]].concat(),
        &["stop", "-t0", "third"],
        &["rm", "third"],
        &["run", "--rm", "--network=container:other", &image, "true"],
    ] {
        quick(env, words);
    }
}

fn no_fuse() -> bool {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if device.is_err() {
        skip::skip("read and write access to /dev/fuse");
    }
    device.is_err()
}

#[test]
fn a_program_that_hangs_in_the_kernel_holds_up_nobody_and_is_told_of() {
    let Some(env) = Env::new() else { return };
    if no_fuse() {
        return;
    }
    env.waiting("other", &["--network=none"]);
    let first = Stuck::start(&env, "first", &[], FIRST, true);
    let child = Stuck::start(&env, "child", &["--rm"], CHILD, true);
    nobody_is_held_up(&env, "first");
    let hangs = |stuck: &Stuck| {
        format!(
            "was killed and has not ended: process {} hangs in the kernel until",
            stuck.process
        )
    };
    let (why_first, why_child) = (hangs(&first), hangs(&child));
    fail(
        &env,
        Duration::from_secs(9),
        &[
            (&["stop", "-t1", "first"], &why_first),
            (&["kill", "first"], &why_first),
            (&["rm", "-f", "-t0", "first"], &why_first),
            (&["restart", "-t0", "first"], &why_first),
            (&["stop", "-t0", "child"], &why_child),
            (&["rm", "-f", "-t1", "child"], &why_child),
        ],
    );
    assert_eq!(
        states(&env),
        "child running 0, first running 0, other running 0"
    );
    nobody_is_held_up(&env, "first");
    // Nor does it keep the others of a command.
    env.waiting("third", &["--network=none"]);
    let words = ["rm", "-f", "-t0", "first", "third"];
    fail(&env, Duration::from_secs(9), &[(&words, &why_first)]);
    assert_eq!(
        states(&env),
        "child running 0, first running 0, other running 0"
    );
    // The monitors are there, and do what is left to do.
    first.ends();
    child.ends();
    assert_eq!(env.kelp(&["wait", "first"]).succeeds(), "137\n");
    wait_until("a --rm container is gone", || {
        states(&env) == "first exited 137, other running 0"
    });
    env.kelp(&["rm", "first"]).succeeds();
    env.kelp(&["rm", "-f", "-t0", "other"]).succeeds();
}

/// Who gives a file up waits until the file system has taken notice, in state D, also on its way out.
#[test]
fn a_program_that_takes_long_to_end_is_waited_for() {
    let Some(env) = Env::new() else { return };
    if no_fuse() {
        return;
    }
    for (end, said) in [
        (&["stop", "-t0", "slow"][..], "slow\n"),
        (&["kill", "slow"], "slow\n"),
        (&["rm", "-f", "-t0", "slow"], "slow\n"),
    ] {
        // The first free number: another one would be a copy, and the first would be given up at once.
        let does = "exec 3</mnt/file; exec sleep 100000";
        let (_, mut server) = serve(&env, "slow", &[], does);
        let served = thread::spawn(move || {
            let unique = server.serves_until_a_flush();
            // Longer than what does not hang is given.
            thread::sleep(Duration::from_secs(6));
            server.answer(unique, &[]);
            server
        });
        wait_until("it has the file open", || {
            quick(&env, &["top", "slow", "comm"]).contains("sleep")
        });
        assert_eq!(env.kelp(end).succeeds(), said);
        served.join().unwrap();
        if end[0] != "rm" {
            assert_eq!(states(&env), "slow exited 137");
            env.kelp(&["rm", "slow"]).succeeds();
        }
        fs::remove_dir_all(env.path("h/slow")).unwrap();
    }
}

#[test]
fn a_program_that_a_fatal_signal_ends_in_state_d_is_stopped_and_removed_as_any() {
    let Some(env) = Env::new() else { return };
    if no_fuse() {
        return;
    }
    env.waiting("other", &["--network=none"]);
    for (looks, end) in [
        (FIRST, &["stop", "-t0", "stuck"][..]),
        (CHILD, &["kill", "stuck"]),
        (FIRST, &["rm", "-f", "-t0", "stuck"]),
    ] {
        let stuck = Stuck::start(&env, "stuck", &[], looks, false);
        nobody_is_held_up(&env, "stuck");
        quick(&env, end);
        if end[0] != "rm" {
            assert_eq!(states(&env), "other running 0, stuck exited 137");
            quick(&env, &["rm", "stuck"]);
        }
        stuck.ends();
        fs::remove_dir_all(env.path("h/stuck")).unwrap();
    }
    env.kelp(&["rm", "-f", "-t0", "other"]).succeeds();
}

/// Who has called vfork(2) waits in state D for a child that somebody has stopped.
const VFORKS: &str = r"
    path=/; while [ ${#path} -lt 50000 ]; do path=/x:$path:$path; done
    while :; do
        # Every directory of it is one more call of the child's before it gives up.
        PATH=$path /bin/xargs no-such-program </dev/null 2>/dev/null & parent=$!
        until [ ! -e /proc/$parent ]; do
            child=$(cat /proc/$parent/task/$parent/children) && kill -STOP $child && break
        done 2>/dev/null
        grep -q '^State:.*D' /proc/$parent/status && break
        kill -KILL $child $parent; wait
    done 2>/dev/null
    echo $parent; wait";

#[test]
fn a_program_that_waits_for_a_stopped_child_is_paused_stopped_and_removed_as_any() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.waiting("other", &["--network=none"]);
    let run = ["run", "-d", "--network=none", "--name=stuck", &image];
    let run = [&run[..], &["sh", "-c", VFORKS]].concat();
    for end in [
        &["stop", "-t0", "stuck"][..],
        &["kill", "stuck"],
        &["rm", "-f", "-t0", "stuck"],
    ] {
        env.kelp(&run).succeeds();
        wait_until("it waits", || env.kelp(&["logs", "stuck"]).succeeds() != "");
        let states = quick(&env, &["top", "stuck", "state"]);
        assert!(states.contains('D'), "{states}");
        nobody_is_held_up(&env, "stuck");
        quick(&env, &["pause", "stuck"]);
        quick(&env, &["unpause", "stuck"]);
        quick(&env, end);
        if end[0] != "rm" {
            quick(&env, &["rm", "stuck"]);
        }
    }
    env.kelp(&["rm", "-f", "-t0", "other"]).succeeds();
}

/// Without a monitor everybody who looks at the record would finish it.
#[test]
fn a_program_that_hangs_after_its_monitor_was_killed_holds_up_nobody() {
    hangs_without_monitor(&[], FIRST);
}

/// Process 1 ends by itself where it has the host's pid namespace.
#[test]
fn a_child_that_hangs_after_its_monitor_was_killed_holds_up_nobody() {
    hangs_without_monitor(&["--pid=host"], CHILD);
}

fn hangs_without_monitor(flags: &[&str], looks: &str) {
    let Some(env) = Env::new() else { return };
    if no_fuse() {
        return;
    }
    env.waiting("other", &["--network=none"]);
    let stuck = Stuck::start(&env, "stuck", flags, looks, true);
    let monitor = show(&env, "{{.State.ConmonPid}}", "stuck");
    kill_all(&[monitor.parse().unwrap()]);
    let shown = "other running 0, stuck exited 137";
    assert_eq!(states(&env), shown);
    let why = format!(
        "was killed and has not ended: process {} hangs in the kernel",
        stuck.process
    );
    for words in [&["rm", "-f", "-t0", "stuck"][..], &["start", "stuck"]] {
        fail(&env, Duration::from_secs(9), &[(words, &why)]);
    }
    for words in [
        &["ps"][..],
        &["info"],
        &["stats", "--no-stream"],
        &["logs", "stuck"],
    ] {
        quick(&env, words);
    }
    assert_eq!(states(&env), shown);
    stuck.ends();
    quick(&env, &["start", "stuck"]);
    env.kelp(&["rm", "-f", "-t0", "stuck", "other"]).succeeds();
}

/// Each of them leaves a connection behind that is not taken.
#[test]
fn many_who_ask_a_monitor_that_is_stopped_end_as_well() {
    let Some(env) = Env::new() else { return };
    let mut monitors = Vec::new();
    for (name, flags) in [
        ("asked", &[][..]),
        ("removed", &[]),
        ("joined", &["--pid=container:asked"]),
    ] {
        let usual = ["--health-cmd=true", "--restart=always"];
        let id = env.waiting(name, &[&usual[..], flags].concat());
        let monitor = show(&env, "{{.State.ConmonPid}}", name).parse().unwrap();
        signal(monitor, Signal::STOP);
        let socket = env.runtime().join(format!("kelp/c/{id}/sock"));
        let address = SocketAddrUnix::new(socket).unwrap();
        let waiting = std::iter::from_fn(|| knock(&address)).count();
        assert!(waiting > 10, "{waiting} wait");
        monitors.push(monitor);
    }
    let mut remove = env.kelp(&["rm", "-f", "-t0", "removed", "joined"]).start();
    let mut inspect = env.kelp(&["inspect", "asked"]).start();
    let inspected = collect(inspect.stdout.take().unwrap());
    let too_many = "it does not answer, and too many wait for that already";
    fail(
        &env,
        Duration::from_secs(15),
        &[
            (&["pause", "asked"], too_many),
            (&["attach", "asked"], too_many),
            (&["healthcheck", "run", "asked"], too_many),
        ],
    );
    assert_eq!(wait(&mut inspect, "inspect"), 0);
    assert!(!inspected.recv_timeout(LIMIT).unwrap().is_empty());
    assert_eq!(wait(&mut remove, "rm -f"), 0);
    assert_eq!(states(&env), "asked running 0");
    signal(monitors[0], Signal::CONT);
    env.kelp(&["pause", "asked"]).succeeds();
    env.kelp(&["rm", "-f", "-t0", "asked"]).succeeds();
}

#[test]
fn a_monitor_that_is_stopped_holds_up_nobody_and_is_told_of() {
    let Some(env) = Env::new() else { return };
    env.waiting("other", &["--network=none"]);
    let mut monitors = Vec::new();
    for (name, flags) in [
        ("ended", &["--network=none"][..]),
        ("stuck", &["--health-cmd=true", "--health-interval=disable"]),
        ("paused", &["--network=none"]),
    ] {
        env.waiting(name, flags);
        if name == "paused" {
            env.kelp(&["pause", name]).succeeds();
        }
        let monitor = show(&env, "{{.State.ConmonPid}}", name).parse().unwrap();
        signal(monitor, Signal::STOP);
        monitors.push(monitor);
    }
    nobody_is_held_up(&env, "stuck");
    quick(&env, &["exec", "stuck", "true"]);
    let silent = "the container's monitor does not answer: it is stopped or traced";
    fail(
        &env,
        Duration::from_secs(15),
        &[
            (&["pause", "stuck"], silent),
            (&["healthcheck", "run", "stuck"], silent),
            (&["attach", "--sig-proxy=false", "stuck"], silent),
            (&["start", "-a", "stuck"], silent),
            (&["unpause", "paused"], silent),
            (
                &["stop", "-t0", "ended"],
                "has ended and its monitor does not: kelp rm -f removes both",
            ),
        ],
    );
    for monitor in monitors {
        signal(monitor, Signal::CONT);
    }
    assert_eq!(env.kelp(&["wait", "ended"]).succeeds(), "137\n");
    // What could not be told is as it was.
    assert_eq!(
        env.kelp(&["exec", "stuck", "echo", "on"]).succeeds(),
        "on\n"
    );
    env.kelp(&["healthcheck", "run", "stuck"]).succeeds();
    env.kelp(&["rm", "-f", "-t0", "-a"]).succeeds();
}

#[test]
fn a_reset_removes_what_it_can_and_tells_of_what_hangs() {
    let Some(env) = Env::new() else { return };
    if no_fuse() {
        return;
    }
    let stuck = Stuck::start(&env, "stuck", &[], FIRST, true);
    env.waiting("other", &["--network=none"]);
    let cgroup = show(&env, "{{.State.CgroupPath}}", "stuck");
    let hangs = format!("process {} hangs in the kernel", stuck.process);
    let reset = ["system", "reset", "-f"];
    fail(&env, Duration::from_secs(14), &[(&reset, &hangs)]);
    assert_eq!(states(&env), "");
    stuck.ends();
    // Of which nobody knows any more.
    fs::remove_dir(format!("/sys/fs/cgroup{cgroup}")).unwrap();
}
