//! config.md, "Linux mount options": what each of them does.

use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::json;

use crate::case::{Case, Needs};
use crate::mountinfo::{self, Mount};
use crate::outcome::{Outcome, Stop, fails, holds, same};
use crate::stage::Stage;

/// mount(2), since Linux 5.10.
const MS_NOSYMFOLLOW: u32 = 256;

const SECTION: &str = "config.md: Linux mount options";

pub(crate) const CASES: &[Case] = &[
    Case::new("every_must_is_taken", SECTION, taken),
    Case::new("of_a_tmpfs", SECTION, of_tmpfs),
    Case::new("of_a_bind", SECTION, of_bind),
    Case::new("of_a_bind_about_times", SECTION, bind_times).needs(Needs::Root),
    Case::new("later_ones_win", SECTION, later),
    Case::new("of_the_file_system", SECTION, of_system),
    Case::new("remount", SECTION, remount),
    Case::new("nosymfollow", SECTION, nosymfollow),
    Case::new("noexec_is_enforced", SECTION, noexec),
    Case::new("nodev_is_enforced", SECTION, nodev),
    Case::new("rro", SECTION, |stage| recursive(stage, "rro", "ro")),
    Case::new("rnosuid", SECTION, |stage| {
        recursive(stage, "rnosuid", "nosuid")
    }),
    Case::new("rnodev", SECTION, |stage| {
        recursive(stage, "rnodev", "nodev")
    }),
    Case::new("rnoexec", SECTION, |stage| {
        recursive(stage, "rnoexec", "noexec")
    }),
    Case::new("rnoatime", SECTION, |stage| {
        recursive(stage, "rnoatime", "noatime")
    })
    .needs(Needs::Root),
    Case::new("rnodiratime", SECTION, |stage| {
        recursive(stage, "rnodiratime", "nodiratime")
    })
    .needs(Needs::Root),
    Case::new("rnosymfollow", SECTION, |stage| {
        recursive(stage, "rnosymfollow", "nosymfollow")
    }),
    Case::new("recursive_ones_that_take_back", SECTION, take_back).needs(Needs::Root),
];

/// What a tmpfs on /m with these options looks like.
fn tmpfs(stage: &Stage<'_>, options: &[&str]) -> Outcome<Mount> {
    let mut spec = stage.spec();
    spec.mount(json!({
        "destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": options,
    }));
    shown(stage, &mut spec, "/m")
}

fn shown(stage: &Stage<'_>, spec: &mut crate::spec::Spec, target: &str) -> Outcome<Mount> {
    let out = stage.shell(spec, "cat /proc/self/mountinfo")?;
    let mount = mountinfo::on(&out, target);
    mount.map_or_else(|| fails(format!("no mount on {target}")), Ok)
}

/// All of them in one container, each on a mount of its own; where it fails, each is tried alone
/// to tell which it is.
fn taken(stage: &Stage<'_>) -> Outcome {
    const MUST: [&str; 30] = [
        "async",
        "atime",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "iversion",
        "lazytime",
        "loud",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nolazytime",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "private",
        "relatime",
        "ro",
        "rprivate",
        "rw",
        "silent",
        "slave",
        "strictatime",
        "suid",
        "sync",
        "rslave",
    ];
    let of = |path: &str, option: &str| {
        json!({
            "destination": path, "type": "tmpfs", "source": "tmpfs", "options": [option],
        })
    };
    let mut spec = stage.spec();
    for option in MUST {
        spec.mount(of(&format!("/tmp/{option}"), option));
    }
    spec.script("true");
    if stage.run(&spec)?.code == 0 {
        return Ok(());
    }
    let mut refused = Vec::new();
    for option in MUST {
        let mut spec = stage.spec();
        spec.mount(of("/m", option));
        if stage.run(&spec)?.code != 0 {
            refused.push(option);
        }
    }
    fails(format!("refused: {}", refused.join(" ")))
}

