//! System containers: an init such as systemd is the program, and finds what it needs around it
//! (podman-run(1), `--systemd`; systemd's `CONTAINER_INTERFACE` document).
//!
//! The tmpfs on the places that it fills at boot, its own cgroup writable, and an id for the machine
//! are in the specification. Its console and the division of the cgroup are the monitor's and the
//! runtime's part ([`kelp_runtime::plan::Extras`]).

use std::path::Path;

use kelp_args::signal::Signal;
use kelp_monitor::launch::LogDriver;
use kelp_state::ContainerId;
use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::container::config::{CreateOptions, Namespace};
use crate::spec::{command, mount};

/// SIGRTMIN+3 as libc counts, by which systemd halts the machine (systemd(1), "Signals").
const HALT: i32 = 37;

/// SIGTERM.
const TERM: i32 = 15;

/// Where the container's cgroup is.
const CGROUP: &str = "/sys/fs/cgroup";

/// Whether what systemd needs is set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Systemd {
    /// If the program is an init, which is settled once the container is made.
    #[default]
    IfInit,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// Settles whether what systemd needs is set up.
pub(crate) fn settle(options: &mut CreateOptions, image: &ImageConfig) -> Result<(), Error> {
    let is_system = match options.systemd {
        Systemd::Always if options.init => {
            return Err(Error::invalid(
                "--init and --systemd=always exclude each other: systemd is the init; leave out one \
                 or the other",
            ));
        }
        // The program is not process 1 then.
        Systemd::IfInit => !options.init && is_init(&command(options, image)),
        asked => asked == Systemd::Always,
    };
    if is_system && options.namespaces.cgroup == Namespace::Host {
        return Err(Error::invalid(
            "systemd in the container needs a cgroup namespace of its own: leave --cgroupns=host \
             out, or run it as any other program with --systemd=false",
        ));
    }
    options.systemd = if is_system {
        Systemd::Always
    } else {
        Systemd::Never
    };
    Ok(())
}

/// Whether a program and its arguments are an init's, as podman tells it: by its name, also where the
/// shell that an image's `ENTRYPOINT` or `CMD` in shell form brings is before it.
fn is_init(command: &[String]) -> bool {
    let words = match command {
        [shell, flag, words @ ..] if shell == "/bin/sh" && flag == "-c" && !words.is_empty() => {
            words
        }
        words => words,
    };
    words.first().is_some_and(|program| {
        matches!(
            program.as_str(),
            "/sbin/init" | "/usr/sbin/init" | "/usr/local/sbin/init"
        ) || Path::new(program)
            .file_name()
            .is_some_and(|name| name == "systemd")
    })
}

/// Whether it is a system container, once that is settled.
pub(crate) fn is_one(options: &CreateOptions) -> bool {
    options.systemd == Systemd::Always
}

/// Whether it has a console that is not its terminal. With the streams of whoever starts it there is
/// nobody to read what the console shows.
pub(crate) fn has_console(options: &CreateOptions) -> bool {
    is_one(options) && !options.tty && !options.log_driver.is_some_and(LogDriver::passes_streams)
}

/// The file systems that systemd finds empty, or as the image has them, at each boot.
pub(crate) fn file_systems(options: &CreateOptions, others: &[Mount]) -> Vec<Mount> {
    if !is_one(options) {
        return Vec::new();
    }
    let size = options.system_tmpfs_size.filter(|&size| size > 0);
    let size = size.map(|size| format!("size={size}"));
    let places = [
        ("/run", Some("mode=755")),
        ("/run/lock", None),
        ("/tmp", None),
        ("/var/log/journal", Some("mode=755")),
    ];
    let is_free = |place: &str| {
        let mut mounts = others.iter().chain(&options.mounts);
        !mounts.any(|mount| mount.destination() == Path::new(place))
    };
    let free = places.into_iter().filter(|(place, _)| is_free(place));
    free.map(|(place, mode)| {
        let usual = ["rw", "nosuid", "nodev", "tmpcopyup"];
        let more = mode.into_iter().chain(size.as_deref());
        let list: Vec<_> = usual.into_iter().chain(more).collect();
        mount(place, "tmpfs", Path::new("tmpfs"), &list)
    })
    .collect()
}

