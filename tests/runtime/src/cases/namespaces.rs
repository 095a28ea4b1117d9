//! config-linux.md, "Namespaces": new ones, inherited ones, and those that are joined.

use std::fs;

use serde_json::json;

use crate::case::{Case, Needs};
use crate::container::Container;
use crate::outcome::{Outcome, fails, holds, same};
use crate::spec::Spec;
use crate::stage::Stage;

const SECTION: &str = "config-linux.md: Namespaces";

pub(crate) const CASES: &[Case] = &[
    Case::new("new_ones", SECTION, new_ones),
    Case::new("inherits_what_is_not_listed", SECTION, inherited),
    Case::new("pid_new_shows_its_own_processes", SECTION, pid_new),
    Case::new("pid_left_out_shows_the_hosts", SECTION, pid_inherited),
    Case::new("network_new_has_a_loopback_alone", SECTION, network_new),
    Case::new("ipc_new_is_empty", SECTION, ipc_new),
    Case::new("cgroup_new_hides_the_path", SECTION, cgroup_new),
    Case::new("time_new", SECTION, time_new),
    Case::new("join_network", SECTION, |stage| {
        join(stage, "network", "net")
    }),
    Case::new("join_ipc", SECTION, |stage| join(stage, "ipc", "ipc")),
    Case::new("join_uts", SECTION, |stage| join(stage, "uts", "uts")),
    Case::new("join_cgroup", SECTION, |stage| {
        join(stage, "cgroup", "cgroup")
    }),
    Case::new("join_pid", SECTION, |stage| join(stage, "pid", "pid")),
    Case::new("join_time", SECTION, join_time),
    Case::new("join_user", SECTION, join_user),
    Case::new("join_mount", SECTION, join_mount),
    Case::new("join_mount_shows_nothing_there", SECTION, join_mount_unseen),
    Case::new("join_mount_keeps_its_root", SECTION, join_mount_root),
    Case::new(
        "join_mount_takes_no_propagation",
        SECTION,
        join_mount_refused,
    ),
    Case::new(
        "join_mount_of_another_user_namespace",
        SECTION,
        join_mount_of_another_user,
    ),
    Case::new("join_all_but_mount", SECTION, join_all),
    Case::new(
        "joined_stays_after_delete",
        "runtime.md: Delete",
        joined_stays,
    ),
    Case::new("path_of_another_type", SECTION, wrong_type),
    Case::new("path_that_is_gone", SECTION, gone),
    Case::new("path_that_is_no_namespace", SECTION, no_namespace),
    Case::new("listed_twice", SECTION, twice),
    Case::new("of_unknown_type", SECTION, unknown),
    Case::new("without_mount_namespace", SECTION, no_mount_namespace).needs(Needs::Root),
    Case::new(
        "without_mount_namespace_in_a_user_namespace",
        SECTION,
        no_mount_namespace_in_a_user_namespace,
    ),
];

/// Names of types, and of their files in /proc/self/ns.
const ALL: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

fn own(file: &str) -> Outcome<String> {
    let link = fs::read_link(format!("/proc/self/ns/{file}"))?;
    Ok(link.display().to_string())
}

fn of(pid: i32, file: &str) -> Outcome<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{file}"))?;
    Ok(link.display().to_string())
}

fn new_ones(stage: &Stage<'_>) -> Outcome {
    let script = "for n in pid net ipc uts mnt cgroup user; do readlink /proc/self/ns/$n; done";
    let out = stage.shell(&mut stage.spec(), script)?;
    let mut found = out.lines();
    for (kind, file) in ALL {
        let inner = found.next().unwrap_or_default();
        holds(inner != own(file)?, format!("{kind} is the caller's"))?;
    }
    let is_same = found.next() == Some(own("user")?.as_str());
    same("whether user is the caller's", is_same, !stage.rootless())
}

fn inherited(stage: &Stage<'_>) -> Outcome {
    for (kind, file) in ALL {
        if kind == "mount" {
            continue;
        }
        let mut spec = stage.spec();
        spec.without_namespace(kind);
        if kind == "network" || kind == "pid" {
            // Neither file system can be had new without a namespace of its own in the user's.
            let path = if kind == "pid" { "/proc" } else { "/sys" };
            spec.bind_instead(path, stage.rootless());
        }
        if kind == "ipc" && stage.rootless() {
            spec.without_mount("/dev/mqueue");
        }
        let out = stage.shell(&mut spec, &format!("readlink /proc/self/ns/{file}"))?;
        same(kind, out.trim_end(), own(file)?.as_str())?;
    }
    Ok(())
}

