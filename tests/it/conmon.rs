//! `kelp-runtime` under Debian's conmon, called as CRI-O calls it.
//!
//! conmon makes the container, tells its caller the pid, keeps the log in the form of Kubernetes' CRI, and
//! writes the exit code to a file; what is done to the container later, its caller does by the runtime.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use serde_json::{Value, json};

use crate::env::Env;
use crate::kelp::{LIMIT, beside, wait, wait_until};
use crate::oci::Bundle;
use crate::skip;

/// A bundle, and what CRI-O gives conmon beside it.
struct Pod<'a> {
    env: &'a Env,
    bundle: Bundle<'a>,
}

impl<'a> Pod<'a> {
    fn new(env: &'a Env, args: &[&str]) -> Option<Self> {
        if skip::lacks("conmon") {
            return None;
        }
        for name in ["h/exits", "h/sockets", "h/persist"] {
            fs::create_dir(env.path(name)).unwrap();
        }
        Some(Self {
            env,
            bundle: Bundle::new(env, args),
        })
    }

    /// A conmon for `uuid`, the container's id or an exec's, whose first message comes on standard output.
    fn conmon(&self, uuid: &str, flags: &[&str]) -> Child {
        let mut command = beside(&self.bundle.command(&[]), "sh");
        command
            .args(["-c", "exec 3>&1 >/dev/null; exec \"$0\" \"$@\"", "conmon"])
            .args(["-b", self.bundle.directory.to_str().unwrap()])
            .args(["-c", "one", "-n", "k8s_one", "-u", uuid])
            .args(["-l", &self.env.word(&format!("h/{uuid}.log"))])
            .args(["--log-level", "info", "--syslog"])
            .args(["-P", &self.env.word(&format!("h/{uuid}.conmon"))])
            .args(["-p", &self.env.word(&format!("h/{uuid}.pid"))])
            .args(["--persist-dir", &self.env.word("h/persist")])
            .args(["-r", &self.env.word("h/kelp-runtime")])
            .args(["--socket-dir-path", &self.env.word("h/sockets")])
            .args(flags)
            .env("_OCI_SYNCPIPE", "3")
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Has the container made; what conmon tells of it.
    fn create(&self, flags: &[&str]) -> Value {
        let own = ["--exit-dir", &self.env.word("h/exits")];
        message(&mut self.conmon("one", &[&own[..], flags].concat()))
    }

    /// Adds a process by process.json; what conmon tells of it.
    fn exec(&self, flags: &[&str], change: impl FnOnce(&mut Value)) -> Value {
        let mut process = json!({
            "args": ["true"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
        });
        change(&mut process);
        let file = self.env.word("h/process.json");
        fs::write(&file, process.to_string()).unwrap();
        let own = ["-e", "--sync", "--exec-process-spec", &file];
        message(&mut self.conmon("two", &[&own[..], flags].concat()))
    }

    fn does(&self, words: &[&str]) {
        self.bundle.runtime(words).succeeds();
    }

    /// The log's lines without their times.
    fn log(&self, uuid: &str) -> Vec<String> {
        let text = fs::read_to_string(self.env.word(&format!("h/{uuid}.log"))).unwrap();
        let lines = text.lines().map(|line| line.split_once(' ').unwrap().1);
        lines.map(str::to_owned).collect()
    }

    /// Waits for conmon's word that the container has ended.
    fn exit_code(&self) -> String {
        let file = self.env.path("h/exits/one");
        wait_until("the exit file", || file.exists());
        fs::read_to_string(file).unwrap()
    }

    /// Deletes the container, after which nothing knows of it.
    fn delete(&self) {
        self.does(&["delete", "one"]);
        assert_eq!(self.bundle.runtime(&["list", "-q"]).succeeds(), "");
        assert_eq!(
            self.bundle.fails(&["state", "one"]),
            "container \"one\" does not exist"
        );
    }
}

/// conmon's first message; its own end is waited for.
fn message(conmon: &mut Child) -> Value {
    let mut line = String::new();
    let mut stream = BufReader::new(conmon.stdout.take().unwrap());
    stream.read_line(&mut line).unwrap();
    wait_for(conmon);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

/// Its code is the program's, or says that there is none.
fn wait_for(conmon: &mut Child) {
    wait(conmon, "conmon");
}

#[test]
fn conmon_leads_a_container_through_its_life() {
    let Some(env) = Env::new() else { return };
    let args = ["sh", "-c", "echo out; echo err >&2; exec sleep 1000"];
    let Some(pod) = Pod::new(&env, &args) else {
        return;
    };
    let told = pod.create(&[]);
    let pid = fs::read_to_string(env.path("h/one.pid")).unwrap();
    assert_eq!(told["pid"].to_string(), pid, "{told}");
    assert_eq!(pod.bundle.status("one"), "created");
    pod.does(&["start", "one"]);
    assert_eq!(pod.bundle.status("one"), "running");
    wait_until("the log", || pod.log("one").len() == 2);
    let mut lines = pod.log("one");
    lines.sort();
    assert_eq!(lines, ["stderr F err", "stdout F out"]);

    let told = pod.exec(&[], |process| {
        process["args"] = json!(["sh", "-c", "echo $A; id -u; pwd; exit 4"]);
        process["env"] = json!(["PATH=/bin", "A=b"]);
        process["cwd"] = "/tmp".into();
    });
    assert_eq!(told, json!({"exit_code": 4}));
    assert_eq!(
        pod.log("two"),
        ["stdout F b", "stdout F 0", "stdout F /tmp"]
    );
    let told = pod.exec(&[], |process| process["args"] = json!(["nosuch"]));
    assert_eq!(told["exit_code"], -1, "{told}");
    let said = told["message"].as_str().unwrap();
    assert!(
        said.contains("nosuch: executable file not found in $PATH"),
        "{told}"
    );
    // One that takes too long is killed by the number that the runtime has written.
    let told = pod.exec(&["-T", "1"], |process| {
        process["args"] = json!(["sleep", "1000"]);
    });
    assert_eq!(told["message"], "command timed out", "{told}");
    let pids = pod.bundle.runtime(&["ps", "-f", "json", "one"]).succeeds();
    assert_eq!(pids.trim(), format!("[{pid}]"));

    pod.does(&["pause", "one"]);
    assert_eq!(pod.bundle.status("one"), "paused");
    pod.does(&["resume", "one"]);
    pod.does(&["kill", "one", "KILL"]);
    assert_eq!(pod.exit_code(), "137");
    pod.bundle.wait("one");
    pod.delete();
}

#[test]
fn conmon_tells_the_exit_code_and_what_keeps_a_container_from_being_made() {
    let Some(env) = Env::new() else { return };
    let Some(pod) = Pod::new(&env, &["sh", "-c", "cat; exit 9"]) else {
        return;
    };
    pod.create(&[]);
    pod.does(&["start", "one"]);
    assert_eq!(pod.exit_code(), "9");
    pod.delete();
    for (program, said) in [
        (
            "nosuch",
            "kelp-runtime: nosuch: executable file not found in $PATH",
        ),
        ("/tmp", "kelp-runtime: /tmp: permission denied"),
    ] {
        pod.bundle
            .change(|spec| spec["process"]["args"] = json!([program]));
        let told = pod.create(&[]);
        assert_eq!(told["pid"], -1, "{told}");
        assert!(
            told["message"].as_str().unwrap().starts_with(said),
            "{told}"
        );
        assert_eq!(pod.bundle.runtime(&["list", "-q"]).succeeds(), "");
    }
    // Created, and never started.
    pod.bundle
        .change(|spec| spec["process"]["args"] = json!(["true"]));
    fs::remove_file(env.path("h/exits/one")).unwrap();
    pod.create(&[]);
    pod.does(&["delete", "--force", "one"]);
    assert_eq!(pod.exit_code(), "137");
    assert_eq!(pod.bundle.runtime(&["list", "-q"]).succeeds(), "");
}

#[test]
fn conmon_gives_terminals() {
    let Some(env) = Env::new() else { return };
    let Some(pod) = Pod::new(&env, &["sh"]) else {
        return;
    };
    pod.bundle
        .change(|spec| spec["process"]["terminal"] = true.into());
    pod.create(&["-t", "-i"]);
    pod.does(&["start", "one"]);
    let mut attached = Attached::to(&env);
    attached.type_in("tty; test -c /dev/console && echo cons''ole\n");
    attached.expect("/dev/pts/0\r\n");
    attached.expect("console\r\n");
    let mut control = fs::OpenOptions::new()
        .write(true)
        .open(pod.bundle.directory.join("ctl"))
        .unwrap();
    control.write_all(b"1 30 100\n").unwrap();
    attached.type_in("until stty size | grep -q '30 100'; do :; done; echo re''sized\n");
    attached.expect("resized\r\n");

    let told = pod.exec(&["-t"], |process| {
        process["terminal"] = true.into();
        process["args"] = json!(["sh", "-c", "tty; exit 5"]);
    });
    assert_eq!(told, json!({"exit_code": 5}));
    assert_eq!(pod.log("two"), ["stdout F /dev/pts/1"]);
    attached.type_in("exit 6\n");
    assert_eq!(pod.exit_code(), "6");
    pod.bundle.wait("one");
    pod.delete();
}

/// A client of conmon's that is attached to the container: of each message the first byte says which
/// stream it is of.
struct Attached {
    socket: OwnedFd,
    seen: String,
}

impl Attached {
    fn to(env: &Env) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let address = SocketAddrUnix::new(env.path("h/sockets/one/attach")).unwrap();
        connect(&socket, &address).unwrap();
        set_socket_timeout(&socket, Timeout::Recv, Some(LIMIT)).unwrap();
        Self {
            socket,
            seen: String::new(),
        }
    }

    fn type_in(&self, text: &str) {
        send(&self.socket, text.as_bytes(), SendFlags::empty()).unwrap();
    }

    fn expect(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let mut buffer = [0; 8193];
            let (length, _) = recv(&self.socket, &mut buffer, RecvFlags::empty()).unwrap();
            assert_ne!(length, 0, "no {text:?} in {:?}", self.seen);
            self.seen += &String::from_utf8_lossy(&buffer[1..length]);
        }
        let after = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..after);
    }
}