/// The container's own cgroup, to be divided. It is in the place of whatever was asked for there: the
/// host's tree, which recipes for other engines mount, is none in which systemd finds itself.
pub(crate) fn mount_cgroup(mounts: &mut Vec<Mount>) {
    mounts.retain(|mount| mount.destination() != Path::new(CGROUP));
    // After /sys, and before what may have been asked for in it.
    let place = mounts
        .iter()
        .position(|mount| mount.destination() == Path::new("/sys"))
        .map_or(mounts.len(), |sys| sys + 1);
    let options = ["nosuid", "noexec", "nodev", "rw"];
    let own = mount(CGROUP, "cgroup2", Path::new("cgroup2"), &options);
    mounts.insert(place, own);
}

/// The request's signal to stop, or the image's, or the usual one. One of the image's that nobody knows is
/// left out, as podman does.
pub(crate) fn stop_signal(options: &CreateOptions, image: &ImageConfig) -> i32 {
    let of_image = || {
        let signal: Signal = image.stop_signal().as_ref()?.parse().ok()?;
        Some(signal.number())
    };
    let usual = if is_one(options) { HALT } else { TERM };
    options.stop_signal.or_else(of_image).unwrap_or(usual)
}

/// Tells systemd the machine's id, from which it makes /etc/machine-id where the image leaves that open
/// (machine-id(5)).
pub(crate) fn name_machine(spec: &mut Spec, options: &CreateOptions, id: &ContainerId) {
    let Some(process) = spec.process_mut().as_mut().filter(|_| is_one(options)) else {
        return;
    };
    let mut env = process.env().clone().unwrap_or_default();
    if !env.iter().any(|entry| entry.starts_with("container_uuid=")) {
        env.push(format!("container_uuid={}", &id.as_str()[..32]));
    }
    process.set_env(Some(env));
}

#[cfg(test)]
mod tests {
    use super::Systemd::{Always, IfInit, Never};
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn an_init_is_known_by_its_name() {
        for (command, is) in [
            ("/sbin/init", true),
            ("/usr/sbin/init", true),
            ("/usr/local/sbin/init", true),
            ("/sbin/init --log-level=debug", true),
            ("systemd", true),
            ("/usr/lib/systemd/systemd --system", true),
            ("/bin/sh -c /sbin/init", true),
            ("/bin/sh -c /lib/systemd/systemd 3", true),
            ("init", false),
            ("/init", false),
            ("/opt/sbin/init", false),
            ("/usr/bin/systemd-analyze", false),
            ("/sbin/init2", false),
            ("/bin/sh -c", false),
            ("/bin/sh /sbin/init", false),
            ("/bin/bash -c /sbin/init", false),
            ("sh -c /sbin/init", false),
            ("/entrypoint.sh /sbin/init", false),
        ] {
            assert_eq!(is_init(&words(command)), is, "{command}");
        }
        assert!(!is_init(&[]));
    }

    fn settled(options: CreateOptions, entrypoint: &str, cmd: &str) -> Result<Systemd, String> {
        let mut image = ImageConfig::default();
        let some = |text: &str| (!text.is_empty()).then(|| words(text));
        image.set_entrypoint(some(entrypoint)).set_cmd(some(cmd));
        let mut options = options;
        settle(&mut options, &image).map_err(|error| error.to_string())?;
        Ok(options.systemd)
    }

    #[test]
    fn what_counts_is_the_program_that_entrypoint_and_command_make() {
        let asked = |systemd, command: &str| CreateOptions {
            systemd,
            command: if command.is_empty() {
                Vec::new()
            } else {
                words(command)
            },
            ..CreateOptions::default()
        };
        for (systemd, command, entrypoint, cmd, is) in [
            (IfInit, "", "", "/sbin/init", Always),
            (IfInit, "", "/sbin/init", "", Always),
            (IfInit, "/sbin/init", "", "bash", Always),
            (IfInit, "bash", "", "/sbin/init", Never),
            (IfInit, "/sbin/init", "/entry", "", Never),
            (IfInit, "--unit=x", "/lib/systemd/systemd", "", Always),
            (Always, "bash", "", "", Always),
            (Never, "/sbin/init", "", "", Never),
        ] {
            let found = settled(asked(systemd, command), entrypoint, cmd);
            assert_eq!(found, Ok(is), "{systemd:?} {command} {entrypoint} {cmd}");
        }
    }

