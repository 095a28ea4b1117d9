//! `run`: standard streams, terminals, signals.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::env::Env;
use crate::kelp::{many_lines, wait};
use crate::terminal::Terminal;

#[test]
fn output_and_errors_are_apart() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let done = env
        .kelp(&["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2"])
        .done();
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn without_i_there_is_no_input() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let kelp = env
        .kelp(&["run", "--rm", &image, "cat"])
        .input(b"not for the container");
    assert_eq!(kelp.succeeds(), "");
}

#[test]
fn input_and_output_arrive_whole() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let sent = many_lines();
    let received = env
        .kelp(&["run", "--rm", "-i", &image, "cat"])
        .input(sent.as_bytes())
        .succeeds();
    assert!(
        sent == received,
        "{} of {} bytes",
        received.len(),
        sent.len()
    );
}

#[test]
fn the_last_line_is_never_lost() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for _ in 0..10 {
        let text = env
            .kelp(&["run", "--rm", &image, "seq", "1", "20000"])
            .succeeds();
        assert!(text.ends_with("\n20000\n"), "{} bytes", text.len());
    }
}

#[test]
fn a_process_left_in_the_background_holds_nothing_up() {
    let Some(env) = Env::new() else { return };
    let begin = Instant::now();
    assert_eq!(env.shell(&[], "sleep 1000 & echo done"), "done\n");
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_terminal_is_one() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script =
        "tty; stty size; echo $TERM; test -t 0 && test -t 1 && test -t 2 && echo all; exit 3";
    let terminal = Terminal::start(env.kelp(&["run", "--rm", "-it", &image, "sh", "-c", script]));
    let (code, text) = terminal.finish();
    assert_eq!(
        (code, text.as_str()),
        (3, "/dev/pts/0\r\n24 80\r\nxterm\r\nall\r\n")
    );
}

#[test]
fn what_is_typed_arrives_and_interrupts() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let mut terminal = Terminal::start(env.kelp(&["run", "--rm", "-it", &image, "sh"]));
    terminal.send(b"echo $((6 * 7))\n");
    terminal.expect("42\r\n");
    // By a process that has the terminal already: the shell would keep the interrupt for itself.
    terminal.send(b"sh -c 'echo going; exec sleep 1000'\n");
    terminal.expect("going\r\n");
    terminal.send(b"\x03");
    // The shell throws away what is typed before it asks again.
    terminal.expect("# ");
    terminal.send(b"echo back; exit 5\n");
    terminal.expect("back\r\n");
    assert_eq!(terminal.finish().0, 5);
}

#[test]
fn the_windows_size_follows() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut terminal =
        Terminal::start(env.kelp(&["run", "--rm", "-it", &image, "sh", "-c", script]));
    terminal.expect("ready\r\n");
    terminal.resize(100, 40);
    terminal.expect("40 100\r\n");
    assert_eq!(terminal.finish().0, 0);
}

#[test]
fn lines_end_once_where_nothing_is_typed() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let terminal = Terminal::start(env.kelp(&["run", "--rm", "-t", &image, "echo", "x"]));
    assert_eq!(terminal.finish(), (0, "x\r\n".to_owned()));
    // A signal that is not passed on ends the command; the terminal is left as it was.
    let words = [
        "run",
        "--rm",
        "--name=web",
        "--sig-proxy=false",
        "-t",
        &image,
        "sh",
        "-c",
        "echo go; sleep 1000",
    ];
    let mut terminal = Terminal::start(env.kelp(&words));
    terminal.expect("go\r\n");
    terminal.send(b"\x03");
    assert_eq!(terminal.end().signal(), Some(2));
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
}

#[test]
fn a_terminal_is_passed_through_only_where_that_is_said() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let said = "Error: the '--log-driver passthrough' option cannot be used on a TTY. If you really \
                want it, use '--log-driver passthrough-tty'\r\n";
    let driver = "--log-driver=passthrough";
    for flags in [&["run", driver][..], &["run", "-d", "--rm", driver]] {
        let words = [flags, &[&image, "cat"]].concat();
        let terminal = Terminal::start(env.kelp(&words));
        assert_eq!(terminal.finish(), (125, said.to_owned()));
    }
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
    env.kelp(&["create", driver, "--name=web", &image, "echo", "through"])
        .succeeds();
    let start = ["start", "-a", "web"];
    let terminal = Terminal::start(env.kelp(&start));
    assert_eq!(terminal.finish(), (125, said.to_owned()));
    assert_eq!(env.kelp(&start).succeeds(), "through\n");
    env.kelp(&["rm", "web"]).succeeds();
    let flags = ["run", "--rm", "--log-driver=passthrough-tty", &image];
    let words = [&flags[..], &["sh", "-c", "test -t 0 && echo terminal"]].concat();
    let terminal = Terminal::start(env.kelp(&words));
    assert_eq!(terminal.finish(), (0, "terminal\r\n".to_owned()));
}

#[test]
fn a_terminal_is_had_without_one_too() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let done = env.kelp(&["run", "--rm", "-t", &image, "tty"]).done();
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "/dev/pts/0\r\n"),
        "{done:#?}"
    );
}

