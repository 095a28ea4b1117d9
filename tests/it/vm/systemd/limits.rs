//! Limits that the kernel holds a container to, and that change while it runs.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cgroup_of;
use crate::env::Env;
use crate::kelp::wait_until;

/// A container that waits, in a scope; its id.
pub(super) fn start(env: &Env, name: &str, flags: &[&str]) -> String {
    env.waiting(name, &[&["--network=none"], flags].concat())
}

/// The directory of a container's cgroup.
pub(super) fn directory(env: &Env, name: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(&cgroup_of(env, name)[1..])
}

/// A file of it, without the end of its line.
pub(super) fn read(directory: &Path, file: &str) -> String {
    let text = std::fs::read_to_string(directory.join(file));
    text.unwrap_or_else(|error| panic!("{file}: {error}"))
        .trim()
        .to_owned()
}

pub(super) fn remove(env: &Env, name: &str) {
    env.kelp(&["rm", "-f", "-t0", name]).succeeds();
}

/// Runs a shell command in a container; its exit code.
pub(super) fn exec(env: &Env, name: &str, script: &str) -> i32 {
    env.kelp(&["exec", name, "sh", "-c", script]).done().code
}

/// A part of what inspect tells.
pub(super) fn state(env: &Env, name: &str) -> String {
    let format = "{{.State.Running}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.RestartCount}}";
    env.kelp(&["inspect", "--format", format, name]).succeeds()
}

#[test]
fn a_kill_for_memory_is_told_when_it_happens_and_not_forgotten_by_a_restart() {
    let Some(env) = Env::of_session() else { return };
    let mut events = env.kelp(&["events", "--filter=event=oom"]).start();
    let mut lines = BufReader::new(events.stdout.take().unwrap());
    let mut line = String::new();
    let home = tempfile::tempdir_in(env.path("h")).unwrap();
    let volume = format!("{}:/in", home.path().display());
    let image = env.busybox();
    // The shell lives on; it is the first of two runs that has the hog.
    let script = "[ -e /in/was ] || tail /dev/zero; touch /in/was; until [ -s /in/end ]; do sleep 0.1; \
                  done; rm /in/end; exit 3";
    let flags = ["run", "-d", "--network=none", "--name=hog", "-v", &volume];
    let limits = ["--memory=24m", "--memory-swap=24m", "--restart=on-failure"];
    let program = [&image, "sh", "-c", script];
    env.kelp(&[&flags[..], &limits, &program].concat())
        .succeeds();
    lines.read_line(&mut line).unwrap();
    assert!(
        line.contains(" container oom ") && line.contains("name=hog"),
        "{line}"
    );
    assert_eq!(state(&env, "hog"), "true 0 true 0\n");
    std::fs::write(home.path().join("end"), "x").unwrap();
    wait_until("it is started again", || {
        state(&env, "hog") == "true 0 true 1\n"
    });
    env.kelp(&["stop", "-t0", "hog"]).succeeds();
    assert_eq!(state(&env, "hog"), "false 137 true 1\n");
    // Who starts it anew begins anew.
    env.kelp(&["start", "hog"]).succeeds();
    assert_eq!(state(&env, "hog"), "true 0 false 0\n");
    remove(&env, "hog");
    events.kill().unwrap();
    events.wait().unwrap();
}

