//! config.md, "Mounts": order, targets, binds and the kinds of file systems.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::case::{Case, Needs};
use crate::mountinfo;
use crate::outcome::{Outcome, fails, has, holds, same};
use crate::stage::Stage;

const SECTION: &str = "config.md: Mounts";

pub(crate) const CASES: &[Case] = &[
    Case::new("in_the_listed_order", SECTION, order),
    Case::new("within_another", SECTION, nested),
    Case::new("relative_destination", SECTION, relative_destination),
    Case::new("missing_target_is_made", SECTION, missing_target),
    Case::new(
        "missing_target_of_a_file_is_made",
        SECTION,
        missing_file_target,
    ),
    Case::new("symbolic_link_stays_in_the_root", SECTION, symbolic_link),
    Case::new("bind_of_a_directory", SECTION, bind_directory),
    Case::new("bind_of_a_file", SECTION, bind_file),
    Case::new("bind_of_a_relative_source", SECTION, relative_source),
    Case::new("bind_without_a_type", SECTION, bind_without_type),
    Case::new("bind_is_writable", SECTION, bind_writable),
    Case::new("bind_read_only", SECTION, bind_read_only),
    Case::new(
        "bind_is_not_recursive",
        "config.md: Linux mount options",
        bind_alone,
    )
    .needs(Needs::Root),
    Case::new(
        "rbind_is_recursive",
        "config.md: Linux mount options",
        rbind,
    ),
    Case::new("bind_of_a_missing_source", SECTION, missing_source),
    Case::new("bind_of_a_directory_on_a_file", SECTION, directory_on_file),
    Case::new(
        "tmpfs_with_its_options",
        "config.md: Linux mount options",
        tmpfs,
    ),
    Case::new("tmpfs_copies_up", "config.md: Linux mount options", copy_up),
    Case::new(
        "unknown_option_goes_to_the_file_system",
        "config.md: Linux mount options",
        unknown,
    ),
    Case::new("unknown_file_system", SECTION, unknown_type),
    Case::new(
        "proc_is_of_the_pid_namespace",
        "config-linux.md: Default Filesystems",
        proc,
    ),
    Case::new(
        "sysfs_is_of_the_network_namespace",
        "config-linux.md: Default Filesystems",
        sysfs,
    ),
    Case::new(
        "devpts_is_a_new_instance",
        "config-linux.md: Default Filesystems",
        devpts,
    ),
    Case::new("mqueue", SECTION, mqueue),
    Case::new("cgroup_shows_the_containers_own", SECTION, cgroup),
    Case::new("cgroup_read_only", SECTION, cgroup_read_only),
    Case::new("cgroup_without_its_namespace", SECTION, cgroup_shared),
    Case::new(
        "none_of_the_hosts",
        "config-linux.md: Namespaces",
        none_of_the_host,
    ),
    Case::new(
        "nothing_is_left_on_the_host",
        "runtime.md: Delete",
        nothing_left,
    ),
];

fn order(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    for name in ["first", "second"] {
        let source = stage.source(name)?;
        spec.mount(json!({"destination": "/m", "source": source, "options": ["bind"]}));
    }
    stage.prints(&mut spec, "cat /m/file", "of second\n")
}

fn nested(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let tmpfs = |path: &str| json!({"destination": path, "type": "tmpfs", "source": "tmpfs"});
    let source = stage.source("own")?;
    spec.mount(tmpfs("/m"));
    spec.mount(json!({"destination": "/m/a/b", "source": source, "options": ["bind"]}));
    spec.mount(tmpfs("/m/a/b/c"));
    // The second one's target is made in its source.
    fs::create_dir(stage.path("own/c"))?;
    stage.prints(
        &mut spec,
        "cat /m/a/b/file; grep -c ' /m/a/b/c ' /proc/self/mountinfo",
        "of own\n1\n",
    )?;
    holds(
        !stage.rootfs("m/a").exists(),
        "the target was made beneath the first mount",
    )
}

