//! `--sdnotify`: what the service manager is told of a container.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::archive::{Layer, noise};
use crate::env::Env;
use crate::image::Image;
use crate::kelp::{Kelp, LIMIT, around, wait_status};
use crate::slow_proxy::SlowProxy;

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
fn a_manager_that_can_not_be_told_is_no_obstacle() {
    let Some(env) = Env::new() else { return };
    let nowhere = env.path("h/nowhere");
    let done = run(&env, &nowhere, &["--name=alone", "--sdnotify=conmon"]).done();
    assert_eq!(done.code, 0, "{done:#?}");
    assert!(
        done.stderr.contains(
            "Warning: tell the service manager that the container runs: no such file or directory; NOTIFY_SOCKET"
        ),
        "{done:#?}"
    );
    env.kelp(&["rm", "-f", "-t", "0", "alone"]).succeeds();
    let words = ["run", "--sdnotify=sometimes", "none"];
    assert_eq!(
        env.kelp(&words).fails(125),
        "Error: invalid --sdnotify \"sometimes\": use conmon or ignore or container or healthy"
    );
}

/// A manager, and what it is told next.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self { socket }
    }

    fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

fn monitor(env: &Env, name: &str) -> String {
    let shown = env.kelp(&["inspect", "-f", "{{.State.ConmonPid}}", name]);
    shown.succeeds().trim().to_owned()
}