#[test]
fn limits_change_while_the_container_runs_and_stay_changed() {
    let Some(env) = Env::of_session() else { return };
    start(&env, "live", &[]);
    let cgroup = directory(&env, "live");
    // Nothing was asked for, and nothing is there.
    assert!(!cgroup.join("memory.max").exists());
    let update = [
        "update",
        "--memory=64m",
        "--memory-swap=96m",
        "--memory-reservation=16m",
        "--pids-limit=50",
        "--cpus=0.5",
        "--cpu-shares=512",
        "--cpuset-cpus=1",
        "--cpuset-mems=0",
        "--blkio-weight=200",
        "--device-write-bps=/dev/vda:1mb",
        "--device-read-iops=/dev/vda:100",
        "live",
    ];
    env.kelp(&update).succeeds();
    let vda = read(Path::new("/sys/block/vda"), "dev");
    let io = format!("{vda} rbps=max wbps=1048576 riops=100 wiops=max");
    let expected = [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "16777216"),
        ("pids.max", "50"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "59"),
        ("cpuset.cpus", "1"),
        ("cpuset.mems", "0"),
        ("io.weight", "default 1920"),
        ("io.max", &io),
    ];
    for (file, value) in expected {
        assert_eq!(read(&cgroup, file), value, "{file}");
    }
    let allowed = "grep -q 'Cpus_allowed_list:.1$' /proc/1/status";
    assert_eq!(exec(&env, "live", allowed), 0);
    // What the kernel refuses leaves all as it was.
    let before = env.kelp(&["inspect", "live"]).succeeds();
    let line = env
        .kelp(&[
            "update",
            "--memory=128m",
            "--pids-limit=7",
            "--cpuset-cpus=99",
            "live",
        ])
        .fails(125);
    assert!(
        line.contains("--cpuset-cpus: write 99 to cpuset.cpus"),
        "{line}"
    );
    assert_eq!(env.kelp(&["inspect", "live"]).succeeds(), before);
    for (file, value) in expected {
        assert_eq!(read(&cgroup, file), value, "{file}");
    }
    env.kelp(&["restart", "-t0", "live"]).succeeds();
    let cgroup = directory(&env, "live");
    for (file, value) in expected {
        assert_eq!(read(&cgroup, file), value, "{file}");
    }
    let update = [
        "update",
        "--memory=-1",
        "--pids-limit=-1",
        "--cpus=0",
        "--device-write-bps=/dev/vda:0",
        "--device-read-iops=/dev/vda:0",
        "live",
    ];
    env.kelp(&update).succeeds();
    for (file, value) in [
        ("memory.max", "max"),
        ("memory.swap.max", "max"),
        ("pids.max", "max"),
        ("cpu.max", "max 100000"),
        ("io.max", ""),
        ("cpu.weight", "59"),
    ] {
        assert_eq!(read(&cgroup, file), value, "{file}");
    }
    remove(&env, "live");
}

#[test]
fn a_container_is_held_to_what_it_was_changed_to() {
    let Some(env) = Env::of_session() else { return };
    let home = tempfile::tempdir_in(std::env::var_os("HOME").unwrap()).unwrap();
    let volume = format!("{}:/out", home.path().display());
    start(&env, "held", &["-v", &volume]);
    // Processes.
    env.kelp(&["update", "--pids-limit=4", "held"]).succeeds();
    let forks = "for i in 1 2 3 4 5; do sleep 1 & done; wait";
    let done = env.kelp(&["exec", "held", "sh", "-c", forks]).done();
    assert!(done.code != 0 && done.stderr.contains("fork"), "{done:#?}");
    env.kelp(&["update", "--pids-limit=100", "held"]).succeeds();
    assert_eq!(
        exec(&env, "held", "for i in 1 2 3 4 5; do true & done; wait"),
        0
    );
    // Memory, in a cgroup that did not count it at first.
    env.kelp(&["update", "--memory=24m", "--memory-swap=24m", "held"])
        .succeeds();
    assert_eq!(exec(&env, "held", "exec tail /dev/zero"), 137);
    let events = ["events", "--stream=false", "--filter=event=oom"];
    assert_eq!(env.kelp(&events).succeeds().lines().count(), 1);
    assert_eq!(state(&env, "held"), "true 0 true 0\n");
    // A device: two megabytes at one a second.
    env.kelp(&["update", "--device-write-bps=/dev/vda:1mb", "held"])
        .succeeds();
    let write = "dd if=/dev/zero of=/out/file bs=64k count=32 conv=fsync 2>/dev/null";
    let begin = Instant::now();
    assert_eq!(exec(&env, "held", write), 0);
    let took = begin.elapsed().as_secs_f64();
    assert!((1.0..6.0).contains(&took), "{took}");
    env.kelp(&["update", "--device-write-bps=/dev/vda:0", "held"])
        .succeeds();
    // A processor.
    env.kelp(&["update", "--cpus=0.4", "held"]).succeeds();
    let spin = ["exec", "-d", "held", "sh", "-c", "while :; do :; done"];
    env.kelp(&spin).succeeds();
    let share = share_of_a_processor(&directory(&env, "held"));
    assert!((0.38..=0.42).contains(&share), "{share}");
    remove(&env, "held");
}

