//! `.container`: a service that runs a container.

use crate::draft::Draft;
use crate::key::{Form, Key, PODMAN_ARGS, Take, boolean, list, pairs, row, switch, text, words};
use crate::kind::{health, mount, socket, user_map};
use crate::quote;
use crate::set::Kind;
use crate::shape::{Shape, is_port};

const PULL: Shape = Shape::Choice(&["always", "missing", "never", "newer"]);
const SECURITY: &str = "--security-opt";

/// A `--security-opt`.
const fn security(name: &'static str, take: Take, prefix: &'static str, shape: Shape) -> Key {
    row(name, take, Form::Option(SECURITY, prefix), shape)
}

const fn own(name: &'static str, take: Take, flag: &'static str, shape: Shape) -> Key {
    row(name, take, Form::Own(flag), shape)
}

/// The keys of `[Container]`.
pub(crate) const KEYS: &[Key] = &[
    own("ContainerName", Take::Last, "--name", Shape::Name),
    row(
        "LogDriver",
        Take::Last,
        Form::Flag("--log-driver"),
        Shape::Choice(LOG_DRIVERS),
    ),
    words("LogOpt", "--log-opt", Shape::Pair),
    own(
        "CgroupsMode",
        Take::Last,
        "--cgroups",
        Shape::Choice(&["enabled", "disabled", "no-conmon", "split"]),
    ),
    own("Entrypoint", Take::Last, "--entrypoint", Shape::Any),
    text("HostName", "--hostname", Shape::Any),
    text("IP", "--ip", Shape::Ip4),
    text("IP6", "--ip6", Shape::Ip6),
    text("Memory", "--memory", Shape::Bytes),
    text("PidsLimit", "--pids-limit", Shape::Integer),
    text("Pull", "--pull", PULL),
    text("Retry", "--retry", Shape::Unsigned),
    text("RetryDelay", "--retry-delay", Shape::Duration),
    text("ShmSize", "--shm-size", Shape::Bytes),
    text("StopSignal", "--stop-signal", Shape::Signal),
    text("StopTimeout", "--stop-timeout", Shape::Integer),
    text("Timezone", "--tz", Shape::Any),
    text("WorkingDir", "--workdir", Shape::Absolute),
    list("AddHost", "--add-host", Shape::Host),
    list("DNS", "--dns", Shape::Dns),
    list("DNSOption", "--dns-option", Shape::Any),
    list("DNSSearch", "--dns-search", Shape::Any),
    list("GroupAdd", "--group-add", Shape::Any),
    list("NetworkAlias", "--network-alias", Shape::Any),
    list("Tmpfs", "--tmpfs", Shape::Tmpfs),
    list("Ulimit", "--ulimit", Shape::Ulimit),
    switch("RunInit", "--init"),
    switch("EnvironmentHost", "--env-host"),
    switch("HttpProxy", "--http-proxy"),
    switch("ReadOnlyTmpfs", "--read-only-tmpfs"),
    own("Network", Take::Each, "--network", Shape::Any),
    own("Notify", Take::Last, "--sdnotify", Shape::Notify),
    row(
        "NoNewPrivileges",
        Take::Last,
        Form::When(&["--security-opt=no-new-privileges"]),
        Shape::Boolean,
    ),
    row(
        "SecurityLabelDisable",
        Take::Last,
        Form::When(&[SECURITY, "label=disable"]),
        Shape::Boolean,
    ),
    row(
        "SecurityLabelNested",
        Take::Last,
        Form::When(&[SECURITY, "label=nested"]),
        Shape::Boolean,
    ),
    security("SecurityLabelType", Take::Last, "label=type:", Shape::Any),
    security(
        "SecurityLabelFileType",
        Take::Last,
        "label=filetype:",
        Shape::Any,
    ),
    security("SecurityLabelLevel", Take::Last, "label=level:", Shape::Any),
    security("AppArmor", Take::Last, "apparmor=", Shape::Any),
    own("AddDevice", Take::Words, "--device", Shape::Any),
    security("SeccompProfile", Take::Last, "seccomp=", Shape::Any),
    own(
        "DropCapability",
        Take::Words,
        "--cap-drop",
        Shape::Capability,
    ),
    own("AddCapability", Take::Words, "--cap-add", Shape::Capability),
    words("Sysctl", "--sysctl", Shape::Pair),
    switch("ReadOnly", "--read-only"),
    own("VolatileTmp", Take::Last, "--tmpfs", Shape::Boolean),
    own("User", Take::Last, "--user", Shape::Any),
    own("Group", Take::Last, "--user", Shape::Any),
    user_map::USER_NS,
    user_map::UID_MAP,
    user_map::GID_MAP,
    user_map::SUB_UID_MAP,
    user_map::SUB_GID_MAP,
    user_map::REMAP_USERS,
    user_map::REMAP_UID,
    user_map::REMAP_GID,
    user_map::REMAP_UID_SIZE,
    own("Volume", Take::Each, "--volume", Shape::Volume),
    row(
        "AutoUpdate",
        Take::Last,
        Form::Option("--label", "io.containers.autoupdate="),
        Shape::Choice(&["registry", "local"]),
    ),
    own("ExposeHostPort", Take::Each, "--expose", Shape::Port),
    list("PublishPort", "--publish", Shape::Publish),
    pairs("Environment", "--env"),
    pairs("Label", "--label"),
    pairs("Annotation", "--annotation"),
    security("Mask", Take::Words, "mask=", Shape::Any),
    security("Unmask", Take::Words, "unmask=", Shape::Any),
    own("EnvironmentFile", Take::Words, "--env-file", Shape::Path),
    words("Secret", "--secret", Shape::Any),
    own("Mount", Take::Words, "--mount", Shape::Any),
    health::CMD,
    health::INTERVAL,
    health::ON_FAILURE,
    health::LOG_DESTINATION,
    health::MAX_LOG_COUNT,
    health::MAX_LOG_SIZE,
    health::RETRIES,
    health::START_PERIOD,
    health::TIMEOUT,
    health::STARTUP_CMD,
    health::STARTUP_INTERVAL,
    health::STARTUP_RETRIES,
    health::STARTUP_SUCCESS,
    health::STARTUP_TIMEOUT,
    own("Pod", Take::Last, "--pod", Shape::Any),
    own("StartWithPod", Take::Last, "", Shape::Boolean),
    PODMAN_ARGS,
    own("Rootfs", Take::Last, "--rootfs", Shape::Any),
    own("Image", Take::Last, "", Shape::Any),
    own("Exec", Take::LastWords, "", Shape::Any),
    socket::STREAM,
    socket::DATAGRAM,
    own("ReloadCmd", Take::LastWords, "", Shape::Any),
    own("ReloadSignal", Take::Last, "", Shape::Signal),
];

