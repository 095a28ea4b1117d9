//! `.pod`: a service that makes a pod and starts it, and with it the containers that say so.

use crate::draft::Draft;
use crate::key::{Form, Key, PODMAN_ARGS, Take, list, pairs, row, text};
use crate::kind::user_map;
use crate::shape::Shape;

const fn own(name: &'static str, take: Take, flag: &'static str, shape: Shape) -> Key {
    row(name, take, Form::Own(flag), shape)
}

/// The keys of `[Pod]`.
pub(crate) const KEYS: &[Key] = &[
    own(
        "ExitPolicy",
        Take::Last,
        "--exit-policy",
        Shape::Choice(&["continue", "stop"]),
    ),
    user_map::USER_NS,
    user_map::UID_MAP,
    user_map::GID_MAP,
    user_map::SUB_UID_MAP,
    user_map::SUB_GID_MAP,
    user_map::REMAP_USERS,
    user_map::REMAP_UID,
    user_map::REMAP_GID,
    user_map::REMAP_UID_SIZE,
    list("PublishPort", "--publish", Shape::Publish),
    pairs("Label", "--label"),
    own("Network", Take::Each, "--network", Shape::Any),
    text("IP", "--ip", Shape::Ip4),
    text("IP6", "--ip6", Shape::Ip6),
    text("ShmSize", "--shm-size", Shape::Bytes),
    list("AddHost", "--add-host", Shape::Host),
    list("DNS", "--dns", Shape::Dns),
    list("DNSOption", "--dns-option", Shape::Any),
    list("DNSSearch", "--dns-search", Shape::Any),
    list("HostName", "--hostname", Shape::Any),
    list("NetworkAlias", "--network-alias", Shape::Any),
    own("Volume", Take::Each, "--volume", Shape::Volume),
    own("PodName", Take::Last, "--name", Shape::Name),
    PODMAN_ARGS,
    own("StopTimeout", Take::Last, "", Shape::Integer),
];

/// Makes the service; `members` are the services of the containers that are started with it.
pub(crate) fn convert(draft: &mut Draft<'_>, members: &[String]) {
    let name = draft.source.resource().unwrap_or_default();
    for member in members {
        draft.unit.add("Unit", "Wants", member);
        draft.unit.add("Unit", "Before", member);
    }
    draft.unit.add_default("Service", "SyslogIdentifier", "%N");
    let timeout = draft.text("StopTimeout").unwrap_or_else(|| "10".to_owned());
    for (key, command) in [
        ("ExecStart", &["pod", "start"][..]),
        (
            "ExecStop",
            &["pod", "stop", "--ignore", &format!("--time={timeout}")],
        ),
        ("ExecStopPost", &["pod", "rm", "--ignore", "--force"]),
    ] {
        let mut words = draft.command(command);
        words.push(name.clone());
        draft.run(key, &words);
    }
    let mut words = draft.command(&[
        "pod",
        "create",
        "--infra-conmon-pidfile=%t/%N.pid",
        "--replace",
    ]);
    draft.arguments(KEYS, &mut words, &mut |draft, key, words| match key {
        "ExitPolicy" => {
            let policy = draft.text(key).unwrap_or_else(|| "stop".to_owned());
            words.extend(["--exit-policy".to_owned(), policy]);
        }
        "UserNS" => user_map::arguments(draft, words),
        "Network" => draft.networks(words),
        "Volume" => draft.volumes(words),
        "PodName" => {
            let infra = format!("{name}-infra");
            words.extend(["--infra-name", &infra, "--name", &name].map(str::to_owned));
        }
        _ => {}
    });
    draft.run("ExecStartPre", &words);
    draft
        .unit
        .add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n");
    draft.unit.set("Service", "Type", "forking");
    draft.unit.add_default("Service", "Restart", "on-failure");
    draft.unit.set("Service", "PIDFile", "%t/%N.pid");
}
