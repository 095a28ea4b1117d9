//! `exec`: another process in a running container.

use crate::env::Env;
use crate::kelp::many_lines;
use crate::probe::Report;
use crate::terminal::Terminal;

/// A container to exec in, with a variable of its own.
fn start(env: &Env) {
    let image = env.busybox();
    let flags = [
        "run",
        "-d",
        "--name",
        "c",
        "-e",
        "OWN=1",
        "--hostname",
        "web",
        &image,
    ];
    env.kelp(&[&flags[..], &["sleep", "1000"]].concat())
        .succeeds();
}

fn end(env: &Env) {
    env.kelp(&["rm", "-f", "-t", "0", "c"]).succeeds();
}

#[test]
fn its_exit_codes_are_those_of_run() {
    let Some(env) = Env::new() else { return };
    start(&env);
    for code in [0, 7, 255] {
        let script = format!("exit {code}");
        env.kelp(&["exec", "c", "sh", "-c", &script])
            .done()
            .exits(code);
    }
    env.kelp(&["exec", "c", "no-such-program"]).fails(127);
    env.kelp(&["exec", "c", "/etc/passwd"]).fails(126);
    env.kelp(&["exec", "nobody", "true"]).fails(125);
    // Not process 1, so a signal's default action is taken.
    env.kelp(&["exec", "c", "sh", "-c", "kill -TERM $$"])
        .done()
        .exits(143);
    end(&env);
}

#[test]
fn it_is_in_the_container_with_what_the_container_has() {
    let Some(env) = Env::new() else { return };
    start(&env);
    let inside = Report::parse(
        &env.kelp(&["exec", "-e", "MORE=2", "c", "kelp-probe"])
            .succeeds(),
    );
    assert_eq!(
        inside.environment(),
        [
            "HOME=/root",
            "HOSTNAME=web",
            "MORE=2",
            "OWN=1",
            "PATH=/usr/bin:/bin",
            "container=podman"
        ]
    );
    let descriptors = inside.get("/descriptors").as_object().unwrap();
    assert_eq!(
        descriptors.keys().collect::<Vec<_>>(),
        ["0", "1", "2"],
        "{descriptors:#?}"
    );
    assert_eq!(inside.capabilities("bounding"), 0x8004_05fb);
    assert_eq!(inside.capabilities("effective"), 0x8004_05fb);
    assert_eq!(inside.capabilities("inheritable"), 0);
    assert_eq!(inside.get("/security/seccomp"), 2);
    let namespaces = env
        .kelp(&[
            "exec",
            "c",
            "sh",
            "-c",
            "for link in /proc/1/ns/* /proc/self/ns/*; do readlink $link; done",
        ])
        .succeeds();
    let lines: Vec<&str> = namespaces.lines().collect();
    let (first, own) = lines.split_at(lines.len() / 2);
    assert_eq!(first, own);
    end(&env);
}

#[test]
fn user_and_directory_are_its_own() {
    let Some(env) = Env::new() else { return };
    start(&env);
    let arguments = [
        "exec",
        "-u",
        "user",
        "-w",
        "/tmp",
        "c",
        "sh",
        "-c",
        "id -u; pwd; echo $HOME",
    ];
    assert_eq!(env.kelp(&arguments).succeeds(), "1000\n/tmp\n/home/user\n");
    end(&env);
}

#[test]
fn its_streams_arrive_whole() {
    let Some(env) = Env::new() else { return };
    start(&env);
    let sent = many_lines();
    let received = env
        .kelp(&["exec", "-i", "c", "cat"])
        .input(sent.as_bytes())
        .succeeds();
    assert!(
        sent == received,
        "{} of {} bytes",
        received.len(),
        sent.len()
    );
    let none = env
        .kelp(&["exec", "c", "cat"])
        .input(b"not for it")
        .succeeds();
    assert_eq!(none, "");
    let done = env
        .kelp(&["exec", "c", "sh", "-c", "echo out; echo err >&2"])
        .done();
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("out\n", "err\n")
    );
    end(&env);
}

#[test]
fn a_terminal_is_one() {
    let Some(env) = Env::new() else { return };
    start(&env);
    let mut terminal = Terminal::start(env.kelp(&["exec", "-it", "c", "sh"]));
    terminal.send(b"tty; stty size\n");
    terminal.expect("/dev/pts/0\r\n24 80\r\n");
    terminal.send(b"exit 6\n");
    assert_eq!(terminal.finish().0, 6);
    end(&env);
}

#[test]
fn in_the_background_it_outlives_the_command() {
    let Some(env) = Env::new() else { return };
    start(&env);
    let id = env
        .kelp(&[
            "exec",
            "-d",
            "c",
            "sh",
            "-c",
            "mkfifo /pipe; echo done > /pipe",
        ])
        .succeeds();
    assert_eq!(id.trim().len(), 64, "{id}");
    let script = "while ! test -p /pipe; do sleep 0.05; done; cat /pipe";
    assert_eq!(
        env.kelp(&["exec", "c", "sh", "-c", script]).succeeds(),
        "done\n"
    );
    end(&env);
}

#[test]
fn a_container_that_does_not_run_has_no_exec() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["create", "--name", "c", &image]).succeeds();
    let line = env.kelp(&["exec", "c", "true"]).fails(125);
    assert!(
        line.contains("not running") || line.contains("created"),
        "{line}"
    );
    end(&env);
}
