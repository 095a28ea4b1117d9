//! The command lines that a Quadlet .kube becomes, as systemd calls them.

use std::fs;
use std::os::unix::net::UnixDatagram;

use super::{SLEEPS, all, pod};
use crate::env::Env;
use crate::kelp::{Kelp, state_of, wait_until};

/// The command in the environment that its unit has.
fn of_unit(env: &Env, words: &[&str]) -> Kelp {
    let mut command = env.kelp(words).into_command();
    command.env("PODMAN_SYSTEMD_UNIT", "app.service");
    command.env("NOTIFY_SOCKET", env.path("notify"));
    Kelp::new(command)
}

/// What the manager is told; the main process.
fn told(socket: &UnixDatagram) -> u32 {
    let mut buffer = [0; 1024];
    let length = socket.recv(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(text.contains("READY=1"), "{text}");
    let pid = text.lines().find_map(|line| line.strip_prefix("MAINPID="));
    pid.unwrap().parse().unwrap()
}

const PLAY: &[&str] = &[
    "kube",
    "play",
    "--replace",
    "--service-container=true",
    "--network=none",
];

#[test]
fn the_main_process_of_a_unit_lives_as_long_as_its_pods() {
    let Some(env) = Env::new() else { return };
    let socket = UnixDatagram::bind(env.path("notify")).unwrap();
    let file = env.word("app.yaml");
    let text = format!(
        "{}---\n{}",
        pod(&env, "one", "", &[("a", SLEEPS)]),
        pod(&env, "two", "", &[("a", SLEEPS), ("b", SLEEPS)])
    );
    fs::write(&file, text).unwrap();
    for _ in 0..2 {
        of_unit(&env, &[PLAY, &[&file]].concat()).succeeds();
        let main = told(&socket);
        assert!(state_of(main).is_some());
        env.kelp(&["pod", "kill", "one"]).succeeds();
        env.kelp(&["kill", "two-a"]).succeeds();
        assert!(state_of(main).is_some());
        env.kelp(&["kill", "two-b"]).succeeds();
        wait_until("the main process has ended", || {
            matches!(state_of(main), None | Some('Z'))
        });
    }
    of_unit(&env, &["kube", "down", &file]).succeeds();
    of_unit(&env, &["kube", "down", &file]).succeeds();
    assert_eq!(all(&env), "");
}

#[test]
fn whatever_has_the_name_of_its_image_the_main_process_is_kelps_own() {
    let Some(env) = Env::new() else { return };
    let socket = UnixDatagram::bind(env.path("notify")).unwrap();
    let file = env.word("app.yaml");
    fs::write(&file, pod(&env, "app", "", &[("a", SLEEPS)])).unwrap();
    let name = format!("localhost/kelp-pause:{}", env!("CARGO_PKG_VERSION"));
    env.kelp(&["tag", &env.busybox(), &name]).succeeds();
    of_unit(&env, &[PLAY, &[&file]].concat()).succeeds();
    assert!(state_of(told(&socket)).is_some());
    let infra = ["pod", "inspect", "-f", "{{.InfraContainerID}}", "app"];
    let infra = env.kelp(&infra).succeeds();
    let words = [
        "inspect",
        "-f",
        "{{.Image}}",
        "app-service",
        infra.trim_end(),
    ];
    let images = env.kelp(&words).succeeds();
    let images: Vec<_> = images.lines().collect();
    assert_eq!(images[0], images[1]);
    of_unit(&env, &["kube", "down", &file]).succeeds();
    assert_eq!(all(&env), "");
}

#[test]
fn what_the_main_process_exits_with_is_as_propagated() {
    let Some(env) = Env::new() else { return };
    let socket = UnixDatagram::bind(env.path("notify")).unwrap();
    let file = env.word("app.yaml");
    let (fails, ends) = ("    command: ['false']\n", "    command: ['true']\n");
    let all_fail = pod(&env, "app", "", &[("a", fails), ("b", fails)]);
    let one_fails = pod(&env, "app", "", &[("a", fails), ("b", ends)]);
    for (text, when, code) in [
        (&all_fail, "none", 0),
        (&all_fail, "all", 1),
        (&one_fails, "all", 0),
        (&one_fails, "any", 1),
    ] {
        fs::write(&file, text).unwrap();
        let flag = format!("--service-exit-code-propagation={when}");
        of_unit(&env, &[PLAY, &[&flag, &file]].concat()).succeeds();
        told(&socket);
        // The journal of events has what the container exited with, which is removed once it has ended.
        let died = [
            "events",
            "--stream=false",
            "--filter=container=app-service",
            "--filter=event=died",
            "--format={{.ContainerExitCode}}",
        ];
        let expected = code.to_string();
        wait_until("the service container has ended well or not", || {
            let list = env.kelp(&died).succeeds();
            list.lines().last() == Some(&expected)
        });
        of_unit(&env, &["kube", "down", &file]).succeeds();
        let gone = ["ps", "-a", "--filter=name=app-service", "-q"];
        wait_until("it is gone", || env.kelp(&gone).succeeds().is_empty());
    }
    assert_eq!(all(&env), "");
}

#[test]
fn a_unit_that_is_stopped_gives_its_containers_their_time() {
    let Some(env) = Env::new() else { return };
    let socket = UnixDatagram::bind(env.path("notify")).unwrap();
    let file = env.word("app.yaml");
    let traps = "    command: [sh, -c, 'trap \"echo bye >> /d/said; exit 3\" TERM; touch /d/ready; while :; do sleep 0.1; done']\n    \
                 volumeMounts: [{name: d, mountPath: /d}]\n";
    let place = env.path("said");
    fs::create_dir(&place).unwrap();
    let spec = format!(
        "  volumes: [{{name: d, hostPath: {{path: '{}'}}}}]\n",
        place.display()
    );
    let text = pod(&env, "app", &spec, &[("a", traps)]);
    let text = text.replace("PeriodSeconds: 0", "PeriodSeconds: 60");
    fs::write(&file, text).unwrap();
    let flag = "--service-exit-code-propagation=any";
    of_unit(&env, &[PLAY, &[flag, &file]].concat()).succeeds();
    let main = told(&socket);
    wait_until("it waits for signals", || place.join("ready").exists());
    // As systemd does, and no other process of the unit hears of it.
    let pid = rustix::process::Pid::from_raw(main.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_until("the main process has ended", || {
        matches!(state_of(main), None | Some('Z'))
    });
    assert_eq!(fs::read_to_string(place.join("said")).unwrap(), "bye\n");
    let died = [
        "events",
        "--stream=false",
        "--filter=container=app-service",
        "--filter=event=died",
        "--format={{.ContainerExitCode}}",
    ];
    assert_eq!(env.kelp(&died).succeeds(), "0\n");
    of_unit(&env, &["kube", "down", &file]).succeeds();
    assert_eq!(all(&env), "");
}

#[test]
fn a_container_that_has_the_name_of_the_main_process_stays_unless_it_is_to_be_replaced() {
    let Some(env) = Env::new() else { return };
    let _socket = UnixDatagram::bind(env.path("notify")).unwrap();
    let file = env.word("app.yaml");
    fs::write(&file, pod(&env, "app", "", &[("a", SLEEPS)])).unwrap();
    let sleeps = ["run", "-d", "--network=none", "--name=app-service"];
    let image = env.busybox();
    let id = env.kelp(&[&sleeps[..], &[&image, "sleep", "1000"]].concat());
    let id = id.succeeds();
    let words: Vec<_> = PLAY.iter().filter(|it| **it != "--replace").collect();
    let words: Vec<_> = words.into_iter().copied().chain([&*file]).collect();
    let line = of_unit(&env, &words).fails(125);
    assert!(line.contains("app-service"), "{line}");
    let state = ["inspect", "-f", "{{.Id}} {{.State.Status}}", "app-service"];
    let running = format!("{} running\n", id.trim());
    assert_eq!(env.kelp(&state).succeeds(), running);
    of_unit(&env, &[PLAY, &[&file]].concat()).succeeds();
    assert!(!env.kelp(&state).succeeds().contains(id.trim()));
    of_unit(&env, &["kube", "down", &file]).succeeds();
    assert_eq!(all(&env), "");
}