fn relative_destination(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec["process"]["cwd"] = "/etc".into();
    spec.mount(json!({"destination": "m", "source": source, "options": ["bind"]}));
    stage.prints(&mut spec, "cat /m/file", "of own\n")
}

fn missing_target(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec.mount(json!({"destination": "/new/one", "source": source, "options": ["bind"]}));
    spec.mount(json!({"destination": "/new/two", "type": "tmpfs", "source": "tmpfs"}));
    stage.prints(
        &mut spec,
        "cat /new/one/file; grep -c ' /new/two ' /proc/self/mountinfo",
        "of own\n1\n",
    )
}

fn missing_file_target(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = format!("{}/file", stage.source("own")?);
    spec.mount(json!({"destination": "/new/one/name", "source": source, "options": ["bind"]}));
    stage.prints(&mut spec, "cat /new/one/name", "of own\n")
}

fn symbolic_link(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    let outside = stage.source("outside")?;
    symlink(&outside, stage.rootfs("absolute"))?;
    symlink(
        format!("../../../../../../../..{outside}"),
        stage.rootfs("upward"),
    )?;
    fs::create_dir_all(stage.rootfs(outside.trim_start_matches('/')))?;
    for link in ["/absolute/in", "/upward/up"] {
        spec.mount(json!({"destination": link, "source": source, "options": ["bind"]}));
    }
    let script = format!("cat {outside}/in/file {outside}/up/file");
    stage.prints(&mut spec, &script, "of own\nof own\n")?;
    let names: Vec<_> = fs::read_dir(&outside)?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    same("what is in the host's directory", names, ["file"])
}

fn bind_directory(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec.mount(json!({
        "destination": "/m", "type": "none", "source": source, "options": ["bind"],
    }));
    stage.prints(&mut spec, "cat /m/file; ls /m", "of own\nfile\n")
}

fn bind_file(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = format!("{}/file", stage.source("own")?);
    spec.mount(json!({"destination": "/etc/passwd", "source": source, "options": ["bind"]}));
    stage.prints(&mut spec, "cat /etc/passwd", "of own\n")
}

fn relative_source(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    fs::create_dir(stage.bundle().join("data"))?;
    fs::write(stage.bundle().join("data/file"), "of the bundle\n")?;
    spec.mount(json!({"destination": "/m", "source": "data", "options": ["bind"]}));
    stage.write(&spec)?;
    // The caller's directory is another one.
    spec.script("cat /m/file");
    stage.write(&spec)?;
    let bundle = stage.bundle().display().to_string();
    let id = stage.id();
    stage.remember(&id);
    let mut command = stage.command(&["run", "--bundle", &bundle, &id]);
    command.current_dir("/");
    same(
        "output",
        stage.finish(command)?.succeeds()?.as_str(),
        "of the bundle\n",
    )
}

fn bind_without_type(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec.mount(json!({
        "destination": "/m", "type": "nosuch", "source": source, "options": ["rbind"],
    }));
    spec.mount(json!({"destination": "/n", "source": source, "options": ["rbind"]}));
    stage.prints(&mut spec, "cat /m/file /n/file", "of own\nof own\n")
}

fn bind_writable(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec.mount(json!({"destination": "/m", "source": source, "options": ["rbind", "rw"]}));
    stage.shell(&mut spec, "echo written >/m/new")?;
    same(
        "file",
        fs::read_to_string(stage.path("own/new"))?.as_str(),
        "written\n",
    )
}

fn bind_read_only(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec.mount(json!({"destination": "/m", "source": source, "options": ["rbind", "ro"]}));
    let out = stage.shell(&mut spec, "echo written 2>&1 >/m/new; cat /m/file")?;
    has("writing", &out, "Read-only file system")?;
    holds(!stage.path("own/new").exists(), "it was written")
}

/// A directory of the host's with a mount in it, which root can make.
fn source_with_mount(stage: &Stage<'_>) -> Outcome<String> {
    let source = stage.source("own")?;
    let inner = stage.path("own/inner");
    fs::create_dir(&inner)?;
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &inner, "tmpfs", flags, None)?;
    fs::write(inner.join("deep"), "deep\n")?;
    Ok(source)
}

