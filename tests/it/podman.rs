//! podman with `kelp-runtime` in place of its own runtime.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::env::Env;
use crate::image::busybox_root;
use crate::kelp::{Done, Kelp};
use crate::skip;

/// A podman whose storage and state are in the test's world.
pub(crate) struct Podman<'a> {
    env: &'a Env,
    driver: &'static str,
}

impl<'a> Podman<'a> {
    /// With an image `bb` that is busybox alone.
    fn new(env: &'a Env) -> Option<Self> {
        let podman = Self::empty(env, "vfs")?;
        let root = env.path("h/root");
        let applets = ["sh", "cat", "id", "sleep", "true", "tty", "grep"];
        busybox_root(&root, &["tmp"], &applets);
        let archive = env.path("h/root.tar");
        let tar = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&archive)
            .arg(".")
            .status()
            .unwrap();
        assert!(tar.success());
        podman
            .run(&["import", "-q", archive.to_str().unwrap(), "bb"])
            .exits(0);
        Some(podman)
    }

    /// With no image, and a storage driver.
    pub(crate) fn empty(env: &'a Env, driver: &'static str) -> Option<Self> {
        if skip::lacks("podman") {
            return None;
        }
        // Not in shared memory, where they would outlive the test.
        fs::write(env.path("h/conf"), "[engine]\nlock_type = \"file\"\n").unwrap();
        env.link_runtime();
        Some(Self { env, driver })
    }

    fn command(&self, words: &[&str]) -> Command {
        let path = |name| self.env.word(name);
        let mut command = self.env.program("podman");
        command
            .args(["--root", &path("h/storage"), "--runroot", &path("r/podman")])
            .args([
                "--tmpdir",
                &path("r/libpod"),
                "--storage-driver",
                self.driver,
            ])
            .args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"])
            .args(["--runtime", &path("h/kelp-runtime")])
            .args(words)
            .env("CONTAINERS_CONF", self.env.path("h/conf"));
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Done {
        Kelp::new(self.command(words)).done()
    }

    /// `podman run --rm` of a shell command; what it prints.
    fn shell(&self, flags: &[&str], script: &str) -> String {
        let words = [
            &["run", "--rm", "--network", "none"],
            flags,
            &["bb", "sh", "-c", script],
        ];
        self.run(&words.concat()).exits(0)
    }
}

impl Drop for Podman<'_> {
    /// Ends podman's own process that holds its namespaces.
    fn drop(&mut self) {
        let file = self.env.runtime().join("libpod/tmp/pause.pid");
        for file in [file, self.env.path("r/libpod/pause.pid")] {
            let pid = fs::read_to_string(file).ok();
            let pid = pid.and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
            pid.map(|pid| kill_process(pid, Signal::KILL));
        }
    }
}

#[test]
fn podman_runs_its_containers_by_it() {
    let Some(env) = Env::new() else { return };
    let Some(podman) = Podman::new(&env) else {
        return;
    };
    assert_eq!(
        podman.shell(&[], "echo out; echo err >&2; id -u"),
        "out\n0\n"
    );
    assert_eq!(
        podman
            .run(&[
                "run",
                "--rm",
                "--network",
                "none",
                "bb",
                "sh",
                "-c",
                "exit 7"
            ])
            .code,
        7
    );
    let script = "id -u; id -g; cat /etc/hostname; echo; cat /x/hello; grep -E '^(CapBnd|NoNewPrivs|Seccomp):' \
                  /proc/self/status; echo >/bin/x || echo kept";
    let volume = env.path("h/volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("hello"), "hello\n").unwrap();
    let flags = [
        "--user=1000:1001",
        "--read-only",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--hostname=here",
        "--sysctl=net.ipv4.ip_forward=1",
        "--tmpfs=/y",
        "--env=A=b",
        &format!("--volume={}:/x:ro", volume.display()),
    ];
    let said = podman.shell(&flags, script);
    let expected =
        "1000\n1001\nhere\nhello\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nkept\n";
    assert_eq!(said, expected);
    let said = podman.shell(&["-t"], "tty");
    assert_eq!(said.trim(), "/dev/pts/0");
    let done = podman.run(&["run", "--rm", "--network", "none", "bb", "/nosuch"]);
    assert_eq!(done.code, 127, "{done:#?}");
    let done = podman.run(&["run", "--rm", "--network", "none", "bb", "/tmp"]);
    assert_eq!(done.code, 126, "{done:#?}");
}

#[test]
fn podman_does_all_to_a_container_that_runs_by_it() {
    let Some(env) = Env::new() else { return };
    let Some(podman) = Podman::new(&env) else {
        return;
    };
    let run = |words: &[&str]| podman.run(words);
    run(&[
        "run",
        "-d",
        "--name",
        "a",
        "--network",
        "none",
        "bb",
        "sleep",
        "1000",
    ])
    .exits(0);
    let status = || {
        let format = ["inspect", "-f", "{{.State.Status}}", "a"];
        run(&format).exits(0).trim().to_owned()
    };
    assert_eq!(status(), "running");
    assert_eq!(
        run(&["exec", "a", "cat", "/proc/1/comm"]).exits(0),
        "sleep\n"
    );
    let exec = [
        "exec", "-u", "7", "-w", "/tmp", "-e", "A=b", "a", "sh", "-c",
    ];
    let script = "id -u; pwd; echo $A; exit 9";
    let done = run(&[&exec[..], &[script]].concat());
    assert_eq!((done.code, done.stdout.as_str()), (9, "7\n/tmp\nb\n"));
    assert_eq!(
        run(&["exec", "-t", "a", "tty"]).exits(0).trim(),
        "/dev/pts/0"
    );
    assert_eq!(run(&["exec", "a", "nosuch"]).code, 127);
    assert!(run(&["top", "a", "args"]).exits(0).contains("sleep 1000"));
    run(&["pause", "a"]).exits(0);
    assert_eq!(status(), "paused");
    run(&["unpause", "a"]).exits(0);
    assert_eq!(status(), "running");
    run(&["kill", "a"]).exits(0);
    run(&["stop", "-t", "0", "a"]);
    assert_eq!(status(), "exited");
    run(&["start", "a"]).exits(0);
    run(&["rm", "-f", "-t", "0", "a"]).exits(0);
    // Made and never started.
    run(&["create", "--name", "b", "--network", "none", "bb", "true"]).exits(0);
    run(&["init", "b"]).exits(0);
    run(&["rm", "b"]);
    run(&["rm", "-f", "b"]);
    assert_eq!(run(&["ps", "-aq"]).exits(0), "");
}
