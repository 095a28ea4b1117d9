//! Cgroups where systemd is the user's manager and every controller is delegated.

mod journal;
mod limits;
mod oci;
mod parents;
mod runtimes;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::env::Env;
use crate::kelp::{Kelp, wait_until};
use crate::oci::Bundle;

/// The same command as a service of the user's manager, with these properties.
fn as_service(kelp: Kelp, properties: &[&str]) -> Kelp {
    let inner = kelp.into_command();
    let mut outer = Command::new("systemd-run");
    outer.args(["--user", "--quiet", "--wait", "--pipe", "--collect"]);
    for property in properties {
        outer.arg(format!("--property={property}"));
    }
    for (name, value) in inner.get_envs() {
        let value = value.unwrap_or_default().to_string_lossy();
        outer.arg(format!("--setenv={}={value}", name.to_string_lossy()));
    }
    outer.arg("--").arg(inner.get_program());
    outer.args(inner.get_args()).stdin(Stdio::null());
    Kelp::new(outer)
}

/// `kelp run` of a shell command in a service that has its cgroup delegated.
fn run_in_service(env: &Env, flags: &[&str], script: &str) -> Kelp {
    let image = env.busybox();
    let words = [&["run"], flags, &[image.as_str(), "sh", "-c", script]].concat();
    as_service(env.kelp(&words), &["Delegate=yes"])
}

#[test]
fn limits_are_written_to_the_cgroup_of_a_delegated_service() {
    let Some(env) = Env::of_session() else { return };
    let flags = [
        "--rm",
        "--memory=64m",
        "--memory-swap=96m",
        "--pids-limit=50",
        "--cpus=0.5",
        "--cpu-shares=512",
        "--cpuset-cpus=1",
        "--blkio-weight=200",
    ];
    let script = "cd /sys/fs/cgroup && cat memory.max memory.swap.max pids.max cpu.max cpu.weight \
                  cpuset.cpus && grep Cpus_allowed_list /proc/self/status";
    let text = run_in_service(&env, &flags, script).succeeds();
    assert_eq!(
        text,
        "67108864\n33554432\n50\n50000 100000\n59\n1\nCpus_allowed_list:\t1\n"
    );
}

#[test]
fn a_container_above_its_memory_is_killed_and_the_record_says_why() {
    let Some(env) = Env::of_session() else { return };
    let flags = ["--name=hog", "--memory=32m", "--memory-swap=32m"];
    // tail keeps everything up to the end of a line that never comes.
    run_in_service(&env, &flags, "exec tail /dev/zero")
        .done()
        .exits(137);
    let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}";
    let state = env.kelp(&["inspect", "--format", format, "hog"]).succeeds();
    assert_eq!(state, "exited 137 true\n");
    env.kelp(&["rm", "hog"]).succeeds();
}

#[test]
fn a_fork_above_the_limit_of_processes_is_refused() {
    let Some(env) = Env::of_session() else { return };
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; wait";
    let done = run_in_service(&env, &["--rm", "--pids-limit=5"], script).done();
    assert!(done.code != 0 && done.stderr.contains("fork"), "{done:#?}");
}