fn pid_new(stage: &Stage<'_>) -> Outcome {
    let script = "echo $$; ls /proc | grep -c '^[0-9]*$'; exit 0";
    let out = stage.shell(&mut stage.spec(), script)?;
    let mut lines = out.lines();
    same("the program's pid", lines.next(), Some("1"))?;
    let count: usize = lines.next().unwrap_or_default().parse().unwrap_or_default();
    holds(count <= 3, format!("{count} processes in /proc"))
}

fn pid_inherited(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.without_namespace("pid");
    spec.bind_instead("/proc", stage.rootless());
    let own = fs::read_to_string("/proc/self/comm")?;
    let script = format!("cat /proc/{}/comm", std::process::id());
    stage.prints(&mut spec, &script, &own)
}

fn network_new(stage: &Stage<'_>) -> Outcome {
    let script = "sed '1,2d; s/:.*//; s/ //g' /proc/net/dev";
    stage.prints(&mut stage.spec(), script, "lo\n")
}

fn ipc_new(stage: &Stage<'_>) -> Outcome {
    let script = "cat /proc/sysvipc/shm | wc -l; ls /dev/mqueue | wc -l";
    stage.prints(&mut stage.spec(), script, "1\n0\n")
}

fn cgroup_new(stage: &Stage<'_>) -> Outcome {
    stage.prints(
        &mut stage.spec(),
        "sed -n s/^0:://p /proc/self/cgroup",
        "/\n",
    )
}

fn time_new(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.namespace("time", None);
    let out = stage.shell(&mut spec, "readlink /proc/self/ns/time")?;
    holds(out.trim_end() != own("time")?, "time is the caller's")
}

/// The configuration of a container that joins another's namespace, and its user namespace if it
/// has one: only in there it has the right to.
fn joining(stage: &Stage<'_>, pid: i32, kinds: &[(&str, &str)]) -> Spec {
    let mut spec = stage.spec();
    spec["linux"]["cgroupsPath"] = stage.cgroup(&stage.other_id("b")).into();
    if stage.rootless() {
        spec.namespace("user", Some(&format!("/proc/{pid}/ns/user")));
        spec["linux"]["uidMappings"].take();
        spec["linux"]["gidMappings"].take();
        if let Some(linux) = spec["linux"].as_object_mut() {
            linux.retain(|_, value| !value.is_null());
        }
    }
    for (kind, file) in kinds {
        spec.namespace(kind, Some(&format!("/proc/{pid}/ns/{file}")));
    }
    spec
}

fn other(stage: &Stage<'_>, spec: &mut Spec, script: &str) -> Outcome<String> {
    spec.script(script);
    stage.write(spec)?;
    let id = stage.other_id("b");
    stage.remember(&id);
    stage.call(&["run", &id])?.succeeds()
}

fn join(stage: &Stage<'_>, kind: &str, file: &str) -> Outcome {
    let first = stage.running(&mut stage.spec())?;
    let mut spec = joining(stage, first.pid(), &[(kind, file)]);
    let out = other(stage, &mut spec, &format!("readlink /proc/self/ns/{file}"))?;
    same(kind, out.trim_end(), of(first.pid(), file)?.as_str())?;
    first.is("running")?;
    first.end()
}

fn join_time(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.namespace("time", None);
    spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    let first = stage.running(&mut spec)?;
    let mut spec = joining(stage, first.pid(), &[("time", "time")]);
    let out = other(stage, &mut spec, "readlink /proc/self/ns/time")?;
    same("time", out.trim_end(), of(first.pid(), "time")?.as_str())?;
    first.end()
}

fn join_user(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.wide_spec()?;
    let first = stage.running(&mut spec)?;
    let mut spec = stage.spec();
    spec["linux"]["cgroupsPath"] = stage.cgroup(&stage.other_id("b")).into();
    spec.namespace("user", Some(&format!("/proc/{}/ns/user", first.pid())));
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    }
    let out = other(
        stage,
        &mut spec,
        "readlink /proc/self/ns/user; wc -l < /proc/self/uid_map",
    )?;
    let (uids, _) = stage.runtime().wide_maps()?;
    let lines = uids.as_array().map_or(0, Vec::len);
    let expected = format!("{}\n{lines}\n", of(first.pid(), "user")?);
    same("user", out.as_str(), expected.as_str())?;
    first.end()
}