    #[test]
    fn with_a_reaper_the_program_is_no_init() {
        let reaped = |systemd| CreateOptions {
            systemd,
            init: true,
            ..CreateOptions::default()
        };
        let found = settled(reaped(IfInit), "", "/sbin/init");
        assert_eq!(found, Ok(Never));
        let refused = settled(reaped(Always), "", "/sbin/init").unwrap_err();
        assert!(refused.starts_with("--init and --systemd=always exclude"));
    }

    #[test]
    fn the_hosts_cgroups_are_not_systemds_to_divide() {
        let mut options = CreateOptions::default();
        options.namespaces.cgroup = Namespace::Host;
        let refused = settled(options.clone(), "", "/sbin/init").unwrap_err();
        assert!(refused.contains("--systemd=false"), "{refused}");
        options.systemd = Never;
        assert_eq!(settled(options, "", "/sbin/init"), Ok(Never));
    }

    fn system() -> CreateOptions {
        CreateOptions {
            systemd: Always,
            ..CreateOptions::default()
        }
    }

    fn places(mounts: &[Mount]) -> Vec<String> {
        let places = mounts.iter().map(Mount::destination);
        places.map(|place| place.display().to_string()).collect()
    }

    #[test]
    fn what_is_mounted_already_stays_and_the_rest_has_the_size() {
        let mut options = system();
        options.system_tmpfs_size = Some(4096);
        options.mounts = vec![mount("/tmp", "tmpfs", Path::new("x"), &[])];
        let others = [mount("/run", "tmpfs", Path::new("x"), &[])];
        let list = file_systems(&options, &others);
        assert_eq!(places(&list), ["/run/lock", "/var/log/journal"]);
        for mount in &list {
            let options = mount.options().clone().unwrap();
            assert!(options.contains(&"size=4096".to_owned()), "{options:?}");
            assert!(options.contains(&"tmpcopyup".to_owned()), "{options:?}");
        }
        options.systemd = Never;
        assert_eq!(file_systems(&options, &[]), []);
    }

    #[test]
    fn without_a_size_the_kernels_half_of_the_memory_is_the_limit() {
        for size in [None, Some(0)] {
            let mut options = system();
            options.system_tmpfs_size = size;
            let list = file_systems(&options, &[]);
            assert_eq!(list.len(), 4);
            let mut all = list
                .iter()
                .flat_map(|mount| mount.options().iter().flatten());
            assert!(!all.any(|option| option.starts_with("size=")));
        }
    }

    #[test]
    fn the_cgroup_is_there_once_and_can_be_written() {
        let bind = mount(
            "/sys/fs/cgroup",
            "bind",
            Path::new("/sys/fs/cgroup"),
            &["ro"],
        );
        let sys = mount("/sys", "sysfs", Path::new("sysfs"), &["ro"]);
        let run = mount("/run", "tmpfs", Path::new("x"), &[]);
        let mut mounts = vec![sys, run, bind];
        mount_cgroup(&mut mounts);
        assert_eq!(places(&mounts), ["/sys", "/sys/fs/cgroup", "/run"]);
        assert_eq!(mounts[1].typ().as_deref(), Some("cgroup2"));
        let options = mounts[1].options().clone().unwrap();
        assert!(options.contains(&"rw".to_owned()), "{options:?}");
    }

    #[test]
    fn the_machines_id_is_the_containers_unless_another_is_given() {
        let id = ContainerId::random();
        let named = |options: &CreateOptions, before: &str| {
            let mut process = oci_spec::runtime::Process::default();
            process.set_env(Some(vec![before.to_owned()]));
            let mut spec = Spec::default();
            spec.set_process(Some(process));
            name_machine(&mut spec, options, &id);
            spec.process().as_ref().unwrap().env().clone().unwrap()
        };
        let uuid = format!("container_uuid={}", &id.as_str()[..32]);
        assert_eq!(named(&system(), "A=b"), ["A=b".to_owned(), uuid]);
        let mine = "container_uuid=mine";
        assert_eq!(named(&system(), mine), [mine]);
        assert_eq!(named(&CreateOptions::default(), "A=b"), ["A=b"]);
    }

    #[test]
    fn the_console_is_not_the_terminal_and_somebody_reads_it() {
        let mut options = system();
        assert!(has_console(&options));
        options.log_driver = Some(LogDriver::Passthrough);
        assert!(!has_console(&options));
        options.log_driver = Some(LogDriver::None);
        assert!(has_console(&options));
        options.tty = true;
        assert!(!has_console(&options));
    }
}