#[test]
fn detach_keys_leave_the_container_running() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let kelp = env.kelp(&["run", "-it", "--name", "left", &image, "sh"]);
    let mut terminal = Terminal::start(kelp);
    terminal.send(b"echo re''ady\n");
    terminal.expect("ready\r\n");
    terminal.send(b"\x10\x11");
    assert_eq!(terminal.finish().0, 0);
    let running = env.kelp(&["ps", "--format", "{{.Names}}"]).succeeds();
    assert_eq!(running, "left\n");
    env.kelp(&["rm", "-f", "-t", "0", "left"]).succeeds();
}

#[test]
fn keys_that_detach_are_the_flags_the_containers_or_the_configured_ones() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let detach = |words: &[&str], keys: &[u8]| {
        let mut terminal = Terminal::start(env.kelp(words));
        terminal.send(b"echo re''ady\n");
        terminal.expect("ready\r\n");
        terminal.send(keys);
        assert_eq!(terminal.finish().0, 0, "{words:?}");
    };
    let create = ["create", "-it", "--detach-keys=ctrl-x,x", "--name=own"];
    env.kelp(&[&create[..], &[&image, "sh"]].concat())
        .succeeds();
    let create = ["create", "-it", "--name=other", &image, "sh"];
    env.kelp(&create).succeeds();
    // After they were made.
    let conf = env.path("c/containers/containers.conf");
    std::fs::write(conf, "[engine]\ndetach_keys = 'ctrl-e'\n").unwrap();
    for (name, keys) in [("own", &b"\x18x"[..]), ("other", b"\x05")] {
        detach(&["start", "-ai", name], keys);
        detach(&["attach", name], keys);
        detach(&["exec", "-it", name, "sh"], keys);
        detach(&["attach", "--detach-keys=ctrl-y", name], b"\x19");
    }
    let running = env.kelp(&["ps", "--format={{.Names}}"]).succeeds();
    assert_eq!(running, "own\nother\n");
    env.kelp(&["rm", "-f", "-t0", "own", "other"]).succeeds();
}

#[test]
fn signals_are_passed_on() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = env
        .kelp(&["run", "--rm", &image, "sh", "-c", script])
        .start();
    drop(child.stdin.take());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "caught");
    assert_eq!(wait(&mut child, "run"), 9);
}

#[test]
fn signals_are_passed_on_from_a_terminal_too() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "trap 'echo caught; exit 5' TERM INT
        echo ready; while read line; do echo \"<$line>\"; done
        while :; do sleep 0.05; done";
    let kill = |terminal: &Terminal| {
        kill_process(Pid::from_raw(terminal.pid()).unwrap(), Signal::TERM).unwrap();
    };
    let run = ["run", "--name=web", "-it", &image, "sh", "-c", script];
    let mut terminal = Terminal::start(env.kelp(&run));
    terminal.expect("ready\r\n");
    terminal.send(b"typed\n");
    terminal.expect("<typed>\r\n");
    kill(&terminal);
    terminal.expect("caught\r\n");
    assert_eq!(terminal.finish().0, 5);
    for start in [true, false] {
        let words = if start {
            &["start", "-ai", "web"][..]
        } else {
            env.kelp(&["start", "web"]).succeeds();
            &["attach", "--sig-proxy=true", "web"]
        };
        let mut terminal = Terminal::start(env.kelp(words));
        terminal.send(b"typed\n");
        terminal.expect("<typed>\r\n");
        kill(&terminal);
        terminal.expect("caught\r\n");
        assert_eq!(terminal.finish().0, 5, "{words:?}");
    }
    env.kelp(&["start", "web"]).succeeds();
    let words = ["attach", "--sig-proxy=false", "web"];
    let mut terminal = Terminal::start(env.kelp(&words));
    terminal.send(b"typed\n");
    terminal.expect("<typed>\r\n");
    kill(&terminal);
    assert_eq!(terminal.end().signal(), Some(15));
    env.kelp(&["rm", "-f", "-t0", "web"]).succeeds();
    // Nothing is typed for the container: the own terminal makes the signal.
    let run = ["run", "--rm", "-t", &image, "sh", "-c", script];
    let mut terminal = Terminal::start(env.kelp(&run));
    terminal.expect("ready\r\n");
    terminal.send(b"\x03");
    terminal.expect("caught\r\n");
    assert_eq!(terminal.finish().0, 5);
}

#[test]
fn it_ends_when_nobody_reads_its_output() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let mut child = env
        .kelp(&["run", "--rm", "--name", "talker", &image, "yes"])
        .start();
    drop(child.stdin.take());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "y");
    drop(lines);
    // As `yes | head -n 1` does: by the signal, or with a code of its own.
    let (sender, receiver) = std::sync::mpsc::channel();
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    std::thread::spawn(move || sender.send(child.wait()));
    let ended = receiver.recv_timeout(Duration::from_secs(20));
    let _ = kill_process(pid, Signal::KILL);
    env.kelp(&["rm", "-f", "-t", "0", "talker"]).done();
    let status = ended.expect("kelp ends").unwrap();
    assert!(!status.success(), "{status}");
}
