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