/// A container in the mount namespace of `first`, with a root file system of its own.
fn joining_mounts(stage: &Stage<'_>, first: &Container<'_>) -> Outcome<Spec> {
    stage.make_rootfs("other")?;
    fs::write(stage.bundle().join("other/own"), "of other\n")?;
    let source = stage.source("bound")?;
    let mut spec = joining(stage, first.pid(), &[("mount", "mnt")]);
    spec["root"]["path"] = "other".into();
    spec.mount(json!({"destination": "/m", "source": source, "options": ["bind", "ro"]}));
    Ok(spec)
}

fn mounts_of(pid: i32) -> Outcome<String> {
    Ok(fs::read_to_string(format!("/proc/{pid}/mountinfo"))?)
}

/// Ends `first`, if nothing of another container's was mounted in its namespace.
fn end_unchanged(first: &Container<'_>, before: &str) -> Outcome {
    same("mounts", mounts_of(first.pid())?.as_str(), before)?;
    let own = first.exec(&[], "test ! -e /own && readlink /bin/sh")?;
    same("the first one's root", own.as_str(), "busybox\n")?;
    first.end()
}

fn join_mount(stage: &Stage<'_>) -> Outcome {
    let first = stage.running(&mut stage.spec())?;
    let before = mounts_of(first.pid())?;
    let mut spec = joining_mounts(stage, &first)?;
    let script = "readlink /proc/self/ns/mnt; cat /own /m/file; touch /m/new 2>/dev/null || echo ro; \
        ls /dev/null /proc/self/comm; touch /new && pwd";
    let out = other(stage, &mut spec, script)?;
    let mount = of(first.pid(), "mnt")?;
    let expected = format!("{mount}\nof other\nof bound\nro\n/dev/null\n/proc/self/comm\n/\n");
    same("output", out.as_str(), expected.as_str())?;
    same(
        "a file of its root",
        stage.bundle().join("other/new").exists(),
        true,
    )?;
    end_unchanged(&first, &before)
}

/// From its beginning to its end nothing of it shows in the namespace, and `exec` leads to its root.
fn join_mount_unseen(stage: &Stage<'_>) -> Outcome {
    let first = stage.running(&mut stage.spec())?;
    let before = mounts_of(first.pid())?;
    let mut spec = joining_mounts(stage, &first)?;
    let unseen = |when: &str| same(when, mounts_of(first.pid())?.as_str(), before.as_str());
    spec.script("echo ready; exec sleep 1000");
    spec["root"]["readonly"] = true.into();
    let second = stage.create_as(&stage.other_id("b"), &spec)?;
    unseen("mounts after create")?;
    second.start()?;
    second.reads("ready\n")?;
    unseen("mounts after start")?;
    let script =
        "readlink /proc/self/ns/mnt; cat /own /m/file; pwd; touch /new 2>/dev/null || echo ro";
    let out = second.exec(&[], script)?;
    let expected = format!("{}\nof other\nof bound\n/\nro\n", of(first.pid(), "mnt")?);
    same("exec", out.as_str(), expected.as_str())?;
    second.end()?;
    end_unchanged(&first, &before)
}

/// Whoever has his working directory outside of what he calls his root, as by a directory that is moved, gets up to
/// the container's root and no higher.
fn join_mount_root(stage: &Stage<'_>) -> Outcome {
    let first = stage.running(&mut stage.spec())?;
    let before = mounts_of(first.pid())?;
    let mut spec = joining_mounts(stage, &first)?;
    let script = "cd /tmp; mkdir -p new/bin new/deep; cp /bin/busybox new/bin/sh; mkfifo new/told new/go; \
        busybox chroot new sh -c \
        'cd /deep; echo >/told; read x </go; cd -P ../../../../..; bin/cat own' & \
        cat new/told >/dev/null; mv new/deep .; echo >new/go; wait";
    let out = other(stage, &mut spec, script)?;
    same("what is at the top", out.as_str(), "of other\n")?;
    end_unchanged(&first, &before)
}

fn join_mount_refused(stage: &Stage<'_>) -> Outcome {
    let first = stage.running(&mut stage.spec())?;
    let before = mounts_of(first.pid())?;
    let spec = joining_mounts(stage, &first)?;
    // Of what can't be in force there nothing is taken.
    for (pointer, value) in [
        ("/linux/rootfsPropagation", "shared"),
        ("/mounts/0/options", "slave"),
        ("/mounts/0/options", "unbindable"),
    ] {
        let mut spec = spec.clone();
        match pointer {
            "/linux/rootfsPropagation" => spec["linux"]["rootfsPropagation"] = value.into(),
            _ => spec["mounts"][0]["options"] = json!([value]),
        }
        stage.write(&spec)?;
        let id = stage.other_id("b");
        let said = stage.call_on("create", &id)?.refused()?;
        stage.says_why(&said)?;
    }
    end_unchanged(&first, &before)
}