fn bind_alone(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = source_with_mount(stage)?;
    spec.mount(json!({"destination": "/m", "source": source, "options": ["bind"]}));
    spec.mount(json!({"destination": "/n", "source": source, "options": ["rbind"]}));
    let out = stage.shell(&mut spec, "ls /m/inner; cat /n/inner/deep");
    let gone = rustix::mount::unmount(
        stage.path("own/inner"),
        rustix::mount::UnmountFlags::empty(),
    );
    same("output", out?.as_str(), "deep\n")?;
    Ok(gone?)
}

/// The host's /dev has mounts in it.
fn rbind(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.mount(json!({"destination": "/m", "source": "/dev", "options": ["rbind"]}));
    let out = stage.shell(&mut spec, "cat /proc/self/mountinfo")?;
    let inner = mountinfo::parse(&out)
        .iter()
        .any(|mount| mount.target.starts_with("/m/"));
    holds(inner, format!("no mount below /m: {out:?}"))
}

fn missing_source(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.path("nosuch").display().to_string();
    spec.mount(json!({"destination": "/m", "source": source, "options": ["bind"]}));
    stage.refuses(&spec)?;
    holds(!stage.path("nosuch").exists(), "the source was made")
}

fn directory_on_file(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec.mount(json!({"destination": "/etc/passwd", "source": source, "options": ["bind"]}));
    stage.refuses(&spec)?;
    Ok(())
}

fn tmpfs(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.mount(json!({
        "destination": "/m", "type": "tmpfs", "source": "name",
        "options": ["nosuid", "mode=1751", "size=64k", "nr_inodes=20"],
    }));
    let out = stage.shell(&mut spec, "stat -c %a /m; cat /proc/self/mountinfo")?;
    let Some(mount) = mountinfo::on(&out, "/m") else {
        return fails("no mount on /m");
    };
    same("mode", out.lines().next(), Some("1751"))?;
    same("type", mount.kind.as_str(), "tmpfs")?;
    holds(mount.system_has("size=64k"), format!("no size: {mount:?}"))?;
    holds(
        mount.system_has("nr_inodes=20"),
        format!("no nr_inodes: {mount:?}"),
    )?;
    holds(mount.has("nosuid"), format!("no nosuid: {mount:?}"))
}

fn copy_up(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let directory = stage.rootfs("m");
    fs::create_dir(directory.join("sub"))?;
    fs::write(directory.join("sub/file"), "of the root\n")?;
    symlink("sub/file", directory.join("link"))?;
    spec.mount(json!({
        "destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"],
    }));
    let script = "cat /m/link; readlink /m/link; echo new >/m/sub/file; cat /m/link";
    stage.prints(&mut spec, script, "of the root\nsub/file\nnew\n")?;
    same(
        "the root's",
        fs::read_to_string(directory.join("sub/file"))?.as_str(),
        "of the root\n",
    )
}

fn unknown(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.mount(json!({
        "destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["nosuchoption=1"],
    }));
    stage.refuses(&spec)?;
    Ok(())
}

fn unknown_type(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.mount(json!({"destination": "/m", "type": "nosuchfs", "source": "none"}));
    stage.refuses(&spec)?;
    Ok(())
}

fn proc(stage: &Stage<'_>) -> Outcome {
    let out = stage.shell(
        &mut stage.spec(),
        "readlink /proc/self; stat -f -c %T /proc",
    )?;
    let mut lines = out.lines();
    let pid: u32 = lines.next().unwrap_or_default().parse().unwrap_or_default();
    holds((1..10).contains(&pid), format!("/proc/self is {pid}"))?;
    same("type", lines.next(), Some("proc"))
}

fn sysfs(stage: &Stage<'_>) -> Outcome {
    stage.prints(
        &mut stage.spec(),
        "ls /sys/class/net; stat -f -c %T /sys",
        "lo\nsysfs\n",
    )
}

