//! Containers over time: background, names, lists, signals, removal.

use std::fs;

use serde_json::Value;

use crate::env::Env;
use crate::kelp::wait_until;

/// A container that runs until it is told to stop.
fn start(env: &Env, name: &str) -> String {
    let image = env.busybox();
    let script = "trap 'exit 0' TERM; echo started; while :; do sleep 0.05; done";
    let id = env
        .kelp(&["run", "-d", "--name", name, &image, "sh", "-c", script])
        .succeeds();
    id.trim().to_owned()
}

fn status(env: &Env, name: &str) -> String {
    let text = env
        .kelp(&[
            "inspect",
            "--format",
            "{{.State.Status}} {{.State.ExitCode}}",
            name,
        ])
        .succeeds();
    text.trim().to_owned()
}

#[test]
fn in_the_background_it_prints_its_id_and_keeps_its_output() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "echo out; echo err >&2; exit 4";
    let id = env
        .kelp(&["run", "-d", &image, "sh", "-c", script])
        .succeeds();
    let id = id.strip_suffix('\n').unwrap();
    assert!(
        id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    assert_eq!(env.kelp(&["wait", id]).succeeds(), "4\n");
    let logs = env.kelp(&["logs", &id[..12]]).done();
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert_eq!(status(&env, id), "exited 4");
    assert_eq!(env.kelp(&["rm", id]).succeeds(), format!("{id}\n"));
}

#[test]
fn removed_after_the_end_it_leaves_nothing() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let cid_file = env.path("h/cid");
    let flags = ["run", "--rm", "-d", "--cidfile", cid_file.to_str().unwrap()];
    let id = env
        .kelp(&[&flags[..], &[&image, "sleep", "100"]].concat())
        .succeeds();
    assert_eq!(fs::read_to_string(&cid_file).unwrap(), id.trim());
    env.kelp(&["stop", "-t", "0", id.trim()]).succeeds();
    env.kelp(&["container", "exists", id.trim()])
        .done()
        .exits(1);
    assert!(!cid_file.exists());
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
}

#[test]
fn a_name_has_one_owner() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let id = start(&env, "only");
    let line = env
        .kelp(&["run", "--name", "only", &image, "true"])
        .fails(125);
    assert!(
        line.contains("only") && line.contains("already in use"),
        "{line}"
    );
    assert!(line.contains(&id), "{line}");
    assert_eq!(
        env.kelp(&["rm", "-f", "-t", "0", "only"]).succeeds(),
        "only\n"
    );
    env.kelp(&["run", "--rm", "--name", "only", &image, "true"])
        .succeeds();
}

#[test]
fn a_name_is_made_up_where_none_is_given() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let id = env.kelp(&["create", &image]).succeeds();
    let name = env.kelp(&["ps", "-a", "--format", "{{.Names}}"]).succeeds();
    let (adjective, surname) = name.trim().split_once('_').unwrap();
    assert!(!adjective.is_empty() && !surname.is_empty(), "{name}");
    assert_eq!(env.kelp(&["rm", name.trim()]).succeeds(), name);
    env.kelp(&["container", "exists", id.trim()])
        .done()
        .exits(1);
}

#[test]
fn running_containers_are_listed() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let id = start(&env, "listed");
    let ended = env.kelp(&["create", "--name", "idle", &image]).succeeds();
    let table = env.kelp(&["ps"]).succeeds();
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    let expected = "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES";
    assert_eq!(header.join(" "), expected);
    let row = table.lines().nth(1).unwrap();
    for part in [&id[..12], &image, "Up", "listed"] {
        assert!(row.contains(part), "no {part} in {row}");
    }
    assert_eq!(table.lines().count(), 2, "{table}");
    let printed = |arguments: &[&str]| env.kelp(arguments).succeeds();
    assert_eq!(printed(&["ps", "-q"]), format!("{}\n", &id[..12]));
    assert_eq!(printed(&["ps", "-q", "--no-trunc"]), format!("{id}\n"));
    assert_eq!(printed(&["ps", "-aq", "--no-trunc"]).lines().count(), 2);
    assert_eq!(
        printed(&[
            "ps",
            "-a",
            "--filter",
            "name=idle",
            "--format",
            "{{.ID}} {{.State}}"
        ]),
        format!("{} created\n", &ended[..12])
    );
    assert_eq!(printed(&["ps", "--filter", "status=exited", "-q"]), "");
    let json: Value = serde_json::from_str(&printed(&["ps", "--format", "json"])).unwrap();
    assert_eq!(json[0]["Id"], id.as_str());
    assert_eq!(json[0]["Names"][0], "listed");
    assert_eq!(json[0]["State"], "running");
    assert_eq!(json[0]["Image"], image.as_str());
    printed(&["rm", "-f", "-t", "0", "listed", "idle"]);
}