fn of_tmpfs(stage: &Stage<'_>) -> Outcome {
    const FLAGS: [&str; 7] = [
        "ro",
        "nosuid",
        "nodev",
        "noexec",
        "noatime",
        "nodiratime",
        "relatime",
    ];
    let mut spec = stage.spec();
    for flag in FLAGS {
        spec.mount(json!({
            "destination": format!("/tmp/{flag}"), "type": "tmpfs", "source": "tmpfs", "options": [flag],
        }));
    }
    let out = stage.shell(&mut spec, "cat /proc/self/mountinfo")?;
    for flag in FLAGS {
        let mount = mountinfo::on(&out, &format!("/tmp/{flag}"));
        let mount = mount.ok_or_else(|| Stop::Fails(format!("no mount for {flag}")))?;
        holds(mount.has(flag), format!("{flag}: {mount:?}"))?;
    }
    let mount = tmpfs(stage, &["strictatime"])?;
    let other = ["relatime", "noatime"]
        .iter()
        .any(|&option| mount.has(option));
    holds(!other, format!("strictatime: {mount:?}"))
}

fn of_bind(stage: &Stage<'_>) -> Outcome {
    const FLAGS: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];
    let source = stage.source("own")?;
    let mut spec = stage.spec();
    for flag in FLAGS {
        spec.mount(json!({
            "destination": format!("/tmp/{flag}"), "source": source, "options": ["bind", flag],
        }));
    }
    let out = stage.shell(&mut spec, "cat /proc/self/mountinfo")?;
    for flag in FLAGS {
        let mount = mountinfo::on(&out, &format!("/tmp/{flag}"));
        let mount = mount.ok_or_else(|| Stop::Fails(format!("no mount for {flag}")))?;
        holds(mount.has(flag), format!("{flag}: {mount:?}"))?;
        let others = FLAGS.iter().filter(|other| **other != flag);
        // What the source's mount has stays.
        let root = mountinfo::on(&out, "/").unwrap_or_else(|| mount.clone());
        for other in others {
            holds(
                mount.has(other) == root.has(other),
                format!("{flag} brings {other}: {mount:?}"),
            )?;
        }
    }
    Ok(())
}

fn later(stage: &Stage<'_>) -> Outcome {
    let options = [
        "ro", "nosuid", "nodev", "noexec", "noatime", "rw", "suid", "dev", "exec", "atime",
    ];
    let mount = tmpfs(stage, &options)?;
    for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        holds(
            !mount.has(option),
            format!("{option} was taken back: {mount:?}"),
        )?;
    }
    Ok(())
}

fn of_system(stage: &Stage<'_>) -> Outcome {
    for option in ["sync", "dirsync", "lazytime"] {
        let mount = tmpfs(stage, &[option])?;
        holds(mount.system_has(option), format!("no {option}: {mount:?}"))?;
    }
    Ok(())
}

fn remount(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let tmpfs = |options: &[&str]| json!({"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": options});
    spec.mount(tmpfs(&["size=64k"]));
    spec.mount(tmpfs(&["remount", "ro", "size=128k"]));
    let out = stage.shell(&mut spec, "cat /proc/self/mountinfo")?;
    let on: Vec<Mount> = mountinfo::parse(&out)
        .into_iter()
        .filter(|mount| mount.target == "/m")
        .collect();
    same("mounts on /m", on.len(), 1)?;
    holds(
        on[0].has("ro") || on[0].system_has("ro"),
        format!("not read-only: {:?}", on[0]),
    )
}

fn nosymfollow(stage: &Stage<'_>) -> Outcome {
    let source = stage.source("own")?;
    std::os::unix::fs::symlink("file", stage.path("own/link"))?;
    let mut spec = stage.spec();
    spec.mount(json!({
        "destination": "/m", "source": source, "options": ["bind", "nosymfollow"],
    }));
    stage.prints(
        &mut spec,
        "cat /m/link 2>/dev/null || readlink /m/link",
        "file\n",
    )
}

