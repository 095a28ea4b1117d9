//! Options of podman's commands that kelp does not have, from podman 5.8's manual pages.

/// Of run and create: the option, and why, where more is to be said than "not yet".
const CREATE: &[(&str, &str)] = &[
    ("--decryption-key", "encrypted images can't be read"),
    (
        "--device-cgroup-rule",
        "only root has the devices controller",
    ),
    (
        "--gpus",
        "devices of the Container Device Interface are not known",
    ),
    (
        "--init-path",
        "--init runs kelp's own reaper, which no file replaces",
    ),
    ("--ip", ADDRESS),
    ("--ip6", ADDRESS),
    ("--link-local-ip", ADDRESS),
    ("--mac-address", ADDRESS),
    ("--network-alias", ADDRESS),
    ("--oom-kill-disable", V2),
    ("--rdt-class", "only root may set Intel's RDT up"),
    ("--subgidname", "use --gidmap, or --userns=keep-id"),
    ("--subuidname", "use --uidmap, or --userns=keep-id"),
];

/// Of run, create and update.
const LIMITS: &[(&str, &str)] = &[
    ("--cpu-rt-period", V2),
    ("--cpu-rt-runtime", V2),
    ("--memory-swappiness", V2),
];

/// Of pod create.
const POD: &[(&str, &str)] = &[
    ("--blkio-weight", POD_LIMITS),
    ("--blkio-weight-device", POD_LIMITS),
    ("--cpu-shares", POD_LIMITS),
    ("--cpus", POD_LIMITS),
    ("--cpuset-cpus", POD_LIMITS),
    ("--cpuset-mems", POD_LIMITS),
    ("--device-read-bps", POD_LIMITS),
    ("--device-write-bps", POD_LIMITS),
    (
        "--gpus",
        "devices of the Container Device Interface are not known",
    ),
    ("--ip", ADDRESS),
    ("--ip6", ADDRESS),
    ("--mac-address", ADDRESS),
    ("--memory", POD_LIMITS),
    ("--memory-swap", POD_LIMITS),
    ("--network-alias", ADDRESS),
    (
        "--shm-size-systemd",
        "give it to the container in which systemd runs",
    ),
    ("--subgidname", "use --gidmap, or --userns=keep-id"),
    ("--subuidname", "use --uidmap, or --userns=keep-id"),
    ("-c", POD_LIMITS),
    ("-m", POD_LIMITS),
];

/// Of run alone.
const RUN: &[(&str, &str)] = &[("--preserve-fd", "use --preserve-fds")];

/// Of exec.
const EXEC: &[(&str, &str)] = &[
    ("--no-session", ""),
    ("--preserve-fd", "use --preserve-fds"),
];

/// Of pull and artifact pull.
const PULL: &[(&str, &str)] = &[("--decryption-key", "encrypted images can't be read")];

/// Of images.
const IMAGES: &[(&str, &str)] = &[("--history", "names that an image had are not remembered")];

/// Of login and logout.
const LOGIN: &[(&str, &str)] = &[(
    "--compat-auth-file",
    "use --authfile, whose format is docker's",
)];

/// Of unshare.
const UNSHARE: &[(&str, &str)] = &[("--rootless-netns", "no network is shared by containers")];

/// Before the command; docker's too.
const GLOBAL: &[(&str, &str)] = &[
    (
        "--cdi-spec-dir",
        "devices of the Container Device Interface are not known",
    ),
    ("--config", ""),
    ("--conmon", "kelp has its own monitor"),
    ("--connection", REMOTE),
    ("--context", REMOTE),
    (
        "--debug",
        "what goes wrong is told in an error, and there is no log besides",
    ),
    ("--default-mounts-file", ""),
    ("--events-backend", "events are kept in a file"),
    ("--hooks-dir", ""),
    ("--host", REMOTE),
    ("--identity", REMOTE),
    ("--imagestore", ROOT),
    ("--module", ""),
    ("--network-cmd-path", ""),
    ("--network-config-dir", ""),
    ("--noout", ""),
    ("--out", ""),
    ("--remote", REMOTE),
    ("--root", ROOT),
    ("--runroot", "XDG_RUNTIME_DIR says what it is in"),
    ("--ssh", REMOTE),
    ("--storage-opt", ""),
    ("--syslog", ""),
    ("--tmpdir", "XDG_RUNTIME_DIR says what it is in"),
    ("--transient-store", ""),
    ("--url", REMOTE),
    ("--volumepath", ROOT),
    (
        "-D",
        "what goes wrong is told in an error, and there is no log besides",
    ),
    ("-H", REMOTE),
    ("-c", REMOTE),
    ("-r", REMOTE),
];

const REMOTE: &str = "there is no service to talk to";
const ROOT: &str = "XDG_DATA_HOME says what it is in";

/// Commands that podman has, by the group that they are in.
const COMMANDS: &[(&str, &[&str])] = &[
    (
        "kelp",
        &[
            "build", "buildx", "compose", "farm", "generate", "init", "machine", "network",
        ],
    ),
    (
        "kelp container",
        &[
            "checkpoint",
            "cleanup",
            "clone",
            "init",
            "restore",
            "runlabel",
        ],
    ),
    ("kelp image", &["build", "scp"]),
    ("kelp pod", &["clone"]),
    (
        "kelp system",
        &["connection", "migrate", "renumber", "service"],
    ),
    (
        "kelp volume",
        &["export", "import", "mount", "reload", "unmount"],
    ),
];

