//! Verbs that meet, and what one that was killed has left.

use std::fs;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::Bundle;
use crate::cgroups;
use crate::env::Env;
use crate::kelp::{Kelp, around, state_of, traced, wait, wait_until};
use crate::skip::no_strace;

/// The one who waits for a container is stopped while others remove that and make another of its id.
#[test]
fn run_removes_its_own_container_alone() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["sleep", "1000"]);
    let mut command = bundle.command(&["run", "one"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = command.spawn().unwrap();
    bundle.reaches("one", "running");
    let pid = Pid::from_child(&run);
    kill_process(pid, Signal::STOP).unwrap();
    wait_until("run is stopped", || state_of(run.id()) == Some('T'));
    bundle.runtime(&["delete", "--force", "one"]).succeeds();
    bundle.leaves(&["create", "one"]).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(wait(&mut run, "run"), 128 + 9);
    assert_eq!(bundle.status("one"), "created");
    bundle.runtime(&["delete", "one"]).succeeds();
    assert!(bundle.left().is_empty());
}

/// A start that is killed once it has said the word leaves the gate.
#[test]
fn what_executes_its_program_has_started() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["sleep", "1000"]);
    bundle.leaves(&["create", "one"]).unwrap();
    bundle.runtime(&["start", "one"]).succeeds();
    fs::write(bundle.state("one").join("gate"), "").unwrap();
    assert_eq!(bundle.status("one"), "running");
    assert_eq!(
        bundle.fails(&["start", "one"]),
        "container \"one\" is running: only one that was created can be started"
    );
    assert_eq!(
        bundle.fails(&["delete", "one"]),
        "container \"one\" is running: kill it first, or delete it with --force"
    );
    bundle.runtime(&["exec", "one", "true"]).succeeds();
    bundle.end("one");
}

#[test]
fn what_a_create_that_was_killed_has_left_is_removed_by_force() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["true"]);
    bundle.runtime(&["list"]).succeeds();
    fs::create_dir(bundle.state("one")).unwrap();
    assert_eq!(
        bundle.fails(&["create", "one"]),
        "container \"one\" is being created, or who created it was killed: wait for that, or delete it \
         with --force"
    );
    bundle.runtime(&["delete", "--force", "one"]).succeeds();
    bundle.runtime(&["run", "one"]).succeeds();
    assert!(bundle.left().is_empty());
}

/// A create is stopped when its directory is there and not locked; that is deleted, and made by another.
#[test]
fn create_takes_no_directory_of_anothers() {
    let Some(env) = Env::new() else { return };
    if no_strace() {
        return;
    }
    let bundle = Bundle::new(&env, &["sleep", "1000"]);
    bundle.runtime(&["list"]).succeeds();
    let [trace, said] = ["trace", "said"].map(|name| bundle.directory.join(name));
    let create = bundle.command(&["create", "one"]);
    let place = bundle.state("one");
    let stop = "--inject=mkdir:signal=STOP:when=1";
    let flags = ["-P", place.to_str().unwrap(), "--trace=mkdir", stop];
    let mut strace = traced(&create, &trace, &flags);
    let mut strace = strace
        .stderr(fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    wait_until("create is stopped", || {
        fs::read_to_string(&trace).is_ok_and(|text| text.contains("stopped by SIGSTOP"))
    });
    bundle.runtime(&["delete", "--force", "one"]).succeeds();
    bundle.leaves(&["create", "one"]).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    let children = fs::read_to_string(children).unwrap();
    let stopped = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    kill_process(stopped, Signal::CONT).unwrap();
    assert_eq!(wait(&mut strace, "create"), 1);
    assert_eq!(
        fs::read_to_string(said).unwrap(),
        "kelp-runtime: container with id \"one\" exists already: delete it, or choose another id\n"
    );
    assert_eq!(bundle.status("one"), "created");
    bundle.runtime(&["start", "one"]).succeeds();
    bundle.end("one");
}

/// A filter that allows no execve(2) kills the process when the socket to it closes for that as well.
#[test]
fn what_is_killed_before_its_program_ran_has_not_started() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["sleep", "1000"]);
    bundle.leaves(&["run", "-d", "open"]).unwrap();
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS"}],
    });
    bundle.change(|spec| spec["linux"]["seccomp"] = filter.clone());
    let killed = "the process was killed before its program ran";
    assert_eq!(bundle.fails(&["run", "one"]), killed);
    let run = ["run", "-d", "--pid-file", "pid", "one"];
    assert_eq!(bundle.fails(&run), killed);
    assert!(!bundle.directory.join("pid").exists());
    bundle.leaves(&["create", "one"]).unwrap();
    assert_eq!(
        bundle.fails(&["start", "one"]),
        "the container's init was killed while it was starting"
    );
    bundle.runtime(&["delete", "one"]).succeeds();
    // Of exec, which has the filter that the container was made with.
    let config = bundle.state("open").join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    spec["linux"]["seccomp"] = filter;
    fs::write(&config, spec.to_string()).unwrap();
    for words in [
        &["exec", "open", "true"][..],
        &["exec", "-d", "open", "true"],
    ] {
        let done = bundle.runtime(words).done();
        let said = format!("kelp-runtime: {killed}\n");
        assert_eq!((done.code, done.stderr), (255, said));
    }
    bundle.runtime(&["delete", "--force", "open"]).succeeds();
    assert_eq!(bundle.runtime(&["list", "--quiet"]).succeeds(), "");
}

#[test]
fn a_frozen_cgroup_is_not_taken() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["true"]);
    let path = format!("{}/frozen-{}", cgroups::own(), std::process::id());
    let cgroup = format!("/sys/fs/cgroup{path}");
    fs::create_dir(&cgroup).unwrap();
    bundle.change(|spec| spec["linux"]["cgroupsPath"] = path.into());
    let freeze = |value: &str| fs::write(format!("{cgroup}/cgroup.freeze"), value).unwrap();
    freeze("1");
    assert_eq!(
        bundle.fails(&["create", "one"]),
        format!("cgroup {cgroup} is frozen: thaw it (cgroup.freeze), or choose another path")
    );
    freeze("0");
    bundle.runtime(&["run", "one"]).succeeds();
    assert!(bundle.left().is_empty());
    assert!(!fs::exists(cgroup).unwrap());
}

#[test]
fn what_the_kernel_refuses_has_a_way_out() {
    let Some(env) = Env::new() else { return };
    let bundle = Bundle::new(&env, &["true"]);
    let create = bundle.command(&["create", "one"]);
    let none = "echo 0 >/proc/sys/user/max_user_namespaces; exec \"$@\"";
    let words = ["--map-root-user", "sh", "-c", none, "sh"];
    let done = Kelp::new(around(&create, "unshare", &words)).done();
    let said = "kelp-runtime: user namespaces are not available: set the sysctl user.max_user_namespaces=15000\n";
    assert_eq!((done.code, done.stderr.as_str()), (1, said));
    bundle.change(|spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|it| *it != json!({"type": "user"}));
    });
    assert_eq!(
        bundle.fails(&["create", "one"]),
        "create the container's namespaces: operation not permitted: without root a user namespace has to be \
         in linux.namespaces"
    );
    assert!(bundle.left().is_empty());
}
