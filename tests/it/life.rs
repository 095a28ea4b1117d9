//! A container lives as long as its monitor, a start as long as its starter, and nothing is left of
//! one that fails on the way.

mod elsewhere;
mod hangs;
mod hostile;

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::env::Env;
use crate::kelp::{LIMIT, wait_until};
use crate::kill::Scene;
use crate::terminal::Terminal;

/// A kelp command and what it starts under strace with these flags.
fn traced(env: &Env, flags: &[&str], command: &[&str]) -> Command {
    let kelp = env.kelp(command).into_command();
    crate::kelp::traced(&kelp, &env.path("trace"), &[&["-f"], flags].concat())
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

fn kill(child: &Child) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::KILL).unwrap();
}

fn ends(pidfd: &OwnedFd) -> bool {
    let limit = Timespec {
        tv_sec: LIMIT.as_secs() as i64,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

/// A change of the user id clears the parent-death signal.
#[test]
fn a_program_of_any_user_ends_with_its_monitor() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let inspect = |format: &str| env.kelp(&["inspect", "-f", format, "box"]).succeeds();
    for flags in [
        &["--user", "root"][..],
        &["--user", "1000"],
        &["--user", "0:1000"],
        &["--user", "user", "--init"],
        &["--user", "user", "--security-opt", "no-new-privileges"],
        &["--userns", "keep-id"],
        &["--userns", "nomap", "--user", "7"],
    ] {
        let run = ["run", "-d", "--name", "box", "--network", "none"];
        env.kelp(&[&run[..], flags, &[&image, "sleep", "100000"]].concat())
            .succeeds();
        let init = pid(&inspect("{{.State.Pid}}"));
        let init = pidfd_open(init, PidfdFlags::empty()).unwrap();
        kill_process(pid(&inspect("{{.State.ConmonPid}}")), Signal::KILL).unwrap();
        // Nobody has looked at the container meanwhile, who would have killed it.
        assert!(ends(&init), "{flags:?}");
        env.kelp(&["rm", "-f", "box"]).succeeds();
    }
    // What the monitors had in the runtime directory.
    env.kelp(&["image", "prune", "-f"]).done().exits(0);
}

#[test]
fn a_program_whose_pid_file_cant_be_written_never_runs() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let shared = env.path("h/shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    for flag in ["--pidfile", "--conmon-pidfile"] {
        for user in ["0", "1000"] {
            let run = ["run", "-d", "--name", "box", "--user", user, "-v", &volume];
            let program = ["sh", "-c", "echo >/shared/ran; exec sleep 100000"];
            let file = [flag, "/nonexistent/x", image.as_str()];
            let line = env.kelp(&[&run[..], &file, &program].concat()).fails(125);
            assert_eq!(
                line,
                "Error: write /nonexistent/x: no such file or directory"
            );
            let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}";
            let state = env.kelp(&["inspect", "-f", format, "box"]).succeeds();
            let said = "write /nonexistent/x: no such file or directory";
            assert_eq!(state, format!("exited 125 {said}\n"));
            env.kelp(&["rm", "box"]).succeeds();
            assert!(!shared.join("ran").exists());
        }
    }
    let written = env.path("h/pid");
    let file = ["--pidfile", written.to_str().unwrap(), image.as_str()];
    let run = ["run", "-d", "--name", "box"];
    env.kelp(&[&run[..], &file, &["sleep", "100000"]].concat())
        .succeeds();
    let format = "{{.State.Pid}}";
    let told = env.kelp(&["inspect", "-f", format, "box"]).succeeds();
    assert_eq!(fs::read_to_string(&written).unwrap(), told.trim());
    env.kelp(&["rm", "-f", "-t", "0", "box"]).succeeds();
}

/// The monitor's first rename is that of the record of what runs.
#[test]
fn a_program_that_cant_be_recorded_is_killed() {
    let Some(scene) = Scene::new() else { return };
    let env = &scene.env;
    let image = env.busybox();
    let fifo = env.path("h/fifo");
    make_fifo(&fifo);
    let volume = format!("{}:/fifo", fifo.display());
    for restart in ["no", "on-failure:1"] {
        let create = ["create", "--network", "none", "--name", "victim"];
        let flags = ["--user", "1000", "--group-add", "0", "-v", &volume];
        let restart = ["--restart", restart, image.as_str()];
        // For reading as well, or it would wait for somebody who reads.
        let program = ["sh", "-c", "exec sleep 100000 <>/fifo"];
        env.kelp(&[&create[..], &flags, &restart, &program].concat())
            .succeeds();
        let calls = "rename,renameat,renameat2";
        let inject = format!("--inject={calls}:error=EIO:when=1");
        let trace = format!("--trace={calls}");
        let mut start = traced(env, &[&trace, &inject], &["start", "victim"]);
        let status = start.status().unwrap();
        assert_eq!(status.code(), Some(125));
        let trace = fs::read_to_string(env.path("trace")).unwrap();
        assert!(trace.contains("run.json"), "{trace}");
        let format = "{{.State.Status}} {{.State.ExitCode}}";
        let state = env.kelp(&["inspect", "-f", format, "victim"]).succeeds();
        assert_eq!(state, "exited 125\n");
        assert!(!is_held(&fifo));
        env.kelp(&["rm", "victim"]).succeeds();
    }
    scene.end();
}

/// Whether somebody has a fifo open for writing.
fn is_held(fifo: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(fifo, flags, Mode::empty()).unwrap();
    // Without a writer it is at its end (fifo(7)).
    rustix::io::read(&file, &mut [0; 1]) == Err(Errno::AGAIN)
}

/// One that every user may open.
pub(crate) fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo")
        .args(["-m", "666"])
        .arg(path)
        .status();
    assert!(made.unwrap().success());
}

/// The program ends while the fork has not yet returned in its parent.
#[test]
fn an_init_sees_the_end_of_a_program_that_is_quicker() {
    let Some(scene) = Scene::new() else { return };
    let env = &scene.env;
    let image = env.busybox();
    let calls = "clone,fork,vfork";
    let inject = format!("--inject={calls}:delay_exit=300000");
    let run = ["run", "--init", "--name", "victim", "--network", "none"];
    let command = [&run[..], &[&image, "sh", "-c", "exit 7"]].concat();
    let mut run = traced(env, &[&format!("--trace={calls}"), &inject], &command);
    let mut run = run.spawn().unwrap();
    assert_eq!(crate::kelp::wait(&mut run, "run --init"), 7);
    scene.end();
}

#[test]
fn a_key_reaches_the_program_below_an_init_once() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "trap 'n=$((n+1))' INT; n=0; echo ready
                  while :; do read x && { [ $x = end ] && exit 3; echo count=$n; }; done";
    let run = ["run", "-it", "--rm", "--init", &image];
    let command = [&run[..], &["sh", "-c", script]].concat();
    let mut terminal = Terminal::start(env.kelp(&command));
    terminal.expect("ready\r\n");
    for count in 1..=10 {
        terminal.send(b"\x03");
        terminal.expect("^C");
        terminal.send(b"x\n");
        terminal.expect(&format!("count={count}\r\n"));
    }
    terminal.send(b"end\n");
    assert_eq!(terminal.finish().0, 3);
    // The foreground is the program's, or a shell would have no job control.
    let run = ["run", "-it", "--rm", "--init", &image, "sh", "-i"];
    let mut terminal = Terminal::start(env.kelp(&run));
    terminal.send(b"sleep 0 & wait; echo do''ne; exit 6\n");
    terminal.expect("done\r\n");
    let (code, _) = terminal.finish();
    assert_eq!(code, 6);
}
