//! System containers, as far as no systemd is needed: what is set up, for whom, and what is refused.
//! tests/it/vm/system.rs boots one.

use std::io::{BufRead, BufReader};

use serde_json::json;

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;
use crate::terminal::Terminal;

/// Where file systems are mounted, with type and options, of those that matter.
const MOUNTS: &str = "awk '$2 ~ \"^/(run|run/lock|tmp|var/log/journal|sys/fs/cgroup)$\" \
                      { print $2, $3, $4 }' /proc/self/mounts";

/// What is mounted on a place.
fn options_of<'a>(mounts: &'a str, place: &str) -> &'a str {
    let line = mounts.lines().find_map(|line| {
        let (at, rest) = line.split_once(' ')?;
        (at == place).then_some(rest)
    });
    line.unwrap_or_else(|| panic!("no {place}: {mounts}"))
}

#[test]
fn what_systemd_fills_at_boot_is_empty_or_as_the_image_has_it() {
    let Some(env) = Env::new() else { return };
    let image = env.image("with-tmp", &|| {
        let layer = Layer::default()
            .directory("run", 0o755)
            .directory("tmp", 0o1777)
            .file("tmp/of-the-image", 0o644, b"kept\n");
        Image::busybox().layer(layer)
    });
    let script = format!(
        "{MOUNTS}; cat /tmp/of-the-image; stat -c '%a %n' /run /run/lock /tmp; \
                          ls -A /run"
    );
    let flags = [
        "run",
        "--rm",
        "--systemd=always",
        "--shm-size-systemd=1m",
        &image,
    ];
    let text = env
        .kelp(&[&flags[..], &["sh", "-c", &script]].concat())
        .succeeds();
    for place in ["/run", "/run/lock", "/tmp", "/var/log/journal"] {
        let options = options_of(&text, place);
        assert!(
            options.starts_with("tmpfs rw,nosuid,nodev,"),
            "{place} {options}"
        );
        assert!(options.contains("size=1024k"), "{place} {options}");
    }
    assert!(options_of(&text, "/sys/fs/cgroup").starts_with("cgroup2 rw,nosuid,nodev,noexec"));
    let rest = "kept\n755 /run\n1777 /run/lock\n1777 /tmp\n.containerenv\nlock\n";
    assert!(text.ends_with(rest), "{text}");
}

#[test]
fn a_program_that_is_no_init_has_none_of_it_unless_it_is_asked_for() {
    let Some(env) = Env::new() else { return };
    let script = format!("{MOUNTS}; echo ${{container_uuid-none}}");
    let image = env.image("with-init", &|| {
        Image::busybox()
            .layer(Layer::default().directory("sbin", 0o755).file(
                "sbin/init",
                0o755,
                b"#!/bin/sh\nexec sh \"$@\"\n",
            ))
            .set("Entrypoint", json!(["/sbin/init"]))
    });
    for (flags, program, is) in [
        (&[][..], &[][..], true),
        (&["--systemd", "true"], &[], true),
        (&["--systemd=false"], &[], false),
        (&["--entrypoint=sh"], &[], false),
        (&["--entrypoint=sh", "--systemd=Always"], &[], true),
        (&["--entrypoint="], &["/sbin/init"], true),
        (&["--entrypoint="], &["sh"], false),
        (&["--init"], &[], false),
    ] {
        let words = [
            &["run", "--rm"],
            flags,
            &[&image],
            program,
            &["-c", &script],
        ]
        .concat();
        let text = env.kelp(&words).succeeds();
        assert_eq!(text.contains("/run/lock tmpfs"), is, "{words:?}: {text}");
        assert_eq!(!text.ends_with("none\n"), is, "{words:?}: {text}");
        let cgroup = if is { "cgroup2 rw," } else { "cgroup2 ro," };
        assert!(
            options_of(&text, "/sys/fs/cgroup").starts_with(cgroup),
            "{words:?}: {text}"
        );
    }
}

#[test]
fn the_request_wins_over_what_is_set_up_but_for_the_cgroup() {
    let Some(env) = Env::new() else { return };
    let flags = [
        "--systemd=always",
        "--tmpfs=/run:size=2m",
        "-v=/sys/fs/cgroup:/sys/fs/cgroup:ro",
        "-e=container_uuid=mine",
        "--network=host",
    ];
    let text = env.shell(&flags, &format!("{MOUNTS}; echo $container_uuid"));
    assert!(options_of(&text, "/run").contains("size=2048k"), "{text}");
    // With the host's network /sys is the host's, and its cgroups are in it.
    let cgroups: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("/sys/fs/cgroup"))
        .collect();
    assert!(cgroups.last().unwrap().contains("cgroup2 rw,"), "{text}");
    assert!(text.ends_with("\nmine\n"), "{text}");
    let text = env.shell(&["--systemd=always", "--read-only"], MOUNTS);
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("/run "))
            .count(),
        1,
        "{text}"
    );
}

