//! SIGKILL for the command, the monitor and the init of a container that runs: each of them alone
//! and all of them together.

use std::fs;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::env::Env;
use crate::kelp::{LIMIT, wait_status};
use crate::skip::no_pasta;
use crate::terminal::Terminal;

/// Who is killed.
#[derive(Clone, Copy, Debug)]
struct Killed {
    command: bool,
    monitor: bool,
    init: bool,
}

const ALL: [Killed; 7] = {
    let mut all = [Killed {
        command: false,
        monitor: false,
        init: false,
    }; 7];
    let mut number = 0;
    while number < 7 {
        all[number] = Killed {
            command: (number + 1) & 1 != 0,
            monitor: (number + 1) & 2 != 0,
            init: (number + 1) & 4 != 0,
        };
        number += 1;
    }
    all
};

/// Kills, and waits for the ends.
pub(crate) fn kill_all(pids: &[i32]) {
    let pids = pids.iter().map(|&pid| Pid::from_raw(pid).unwrap());
    let pidfds: Vec<_> = pids
        .map(|pid| pidfd_open(pid, PidfdFlags::empty()).unwrap())
        .collect();
    for pidfd in &pidfds {
        pidfd_send_signal(pidfd, Signal::KILL).unwrap();
    }
    let limit = Timespec {
        tv_sec: LIMIT.as_secs() as i64,
        tv_nsec: 0,
    };
    for pidfd in &pidfds {
        // A pidfd is readable once its process has ended.
        let mut ended = [PollFd::new(pidfd, PollFlags::IN)];
        assert_eq!(poll(&mut ended, Some(&limit)), Ok(1));
    }
}

/// The init and the monitor.
fn pids(env: &Env) -> (i32, i32) {
    let format = "{{.State.Pid}} {{.State.ConmonPid}}";
    let text = env
        .kelp(&["inspect", "--format", format, "victim"])
        .succeeds();
    let (init, monitor) = text.trim().split_once(' ').unwrap();
    (init.parse().unwrap(), monitor.parse().unwrap())
}

/// What `ps -a` says of the container, if it lists it.
fn state(env: &Env) -> Option<String> {
    let format = "{{.State}} {{.ExitCode}}";
    let text = env.kelp(&["ps", "-a", "--format", format]).succeeds();
    let line = text.lines().next().map(str::to_owned);
    assert!(text.lines().count() <= 1, "{text}");
    line
}

/// After the killing: the state is right, the log is there, and the container can be removed.
fn settles(env: &Env, killed: Killed, remove: bool, log: &str) {
    let what = format!("{killed:?} remove: {remove}");
    if !killed.monitor && killed.init {
        // The monitor has to notice, and a --rm container may be gone by then.
        let waited = env.kelp(&["wait", "victim"]).done();
        assert!(remove || waited.stdout == "137\n", "{what}: {waited:#?}");
    }
    let ended = killed.monitor || killed.init;
    let expected = match (ended, remove) {
        (false, _) => Some("running 0"),
        (true, false) => Some("exited 137"),
        (true, true) => None,
    };
    assert_eq!(state(env).as_deref(), expected, "{what}");
    if expected.is_some() {
        assert_eq!(env.kelp(&["logs", "victim"]).succeeds(), log, "{what}");
    }
    let removed = env.kelp(&["rm", "-f", "-t", "0", "victim"]).done();
    assert_eq!(
        (removed.code, removed.stderr.as_str()),
        (0, ""),
        "{what}: {removed:#?}"
    );
    assert_eq!(state(env), None, "{what}");
}

fn command<'a>(flags: &[&'a str], remove: bool, image: &'a str) -> Vec<&'a str> {
    let remove: &[&str] = if remove { &["--rm"] } else { &[] };
    let script = "echo before; exec sleep 100000";
    let run = ["run", "--name", "victim"];
    [&run[..], flags, remove, &[image, "sh", "-c", script]].concat()
}

/// Waits until the log has the container's line: the client may have it a little earlier.
fn wait_until_logged(env: &Env) {
    let mut command = env.kelp(&["logs", "-f", "victim"]).into_command();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 7];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    kill_all(&[child.id() as i32]);
    child.wait().unwrap();
}

/// With pipes, and with a network if there is one to be had.
#[test]
fn a_container_with_pipes_is_killed_in_all_combinations() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let network: &[&str] = match no_pasta() {
        None => &["--network", "pasta"],
        Some(_) => &[],
    };
    for killed in ALL {
        for remove in [false, true] {
            let mut command = env.kelp(&command(network, remove, &image)).into_command();
            let mut child = command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = [0; 7];
            let stdout = child.stdout.as_mut().unwrap();
            std::io::Read::read_exact(stdout, &mut line).unwrap();
            assert_eq!(&line, b"before\n");
            wait_until_logged(&env);
            let (init, monitor) = pids(&env);
            let own = child.id() as i32;
            kill_all(&chosen(killed, [own, monitor, init]));
            settles(&env, killed, remove, "before\n");
            let status = wait_status(&mut child, "run");
            if !killed.command {
                assert_eq!(status.code(), Some(137), "{killed:?} remove: {remove}");
            }
        }
    }
}

#[test]
fn a_container_with_a_terminal_is_killed_in_all_combinations() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for killed in ALL {
        for remove in [false, true] {
            let kelp = env.kelp(&command(&["-it", "--network", "none"], remove, &image));
            let mut terminal = Terminal::start(kelp);
            terminal.expect("before\r\n");
            wait_until_logged(&env);
            let (init, monitor) = pids(&env);
            let own = terminal.pid();
            kill_all(&chosen(killed, [own, monitor, init]));
            settles(&env, killed, remove, "before\r\n");
            let status = terminal.end();
            if !killed.command {
                assert_eq!(status.code(), Some(137), "{killed:?} remove: {remove}");
            }
        }
    }
}

/// After a boot the numbers in the record are other processes'.
#[test]
fn after_a_boot_nobody_else_is_killed() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let mut innocent = Command::new("sleep").arg("100000").spawn().unwrap();
    for remove in [false, true] {
        let run = command(&["-d", "--network", "none"], remove, &image);
        let id = env.kelp(&run).succeeds();
        let (init, monitor) = pids(&env);
        let path = env.path(&format!("r/kelp/c/{}/run.json", id.trim()));
        let text = fs::read_to_string(&path).unwrap();
        kill_all(&[monitor, init]);
        let mut run: Value = serde_json::from_str(&text).unwrap();
        run["boot_id"] = "of-another-boot".into();
        run["pid"] = innocent.id().into();
        run["monitor"] = innocent.id().into();
        fs::write(&path, run.to_string()).unwrap();
        let expected = (!remove).then_some("exited 137");
        assert_eq!(state(&env).as_deref(), expected);
        if !remove {
            let error = ["inspect", "--format", "{{.State.Error}}", "victim"];
            let error = env.kelp(&error).succeeds();
            assert_eq!(error, "the machine was restarted\n");
            env.kelp(&["start", "victim"]).succeeds();
            env.kelp(&["rm", "-f", "-t", "0", "victim"]).succeeds();
        }
        assert!(innocent.try_wait().unwrap().is_none());
    }
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

fn chosen(killed: Killed, pids: [i32; 3]) -> Vec<i32> {
    [killed.command, killed.monitor, killed.init]
        .into_iter()
        .zip(pids)
        .filter_map(|(chosen, pid)| chosen.then_some(pid))
        .collect()
}
