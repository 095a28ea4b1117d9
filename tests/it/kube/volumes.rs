//! Volumes of pods: what is mounted, and what is made of the host's places.

use std::fs;

use super::{SLEEPS, all, down, exec, play, pod};
use crate::env::Env;

#[test]
fn what_a_container_writes_over_a_place_of_the_host_stays_off_it() {
    let Some(env) = Env::new() else { return };
    let place = env.path("place");
    // What the kernel leaves in a directory for its work is cleaned up with the home.
    let own = env.path("h/own");
    for directory in [&place, &own.join("upper"), &own.join("work")] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(place.join("there"), "").unwrap();
    let spec = format!(
        "  volumes: [{{name: h, hostPath: {{path: '{}'}}}}]\n",
        place.display()
    );
    let kept = format!(
        "/h:O,upperdir={own}/upper,workdir={own}/work",
        own = own.display()
    );
    for target in ["/h:O", &kept] {
        let fields = format!("{SLEEPS}    volumeMounts: [{{name: h, mountPath: '{target}'}}]\n");
        let text = pod(&env, "web", &spec, &[("one", &fields)]);
        play(&env, &[], &text).succeeds();
        let writes = "touch /h/new; rm /h/there; ls /h";
        assert_eq!(exec(&env, "web-one", writes), "new\n", "{target}");
        down(&env, &[], &text).succeeds();
        let names: Vec<_> = fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["there"], "{target}");
    }
    assert!(own.join("upper/new").exists());
    // An annotation says it of all places.
    let fields = format!("{SLEEPS}    volumeMounts: [{{name: h, mountPath: /h}}]\n");
    let text = pod(&env, "web", &spec, &[("one", &fields)]);
    play(&env, &["--annotation=bind-mount-options=O"], &text).succeeds();
    exec(&env, "web-one", "touch /h/new");
    down(&env, &[], &text).succeeds();
    assert!(!place.join("new").exists());
    assert_eq!(all(&env), "");
}

#[test]
fn memory_is_mounted_as_a_tmpfs_is_and_a_claim_as_a_volume() {
    let Some(env) = Env::new() else { return };
    let spec = "  volumes: [{name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}}, {name: d, \
                persistentVolumeClaim: {claimName: data}}]\n";
    let fields = format!(
        "{SLEEPS}    volumeMounts: [{{name: m, mountPath: /m}}, {{name: d, mountPath: '/home:nocopy'}}]\n"
    );
    let text = pod(&env, "web", spec, &[("one", &fields)]);
    play(&env, &[], &text).succeeds();
    let options = exec(&env, "web-one", "grep ' /m ' /proc/mounts");
    for option in ["tmpfs", "nosuid", "nodev", "size=1024k"] {
        assert!(options.contains(option), "{option}: {options}");
    }
    // The image has a directory there.
    assert_eq!(exec(&env, "web-one", "ls /home"), "");
    down(&env, &[], &text).succeeds();
    env.kelp(&["volume", "rm", "data"]).succeeds();
    assert_eq!(all(&env), "");
}

#[test]
fn places_are_made_with_the_pod_and_go_again_with_a_play_that_fails() {
    let Some(env) = Env::new() else { return };
    let place = |name: &str, kind: &str| {
        let path = env.path(name);
        format!("{{path: '{}', type: {kind}}}", path.display())
    };
    let spec = format!(
        "  volumes: [{{name: d, hostPath: {}}}, {{name: f, hostPath: {}}}]\n",
        place("made/inner", "DirectoryOrCreate"),
        place("file", "FileOrCreate"),
    );
    let fields = "    volumeMounts: [{name: d, mountPath: /d}, {name: f, mountPath: /f}]\n";
    let fields = format!("{SLEEPS}{fields}");
    let good = pod(&env, "one", &spec, &[("a", &fields)]);
    let is_made = || env.path("made").exists() || env.path("file").exists();
    // A second pod that is refused at once, one that can't be made, and one that can't be started.
    let taken = "  volumes: [{name: e, emptyDir: {}}]\n";
    env.kelp(&["volume", "create", "two-e"]).succeeds();
    for (spec, fields, said) in [
        (
            "",
            "    volumeMounts: [{name: none, mountPath: /x}]\n",
            "has no volume none",
        ),
        (taken, SLEEPS, "volume two-e of the pod already exists"),
        ("", "    command: [/no/such/program]\n", "/no/such/program"),
    ] {
        let text = format!("{good}---\n{}", pod(&env, "two", spec, &[("b", fields)]));
        let done = play(&env, &[], &text).done();
        assert_eq!(done.code, 125, "{done:#?}");
        assert!(done.stderr.contains(said), "{done:#?}");
        assert!(!is_made(), "{said}");
    }
    env.kelp(&["volume", "rm", "two-e"]).succeeds();
    assert_eq!(all(&env), "");
    play(&env, &[], &good).succeeds();
    assert_eq!(
        exec(&env, "one-a", "touch /d/x; test -f /f && ls /d"),
        "x\n"
    );
    down(&env, &[], &good).succeeds();
    assert!(env.path("made/inner/x").exists() && env.path("file").is_file());
    // What is of another kind is found before anything is replaced.
    play(&env, &[], &good).succeeds();
    let bad = good.replace("DirectoryOrCreate", "File");
    let line = play(&env, &["--replace"], &bad).fails(125);
    assert!(line.contains("pod one: volume d: host path "), "{line}");
    assert!(line.contains("/made/inner is not a file"), "{line}");
    assert_eq!(exec(&env, "one-a", "echo lives"), "lives\n");
    down(&env, &[], &good).succeeds();
    assert_eq!(all(&env), "");
}

#[test]
fn a_volume_that_others_use_is_theirs_once_its_pod_is_gone() {
    let Some(env) = Env::new() else { return };
    let spec = "  volumes: [{name: v, emptyDir: {}}]\n";
    let fields = format!("{SLEEPS}    volumeMounts: [{{name: v, mountPath: /v}}]\n");
    let text = pod(&env, "web", spec, &[("one", &fields)]);
    play(&env, &[], &text).succeeds();
    env.waiting("other", &["--network=none", "-v", "web-v:/z"]);
    exec(&env, "other", "echo theirs >/z/file");
    down(&env, &[], &text).succeeds();
    env.kelp(&["rm", "-f", "-t0", "other"]).succeeds();
    // Nobody takes it for what a killed play has left.
    let line = play(&env, &[], &text).fails(125);
    assert!(
        line.contains("volume web-v of the pod already exists"),
        "{line}"
    );
    assert_eq!(env.shell(&["-v", "web-v:/z"], "cat /z/file"), "theirs\n");
    env.kelp(&["volume", "rm", "web-v"]).succeeds();
    assert_eq!(all(&env), "");
}