#[test]
fn stop_asks_first_and_kills_then() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    start(&env, "polite");
    assert_eq!(env.kelp(&["stop", "polite"]).succeeds(), "polite\n");
    assert_eq!(status(&env, "polite"), "exited 0");
    // Process 1 without a handler does not notice a TERM.
    env.kelp(&["run", "-d", "--name", "deaf", &image, "sleep", "100"])
        .succeeds();
    let stopped = env.kelp(&["stop", "-t", "1", "deaf"]).done();
    assert_eq!(
        (stopped.code, stopped.stdout.as_str()),
        (0, "deaf\n"),
        "{stopped:#?}"
    );
    assert_eq!(status(&env, "deaf"), "exited 137");
    assert_eq!(
        stopped.stderr,
        "Warning: container deaf was killed 1 s after SIGTERM: its first process has no handler for it, and \
         process 1 of a container ends by no signal that it does not handle (--init and --stop-signal help; \
         --stop-fast does not wait)\n"
    );
    // Without the wait, which would be longer than a test may take.
    env.kelp(&["start", "deaf"]).succeeds();
    let fast = ["stop", "--stop-fast", "-t", "100000"];
    env.kelp(&[&fast[..], &["deaf"]].concat()).succeeds();
    assert_eq!(status(&env, "deaf"), "exited 137");
    start(&env, "hears");
    env.kelp(&[&fast[..], &["hears"]].concat()).succeeds();
    assert_eq!(status(&env, "hears"), "exited 0");
    // One that waits for signals has no handler either, as kelp's own reaper.
    let script = "trap 'exit 5' TERM; while :; do sleep 0.1; done";
    env.kelp(&[
        "run", "-d", "--init", "--name", "reaped", &image, "sh", "-c", script,
    ])
    .succeeds();
    env.kelp(&[&fast[..], &["reaped"]].concat()).succeeds();
    assert_eq!(status(&env, "reaped"), "exited 5");
    // Stopped twice is stopped.
    env.kelp(&["stop", "deaf"]).succeeds();
    env.kelp(&["rm", "polite", "deaf", "hears", "reaped"])
        .succeeds();
}

#[test]
fn rm_has_its_own_exit_codes() {
    let Some(env) = Env::new() else { return };
    start(&env, "busy");
    env.kelp(&["rm", "nobody"]).fails(1);
    let line = env.kelp(&["rm", "busy"]).fails(2);
    assert!(line.contains("running"), "{line}");
    env.kelp(&["container", "exists", "busy"]).done().exits(0);
    env.kelp(&["rm", "-f", "-t", "0", "busy"]).succeeds();
    env.kelp(&["rm", "-f", "-t", "0", "busy"]).done().exits(0);
}

#[test]
fn started_again_it_keeps_its_files() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "cat /count 2>/dev/null; echo once >> /count";
    env.kelp(&["create", "--name", "again", &image, "sh", "-c", script])
        .succeeds();
    assert_eq!(env.kelp(&["start", "-a", "again"]).succeeds(), "");
    assert_eq!(env.kelp(&["start", "-a", "again"]).succeeds(), "once\n");
    assert_eq!(env.kelp(&["logs", "again"]).succeeds(), "once\n");
    assert_eq!(env.kelp(&["start", "again"]).succeeds(), "again\n");
    env.kelp(&["wait", "again"]).succeeds();
    env.kelp(&["rm", "again"]).succeeds();
}

