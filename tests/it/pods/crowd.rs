//! Several commands on one pod at the same time.

use std::thread;

use super::{SLEEP, create, member};
use crate::env::{Env, names};

#[test]
fn of_many_that_want_a_name_one_has_it() {
    let Some(env) = Env::new() else { return };
    // The image of infra containers is made.
    create(&env, "first", &[]);
    let words = ["pod", "create", "--network=none", "--name=crew"];
    let codes = at_once(4, |_| env.kelp(&words).into_command());
    let made = codes.iter().filter(|(code, _)| *code == 0);
    assert_eq!(made.count(), 1, "{codes:?}");
    assert!(
        codes.iter().all(|(code, _)| [0, 125].contains(code)),
        "{codes:?}"
    );
    let list = env.kelp(&["pod", "ps", "--sort=name", "--format={{.Name}}"]);
    assert_eq!(list.succeeds(), "crew\nfirst\n");
    // Each takes the place of the one before.
    let words = [
        "pod",
        "create",
        "--network=none",
        "--replace",
        "--name=crew",
    ];
    let codes = at_once(4, |_| env.kelp(&words).into_command());
    assert!(codes.iter().any(|(code, _)| *code == 0), "{codes:?}");
    env.kelp(&["pod", "rm", "-f", "-a"]).succeeds();
    assert!(names(&env.path("d/kelp/containers")).is_empty());
}

#[test]
fn containers_come_while_their_pod_goes() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for round in 0..5 {
        create(&env, "crew", &["--exit-policy=stop"]);
        member(&env, &["run", "-d"], "crew", "one", SLEEP);
        let run = [
            "run",
            "--rm",
            "--pod=crew",
            "--stop-timeout=0",
            &image,
            "true",
        ];
        let remove = ["pod", "rm", "-f", "crew"];
        let codes = at_once(6, |number| {
            let words = if number % 3 == 0 { &remove[..] } else { &run };
            env.kelp(words).into_command()
        });
        for (number, (code, _)) in codes.iter().enumerate() {
            let expected: &[i32] = if number % 3 == 0 {
                &[0]
            } else {
                &[0, 125, 137]
            };
            assert!(expected.contains(code), "{round}: {codes:?}");
        }
        // One that came late may have found the pod gone, and no other is left.
        env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
        for place in ["pods", "containers", "names"] {
            let left = names(&env.path(&format!("d/kelp/{place}")));
            assert!(left.is_empty(), "{round}: {place}: {left:?}");
        }
    }
}

#[test]
fn a_reset_leaves_nothing_of_a_pod() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &["--exit-policy=stop"]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    env.kelp(&["system", "reset", "-f"]).succeeds();
    assert!(names(&env.path("d/kelp")).is_empty());
}

/// Runs commands at the same time; their codes.
fn at_once(count: usize, command: impl Fn(usize) -> std::process::Command) -> Vec<(i32, String)> {
    let commands: Vec<_> = (0..count).map(command).collect();
    let running = commands.into_iter().map(|command| {
        thread::spawn(move || {
            let done = crate::kelp::Kelp::new(command).done();
            (done.code, done.stderr)
        })
    });
    let running: Vec<_> = running.collect();
    running
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}
