//! `--sdnotify`: what the service manager is told of a container.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::env::Env;
use crate::kelp::{Kelp, LIMIT};

fn run(env: &Env, manager: &Path, flags: &[&str]) -> Kelp {
    let image = env.busybox();
    let words = [&["run", "-d"], flags, &[&image, "sleep", "1000"]].concat();
    let mut command = env.kelp(&words).into_command();
    command.env("NOTIFY_SOCKET", manager);
    Kelp::new(command)
}

#[test]
fn the_monitor_says_that_the_program_runs_and_that_it_is_the_main_process() {
    let Some(env) = Env::new() else { return };
    let path = env.path("h/manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    run(&env, &path, &["--name=told", "--sdnotify=conmon"]).succeeds();
    let mut buffer = [0; 4096];
    let length = manager.recv(&mut buffer).unwrap();
    let format = "{{.State.ConmonPid}} {{.Config.sdNotifyMode}}";
    let shown = env.kelp(&["inspect", "-f", format, "told"]).succeeds();
    let (monitor, mode) = shown.trim().split_once(' ').unwrap();
    assert_eq!(mode, "conmon");
    assert_eq!(
        String::from_utf8_lossy(&buffer[..length]),
        format!("MAINPID={monitor}\nREADY=1\nSTATUS=container told runs")
    );
    // It would be told before the command ends.
    run(&env, &path, &["--name=quiet", "--sdnotify=ignore"]).succeeds();
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut buffer).is_err());
    env.kelp(&["rm", "-f", "-t", "0", "told", "quiet"])
        .succeeds();
}

#[test]
fn a_manager_that_can_not_be_told_is_an_error_and_nothing_runs() {
    let Some(env) = Env::new() else { return };
    let nowhere = env.path("h/nowhere");
    let line = run(&env, &nowhere, &["--rm", "--sdnotify=conmon"]).fails(125);
    assert_eq!(
        line,
        "Error: tell the service manager that the container runs: no such file or directory"
    );
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
    let words = ["run", "--sdnotify=sometimes", "none"];
    assert_eq!(
        env.kelp(&words).fails(125),
        "Error: invalid --sdnotify \"sometimes\": use conmon or ignore or container or healthy"
    );
}
