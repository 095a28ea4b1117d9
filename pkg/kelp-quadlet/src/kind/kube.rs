//! `.kube`: a service that plays Kubernetes YAML.

use std::path::Path;

use crate::draft::Draft;
use crate::key::{Form, Key, PODMAN_ARGS, Take, list, row, words};
use crate::kind::build::is_url;
use crate::kind::{container, user_map};
use crate::shape::Shape;

const fn own(name: &'static str, take: Take, flag: &'static str, shape: Shape) -> Key {
    row(name, take, Form::Own(flag), shape)
}

/// The keys of `[Kube]`.
pub(crate) const KEYS: &[Key] = &[
    row(
        "ExitCodePropagation",
        Take::Last,
        Form::Joined("--service-exit-code-propagation="),
        Shape::Choice(&["all", "any", "none"]),
    ),
    row(
        "LogDriver",
        Take::Last,
        Form::Flag("--log-driver"),
        Shape::Choice(container::LOG_DRIVERS),
    ),
    words("LogOpt", "--log-opt", Shape::Pair),
    user_map::USER_NS,
    user_map::REMAP_USERS_OF_ALL,
    user_map::REMAP_UID,
    user_map::REMAP_GID,
    user_map::REMAP_UID_SIZE,
    own("Network", Take::Each, "--network", Shape::Any),
    own("AutoUpdate", Take::Words, "--annotation", Shape::AutoUpdate),
    own("ConfigMap", Take::Words, "--configmap", Shape::Path),
    list("PublishPort", "--publish", Shape::Publish),
    PODMAN_ARGS,
    own("Yaml", Take::Words, "", Shape::Path),
    own("KubeDownForce", Take::Last, "", Shape::Boolean),
    own("SetWorkingDirectory", Take::Last, "", Shape::Any),
];

/// Makes the service.
pub(crate) fn convert(draft: &mut Draft<'_>) {
    draft.kill_mode();
    draft
        .unit
        .add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n");
    if draft.notifies() {
        draft.unit.set("Service", "Type", "notify");
        draft.unit.set("Service", "NotifyAccess", "all");
    }
    draft.unit.add_default("Service", "SyslogIdentifier", "%N");
    let files = draft.values("Yaml", Take::Words);
    if files.is_empty() {
        let place = draft.header();
        draft.error(place, "there is no Yaml=: say which file is to be played");
    }
    let files = files.into_iter().map(|value| value.text);
    let files = files.map(|file| {
        if is_url(&file) {
            file
        } else {
            draft.absolute(&file)
        }
    });
    let files: Vec<String> = files.collect();
    let mut words = draft.command(&["kube", "play", "--replace", "--service-container=true"]);
    draft.arguments(KEYS, &mut words, &mut |draft, key, words| match key {
        "UserNS" => user_map::arguments(draft, words),
        "Network" => draft.networks(words),
        "AutoUpdate" => {
            for value in draft.values(key, Take::Words) {
                // Of one container, or of all.
                let (container, mode) = match value.text.split_once('/') {
                    Some((container, mode)) => (format!("/{container}"), mode),
                    None => (String::new(), &*value.text),
                };
                words.push(format!(
                    "--annotation=io.containers.autoupdate{container}={mode}"
                ));
            }
        }
        "ConfigMap" => {
            for value in draft.values(key, Take::Words) {
                words.extend(["--configmap".to_owned(), draft.absolute(&value.text)]);
            }
        }
        "Yaml" => words.extend_from_slice(&files),
        _ => {}
    });
    draft.run("ExecStart", &words);
    let mut down = draft.command(&["kube", "down"]);
    match draft.truth("KubeDownForce") {
        Some(true) => down.push("--force".to_owned()),
        Some(false) => down.push("--force=false".to_owned()),
        None => {}
    }
    down.extend_from_slice(&files);
    draft.run("ExecStopPost", &down);
    working_directory(draft, &files);
}

/// `SetWorkingDirectory=`, unless `WorkingDirectory=` says it.
fn working_directory(draft: &mut Draft<'_>, files: &[String]) {
    let Some(set) = draft.last("SetWorkingDirectory") else {
        return;
    };
    let directory = match (&*set.value.to_ascii_lowercase(), files) {
        ("unit", _) => Some(draft.directory()),
        ("yaml", [file]) if !is_url(file) => Path::new(file)
            .parent()
            .map(|path| path.to_string_lossy().into_owned()),
        ("yaml", []) => None,
        ("yaml", _) => {
            return draft.error(
                set.place,
                "SetWorkingDirectory=yaml needs one local file in Yaml=",
            );
        }
        _ => {
            let what = format!(
                "SetWorkingDirectory=: {:?} is not one of unit, yaml",
                set.value
            );
            return draft.error(set.place, what);
        }
    };
    if let Some(directory) = directory {
        draft.working_directory(set.place, &directory);
    }
}
