//! The journal of events: what happens in a container's life, in podman's words and in this order.

use crate::env::Env;

fn actions(env: &Env, name: &str) -> String {
    let words = [
        "events",
        "--stream=false",
        &format!("--filter=container={name}"),
        "--format={{.Status}}",
    ];
    let lines = env.kelp(&words).succeeds();
    lines.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_life_is_told_in_podmans_words() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = ["run", "-d", "--network=none"];
    env.kelp(&[&run[..], &["--name=told", &image, "sleep", "1000"]].concat())
        .succeeds();
    for words in [
        &["exec", "told", "true"][..],
        &["pause", "told"],
        &["unpause", "told"],
        &["stop", "-t", "0", "told"],
        &["restart", "-t", "0", "told"],
        &[
            "export",
            "-o",
            env.path("told.tar").to_str().unwrap(),
            "told",
        ],
        &["kill", "told"],
        &["rm", "told"],
    ] {
        env.kelp(words).succeeds();
    }
    assert_eq!(
        actions(&env, "told"),
        "create init start exec exec_died pause unpause died cleanup stop init start restart export died cleanup \
         kill remove"
    );
    env.kelp(&[
        "run",
        "--rm",
        "--name=short",
        "--network=none",
        &image,
        "true",
    ])
    .succeeds();
    let told = actions(&env, "short");
    assert_eq!(told, "create init start died cleanup remove");
}
