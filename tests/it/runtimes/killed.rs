//! A monitor that is killed takes the container along, though another runtime has made it.

use std::fs;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::World;
use crate::kelp::{LIMIT, wait_until};

impl World {
    fn pid(&self, format: &str) -> Pid {
        Pid::from_raw(self.inspect(format).trim().parse().unwrap()).unwrap()
    }

    /// Kills the container's monitor, and waits for the end of its program, which no command brings about.
    fn kill_monitor(&self) {
        let init = pidfd_open(self.pid("{{.State.Pid}}"), PidfdFlags::empty()).unwrap();
        let monitor = self.pid("{{.State.ConmonPid}}");
        kill_process(monitor, Signal::KILL).unwrap();
        // A pidfd is readable once its process has ended.
        let mut ended = [PollFd::new(&init, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: LIMIT.as_secs() as i64,
            tv_nsec: 0,
        };
        assert_eq!(poll(&mut ended, Some(&limit)), Ok(1), "{}", self.name);
    }
}

#[test]
fn a_killed_monitor_takes_its_container_with_it() {
    for world in World::each() {
        let mut kinds = vec![&[][..], &["--pid=host"]];
        if world.name == "crun" {
            kinds.push(&["--cgroups=disabled"]);
        }
        for flags in kinds {
            world.start(flags, "sleep 1000");
            world.kill_monitor();
            let state = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}";
            assert_eq!(
                world.inspect(state),
                "exited 137 the container's monitor was killed\n",
                "{}",
                world.name
            );
            world.kelp(&["start", "c"]);
            assert_eq!(world.inspect("{{.State.Status}}"), "running\n");
            world.kill_monitor();
            world.kelp(&["rm", "c"]);
        }
    }
}

#[test]
fn a_start_that_hangs_in_a_runtime_is_ended_by_rm() {
    let Some(world) = World::new("kelp-runtime") else {
        return;
    };
    let path = world.env.path("h/hangs");
    fs::write(&path, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let words = [
        "run",
        "-d",
        "--name=c",
        "--network=none",
        "--runtime",
        path.to_str().unwrap(),
        &world.image,
        "true",
    ];
    let mut starting = world.env.kelp(&words).start();
    let containers = world.env.path("d/kelp/containers");
    let begun = || {
        let entries = fs::read_dir(&containers).into_iter().flatten().flatten();
        entries.count() == 1 && world.env.kelp(&["inspect", "c"]).done().code == 0
    };
    wait_until("the container is there", begun);
    world.end();
    assert_ne!(starting.wait().unwrap().code(), Some(0));
}
