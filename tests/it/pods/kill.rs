//! Pods after SIGKILL, of whoever it may be, and with records that are damaged.

use std::fs;

use serde_json::Value;

use super::{SLEEP, create, infra, member, states, status};
use crate::env::{Env, names};
use crate::kelp::wait_until;
use crate::kill::combination::kill_all;

/// Kills the monitor of a container.
fn kill_monitor(env: &Env, container: &str) {
    let words = ["inspect", "-f", "{{.State.ConmonPid}}", container];
    let pid = env.kelp(&words).succeeds();
    kill_all(&[pid.trim().parse().unwrap()]);
}

#[test]
fn a_killed_monitor_of_the_last_member_ends_the_pod_for_who_looks() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &["--exit-policy=stop"]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    kill_monitor(&env, "one");
    wait_until("the pod has ended", || status(&env, "crew") == "Exited");
    assert_eq!(states(&env), "one exited");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn a_killed_monitor_of_the_infra_container_is_a_pod_that_is_degraded() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &[]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    kill_monitor(&env, &infra(&env, "crew"));
    assert_eq!(status(&env, "crew"), "Degraded");
    env.kelp(&["pod", "restart", "crew"]).succeeds();
    assert_eq!(status(&env, "crew"), "Running");
    kill_monitor(&env, &infra(&env, "crew"));
    kill_monitor(&env, "one");
    assert_eq!(status(&env, "crew"), "Exited");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn after_a_boot_what_should_run_is_started_with_its_pod() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &["--restart=always"]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    for id in env.kelp(&["ps", "-q", "--no-trunc"]).succeeds().lines() {
        let path = env.path(&format!("r/kelp/c/{id}/run.json"));
        let mut run: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let pids = ["monitor", "pid"].map(|name| run[name].as_i64().unwrap() as i32);
        kill_all(&pids);
        run["boot_id"] = "of-another-boot".into();
        fs::write(&path, run.to_string()).unwrap();
    }
    assert_eq!(status(&env, "crew"), "Exited");
    let words = ["start", "--all", "--filter=should-start-on-boot=true"];
    env.kelp(&words).succeeds();
    assert_eq!(status(&env, "crew"), "Running");
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}

#[test]
fn a_damaged_pod_is_removed_by_force() {
    let Some(env) = Env::new() else { return };
    let id = create(&env, "crew", &[]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    let record = env.path(&format!("d/kelp/pods/{id}/config.json"));
    fs::write(&record, "{").unwrap();
    create(&env, "other", &[]);
    assert_eq!(
        env.kelp(&["pod", "ps", "--format={{.Name}}"]).succeeds(),
        "other\n"
    );
    env.kelp(&["pod", "start", "crew"]).fails(125);
    env.kelp(&["pod", "rm", "crew"]).fails(125);
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
    assert_eq!(names(&env.path("d/kelp/pods")).len(), 1);
    // Its name is free, and so is that of one whose member is damaged.
    let id = create(&env, "crew", &[]);
    member(&env, &["create"], "crew", "one", SLEEP);
    let infra = infra(&env, "crew");
    fs::write(
        env.path(&format!("d/kelp/containers/{infra}/config.json")),
        "{",
    )
    .unwrap();
    assert_eq!(status(&env, "crew"), "Error");
    assert_eq!(
        env.kelp(&["pod", "rm", "-f", "crew"]).succeeds(),
        format!("{id}\n")
    );
    env.kelp(&["pod", "rm", "-f", "-a"]).succeeds();
    assert!(names(&env.path("d/kelp/containers")).is_empty());
    // Whose name it was a damaged record does not tell: that counts for nothing, and a prune takes it away.
    env.kelp(&["system", "prune", "-f"]).succeeds();
    assert!(names(&env.path("d/kelp/names")).is_empty());
}

#[test]
fn what_a_killed_creation_leaves_is_in_nobodys_way() {
    let Some(env) = Env::new() else { return };
    // All but the last step was done.
    let half_made = |name: &str| {
        let id = create(&env, name, &["--infra-name=first"]);
        fs::remove_file(env.path(&format!("d/kelp/pods/{id}/config.json"))).unwrap();
        id
    };
    half_made("crew");
    assert_eq!(env.kelp(&["pod", "ps", "-q"]).succeeds(), "");
    assert_eq!(env.kelp(&["pod", "exists", "crew"]).done().code, 1);
    // The next one has its names.
    half_made("crew");
    env.kelp(&["system", "prune", "-f"]).succeeds();
    for place in ["pods", "containers", "names", "trash"] {
        assert!(
            names(&env.path(&format!("d/kelp/{place}"))).is_empty(),
            "{place}"
        );
    }
}