#[test]
fn a_container_can_be_restarted_renamed_and_paused() {
    let Some(env) = Env::new() else { return };
    start(&env, "old");
    env.kelp(&["rename", "old", "new"]).succeeds();
    env.kelp(&["restart", "-t", "0", "new"]).succeeds();
    assert_eq!(status(&env, "new"), "running 0");
    env.kelp(&["pause", "new"]).succeeds();
    assert_eq!(status(&env, "new"), "paused 0");
    env.kelp(&["rm", "new"]).fails(2);
    env.kelp(&["unpause", "new"]).succeeds();
    env.kelp(&["container", "exists", "old"]).done().exits(1);
    env.kelp(&["rm", "-f", "-t", "0", "new"]).succeeds();
}

#[test]
fn a_program_that_fails_to_start_is_a_record_unless_rm() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["run", "--rm", "--name", "gone", &image, "no-such-program"])
        .fails(127);
    env.kelp(&["container", "exists", "gone"]).done().exits(1);
    env.kelp(&["run", "--name", "kept", &image, "no-such-program"])
        .fails(127);
    env.kelp(&["container", "exists", "kept"]).done().exits(0);
    env.kelp(&["rm", "kept"]).succeeds();
}

#[test]
fn a_unique_prefix_is_enough_and_an_unknown_one_is_an_error() {
    let Some(env) = Env::new() else { return };
    let id = start(&env, "prefixed");
    assert_eq!(status(&env, &id[..5]), "running 0");
    let line = env.kelp(&["logs", "ffffffffffff"]).fails(125);
    assert!(line.contains("ffffffffffff"), "{line}");
    env.kelp(&["rm", "-f", "-t", "0", &id[..5]]).succeeds();
}

#[test]
fn a_killed_monitor_takes_its_container_with_it() {
    let Some(env) = Env::new() else { return };
    let id = start(&env, "orphan");
    let format = "{{.State.Pid}} {{.State.ConmonPid}}";
    let pids = env
        .kelp(&["inspect", "--format", format, "orphan"])
        .succeeds();
    let pids: Vec<i32> = pids
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    let pid = |number: i32| rustix::process::Pid::from_raw(number).unwrap();
    let init = rustix::process::pidfd_open(pid(pids[0]), rustix::process::PidfdFlags::empty());
    let init = init.unwrap();
    rustix::process::kill_process(pid(pids[1]), rustix::process::Signal::KILL).unwrap();
    // A pidfd is readable once its process has ended.
    let mut ended = [rustix::event::PollFd::new(
        &init,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut ended, Some(&limit)), Ok(1));
    assert_eq!(status(&env, &id), "exited 137");
    env.kelp(&["start", "orphan"]).succeeds();
    assert_eq!(status(&env, &id), "running 0");
    env.kelp(&["rm", "-f", "-t", "0", "orphan"]).succeeds();
}

#[test]
fn a_killed_container_can_be_started_at_once() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let flags = ["run", "-d", "--network=none", "--name=again"];
    env.kelp(&[&flags[..], &[&image, "sleep", "1000"]].concat())
        .succeeds();
    for _ in 0..5 {
        env.kelp(&["kill", "again"]).succeeds();
        env.kelp(&["start", "again"]).succeeds();
        let state = env.kelp(&["inspect", "-f", "{{.State.Status}}", "again"]);
        assert_eq!(state.succeeds(), "running\n");
    }
    env.kelp(&["rm", "-f", "-t0", "again"]).succeeds();
}

#[test]
fn a_short_container_can_be_started_and_attached_to_while_it_ends() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let flags = ["create", "--network=none", "--name=short"];
    env.kelp(&[&flags[..], &[&image, "echo", "said"]].concat())
        .succeeds();
    for _ in 0..8 {
        env.kelp(&["start", "short"]).succeeds();
        let done = env.kelp(&["start", "-a", "short"]).done();
        // Attached to the end of the first run, or started again.
        assert!(["", "said\n"].contains(&done.stdout.as_str()), "{done:#?}");
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:#?}");
    }
    env.kelp(&["rm", "short"]).succeeds();
}

