//! What is started after a boot or at a login: whatever should run, and nothing that somebody has stopped.

use std::fs;

use serde_json::Value;

use crate::env::Env;
use crate::flags::restart::Starts;
use crate::kill::combination::kill_all;

const DUE: &str = "--filter=should-start-on-boot=true";

/// Runs a container in the background.
fn run(env: &Env, name: &str, flags: &[&str], script: &str) {
    let image = env.busybox();
    let words = ["run", "-d", "--network=none", "--stop-timeout=0", "--name"];
    let program = [image.as_str(), "sh", "-c", script];
    env.kelp(&[&words[..], &[name], flags, &program].concat())
        .succeeds();
}

/// Names and states of those that should run.
fn due(env: &Env) -> String {
    let format = "--format={{.Names}} {{.State}}";
    let list = env.kelp(&["ps", "-a", "--sort=names", DUE, format]);
    list.succeeds().lines().collect::<Vec<_>>().join(", ")
}

/// Ends everything that runs as a power cut does, and has the records be of another boot.
fn cut_the_power(env: &Env) {
    for id in env.kelp(&["ps", "-q", "--no-trunc"]).succeeds().lines() {
        let path = env.path(&format!("r/kelp/c/{id}/run.json"));
        let mut run: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let pids = ["monitor", "pid"].map(|name| run[name].as_i64().unwrap() as i32);
        kill_all(&pids);
        run["boot_id"] = "of-another-boot".into();
        fs::write(&path, run.to_string()).unwrap();
    }
}

const SLEEP: &str = "exec sleep 1000";

#[test]
fn after_a_power_cut_what_should_run_is_started() {
    let Some(env) = Env::new() else { return };
    run(&env, "always", &["--restart=always"], SLEEP);
    run(&env, "ended", &["--restart=always"], SLEEP);
    run(&env, "unless", &["--restart=unless-stopped"], SLEEP);
    run(&env, "stopped", &["--restart=unless-stopped"], SLEEP);
    run(&env, "fails", &["--restart=on-failure:3"], SLEEP);
    run(&env, "failed", &["--restart=on-failure:0"], "exit 3");
    run(&env, "asked", &["--restart=on-failure"], SLEEP);
    run(&env, "plain", &[], SLEEP);
    env.kelp(&["stop", "ended", "stopped", "asked"]).succeeds();
    env.kelp(&["wait", "failed"]).succeeds();
    cut_the_power(&env);
    assert_eq!(
        due(&env),
        "always exited, ended exited, fails exited, unless exited"
    );
    let started = env.kelp(&["start", "--all", DUE]).succeeds();
    assert_eq!(started.lines().count(), 4, "{started}");
    assert_eq!(
        due(&env),
        "always running, ended running, fails running, unless running"
    );
    // One whose monitor alone was killed is none that the machine has ended.
    let format = "{{.State.ConmonPid}}";
    let monitor = env.kelp(&["inspect", "-f", format, "fails"]).succeeds();
    kill_all(&[monitor.trim().parse().unwrap()]);
    assert_eq!(due(&env), "always running, ended running, unless running");
    env.kelp(&["rm", "-f", "-a", "-t0"]).succeeds();
}

#[test]
fn what_is_stopped_until_the_next_boot_is_started_by_it() {
    let Some(env) = Env::new() else { return };
    let mut starts = Starts::new(&env);
    let volume = starts.volume();
    let hears =
        "trap 'echo asked; exit 0' TERM; echo started >/starts; while :; do sleep 0.05; done";
    let stop_time = "--stop-timeout=60";
    let flags = ["--restart=on-failure", "-v", &volume, stop_time];
    run(&env, "db", &flags, hears);
    let flags = [
        "--restart=unless-stopped",
        "-v",
        &volume,
        stop_time,
        "--requires=db",
    ];
    run(&env, "web", &flags, hears);
    starts.wait(2);
    run(&env, "plain", &[], SLEEP);
    run(&env, "stopped", &["--restart=unless-stopped"], SLEEP);
    env.kelp(&["stop", "stopped"]).succeeds();
    // It is about to be started again when it is stopped: the pause is long enough to be met.
    run(
        &env,
        "loops",
        &["--restart=unless-stopped", "-v", &volume],
        "echo started >/starts; exit 4",
    );
    starts.wait(4);
    env.kelp(&["wait", "loops"]).succeeds();
    let words = ["stop", "--all", DUE, "--until-boot"];
    assert_eq!(env.kelp(&words).succeeds().lines().count(), 3);
    let stops = [
        "events",
        "--stream=false",
        "--filter=event=stop",
        "--format={{.Name}}",
    ];
    let stops = env.kelp(&stops).succeeds();
    let place = |name| stops.lines().position(|line| line == name).unwrap();
    assert!(place("web") < place("db"), "{stops}");
    assert_eq!(due(&env), "db exited, loops exited, web exited");
    // Each was asked once.
    for name in ["db", "web"] {
        assert_eq!(env.kelp(&["logs", name]).succeeds(), "asked\n");
    }
    let running = env.kelp(&["ps", "--format={{.Names}}"]).succeeds();
    assert_eq!(running, "plain\n");
    env.kelp(&["start", "--all", DUE]).succeeds();
    starts.wait(3);
    // One that does not end in time is killed, and one that is paused goes on first.
    env.kelp(&["pause", "db"]).succeeds();
    env.kelp(&["stop", "--until-boot", "-t0", "db", "web"])
        .succeeds();
    assert_eq!(
        due(&env).replace("loops running", "loops exited"),
        "db exited, loops exited, web exited"
    );
    env.kelp(&["rm", "-f", "-a", "-t0"]).succeeds();
}

#[test]
fn that_containers_end_with_the_session_is_told_once() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    // What tells that the user's manager is systemd.
    fs::create_dir(env.runtime().join("systemd")).unwrap();
    fs::write(env.runtime().join("systemd/private"), "").unwrap();
    let create = |flags: &[&str]| {
        let words = [&["create", "-q"], flags, &[&image]].concat();
        let done = env.kelp(&words).done();
        assert_eq!(done.code, 0, "{done:#?}");
        done.stderr
    };
    assert_eq!(create(&["--restart=no"]), "");
    let said = create(&["--restart=always"]);
    assert!(said.contains("loginctl enable-linger "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(create(&["--restart=unless-stopped"]), "");
    env.kelp(&["rm", "-a"]).succeeds();
}