#[test]
fn the_main_process_is_no_child_of_a_command_that_waits() {
    let Some(env) = Env::new() else { return };
    let path = env.path("h/manager");
    let manager = Manager::new(&path);
    let image = env.busybox();
    let words = ["run", "--name=told", "--sdnotify=conmon", &image];
    let mut command = env
        .kelp(&[&words[..], &["sleep", "1000"]].concat())
        .into_command();
    command.env("NOTIFY_SOCKET", &path);
    let mut run = Kelp::new(command).start();
    // A manager looks at this moment whether the process is its own child.
    let told = manager.hears();
    let main = told.strip_prefix("MAINPID=").unwrap();
    let main = main.lines().next().unwrap();
    let status = fs::read_to_string(format!("/proc/{main}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    assert_ne!(parent, Some(run.id().to_string().as_str()), "{status}");
    assert_eq!(main, monitor(&env, "told"));
    env.kelp(&["rm", "-f", "-t", "0", "told"]).succeeds();
    wait_status(&mut run, "");
}

#[test]
fn a_service_is_ready_once_it_is_healthy() {
    let Some(env) = Env::new() else { return };
    let path = env.path("h/manager");
    let manager = Manager::new(&path);
    let flags = [
        "--name=web",
        "--sdnotify=healthy",
        "--health-cmd=[ -e /tmp/ok ]",
        "--health-interval=50ms",
        "--health-retries=1",
    ];
    run(&env, &path, &flags).succeeds();
    assert_eq!(
        manager.hears(),
        format!(
            "MAINPID={}\nSTATUS=container web runs and is not healthy yet",
            monitor(&env, "web")
        )
    );
    let states = |state| {
        let condition = format!("--condition={state}");
        env.kelp(&["wait", &condition, "web"]).succeeds();
    };
    states("unhealthy");
    env.kelp(&["exec", "web", "touch", "/tmp/ok"]).succeeds();
    assert_eq!(manager.hears(), "READY=1\nSTATUS=container web is healthy");
    // That is said once.
    env.kelp(&["exec", "web", "rm", "/tmp/ok"]).succeeds();
    states("unhealthy");
    env.kelp(&["exec", "web", "touch", "/tmp/ok"]).succeeds();
    states("healthy");
    manager.socket.set_nonblocking(true).unwrap();
    assert!(manager.socket.recv(&mut [0; 64]).is_err());
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
    // In the first run, or in a later one.
    manager.socket.set_nonblocking(false).unwrap();
    let flags = [
        "--name=late",
        "--sdnotify=healthy",
        "--health-cmd=[ -e /tmp/first ]",
        "--health-interval=50ms",
        "--health-retries=1",
        "--health-on-failure=restart",
        "--stop-timeout=0",
    ];
    let image = env.busybox();
    let script = "[ -e /tmp/once ] && : > /tmp/first; : > /tmp/once; exec sleep 1000";
    let words = [&["run", "-d"], &flags[..], &[&image, "sh", "-c", script]].concat();
    let mut command = env.kelp(&words).into_command();
    command.env("NOTIFY_SOCKET", &path);
    Kelp::new(command).succeeds();
    assert!(manager.hears().starts_with("MAINPID="));
    assert_eq!(manager.hears(), "READY=1\nSTATUS=container late is healthy");
    env.kelp(&["rm", "-f", "-t", "0", "late"]).succeeds();
    let line = run(&env, &path, &["--rm", "--sdnotify=healthy"]).fails(125);
    assert!(line.contains("needs a health check"), "{line}");
}

#[test]
fn a_program_tells_of_its_own_state_and_of_nothing_else() {
    let Some(env) = Env::new() else { return };
    let path = env.path("h/manager");
    let manager = Manager::new(&path);
    run(&env, &path, &["--name=web", "--sdnotify=container"]).succeeds();
    assert_eq!(
        manager.hears(),
        format!(
            "MAINPID={}\nSTATUS=container web runs and is not ready yet",
            monitor(&env, "web")
        )
    );
    let told = env.kelp(&["exec", "web", "sh", "-c", "echo $NOTIFY_SOCKET"]);
    assert_eq!(told.succeeds(), "/run/notify/notify.sock\n");
    let upper = env.kelp(&["inspect", "-f", "{{.Id}}", "web"]).succeeds();
    let record = env.path(&format!("d/kelp/containers/{}/notify", upper.trim()));
    let program = UnixDatagram::unbound().unwrap();
    // The same socket, by another name: its path is too long for an address.
    let directory = fs::File::open(record).unwrap();
    let address = format!("/proc/self/fd/{}/notify.sock", directory.as_raw_fd());
    program.send_to(b"MAINPID=1\nFDSTORE=1", &address).unwrap();
    program
        .send_to(b"READY=1\nMAINPID=1\nSTATUS=serving", &address)
        .unwrap();
    assert_eq!(manager.hears(), "READY=1\nSTATUS=serving");
    // Nobody in there may take the socket's place.
    let touch = ["exec", "web", "touch", "/run/notify/x"];
    env.kelp(&touch).done().exits(1);
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
    // How often it has to say that it lives it knows where that is asked of who starts it.
    let asks = |pid: &str| {
        let script = format!("export WATCHDOG_USEC=5000000 WATCHDOG_PID={pid}; exec \"$@\"");
        let image = env.busybox();
        let words = ["run", "--rm", "--sdnotify=container", &image, "env"];
        let mut command = around(
            &env.kelp(&words).into_command(),
            "sh",
            &["-c", &script, "sh"],
        );
        command.env("NOTIFY_SOCKET", &path);
        let seen = Kelp::new(command).succeeds();
        assert!(manager.hears().starts_with("MAINPID="));
        seen.lines().any(|line| line == "WATCHDOG_USEC=5000000")
    };
    assert!(asks("$$"));
    assert!(!asks("1"));
    // It is the usual way, where somebody asks.
    run(&env, &path, &["--name=usual"]).succeeds();
    assert!(manager.hears().starts_with("MAINPID="));
    env.kelp(&["rm", "-f", "-t", "0", "usual"]).succeeds();
}

#[test]
fn a_manager_that_does_not_read_holds_a_start_up_for_seconds_only() {
    let Some(env) = Env::new() else { return };
    let path = env.path("h/manager");
    let _manager = UnixDatagram::bind(&path).unwrap();
    let full = UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.send_to(b"STATUS=", &path).is_ok() {}
    let done = run(&env, &path, &["--name=alone", "--sdnotify=conmon"]).done();
    assert_eq!(done.code, 0, "{done:#?}");
    assert!(
        done.stderr
            .starts_with("Warning: tell the service manager that the container runs: "),
        "{done:#?}"
    );
    let state = env.kelp(&["inspect", "-f", "{{.State.Status}}", "alone"]);
    assert_eq!(state.succeeds(), "running\n");
    env.kelp(&["rm", "-f", "-t", "0", "alone"]).succeeds();
}

#[test]
fn a_pull_is_told_of() {
    let Some(env) = Env::new() else { return };
    let path = env.path("h/manager");
    let manager = Manager::new(&path);
    let image = env.busybox();
    env.kelp(&["rmi", &image]).succeeds();
    let pulling = |how: &str| {
        let flags = [
            "run",
            "-q",
            "--rm",
            "--network=none",
            "--tls-verify=false",
            how,
        ];
        let words = [&flags[..], &[&image, "true"]].concat();
        let mut command = env.kelp(&words).into_command();
        command.env("NOTIFY_SOCKET", &path);
        Kelp::new(command).succeeds();
    };
    pulling("--sdnotify=conmon");
    assert_eq!(manager.hears(), format!("STATUS=pulling {image}"));
    assert!(manager.hears().starts_with("MAINPID="));
    env.kelp(&["rmi", &image]).succeeds();
    pulling("--sdnotify=ignore");
    manager.socket.set_nonblocking(true).unwrap();
    assert!(manager.socket.recv(&mut [0; 64]).is_err());
}

#[test]
fn a_pull_asks_for_more_time_as_long_as_it_gets_on() {
    let Some(env) = Env::new() else { return };
    env.push("slow", &|| {
        let layer = Layer::default().file("noise", 0o644, &noise(1, 4 << 20));
        Image::busybox().layer(layer)
    });
    let path = env.path("h/manager");
    let manager = Manager::new(&path);
    let proxy = SlowProxy::start(&env.registry().address);
    let image = format!("{}/slow:latest", proxy.address);
    let mut command = env
        .kelp(&["pull", "-q", "--tls-verify=false", &image])
        .into_command();
    command.env("NOTIFY_SOCKET", &path);
    let mut pull = Kelp::new(command).start();
    // A registry that does not answer gets no more time than there is.
    proxy.wait_until_held(&mut pull);
    assert_eq!(manager.hears(), format!("STATUS=pulling {image}"));
    let pace = Duration::from_millis(200);
    manager.socket.set_read_timeout(Some(pace)).unwrap();
    let mut told = Vec::new();
    let mut buffer = [0; 4096];
    let begun = Instant::now();
    while told.len() < 2 {
        assert!(begun.elapsed() < LIMIT, "{told:?}");
        proxy.allow(20_000);
        proxy.wait_until_held(&mut pull);
        if let Ok(length) = manager.socket.recv(&mut buffer) {
            told.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
    for message in &told {
        let rest = message.strip_prefix("EXTEND_TIMEOUT_USEC=60000000\n");
        let rest = rest.and_then(|rest| rest.strip_prefix(&format!("STATUS=pulling {image}")));
        assert!(rest.is_some(), "{message}");
    }
    assert!(told[1].contains(" of "), "{told:?}");
    // Not at every step.
    assert!(begun.elapsed() >= Duration::from_secs(5), "{told:?}");
    proxy.allow(usize::MAX);
    assert_eq!(wait_status(&mut pull, "pull").code(), Some(0));
}
