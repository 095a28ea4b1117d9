//! containerd with `kelp-runtime` as the program that its shim calls.
//!
//! It is rootless in rootlesskit's way: root of a user namespace, with its own mounts and a cgroup namespace.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::env::Env;
use crate::image::busybox_root;
use crate::kelp::{Done, Kelp, wait, wait_until};
use crate::skip;
use crate::terminal::Terminal;

/// The mounts around it, then itself. cgroup v2 is not mounted in place at once, because the kernel refuses
/// one file system twice in one place.
const START: &str = "mount -t tmpfs tmpfs /run && mkdir cgroup && mount -t cgroup2 cgroup2 cgroup && \
                     mount --bind cgroup /sys/fs/cgroup && exec containerd -c containerd.toml";

/// Of its plugins only what can't be there.
const CONFIG: &str = "version = 2
disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.snapshotter.v1.aufs', \
    'io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.devmapper', \
    'io.containerd.snapshotter.v1.zfs']
";

/// A containerd whose storage and state are in the test's world.
struct Containerd<'a> {
    env: &'a Env,
    child: Child,
}

impl<'a> Containerd<'a> {
    /// With busybox in the directory `root`.
    fn new(env: &'a Env) -> Option<Self> {
        let programs = ["containerd", "ctr", "containerd-shim-runc-v2"];
        if programs.into_iter().any(skip::lacks) {
            return None;
        }
        let applets = ["sh", "cat", "grep", "id", "sleep", "tty", "stty", "true"];
        let directories = ["dev", "etc", "proc", "run", "sys", "tmp"];
        busybox_root(&env.path("h/root"), &directories, &applets);
        env.link_runtime();
        let config = format!(
            "{CONFIG}root = '{}'\nstate = '{}'\n[grpc]\naddress = '{}'\n",
            env.word("h/storage"),
            env.word("h/state"),
            env.word("h/socket"),
        );
        fs::write(env.path("h/containerd.toml"), config).unwrap();
        let log = fs::File::create(env.path("h/log")).unwrap();
        let child = env
            .program("unshare")
            .args([
                "--user",
                "--map-auto",
                "--map-root-user",
                "--mount",
                "--cgroup",
            ])
            .args(["--propagation=private", "sh", "-ec", START])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        // Which ends it and shows its log, also where it does not come up.
        let containerd = Self { env, child };
        let socket = env.path("h/socket");
        let is_socket = || fs::metadata(&socket).is_ok_and(|file| file.file_type().is_socket());
        wait_until("containerd's socket", is_socket);
        Some(containerd)
    }

    /// A command beside it.
    fn inside(&self, words: &[&str]) -> Kelp {
        let mut command = self.env.program("nsenter");
        command
            .args(["--user", "--mount", "--wdns=.", "--target"])
            .arg(self.child.id().to_string())
            .args(words);
        Kelp::new(command)
    }

    /// ctr, which finds its files in containerd's own mounts.
    fn ctr(&self, words: &[&str]) -> Kelp {
        let socket = self.env.path("h/socket");
        let own = ["ctr", "--address", socket.to_str().unwrap()];
        self.inside(&[&own[..], words].concat())
    }

    /// `ctr run` of a command in the root, by the runtime.
    fn run(&self, flags: &[&str], id: &str, command: &[&str]) -> Kelp {
        let cgroup = self.cgroup(id);
        let (runtime, root) = (self.env.word("h/kelp-runtime"), self.env.word("h/root"));
        let own = ["run", "--runc-binary", &runtime, "--cgroup", &cgroup];
        let root = ["--rootfs", &root, id];
        let words = [&own[..], flags, &root, command];
        self.ctr(&words.concat())
    }

    /// Where a container's cgroup is, seen from inside: not in another test's way.
    fn cgroup(&self, id: &str) -> String {
        format!("/containerd-{}-{id}", self.child.id())
    }

    fn does(&self, words: &[&str]) -> String {
        self.ctr(words).done().exits(0)
    }

    fn status(&self, id: &str) -> Option<String> {
        let table = self.does(&["task", "ls"]);
        let mut rows = table
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row[0] == id)?;
        Some(row[2].to_owned())
    }

    /// The runtime's state, the cgroup and the mounts of a container that is gone.
    fn has_left_nothing(&self, id: &str) {
        let look = format!(
            "for place in /run/containerd/runc/default state/io.containerd.runtime.v2.task/default; do \
             [ ! -e $place ] || ls $place; done | grep -v :seccomp; ls -d /sys/fs/cgroup{} 2>/dev/null; \
             grep -c state/ /proc/self/mountinfo || true",
            self.cgroup(id)
        );
        assert_eq!(self.inside(&["sh", "-c", &look]).done().exits(0), "0\n");
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, Signal::TERM);
        if std::thread::panicking() {
            let log = fs::read_to_string(self.env.path("h/log"));
            eprintln!("{}", log.unwrap_or_default());
        }
        wait(&mut self.child, "containerd");
    }
}

