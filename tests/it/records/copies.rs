//! What takes long while a container is being made, and what is left where the making ends early.

use std::fs;
use std::path::PathBuf;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::archive::Layer;
use crate::env::{Env, names};
use crate::image::Image;
use crate::kelp::{state_of, wait, wait_until};

/// An image that takes a while to be extracted and copied.
fn slow() -> Image {
    let mut layer = Layer::default().owned_file("srv/user", 0o600, (1000, 1000), b"of a user\n");
    for number in 0..4000 {
        layer = layer.file(&format!("srv/{number}"), 0o644, b"x");
    }
    Image::busybox().layer(layer)
}

/// Starts a command, and stops the process in this role that it starts.
fn stop_in_role(env: &Env, command: &[&str], role: &str, again: &dyn Fn()) -> (Child, Pid) {
    let role = format!("kelp\0internal\0{role}\0");
    for _ in 0..20 {
        let mut kelp = env.kelp(command).start();
        while kelp.try_wait().unwrap().is_none() {
            let Some(pid) = find(env, &role) else {
                continue;
            };
            let process = Pid::from_raw(pid as i32).unwrap();
            if kill_process(process, Signal::STOP).is_ok() && comes_to_rest(pid) {
                return (kelp, process);
            }
        }
        again();
    }
    panic!("{command:?}: its {role:?} was never met");
}

/// A process of this world whose command line begins so.
fn find(env: &Env, start: &str) -> Option<u32> {
    let data = env.path("d").display().to_string();
    let pids = names("/proc".as_ref())
        .into_iter()
        .filter_map(|name| name.parse().ok());
    pids.into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.starts_with(start) && line.contains(&data)
    })
}

/// Whether a process that was told to stop does, or ends.
fn comes_to_rest(pid: u32) -> bool {
    let mut state = None;
    wait_until("it stops or ends", || {
        state = state_of(pid);
        matches!(state, None | Some('T' | 'Z' | 'X'))
    });
    state == Some('T')
}

fn records(env: &Env) -> Vec<String> {
    names(&env.path("d/kelp/containers"))
}

/// Images and volumes can be removed while an image is copied or extracted for a container.
#[test]
fn nobody_waits_for_what_takes_long() {
    let Some(env) = Env::new() else { return };
    let image = env.image("slow", &slow);
    let other = || {
        let other = env.push("other-than-slow", &|| {
            Image::empty().layer(Layer::default())
        });
        env.kelp(&["pull", "-q", &other]).succeeds();
        env.kelp(&["volume", "create", "other"]).succeeds();
        other
    };
    let create = ["create", "--name", "slow", "-v", "own:/own"];
    let copied = [&["--storage-driver=vfs"], &create[..], &[&image, "true"]].concat();
    // Another map of ids than the image has layers for.
    let extracted = [&create[..], &["--userns=keep-id", &image, "true"]].concat();
    for (command, role) in [(copied, "populate"), (extracted, "unpack")] {
        let again = || drop(env.kelp(&["rm", "-f", "slow"]).done());
        let (mut kelp, process) = stop_in_role(&env, &command, role, &again);
        let other = other();
        env.kelp(&["rmi", &other]).succeeds();
        env.kelp(&["volume", "rm", "other"]).succeeds();
        kill_process(process, Signal::CONT).unwrap();
        assert_eq!(wait(&mut kelp, role), 0, "{role}");
        env.kelp(&["volume", "inspect", "own"]).succeeds();
        env.kelp(&["start", "-a", "slow"]).succeeds();
        env.kelp(&["rm", "slow"]).succeeds();
    }
    env.kelp(&["volume", "rm", "own"]).succeeds();
}

#[test]
fn an_image_that_goes_while_it_is_copied_is_missed() {
    let Some(env) = Env::new() else { return };
    let image = env.image("slow", &slow);
    let command = ["--storage-driver=vfs", "create", "--name", "slow"];
    let command = [&command[..], &[&image, "true"]].concat();
    let again = || drop(env.kelp(&["rm", "-f", "slow"]).done());
    let (kelp, process) = stop_in_role(&env, &command, "populate", &again);
    env.kelp(&["rmi", &image]).done().exits(0);
    kill_process(process, Signal::CONT).unwrap();
    let output = kelp.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.ends_with("was removed while the container was being made\n"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(records(&env), [""; 0]);
    assert_eq!(names(&env.path("d/kelp/names")), [""; 0]);
    env.kelp(&["image", "prune", "-f"]).done().exits(0);
    let blobs = names(&env.path("d/kelp/blobs/sha256"));
    assert_eq!(blobs, [""; 0]);
}

#[test]
fn a_name_that_is_taken_costs_no_copy() {
    let Some(env) = Env::new() else { return };
    let image = env.image("slow", &slow);
    let create = ["--storage-driver=vfs", "create", "--name", "dup", &image];
    let create = [&create[..], &["true"]].concat();
    env.kelp(&create).succeeds();
    let one = records(&env);
    let (mut kelp, process) = {
        // What would copy is never met.
        let mut kelp = env.kelp(&create).start();
        let role = "kelp\0internal\0populate\0";
        let mut met = None;
        while kelp.try_wait().unwrap().is_none() {
            met = met.or(find(&env, role));
        }
        (kelp, met)
    };
    assert_eq!((wait(&mut kelp, "create"), process), (125, None));
    assert_eq!(records(&env), one);
    assert_eq!(names(&env.path("d/kelp/trash")), [""; 0]);
    env.kelp(&["rm", "dup"]).succeeds();
}

/// Files of subordinate ids are no obstacle, neither for the command that fails nor for a prune.
#[test]
fn a_copy_for_nothing_goes() {
    let Some(env) = Env::new() else { return };
    let image = env.image("slow", &slow);
    let trash: PathBuf = env.path("d/kelp/trash");
    let create = ["--storage-driver=vfs", "create", "--name", "void", "-v"];
    let create = |mount| [&create[..], &[mount, &image, "true"]].concat();
    let said = env.kelp(&create("/nowhere/at/all:/x")).fails(125);
    assert!(said.contains("statfs /nowhere/at/all"), "{said}");
    assert_eq!(records(&env), [""; 0]);
    assert_eq!(names(&trash), [""; 0]);
    assert_eq!(names(&env.path("d/kelp/names")), [""; 0]);
    let again = || drop(env.kelp(&["rm", "-f", "void"]).done());
    let (mut kelp, _) = stop_in_role(&env, &create("/x"), "populate", &again);
    // The copy ends with its command.
    kelp.kill().unwrap();
    kelp.wait().unwrap();
    assert_eq!(records(&env).len(), 1);
    env.kelp(&["container", "prune", "-f"]).succeeds();
    assert_eq!(records(&env), [""; 0]);
    assert_eq!(names(&trash), [""; 0]);
    assert_eq!(names(&env.path("d/kelp/names")), [""; 0]);
    env.kelp(&["image", "prune", "-f"]).succeeds();
}
