//! Health checks: made by the monitor, told by ps, inspect, events and wait.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::env::Env;
use crate::flags::restart::Starts;
use crate::kelp::wait_until;

/// Runs busybox in the background with these flags and a shell command.
fn run(env: &Env, name: &str, flags: &[&str], script: &str) {
    let image = env.busybox();
    let words = [
        &["run", "-d", "--name", name, "--network=none"],
        flags,
        &[image.as_str(), "sh", "-c", script],
    ];
    env.kelp(&words.concat()).succeeds();
}

fn wait(env: &Env, state: &str, name: &str) {
    let condition = format!("--condition={state}");
    env.kelp(&["wait", &condition, name]).succeeds();
}

fn show(env: &Env, format: &str, name: &str) -> String {
    let shown = env.kelp(&["inspect", "-f", format, name]).succeeds();
    shown.trim_end().to_owned()
}

fn remove(env: &Env, names: &[&str]) {
    env.kelp(&[&["rm", "-f", "-t", "0"], names].concat())
        .succeeds();
}

/// One that says by itself when it works, and ends when it is asked to.
const WORKS: &str = "trap 'exit 7' TERM; : > /tmp/ok; while :; do sleep 0.1; done";

const QUICK: &[&str] = &["--health-interval=50ms", "--health-retries=2"];

#[test]
fn a_container_becomes_unhealthy_and_healthy_and_everybody_is_told() {
    let Some(env) = Env::new() else { return };
    let check = "--health-cmd=echo looking; [ -e /tmp/ok ]";
    run(&env, "web", &[&[check], QUICK].concat(), "sleep 1000");
    wait(&env, "unhealthy", "web");
    let ids = |filter| env.kelp(&["ps", "-q", "--filter", filter]).succeeds();
    assert_eq!(ids("health=unhealthy").lines().count(), 1);
    assert_eq!(ids("health=healthy"), "");
    env.kelp(&["exec", "web", "touch", "/tmp/ok"]).succeeds();
    wait(&env, "healthy", "web");
    let status = env.kelp(&["ps", "--format={{.Status}}"]).succeeds();
    assert!(status.contains("(healthy)"), "{status}");
    let text = env.kelp(&["inspect", "web"]).succeeds();
    let shown: Value = serde_json::from_str(&text).unwrap();
    let health = &shown[0]["State"]["Health"];
    assert_eq!(health["Status"], "healthy");
    assert_eq!(health["FailingStreak"], 0);
    let log = health["Log"].as_array().unwrap();
    assert!((2..=5).contains(&log.len()), "{text}");
    assert!(log.iter().all(|check| check["Output"] == "looking\n"));
    assert_eq!(log.last().unwrap()["ExitCode"], 0);
    let config = &shown[0]["Config"];
    assert_eq!(config["Healthcheck"]["Interval"], 50_000_000);
    assert_eq!(config["Healthcheck"]["Retries"], 2);
    assert_eq!(config["HealthcheckOnFailureAction"], "none");
    let events = [
        "events",
        "--stream=false",
        "--filter=event=health_status",
        "--format={{.Name}} {{.HealthStatus}}",
    ];
    // Only what changes is one.
    assert_eq!(env.kelp(&events).succeeds(), "web unhealthy\nweb healthy\n");
    // What was found last stays known.
    env.kelp(&["stop", "-t", "0", "web"]).succeeds();
    assert_eq!(show(&env, "{{.State.Health.Status}}", "web"), "healthy");
    let line = env.kelp(&["healthcheck", "run", "web"]).fails(125);
    assert_eq!(
        line,
        "Error: container web is not running: its health can't be checked"
    );
    remove(&env, &["web"]);
}