#[test]
fn files_with_ids_are_found_from_other_directories() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let [here, there] = ["h/here", "h/there"].map(|name| env.path(name));
    for directory in [&here, &there] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("other"), "").unwrap();
    }
    let create = ["create", "--network=none", "--name=filed", "--cidfile=cid"];
    let command = env.kelp(&[&create[..], &["--pidfile=pid", &image, "true"]].concat());
    let mut command = command.into_command();
    crate::kelp::Kelp::new({
        command.current_dir(&here);
        command
    })
    .succeeds();
    assert!(here.join("cid").exists());
    fs::write(there.join("cid"), "").unwrap();
    let mut command = env.kelp(&["start", "filed"]).into_command();
    command.current_dir(&there);
    crate::kelp::Kelp::new(command).succeeds();
    env.kelp(&["wait", "filed"]).succeeds();
    assert!(here.join("pid").exists() && !there.join("pid").exists());
    let mut command = env.kelp(&["rm", "filed"]).into_command();
    command.current_dir(&there);
    crate::kelp::Kelp::new(command).succeeds();
    assert!(!here.join("cid").exists() && there.join("cid").exists());
}

#[test]
fn host_names_are_those_that_make_sense() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let run = |flags: &[&str]| env.kelp(&[&["run", "--rm"], flags, &[&image, "hostname"]].concat());
    assert_eq!(run(&["--network=host"]).succeeds().trim(), host);
    assert_eq!(run(&["--network=host", "-h", "own"]).succeeds(), "own\n");
    let id = run(&["--network=none", "-h", ""]).succeeds();
    assert_eq!(id.trim().len(), 12, "{id}");
    let refused = run(&["--network=none", "--uts=host", "-h", "own"]).fails(125);
    assert!(refused.contains("cannot set a hostname"), "{refused}");
    let refused = run(&["--network=none", "-v", "/tmp:/"]).fails(125);
    assert!(refused.contains("hide the container's root"), "{refused}");
}

/// As cron and su have it: no variable, and no directory of the session's.
#[test]
fn without_a_session_containers_are_found_again() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let uid = rustix::process::getuid().as_raw();
    if std::path::Path::new(&format!("/run/user/{uid}")).exists() {
        crate::skip::skip("no session of the test user");
        return;
    }
    let kelp = |words: &[&str]| {
        let mut command = env.kelp(words).into_command();
        command.env_remove("XDG_RUNTIME_DIR");
        crate::kelp::Kelp::new(command)
    };
    let flags = ["run", "-d", "--network=none", "--name=cron"];
    kelp(&[&flags[..], &[&image, "sleep", "1000"]].concat()).succeeds();
    assert_eq!(kelp(&["exec", "cron", "echo", "in"]).succeeds(), "in\n");
    let names = kelp(&["ps", "--format", "{{.Names}}"]).succeeds();
    assert_eq!(names, "cron\n");
    kelp(&["rm", "-f", "-t0", "cron"]).succeeds();
    fs::remove_dir_all(format!("/tmp/kelp-{uid}")).unwrap();
}

#[test]
fn a_program_may_have_a_name_that_is_no_text() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "printf '\\377) Z' > /proc/$$/comm; echo named; while :; do sleep 0.1; done";
    let run = ["run", "-d", "--network=none", "--name=odd", &image];
    env.kelp(&[&run[..], &["sh", "-c", script]].concat())
        .succeeds();
    wait_until("it has its name", || {
        env.kelp(&["logs", "odd"]).succeeds() == "named\n"
    });
    let states = ["ps", "-a", "--format={{.State}}"];
    assert_eq!(env.kelp(&states).succeeds(), "running\n");
    env.kelp(&["exec", "odd", "true"]).succeeds();
    env.kelp(&["stop", "-t0", "odd"]).succeeds();
    assert_eq!(env.kelp(&states).succeeds(), "exited\n");
    env.kelp(&["rm", "odd"]).succeeds();
}