#[test]
fn the_container_has_the_id_of_a_machine_and_stops_as_systemd_does() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let format = "{{.Id}} {{.Config.SystemdMode}} {{.Config.StopSignal}} {{.Config.Env}}";
    let described = |flags: &[&str]| {
        let words = [&["create", "--name=x"], flags, &[&image, "sh"]].concat();
        env.kelp(&words).succeeds();
        let text = env.kelp(&["inspect", "--format", format, "x"]).succeeds();
        env.kelp(&["rm", "x"]).succeeds();
        let (id, rest) = text.split_once(' ').unwrap();
        rest.replace(&id[..32], "ID")
    };
    let text = described(&["--systemd=always"]);
    assert!(text.starts_with("true SIGRTMIN+3 ["), "{text}");
    assert!(
        text.contains("container=podman") && text.contains("container_uuid=ID"),
        "{text}"
    );
    let text = described(&["--systemd=always", "--stop-signal=USR1"]);
    assert!(text.starts_with("true SIGUSR1 ["), "{text}");
    let text = described(&[]);
    assert!(
        text.starts_with("false SIGTERM [") && !text.contains("uuid"),
        "{text}"
    );
}

#[test]
fn an_image_may_name_another_signal() {
    let Some(env) = Env::new() else { return };
    let image = env.image("stops-by-usr2", &|| {
        Image::busybox().set("StopSignal", json!("SIGUSR2"))
    });
    env.kelp(&["create", "--name=x", "--systemd=always", &image, "sh"])
        .succeeds();
    let words = ["inspect", "--format={{.Config.StopSignal}}", "x"];
    assert_eq!(env.kelp(&words).succeeds(), "SIGUSR2\n");
    env.kelp(&["rm", "x"]).succeeds();
}

/// Makes cgroups below its own and moves itself, as systemd does at its start; then tells where it is,
/// and waits for the signal.
const DIVIDE: &str = "set -e; cd /sys/fs/cgroup
    mkdir init.scope system.slice
    echo 1 > init.scope/cgroup.procs
    for c in $(cat cgroup.controllers); do echo +$c > cgroup.subtree_control; done
    stat -c '%u:%g' . cgroup.procs cgroup.subtree_control cgroup.threads | sort -u
    grep ^0 /proc/self/cgroup
    trap 'exit 3' 37
    echo divided
    while :; do sleep 0.05; done";

#[test]
fn the_cgroup_is_the_containers_to_divide_in_every_user_namespace() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for userns in ["", "keep-id", "auto", "nomap"] {
        let mode = format!("--userns={userns}");
        let flags = [
            "run",
            "-d",
            "--name=x",
            "--systemd=always",
            "--user=0",
            &mode,
            &image,
        ];
        env.kelp(&[&flags[..], &["sh", "-c", DIVIDE]].concat())
            .succeeds();
        let mut logs = env.kelp(&["logs", "-f", "x"]).start();
        let lines = BufReader::new(logs.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let lines: Vec<_> = lines.take(3).collect();
        assert_eq!(lines, ["0:0", "0::/init.scope", "divided"], "{userns}");
        // A cgroup that is divided has no processes: what is added is beside the init.
        for words in [
            &["exec", "x", "grep", "^0", "/proc/self/cgroup"][..],
            &["exec", "--user=1", "x", "grep", "^0", "/proc/self/cgroup"],
        ] {
            assert_eq!(env.kelp(words).succeeds(), "0::/init.scope\n", "{userns}");
        }
        env.kelp(&["pause", "x"]).succeeds();
        env.kelp(&["unpause", "x"]).succeeds();
        env.kelp(&["stop", "x"]).succeeds();
        logs.wait().unwrap();
        let words = ["inspect", "--format={{.State.ExitCode}}", "x"];
        assert_eq!(env.kelp(&words).succeeds(), "3\n", "{userns}");
        env.kelp(&["rm", "x"]).succeeds();
    }
}

#[test]
fn the_containers_own_limits_are_out_of_its_reach() {
    let Some(env) = Env::new() else { return };
    // The container's cgroup is above what it sees: freezing what it sees is all that it can do.
    let script = "grep ^0 /proc/self/cgroup; cd /sys/fs/cgroup; ls -d ../payload 2>/dev/null; \
                  test -w cgroup.procs && echo writable";
    let text = env.shell(&["--systemd=always"], script);
    assert_eq!(text, "0::/\nwritable\n");
}