/// What is said of a command that podman has and kelp has not.
pub fn missing_command(group: &str, word: &str, next: Option<&str>) -> Option<String> {
    if (group, word, next) == ("kelp", "generate", Some("systemd")) {
        let instead = "write a Quadlet file instead, of which systemd makes the service";
        return Some(format!(
            "generate systemd is not supported by kelp: {instead} (see 'kelp quadlet --help')"
        ));
    }
    let mut groups = COMMANDS.iter();
    let (_, words) = groups.find(|(name, _)| *name == group)?;
    let command = group.strip_prefix("kelp ").unwrap_or_default();
    let space = if command.is_empty() { "" } else { " " };
    words
        .contains(&word)
        .then(|| format!("{command}{space}{word} is not supported by kelp yet"))
}

/// Of kube play.
const KUBE: &[(&str, &str)] = &[
    ("--build", "build the image before, or pull it"),
    ("--context-dir", "build the image before, or pull it"),
    ("--ip", ADDRESS),
    ("--mac-address", ADDRESS),
    ("--no-trunc", "ids are whole"),
];

/// Of volume create.
const VOLUME: &[(&str, &str)] = &[
    ("--gid", "use --volume with the option U"),
    ("--uid", "use --volume with the option U"),
];

const V2: &str = "cgroup v2 has no such limit";
const ADDRESS: &str = "it needs a network whose addresses kelp gives, and there is none";
const POD_LIMITS: &str = "a pod has no cgroup of its own; give the limit to its containers";

type List = &'static [(&'static str, &'static str)];

fn of(path: &str) -> &'static [List] {
    let command = path.strip_prefix("kelp ").unwrap_or(path);
    let group = ["container ", "image "].iter();
    let mut inner = group.filter_map(|group| command.strip_prefix(group));
    let command = inner.next().unwrap_or(command);
    match command {
        "kelp" => &[GLOBAL],
        "volume create" => &[VOLUME],
        "create" => &[CREATE, LIMITS],
        "pod create" => &[POD],
        "kube play" | "play kube" => &[KUBE],
        "run" => &[CREATE, LIMITS, RUN],
        "update" => &[LIMITS],
        "exec" => &[EXEC],
        "artifact pull" | "pull" => &[PULL],
        "images" | "list" | "ls" => &[IMAGES],
        "login" | "logout" => &[LOGIN],
        "unshare" => &[UNSHARE],
        _ => &[],
    }
}

/// What is said of an option that podman's command has and kelp's has not. A command is named as it is
/// written, with the group that it is in.
pub fn refusal(command: &str, shown: &str) -> Option<String> {
    let mut options = of(command).iter().copied().flatten();
    let (name, why) = options.find(|(name, _)| *name == shown)?;
    let why = if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    };
    Some(format!("{name} is not supported by kelp yet{why}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Kelp;

    #[test]
    fn what_kelp_has_is_not_listed() {
        let kelp = Kelp::command();
        for name in [
            "create", "run", "exec", "pull", "images", "login", "logout", "unshare", "update",
        ] {
            let command = kelp.find_subcommand(name).unwrap();
            for arg in command.get_arguments() {
                let aliases = arg.get_all_aliases().unwrap_or_default();
                for long in arg.get_long().into_iter().chain(aliases) {
                    let listed = refusal(name, &format!("--{long}"));
                    assert_eq!(listed, None, "kelp {name} has --{long}");
                }
            }
        }
    }

    #[test]
    fn commands_that_kelp_has_are_not_listed() {
        let kelp = Kelp::command();
        for (group, words) in COMMANDS {
            assert!(words.is_sorted(), "{group}");
            let inner = match group.split_once(' ') {
                Some((_, group)) => kelp.find_subcommand(group).unwrap(),
                None => &kelp,
            };
            for word in *words {
                assert!(inner.find_subcommand(word).is_none(), "{group} {word}");
            }
        }
        assert_eq!(
            missing_command("kelp", "network", None).unwrap(),
            "network is not supported by kelp yet"
        );
        assert_eq!(
            missing_command("kelp pod", "clone", None).unwrap(),
            "pod clone is not supported by kelp yet"
        );
        assert_eq!(
            missing_command("kelp image", "scp", None).unwrap(),
            "image scp is not supported by kelp yet"
        );
        assert_eq!(missing_command("kelp", "nosuch", None), None);
    }

    #[test]
    fn lists_are_sorted_and_belong_to_their_commands() {
        for list in [
            CREATE, LIMITS, POD, RUN, EXEC, GLOBAL, PULL, IMAGES, LOGIN, UNSHARE, VOLUME, KUBE,
        ] {
            assert!(list.is_sorted(), "{list:?}");
        }
        assert_eq!(refusal("ps", "--pod"), None);
        assert_eq!(
            refusal("kelp pod create", "--memory").unwrap(),
            "--memory is not supported by kelp yet: a pod has no cgroup of its own; give the limit to its \
             containers"
        );
    }
}
