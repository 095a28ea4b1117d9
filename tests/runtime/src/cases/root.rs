//! config.md, "Root", and config-linux.md on paths: read-only, masked, propagation.

use std::fs;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::json;

use crate::case::{Case, Needs};
use crate::mountinfo;
use crate::outcome::{Outcome, fails, has, holds, same};
use crate::stage::Stage;

const ROOT: &str = "config.md: Root";
const READONLY: &str = "config-linux.md: Readonly Paths";
const MASKED: &str = "config-linux.md: Masked Paths";
const PROPAGATION: &str = "config-linux.md: Rootfs Mount Propagation";

pub(crate) const CASES: &[Case] = &[
    Case::new("path_relative_to_the_bundle", ROOT, relative),
    Case::new("path_absolute", ROOT, absolute),
    Case::new("path_has_to_be_there", ROOT, missing),
    Case::new("path_has_to_be_a_directory", ROOT, no_directory),
    Case::new("is_needed", ROOT, none),
    Case::new("is_writable", ROOT, writable),
    Case::new("read_only", ROOT, read_only),
    Case::new("read_only_leaves_mounts_alone", ROOT, read_only_alone),
    Case::new("old_root_is_out_of_reach", ROOT, old_root),
    Case::new("readonly_paths", READONLY, readonly_paths),
    Case::new("readonly_path_that_is_missing", READONLY, |stage| {
        missing_path(stage, "readonlyPaths")
    }),
    Case::new(
        "readonly_path_keeps_what_is_mounted",
        READONLY,
        readonly_tree,
    ),
    Case::new("masked_file", MASKED, masked_file),
    Case::new("masked_directory", MASKED, masked_directory),
    Case::new("masked_path_that_is_missing", MASKED, |stage| {
        missing_path(stage, "maskedPaths")
    }),
    Case::new("masked_path_in_proc", MASKED, masked_proc),
    Case::new("propagation_shared", PROPAGATION, |stage| {
        propagation(stage, "shared", "shared")
    }),
    Case::new("propagation_private", PROPAGATION, |stage| {
        propagation(stage, "private", "")
    }),
    Case::new("propagation_unbindable", PROPAGATION, |stage| {
        propagation(stage, "unbindable", "unbindable")
    }),
    Case::new("propagation_slave_receives", PROPAGATION, slave).needs(Needs::Root),
    Case::new("propagation_private_receives_nothing", PROPAGATION, private).needs(Needs::Root),
    Case::new("propagation_unknown", PROPAGATION, unknown),
];

fn relative(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    stage.make_rootfs("other/root")?;
    fs::write(stage.bundle().join("other/root/here"), "other\n")?;
    spec["root"]["path"] = "other/root".into();
    stage.prints(&mut spec, "cat /here", "other\n")
}

fn absolute(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["root"]["path"] = stage.rootfs("").display().to_string().into();
    fs::write(stage.rootfs("here"), "here\n")?;
    stage.prints(&mut spec, "cat /here", "here\n")
}

fn missing(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["root"]["path"] = "nosuch".into();
    stage.refuses(&spec)?;
    holds(!stage.bundle().join("nosuch").exists(), "it was made")
}

fn no_directory(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["root"]["path"] = "rootfs/etc/passwd".into();
    stage.refuses(&spec)?;
    Ok(())
}

fn none(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    if let Some(object) = spec.as_object_mut() {
        object.remove("root");
    }
    stage.refuses(&spec)?;
    Ok(())
}

fn writable(stage: &Stage<'_>) -> Outcome {
    stage.shell(&mut stage.spec(), "echo written >/etc/new")?;
    same(
        "file",
        fs::read_to_string(stage.rootfs("etc/new"))?.as_str(),
        "written\n",
    )
}

fn read_only(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["root"]["readonly"] = true.into();
    let out = stage.shell(&mut spec, "touch /etc/new 2>&1; cat /proc/self/mountinfo")?;
    has("writing", &out, "Read-only file system")?;
    let root = mountinfo::on(&out, "/");
    holds(
        root.is_some_and(|root| root.has("ro")),
        "the mount is not read-only",
    )
}

fn read_only_alone(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec["root"]["readonly"] = true.into();
    spec.mount(json!({"destination": "/m", "source": source, "options": ["bind"]}));
    stage.prints(
        &mut spec,
        "touch /m/new /dev/shm/new && ls /m",
        "file\nnew\n",
    )
}

fn old_root(stage: &Stage<'_>) -> Outcome {
    let out = stage.shell(&mut stage.spec(), "ls -A /; cat /proc/self/mountinfo")?;
    let names: Vec<&str> = out.lines().take_while(|line| !line.contains(' ')).collect();
    let expected = ["bin", "dev", "etc", "m", "n", "proc", "sys", "tmp"];
    same("entries of the root", names, expected)?;
    let above = stage.bundle().display().to_string();
    for mount in mountinfo::parse(&out) {
        holds(!mount.target.contains(&above), format!("{mount:?}"))?;
    }
    Ok(())
}