#[test]
fn what_is_written_to_the_console_is_in_the_log_and_with_whoever_is_attached() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "echo out; echo of the console > /dev/console; echo err >&2; \
                  test -t 1 || echo no terminal; test -c /dev/console && echo device";
    let words = [
        "run",
        "--name=x",
        "--systemd=always",
        &image,
        "sh",
        "-c",
        script,
    ];
    let done = env.kelp(&words).done();
    assert_eq!((done.code, done.stderr.as_str()), (0, "err\n"));
    let mut lines: Vec<_> = done.stdout.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["device", "no terminal", "of the console", "out"]);
    let logs = env.kelp(&["logs", "x"]).done();
    assert!(logs.stdout.contains("of the console"), "{logs:?}");
    env.kelp(&["rm", "x"]).succeeds();

    // With a terminal the console is that.
    let words = ["run", "--rm", "-t", "--systemd=always", &image, "sh", "-c"];
    let script = "echo of the console > /dev/console; echo $TERM; tty";
    let mut terminal = Terminal::start(env.kelp(&[&words[..], &[script]].concat()));
    terminal.expect("of the console\r\n");
    terminal.expect("xterm\r\n");
    terminal.expect("/dev/");
    assert_eq!(terminal.finish().0, 0);
}

#[test]
fn a_console_that_nobody_has_open_can_be_opened_again() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "for i in 1 2 3; do echo line $i > /dev/console; sleep 0.1; done; echo end";
    let words = [
        "run",
        "--rm",
        "--systemd=always",
        &image,
        "sh",
        "-c",
        script,
    ];
    let text = env.kelp(&words).succeeds();
    for line in ["line 1", "line 2", "line 3", "end"] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn what_can_not_be_is_refused_in_one_line() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (flags, said) in [
        (
            &["--systemd=perhaps"][..],
            "invalid value \"perhaps\" for --systemd: use true, false or always",
        ),
        (
            &["--shm-size-systemd=much"],
            "invalid size \"much\": a size is a number with b, k, m, g or t",
        ),
        (
            &["--systemd=always", "--init"],
            "--init and --systemd=always exclude each other: systemd is the init; leave out one or the \
             other",
        ),
        (
            &["--systemd=always", "--cgroupns=host"],
            "systemd in the container needs a cgroup namespace of its own: leave --cgroupns=host out, \
             or run it as any other program with --systemd=false",
        ),
        (
            &["--systemd=always", "--cgroups=disabled"],
            "--cgroups=disabled: systemd in the container needs a cgroup; leave that out, or run it \
             as any other program with --systemd=false",
        ),
    ] {
        let words = [&["run", "--rm"], flags, &[&image, "true"]].concat();
        assert_eq!(
            env.kelp(&words).fails(125),
            format!("Error: {said}"),
            "{flags:?}"
        );
    }
}

/// Leaves orphans to process 1 and waits until none is a zombie; then until it is told to end.
const ORPHANS: &str = "trap 'exit 7' USR1; trap 'exit 9' INT
    for i in 1 2 3 4 5 6 7 8 9; do (sh -c true &); done
    while grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done
    echo reaped $(tr '\\0' ' ' < /proc/$$/cmdline | cut -c1-2) $$
    while :; do sleep 0.05; done";

#[test]
fn a_reaper_reaps_and_passes_signals_and_the_exit_code_on() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let words = [
        "run", "-d", "--name=x", "--init", &image, "sh", "-c", ORPHANS,
    ];
    env.kelp(&words).succeeds();
    let mut logs = env.kelp(&["logs", "-f", "x"]).start();
    let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "reaped sh 2");
    env.kelp(&["kill", "-s", "USR1", "x"]).succeeds();
    assert_eq!(env.kelp(&["wait", "x"]).succeeds(), "7\n");
    logs.wait().unwrap();
    env.kelp(&["rm", "x"]).succeeds();

    let words = [
        "run", "--rm", "-t", "-i", "--init", &image, "sh", "-c", ORPHANS,
    ];
    let mut terminal = Terminal::start(env.kelp(&words));
    terminal.expect("reaped sh 2");
    terminal.send(b"\x03");
    assert_eq!(terminal.finish().0, 9);

    // One that a signal ends, and one that is not there.
    let words = ["run", "--rm", "--init", &image, "sh", "-c", "kill -KILL $$"];
    env.kelp(&words).done().exits(137);
    env.kelp(&["run", "--rm", "--init", &image, "no-such"])
        .fails(127);
}