fn devpts(stage: &Stage<'_>) -> Outcome {
    let script = "ls /dev/pts; stat -c %a /dev/pts/ptmx; readlink /dev/ptmx || grep /dev/ptmx /proc/self/mountinfo";
    let out = stage.shell(&mut stage.spec(), script)?;
    let mut lines = out.lines();
    same("entries of /dev/pts", lines.next(), Some("ptmx"))?;
    same("mode of ptmx", lines.next(), Some("666"))?;
    holds(lines.next().is_some(), "no /dev/ptmx")
}

fn mqueue(stage: &Stage<'_>) -> Outcome {
    let out = stage.shell(&mut stage.spec(), "cat /proc/self/mountinfo")?;
    let mount = mountinfo::on(&out, "/dev/mqueue");
    same(
        "type",
        mount.map(|mount| mount.kind).as_deref(),
        Some("mqueue"),
    )
}

/// A cgroup mount with options besides the usual ones.
fn with_cgroup(stage: &Stage<'_>, more: &[&str]) -> crate::spec::Spec {
    let mut spec = stage.spec();
    let options = [&["nosuid", "noexec", "nodev"], more].concat();
    spec.mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options,
    }));
    spec
}

fn cgroup(stage: &Stage<'_>) -> Outcome {
    let script = "stat -f -c %T /sys/fs/cgroup; cat /sys/fs/cgroup/cgroup.procs";
    let out = stage.shell(&mut with_cgroup(stage, &[]), script)?;
    let mut lines = out.lines();
    let kind = lines.next().unwrap_or_default();
    // busybox knows the type by its number alone.
    holds(
        kind == "cgroup2fs" || kind.contains("0x63677270") || kind == "UNKNOWN",
        kind,
    )?;
    same("the first process of the cgroup", lines.next(), Some("1"))
}

fn cgroup_read_only(stage: &Stage<'_>) -> Outcome {
    let mut spec = with_cgroup(stage, &["ro"]);
    let out = stage.shell(&mut spec, "mkdir /sys/fs/cgroup/new 2>&1; echo")?;
    has("mkdir", &out, "Read-only file system")
}

/// All of the hierarchy, or its part of it: the path that the program's own file says is found.
fn cgroup_shared(stage: &Stage<'_>) -> Outcome {
    let mut spec = with_cgroup(stage, &["ro"]);
    spec.without_namespace("cgroup");
    let script = "cat /proc/self/mountinfo; own=$(sed -n s/^0:://p /proc/self/cgroup); \
        ls /sys/fs/cgroup$own/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null";
    spec.script(script);
    let done = stage.run(&spec)?;
    let Some(mount) = mountinfo::on(&done.out, "/sys/fs/cgroup") else {
        return fails(format!(
            "no mount on /sys/fs/cgroup: {}{}",
            done.out, done.err
        ));
    };
    same("type", mount.kind.as_str(), "cgroup2")?;
    holds(mount.has("ro"), format!("not read-only: {mount:?}"))?;
    has("files", &done.out, "cgroup.procs")
}

fn none_of_the_host(stage: &Stage<'_>) -> Outcome {
    let out = stage.shell(&mut stage.spec(), "cat /proc/self/mountinfo")?;
    let mut found: Vec<_> = mountinfo::parse(&out)
        .into_iter()
        .map(|mount| mount.target)
        .collect();
    // Default devices may be binds.
    found.retain(|target| {
        !["null", "zero", "full", "random", "urandom", "tty", "ptmx"]
            .iter()
            .any(|device| *target == format!("/dev/{device}"))
    });
    found.sort();
    let expected = [
        "/",
        "/dev",
        "/dev/mqueue",
        "/dev/pts",
        "/dev/shm",
        "/proc",
        "/sys",
    ];
    same(
        "mounts",
        found.iter().map(String::as_str).collect::<Vec<_>>(),
        expected,
    )
}

fn nothing_left(stage: &Stage<'_>) -> Outcome {
    let before = crate::left::mounts();
    let mut spec = stage.spec();
    spec.mount(json!({"destination": "/m", "type": "tmpfs", "source": "tmpfs"}));
    let container = stage.running(&mut spec)?;
    same("mounts of the host", crate::left::mounts(), before)?;
    container.end()
}
