//! config.md, "POSIX-platform User", and config-linux.md, "User namespace mappings".

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::case::{Case, Needs};
use crate::outcome::{Outcome, same};
use crate::stage::Stage;

const USER: &str = "config.md: POSIX-platform User";
const MAPPINGS: &str = "config-linux.md: User namespace mappings";

pub(crate) const CASES: &[Case] = &[
    Case::new("uid_and_gid", USER, ids),
    Case::new("additional_gids_are_exact", USER, groups),
    Case::new("no_groups_of_the_caller", USER, no_groups),
    Case::new("umask", USER, umask),
    Case::new("umask_of_the_caller", USER, callers_umask),
    Case::new("id_that_is_not_mapped", USER, unmapped),
    Case::new("needs_no_entry_in_passwd", USER, no_entry),
    Case::new("one_id", MAPPINGS, one).needs(Needs::User),
    Case::new("many_ids", MAPPINGS, many),
    Case::new("files_belong_to_the_mapped_id", MAPPINGS, files),
    Case::new("ids_that_are_not_the_callers", MAPPINGS, foreign).needs(Needs::User),
    Case::new("that_overlap", MAPPINGS, overlap),
    Case::new("ownership_is_not_changed", MAPPINGS, unchanged),
    Case::new("setgroups_where_it_may", MAPPINGS, setgroups),
];

fn ids(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.wide_spec()?;
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1001});
    stage.prints(&mut spec, "id -u; id -g; id -G", "1000\n1001\n1001\n")
}

fn groups(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.wide_spec()?;
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6, 2000]});
    let script = "sed -n 's/^Groups:\t//p' /proc/self/status";
    let out = stage.shell(&mut spec, script)?;
    let mut found: Vec<&str> = out.split_whitespace().collect();
    // The primary group may be listed.
    found.retain(|group| *group != "1001");
    same("groups", found, ["5", "6", "2000"])
}

fn no_groups(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.wide_spec()?;
    let out = stage.shell(&mut spec, "sed -n 's/^Groups:\t//p' /proc/self/status")?;
    let mut found: Vec<&str> = out.split_whitespace().collect();
    found.retain(|group| *group != "0");
    same("groups", found.len(), 0)
}

fn umask(stage: &Stage<'_>) -> Outcome {
    for (umask, shown) in [(0o77, "0077\n"), (0o2, "0002\n"), (0, "0000\n")] {
        let mut spec = stage.spec();
        spec["process"]["user"]["umask"] = umask.into();
        stage.prints(&mut spec, "umask", shown)?;
    }
    Ok(())
}

/// "If unspecified, the umask should not be changed from the calling process' umask."
fn callers_umask(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("umask");
    stage.write(&spec)?;
    let id = stage.id();
    stage.remember(&id);
    let done = stage.call_after("umask 0027", &["run", &id])?;
    same("umask", done.succeeds()?.as_str(), "0027\n")
}

fn unmapped(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.wide_spec()?;
    spec["process"]["user"] = json!({"uid": 4_000_000, "gid": 0});
    stage.refuses_late(&spec)?;
    spec["process"]["user"] = json!({"uid": 0, "gid": 4_000_000});
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

fn no_entry(stage: &Stage<'_>) -> Outcome {
    std::fs::remove_file(stage.rootfs("etc/passwd"))?;
    let mut spec = stage.wide_spec()?;
    spec["process"]["user"] = json!({"uid": 4711, "gid": 4712});
    stage.prints(&mut spec, "id -u; id -g", "4711\n4712\n")
}

fn words(text: &str) -> Vec<u64> {
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn one(stage: &Stage<'_>) -> Outcome {
    let (uid, gid) = stage.runtime().own_ids();
    let out = stage.shell(
        &mut stage.spec(),
        "cat /proc/self/uid_map /proc/self/gid_map",
    )?;
    same("maps", words(&out), [0, uid.into(), 1, 0, gid.into(), 1])
}

fn many(stage: &Stage<'_>) -> Outcome {
    let (uids, gids) = stage.runtime().wide_maps()?;
    let mut spec = stage.wide_spec()?;
    let out = stage.shell(&mut spec, "cat /proc/self/uid_map /proc/self/gid_map")?;
    let entries = [uids, gids]
        .into_iter()
        .flat_map(|map| map.as_array().cloned().unwrap_or_default());
    let expected: Vec<u64> = entries
        .flat_map(|entry| {
            ["containerID", "hostID", "size"].map(|name| entry[name].as_u64().unwrap_or(0))
        })
        .collect();
    same("maps", words(&out), expected)
}

fn files(stage: &Stage<'_>) -> Outcome {
    let (uids, gids) = stage.runtime().wide_maps()?;
    // The last entry's range begins with 1 for a user, and with 0 for root.
    let host = |map: &serde_json::Value| {
        let last = map
            .as_array()
            .and_then(|list| list.last())
            .cloned()
            .unwrap_or_default();
        let number = |name: &str| last[name].as_u64().unwrap_or_default() as u32;
        number("hostID") + 1000 - number("containerID")
    };
    let mut spec = stage.wide_spec()?;
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    stage.shell(&mut spec, "echo >/tmp/own")?;
    let metadata = std::fs::metadata(stage.rootfs("tmp/own"))?;
    same(
        "owner",
        (metadata.uid(), metadata.gid()),
        (host(&uids), host(&gids)),
    )
}

fn foreign(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    stage.refuses(&spec)?;
    let mut spec = stage.wide_spec()?;
    spec["linux"]["gidMappings"][1]["hostID"] = 5.into();
    stage.refuses(&spec)?;
    Ok(())
}

fn overlap(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.wide_spec()?;
    let map = &mut spec["linux"]["uidMappings"];
    let first = map[0].clone();
    if let Some(list) = map.as_array_mut() {
        list.push(first);
    }
    stage.refuses(&spec)?;
    Ok(())
}

fn unchanged(stage: &Stage<'_>) -> Outcome {
    let before = std::fs::metadata(stage.rootfs("etc/passwd"))?;
    stage.shell(&mut stage.wide_spec()?, "true")?;
    let after = std::fs::metadata(stage.rootfs("etc/passwd"))?;
    same(
        "owner",
        (after.uid(), after.gid()),
        (before.uid(), before.gid()),
    )
}

fn setgroups(stage: &Stage<'_>) -> Outcome {
    stage.prints(
        &mut stage.wide_spec()?,
        "cat /proc/self/setgroups",
        "allow\n",
    )
}
