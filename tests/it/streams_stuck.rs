//! Streams that somebody does not read: nobody else is held up for it, and nothing is lost.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, Signal, kill_process};

use crate::env::Env;
use crate::kelp::{Kelp, LIMIT, collect, many_lines, state_of, wait, wait_status};
use crate::terminal::Terminal;

/// More than the pipes on the way of an input hold.
const MUCH: usize = 300_000;

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
}

/// A command whose output is not read beyond its first line.
fn unread(kelp: Kelp) -> (Child, BufReader<ChildStdout>) {
    let mut child = kelp.start();
    drop(child.stdin.take());
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "y\n");
    (child, output)
}

/// What the monitor of a container has written of it: its own process.
fn monitor(env: &Env, id: &str) -> Pid {
    let path = env.path(&format!("r/kelp/c/{id}/run.json"));
    let run: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    Pid::from_raw(run["monitor"].as_i64().unwrap() as i32).unwrap()
}

/// Writes more to its output than any pipe holds, and only then reads its input.
const TALKS_FIRST: &str = "seq 1 500000; wc -c";

fn talks_first(output: &str) {
    let end = format!("\n500000\n{MUCH}\n");
    assert!(output.ends_with(&end), "{} bytes", output.len());
}

#[test]
fn a_program_may_write_much_before_it_reads() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let input = vec![b'x'; MUCH];
    let run = ["run", "--rm", "-i", &image, "sh", "-c", TALKS_FIRST];
    talks_first(&env.kelp(&run).input(&input).succeeds());
    env.kelp(&["run", "-d", "--name=web", &image, "sleep", "1000"])
        .succeeds();
    let exec = ["exec", "-i", "web", "sh", "-c", TALKS_FIRST];
    talks_first(&env.kelp(&exec).input(&input).succeeds());
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
}

#[test]
fn signals_are_passed_on_though_the_input_is_not_read() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = env
        .kelp(&["run", "--rm", "-i", &image, "sh", "-c", script])
        .start();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    // Each of three pipes holds 64 KiB; what does not return fills them all.
    input.write_all(&vec![b'x'; 160 * 1024]).unwrap();
    let rest = thread::spawn(move || drop(input.write_all(&vec![b'x'; MUCH])));
    signal(&child, Signal::TERM);
    assert_eq!(wait(&mut child, "run -i"), 9);
    rest.join().unwrap();
}

#[test]
fn signals_are_passed_on_though_the_output_is_not_read() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "trap 'exit 9' TERM; yes & while :; do sleep 0.05; done";
    let (mut child, output) = unread(env.kelp(&["run", "--name=web", &image, "sh", "-c", script]));
    signal(&child, Signal::TERM);
    assert_eq!(env.kelp(&["wait", "web"]).succeeds(), "9\n");
    // And once there is nobody to pass them on to, they end the command.
    signal(&child, Signal::TERM);
    let ended = wait_status(&mut child, "run");
    let signal = std::os::unix::process::ExitStatusExt::signal(&ended);
    assert!(signal == Some(15) || ended.code() == Some(9), "{ended}");
    drop(output);
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn stop_and_rm_are_not_held_up_by_output_that_is_not_read() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (driver, end) in [
        ("k8s-file", &["stop", "-t", "1", "talker"][..]),
        ("none", &["stop", "-t", "1", "talker"]),
        ("k8s-file", &["rm", "-f", "-t", "1", "talker"]),
    ] {
        let driver = format!("--log-driver={driver}");
        let (mut child, mut output) =
            unread(env.kelp(&["run", "--name=talker", &driver, &image, "yes"]));
        // A warning says that it did not hear.
        env.kelp(end).done().exits(0);
        if end[0] == "stop" {
            let status = env.kelp(&["ps", "-a", "--format", "{{.State}}"]).succeeds();
            assert_eq!(status, "exited\n");
        }
        // The client was slow, not gone: it gets everything.
        let mut text = String::from("y\n");
        output.read_to_string(&mut text).unwrap();
        assert!(text.len() > 1 << 19 && text.lines().all(|line| line == "y"));
        assert_eq!(wait(&mut child, "run"), 137);
        if driver.ends_with("k8s-file") && end[0] == "stop" {
            let logged = env.kelp(&["logs", "talker"]).succeeds();
            assert!(logged == text, "{} of {}", text.len(), logged.len());
        }
        if end[0] == "stop" {
            env.kelp(&["rm", "talker"]).succeeds();
        }
    }
}

