//! Containers that need others: what is started, waited for, stopped and removed, and in which order.

use std::fs::{self, OpenOptions};

use serde_json::{Value, json};

use crate::env::Env;
use crate::kill::combination::kill_all;

fn create(env: &Env, name: &str, flags: &[&str], command: &[&str]) {
    let image = env.busybox();
    let words = [
        &[
            "create",
            "--network=none",
            "--stop-timeout=0",
            "--name",
            name,
        ],
        flags,
        &[image.as_str()],
        command,
    ];
    env.kelp(&words.concat()).succeeds();
}

fn status(env: &Env, name: &str) -> String {
    let format = "{{.State.Status}} {{.State.ExitCode}}";
    let shown = env.kelp(&["inspect", "-f", format, name]).succeeds();
    shown.trim_end().to_owned()
}

/// What was started, stopped or removed, in that order.
fn told(env: &Env, action: &str) -> String {
    let filter = format!("--filter=event={action}");
    let words = ["events", "--stream=false", &filter, "--format={{.Name}}"];
    let names = env.kelp(&words).succeeds();
    names.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_restart_stops_those_first_that_need_others_and_starts_them_last() {
    let Some(env) = Env::new() else { return };
    create(&env, "disk", &[], SLEEP);
    create(&env, "db", &["--requires=disk"], SLEEP);
    create(&env, "web", &["--requires=db"], SLEEP);
    create(&env, "alone", &[], SLEEP);
    env.kelp(&["start", "--all"]).succeeds();
    env.kelp(&["restart", "disk", "alone", "web", "db"])
        .succeeds();
    let stops = told(&env, "stop");
    assert_eq!(stops, "web db disk alone");
    assert_eq!(told(&env, "start"), "disk db web alone disk db alone web");
    // One that is not named goes on.
    env.kelp(&["restart", "db", "web"]).succeeds();
    assert_eq!(told(&env, "stop"), format!("{stops} web db"));
    env.kelp(&["rm", "-f", "-a", "-t0"]).succeeds();
}

#[test]
fn whose_namespaces_it_joins_a_container_needs() {
    let Some(env) = Env::new() else { return };
    create(&env, "one", &[], SLEEP);
    create(&env, "two", &["--ipc=container:one"], SLEEP);
    create(&env, "three", &["--uts=container:two"], SLEEP);
    let shown = env.kelp(&["inspect", "-f", "{{len .Dependencies}}", "two", "three"]);
    assert_eq!(shown.succeeds(), "1\n1\n");
    env.kelp(&["start", "three"]).succeeds();
    assert_eq!(told(&env, "start"), "one two three");
    let line = env.kelp(&["rm", "-f", "-t0", "one"]).fails(2);
    assert!(line.contains("has dependent containers"), "{line}");
    env.kelp(&["stop", "-a"]).succeeds();
    assert_eq!(told(&env, "stop"), "three two one");
    let image = env.busybox();
    // One that is made for a moment starts what it needs, and needs it no longer.
    let words = ["run", "--rm", "--pid=container:one", &image, "true"];
    env.kelp(&words).succeeds();
    env.kelp(&["rm", "-f", "-t0", "three", "two", "one"])
        .succeeds();
    assert_eq!(told(&env, "remove").split(' ').count(), 4);
}

#[test]
fn what_was_lost_with_its_monitor_needs_nothing() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = |name: &str, flags: &[&str]| {
        let words = [
            "run",
            "-d",
            "--rm",
            "--replace",
            "--network=none",
            "--name",
            name,
        ];
        env.kelp(&[&words[..], flags, &[&image], SLEEP].concat())
            .succeeds();
    };
    run("one", &[]);
    run("two", &["--ipc=container:one"]);
    let monitors = ["inspect", "-f", "{{.State.ConmonPid}}", "two", "one"];
    let monitors = env.kelp(&monitors).succeeds();
    let monitors: Vec<i32> = monitors.lines().map(|pid| pid.parse().unwrap()).collect();
    kill_all(&monitors);
    // As its unit does after a power cut, before anybody has looked at what there was.
    run("one", &[]);
    assert_eq!(
        env.kelp(&["ps", "-a", "--format={{.Names}}"]).succeeds(),
        "one\n"
    );
    env.kelp(&["rm", "-f", "-t0", "one"]).succeeds();
}

#[test]
fn a_container_that_runs_is_removed_though_its_config_is_damaged() {
    let Some(env) = Env::new() else { return };
    for flags in [&[][..], &["--restart=always"]] {
        let image = env.busybox();
        let run = ["run", "-d", "--network=none", "--name=web"];
        let id = env.kelp(&[&run[..], flags, &[&image], SLEEP].concat());
        let id = id.succeeds();
        let config = env.path(&format!("d/kelp/containers/{}/config.json", id.trim()));
        fs::write(config, "{").unwrap();
        env.kelp(&["rm", "-f", "-t0", id.trim()]).succeeds();
        assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
        // Its name is anybody's.
        create(&env, "web", &[], SLEEP);
        env.kelp(&["rm", "web"]).succeeds();
    }
}

const SLEEP: &[&str] = &["sleep", "1000"];