#[test]
fn a_check_is_made_when_it_is_asked_for() {
    let Some(env) = Env::new() else { return };
    let check = [
        "--health-cmd=[ -e /tmp/ok ] && [ $(id -u) = 5 ] && [ $X = y ]",
        "--health-interval=disable",
        "--health-retries=1",
        "--user=5",
        "--env=X=y",
    ];
    run(&env, "asked", &check, "sleep 1000");
    assert_eq!(show(&env, "{{.State.Health.Status}}", "asked"), "starting");
    let words = ["healthcheck", "run", "asked"];
    let done = env.kelp(&words).done();
    assert_eq!((done.code, done.stdout.as_str()), (1, "unhealthy\n"));
    let ignore = ["healthcheck", "run", "--ignore-result", "asked"];
    assert_eq!(env.kelp(&ignore).done().code, 0);
    env.kelp(&["exec", "asked", "touch", "/tmp/ok"]).succeeds();
    assert_eq!(env.kelp(&words).succeeds(), "");
    assert_eq!(show(&env, "{{.State.Health.Status}}", "asked"), "healthy");
    assert_eq!(show(&env, "{{len .State.Health.Log}}", "asked"), "3");
    let line = {
        run(&env, "without", &[], "sleep 1000");
        env.kelp(&["healthcheck", "run", "without"]).fails(125)
    };
    assert_eq!(
        line,
        "Error: container without has no defined healthcheck: create it with --health-cmd, or give it one with \
         kelp update --health-cmd"
    );
    let line = env
        .kelp(&["wait", "--condition=healthy", "without"])
        .fails(125);
    assert!(line.contains("has no defined healthcheck"), "{line}");
    remove(&env, &["asked", "without"]);
}

#[test]
fn a_check_that_takes_too_long_is_killed_with_what_it_has_started() {
    let Some(env) = Env::new() else { return };
    for (name, check) in [
        ("slow", "sleep 997 & sleep 998"),
        // Nobody waits for one that is stopped, either.
        ("still", "kill -STOP $$"),
    ] {
        let flags = [
            "--health-cmd",
            check,
            "--health-timeout=100ms",
            "--health-retries=1",
            "--health-interval=1h",
        ];
        run(&env, name, &flags, WORKS);
        wait(&env, "unhealthy", name);
        let log = "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}";
        assert_eq!(
            show(&env, log, name),
            "-1 health check exceeded timeout (0.1s)"
        );
        let processes = env.kelp(&["top", name, "args"]).succeeds();
        assert!(!processes.contains("sleep 99"), "{processes}");
        env.kelp(&["stop", name]).succeeds();
        assert_eq!(show(&env, "{{.State.ExitCode}}", name), "7");
    }
    remove(&env, &["slow", "still"]);
}

#[test]
fn an_unhealthy_container_is_killed_stopped_or_started_again() {
    let Some(env) = Env::new() else { return };
    let fails = ["--health-cmd=false", "--health-retries=1"];
    for (action, code, error) in [
        ("kill", "137", "it was unhealthy and was killed"),
        ("stop", "7", "it was unhealthy and was stopped"),
    ] {
        let flag = format!("--health-on-failure={action}");
        run(&env, action, &[&fails[..], &[&flag]].concat(), WORKS);
        assert_eq!(env.kelp(&["wait", action]).succeeds(), format!("{code}\n"));
        assert_eq!(show(&env, "{{.State.Error}}", action), error);
    }
    // A policy does not start one again that was to be stopped, but one that was killed.
    let flags = ["--health-on-failure=stop", "--restart=always"];
    run(&env, "stopped", &[&fails[..], &flags].concat(), WORKS);
    assert_eq!(env.kelp(&["wait", "stopped"]).succeeds(), "7\n");
    assert_eq!(show(&env, "{{.State.Status}}", "stopped"), "exited");
    let flags = ["--health-on-failure=kill", "--restart=on-failure:1"];
    run(&env, "killed", &[&fails[..], &flags].concat(), WORKS);
    assert_eq!(env.kelp(&["wait", "killed"]).succeeds(), "137\n");
    let count = "{{.State.Status}} {{.RestartCount}}";
    let ended = env.kelp(&["wait", "--condition=exited", "killed"]);
    ended.succeeds();
    assert_eq!(show(&env, count, "killed"), "exited 1");
    // Without a policy as well; and then it works.
    let flags = [
        "--health-cmd=[ -e /tmp/second ]",
        "--health-retries=1",
        "--health-interval=50ms",
        "--health-on-failure=restart",
        "--stop-timeout=0",
    ];
    let script = "[ -e /tmp/first ] && : > /tmp/second; : > /tmp/first; exec sleep 1000";
    run(&env, "again", &flags, script);
    wait(&env, "healthy", "again");
    assert_ne!(show(&env, count, "again"), "running 0");
    remove(&env, &["kill", "stop", "stopped", "killed", "again"]);
}

