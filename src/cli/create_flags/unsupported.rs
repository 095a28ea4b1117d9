//! Options of podman's commands that kelp does not have, from podman 5.8's manual pages.

/// Of run and create: the option, and why, where more is to be said than "not yet".
const CREATE: &[(&str, &str)] = &[
    ("--cpu-rt-period", V2),
    ("--cpu-rt-runtime", V2),
    ("--decryption-key", "encrypted images can't be read"),
    (
        "--device-cgroup-rule",
        "only root has the devices controller",
    ),
    (
        "--gpus",
        "devices of the Container Device Interface are not known",
    ),
    ("--health-cmd", HEALTH),
    ("--health-interval", HEALTH),
    ("--health-log-destination", HEALTH),
    ("--health-max-log-count", HEALTH),
    ("--health-max-log-size", HEALTH),
    ("--health-on-failure", HEALTH),
    ("--health-retries", HEALTH),
    ("--health-start-period", HEALTH),
    ("--health-startup-cmd", HEALTH),
    ("--health-startup-interval", HEALTH),
    ("--health-startup-retries", HEALTH),
    ("--health-startup-success", HEALTH),
    ("--health-startup-timeout", HEALTH),
    ("--health-timeout", HEALTH),
    (
        "--init-path",
        "--init runs kelp's own reaper, which no file replaces",
    ),
    ("--ip", ADDRESS),
    ("--ip6", ADDRESS),
    ("--link-local-ip", ADDRESS),
    ("--mac-address", ADDRESS),
    ("--memory-swappiness", V2),
    ("--network-alias", ADDRESS),
    ("--oom-kill-disable", V2),
    ("--pod", PODS),
    ("--pod-id-file", PODS),
    ("--rdt-class", "only root may set Intel's RDT up"),
    (
        "--requires",
        "no container is started because another one is",
    ),
    (
        "--secret",
        "there is no store of secrets; mount a file with --volume",
    ),
    ("--shm-size-systemd", SYSTEMD),
    ("--subgidname", "use --gidmap, or --userns=keep-id"),
    ("--subuidname", "use --uidmap, or --userns=keep-id"),
];

/// Of create alone.
const ONLY_CREATE: &[(&str, &str)] = &[("--init-ctr", PODS)];

/// Of run alone.
const RUN: &[(&str, &str)] = &[("--preserve-fd", ""), ("--preserve-fds", "")];

/// Of exec.
const EXEC: &[(&str, &str)] = &[
    ("--no-session", ""),
    ("--preserve-fd", ""),
    ("--preserve-fds", ""),
];

/// Of pull.
const PULL: &[(&str, &str)] = &[("--decryption-key", "encrypted images can't be read")];

/// Of images.
const IMAGES: &[(&str, &str)] = &[("--history", "names that an image had are not remembered")];

/// Of login and logout.
const LOGIN: &[(&str, &str)] = &[
    (
        "--compat-auth-file",
        "use --authfile, whose format is docker's",
    ),
    ("--secret", "there is no store of secrets"),
];

/// Of unshare.
const UNSHARE: &[(&str, &str)] = &[("--rootless-netns", "no network is shared by containers")];

/// Of volume create.
const VOLUME: &[(&str, &str)] = &[
    ("--gid", "use --volume with the option U"),
    ("--uid", "use --volume with the option U"),
];

const V2: &str = "cgroup v2 has no such limit";
const HEALTH: &str = "no health checks are run";
const ADDRESS: &str = "it needs a network whose addresses kelp gives, and there is none";
const PODS: &str = "there are no pods";
const SYSTEMD: &str = "nothing is set up for systemd as the program";

type List = &'static [(&'static str, &'static str)];

fn of(path: &str) -> [List; 2] {
    let command = path.strip_prefix("kelp ").unwrap_or(path);
    let group = ["container ", "image "].iter();
    let mut inner = group.filter_map(|group| command.strip_prefix(group));
    let command = inner.next().unwrap_or(command);
    match command {
        "volume create" => [VOLUME, &[]],
        "create" => [CREATE, ONLY_CREATE],
        "run" => [CREATE, RUN],
        "exec" => [EXEC, &[]],
        "pull" => [PULL, &[]],
        "images" | "list" | "ls" => [IMAGES, &[]],
        "login" | "logout" => [LOGIN, &[]],
        "unshare" => [UNSHARE, &[]],
        _ => [&[], &[]],
    }
}

/// What is said of an option that podman's command has and kelp's has not. A command is named as it is
/// written, with the group that it is in.
pub fn refusal(command: &str, shown: &str) -> Option<String> {
    let mut options = of(command).into_iter().flatten();
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
            "create", "run", "exec", "pull", "images", "login", "logout", "unshare",
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
    fn lists_are_sorted_and_belong_to_their_commands() {
        for list in [
            CREATE,
            ONLY_CREATE,
            RUN,
            EXEC,
            PULL,
            IMAGES,
            LOGIN,
            UNSHARE,
            VOLUME,
        ] {
            assert!(list.is_sorted(), "{list:?}");
        }
        assert_eq!(refusal("ps", "--pod"), None);
        assert_eq!(
            refusal("run", "--pod").unwrap(),
            "--pod is not supported by kelp yet: there are no pods"
        );
    }
}
