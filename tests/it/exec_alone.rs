//! `exec` whose command has gone: the process in the container lives on, and is reaped.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::env::Env;
use crate::terminal::Terminal;

/// Waits to be told, prints more than a terminal holds, and tells.
const SCRIPT: &str =
    "mkfifo /go /done; echo ready; read word </go; head -c 100000 /dev/zero; echo $word >/done";

fn start(env: &Env, name: &str, flags: &[&str]) {
    let image = env.busybox();
    let run = ["run", "-d", "--network=none", "--name", name];
    env.kelp(&[&run[..], flags, &[&image, "sleep", "1000"]].concat())
        .succeeds();
}

fn end(env: &Env) {
    env.kelp(&["rm", "-f", "-t0", "c"]).succeeds();
}

/// Lets [`SCRIPT`] go on, and waits for its end.
fn goes_on(env: &Env) {
    let script = "while ! test -p /done; do sleep 0.05; done; echo on >/go; cat /done";
    let said = env.kelp(&["exec", "c", "sh", "-c", script]).succeeds();
    assert_eq!(said, "on\n");
}

#[test]
fn in_the_background_with_a_terminal_it_runs_to_its_end() {
    let Some(env) = Env::new() else { return };
    start(&env, "c", &[]);
    for flags in ["-d", "-dt", "-dit"] {
        let id = env
            .kelp(&["exec", flags, "c", "sh", "-c", SCRIPT])
            .succeeds();
        assert_eq!(id.trim().len(), 64, "{id}");
        goes_on(&env);
        let remove = ["exec", "c", "rm", "/go", "/done"];
        env.kelp(&remove).succeeds();
    }
    end(&env);
}

#[test]
fn who_detaches_leaves_it_running() {
    let Some(env) = Env::new() else { return };
    start(&env, "c", &[]);
    let mut terminal = Terminal::start(env.kelp(&["exec", "-it", "c", "sh", "-c", SCRIPT]));
    terminal.expect("ready");
    terminal.send(&[16, 17]);
    assert_eq!(terminal.finish().0, 0);
    goes_on(&env);
    end(&env);
}

#[test]
fn a_window_that_is_closed_leaves_it_running() {
    let Some(env) = Env::new() else { return };
    start(&env, "c", &[]);
    let mut terminal = Terminal::start(env.kelp(&["exec", "-it", "c", "sh", "-c", SCRIPT]));
    terminal.expect("ready");
    terminal.close();
    goes_on(&env);
    end(&env);
}

#[test]
fn the_terminal_can_be_left_and_opened_again() {
    let Some(env) = Env::new() else { return };
    start(&env, "c", &[]);
    // Whoever waits for the pipe has closed the terminal before.
    let script = "mkfifo /left; T=$(tty); echo first
                  exec sh -c 'exec 3>/left; echo last >'$T'; exit 6' <&- >/dev/null 2>&1";
    let mut terminal = Terminal::start(env.kelp(&["exec", "-it", "c", "sh", "-c", script]));
    terminal.expect("first");
    env.kelp(&["exec", "c", "cat", "/left"]).succeeds();
    terminal.expect("last");
    assert_eq!(terminal.finish().0, 6);
    end(&env);
}

#[test]
fn the_terminal_carries_sizes_keys_and_the_exit_code() {
    let Some(env) = Env::new() else { return };
    start(&env, "c", &[]);
    let script = "stty size; trap 'echo caught; stty size; exit 5' INT; echo ready; \
                  while :; do sleep 0.05; done";
    let mut terminal = Terminal::start(env.kelp(&["exec", "-it", "c", "sh", "-c", script]));
    terminal.expect("24 80\r\nready\r\n");
    terminal.resize(100, 30);
    terminal.send(&[3]);
    terminal.expect("caught\r\n30 100\r\n");
    assert_eq!(terminal.finish().0, 5);
    end(&env);
}

#[test]
fn nothing_is_left_of_it_in_a_container_that_reaps_nothing() {
    let Some(env) = Env::new() else { return };
    start(&env, "c", &[]);
    for _ in 0..3 {
        env.kelp(&["exec", "-d", "c", "true"]).succeeds();
        env.kelp(&["exec", "-dt", "c", "true"]).succeeds();
    }
    // Those of the container and of this exec are left.
    let script = "until set -- /proc/[0-9]*; test $# = 2; do sleep 0.05; done";
    env.kelp(&["exec", "c", "sh", "-c", script]).succeeds();
    end(&env);
}

#[test]
fn it_ends_with_its_container_also_among_the_hosts_processes() {
    let Some(env) = Env::new() else { return };
    start(&env, "c", &["--pid=host", "--cgroups=disabled"]);
    env.kelp(&["exec", "-d", "c", "sleep", "1000"]).succeeds();
    env.kelp(&["exec", "-dt", "c", "sleep", "1000"]).succeeds();
    // What is left fails the test when its environment ends.
    end(&env);
}

#[test]
fn what_can_not_be_is_told() {
    let Some(env) = Env::new() else { return };
    start(&env, "c", &[]);
    for flag in ["-i", "-d", "-t"] {
        let missing = env.kelp(&["exec", flag, "c", "no-such-program"]).fails(127);
        assert_eq!(
            missing,
            "Error: no-such-program: executable file not found in $PATH: no such file or directory"
        );
        let directory = env.kelp(&["exec", flag, "-w", "/nosuch", "c", "true"]);
        assert_eq!(
            directory.fails(127),
            "Error: change to the working directory /nosuch: no such file or directory"
        );
    }
    let script = "test -e /nosuch || echo none";
    let left = env.kelp(&["exec", "c", "sh", "-c", script]).succeeds();
    assert_eq!(left, "none\n");
    let format = "{{.State.Pid}} {{.State.ConmonPid}}";
    let pids = env.kelp(&["inspect", "-f", format, "c"]).succeeds();
    let mut pids = pids.split_whitespace();
    let mut pid = || Pid::from_raw(pids.next().unwrap().parse().unwrap()).unwrap();
    let (init, monitor) = (pid(), pid());
    // Its end is known to nobody yet.
    kill_process(monitor, Signal::STOP).unwrap();
    let process = pidfd_open(init, PidfdFlags::empty()).unwrap();
    kill_process(init, Signal::KILL).unwrap();
    // A pidfd is readable once its process has ended.
    poll(&mut [PollFd::new(&process, PollFlags::IN)], None).unwrap();
    for ended in [false, true] {
        if ended {
            kill_process(monitor, Signal::CONT).unwrap();
            env.kelp(&["wait", "-i", "1m30s", "c"]).succeeds();
        }
        for flag in ["-i", "-d", "-t"] {
            let line = env.kelp(&["exec", flag, "c", "true"]).fails(125);
            assert!(
                line.contains("is not running: container state improper"),
                "{line}"
            );
        }
    }
    end(&env);
}
