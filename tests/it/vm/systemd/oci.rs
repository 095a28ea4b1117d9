//! The low-level runtime, called in a login's session, with systemd for its cgroups.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::limits::read;
use super::{systemctl, wait_until_collected};
use crate::env::Env;
use crate::kelp::wait;
use crate::oci::{Bundle, fifo};

#[test]
fn a_scope_has_the_limits_a_kill_for_memory_is_told_and_the_scope_goes() {
    let Some(env) = Env::of_session() else { return };
    // A signal for the end of a child that it inherits may interrupt it.
    let script = "until read x </tmp/go; do :; done; exec busybox tail /dev/zero";
    let bundle = Bundle::new(&env, &["sh", "-c", script]);
    let go = bundle.directory.join("rootfs/tmp/go");
    fifo(&go);
    let id = format!("oci-{}", std::process::id());
    bundle.change(|spec| {
        spec["root"]["readonly"] = false.into();
        spec["linux"]["cgroupsPath"] = format!(":kelp-test:{id}").into();
        spec["linux"]["resources"] = json!({
            "memory": {"limit": 32 << 20, "swap": 32 << 20}, "pids": {"limit": 9},
        });
    });
    let create = ["--systemd-cgroup", "create", "--pid-file", "pid", &id];
    bundle.leaves(&create).unwrap();
    bundle.runtime(&["start", &id]).succeeds();
    let unit = format!("kelp-test-{id}.scope");
    assert_eq!(systemctl(&["is-active", &unit]), "active");
    let pid = std::fs::read_to_string(bundle.directory.join("pid")).unwrap();
    let path = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = path.trim_end().strip_prefix("0::/").unwrap();
    assert!(path.ends_with(&format!("/{unit}/container")), "{path}");
    let cgroup = Path::new("/sys/fs/cgroup").join(path);
    let limits = ["memory.max", "memory.swap.max", "pids.max"];
    assert_eq!(
        limits.map(|file| read(&cgroup, file)),
        ["33554432", "0", "9"]
    );
    // Another process is held to them too.
    let forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 100 >/dev/null 2>&1 & done; wait";
    let done = bundle.runtime(&["exec", &id, "sh", "-c", forks]).done();
    assert!(done.code != 0 && done.stderr.contains("fork"), "{done:#?}");
    let pids = bundle.runtime(&["ps", "--format=json", &id]).succeeds();
    let pids: Vec<i32> = serde_json::from_str(&pids).unwrap();
    for child in pids.iter().filter(|child| child.to_string() != pid) {
        let _ = kill_process(Pid::from_raw(*child).unwrap(), Signal::KILL);
    }

    let mut command = bundle.command(&["events", "--interval=100ms", &id]);
    let mut events = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let first = next();
    assert_eq!(
        (&first["type"], &first["data"]["memory"]["usage"]["limit"]),
        (&json!("stats"), &json!(32 << 20))
    );
    // Open both ways it waits for nobody.
    let mut go = File::options().read(true).write(true).open(go).unwrap();
    go.write_all(b"\n").unwrap();
    let told = loop {
        let event = next();
        if event["type"] != "stats" {
            break event;
        }
    };
    assert_eq!(told, json!({"type": "oom", "id": id}));
    assert_eq!(wait(&mut events, "events"), 0);
    assert_eq!(bundle.status(&id), "stopped");
    bundle.runtime(&["delete", &id]).succeeds();
    wait_until_collected(&unit);
}