#[test]
fn a_quota_throttles() {
    let Some(env) = Env::of_session() else { return };
    // Ten periods of the quota's.
    let script = "while [ \"$(grep -c . /sys/fs/cgroup/cpu.stat)\" -gt 0 ]; do
        periods=$(sed -n 's/^nr_throttled //p' /sys/fs/cgroup/cpu.stat)
        [ \"$periods\" -lt 10 ] || break; done; echo throttled";
    let text = run_in_service(&env, &["--rm", "--cpus=0.2"], script).succeeds();
    assert_eq!(text, "throttled\n");
}

#[test]
fn writes_to_a_device_are_held_to_their_rate() {
    let Some(env) = Env::of_session() else { return };
    // On the disk, where /tmp is not.
    let home = tempfile::tempdir_in(std::env::var_os("HOME").unwrap()).unwrap();
    let volume = format!("{}:/out", home.path().display());
    let flags = ["--rm", "--device-write-bps=/dev/vda:1mb", "-v", &volume];
    let script =
        "dd if=/dev/zero of=/out/file bs=64k count=64 conv=fsync 2>/dev/null && echo written";
    let begin = std::time::Instant::now();
    let text = run_in_service(&env, &flags, script).succeeds();
    assert_eq!(text, "written\n");
    // Four megabytes; what the kernel lets pass at once is less than one.
    let took = begin.elapsed();
    assert!(took.as_secs() >= 3, "{took:?}");
}

/// The path of the container's cgroup, as the host sees it.
fn cgroup_of(env: &Env, name: &str) -> String {
    let format = "{{.State.CgroupPath}}";
    let path = env.kelp(&["inspect", "--format", format, name]).succeeds();
    path.trim().to_owned()
}

pub(super) fn systemctl(words: &[&str]) -> String {
    let output = Command::new("systemctl")
        .arg("--user")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Waits until the user's manager has no unit of this name.
pub(super) fn wait_until_collected(unit: &str) {
    wait_until(&format!("{unit} is gone"), || {
        systemctl(&["show", "--property=LoadState", "--value", unit]) == "not-found"
    });
}

#[test]
fn from_a_login_a_container_gets_a_scope_with_its_limits_and_exec_joins_it() {
    let Some(env) = Env::of_session() else { return };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert!(own.contains("/session-"), "{own}");
    let image = env.busybox();
    let flags = [
        "run",
        "-d",
        "--name=scoped",
        "--memory=64m",
        "--pids-limit=9",
    ];
    let id = env
        .kelp(&[&flags[..], &[&image, "sleep", "1000"]].concat())
        .succeeds();
    let unit = format!("kelp-{}.scope", id.trim());
    assert_eq!(systemctl(&["is-active", &unit]), "active");
    let cgroup = cgroup_of(&env, "scoped");
    assert!(cgroup.ends_with(&format!("/{unit}/container")), "{cgroup}");
    let read = |file: &str| {
        let path = format!("/sys/fs/cgroup{cgroup}/{file}");
        fs::read_to_string(path).unwrap()
    };
    assert_eq!(
        (read("memory.max"), read("pids.max")),
        ("67108864\n".into(), "9\n".into())
    );
    // The second process is the one that exec has put there.
    env.kelp(&["exec", "-d", "scoped", "sleep", "1000"])
        .succeeds();
    assert_eq!(read("cgroup.procs").lines().count(), 2);
    let text = env
        .kelp(&["exec", "scoped", "cat", "/sys/fs/cgroup/memory.max"])
        .succeeds();
    assert_eq!(text, "67108864\n");
    env.kelp(&["pause", "scoped"]).succeeds();
    env.kelp(&["unpause", "scoped"]).succeeds();
    // Again at once: the old scope may be on its way out.
    env.kelp(&["restart", "-t0", "scoped"]).succeeds();
    assert_eq!(systemctl(&["is-active", &unit]), "active");
    env.kelp(&["rm", "-f", "-t0", "scoped"]).succeeds();
    wait_until_collected(&unit);
}

/// Where the container's root is a subordinate id, systemd moves no process that has become that one.
#[test]
fn from_a_login_exec_joins_containers_with_other_ids() {
    let Some(env) = Env::of_session() else { return };
    for userns in ["keep-id", "auto", "nomap"] {
        let userns = format!("--userns={userns}");
        limits::start(&env, "mapped", &[&userns, "--pids-limit=9"]);
        let cgroup = limits::directory(&env, "mapped");
        for user in ["0", "7"] {
            let exec = ["exec", "-u", user, "mapped"];
            let words = ["cat", "/sys/fs/cgroup/pids.max"];
            let text = env.kelp(&[&exec[..], &words].concat()).succeeds();
            assert_eq!(text, "9\n", "{userns}");
        }
        env.kelp(&["exec", "-d", "mapped", "sleep", "1000"])
            .succeeds();
        let count = limits::read(&cgroup, "cgroup.procs").lines().count();
        assert_eq!(count, 2, "{userns}");
        limits::remove(&env, "mapped");
    }
}

#[test]
fn a_scope_that_systemd_stops_is_an_end_like_any_other() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let flags = ["run", "-d", "--name=stopped", &image, "sh", "-c", script];
    let id = env.kelp(&flags).succeeds();
    let unit = format!("kelp-{}.scope", id.trim());
    // It has its handler when it says so.
    let mut logs = env.kelp(&["logs", "-f", "stopped"]).start();
    let mut line = String::new();
    let out = logs.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    assert_eq!(line, "ready\n");
    assert_eq!(systemctl(&["stop", &unit]), "");
    logs.wait().unwrap();
    let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}";
    let state = env.kelp(&["inspect", "--format", format, "stopped"]);
    assert_eq!(state.succeeds(), "exited 7 \n");
    wait_until_collected(&unit);
    env.kelp(&["rm", "stopped"]).succeeds();
}

#[test]
fn a_slice_and_a_manager_can_be_named() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    let flags = [
        "run",
        "-d",
        "--name=sliced",
        "--cgroup-parent=kelptest.slice",
    ];
    env.kelp(&[&flags[..], &[&image, "sleep", "1000"]].concat())
        .succeeds();
    let cgroup = cgroup_of(&env, "sliced");
    assert!(cgroup.contains("/kelptest.slice/kelp-"), "{cgroup}");
    env.kelp(&["rm", "-f", "-t0", "sliced"]).succeeds();
    // The session's cgroup is the system's.
    let flags = ["--cgroup-manager=cgroupfs", "run", "--rm", "--memory=64m"];
    let line = env
        .kelp(&[&flags[..], &[&image, "true"]].concat())
        .fails(125);
    assert!(
        line.contains("--memory can't be set: this session has no delegated cgroup"),
        "{line}"
    );
    let line = env
        .kelp(&["run", "--rm", "--cgroups=split", &image, "true"])
        .fails(125);
    assert!(
        line.contains("--cgroups=split needs a unit with Delegate=yes"),
        "{line}"
    );
}

