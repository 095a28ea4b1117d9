//! Limits of containers that another runtime makes.

use serde_json::Value;

use super::limits::{directory, exec, read, remove, start, state};
use super::{systemctl, wait_until_collected};
use crate::env::Env;

const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// The files that the limits are in.
const FILES: [&str; 4] = ["memory.max", "memory.swap.max", "pids.max", "cpu.max"];

#[test]
fn a_container_has_its_limits_in_a_scope_that_goes_with_it() {
    let Some(env) = Env::of_session() else { return };
    for runtime in RUNTIMES {
        let limits = ["--memory=64m", "--memory-swap=96m", "--cpus=0.5"];
        let flags = [&["--runtime", runtime, "--pids-limit=20"], &limits[..]].concat();
        let id = start(&env, "other", &flags);
        let unit = format!("kelp-{id}.scope");
        assert_eq!(systemctl(&["is-active", &unit]), "active", "{runtime}");
        let cgroup = directory(&env, "other");
        assert!(cgroup.ends_with(format!("{unit}/container")), "{cgroup:?}");
        assert_eq!(
            FILES.map(|file| read(&cgroup, file)),
            ["67108864", "33554432", "20", "50000 100000"],
            "{runtime}"
        );
        // In force for what exec adds as well. A runtime's own threads count while it is there.
        let forks = "for i in $(seq 20); do sleep 1 & done; wait";
        let done = env.kelp(&["exec", "other", "sh", "-c", forks]).done();
        assert!(done.code != 0 && done.stderr.contains("fork"), "{done:#?}");
        let update = ["update", "--memory=48m", "--memory-swap=48m", "--cpus=0.4"];
        env.kelp(&[&update[..], &["--pids-limit=50", "other"]].concat())
            .succeeds();
        assert_eq!(
            FILES.map(|file| read(&cgroup, file)),
            ["50331648", "0", "50", "40000 100000"],
            "{runtime}"
        );
        assert_eq!(exec(&env, "other", "sleep 0 & sleep 0 & wait"), 0);
        let stats = ["stats", "--no-stream", "--format=json", "other"];
        let list: Value = serde_json::from_str(&env.kelp(&stats).succeeds()).unwrap();
        let used = list[0]["mem_usage"].as_str().unwrap();
        assert!(used.ends_with(" / 50.33MB"), "{list}");
        assert_ne!(used, "0B / 50.33MB");
        // What exec began in vain may be on its way out.
        let pids: u32 = list[0]["pids"].as_str().unwrap().parse().unwrap();
        assert!((1..=20).contains(&pids), "{list}");
        // What it was changed to outlives it.
        env.kelp(&["restart", "-t0", "other"]).succeeds();
        assert_eq!(read(&directory(&env, "other"), "pids.max"), "50");
        remove(&env, "other");
        wait_until_collected(&unit);
    }
}

#[test]
fn a_kill_for_memory_is_told() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    for runtime in RUNTIMES {
        let name = format!("{runtime}-hog");
        let run = [
            "run",
            "--runtime",
            runtime,
            "--network=none",
            "--name",
            &name,
        ];
        let program = ["--memory=32m", "--memory-swap=32m", &image];
        let words = [&run[..], &program, &["tail", "/dev/zero"]].concat();
        env.kelp(&words).done().exits(137);
        assert_eq!(state(&env, &name), "false 137 true 0\n");
        let of_container = format!("--filter=container={name}");
        let events = [
            "events",
            "--stream=false",
            "--filter=event=oom",
            &of_container,
        ];
        assert_eq!(env.kelp(&events).succeeds().lines().count(), 1, "{runtime}");
        remove(&env, &name);
    }
}
