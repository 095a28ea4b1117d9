//! Descriptors that a program is started with: `--preserve-fds`, and sockets of whoever starts kelp.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::env::Env;
use crate::kelp::Kelp;

/// Has a shell execute kelp with these words, after this, with a socket as its standard input.
fn through_shell(env: &Env, before: &str, words: &[&str]) -> Kelp {
    let kelp = env.kelp(words).into_command();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before} exec \"$0\" \"$@\"")]);
    shell.arg(kelp.get_program()).args(kelp.get_args());
    for (name, value) in kelp.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    shell.stdin(Stdio::from(OwnedFd::from(listener)));
    Kelp::new(shell)
}

const OPENED: &str =
    "exec 3<&0 4<&0 </dev/null; export LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=web:admin;";

const TELL: &str = "echo $LISTEN_FDS $LISTEN_PID $$ $LISTEN_FDNAMES; \
    for fd in 3 4 5; do readlink /proc/self/fd/$fd | cut -d: -f1; done";

#[test]
fn a_program_gets_the_sockets_that_were_opened_for_it() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = ["run", "--rm", "--network=none"];
    for (flags, pid) in [(&[][..], 1), (&["--init"], 2)] {
        let words = [&run[..], flags, &[&image, "sh", "-c", TELL]].concat();
        let told = through_shell(&env, OPENED, &words).succeeds();
        assert_eq!(
            told,
            format!("2 {pid} {pid} web:admin\nsocket\nsocket\n"),
            "{flags:?}"
        );
    }
    // Those that are another's are not.
    let others = OPENED.replace("$$", "1");
    let words = [&run[..], &[&image, "sh", "-c", TELL]].concat();
    assert_eq!(through_shell(&env, &others, &words).succeeds(), "1\n");
    // It has them again when it is started again.
    let flags = [
        "run",
        "-d",
        "--name=again",
        "--network=none",
        "--restart=on-failure:1",
    ];
    let script = format!("{TELL}; exit 1");
    let words = [&flags[..], &[&image, "sh", "-c", &script]].concat();
    through_shell(&env, OPENED, &words).succeeds();
    env.kelp(&["wait", "--condition=exited", "again"])
        .succeeds();
    env.kelp(&["wait", "again"]).succeeds();
    let once = "2 1 1 web:admin\nsocket\nsocket\n";
    assert_eq!(env.kelp(&["logs", "again"]).succeeds(), once.repeat(2));
    env.kelp(&["rm", "again"]).succeeds();
    // They are not for a container that is started because this one needs it.
    let create = [
        "create",
        "--network=none",
        "--name=db",
        &image,
        "sh",
        "-c",
        TELL,
    ];
    env.kelp(&create).succeeds();
    let words = [&run[..], &["--requires=db", &image, "sh", "-c", TELL]].concat();
    assert_eq!(through_shell(&env, OPENED, &words).succeeds(), once);
    env.kelp(&["wait", "db"]).succeeds();
    assert_eq!(env.kelp(&["logs", "db"]).succeeds(), "1\n");
    env.kelp(&["rm", "db"]).succeeds();
}

#[test]
fn descriptors_are_passed_on_where_that_is_asked_for() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let open = "exec 3<<end\nthe text\nend\n";
    let run = ["run", "--rm", "--network=none"];
    let cat = ["sh", "-c", "cat <&3"];
    let words = [&run[..], &["--preserve-fds=1", &image], &cat].concat();
    assert_eq!(through_shell(&env, open, &words).succeeds(), "the text\n");
    let words = [&run[..], &[&image], &cat].concat();
    through_shell(&env, open, &words).done().exits(1);
    let line = env
        .kelp(&[&run[..], &["--preserve-fds=9", &image, "true"]].concat())
        .fails(125);
    assert!(line.contains("is not open: --preserve-fds"), "{line}");
    env.kelp(&[
        "run",
        "-d",
        "--name=web",
        "--network=none",
        &image,
        "sleep",
        "1000",
    ])
    .succeeds();
    let words = [&["exec", "--preserve-fds=1", "web"][..], &cat].concat();
    assert_eq!(through_shell(&env, open, &words).succeeds(), "the text\n");
    let line = through_shell(
        &env,
        open,
        &["exec", "-d", "--preserve-fds=1", "web", "true"],
    );
    let line = line.fails(125);
    assert!(line.contains("can't be combined with --detach"), "{line}");
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
}