#[test]
fn in_a_delegated_service_the_container_ends_with_its_unit() {
    let Some(env) = Env::of_session() else { return };
    let text = run_in_service(&env, &["--rm", "--memory=64m"], "cat /proc/self/cgroup").succeeds();
    assert_eq!(text, "0::/\n");
    let image = env.busybox();
    let words = ["run", "--name=inside", &image, "sleep", "1000"];
    let mut child = as_service(env.kelp(&words), &["Delegate=yes"]).start();
    let mut cgroup = String::new();
    wait_until("the container runs", || {
        let inspect = ["inspect", "--format", "{{.State.CgroupPath}}", "inside"];
        env.kelp(&inspect)
            .done()
            .stdout
            .trim()
            .clone_into(&mut cgroup);
        !cgroup.is_empty()
    });
    let unit = cgroup
        .split('/')
        .find(|part| part.ends_with(".service") && part.starts_with("run-"));
    systemctl(&["stop", unit.unwrap_or_else(|| panic!("{cgroup}"))]);
    child.wait().unwrap();
    let state = env.kelp(&["inspect", "--format", "{{.State.Status}}", "inside"]);
    assert_eq!(state.succeeds(), "exited\n");
    env.kelp(&["rm", "inside"]).succeeds();
}

#[test]
fn a_controller_that_is_not_delegated_is_named_with_its_remedy() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    let words = ["run", "--rm", "--cpuset-cpus=0", &image, "true"];
    // In a slice of its own: what a neighbour gets is handed down to all.
    let properties = ["Delegate=pids", "Slice=kelpbare.slice"];
    let line = as_service(env.kelp(&words), &properties).fails(125);
    assert!(
        line.starts_with(
            "Error: the cpuset controller is not delegated to this user; as root, put"
        ),
        "{line}"
    );
}

#[test]
fn doctor_and_info_know_the_users_manager() {
    let Some(env) = Env::of_session() else { return };
    let format = "{{.Host.CgroupManager}} {{.Host.CgroupControllers}}";
    let text = env.kelp(&["info", "--format", format]).succeeds();
    assert_eq!(text, "systemd [cpuset cpu io memory pids]\n");
    let text = env.kelp(&["doctor"]).done().stdout;
    let line = |name: &str| {
        let found = text.lines().find(|line| line.contains(name));
        found.unwrap_or_else(|| panic!("{name}: {text}")).to_owned()
    };
    assert!(line("cgroup v2").contains("user@1000.service has cpuset cpu io memory pids"));
    assert!(line("linger").contains("containers outlive the session"));
}

#[test]
fn a_profile_of_apparmors_confines_every_program() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    let run = ["run", "-d", "--name=confined", "--network=none"];
    let profile = [
        "--security-opt",
        "apparmor=kelp-test",
        &image,
        "sleep",
        "1000",
    ];
    env.kelp(&[&run[..], &profile].concat()).succeeds();
    let script = "cat /proc/1/attr/current /proc/self/attr/current; cat /etc/passwd | wc -l; \
                  cat /etc/group 2>&1 | tail -n 1";
    let exec = ["exec", "confined", "sh", "-c", script];
    assert_eq!(
        env.kelp(&exec).succeeds(),
        "kelp-test (enforce)\nkelp-test (enforce)\n2\ncat: can't open '/etc/group': Permission denied\n"
    );
    let shown = ["inspect", "-f", "{{.AppArmorProfile}}", "confined"];
    assert_eq!(env.kelp(&shown).succeeds(), "kelp-test\n");
    env.kelp(&["rm", "-f", "-t0", "confined"]).succeeds();
    let unknown = [
        "run",
        "--rm",
        "--security-opt",
        "apparmor=nosuch",
        &image,
        "true",
    ];
    assert_eq!(
        env.kelp(&unknown).fails(125),
        "Error: enter the AppArmor profile nosuch: it is not loaded: load it with apparmor_parser(8)"
    );
}

/// Of a low-level runtime's hooks those that it runs itself are its own.
#[test]
fn a_profile_of_apparmors_is_the_programs_alone() {
    let Some(env) = Env::of_session() else { return };
    let bundle = Bundle::new(&env, &["cat", "/proc/self/attr/current"]);
    let told = bundle.directory.join("told");
    let script = format!("cat /proc/self/attr/current >>{}", told.display());
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin"]}]);
    bundle.change(|spec| {
        spec["process"]["apparmorProfile"] = "kelp-test".into();
        spec["hooks"] = json!({"createRuntime": hook, "createContainer": hook});
    });
    let of_program = bundle.runtime(&["run", "one"]).succeeds();
    assert_eq!(of_program, "kelp-test (enforce)\n");
    let of_hooks = fs::read_to_string(told).unwrap();
    assert_eq!(of_hooks, "unconfined\nunconfined\n");
}
