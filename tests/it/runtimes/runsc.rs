//! gVisor's runsc: a kernel of its own beneath the container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::World;

/// No network of the sandbox's own. Debian 12's version takes every network namespace with
/// net.core.rmem_default for the machine's, and newer kernels have it in all of them.
const NO_NETWORK: &str = "--runtime-flag=network=none";

#[test]
fn a_sandboxed_container_goes_through_its_life() {
    let Some(mut world) = World::new("runsc") else {
        return;
    };
    let deletes = world.watch_deletes();
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
    // In none of the lives has it waited in vain for a process of its own.
    assert_eq!(fs::read_to_string(deletes).unwrap(), "0\n".repeat(4));
}

impl World {
    /// Has the exit code of each `delete` written to a file.
    fn watch_deletes(&mut self) -> PathBuf {
        let codes = self.env.path("h/codes");
        let directory = self.env.path("h/watched");
        fs::create_dir(&directory).unwrap();
        let program = directory.join("runsc");
        let script = format!(
            "#!/bin/sh\nrunsc \"$@\"\ncode=$?\ncase \" $* \" in *' delete '*) echo $code >>{};; esac\nexit $code\n",
            codes.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program.to_str().unwrap().clone_into(&mut self.runtime);
        codes
    }
}
