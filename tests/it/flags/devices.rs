//! What is below /dev: devices of the host, shared memory, and whether anything of it can be written.

use crate::env::Env;

const NO_NETWORK: &str = "--network=none";

#[test]
fn a_privileged_container_has_the_hosts_devices() {
    let Some(env) = Env::new() else { return };
    // Every Linux has it, and no container that is not privileged.
    let script = "test -c /dev/kmsg && echo there; test -e /dev/tty1 || echo no terminals";
    assert_eq!(env.shell(&[], script), "no terminals\n");
    assert_eq!(
        env.shell(&["--privileged"], script),
        "there\nno terminals\n"
    );
}

#[test]
fn a_privileged_container_can_write_its_cgroups() {
    let Some(env) = Env::new() else { return };
    let script = "awk '$2 ~ \"^/sys(/fs/cgroup)?$\" {print substr($4, 1, 3), $2}' /proc/mounts";
    let all = |how| format!("{how}, /sys\n{how}, /sys/fs/cgroup\n");
    assert_eq!(env.shell(&[NO_NETWORK], script), all("ro"));
    let flags = ["--privileged", NO_NETWORK];
    assert_eq!(env.shell(&flags, script), all("rw"));
}

#[test]
fn a_privileged_container_is_told_where_it_is() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "cat /run/.containerenv";
    assert_eq!(env.shell(&[], script), "");
    let flags = ["run", "--rm", NO_NETWORK, "--privileged", "--name", "box"];
    let told = env
        .kelp(&[&flags[..], &[&image, "sh", "-c", script]].concat())
        .succeeds();
    for line in ["name=\"box\"", &format!("image={image:?}"), "rootless=1"] {
        assert!(told.lines().any(|told| told == line), "{told}");
    }
    assert!(told.starts_with("engine=\"kelp-"), "{told}");
}

#[test]
fn a_directory_of_devices_is_all_that_are_in_it() {
    let Some(env) = Env::new() else { return };
    let script = "ls /dev/net /new 2>/dev/null || true";
    assert_eq!(
        env.shell(&["--device=/dev/net"], script),
        "/dev/net:\ntun\n"
    );
    assert_eq!(
        env.shell(&["--device=/dev/net:/new"], script),
        "/new:\ntun\n"
    );
    let image = env.busybox();
    let refused = env.kelp(&["run", "--device=/dev/fd/", &image, "true"]);
    assert_eq!(
        refused.fails(125),
        "Error: --device /dev/fd/: no device is in the directory"
    );
}

#[test]
fn without_its_own_places_to_write_a_read_only_container_can_write_nowhere() {
    let Some(env) = Env::new() else { return };
    let script = "for at in /dev /dev/shm /run /tmp /var/tmp; do
                      touch $at/new 2>/dev/null && echo $at
                  done; echo x >/dev/null && echo null; tty || true";
    let read_only = "--read-only";
    assert_eq!(
        env.shell(&[read_only], script),
        "/dev\n/dev/shm\n/run\n/tmp\n/var/tmp\nnull\nnot a tty\n"
    );
    let nowhere = [read_only, "--read-only-tmpfs=false"];
    assert_eq!(env.shell(&nowhere, script), "null\nnot a tty\n");
    let terminal = [&nowhere[..], &["-t"]].concat();
    assert_eq!(env.shell(&terminal, script), "null\r\n/dev/pts/0\r\n");
}

#[test]
fn who_shares_queues_shares_memory() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = ["run", NO_NETWORK, "--name", "one", "-d", "--shm-size=1m"];
    let program = [
        &image,
        "sh",
        "-c",
        "echo of-one >/dev/shm/memory; exec sleep 1000",
    ];
    env.kelp(&[&run[..], &program].concat()).succeeds();
    env.kelp(&[
        "exec",
        "one",
        "sh",
        "-c",
        "until test -s /dev/shm/memory; do :; done",
    ])
    .succeeds();
    let script =
        "cat /dev/shm/memory; echo of-two >/dev/shm/memory; df -k /dev/shm | awk 'END {print $2}'";
    assert_eq!(
        env.shell(&["--ipc=container:one"], script),
        "of-one\n1024\n"
    );
    // It has no part in a container that does not run.
    let create = [
        "create",
        "--name=two",
        NO_NETWORK,
        "--ipc=container:one",
        &image,
    ];
    env.kelp(&[&create[..], &["true"]].concat()).succeeds();
    env.kelp(&["cp", "two:/etc/passwd", "-"]).succeeds();
    env.kelp(&["rm", "two"]).succeeds();
    let read = ["exec", "one", "cat", "/dev/shm/memory"];
    assert_eq!(env.kelp(&read).succeeds(), "of-two\n");
    // A mount of one's own stays.
    let own = ["--ipc=container:one", "--tmpfs=/dev/shm"];
    assert_eq!(env.shell(&own, "ls /dev/shm"), "");
    env.kelp(&["rm", "-f", "-t0", "one"]).succeeds();
}

#[test]
fn queues_can_be_had_without_memory() {
    let Some(env) = Env::new() else { return };
    let script = "grep -c ' /dev/shm ' /proc/self/mountinfo; readlink /proc/self/ns/ipc";
    let seen = env.shell(&["--ipc=none"], script);
    let (mounts, namespace) = seen.split_once('\n').unwrap();
    assert_eq!(mounts, "0");
    let own = std::fs::read_link("/proc/self/ns/ipc").unwrap();
    assert_ne!(namespace.trim(), own.to_str().unwrap());
}