#[test]
fn a_program_may_read_its_own_output() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    // Who gets a line is chance; that both go on is not.
    let script = "cat /proc/1/fd/1 >/dev/null & i=0; while test $i -lt 3000; do echo line; i=$((i + 1)); done
                  kill $!; exit 7";
    let run = [
        "run",
        "--name=reader",
        "--network=none",
        &image,
        "sh",
        "-c",
        script,
    ];
    let done = env.kelp(&run).done();
    assert_eq!((done.code, done.stderr.as_str()), (7, ""));
    assert!(done.stdout.lines().all(|line| line == "line"));
    env.kelp(&["rm", "reader"]).succeeds();
}

#[test]
fn one_of_two_clients_that_is_stopped_holds_nothing_up() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for by_signal in [false, true] {
        let run = ["run", "-d", "--name=web", "--stop-timeout=1", &image, "yes"];
        let id = env.kelp(&run).succeeds();
        let (mut other, output) = unread(env.kelp(&["attach", "web"]));
        let output = collect(output);
        let (mut frozen, rest) = unread(env.kelp(&["attach", "web"]));
        signal(&frozen, Signal::STOP);
        if by_signal {
            kill_process(monitor(&env, id.trim()), Signal::TERM).unwrap();
            assert_eq!(env.kelp(&["wait", "web"]).succeeds(), "137\n");
        } else {
            env.kelp(&["stop", "-t", "1", "web"]).done().exits(0);
        }
        assert_eq!(wait(&mut other, "attach"), 137);
        output.recv_timeout(LIMIT).unwrap();
        env.kelp(&["rm", "web"]).succeeds();
        signal(&frozen, Signal::CONT);
        let rest = collect(rest);
        assert_eq!(wait(&mut frozen, "attach"), 137);
        rest.recv_timeout(LIMIT).unwrap();
    }
}

#[test]
fn who_has_not_started_a_program_holds_it_up_for_a_while_only() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "head -n 1; yes | head -n 2000000";
    env.kelp(&["run", "-di", "--name=web", &image, "sh", "-c", script])
        .succeeds();
    let mut child = env.kelp(&["attach", "web"]).start();
    child.stdin.take().unwrap().write_all(b"y\n").unwrap();
    assert_eq!(env.kelp(&["wait", "web"]).succeeds(), "0\n");
    let lines = env.kelp(&["logs", "web"]).succeeds().lines().count();
    assert_eq!(lines, 2_000_001);
    let output = collect(child.stdout.take().unwrap());
    let errors = collect(child.stderr.take().unwrap());
    assert_eq!(wait(&mut child, "attach"), 125);
    output.recv_timeout(LIMIT).unwrap();
    let errors = String::from_utf8(errors.recv_timeout(LIMIT).unwrap()).unwrap();
    assert_eq!(
        errors,
        "Error: move the container's streams: the container's output was not read for 10 seconds\n"
    );
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn a_time_limit_holds_for_a_terminal_that_is_not_read() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let words = ["run", "--name=web", "-t", "--timeout=1", &image, "yes"];
    let mut terminal = Terminal::start(env.kelp(&words));
    terminal.expect("y\r\n");
    assert_eq!(env.kelp(&["wait", "web"]).succeeds(), "255\n");
    assert_eq!(terminal.finish().0, 255);
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn a_time_limit_holds_for_a_program_that_never_pauses() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let done = env
        .kelp(&[
            "run",
            "--rm",
            "--timeout=1",
            "--log-driver=none",
            &image,
            "yes",
        ])
        .into_command()
        .stdout(Stdio::null())
        .spawn();
    assert_eq!(wait(&mut done.unwrap(), "run --timeout"), 255);
}