fn code_and_output(done: &Done) -> (i32, &str) {
    (done.code, &done.stdout)
}

#[test]
fn containerd_runs_its_containers_by_it() {
    let Some(env) = Env::new() else { return };
    let Some(containerd) = Containerd::new(&env) else {
        return;
    };
    let run = |flags: &[&str], command: &[&str]| {
        containerd
            .run(&[&["--rm"], flags].concat(), "one", command)
            .done()
    };
    let done = run(&[], &["sh", "-c", "echo out; echo err >&2; id -u; exit 3"]);
    assert_eq!(code_and_output(&done), (3, "out\n0\n"), "{done:#?}");
    assert!(done.stderr.contains("err\n"), "{done:#?}");
    let script = "pwd; echo $A; grep -E '^(CapBnd|NoNewPrivs):' /proc/self/status; grep 0:: /proc/self/cgroup; \
                  echo > /new || echo kept";
    let flags = [
        "--cwd=/tmp",
        "--env=A=b",
        "--read-only",
        "--cap-drop=CAP_CHOWN",
    ];
    let done = run(&flags, &["sh", "-c", script]);
    let expected = format!(
        "/tmp\nb\nCapBnd:\t00000000a80425fa\nNoNewPrivs:\t1\n0::{}\nkept\n",
        containerd.cgroup("one")
    );
    assert_eq!(code_and_output(&done), (0, expected.as_str()), "{done:#?}");
    let done = run(&[], &["/nosuch"]);
    assert_eq!(done.code, 1, "{done:#?}");
    let said =
        "OCI runtime create failed: /nosuch: executable file not found in $PATH: no such file";
    assert!(done.stderr.contains(said), "{done:#?}");
    let done = run(
        &["--seccomp"],
        &["sh", "-c", "grep ^Seccomp: /proc/self/status"],
    );
    assert_eq!(code_and_output(&done), (0, "Seccomp:\t2\n"), "{done:#?}");
    let mut terminal = Terminal::start(containerd.run(&["--rm", "--tty"], "one", &["sh"]));
    terminal.send(b"tty\n");
    terminal.expect("/dev/pts/0");
    terminal.send(b"until stty size | grep -q '30 100'; do :; done; echo re''sized\n");
    // ctr looks for changes only from some moment on.
    terminal.expect_of("resized", |terminal| {
        terminal.resize(99, 30);
        terminal.resize(100, 30);
    });
    terminal.send(b"exit 6\n");
    assert_eq!(terminal.finish().0, 6);
    containerd.has_left_nothing("one");
}

#[test]
fn containerd_does_all_to_a_container_that_runs_by_it() {
    let Some(env) = Env::new() else { return };
    let Some(containerd) = Containerd::new(&env) else {
        return;
    };
    let does = |words: &[&str]| containerd.does(words);
    let status = || containerd.status("a").unwrap();
    containerd
        .run(&["--detach"], "a", &["sleep", "1000"])
        .done()
        .exits(0);
    assert_eq!(status(), "RUNNING");
    let exec = |flags: &[&str], command: &[&str]| {
        let own = ["task", "exec", "--exec-id=e"];
        containerd.ctr(&[&own[..], flags, &["a"], command].concat())
    };
    let done = exec(
        &["--user=7", "--cwd=/tmp"],
        &["sh", "-c", "id -u; pwd; exit 4"],
    )
    .done();
    assert_eq!(code_and_output(&done), (4, "7\n/tmp\n"), "{done:#?}");
    let done = exec(&[], &["nosuch"]).done();
    assert_eq!(done.code, 1, "{done:#?}");
    let said = "OCI runtime exec failed: nosuch: executable file not found in $PATH";
    assert!(done.stderr.contains(said), "{done:#?}");
    let mut terminal = Terminal::start(exec(&["--tty"], &["sh"]));
    terminal.send(b"tty\n");
    terminal.expect("/dev/pts/0");
    terminal.send(b"exit 5\n");
    assert_eq!(terminal.finish().0, 5);
    does(&["task", "pause", "a"]);
    assert_eq!(status(), "PAUSED");
    does(&["task", "resume", "a"]);
    assert_eq!(status(), "RUNNING");
    // The program, and nothing of those that were added.
    assert_eq!(does(&["task", "ps", "a"]).lines().count(), 2);
    assert!(does(&["task", "metrics", "a"]).contains("pids.current"));
    does(&["task", "kill", "--signal=KILL", "a"]);
    wait_until("the end", || status() == "STOPPED");
    let done = containerd
        .ctr(&["task", "kill", "--signal=USR1", "a"])
        .done();
    assert!(
        done.stderr.contains("process already finished: not found"),
        "{done:#?}"
    );
    // Its exit code is what ctr complains of.
    let done = containerd.ctr(&["task", "rm", "a"]).done();
    assert!(done.code == 0 && done.stderr.contains("137"), "{done:#?}");
    does(&["container", "rm", "a"]);
    assert_eq!(containerd.status("a"), None);
    containerd.has_left_nothing("a");
}
