//! Keys of user namespaces, and the older ones that podman still reads in their place.

use crate::draft::Draft;
use crate::key::{Form, Key, Take, row};
use crate::shape::Shape;

const MODES: &[&str] = &[
    "auto",
    "host",
    "keep-id",
    "nomap",
    "private",
    "container",
    "ns",
];

const fn own(name: &'static str, take: Take, flag: &'static str, shape: Shape) -> Key {
    row(name, take, Form::Own(flag), shape)
}

pub(crate) const USER_NS: Key = own("UserNS", Take::Last, "--userns", Shape::Mode(MODES));
pub(crate) const UID_MAP: Key = own("UIDMap", Take::Words, "--uidmap", Shape::IdMap);
pub(crate) const GID_MAP: Key = own("GIDMap", Take::Words, "--gidmap", Shape::IdMap);
pub(crate) const SUB_UID_MAP: Key = own("SubUIDMap", Take::Last, "--subuidname", Shape::Any);
pub(crate) const SUB_GID_MAP: Key = own("SubGIDMap", Take::Last, "--subgidname", Shape::Any);
pub(crate) const REMAP_USERS: Key = own(
    "RemapUsers",
    Take::Last,
    "--userns",
    Shape::Choice(&["auto", "keep-id", "manual"]),
);
/// Of `[Kube]`, whose containers have one namespace in common.
pub(crate) const REMAP_USERS_OF_ALL: Key = own(
    "RemapUsers",
    Take::Last,
    "--userns",
    Shape::Choice(&["auto", "keep-id"]),
);
pub(crate) const REMAP_UID: Key = own("RemapUid", Take::Words, "--uidmap", Shape::IdMap);
pub(crate) const REMAP_GID: Key = own("RemapGid", Take::Words, "--gidmap", Shape::IdMap);
pub(crate) const REMAP_UID_SIZE: Key = own("RemapUidSize", Take::Last, "--userns", Shape::Unsigned);

/// The keys that say it themselves.
const DIRECT: [&Key; 5] = [&USER_NS, &UID_MAP, &GID_MAP, &SUB_UID_MAP, &SUB_GID_MAP];

/// The keys that [`DIRECT`] ones have replaced.
const OLD: [&Key; 3] = [&REMAP_USERS, &REMAP_UID, &REMAP_GID];

/// Puts all of them on the command line.
pub(crate) fn arguments(draft: &mut Draft<'_>, words: &mut Vec<String>) {
    let has_maps = matches!(
        draft.source.kind,
        crate::set::Kind::Container | crate::set::Kind::Pod
    );
    let direct = DIRECT.iter().filter(|key| has_maps || key.name == "UserNS");
    let mut direct = direct.filter(|key| draft.last(key.name).is_some());
    let old = OLD.iter().find_map(|key| draft.last(key.name));
    match (direct.next(), old) {
        (Some(direct), Some(old)) => {
            let what = format!(
                "{}= and {}= are both there: {} is the older one, leave it out",
                old.key, direct.name, old.key
            );
            draft.error(old.place, what);
        }
        (Some(_), None) => {
            for key in DIRECT.iter().filter(|key| has_maps || key.name == "UserNS") {
                let Some(flag) = key.flag() else { continue };
                let before = words.len();
                for value in draft.values(key.name, key.take) {
                    if !value.text.is_empty() {
                        words.extend([flag.to_owned(), value.text]);
                    }
                }
                draft.note(key, &words[before..]);
            }
        }
        (None, Some(_)) => {
            let before = words.len();
            remap(draft, has_maps, words);
            draft.note(&REMAP_USERS, &words[before..]);
        }
        (None, None) => {}
    }
}

/// The older keys.
fn remap(draft: &mut Draft<'_>, has_maps: bool, words: &mut Vec<String>) {
    let uids = draft.values("RemapUid", Take::Words);
    let gids = draft.values("RemapGid", Take::Words);
    let Some(users) = draft.last("RemapUsers") else {
        let value = uids.first().or(gids.first());
        let place = value.and_then(|value| value.set.place);
        return draft.error(
            place,
            "RemapUid= and RemapGid= need RemapUsers= beside them",
        );
    };
    let mut options = Vec::new();
    match &*users.value {
        "auto" => {
            options.extend(
                uids.iter()
                    .map(|value| format!("uidmapping={}", value.text)),
            );
            options.extend(
                gids.iter()
                    .map(|value| format!("gidmapping={}", value.text)),
            );
            options.extend(
                draft
                    .text("RemapUidSize")
                    .map(|size| format!("size={size}")),
            );
        }
        "keep-id" => {
            for (values, name) in [(&uids, "uid"), (&gids, "gid")] {
                if let [_, second, ..] = &values[..] {
                    let what = format!("RemapUsers=keep-id takes one {name} alone");
                    draft.error(second.set.place, what);
                }
                options.extend(values.iter().map(|value| format!("{name}={}", value.text)));
            }
        }
        "manual" if has_maps => {
            for (values, flag) in [(&uids, "--uidmap"), (&gids, "--gidmap")] {
                for value in values {
                    words.extend([flag.to_owned(), value.text.clone()]);
                }
            }
            return;
        }
        other => {
            let words = if has_maps {
                "auto, keep-id, manual"
            } else {
                "auto, keep-id"
            };
            return draft.error(
                users.place,
                format!("RemapUsers=: {other:?} is not one of {words}"),
            );
        }
    }
    let options = options.join(",");
    let colon = if options.is_empty() { "" } else { ":" };
    words.extend([
        "--userns".to_owned(),
        format!("{}{colon}{options}", users.value),
    ]);
}