/// What part of a processor a cgroup uses that would use all of it, over twenty periods of its quota's.
fn share_of_a_processor(cgroup: &Path) -> f64 {
    let look = || loop {
        let begin = Instant::now();
        let stat = read(cgroup, "cpu.stat");
        // A machine that is emulated may stand still between the two.
        if begin.elapsed() < Duration::from_millis(5) {
            let mut lines = stat.lines();
            let used = lines.find_map(|line| line.strip_prefix("usage_usec "));
            return (used.unwrap().parse::<f64>().unwrap() / 1e6, begin);
        }
    };
    // Of the first period it may have had a part that it did not use.
    std::thread::sleep(Duration::from_millis(300));
    let before = look();
    std::thread::sleep(Duration::from_secs(2));
    let after = look();
    (after.0 - before.0) / (after.1 - before.1).as_secs_f64()
}

#[test]
fn swap_is_counted_beside_memory() {
    let Some(env) = Env::of_session() else { return };
    // A file of a tmpfs is memory, and can be swapped.
    let fill = "dd if=/dev/zero of=/dev/shm/file bs=1M count=40 2>/dev/null; \
                cat /sys/fs/cgroup/memory.swap.max && \
                [ $(cat /sys/fs/cgroup/memory.swap.current) -gt 10000000 ] && echo swapped";
    let run = |flags: &[&str]| {
        let image = env.busybox();
        let run = ["run", "--rm", "--network=none", "--memory=24m"];
        let program = [image.as_str(), "sh", "-c", fill];
        env.kelp(&[&run[..], flags, &program].concat()).done()
    };
    // As much again, where nothing is said.
    assert_eq!(run(&[]).exits(0), "25165824\nswapped\n");
    assert_eq!(run(&["--memory-swap=-1"]).exits(0), "max\nswapped\n");
    assert_eq!(run(&["--memory-swap=24m"]).exits(1), "0\n");
}

#[test]
fn what_a_container_uses_is_known_without_a_limit() {
    let Some(env) = Env::of_session() else { return };
    start(&env, "plain", &[]);
    start(
        &env,
        "limited",
        &["--memory=48m", "--pids-limit=9", "--blkio-weight=100"],
    );
    let fill = "dd if=/dev/zero of=/dev/shm/file bs=1M count=8 2>/dev/null; sleep 1000";
    for name in ["plain", "limited"] {
        let exec = ["exec", "-d", name, "sh", "-c", fill];
        env.kelp(&exec).succeeds();
        wait_until("the file is written", || exec_size(&env, name) >= 8 << 20);
        let words = ["stats", "--no-stream", "--format=json", name];
        let list: Value = serde_json::from_str(&env.kelp(&words).succeeds()).unwrap();
        let row = &list[0];
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        // Eight megabytes, and what little else there is.
        let (used, limit) = text("mem_usage")
            .split_once(" / ")
            .map(|(used, limit)| (used.to_owned(), limit.to_owned()))
            .unwrap();
        let used: f64 = used.strip_suffix("MB").unwrap().parse().unwrap();
        assert!((8.3..14.0).contains(&used), "{name}: {row}");
        if name == "limited" {
            assert_eq!(limit, "50.33MB");
        } else {
            assert!(limit.ends_with("GB"), "{row}");
        }
        // sleep, the shell and its sleep; or the shell has become the sleep.
        assert!(["2", "3"].contains(&text("pids").as_str()), "{row}");
        assert!(text("mem_percent").ends_with('%'), "{row}");
        assert!(text("block_io").contains("B / "), "{row}");
        assert_eq!(text("net_io"), "0B / 0B");
        for key in ["cpu", "mem", "io"] {
            assert!(
                text(&format!("{key}_pressure_some")).ends_with('%'),
                "{row}"
            );
        }
    }
    remove(&env, "plain");
    remove(&env, "limited");
}

fn exec_size(env: &Env, name: &str) -> u64 {
    let words = ["exec", name, "stat", "-c", "%s", "/dev/shm/file"];
    env.kelp(&words).done().stdout.trim().parse().unwrap_or(0)
}
