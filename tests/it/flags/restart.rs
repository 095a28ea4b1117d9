//! Flags about the end of a container: when it comes, and what comes after it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use crate::env::Env;
use crate::kelp::wait_until;

/// A fifo that containers write a line to each time they are started.
pub(crate) struct Starts {
    path: PathBuf,
    lines: BufReader<File>,
}

impl Starts {
    pub(crate) fn new(env: &Env) -> Self {
        let path = env.path("h/starts");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        // For writing as well, or opening would wait for a writer, and reading would find an end.
        let file = File::options().read(true).write(true).open(&path).unwrap();
        Self {
            path,
            lines: BufReader::new(file),
        }
    }

    pub(crate) fn volume(&self) -> String {
        format!("{}:/starts", self.path.display())
    }

    /// Waits until so many have started.
    pub(crate) fn wait(&mut self, count: usize) {
        for _ in 0..count {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            assert_eq!(line, "started\n");
        }
    }
}

fn shown(env: &Env, name: &str) -> String {
    let format = "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}} \
                  {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    env.kelp(&["inspect", "-f", format, name]).succeeds()
}

#[test]
fn what_failed_is_started_again_so_often() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let mut starts = Starts::new(&env);
    let volume = starts.volume();
    let flags = [
        "run",
        "-d",
        "--name=web",
        "--restart=on-failure:2",
        "-v",
        &volume,
    ];
    let script = "echo started >/starts; echo out; exit 3";
    env.kelp(&[&flags[..], &[&image, "sh", "-c", script]].concat())
        .succeeds();
    starts.wait(3);
    env.kelp(&["wait", "web"]).succeeds();
    assert_eq!(shown(&env, "web"), "exited 3 2 on-failure 2\n");
    assert_eq!(env.kelp(&["logs", "web"]).succeeds(), "out\nout\nout\n");
    let listed = env
        .kelp(&["ps", "-a", "--format", "{{.Restarts}}"])
        .succeeds();
    assert_eq!(listed, "2\n");
    // Somebody who starts it starts to count.
    env.kelp(&["start", "web"]).succeeds();
    starts.wait(3);
    env.kelp(&["wait", "web"]).succeeds();
    assert_eq!(shown(&env, "web"), "exited 3 2 on-failure 2\n");
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn who_joins_another_joins_what_it_is_by_then() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let mut starts = Starts::new(&env);
    let volume = starts.volume();
    let one = ["run", "-d", "--name=one", &image, "sleep", "1000"];
    env.kelp(&one).succeeds();
    let namespace = || {
        env.kelp(&["exec", "one", "readlink", "/proc/self/ns/uts"])
            .succeeds()
    };
    let first = namespace();
    let flags = [
        "run",
        "-d",
        "--name=two",
        "--restart=always",
        "--uts=container:one",
    ];
    let script = "readlink /proc/self/ns/uts; trap 'exit 3' USR1; echo started >/starts
                  while sleep 0.1; do :; done";
    let program = ["-v", &volume, &image, "sh", "-c", script];
    env.kelp(&[&flags[..], &program].concat()).succeeds();
    starts.wait(1);
    env.kelp(&["restart", "-t0", "one"]).succeeds();
    let second = namespace();
    assert_ne!(first, second);
    env.kelp(&["exec", "two", "kill", "-USR1", "1"]).succeeds();
    starts.wait(1);
    // The monitor may be behind.
    let expected = first + &second;
    wait_until("both have said theirs", || {
        env.kelp(&["logs", "two"]).succeeds() == expected
    });
    env.kelp(&["rm", "-f", "-t0", "two", "one"]).succeeds();
}

