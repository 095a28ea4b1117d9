//! `.volume`: a service that makes a volume where there is none of its name.

use crate::draft::Draft;
use crate::key::{Form, Key, PODMAN_ARGS, Take, pairs, row, text};
use crate::quote;
use crate::shape::Shape;

const fn own(name: &'static str, take: Take, flag: &'static str, shape: Shape) -> Key {
    row(name, take, Form::Own(flag), shape)
}

/// The keys of `[Volume]`.
pub(crate) const KEYS: &[Key] = &[
    text("Driver", "--driver", Shape::Any),
    own("Image", Take::Last, "--opt", Shape::Any),
    own("Copy", Take::Last, "--opt", Shape::Boolean),
    own("Device", Take::Last, "--opt", Shape::Any),
    own("Type", Take::Last, "--opt", Shape::Any),
    own("Options", Take::Last, "--opt", Shape::Any),
    own("User", Take::Last, "--opt", Shape::Any),
    own("Group", Take::Last, "--opt", Shape::Any),
    pairs("Label", "--label"),
    PODMAN_ARGS,
    own("VolumeName", Take::Last, "", Shape::Name),
];

/// Makes the service.
pub(crate) fn convert(draft: &mut Draft<'_>) {
    let name = draft.source.resource().unwrap_or_default();
    let mut words = draft.command(&["volume", "create", "--ignore"]);
    let of_image = draft.text("Driver").as_deref() == Some("image");
    draft.arguments(KEYS, &mut words, &mut |draft, key, words| match key {
        "Image" if of_image => image(draft, words),
        "Image" => {
            if let Some(set) = draft.last(key) {
                draft.warn(set.place, "Image= means nothing without Driver=image");
            }
        }
        "Copy" if of_image => {
            for key in ["Copy", "Device", "Type", "Options", "User", "Group"] {
                if let Some(set) = draft.last(key) {
                    draft.warn(set.place, format!("{key}= means nothing with Driver=image"));
                }
            }
        }
        "Copy" => options(draft, words),
        "VolumeName" => words.push(name.clone()),
        _ => {}
    });
    draft.run("ExecStart", &words);
    draft.oneshot(true);
}

fn image(draft: &mut Draft<'_>, words: &mut Vec<String>) {
    let Some(set) = draft.last("Image") else {
        let place = draft.last("Driver").and_then(|set| set.place);
        return draft.error(place, "Driver=image needs Image= beside it");
    };
    if let Some(image) = draft.image(set, "Image") {
        words.extend(["--opt".to_owned(), format!("image={image}")]);
    }
}

fn options(draft: &mut Draft<'_>, words: &mut Vec<String>) {
    let mut option = |text: String| words.extend(["--opt".to_owned(), text]);
    match draft.truth("Copy") {
        Some(true) => option("copy".into()),
        Some(false) => option("nocopy".into()),
        None => {}
    }
    let (device, fs) = (draft.text("Device"), draft.text("Type"));
    if let Some(device) = &device {
        option(format!("device={device}"));
    }
    for key in ["Type", "Options"] {
        if let (None, Some(set)) = (&device, draft.last(key)) {
            draft.error(set.place, format!("{key}= needs Device= beside it"));
        }
    }
    if let Some(fs) = fs {
        if let ("bind", Some(device)) = (&*fs, &device) {
            let place = draft.last("Device").and_then(|set| set.place);
            draft.wait_for(place, device);
        }
        option(format!("type={fs}"));
    }
    let mut mount = Vec::new();
    for (key, flag) in [("User", "uid"), ("Group", "gid")] {
        if let Some(id) = id(draft, key) {
            mount.push(format!("{flag}={id}"));
        }
    }
    mount.extend(draft.text("Options"));
    if !mount.is_empty() {
        option(format!("o={}", mount.join(",")));
    }
}

/// An id, which a name is looked up for; a specifier is systemd's to replace.
fn id(draft: &mut Draft<'_>, key: &str) -> Option<String> {
    let set = draft.last(key)?;
    let name = quote::whole(&set.value);
    if name.parse::<u32>().is_ok() || name.contains('%') {
        return Some(name.to_owned());
    }
    let (look_up, what) = match key {
        "User" => (draft.host.user, "user"),
        _ => (draft.host.group, "group"),
    };
    let id = look_up(name);
    if id.is_none() {
        draft.error(
            set.place,
            format!("{key}=: there is no {what} {name:?} on this machine"),
        );
    }
    id.map(|id| id.to_string())
}