#[test]
fn startup_checks_come_first() {
    let Some(env) = Env::new() else { return };
    let flags = [
        "--health-cmd=true",
        "--health-interval=50ms",
        "--health-startup-cmd=[ -e /tmp/ok ]",
        "--health-startup-interval=50ms",
        "--health-startup-success=2",
    ];
    run(&env, "slow", &flags, "sleep 1000");
    let words = ["healthcheck", "run", "slow"];
    let done = env.kelp(&words).done();
    assert_eq!((done.code, done.stdout.as_str()), (1, "starting\n"));
    env.kelp(&["exec", "slow", "touch", "/tmp/ok"]).succeeds();
    wait(&env, "healthy", "slow");
    // It fails too often, and is started again.
    let flags = [
        "--health-cmd=true",
        "--health-startup-cmd=[ -e /tmp/second ]",
        "--health-startup-interval=50ms",
        "--health-startup-retries=2",
        "--stop-timeout=0",
    ];
    let script = "[ -e /tmp/first ] && : > /tmp/second; : > /tmp/first; exec sleep 1000";
    run(&env, "again", &flags, script);
    wait(&env, "healthy", "again");
    assert_eq!(show(&env, "{{.RestartCount}}", "again"), "1");
    remove(&env, &["slow", "again"]);
}

#[test]
fn an_image_says_how_it_is_checked_and_flags_go_over_it() {
    let Some(env) = Env::new() else { return };
    run(&env, "base", &[], "sleep 1000");
    let change = "HEALTHCHECK --interval=50ms --retries=9 CMD [ -e /tmp/ok ]";
    let commit = ["commit", "-q", "--change", change, "base", "checked"];
    env.kelp(&commit).succeeds();
    let start = |name, flags: &[&str]| {
        let words = [
            &["run", "-d", "--network=none", "--name", name],
            flags,
            &["checked", "sh", "-c", WORKS],
        ];
        env.kelp(&words.concat()).succeeds();
    };
    start("image", &[]);
    wait(&env, "healthy", "image");
    let check = "{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Retries}}";
    assert_eq!(show(&env, check, "image"), "[CMD-SHELL [ -e /tmp/ok ]] 9");
    start("flags", &["--health-retries=4", "--health-cmd=true"]);
    assert_eq!(show(&env, check, "flags"), "[CMD-SHELL true] 4");
    for (name, flag) in [
        ("none", "--no-healthcheck"),
        ("nothing", "--health-cmd=none"),
    ] {
        start(name, &[flag]);
        assert_eq!(show(&env, "{{.State.Health}}", name), "<no value>");
    }
    remove(&env, &["base", "image", "flags", "none", "nothing"]);
    env.kelp(&["rmi", "checked"]).succeeds();
}

#[test]
fn checks_change_while_the_container_runs() {
    let Some(env) = Env::new() else { return };
    run(&env, "web", &[], "sleep 1000");
    let words = [&["update", "--health-cmd=true"], QUICK, &["web"]].concat();
    env.kelp(&words).succeeds();
    wait(&env, "healthy", "web");
    env.kelp(&["update", "--health-cmd=false", "web"])
        .succeeds();
    wait(&env, "unhealthy", "web");
    env.kelp(&["update", "--no-healthcheck", "web"]).succeeds();
    assert_eq!(show(&env, "{{.State.Health}}", "web"), "<no value>");
    assert_eq!(
        env.kelp(&["update", "--health-retries=3", "web"])
            .fails(125),
        "Error: there is no health check to change: the image has none, and --health-cmd is not given"
    );
    remove(&env, &["web"]);
}

#[test]
fn nothing_is_checked_while_a_container_is_paused() {
    let Some(env) = Env::new() else { return };
    let flags = [
        "--health-cmd=echo x >> /tmp/checks",
        "--health-interval=20ms",
    ];
    run(&env, "web", &flags, "sleep 1000");
    wait(&env, "healthy", "web");
    env.kelp(&["pause", "web"]).succeeds();
    let line = env.kelp(&["healthcheck", "run", "web"]).fails(125);
    assert!(line.contains("paused"), "{line}");
    let streak = "{{.State.Health.Status}} {{.State.Health.FailingStreak}}";
    assert_eq!(show(&env, streak, "web"), "healthy 0");
    env.kelp(&["unpause", "web"]).succeeds();
    env.kelp(&["healthcheck", "run", "web"]).succeeds();
    assert_eq!(show(&env, streak, "web"), "healthy 0");
    remove(&env, &["web"]);
}

