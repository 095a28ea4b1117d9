//! config.md, "Linux mount options": propagation of mounts.

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::json;

use crate::case::{Case, Needs};
use crate::mountinfo;
use crate::outcome::{Outcome, fails, same};
use crate::stage::Stage;

const SECTION: &str = "config.md: Linux mount options";

pub(crate) const CASES: &[Case] = &[
    Case::new("shared", SECTION, |stage| shown(stage, "shared", "shared")),
    Case::new("rshared", SECTION, |stage| {
        shown(stage, "rshared", "shared")
    }),
    Case::new("private", SECTION, |stage| shown(stage, "private", "")),
    Case::new("rprivate", SECTION, |stage| shown(stage, "rprivate", "")),
    Case::new("unbindable", SECTION, |stage| {
        shown(stage, "unbindable", "unbindable")
    }),
    Case::new("runbindable", SECTION, |stage| {
        shown(stage, "runbindable", "unbindable")
    }),
    Case::new("slave", SECTION, |stage| {
        of_shared(stage, "slave", "master", true)
    })
    .needs(Needs::Root),
    Case::new("rslave", SECTION, |stage| {
        of_shared(stage, "rslave", "master", true)
    })
    .needs(Needs::Root),
    Case::new("rprivate_of_a_shared_source", SECTION, |stage| {
        of_shared(stage, "rprivate", "", false)
    })
    .needs(Needs::Root),
    Case::new("rshared_of_a_shared_source", SECTION, both_ways).needs(Needs::Root),
];

fn shown(stage: &Stage<'_>, option: &str, expected: &str) -> Outcome {
    let mut spec = stage.spec();
    let source = stage.source("own")?;
    spec.mount(json!({"destination": "/m", "source": source, "options": ["rbind", option]}));
    spec.mount(json!({
        "destination": "/n", "type": "tmpfs", "source": "tmpfs", "options": [option],
    }));
    let out = stage.shell(&mut spec, "cat /proc/self/mountinfo")?;
    for target in ["/m", "/n"] {
        let Some(found) = mountinfo::on(&out, target) else {
            return fails(format!("no mount on {target}"));
        };
        let found = found.propagation();
        // It may be a slave of what the host shares as well.
        let found = match expected {
            "shared" => found.strip_suffix(" master").unwrap_or(&found),
            _ => &found,
        };
        same(target, found, expected)?;
    }
    Ok(())
}

/// A shared mount of the host's while something is done with a container.
fn sharing<T>(stage: &Stage<'_>, act: impl FnOnce(&str) -> Outcome<T>) -> Outcome<T> {
    let source = stage.source("own")?;
    std::fs::create_dir(stage.path("own/inner"))?;
    mount(&source, &source, "", MountFlags::BIND, None)?;
    mount_change(&source, MountPropagationFlags::SHARED)?;
    let result = act(&source);
    let _ = unmount(stage.path("own/inner"), UnmountFlags::DETACH);
    unmount(&source, UnmountFlags::DETACH)?;
    result
}

fn of_shared(stage: &Stage<'_>, option: &str, expected: &str, receives: bool) -> Outcome {
    let (table, found) = sharing(stage, |source| {
        let mut spec = stage.spec();
        spec.mount(json!({"destination": "/m", "source": source, "options": ["rbind", option]}));
        let container = stage.running(&mut spec)?;
        let table = container.exec(&[], "cat /proc/self/mountinfo")?;
        mount(
            "tmpfs",
            stage.path("own/inner"),
            "tmpfs",
            MountFlags::empty(),
            None,
        )?;
        let found = container.exec(&[], "cat /proc/self/mountinfo")?;
        container.end()?;
        Ok((table, found))
    })?;
    let of_mount = mountinfo::on(&table, "/m").map(|found| found.propagation());
    same("propagation", of_mount.as_deref(), Some(expected))?;
    let arrived = mountinfo::on(&found, "/m/inner").is_some();
    same("whether the host's mount shows", arrived, receives)
}

/// What the container mounts shows on the host.
fn both_ways(stage: &Stage<'_>) -> Outcome {
    let found = sharing(stage, |source| {
        let mut spec = stage.spec();
        spec.mount(json!({"destination": "/m", "source": source, "options": ["rbind", "rshared"]}));
        spec["linux"]["rootfsPropagation"] = "shared".into();
        spec.capabilities(&["CAP_SYS_ADMIN"]);
        let container = stage.running(&mut spec)?;
        container.exec(&[], "mount -t tmpfs tmpfs /m/inner")?;
        let found = crate::left::mounts();
        container.end()?;
        Ok(found)
    })?;
    let inner = stage.path("own/inner").display().to_string();
    same(
        "whether the container's mount shows",
        found.contains(&inner),
        true,
    )
}
