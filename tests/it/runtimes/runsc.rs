//! gVisor's runsc: a kernel of its own beneath the container.

use super::World;

/// Without a network of the sandbox's own: that of Debian 12's version fails on kernels since 6.12, which
/// show more of /proc/sys/net than it expects of a network namespace.
const NO_NETWORK: &str = "--runtime-flag=network=none";

#[test]
fn a_sandboxed_container_goes_through_its_life() {
    let Some(world) = World::new("runsc") else {
        return;
    };
    let flags = [
        NO_NETWORK,
        "--hostname=here",
        "--user=1000:7",
        "-e",
        "A=b",
        "--tmpfs=/scratch",
        "-v",
        "named:/v",
    ];
    let script = "id -u; id -g; hostname; echo $A; echo kept > /scratch/x && cat /scratch/x; echo > /v/file; \
                  uname -r; echo err >&2; exit 7";
    let done = world
        .run(
            &[&["--rm", "--network=none"], &flags[..]].concat(),
            &["sh", "-c", script],
        )
        .done();
    let expected = "1000\n7\nhere\nb\nkept\n4.4.0\n";
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (7, expected),
        "{done:#?}"
    );
    assert_eq!(done.stderr, "err\n");
    let line = world
        .run(&["--rm", "--network=none", NO_NETWORK], &["nosuch"])
        .fails(127);
    assert!(
        line.starts_with("Error: runsc: ") && line.contains("nosuch"),
        "{line}"
    );

    world.start(
        &[NO_NETWORK],
        "echo started; trap 'exit 5' TERM; while :; do sleep 0.1; done",
    );
    let exec = ["exec", "-e", "A=b", "c", "sh", "-c", "echo $A; exit 4"];
    assert_eq!(world.env.kelp(&exec).done().exits(4), "b\n");
    let fed = world.env.kelp(&["exec", "-i", "c", "cat"]).input(b"sent");
    assert_eq!(fed.succeeds(), "sent");
    // All of the sandbox is frozen and ended by the cgroup that it is in.
    world.kelp(&["pause", "c"]);
    assert_eq!(world.inspect("{{.State.Status}}"), "paused\n");
    world.kelp(&["unpause", "c"]);
    world.kelp(&["stop", "c"]);
    assert_eq!(world.inspect("{{.State.ExitCode}}"), "5\n");
    assert_eq!(world.kelp(&["logs", "c"]), "started\n");
    world.kelp(&["start", "c"]);
    world.kelp(&["kill", "-s", "KILL", "c"]);
    assert_eq!(world.kelp(&["wait", "c"]), "137\n");
    world.kelp(&["rm", "c"]);
}
