//! What becomes of what is written to overlays, and of what is below them.

use std::fs;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::env::Env;

/// Whether nothing of what was written is left in a record or the trash.
fn assert_nothing_is_left(env: &Env) {
    let records = fs::read_dir(env.path("d/kelp/containers"));
    for record in records.into_iter().flatten().flatten() {
        let overlays = fs::read_dir(record.path().join("overlays"));
        for overlay in overlays.into_iter().flatten().flatten() {
            for name in ["upper", "work"] {
                let directory = overlay.path().join(name);
                let left = fs::read_dir(&directory).unwrap().count();
                assert_eq!(left, 0, "{}", directory.display());
            }
        }
    }
    let trash = fs::read_dir(env.path("d/kelp/trash"));
    assert_eq!(trash.into_iter().flatten().count(), 0);
}

/// Waits for a process that is no child of this one.
fn wait_until_gone(pid: i32) {
    let Ok(process) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else {
        return;
    };
    poll(&mut [PollFd::new(&process, PollFlags::IN)], None).unwrap();
}

#[test]
fn what_was_written_takes_no_space_once_the_run_has_ended() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let source = env.path("h/source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "original\n").unwrap();
    let volume = format!("--volume={}:/x:O", source.display());
    // A program that is started again finds nothing of the run before, either.
    let script = "cat /x/file; echo changed >/x/file; mkdir -p /x/a/b; exit 3";
    let pid_file = env.path("h/pid");
    let monitor = format!("--conmon-pidfile={}", pid_file.display());
    let words = ["create", "--name=one", "--restart=on-failure:2", &volume];
    env.kelp(&[&words[..], &[&monitor, &image, "sh", "-c", script]].concat())
        .succeeds();
    env.kelp(&["start", "one"]).succeeds();
    // All three runs are the same monitor's.
    wait_until_gone(fs::read_to_string(pid_file).unwrap().parse().unwrap());
    assert_eq!(
        env.kelp(&["logs", "one"]).succeeds(),
        "original\noriginal\noriginal\n"
    );
    assert_nothing_is_left(&env);
    env.kelp(&["rm", "one"]).succeeds();
}

#[test]
fn a_killed_monitor_leaves_nothing_of_an_overlay() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let source = env.path("h/source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "original\n").unwrap();
    let volume = format!("--volume={}:/x:O", source.display());
    let script = "cat /x/file; echo changed >/x/file; mkdir -p /x/a/b; exec sleep 1000";
    let changed = "until [ \"$(cat /x/file)\" = changed ]; do :; done";
    for (flags, state) in [
        (&[][..], "exited\n"),
        (&["--userns=keep-id", "-u0"], "exited\n"),
        (&["--rm"], ""),
    ] {
        let words = [&["run", "-d", "--name=one", &volume], flags].concat();
        env.kelp(&[&words[..], &[&image, "sh", "-c", script]].concat())
            .succeeds();
        let wait = ["exec", "-u0", "one", "sh", "-c", changed];
        env.kelp(&wait).succeeds();
        let monitor = ["inspect", "--format", "{{.State.ConmonPid}}", "one"];
        let pid = env.kelp(&monitor).succeeds().trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        wait_until_gone(pid);
        let list = ["ps", "-a", "--format", "{{.State}}"];
        assert_eq!(env.kelp(&list).succeeds(), state, "{flags:?}");
        assert_nothing_is_left(&env);
        if !state.is_empty() {
            env.kelp(&["start", "one"]).succeeds();
            env.kelp(&wait).succeeds();
            env.kelp(&["rm", "-f", "-t0", "one"]).succeeds();
        }
    }
    assert_eq!(fs::read(source.join("file")).unwrap(), b"original\n");
}

#[test]
fn a_root_directory_can_stay_as_it_is() {
    for env in Env::each() {
        let image = env.busybox();
        let root = env.path("h/root");
        fs::create_dir(&root).unwrap();
        let run = |words: &[&str]| env.kelp(words).succeeds();
        run(&["create", "--name=from", &image]);
        for directory in ["bin", "etc"] {
            let from = format!("from:/{directory}");
            run(&["cp", &from, root.to_str().unwrap()]);
        }
        run(&["rm", "from"]);
        let overlaid = format!("{}:O", root.display());
        let script = "ls /new 2>/dev/null; echo x >/new; rm -f /etc/passwd; cat /new";
        let shell = [&overlaid, "/bin/sh", "-c", script];
        for userns in ["host", "keep-id"] {
            let flags = ["run", "--rm", "-u0", "--userns", userns, "--rootfs"];
            assert_eq!(run(&[&flags[..], &shell].concat()), "x\n", "{userns}");
        }
        // As any container it has what it wrote until it is removed.
        run(&[&["create", "--name=one", "--rootfs"][..], &shell].concat());
        assert_eq!(run(&["start", "-a", "one"]), "x\n");
        assert_eq!(run(&["start", "-a", "one"]), "/new\nx\n");
        let said = run(&["inspect", "--format", "{{.Rootfs}}", "one"]);
        assert_eq!(said, format!("{}\n", root.display()));
        let changes = run(&["diff", "one"]);
        assert!(changes.lines().any(|line| line == "A /new"), "{changes}");
        run(&["rm", "one"]);
        let mut names: Vec<_> = fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["bin", "etc"]);
        assert!(root.join("etc/passwd").exists());
    }
}