/// What `LogDriver=` may be.
pub(crate) const LOG_DRIVERS: &[&str] = &[
    "journald",
    "k8s-file",
    "json-file",
    "none",
    "passthrough",
    "passthrough-tty",
];

/// Makes the service.
pub(crate) fn convert(draft: &mut Draft<'_>) {
    let name = draft.source.resource().unwrap_or_default();
    draft
        .unit
        .add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n");
    draft.kill_mode();
    let mut stop = draft.command(&["rm", "-v", "-f", "-i"]);
    stop.push(name.clone());
    draft.run("ExecStop", &stop);
    // A name that another one has taken must not make the stop fail; "-" ignores that (systemd.service(5)).
    draft.unit.add(
        "Service",
        "ExecStopPost",
        format!("-{}", quote::line(&stop)),
    );
    reload(draft, &name);
    socket::convert(draft);
    draft.unit.add("Service", "Delegate", "yes");
    let notifies = draft.notifies();
    if notifies {
        draft.unit.set("Service", "Type", "notify");
        draft.unit.set("Service", "NotifyAccess", "all");
    }
    draft.unit.add_default("Service", "SyslogIdentifier", "%N");
    let mut words = draft.command(&["run"]);
    draft.arguments(KEYS, &mut words, &mut |draft, key, words| match key {
        "ContainerName" => {
            let shown = ["--name", &name, "--replace", "--rm"];
            words.extend(shown.map(str::to_owned));
        }
        "CgroupsMode" => match draft.text("CgroupsMode") {
            Some(mode) => words.extend(["--cgroups".to_owned(), mode]),
            None => words.push("--cgroups=split".to_owned()),
        },
        "Entrypoint" => {
            // An empty one is one too: the image's own counts for nothing then.
            if let Some(set) = draft.source.unit.last("Container", "Entrypoint") {
                words.push(format!("--entrypoint={}", quote::whole(&set.value)));
            }
        }
        "Network" => draft.networks(words),
        "Notify" => notify(draft, notifies, words),
        "AddDevice" => devices(draft, words),
        "DropCapability" | "AddCapability" => {
            let flag = if key == "AddCapability" {
                "--cap-add"
            } else {
                "--cap-drop"
            };
            for value in draft.values(key, Take::Words) {
                words.extend([flag.to_owned(), value.text.to_lowercase()]);
            }
        }
        "VolatileTmp" => {
            let read_only = draft.last("ReadOnly").and_then(|set| boolean(&set.value));
            if draft.truth("VolatileTmp") == Some(true) && read_only != Some(true) {
                words.extend(["--tmpfs", "/tmp:rw,size=512M,mode=1777"].map(str::to_owned));
            }
        }
        "User" => user(draft, words),
        "UserNS" => user_map::arguments(draft, words),
        "Volume" => draft.volumes(words),
        "ExposeHostPort" => {
            for value in draft.values(key, Take::Each) {
                if !is_port(&value.text) {
                    let what = format!(
                        "ExposeHostPort=: {:?} is not PORT or FIRST-LAST, then /tcp or /udp",
                        value.text
                    );
                    draft.error(value.set.place, what);
                }
                words.extend(["--expose".to_owned(), value.text]);
            }
        }
        "EnvironmentFile" => {
            for value in draft.values(key, Take::Words) {
                words.extend(["--env-file".to_owned(), draft.absolute(&value.text)]);
            }
        }
        "Mount" => mount::arguments(draft, words),
        "Pod" => pod(draft, words),
        "Rootfs" => image(draft, words),
        "Exec" => words.extend(
            draft
                .values(key, Take::LastWords)
                .into_iter()
                .map(|value| value.text),
        ),
        _ => {}
    });
    draft.run("ExecStart", &words);
}