/// How often a process has gone to sleep.
fn sleeps(pid: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_container_that_stays_healthy_does_not_wake_its_monitor() {
    let Some(env) = Env::new() else { return };
    let place = env.path("h/marks");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    let marks = || fs::metadata(place.join("marks")).map_or(0, |data| data.len());
    let volume = format!("{}:/marks", place.display());
    let flags = [
        "--volume",
        &volume,
        "--health-cmd=echo x >> /marks/marks; wc -l < /marks/marks; [ ! -e /marks/bad ]",
        "--health-interval=20ms",
        "--health-retries=1",
        "--health-max-log-count=3",
    ];
    run(&env, "web", &flags, "sleep 1000");
    wait(&env, "healthy", "web");
    let monitor = show(&env, "{{.State.ConmonPid}}", "web");
    let (before, first) = (sleeps(&monitor), marks());
    wait_until("thirty checks are over", || marks() >= first + 60);
    assert!(sleeps(&monitor) < before + 10);
    // What came of them is known all the same.
    let log = |env: &Env| {
        let format = "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}{{end}}";
        show(env, format, "web")
    };
    let seen = log(&env);
    let numbers: Vec<u64> = seen
        .lines()
        .map(|line| line.strip_prefix("0 ").unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers.len(), 3, "{seen}");
    assert!(numbers[0] >= 28, "{seen}");
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{seen}"
    );
    // One that is asked for is made besides, and those that follow go on.
    env.kelp(&["healthcheck", "run", "web"]).succeeds();
    let first = marks();
    wait_until("more checks are over", || marks() >= first + 10);
    // More than the socket has room for, which nobody reads meanwhile.
    let first = marks();
    wait_until("many checks are over", || marks() >= first + 800);
    fs::write(place.join("bad"), "").unwrap();
    wait(&env, "unhealthy", "web");
    fs::remove_file(place.join("bad")).unwrap();
    wait(&env, "healthy", "web");
    assert_eq!(show(&env, "{{.State.Health.FailingStreak}}", "web"), "0");
    remove(&env, &["web"]);
}

