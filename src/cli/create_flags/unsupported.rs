//! Options of podman's run, create and exec that kelp does not have, from podman 5.8's manual pages.

/// Of run and create.
const CREATE: &[&str] = &[
    "--blkio-weight-device",
    "--cgroup-parent",
    "--cgroups",
    "--chrootdirs",
    "--conmon-pidfile",
    "--cpu-rt-period",
    "--cpu-rt-runtime",
    "--creds",
    "--decryption-key",
    "--device-cgroup-rule",
    "--device-read-bps",
    "--device-read-iops",
    "--device-write-bps",
    "--device-write-iops",
    "--disable-content-trust",
    "--expose",
    "--gpus",
    "--group-entry",
    "--health-cmd",
    "--health-interval",
    "--health-log-destination",
    "--health-max-log-count",
    "--health-max-log-size",
    "--health-on-failure",
    "--health-retries",
    "--health-start-period",
    "--health-startup-cmd",
    "--health-startup-interval",
    "--health-startup-retries",
    "--health-startup-success",
    "--health-startup-timeout",
    "--health-timeout",
    "--hosts-file",
    "--hostuser",
    "--init-path",
    "--ip",
    "--ip6",
    "--link-local-ip",
    "--mac-address",
    "--memory-swappiness",
    "--network-alias",
    "--no-healthcheck",
    "--oom-kill-disable",
    "--passwd-entry",
    "--personality",
    "--pod",
    "--pod-id-file",
    "--rdt-class",
    "--requires",
    "--restart",
    "--retry",
    "--retry-delay",
    "--sdnotify",
    "--seccomp-policy",
    "--secret",
    "--shm-size-systemd",
    "--subgidname",
    "--subuidname",
    "--systemd",
    "--timeout",
    "--tz",
    "--volumes-from",
];

/// Of run alone.
const RUN: &[&str] = &["--passwd", "--preserve-fd", "--preserve-fds", "--rmi"];

/// Of exec.
const EXEC: &[&str] = &["--no-session", "--preserve-fd", "--preserve-fds"];

fn of(command: &str) -> [&'static [&'static str]; 2] {
    match command {
        "create" => [CREATE, &["--init-ctr"]],
        "run" => [CREATE, RUN],
        "exec" => [EXEC, &[]],
        _ => [&[], &[]],
    }
}

/// The long name of an option that podman's command has and kelp's has not.
pub fn name(command: &str, shown: &str) -> Option<String> {
    let mut lists = of(command).into_iter();
    let listed = lists.any(|list| list.contains(&shown));
    listed.then(|| shown.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Kelp;

    #[test]
    fn what_kelp_has_is_not_listed() {
        let kelp = Kelp::command();
        for name in ["create", "run", "exec"] {
            let command = kelp.find_subcommand(name).unwrap();
            for arg in command.get_arguments() {
                let aliases = arg.get_all_aliases().unwrap_or_default();
                for long in arg.get_long().into_iter().chain(aliases) {
                    let listed = super::name(name, &format!("--{long}"));
                    assert_eq!(listed, None, "kelp {name} has --{long}");
                }
            }
        }
    }

    #[test]
    fn lists_are_sorted_and_belong_to_their_commands() {
        for list in [CREATE, RUN, EXEC] {
            assert!(list.is_sorted(), "{list:?}");
        }
        assert_eq!(name("ps", "--pod"), None);
    }
}