#[test]
fn what_succeeded_is_not_started_again_for_having_failed() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let words = ["run", "--name=web", "--restart=on-failure", &image, "true"];
    env.kelp(&words).succeeds();
    assert_eq!(shown(&env, "web"), "exited 0 0 on-failure 0\n");
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn what_is_stopped_stays_stopped() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let mut starts = Starts::new(&env);
    let volume = starts.volume();
    for (policy, then, end, code) in [
        // It runs when it is stopped.
        ("always", "sleep 1000", &["stop", "-t", "0"][..], 137),
        ("always", "sleep 1000", &["kill"], 137),
        // It is about to be started again.
        ("unless-stopped", "exit 4", &["stop"], 4),
        ("always", "exit 4", &["stop", "-a"], 4),
        ("always", "exit 4", &["stop", "--filter"], 4),
    ] {
        let restart = format!("--restart={policy}");
        let script = format!("echo started >/starts; {then}");
        let flags = ["run", "-d", "--name=web", &restart, "-v", &volume];
        env.kelp(&[&flags[..], &[&image, "sh", "-c", &script]].concat())
            .succeeds();
        // The pause after the fourth start is long enough to be met.
        starts.wait(if then == "exit 4" { 4 } else { 1 });
        if then == "exit 4" {
            env.kelp(&["wait", "web"]).succeeds();
        }
        let whom = match end.last() {
            Some(&"-a") => &[][..],
            Some(&"--filter") => &["name=web"],
            _ => &["web"],
        };
        let said = env.kelp(&[end, whom].concat()).succeeds();
        assert_eq!(said.lines().count(), 1, "{said} of {policy} {end:?}");
        env.kelp(&["wait", "web"]).succeeds();
        let seen = shown(&env, "web");
        assert!(
            seen.starts_with(&format!("exited {code} ")),
            "{seen} of {policy} {end:?}"
        );
        env.kelp(&["rm", "web"]).succeeds();
    }
}

#[test]
fn a_policy_that_is_taken_away_in_a_pause_gives_no_more_run() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let mut starts = Starts::new(&env);
    let volume = starts.volume();
    let flags = ["run", "-d", "--name=web", "--restart=always", "-v", &volume];
    let script = "echo started >/starts; exit 4";
    env.kelp(&[&flags[..], &[&image, "sh", "-c", script]].concat())
        .succeeds();
    // The pause after the sixth start is of three seconds.
    starts.wait(6);
    wait_until("the program has ended", || {
        !shown(&env, "web").starts_with("running ")
    });
    env.kelp(&["update", "--restart=no", "web"]).succeeds();
    wait_until("the pause is over", || {
        shown(&env, "web").starts_with("exited ")
    });
    assert_eq!(shown(&env, "web"), "exited 4 5 no 0\n");
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn a_container_that_starts_again_and_again_can_be_removed() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let mut starts = Starts::new(&env);
    let volume = starts.volume();
    let flags = ["run", "-d", "--name=web", "--restart=always", "-v", &volume];
    env.kelp(&[&flags[..], &[&image, "sh", "-c", "echo started >/starts"]].concat())
        .succeeds();
    starts.wait(3);
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
}

/// The next run is made before its pause is over, and its program waits until it is.
#[test]
fn no_program_runs_before_its_pause_is_over() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let flags = ["run", "-d", "--name=web", "--restart=on-failure:3"];
    let script = "read up _ </proc/uptime; echo $up; exit 3";
    env.kelp(&[&flags[..], &[&image, "sh", "-c", script]].concat())
        .succeeds();
    wait_until("it has failed for good", || {
        shown(&env, "web").contains("exited 3 3")
    });
    let said = env.kelp(&["logs", "web"]).succeeds();
    let times: Vec<f64> = said.lines().map(|time| time.parse().unwrap()).collect();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The kernel's uptime has hundredths.
    for (pause, least) in pauses.iter().zip([0.09, 0.19, 0.39]) {
        assert!(*pause >= least, "{pauses:?}");
    }
    assert_eq!(pauses.len(), 3);
    env.kelp(&["rm", "web"]).succeeds();
}