/// Who tells systemd that the container has started. Without `Type=notify` nobody does, and the command lasts
/// as long as the container.
fn notify(draft: &mut Draft<'_>, notifies: bool, words: &mut Vec<String>) {
    let set = draft.last("Notify");
    let healthy = set.is_some_and(|set| set.value.eq_ignore_ascii_case("healthy"));
    let by = match set {
        _ if healthy => "healthy",
        Some(set) => match boolean(quote::whole(&set.value)) {
            Some(true) => "container",
            Some(false) => "conmon",
            None => {
                let what = format!("Notify=: {:?} is not true, false or healthy", set.value);
                draft.error(set.place, what);
                "conmon"
            }
        },
        None => "conmon",
    };
    if healthy && draft.last("HealthCmd").is_none() {
        let what = "Notify=healthy needs HealthCmd=, unless the image has a health check";
        draft.warn(set.and_then(|set| set.place), what);
    }
    if notifies {
        words.extend([format!("--sdnotify={by}"), "-d".to_owned()]);
    }
}

/// `AddDevice=`; one after a dash is left out where there is none.
fn devices(draft: &mut Draft<'_>, words: &mut Vec<String>) {
    for value in draft.values("AddDevice", Take::Words) {
        let device = match value.text.strip_prefix('-') {
            Some(device) => {
                let path = device.split(':').next().unwrap_or_default();
                if !(draft.host.exists)(path.as_ref()) {
                    continue;
                }
                device
            }
            None => &value.text,
        };
        words.extend(["--device".to_owned(), device.to_owned()]);
    }
}

fn user(draft: &mut Draft<'_>, words: &mut Vec<String>) {
    let user = match (draft.text("User"), draft.text("Group")) {
        (Some(user), Some(group)) => format!("{user}:{group}"),
        (Some(user), None) => user,
        (None, Some(_)) => {
            let place = draft.last("Group").and_then(|set| set.place);
            return draft.error(place, "Group= needs User= beside it");
        }
        (None, None) => return,
    };
    words.extend(["--user".to_owned(), user]);
}

fn pod(draft: &mut Draft<'_>, words: &mut Vec<String>) {
    let starts = draft.truth("StartWithPod");
    let Some(set) = draft.last("Pod") else {
        if let Some(set) = draft.last("StartWithPod") {
            draft.warn(set.place, "StartWithPod= means nothing without Pod=");
        }
        return;
    };
    let name = quote::whole(&set.value);
    if Kind::of(name) != Some(Kind::Pod) {
        let what = format!("Pod=: {name:?} is not the name of a unit, as {name}.pod would be");
        return draft.error(set.place, what);
    }
    match draft.set.resolve(name, draft.source) {
        Err(why) => draft.error(set.place, format!("Pod=: {why}")),
        Ok(unit) => {
            draft.unit.add("Unit", "BindsTo", &*unit.service);
            draft.unit.add("Unit", "After", &*unit.service);
            words.extend(["--pod".to_owned(), unit.resource]);
            if starts != Some(false) {
                draft.pod = Some(unit.source.name.clone());
            }
        }
    }
}

/// The image, or the directory that takes its place.
fn image(draft: &mut Draft<'_>, words: &mut Vec<String>) {
    match (draft.last("Image"), draft.text("Rootfs")) {
        (None, None) => {
            let place = draft.header();
            draft.error(
                place,
                "there is neither Image= nor Rootfs=: say what is to be run",
            );
        }
        (Some(_), Some(_)) => {
            let place = draft.last("Rootfs").and_then(|set| set.place);
            draft.error(place, "Rootfs= and Image= are both there: leave one out");
        }
        (Some(set), None) => words.extend(draft.image(set, "Image")),
        (None, Some(rootfs)) => words.extend(["--rootfs".to_owned(), rootfs]),
    }
}

/// `ExecReload=`.
fn reload(draft: &mut Draft<'_>, name: &str) {
    let command = draft.values("ReloadCmd", Take::LastWords);
    let signal = draft.text("ReloadSignal");
    if let (Some(value), Some(_)) = (command.first(), &signal) {
        let what = "ReloadCmd= and ReloadSignal= are both there: leave one out";
        return draft.error(value.set.place, what);
    }
    if let Some(signal) = signal {
        let mut words = draft.command(&["kill", "--signal"]);
        words.extend([signal, name.to_owned()]);
        draft.run("ExecReload", &words);
    } else if !command.is_empty() {
        let mut words = draft.command(&["exec"]);
        words.push(name.to_owned());
        words.extend(command.into_iter().map(|value| value.text));
        draft.run("ExecReload", &words);
    }
}