#[test]
fn what_is_remembered_has_bounds_and_may_be_copied() {
    let Some(env) = Env::new() else { return };
    let directory = env.path("h/logs");
    fs::create_dir(&directory).unwrap();
    let destination = format!("--health-log-destination={}", directory.display());
    let flags = [
        "--health-cmd=head -c 100000 /dev/zero | tr '\\0' x",
        "--health-interval=disable",
        "--health-max-log-count=2",
        "--health-max-log-size=9",
        &destination,
    ];
    run(&env, "web", &flags, "sleep 1000");
    for _ in 0..3 {
        env.kelp(&["healthcheck", "run", "web"]).succeeds();
    }
    let outputs = "{{range .State.Health.Log}}{{.Output}} {{end}}";
    assert_eq!(show(&env, outputs, "web"), "xxxxxxxxx xxxxxxxxx");
    let file = fs::read_dir(&directory).unwrap().next().unwrap();
    let text = fs::read_to_string(file.unwrap().path()).unwrap();
    let copy: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(copy["Status"], "healthy");
    assert_eq!(copy["Log"].as_array().unwrap().len(), 2);
    remove(&env, &["web"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let Some(env) = Env::new() else { return };
    for (flags, part) in [
        (
            &["--health-interval=5s"][..],
            "there is no health check to change",
        ),
        (
            &["--health-cmd=true", "--health-retries=0"],
            "--health-retries",
        ),
        (
            &["--health-cmd=true", "--health-timeout=0s"],
            "longer than nothing",
        ),
        (
            &["--health-cmd=true", "--health-interval=often"],
            "use a time such as",
        ),
        (
            &["--health-cmd=true", "--health-on-failure=cry"],
            "use none, kill, restart or stop",
        ),
        (
            &["--health-cmd=true", "--no-healthcheck"],
            "cannot specify both",
        ),
        (&["--health-cmd=[]"], "the list is empty"),
        (
            &["--health-cmd=true", "--health-startup-retries=3"],
            "give --health-startup-cmd as well",
        ),
        (
            &["--health-cmd=true", "--health-log-destination=/nowhere"],
            "/nowhere",
        ),
        (
            &["--health-cmd=true", "--health-max-log-size=70000"],
            "at most 65536 bytes",
        ),
    ] {
        let image = env.busybox();
        let words = [&["create"], flags, &[image.as_str()]].concat();
        let line = env.kelp(&words).fails(125);
        assert!(line.contains(part), "{flags:?}: {line}");
    }
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
}

#[test]
fn events_tell_of_every_check_where_they_are_its_log() {
    let Some(env) = Env::new() else { return };
    let check = "--health-cmd=echo looked; [ -e /tmp/ok ]";
    let flags = [
        check,
        "--health-log-destination=events_logger",
        "--health-interval=disable",
        "--health-retries=5",
    ];
    run(&env, "web", &flags, "sleep 1000");
    let destination = "{{.Config.HealthLogDestination}}";
    assert_eq!(show(&env, destination, "web"), "events_logger");
    let words = ["healthcheck", "run", "--ignore-result", "web"];
    for _ in 0..2 {
        env.kelp(&words).succeeds();
    }
    env.kelp(&["exec", "web", "touch", "/tmp/ok"]).succeeds();
    for _ in 0..2 {
        env.kelp(&words).succeeds();
    }
    let filter = "--filter=event=health_status";
    let format = "--format={{.HealthStatus}} {{.HealthFailingStreak}} {{.HealthLog}}";
    let seen = env
        .kelp(&["events", "--stream=false", filter, format])
        .succeeds();
    let told: Vec<_> = seen
        .lines()
        .map(|line| {
            let (status, log) = line.split_once(" {").unwrap();
            let log: Value = serde_json::from_str(&["{", log].concat()).unwrap();
            assert_eq!(log["Output"], "looked\n");
            format!("{status} {}", log["ExitCode"])
        })
        .collect();
    assert_eq!(
        told,
        ["starting 1 1", "starting 2 1", "healthy 0 0", "healthy 0 0"]
    );
    let line = env.kelp(&["events", "--stream=false", filter]).succeeds();
    let first = line.lines().next().unwrap();
    assert!(
        first.contains(", health_status=starting, health_failing_streak=1, health_log={"),
        "{line}"
    );
    remove(&env, &["web"]);
}

/// Whether a process has this word in its command line.
pub(crate) fn runs(word: &str) -> bool {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.any(|line| {
        line.split(|&byte| byte == 0)
            .any(|it| it == word.as_bytes())
    })
}

#[test]
fn a_killed_monitor_takes_checks_along() {
    let Some(env) = Env::new() else { return };
    for (flag, word) in [("--pid=private", "98761"), ("--pid=host", "98762")] {
        let check = format!(r#"--health-cmd=["sleep", "{word}"]"#);
        let flags = [flag, &check, "--health-timeout=1h"];
        run(&env, "web", &flags, "exec sleep 1000");
        wait_until("a check is under way", || runs(word));
        let monitor = show(&env, "{{.State.ConmonPid}}", "web");
        let monitor = Pid::from_raw(monitor.parse().unwrap()).unwrap();
        kill_process(monitor, Signal::KILL).unwrap();
        wait_until("the check has ended", || !runs(word));
        assert_eq!(show(&env, "{{.State.Status}}", "web"), "exited");
        remove(&env, &["web"]);
    }
}

#[test]
fn a_killed_probe_is_a_check_that_failed_and_the_next_one_is_made() {
    let Some(env) = Env::new() else { return };
    let flags = [
        r#"--health-cmd=["sh", "-c", "[ -e /tmp/ok ] || exec sleep 98763"]"#,
        "--health-interval=50ms",
        "--health-retries=1",
        "--health-timeout=1h",
    ];
    run(&env, "web", &flags, "exec sleep 1000");
    wait_until("a check is under way", || runs("98763"));
    let monitor = show(&env, "{{.State.ConmonPid}}", "web");
    let children = format!("/proc/{monitor}/task/{monitor}/children");
    let children = fs::read_to_string(children).unwrap();
    env.kelp(&["exec", "web", "touch", "/tmp/ok"]).succeeds();
    // The probe is what the monitor has made last.
    let probe = children.split_whitespace().last().unwrap();
    let probe = Pid::from_raw(probe.parse().unwrap()).unwrap();
    kill_process(probe, Signal::KILL).unwrap();
    wait(&env, "healthy", "web");
    let log = show(
        &env,
        "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}};{{end}}",
        "web",
    );
    assert!(log.starts_with("-1 the health check was killed;"), "{log}");
    assert!(!runs("98763"));
    remove(&env, &["web"]);
}

#[test]
fn the_end_of_a_container_is_no_failure_of_its_check() {
    let Some(env) = Env::new() else { return };
    // By itself, in the middle of a check: nothing is done about it.
    let flags = [
        "--health-cmd=sleep 1000",
        "--health-retries=1",
        "--health-on-failure=restart",
    ];
    run(&env, "ends", &flags, "sleep 0.3");
    assert_eq!(env.kelp(&["wait", "ends"]).succeeds(), "0\n");
    let shown = "{{.State.Status}} {{.RestartCount}} {{.State.Health.Status}}{{.State.Error}}";
    assert_eq!(show(&env, shown, "ends"), "exited 0 starting");
    // Because somebody stops it: it has its time, whatever its checks would say.
    let script =
        "trap 'rm /tmp/ok; sleep 0.5; exit 7' TERM; : > /tmp/ok; while :; do sleep 0.1; done";
    let flags = [
        "--health-cmd=[ -e /tmp/ok ]",
        "--health-interval=20ms",
        "--health-retries=1",
        "--health-on-failure=kill",
        "--health-start-period=1m",
    ];
    run(&env, "stops", &flags, script);
    wait(&env, "healthy", "stops");
    env.kelp(&["stop", "stops"]).succeeds();
    assert_eq!(show(&env, "{{.State.ExitCode}}", "stops"), "7");
    remove(&env, &["ends", "stops"]);
}

#[test]
fn a_check_that_writes_without_end_is_over_in_time() {
    let Some(env) = Env::new() else { return };
    let flags = [
        "--health-cmd=yes",
        "--health-timeout=200ms",
        "--health-retries=1",
        "--health-interval=1h",
    ];
    run(&env, "web", &flags, "sleep 1000");
    wait(&env, "unhealthy", "web");
    let output = show(&env, "{{(index .State.Health.Log 0).Output}}", "web");
    assert_eq!(output, "health check exceeded timeout (0.2s)");
    remove(&env, &["web"]);
}

#[test]
fn one_that_removes_itself_is_started_again_first() {
    let Some(env) = Env::new() else { return };
    let place = env.path("h/runs");
    fs::create_dir(&place).unwrap();
    let volume = format!("{}:/runs", place.display());
    let flags = [
        "--rm",
        "--health-cmd=[ -e /runs/second ]",
        "--health-retries=1",
        "--health-interval=50ms",
        "--health-on-failure=restart",
        "--stop-timeout=0",
        "-v",
        &volume,
    ];
    let script = "[ -e /runs/first ] && : > /runs/second; : > /runs/first; exec sleep 1000";
    run(&env, "web", &flags, script);
    wait(&env, "healthy", "web");
    assert_ne!(show(&env, "{{.RestartCount}}", "web"), "0");
    env.kelp(&["stop", "-t", "0", "web"]).succeeds();
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
    // Between two runs as well: the pause after the fourth is long enough to be met.
    let mut starts = Starts::new(&env);
    let volume = starts.volume();
    let flags = [&["--rm", "--health-cmd=false", "-v", &volume], &flags[2..6]];
    let script = "echo started >/starts; exec sleep 1000";
    run(&env, "loops", &flags.concat(), script);
    starts.wait(4);
    env.kelp(&["wait", "loops"]).succeeds();
    env.kelp(&["stop", "loops"]).succeeds();
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
}

#[test]
fn a_change_while_it_is_paused_waits_until_it_goes_on() {
    let Some(env) = Env::new() else { return };
    let flags = ["--health-cmd=true", "--health-interval=20ms"];
    run(&env, "web", &flags, "sleep 1000");
    wait(&env, "healthy", "web");
    env.kelp(&["pause", "web"]).succeeds();
    let change = [
        "update",
        "--health-retries=1",
        "--health-timeout=10ms",
        "web",
    ];
    env.kelp(&change).succeeds();
    assert_eq!(show(&env, "{{.State.Health.Status}}", "web"), "starting");
    let line = env.kelp(&["healthcheck", "run", "web"]).fails(125);
    assert!(line.contains("paused"), "{line}");
    env.kelp(&["update", "--health-timeout=10s", "web"])
        .succeeds();
    env.kelp(&["unpause", "web"]).succeeds();
    wait(&env, "healthy", "web");
    remove(&env, &["web"]);
}