/// What the monitor has as a child in a pause is the next run.
#[test]
fn a_run_that_is_made_and_not_begun_leaves_nothing() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let mut starts = Starts::new(&env);
    let volume = starts.volume();
    for then in ["stop", "rm", "kill the monitor", "kill it"] {
        let flags = ["run", "-d", "--name=web", "--restart=always", "-v", &volume];
        let script = "echo started >/starts; exit 4";
        env.kelp(&[&flags[..], &[&image, "sh", "-c", script]].concat())
            .succeeds();
        let monitor = env.kelp(&["inspect", "-f", "{{.State.ConmonPid}}", "web"]);
        let monitor = monitor.succeeds();
        let monitor = monitor.trim();
        // Of 800 ms, in the last 100 of which the next run is there.
        starts.wait(4);
        env.kelp(&["wait", "web"]).succeeds();
        let children = format!("/proc/{monitor}/task/{monitor}/children");
        let children = || fs::read_to_string(&children).unwrap();
        wait_until("the next run is made", || !children().is_empty());
        let next = children();
        match then {
            "stop" => {
                env.kelp(&["stop", "web"]).succeeds();
                assert!(shown(&env, "web").starts_with("exited 4 "));
            }
            "rm" => {
                env.kelp(&["rm", "-f", "web"]).succeeds();
                assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
            }
            "kill the monitor" => {
                kill_process(pid(monitor), Signal::KILL).unwrap();
                env.kelp(&["wait", "web"]).succeeds();
            }
            _ => {
                // Its network is there after it.
                let init = next.split_ascii_whitespace().next().unwrap();
                kill_process(pid(init), Signal::KILL).unwrap();
                // As a run that ended at once: another one comes.
                starts.wait(1);
                env.kelp(&["stop", "-t", "0", "web"]).succeeds();
            }
        }
        if then != "rm" {
            env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
        }
    }
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

#[test]
fn a_policy_needs_a_container_that_stays() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (flags, said) in [
        (
            &["--rm", "--restart=always"][..],
            "--rm and --restart exclude each other: a container that is gone can't start again",
        ),
        (
            &["--rmi", "--restart=always"],
            "--rmi and --restart exclude each other: a container that is gone can't start again",
        ),
        (
            &["--restart=sometimes"],
            "invalid restart policy \"sometimes\": use no, on-failure[:RETRIES], always or \
             unless-stopped",
        ),
    ] {
        let words = [&["run"], flags, &[&image]].concat();
        assert_eq!(env.kelp(&words).fails(125), format!("Error: {said}"));
    }
}

#[test]
fn time_that_is_over_ends_the_container() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let words = ["run", "--name=web", "--timeout=1", &image, "sleep", "1000"];
    let done = env.kelp(&words).done();
    assert_eq!((done.code, done.stderr.as_str()), (255, ""));
    let format = "{{.State.ExitCode}} {{.State.Error}}";
    assert_eq!(
        env.kelp(&["inspect", "-f", format, "web"]).succeeds(),
        "255 it ran for longer than --timeout allows\n"
    );
    assert_eq!(env.shell(&["--timeout=1000"], "echo in time"), "in time\n");
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn the_end_of_a_session_is_no_stop_of_somebodys() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = ["run", "-d", "--restart=unless-stopped", "--stop-timeout=0"];
    let due = || {
        let words = ["ps", "-a", "--filter=should-start-on-boot=true"];
        let format = "--format={{.Names}} {{.State}}";
        env.kelp(&[&words[..], &[format]].concat()).succeeds()
    };
    env.kelp(&[&run[..], &["--name=web", &image, "sleep", "1000"]].concat())
        .succeeds();
    // As systemd ends whatever runs.
    let monitor = env.kelp(&["inspect", "-f", "{{.State.ConmonPid}}", "web"]);
    kill_process(pid(&monitor.succeeds()), Signal::TERM).unwrap();
    env.kelp(&["wait", "web"]).succeeds();
    assert_eq!(due(), "web exited\n");
    env.kelp(&["start", "--all", "--filter=should-start-on-boot=true"])
        .succeeds();
    assert_eq!(due(), "web running\n");
    env.kelp(&["stop", "web"]).succeeds();
    assert_eq!(due(), "");
    env.kelp(&["rm", "web"]).succeeds();
}