fn readonly_paths(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["readonlyPaths"] = json!(["/proc/sys", "/etc", "/m/file"]);
    fs::write(stage.rootfs("m/file"), "file\n")?;
    let script = "touch /etc/new 2>&1; echo x 2>&1 >>/m/file; cat /m/file; \
        touch /m/new; echo 1 2>&1 >/proc/sys/kernel/shm_rmid_forced; ls /m";
    let out = stage.shell(&mut spec, script)?;
    let refused = out.matches("Read-only file system").count();
    same("refused writes", refused, 3)?;
    holds(out.ends_with("file\nnew\n"), format!("{out:?}"))
}

fn missing_path(stage: &Stage<'_>, property: &str) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"][property] = json!(["/nosuch/path", "/proc/nosuch"]);
    stage.prints(
        &mut spec,
        "echo runs; test -e /nosuch || echo not made",
        "runs\nnot made\n",
    )
}

fn readonly_tree(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec.mount(json!({"destination": "/m", "source": source, "options": ["bind", "nosuid"]}));
    spec["linux"]["readonlyPaths"] = json!(["/m"]);
    let out = stage.shell(&mut spec, "cat /m/file; cat /proc/self/mountinfo")?;
    holds(out.starts_with("of own\n"), "what was mounted is gone")?;
    let Some(mount) = mountinfo::on(&out, "/m") else {
        return fails("no mount");
    };
    holds(mount.has("ro") && mount.has("nosuid"), format!("{mount:?}"))
}

fn masked_file(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    fs::write(stage.rootfs("etc/secret"), "secret\n")?;
    spec["linux"]["maskedPaths"] = json!(["/etc/secret"]);
    stage.prints(&mut spec, "cat /etc/secret; echo $?", "0\n")
}

fn masked_directory(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    fs::write(stage.rootfs("m/secret"), "secret\n")?;
    spec["linux"]["maskedPaths"] = json!(["/m"]);
    let out = stage.shell(&mut spec, "ls -A /m; touch /m/new 2>&1; true")?;
    has("writing", &out, "Read-only file system").or_else(|_| has("writing", &out, "denied"))?;
    holds(!out.contains("secret\n"), format!("it shows: {out:?}"))
}

fn masked_proc(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["maskedPaths"] = json!(["/proc/version", "/proc/sys", "/sys/kernel"]);
    stage.prints(
        &mut spec,
        "cat /proc/version; ls /proc/sys /sys/kernel",
        "/proc/sys:\n\n/sys/kernel:\n",
    )
}

fn propagation(stage: &Stage<'_>, value: &str, expected: &str) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["rootfsPropagation"] = value.into();
    let out = stage.shell(&mut spec, "cat /proc/self/mountinfo")?;
    let Some(root) = mountinfo::on(&out, "/") else {
        return fails("no mount on /");
    };
    let found = root.propagation();
    // A peer group of its own may be a slave of the host's.
    same(
        "the root's propagation",
        found.trim_end_matches(" master"),
        expected,
    )
}

/// Whether a mount that the host makes in the root file system shows in the container.
fn receives(stage: &Stage<'_>, value: &str) -> Outcome<bool> {
    let outer = stage.bundle();
    // The bundle is a shared mount, in the suite's own namespace.
    mount(&outer, &outer, "", MountFlags::BIND, None)?;
    mount_change(&outer, MountPropagationFlags::SHARED)?;
    let mut spec = stage.spec();
    spec["linux"]["rootfsPropagation"] = value.into();
    let found = stage.running(&mut spec).and_then(|container| {
        mount(
            "tmpfs",
            stage.rootfs("n"),
            "tmpfs",
            MountFlags::empty(),
            None,
        )?;
        let found = container.exec(&[], "grep -c ' /n ' /proc/self/mountinfo; true")?;
        container.end()?;
        Ok(found)
    });
    let _ = unmount(stage.rootfs("n"), UnmountFlags::DETACH);
    let _ = unmount(&outer, UnmountFlags::DETACH);
    Ok(found? == "1\n")
}

fn slave(stage: &Stage<'_>) -> Outcome {
    same("whether the mount shows", receives(stage, "slave")?, true)
}

fn private(stage: &Stage<'_>) -> Outcome {
    same(
        "whether the mount shows",
        receives(stage, "private")?,
        false,
    )
}

fn unknown(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["rootfsPropagation"] = "nosuch".into();
    stage.refuses(&spec)?;
    Ok(())
}