#[test]
fn what_is_needed_is_started_first_and_goes_last() {
    let Some(env) = Env::new() else { return };
    create(&env, "disk", &[], SLEEP);
    create(&env, "db", &["--requires=disk"], SLEEP);
    create(&env, "web", &["--requires=db,disk"], SLEEP);
    let ids = env
        .kelp(&["inspect", "-f", "{{len .Dependencies}}", "web", "disk"])
        .succeeds();
    assert_eq!(ids, "2\n0\n");
    env.kelp(&["start", "web"]).succeeds();
    assert_eq!(told(&env, "start"), "disk db web");
    // None goes that another one needs, by force or not.
    for words in [&["rm", "disk"][..], &["rm", "-f", "-t0", "db"]] {
        let line = env.kelp(words).fails(2);
        assert!(
            line.contains("has dependent containers which must be removed before it: "),
            "{line}"
        );
    }
    assert_eq!(status(&env, "db"), "running 0");
    // Whoever is stopped by itself leaves the others as they are.
    env.kelp(&["stop", "disk"]).succeeds();
    assert_eq!(status(&env, "web"), "running 0");
    env.kelp(&["start", "--all"]).succeeds();
    env.kelp(&["stop", "--all"]).succeeds();
    assert_eq!(told(&env, "stop"), "disk web db disk");
    env.kelp(&["start", "--all"]).succeeds();
    env.kelp(&["rm", "-f", "-t0", "--depend", "disk"])
        .succeeds();
    assert_eq!(told(&env, "remove"), "web db disk");
    // What does not run is pruned in that order as well.
    create(&env, "one", &[], SLEEP);
    create(&env, "two", &["--requires=one"], SLEEP);
    env.kelp(&["container", "prune", "-f"]).succeeds();
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
}

#[test]
fn what_can_not_be_told_is_done_all_the_same() {
    let Some(env) = Env::new() else { return };
    create(&env, "db", &[], &["true"]);
    create(&env, "web", &["--requires=db"], &["true"]);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    // The one that goes first can not be told of already.
    let mut command = env.kelp(&["rm", "db", "web"]).into_command();
    let output = command.stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), &*said),
        (Some(125), "Error: write: no space left on device\n")
    );
    assert_eq!(told(&env, "remove"), "web db");
}

#[test]
fn conditions_are_those_of_compose() {
    let Some(env) = Env::new() else { return };
    let health = [
        "--health-cmd=[ -e /tmp/ok ]",
        "--health-interval=50ms",
        "--health-retries=1",
    ];
    let slow = "sleep 0.2; : > /tmp/ok; exec sleep 1000";
    let quick = [&health[..2], &["--health-retries=1000"]].concat();
    create(&env, "db", &quick, &["sh", "-c", slow]);
    create(&env, "init", &[], &["sh", "-c", "exit 0"]);
    let flags = [
        "--depends-on=db:service_healthy",
        "--depends-on=init:service_completed_successfully",
    ];
    create(&env, "web", &flags, SLEEP);
    env.kelp(&["start", "web"]).succeeds();
    assert_eq!(status(&env, "web"), "running 0");
    assert_eq!(status(&env, "init"), "exited 0");
    let healthy = env.kelp(&["ps", "-q", "--filter=health=healthy"]);
    assert_eq!(healthy.succeeds().lines().count(), 1);
    // What has ended well is not started again for it.
    env.kelp(&["restart", "web"]).succeeds();
    assert_eq!(told(&env, "start").matches("init").count(), 1);
    // What does not come to it is an error, and the container stays where it was.
    create(&env, "bad", &[], &["sh", "-c", "exit 7"]);
    let needs = ["--depends-on=bad:service_completed_successfully"];
    create(&env, "first", &needs, SLEEP);
    assert_eq!(
        env.kelp(&["start", "first"]).fails(125),
        "Error: container bad, which has to come first, is not as it has to be: it has ended with 7"
    );
    create(&env, "ill", &health, SLEEP);
    create(&env, "second", &["--depends-on=ill:service_healthy"], SLEEP);
    assert_eq!(
        env.kelp(&["start", "second"]).fails(125),
        "Error: container ill, which has to come first, is not as it has to be: it is unhealthy"
    );
    assert_eq!(status(&env, "second"), "created 0");
    env.kelp(&["rm", "-f", "-a", "-t0"]).succeeds();
}

#[test]
fn requirements_that_can_not_be_met_are_refused() {
    let Some(env) = Env::new() else { return };
    create(&env, "plain", &[], SLEEP);
    let image = env.busybox();
    for (flag, part) in [
        ("--requires=nosuch", "no such container"),
        ("--depends-on=plain:service_healthy", "has no health check"),
        ("--depends-on=plain:soon", "unknown condition \"soon\""),
        ("--depends-on=", "a container has to be named"),
    ] {
        let line = env.kelp(&["create", flag, &image]).fails(125);
        assert!(line.contains(part), "{flag}: {line}");
    }
    assert_eq!(env.kelp(&["rm", "plain"]).succeeds(), "plain\n");
}

/// No command makes such records.
#[test]
fn a_circle_in_damaged_records_is_refused_and_can_be_removed() {
    let Some(env) = Env::new() else { return };
    create(&env, "one", &[], SLEEP);
    create(&env, "two", &["--requires=one"], SLEEP);
    let id = |name: &str| {
        let shown = env.kelp(&["inspect", "-f", "{{.Id}}", name]).succeeds();
        shown.trim_end().to_owned()
    };
    let (one, two) = (id("one"), id("two"));
    let path = |id: &str| env.path(&format!("d/kelp/containers/{id}"));
    let file = path(&one).join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["options"]["requires"] = json!([{"container": two, "until": "service_started"}]);
    fs::write(&file, config.to_string()).unwrap();
    fs::create_dir(path(&two).join("needed")).unwrap();
    fs::write(path(&two).join("needed").join(&one), "").unwrap();
    for words in [&["start", "one"][..], &["start", "-a", "two"]] {
        let line = env.kelp(words).fails(125);
        assert!(
            line.starts_with("Error: damaged records: containers need each other in a circle: "),
            "{line}"
        );
    }
    for words in [
        &["ps", "-a"][..],
        &["stop", "-a"],
        &["rm", "-f", "--depend", "one"],
    ] {
        env.kelp(words).succeeds();
    }
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
}
