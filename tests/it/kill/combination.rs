//! SIGKILL for the command, the monitor and the init of a container that runs, and for what makes its health
//! checks: each of them alone and all of them together.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::env::Env;
use crate::health::runs;
use crate::kelp::{LIMIT, wait_status, wait_until};
use crate::skip::no_pasta;
use crate::terminal::Terminal;

/// Who is killed.
#[derive(Clone, Copy, Debug)]
struct Killed {
    command: bool,
    monitor: bool,
    init: bool,
    probe: bool,
}

/// All choices, of a container that has no probe or that has one.
fn choices(has_probe: bool) -> impl Iterator<Item = Killed> {
    let end = if has_probe { 16 } else { 8 };
    (1..end).map(|bits: u8| Killed {
        command: bits & 1 != 0,
        monitor: bits & 2 != 0,
        init: bits & 4 != 0,
        probe: bits & 8 != 0,
    })
}

/// Kills, and waits for the ends.
pub(crate) fn kill_all(pids: &[i32]) {
    let pids = pids.iter().map(|&pid| Pid::from_raw(pid).unwrap());
    let pidfds: Vec<_> = pids
        .map(|pid| pidfd_open(pid, PidfdFlags::empty()).unwrap())
        .collect();
    for pidfd in &pidfds {
        // One may have taken another along, which is reaped by now.
        let sent = pidfd_send_signal(pidfd, Signal::KILL);
        assert!(matches!(sent, Ok(()) | Err(Errno::SRCH)), "{sent:?}");
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
    let start = Instant::now();
    let text = env.kelp(&["ps", "-a", "--format", format]).succeeds();
    assert!(start.elapsed() < Duration::from_secs(1));
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
    for killed in choices(false) {
        for remove in [false, true] {
            let mut child = start_and_read(&env, &command(network, remove, &image));
            let (init, monitor) = pids(&env);
            let own = child.id() as i32;
            kill_all(&chosen(killed, [own, monitor, init, 0]));
            settles(&env, killed, remove, "before\n");
            ends(&mut child, killed, remove);
        }
    }
}

/// Starts a container; when its line is at the command and in its log, the command.
fn start_and_read(env: &Env, words: &[&str]) -> Child {
    let mut command = env.kelp(words).into_command();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 7];
    let stdout = child.stdout.as_mut().unwrap();
    std::io::Read::read_exact(stdout, &mut line).unwrap();
    assert_eq!(&line, b"before\n");
    wait_until_logged(env);
    child
}

/// The command that has run the container has its code.
fn ends(child: &mut Child, killed: Killed, remove: bool) {
    let status = wait_status(child, "run");
    if !killed.command {
        assert_eq!(status.code(), Some(137), "{killed:?} remove: {remove}");
    }
}

/// How many worlds there are: where process 1 of the machine takes its time to reap what has lost its parent, the end
/// of a container with a check waits for that.
const WORLDS: usize = 6;

/// A check is under way each time, whose program is left to whoever is not killed.
#[test]
fn a_container_with_health_checks_is_killed_in_all_combinations() {
    std::thread::scope(|scope| {
        for world in 0..WORLDS {
            scope.spawn(move || {
                let Some(env) = Env::new() else { return };
                // Nobody else's command line has it.
                let time = (98_770 + world).to_string();
                for killed in choices(true).skip(world).step_by(WORLDS) {
                    for remove in [false, true] {
                        kill_while_checked(&env, killed, remove, &time);
                    }
                }
            });
        }
    });
}

fn kill_while_checked(env: &Env, killed: Killed, remove: bool, time: &str) {
    let what = format!("{killed:?} remove: {remove}");
    let image = env.busybox();
    let check = format!(r#"--health-cmd=["sleep", "{time}"]"#);
    let flags = [
        "--network=none",
        &check,
        "--health-interval=50ms",
        "--health-timeout=1h",
        "--health-retries=1000",
    ];
    let mut child = start_and_read(env, &command(&flags, remove, &image));
    let (init, monitor) = pids(env);
    wait_until("a check is under way", || runs(time));
    let children = format!("/proc/{monitor}/task/{monitor}/children");
    let children = fs::read_to_string(children).unwrap();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let [first, probe] = children.collect::<Vec<i32>>()[..] else {
        panic!("{what}: not two children of the monitor");
    };
    assert_eq!(first, init, "{what}");
    let own = child.id() as i32;
    kill_all(&chosen(killed, [own, monitor, init, probe]));
    if !killed.monitor && !killed.init && killed.probe {
        wait_until("another check is made", || {
            let log = "{{range .State.Health.Log}}{{.ExitCode}} {{end}}";
            let log = env.kelp(&["inspect", "-f", log, "victim"]).succeeds();
            log.starts_with("-1") && runs(time)
        });
    }
    settles(env, killed, remove, "before\n");
    ends(&mut child, killed, remove);
    wait_until("no check is left", || !runs(time));
}

#[test]
fn a_container_with_a_terminal_is_killed_in_all_combinations() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for killed in choices(false) {
        for remove in [false, true] {
            let kelp = env.kelp(&command(&["-it", "--network", "none"], remove, &image));
            let mut terminal = Terminal::start(kelp);
            terminal.expect("before\r\n");
            wait_until_logged(&env);
            let (init, monitor) = pids(&env);
            let own = terminal.pid();
            kill_all(&chosen(killed, [own, monitor, init, 0]));
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

fn chosen(killed: Killed, pids: [i32; 4]) -> Vec<i32> {
    [killed.command, killed.monitor, killed.init, killed.probe]
        .into_iter()
        .zip(pids)
        .filter_map(|(chosen, pid)| chosen.then_some(pid))
        .collect()
}
