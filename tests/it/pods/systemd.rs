//! The command lines that a Quadlet .pod becomes, as systemd calls them.

use std::fs;

use super::{states, status};
use crate::env::Env;
use crate::kelp::{Kelp, wait_until};

/// The command in the environment that its unit has.
fn of_unit(env: &Env, unit: &str, words: &[&str]) -> Kelp {
    let mut command = env.kelp(words).into_command();
    command.env("PODMAN_SYSTEMD_UNIT", unit);
    Kelp::new(command)
}

#[test]
fn the_lines_of_a_unit_start_a_pod_and_take_it_away() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let pidfile = env.word("crew-pod.pid");
    let written = format!("--infra-conmon-pidfile={pidfile}");
    let pod = |words: &[&str]| of_unit(&env, "crew-pod.service", &[&["pod"], words].concat());
    let make = || {
        let names = [
            "--infra-name",
            "crew-infra",
            "--name",
            "crew",
            "--network=none",
        ];
        let words = ["create", &written, "--replace", "--exit-policy", "stop"];
        pod(&[&words[..], &names].concat()).succeeds();
    };
    for _ in 0..2 {
        make();
        pod(&["start", "crew"]).succeeds();
        // By this systemd knows the main process, which is the one that ends with the infra container.
        let told = fs::read_to_string(&pidfile).unwrap();
        let words = ["inspect", "-f", "{{.State.ConmonPid}}", "crew-infra"];
        assert_eq!(env.kelp(&words).succeeds().trim(), told);
        let own = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert_eq!(own(&told), own("self"));
        let words = [
            "run",
            "--name=one",
            "--replace",
            "--rm",
            "-d",
            "--stop-timeout=0",
            "--pod",
            "crew",
            &image,
            "sleep",
            "1000",
        ];
        of_unit(&env, "one.service", &words).succeeds();
        assert_eq!(status(&env, "crew"), "Running");
    }
    // Its last container ends, and so does what systemd watches.
    env.kelp(&["rm", "-v", "-f", "-i", "one"]).succeeds();
    wait_until("the pod has ended", || status(&env, "crew") == "Exited");
    pod(&["stop", "--ignore", "--time=10", "crew"]).succeeds();
    pod(&["rm", "--ignore", "--force", "crew"]).succeeds();
    pod(&["stop", "--ignore", "--time=10", "crew"]).succeeds();
    pod(&["rm", "--ignore", "--force", "crew"]).succeeds();
    assert_eq!(states(&env), "");
}