/// The namespace is another user namespace's: a container in its own has no right to it.
fn join_mount_of_another_user(stage: &Stage<'_>) -> Outcome {
    let first = stage.running(&mut stage.wide_spec()?)?;
    let before = mounts_of(first.pid())?;
    let mut spec = stage.wide_spec()?;
    spec["linux"]["cgroupsPath"] = stage.cgroup(&stage.other_id("b")).into();
    let path = format!("/proc/{}/ns/mnt", first.pid());
    spec.namespace("mount", Some(&path));
    stage.write(&spec)?;
    let said = stage.call_on("create", &stage.other_id("b"))?.refused()?;
    stage.says_why(&said)?;
    same("mounts", mounts_of(first.pid())?.as_str(), before.as_str())?;
    first.end()
}

fn join_all(stage: &Stage<'_>) -> Outcome {
    let first = stage.running(&mut stage.spec())?;
    let kinds: Vec<_> = ALL
        .into_iter()
        .filter(|(kind, _)| *kind != "mount")
        .collect();
    let mut spec = joining(stage, first.pid(), &kinds);
    let script = "for n in pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done";
    let out = other(stage, &mut spec, script)?;
    same("namespaces", out.lines().count(), kinds.len())?;
    for ((kind, file), found) in kinds.iter().zip(out.lines()) {
        same(kind, found, of(first.pid(), file)?.as_str())?;
    }
    first.end()
}

fn joined_stays(stage: &Stage<'_>) -> Outcome {
    let first = stage.running(&mut stage.spec())?;
    let mut spec = joining(stage, first.pid(), &[("pid", "pid"), ("ipc", "ipc")]);
    spec.script("echo ready; exec sleep 1000");
    let second = stage.create_as(&stage.other_id("b"), &spec)?;
    second.start()?;
    second.reads("ready\n")?;
    second.end()?;
    first.is("running")?;
    same(
        "what still runs",
        first.exec(&[], "echo here")?.as_str(),
        "here\n",
    )?;
    first.end()
}

fn wrong_type(stage: &Stage<'_>) -> Outcome {
    let first = stage.running(&mut stage.spec())?;
    let spec = joining(stage, first.pid(), &[("network", "ipc")]);
    stage.write(&spec)?;
    let id = stage.other_id("b");
    stage.remember(&id);
    stage.call(&["create", &id])?.refused()?;
    first.is("running")?;
    first.end()?;
    stage.left_nothing()
}

fn gone(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.namespace("network", Some("/proc/self/ns/nosuch"));
    stage.refuses(&spec)?;
    Ok(())
}

fn no_namespace(stage: &Stage<'_>) -> Outcome {
    for path in ["/etc/passwd", "/dev/null", "/"] {
        let mut spec = stage.spec();
        spec.namespace("network", Some(path));
        stage.refuses(&spec)?;
    }
    Ok(())
}

fn twice(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let list = spec["linux"]["namespaces"].as_array_mut();
    let Some(list) = list else {
        return fails("no list");
    };
    list.push(json!({"type": "uts"}));
    stage.refuses(&spec)?;
    Ok(())
}

fn unknown(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.namespace("nosuch", None);
    stage.refuses(&spec)?;
    Ok(())
}

/// Without one it has the caller's, in which nothing is left.
fn no_mount_namespace(stage: &Stage<'_>) -> Outcome {
    let before = mounts_of(std::process::id().cast_signed())?;
    let mut spec = stage.spec();
    spec.without_namespace("mount");
    let source = stage.source("bound")?;
    spec.mount(json!({"destination": "/m", "source": source, "options": ["bind"]}));
    let container = stage.running(&mut spec)?;
    let during = mounts_of(std::process::id().cast_signed())?;
    let out = container.exec(
        &[],
        "readlink /proc/self/ns/mnt; cat /m/file; ls /bin/busybox",
    )?;
    container.end()?;
    let expected = format!("{}\nof bound\n/bin/busybox\n", own("mnt")?);
    same("output", out.as_str(), expected.as_str())?;
    same("mounts", during.as_str(), before.as_str())
}

/// It is the caller's, or refused: that belongs to another user namespace.
fn no_mount_namespace_in_a_user_namespace(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.wide_spec()?;
    spec.without_namespace("mount");
    spec["mounts"] = json!([]);
    spec.script("ls /bin/busybox");
    let done = stage.run(&spec)?;
    if done.code == 0 {
        return same("output", done.out.as_str(), "/bin/busybox\n");
    }
    stage.says_why(&done.err)?;
    stage.left_nothing()
}