fn noexec(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.mount(json!({
        "destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["noexec"],
    }));
    let script = "cp /bin/busybox /m/true; /m/true 2>/dev/null; echo $?";
    stage.prints(&mut spec, script, "126\n")
}

fn nodev(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let source = "/dev/null";
    std::fs::write(stage.rootfs("tmp/null"), "")?;
    spec.mount(json!({
        "destination": "/tmp/null", "source": source, "options": ["bind", "nodev"],
    }));
    let script = "{ echo >/tmp/null; } 2>/dev/null && echo written || echo refused";
    stage.prints(&mut spec, script, "refused\n")
}

/// The host's /dev has mounts in it; which of them depends on the host.
fn recursive(stage: &Stage<'_>, option: &str, flag: &str) -> Outcome {
    let mut spec = stage.spec();
    spec.mount(json!({"destination": "/m", "source": "/dev", "options": ["rbind", option]}));
    let out = stage.shell(&mut spec, "cat /proc/self/mountinfo")?;
    let on_m = |mount: &Mount| mount.target == "/m" || mount.target.starts_with("/m/");
    let all: Vec<Mount> = mountinfo::parse(&out).into_iter().filter(on_m).collect();
    holds(all.len() > 1, format!("no mounts below /m: {all:?}"))?;
    for mount in all {
        holds(
            mount.has(flag),
            format!("{} has no {flag}: {:?}", mount.target, mount.options),
        )?;
    }
    Ok(())
}

/// What the source's mount has, root's containers need not have.
fn take_back(stage: &Stage<'_>) -> Outcome {
    const PAIRS: [(&str, &str); 9] = [
        ("rrw", "ro"),
        ("rsuid", "nosuid"),
        ("rdev", "nodev"),
        ("rexec", "noexec"),
        ("rsymfollow", "nosymfollow"),
        ("rdiratime", "nodiratime"),
        ("ratime", "noatime"),
        ("rrelatime", "noatime"),
        ("rstrictatime", "noatime"),
    ];
    let source = stage.path("own");
    std::fs::create_dir(&source)?;
    let flags = MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOATIME
        | MountFlags::NODIRATIME
        | MountFlags::from_bits_retain(MS_NOSYMFOLLOW);
    rustix::mount::mount("tmpfs", &source, "tmpfs", flags, None)?;
    let mut spec = stage.spec();
    for (option, _) in PAIRS {
        spec.mount(json!({
            "destination": format!("/tmp/{option}"), "source": source, "options": ["rbind", option],
        }));
    }
    let out = stage.shell(&mut spec, "cat /proc/self/mountinfo");
    let unmounted = rustix::mount::unmount(&source, UnmountFlags::empty());
    let out = out?;
    for (option, flag) in PAIRS {
        let mount = mountinfo::on(&out, &format!("/tmp/{option}"));
        let mount = mount.ok_or_else(|| Stop::Fails(format!("no mount for {option}")))?;
        holds(!mount.has(flag), format!("{option}: {mount:?}"))?;
    }
    Ok(unmounted?)
}

/// In a user namespace what a mount says of times is locked, mount_setattr(2).
fn bind_times(stage: &Stage<'_>) -> Outcome {
    let source = stage.source("own")?;
    for flag in ["noatime", "nodiratime", "relatime"] {
        let mut spec = stage.spec();
        spec.mount(json!({"destination": "/m", "source": source, "options": ["bind", flag]}));
        let mount = shown(stage, &mut spec, "/m")?;
        holds(mount.has(flag), format!("{flag}: {mount:?}"))?;
    }
    let mut spec = stage.spec();
    spec.mount(json!({"destination": "/m", "source": source, "options": ["bind", "strictatime"]}));
    let mount = shown(stage, &mut spec, "/m")?;
    holds(!mount.has("relatime"), format!("strictatime: {mount:?}"))
}
