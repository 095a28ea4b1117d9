//! `--pid=container:X` and `--pid=ns:PATH`: the processes of another container.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::env::Env;

/// Prints the number and name of every process in /proc that has not ended.
const PROCESSES: &str = r#"
for process in /proc/[0-9]*; do
    read line < $process/stat
    case "$line" in
        *") Z "*) ;;
        *) name="${line#*(}"; echo "${name%%)*}" ;;
    esac
done
"#;

/// A container with one process, `sleep`.
fn start(env: &Env, name: &str, flags: &[&str]) {
    let image = env.busybox();
    let run = ["run", "-d", "--network=none", "--name", name];
    env.kelp(&[&run[..], flags, &[&image, "sleep", "1000"]].concat())
        .succeeds();
}

fn processes_of(env: &Env, name: &str) -> Vec<String> {
    let said = env.kelp(&["exec", name, "sh", "-c", PROCESSES]).succeeds();
    let mut names: Vec<_> = said.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn namespace_of(env: &Env, name: &str) -> String {
    env.kelp(&["exec", name, "readlink", "/proc/self/ns/pid"])
        .succeeds()
}

#[test]
fn a_pid_namespace_that_is_joined_shows_its_processes_and_no_others() {
    let Some(env) = Env::new() else { return };
    start(&env, "one", &[]);
    let pid = env.kelp(&["inspect", "-f", "{{.State.Pid}}", "one"]);
    let file = format!("--pid=ns:/proc/{}/ns/pid", pid.succeeds().trim());
    for mode in ["--pid=container:one", file.as_str()] {
        let flags = ["--network=none", mode];
        let mut names: Vec<_> = env
            .shell(&flags, PROCESSES)
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        assert_eq!(names, ["sh", "sleep"], "{mode}");
        let inside = env.shell(&flags, "readlink /proc/self/ns/pid");
        assert_eq!(inside, namespace_of(&env, "one"), "{mode}");
    }
    env.kelp(&["rm", "-f", "-t0", "one"]).succeeds();
}

#[test]
fn both_containers_have_exec_and_end_by_themselves() {
    let Some(env) = Env::new() else { return };
    start(&env, "one", &[]);
    start(&env, "two", &["--pid=container:one"]);
    let host = fs::read_link("/proc/self/ns/pid").unwrap();
    assert_ne!(namespace_of(&env, "two").trim(), host.to_str().unwrap());
    assert_eq!(namespace_of(&env, "one"), namespace_of(&env, "two"));
    for name in ["one", "two"] {
        assert_eq!(processes_of(&env, name), ["sh", "sleep", "sleep"]);
    }
    env.kelp(&["stop", "-t0", "two"]).succeeds();
    assert_eq!(processes_of(&env, "one"), ["sh", "sleep"]);
    env.kelp(&["start", "two"]).succeeds();
    assert_eq!(processes_of(&env, "one"), ["sh", "sleep", "sleep"]);
    // A pid namespace ends with its first process.
    env.kelp(&["kill", "one"]).succeeds();
    assert_eq!(env.kelp(&["wait", "two"]).succeeds(), "137\n");
    env.kelp(&["rm", "-f", "-t0", "one", "two"]).succeeds();
}

#[test]
fn a_policy_starts_it_again_in_the_same_namespace() {
    let Some(env) = Env::new() else { return };
    start(&env, "one", &[]);
    let image = env.busybox();
    let script = "readlink /proc/self/ns/pid; test -e /again && exec sleep 1000; >/again; exit 1";
    let run = [
        "run",
        "-d",
        "--network=none",
        "--name=two",
        "--pid=container:one",
        "--restart=on-failure:1",
        &image,
        "sh",
        "-c",
        script,
    ];
    env.kelp(&run).succeeds();
    let own = namespace_of(&env, "one");
    let expected = own.repeat(2);
    crate::kelp::wait_until("it is started again", || {
        env.kelp(&["logs", "two"]).succeeds() == expected
    });
    env.kelp(&["rm", "-f", "-t0", "two", "one"]).succeeds();
}

#[test]
fn a_monitor_that_is_killed_takes_its_container_out_of_the_namespace() {
    let Some(env) = Env::new() else { return };
    let file = env.path("monitor");
    start(&env, "one", &[]);
    let flag = format!("--conmon-pidfile={}", file.display());
    start(&env, "two", &["--pid=container:one", &flag]);
    let monitor = fs::read_to_string(&file).unwrap().parse().unwrap();
    kill_process(Pid::from_raw(monitor).unwrap(), Signal::KILL).unwrap();
    env.kelp(&["rm", "-f", "-t0", "two"]).succeeds();
    assert_eq!(processes_of(&env, "one"), ["sh", "sleep"]);
    env.kelp(&["rm", "-f", "-t0", "one"]).succeeds();
}

/// Looks at what /proc has of every process, again and again: writes down which of their links lead to a file of the
/// host's, or to a program that is not the image's.
const LOOKS: &str = r"
while :; do
    for process in /proc/[0-9]*; do
        [ -e $process/root$MARK ] && echo root >>/found
        [ $process/exe -nt /bin/busybox ] && echo exe >>/found
        for open in $process/fd/*; do
            [ -e $open/../../../../../../../../../../../..$MARK ] && echo fd >>/found
        done
    done
    : >/looked
done 2>/dev/null
";

/// A container that [`LOOKS`], and has a capability for that.
fn start_looking(env: &Env, name: &str, flags: &[&str]) {
    let mark = env.path("mark");
    fs::write(&mark, "").unwrap();
    let mark = format!("MARK={}", mark.display());
    let image = env.busybox();
    let run = ["run", "-d", "--name", name, "--stop-timeout=0", "-e", &mark];
    let words = [&run[..], flags, &[&image, "sh", "-c", LOOKS]].concat();
    env.kelp(&words).succeeds();
    crate::kelp::wait_until("it looks", || {
        env.kelp(&["exec", name, "test", "-e", "/looked"])
            .done()
            .code
            == 0
    });
    // A process of exec is seen as well.
    assert_eq!(found(env, name), "");
}

fn found(env: &Env, name: &str) -> String {
    let script = "test ! -e /found || sort -u /found";
    env.kelp(&["exec", name, "sh", "-c", script]).succeeds()
}

#[test]
fn who_may_look_into_processes_sees_nothing_of_the_host_in_one_that_joins() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let alone = "--network=none";
    let start_often = |flags: &[&str]| {
        let run = ["run", "--rm", "--pid=container:one"];
        for _ in 0..6 {
            let words = [&run[..], flags, &[&image, "false"]].concat();
            env.kelp(&words).done().exits(1);
        }
    };
    start_looking(&env, "one", &[alone, "--cap-add=SYS_PTRACE"]);
    start_looking(&env, "all", &[alone, "--pid=container:one", "--privileged"]);
    for flags in [
        &[alone][..],
        &["--network=container:one"],
        &["--network=host", "--privileged"],
        &[alone, "-t"],
    ] {
        start_often(flags);
    }
    let again = ["--restart=always", alone, "--pid=container:one"];
    let run = ["run", "-d", "--name=again"];
    env.kelp(&[&run[..], &again, &[&image, "false"]].concat())
        .succeeds();
    let count = ["inspect", "-f", "{{.RestartCount}}", "again"];
    crate::kelp::wait_until("it is started again and again", || {
        let count = env.kelp(&count).succeeds();
        count.trim().parse::<u32>().unwrap() > 4
    });
    env.kelp(&["rm", "-f", "-t0", "again"]).succeeds();
    assert_eq!(found(&env, "one"), "");
    assert_eq!(found(&env, "all"), "");
    // This process 1 is kelp for as long as the program runs: who may look into it finds that out.
    start_often(&[alone, "--user=1000", "--init"]);
    for name in ["one", "all"] {
        let found = found(&env, name);
        assert!(found.is_empty() || found == "exe\n", "{found}");
    }
    env.kelp(&["rm", "-f", "-t0", "all", "one"]).succeeds();
}

#[test]
fn who_may_look_into_processes_sees_no_directory_of_the_host_in_a_health_check() {
    let Some(env) = Env::new() else { return };
    let flags = [
        "--network=none",
        "--cap-add=SYS_PTRACE",
        "--health-cmd=true",
        "--health-interval=disable",
    ];
    start_looking(&env, "one", &flags);
    for _ in 0..20 {
        env.kelp(&["healthcheck", "run", "one"]).succeeds();
    }
    let found = found(&env, "one");
    assert!(!found.contains("root") && !found.contains("fd"), "{found}");
    env.kelp(&["rm", "-f", "-t0", "one"]).succeeds();
}

#[test]
fn a_container_that_joins_has_all_that_others_have() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    start(&env, "one", &[]);
    let file = env.path("monitor");
    let pid_file = format!("--conmon-pidfile={}", file.display());
    for (name, flags) in [
        ("plain", &["--network=none"][..]),
        ("init", &["--network=none", "--init", "--user=1000"]),
        ("terminal", &["--network=none", "-t", "--init"]),
        ("host", &["--network=host", "--oom-score-adj=500"]),
        ("joins", &["--network=container:one"]),
    ] {
        let run = [
            "run",
            "-d",
            "--name",
            name,
            "--pid=container:one",
            &pid_file,
        ];
        let check = ["--health-cmd=test -e /here", "--health-interval=disable"];
        let script = "echo said; >/tmp/x; exec sleep 1000";
        let words = [&run[..], flags, &check, &[&image, "sh", "-c", script]].concat();
        env.kelp(&words).succeeds();
        let kelp = |words: &[&str]| env.kelp(words).done();
        crate::kelp::wait_until("it speaks", || {
            kelp(&["logs", name]).stdout.trim_end() == "said"
        });
        assert_eq!(kelp(&["healthcheck", "run", name]).code, 1, "{name}");
        let touch = ["exec", "-u0", name, "sh", "-c", ">/here; echo entered"];
        assert_eq!(kelp(&touch).stdout, "entered\n", "{name}");
        assert_eq!(kelp(&["healthcheck", "run", name]).code, 0, "{name}");
        assert_eq!(kelp(&["exec", "-d", name, "true"]).code, 0, "{name}");
        kelp(&["top", name, "pid"]).exits(0);
        kelp(&["cp", &format!("{name}:/here"), "-"]).exits(0);
        kelp(&["stats", "--no-stream", name]).exits(0);
        // Whoever joins this one.
        let names = format!("--uts=container:{name}");
        let run = ["run", "--rm", "--network=none", &names, &image, "true"];
        kelp(&run).exits(0);
        kelp(&["stop", "-t1", name]).exits(0);
        kelp(&["start", name]).exits(0);
        if name == "init" {
            // A monitor that answers nobody.
            let monitor = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
            kill_process(Pid::from_raw(monitor).unwrap(), Signal::STOP).unwrap();
        }
        kelp(&["rm", "-f", "-t0", name]).exits(0);
        assert_eq!(processes_of(&env, "one"), ["sh", "sleep"], "{name}");
    }
    env.kelp(&["rm", "-f", "-t0", "one"]).succeeds();
}

#[test]
fn it_joins_with_any_ids_in_a_pod_and_by_any_runtime() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    start(&env, "keeps", &["--userns=keep-id"]);
    start(&env, "one", &[]);
    env.kelp(&["pod", "create", "--share=pid", "--network=none", "crew"])
        .succeeds();
    for (name, flags, expected) in [
        (
            "ids",
            &["--pid=container:keeps", "--userns=container:keeps"][..],
            2,
        ),
        ("member", &["--pod=crew"], 2),
        ("foreign", &["--pid=container:one", "--runtime=crun"], 2),
    ] {
        let run = ["run", "-d", "--network=none", "--name", name];
        let words = [&run[..], flags, &[&image, "sleep", "1000"]].concat();
        env.kelp(&words).succeeds();
        let count = processes_of(&env, name).len();
        // Beside the shell that counts.
        assert_eq!(count, expected + 1, "{name}");
        env.kelp(&["stop", "-t0", name]).succeeds();
        env.kelp(&["rm", name]).succeeds();
    }
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
    env.kelp(&["rm", "-f", "-t0", "one", "keeps"]).succeeds();
}
