//! A system container: systemd boots in it, makes its units, and halts.

use std::fs;
use std::path::Path;
use std::time::Instant;

use tempfile::TempDir;

use crate::env::{Env, mapped};
use crate::kelp::{Done, LIMIT, collect};
use crate::terminal::Terminal;

/// A root with systemd that tests/vm/make has left, unpacked for a container's ids.
struct Root {
    directory: TempDir,
}

impl Root {
    fn unpack() -> Self {
        // On the disk, where /tmp is not.
        let home = std::env::var_os("HOME").unwrap();
        let directory = tempfile::Builder::new().prefix("system").tempdir_in(home);
        let root = Self {
            directory: directory.unwrap(),
        };
        root.inside(&["tar", "-x", "-f", "/srv/system.tar", "-C"]);
        // As images have it: it is for systemd to fill in.
        fs::write(root.path().join("etc/machine-id"), "").unwrap();
        root
    }

    /// A command of the container's root, with the directory as its last word.
    fn inside(&self, words: &[&str]) {
        let status = mapped(words[0])
            .args(&words[1..])
            .arg(self.path())
            .status()
            .unwrap();
        assert!(status.success(), "{words:?}: {status}");
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// For --rootfs: what containers write goes with them.
    fn overlaid(&self) -> String {
        format!("{}:O", self.path().display())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.inside(&["rm", "-rf"]);
    }
}

/// Waits until systemd in the container says that it has booted, and how.
fn booted(env: &Env, name: &str) -> Done {
    let end = Instant::now() + LIMIT;
    loop {
        let words = ["exec", name, "systemctl", "is-system-running", "--wait"];
        let done = env.kelp(&words).done();
        // Before it listens it can't be asked.
        if ["running", "degraded"].contains(&done.stdout.trim()) {
            return done;
        }
        assert!(Instant::now() < end, "{name} has not booted: {done:#?}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn inside(env: &Env, words: &[&str]) -> String {
    env.kelp(&[&["exec", "box"], words].concat()).succeeds()
}

#[test]
fn systemd_boots_divides_its_cgroup_and_halts() {
    let Some(env) = Env::of_session() else { return };
    let root = Root::unpack();
    let words = [
        "run",
        "-d",
        "--name=box",
        "--hostname=box",
        "--rootfs",
        &root.overlaid(),
    ];
    let begin = Instant::now();
    let id = env.kelp(&[&words[..], &["/sbin/init"]].concat()).succeeds();
    let state = booted(&env, "box").stdout;
    eprintln!("booted after {:?}", begin.elapsed());
    let failed = inside(&env, &["systemctl", "--failed", "--plain", "--no-legend"]);
    assert_eq!((state.trim(), failed.as_str()), ("running", ""));
    let active = inside(&env, &["systemctl", "is-active", "multi-user.target"]);
    assert_eq!(active, "active\n");
    assert_eq!(inside(&env, &["cat", "/etc/machine-id"]).trim(), &id[..32]);
    assert_eq!(
        inside(&env, &["systemd-detect-virt", "--container"]),
        "podman\n"
    );
    units_have_limits(&env);

    // The console, of which nobody has made a terminal.
    let mut attached = env.kelp(&["attach", "--no-stdin", "box"]).start();
    let seen = collect(attached.stdout.take().unwrap());
    let begin = Instant::now();
    env.kelp(&["stop", "-t", "50", "box"]).succeeds();
    eprintln!("halted after {:?}", begin.elapsed());
    let words = [
        "inspect",
        "--format={{.State.Status}} {{.State.ExitCode}}",
        "box",
    ];
    assert_eq!(env.kelp(&words).succeeds(), "exited 0\n");
    assert_eq!(attached.wait().unwrap().code(), Some(0));
    let seen = String::from_utf8(seen.recv_timeout(LIMIT).unwrap()).unwrap();
    let log = env.kelp(&["logs", "box"]).succeeds();
    for (text, place) in [
        ("multi-user.target", &log),
        ("halt.target", &log),
        ("halt.target", &seen),
    ] {
        assert!(place.contains(text), "no {text} in {place}");
    }
    env.kelp(&["rm", "box"]).succeeds();
    super::systemd::wait_until_collected(&format!("kelp-{}.scope", id.trim()));
}

/// A unit inside has its own cgroup, with limits that are in force.
fn units_have_limits(env: &Env) {
    let run = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect"];
    let limits = [
        "-pMemoryMax=48M",
        "-pMemorySwapMax=0",
        "-pTasksMax=7",
        "-pCPUQuota=50%",
    ];
    let script =
        "cd /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); cat memory.max pids.max cpu.max";
    let words = [&run[..], &limits, &["sh", "-c", script]].concat();
    assert_eq!(inside(env, &words), "50331648\n7\n50000 100000\n");
    let words = [&run[..], &limits, &["tail", "/dev/zero"]].concat();
    let done = env.kelp(&[&["exec", "box"], &words[..]].concat()).done();
    assert_ne!(done.code, 0, "{done:#?}");
    // What exec adds is limited with the container, and in a cgroup that systemd knows.
    let own = inside(env, &["cat", "/proc/self/cgroup"]);
    assert_eq!(own, "0::/init.scope\n");
}

#[test]
fn with_a_terminal_the_console_is_that_and_systemd_may_power_off_by_itself() {
    let Some(env) = Env::of_session() else { return };
    let root = Root::unpack();
    let words = [
        "run",
        "-t",
        "--name=box",
        "--memory=256m",
        "--rootfs",
        &root.overlaid(),
    ];
    let mut terminal = Terminal::start(env.kelp(&[&words[..], &["/sbin/init"]].concat()));
    terminal.expect("Welcome to");
    booted(&env, "box");
    let memory = inside(
        &env,
        &[
            "sh",
            "-c",
            "cat /sys/fs/cgroup/memory.max; tr '\\0' '\\n' </proc/1/environ | grep TERM",
        ],
    );
    // The container's own limit is above what it sees.
    assert_eq!(memory, "max\nTERM=xterm\n");
    inside(&env, &["systemctl", "poweroff"]);
    let (code, seen) = terminal.finish();
    assert_eq!(code, 0);
    assert!(seen.contains("poweroff.target"), "{seen}");
    env.kelp(&["rm", "box"]).succeeds();
}

#[test]
fn without_a_cgroup_to_divide_there_is_no_system_container() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    // The session's cgroup is the system's.
    let kelp = ["--cgroup-manager=cgroupfs", "run", "--rm"];
    for words in [
        &["--systemd=always", &image, "true"][..],
        &[&image, "/sbin/init"],
    ] {
        let line = env.kelp(&[&kelp[..], words].concat()).fails(125);
        let begin = "Error: systemd in the container needs a cgroup to divide: this session has no \
                     delegated cgroup: ";
        let end = "; or run it as any other program with --systemd=false";
        assert!(line.starts_with(begin) && line.ends_with(end), "{line}");
    }
    let words = [&kelp[..], &["--systemd=false", &image, "echo", "runs"]].concat();
    assert_eq!(env.kelp(&words).succeeds(), "runs\n");
}

#[test]
fn every_controller_is_the_containers_to_hand_out() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    let script = "cd /sys/fs/cgroup; mkdir init.scope; echo 1 > init.scope/cgroup.procs; \
                  for c in $(cat cgroup.controllers); do echo +$c > cgroup.subtree_control; done; \
                  cat cgroup.subtree_control";
    let flags = ["run", "--rm", "--systemd=always"];
    let words = [&flags[..], &[&image, "sh", "-c", script]].concat();
    assert_eq!(env.kelp(&words).succeeds(), "cpuset cpu io memory pids\n");
}
