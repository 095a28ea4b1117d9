//! The exit policy `stop`: the infra container ends with the last of the others, whoever that is and however it ends.

use super::{SLEEP, create, infra, member, states, status};
use crate::env::Env;
use crate::kelp::wait_until;

const STOP: &[&str] = &["--exit-policy=stop"];

fn ends(env: &Env, pod: &str) {
    wait_until("the pod has ended", || status(env, pod) == "Exited");
}

#[test]
fn the_last_one_ends_the_pod_and_no_other_does() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", STOP);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    member(&env, &["run", "-d"], "crew", "two", SLEEP);
    env.kelp(&["stop", "one"]).succeeds();
    assert_eq!(status(&env, "crew"), "Degraded");
    env.kelp(&["stop", "two"]).succeeds();
    ends(&env, "crew");
    // It was asked to end, and that is no failure.
    let code = env.kelp(&["inspect", "-f", "{{.State.ExitCode}}", &infra(&env, "crew")]);
    assert_eq!(code.succeeds(), "0\n");
    // A start brings it back, and a restart keeps it.
    env.kelp(&["start", "one"]).succeeds();
    let before = infra_pid(&env);
    env.kelp(&["restart", "one"]).succeeds();
    assert_eq!(infra_pid(&env), before);
    env.kelp(&["rm", "-f", "one"]).succeeds();
    ends(&env, "crew");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
    // By default it stays.
    create(&env, "crew", &[]);
    member(&env, &["run"], "crew", "one", &["true"]);
    assert_eq!(status(&env, "crew"), "Degraded");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

fn infra_pid(env: &Env) -> String {
    let words = ["inspect", "-f", "{{.State.Pid}}", &infra(env, "crew")];
    env.kelp(&words).succeeds()
}

#[test]
fn whose_ids_its_containers_have_is_no_matter() {
    let Some(env) = Env::new() else { return };
    for ids in ["keep-id", "auto", "nomap"] {
        let userns = format!("--userns={ids}");
        create(&env, "crew", &[STOP, &[&userns]].concat());
        member(&env, &["run", "-d"], "crew", "one", SLEEP);
        member(&env, &["run"], "crew", "two", &["true"]);
        assert_eq!(status(&env, "crew"), "Degraded", "{ids}");
        env.kelp(&["stop", "one"]).succeeds();
        ends(&env, "crew");
        env.kelp(&["pod", "rm", "crew"]).succeeds();
    }
}

#[test]
fn a_pod_in_which_nothing_was_started_runs_on() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", STOP);
    env.kelp(&["pod", "start", "crew"]).succeeds();
    assert_eq!(status(&env, "crew"), "Running");
    env.kelp(&["pod", "stop", "crew"]).succeeds();
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn those_that_end_while_others_are_started_end_nothing() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", STOP);
    for name in ["one", "two", "three"] {
        member(&env, &["create"], "crew", name, &["true"]);
    }
    // Each has the namespaces of an infra container that runs; then all have ended.
    env.kelp(&["pod", "start", "crew"]).succeeds();
    ends(&env, "crew");
    let codes = env.kelp(&[
        "inspect",
        "-f",
        "{{.State.ExitCode}}",
        "one",
        "two",
        "three",
    ]);
    assert_eq!(codes.succeeds(), "0\n0\n0\n");
    let starts = env.kelp(&[
        "events",
        "--stream=false",
        "--filter=event=start",
        "--filter=type=container",
        "--format={{.Name}}",
    ]);
    // The infra container once.
    assert_eq!(starts.succeeds().lines().count(), 4);
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn of_two_that_end_at_once_one_ends_the_pod() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", STOP);
    for round in 0..20 {
        // Both wait for the same thing.
        let script = "until [ -e /dev/shm/go ]; do sleep 0.01; done";
        let names = ["one", "two"];
        for name in names {
            let verb = ["run", "-d", "--rm"];
            member(&env, &verb, "crew", name, &["sh", "-c", script]);
        }
        env.kelp(&["exec", "one", "touch", "/dev/shm/go"]).done();
        ends(&env, "crew");
        assert_eq!(states(&env), "", "{round}");
    }
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn runs_one_after_the_other_find_the_pod_running() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", STOP);
    // Each is the last one, and the next comes while its monitor is about to end the pod.
    for _ in 0..20 {
        member(&env, &["run", "--rm"], "crew", "one", &["true"]);
    }
    ends(&env, "crew");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn one_that_can_not_be_started_ends_the_pod_as_well() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", STOP);
    let image = env.busybox();
    env.kelp(&["run", "--pod=crew", "--name=one", &image, "/nosuch"])
        .fails(127);
    ends(&env, "crew");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn who_makes_one_while_the_last_one_ends_keeps_the_pod_no_longer_than_that() {
    let Some(env) = Env::new() else { return };
    let id = create(&env, "crew", STOP);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    // As a `kelp create` that copies for long has it.
    let record = std::fs::File::open(env.path(&format!("d/kelp/pods/{id}"))).unwrap();
    record.lock_shared().unwrap();
    env.kelp(&["stop", "one"]).succeeds();
    // Nobody else is kept out meanwhile, nor ends the pod.
    member(&env, &["run", "--rm"], "crew", "two", &["true"]);
    assert_eq!(status(&env, "crew"), "Degraded");
    drop(record);
    ends(&env, "crew");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn a_pod_of_init_containers_ends_with_them_also_where_one_fails() {
    let Some(env) = Env::new() else { return };
    for (script, code) in [("true", 0), ("false", 125)] {
        create(&env, "crew", STOP);
        let verb = ["create", "--init-ctr=once"];
        member(&env, &verb, "crew", "first", &[script]);
        let started = env.kelp(&["pod", "start", "crew"]).done();
        assert_eq!(started.code, code, "{script}: {}", started.stderr);
        ends(&env, "crew");
        env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
    }
}

#[test]
fn a_start_that_fails_after_that_of_the_pod_ends_it() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", STOP);
    let image = env.busybox();
    // A descriptor that is not there is seen when the infra container runs.
    let words = [
        "run",
        "--rm",
        "--pod=crew",
        "--preserve-fds=500",
        &image,
        "true",
    ];
    env.kelp(&words).fails(125);
    ends(&env, "crew");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}