#[test]
fn what_is_typed_and_not_read_holds_nothing_up() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "stty raw -echo; echo ready; exec sleep 1000";
    for end in [
        &["stop", "-t", "0", "web"][..],
        &["rm", "-f", "-t", "0", "web"],
    ] {
        let words = ["run", "-it", "--name=web", &image, "sh", "-c", script];
        let mut terminal = Terminal::start(env.kelp(&words));
        terminal.expect("ready");
        terminal.send(&vec![b'x'; MUCH]);
        env.kelp(end).succeeds();
        assert_eq!(terminal.finish().0, 137);
        if end[0] == "stop" {
            env.kelp(&["rm", "web"]).succeeds();
        }
    }
}

#[test]
fn detach_keys_are_heard_though_the_program_does_not_read() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "stty raw -echo; echo ready; exec sleep 1000";
    let words = ["run", "-it", "--name=web", &image, "sh", "-c", script];
    let mut terminal = Terminal::start(env.kelp(&words));
    terminal.expect("ready");
    terminal.send(&vec![b'x'; MUCH]);
    terminal.send(b"\x10\x11");
    assert_eq!(terminal.finish().0, 0);
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
}

#[test]
fn what_is_typed_before_it_is_read_arrives_whole() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "stty raw -echo; trap go=1 USR1; echo ready; \
                  until [ \"$go\" ]; do sleep 0.05; done; head -c 300000 | md5sum";
    let words = ["run", "-it", "--name=web", &image, "sh", "-c", script];
    let mut terminal = Terminal::start(env.kelp(&words));
    terminal.expect("ready");
    let text = &many_lines().into_bytes()[..MUCH];
    terminal.send(text);
    env.kelp(&["kill", "-s", "USR1", "web"]).succeeds();
    let (code, output) = terminal.finish();
    let mut md5sum = Command::new("md5sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    md5sum.stdin.take().unwrap().write_all(text).unwrap();
    let expected = String::from_utf8(md5sum.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!((code, output.trim()), (0, expected.trim()));
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn a_terminal_that_the_program_closes_and_opens_again_is_the_same() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "exec </dev/null >/dev/null 2>&1; i=0; \
                  while [ $i -lt 300 ]; do echo $i >/dev/console; i=$((i + 1)); done; exit 4";
    let done = env
        .kelp(&["run", "--name=web", "-t", &image, "sh", "-c", script])
        .done();
    let mut lines: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    lines.push(String::new());
    let expected = lines.join("\r\n");
    assert_eq!((done.code, done.stdout.as_str()), (4, expected.as_str()));
    assert_eq!(env.kelp(&["logs", "web"]).succeeds(), expected);
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn a_named_pipe_is_no_log() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let path = env.path("h/pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    let option = format!("path={}", path.display());
    let line = env
        .kelp(&["run", "--rm", "--log-opt", &option, &image, "true"])
        .fails(125);
    assert_eq!(
        line,
        format!(
            "Error: open log {}: the log is not a regular file",
            path.display()
        )
    );
}

/// A connection to a monitor; `None` if as many wait there as may.
pub(crate) fn knock(address: &SocketAddrUnix) -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    match connect(&socket, address) {
        Ok(()) => Some(socket),
        Err(Errno::AGAIN) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_monitor_without_free_descriptors_sleeps_and_serves_who_comes_later() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = ["run", "-d", "--name=web", &image, "sleep", "1000"];
    let id = env.kelp_after("ulimit -Sn 64", &run).succeeds();
    let id = id.trim();
    let address = SocketAddrUnix::new(env.path(&format!("r/kelp/c/{id}/sock"))).unwrap();
    let monitor = monitor(&env, id).as_raw_nonzero().get().unsigned_abs();
    let sleeps = || state_of(monitor) == Some('S');
    // The queue is filled when it has stayed full while the monitor went to sleep.
    let mut clients = Vec::new();
    let end = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < end, "the monitor goes on and on");
        match knock(&address) {
            Some(client) => clients.push(client),
            None if sleeps() => break,
            // Nothing tells when another process goes to sleep.
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
    assert!(clients.len() > 20, "{} clients", clients.len());
    drop(clients);
    env.kelp(&["attach", "--no-stdin", "--sig-proxy=false", "web"])
        .start()
        .kill()
        .unwrap();
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
}
