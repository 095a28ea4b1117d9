//! Plays that are refused, and those that fail in the middle.

use std::fs;
use std::thread;

use super::{SLEEPS, all, down, play, pod};
use crate::env::Env;
use crate::kelp::wait_until;

const CLAIM: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n---\n";

#[test]
fn what_is_not_understood_is_refused_before_anything_is_made() {
    let Some(env) = Env::new() else { return };
    for (text, said) in [
        (
            pod(&env, "web", "  nosuch: 1\n", &[("one", SLEEPS)]),
            "document 1 (Pod web), line 9, spec.nosuch: there is no such field, or kelp does not know it",
        ),
        (
            pod(
                &env,
                "web",
                "",
                &[("one", "    lifecycle: {preStop: {exec: {command: [a]}}}\n")],
            ),
            "document 1 (Pod web), line 13, spec.containers[0].lifecycle.preStop: it is not supported by kelp: let the command \
             do it when it is asked to stop",
        ),
        (
            "kind: Ingress\napiVersion: v1\nmetadata: {name: x}\n".to_owned(),
            "document 1 (Ingress x), line 1: the kind Ingress is not supported by kelp: there are Pod, Deployment, DaemonSet, \
             Job, ConfigMap, Secret and PersistentVolumeClaim",
        ),
        (
            pod(
                &env,
                "web",
                "  volumes: [{name: m, emptyDir: {medium: Memory}}]\n",
                &[
                    ("one", "    volumeMounts: [{name: m, mountPath: /m}]\n"),
                    ("two", "    volumeMounts: [{name: m, mountPath: /m}]\n"),
                ],
            ),
            "pod web, container one: volume m: medium: Memory that is mounted more than once is not supported by kelp: leave \
             medium out",
        ),
        (
            pod(
                &env,
                "web",
                "",
                &[(
                    "one",
                    "    securityContext: {capabilities: {add: [NOSUCH]}}\n",
                )],
            ),
            "",
        ),
        (
            pod(
                &env,
                "web",
                "  volumes: [{name: e, emptyDir: {}}]\n",
                &[(
                    "one",
                    "    volumeMounts: [{name: e, mountPath: /m}, {name: e, mountPath: /m/}]\n",
                )],
            ),
            "pod web, container one: /m/: duplicate mount destination",
        ),
        (
            pod(
                &env,
                "web",
                "  volumes: [{name: h, hostPath: {path: data, type: DirectoryOrCreate}}]\n",
                &[("one", "    volumeMounts: [{name: h, mountPath: /h}]\n")],
            ),
            "spec.volumes[0].hostPath.type: data is the name of a volume, which has no type: write ./data for a path",
        ),
        (
            CLAIM.repeat(2),
            "document 2 (PersistentVolumeClaim data), line 5: there are two claims of the name data",
        ),
        (
            "apiVersion: v1\nkind: List\nitem: []\nitems: []\n".to_owned(),
            "document 1, line 3, item: there is no such field, or kelp does not know it",
        ),
        (
            String::new(),
            "YAML document does not contain any supported kube kind",
        ),
    ] {
        let line = play(&env, &[], &text).fails(125);
        assert!(line.contains(said), "{line}\n{text}");
        assert_eq!(all(&env), "");
    }
}

#[test]
fn a_failure_in_the_middle_leaves_nothing() {
    let Some(env) = Env::new() else { return };
    let spec = "  volumes: [{name: e, emptyDir: {}}]\n";
    let fields = "    command: [sleep, '1000']\n    volumeMounts: [{name: e, mountPath: /e}]\n";
    let good = pod(&env, "one", spec, &[("a", fields)]);
    // The second pod's container can't be started, or made.
    for bad in [
        "    command: [/no/such/program]\n",
        "    command: [a]\n    workingDir: relative\n",
    ] {
        let text = format!(
            "{CLAIM}{good}---\n{}",
            pod(&env, "two", "", &[("a", SLEEPS), ("b", bad)])
        );
        let done = play(&env, &["--service-container"], &text).done();
        assert_eq!((done.code, done.stdout.as_str()), (125, ""), "{done:#?}");
        assert!(done.stderr.starts_with("Error: "), "{done:#?}");
        assert_eq!(all(&env), "");
    }
    // An init container that fails is told of with its log, and the rest is not started.
    let image = env.busybox();
    let init = format!(
        "  initContainers: [{{name: make, image: '{image}', imagePullPolicy: IfNotPresent, command: ['false']}}]\n"
    );
    let text = pod(&env, "web", &init, &[("one", SLEEPS)]);
    let line = play(&env, &[], &text).fails(125);
    assert!(line.contains("web-make exited with code 1"), "{line}");
    assert_eq!(all(&env), "");
}

#[test]
fn a_claim_whose_name_another_volume_begins_with_takes_nothing_of_that() {
    let Some(env) = Env::new() else { return };
    env.kelp(&["volume", "create", "data-more"]).succeeds();
    let image = env.busybox();
    let init = format!(
        "  initContainers: [{{name: make, image: '{image}', imagePullPolicy: IfNotPresent, command: [sleep, '1000']}}]\n"
    );
    let text = format!("{CLAIM}{}", pod(&env, "web", &init, &[("one", SLEEPS)]));
    thread::scope(|scope| {
        let played = scope.spawn(|| play(&env, &[], &text).done());
        wait_until("the init container runs", || {
            env.kelp(&["ps", "-q", "--filter=name=web-make"]).succeeds() != ""
        });
        // The play has made it, and finds nothing of its name when it takes away what it has made.
        env.kelp(&["volume", "rm", "data"]).succeeds();
        env.kelp(&["kill", "web-make"]).succeeds();
        let done = played.join().unwrap();
        assert_eq!(done.code, 125, "{done:#?}");
    });
    assert_eq!(all(&env), "data-more\n");
    down(&env, &["--force"], &text).succeeds();
    assert_eq!(all(&env), "data-more\n");
    env.kelp(&["volume", "rm", "data-more"]).succeeds();
}

#[test]
fn a_volume_that_is_not_the_pods_is_left_alone() {
    let Some(env) = Env::new() else { return };
    env.kelp(&["volume", "create", "web-e"]).succeeds();
    let text = pod(
        &env,
        "web",
        "  volumes: [{name: e, emptyDir: {}}]\n",
        &[("one", SLEEPS)],
    );
    let line = play(&env, &[], &text).fails(125);
    assert!(
        line.contains("volume web-e of the pod already exists"),
        "{line}"
    );
    assert_eq!(all(&env), "web-e\n");
    env.kelp(&["volume", "rm", "web-e"]).succeeds();
}

#[test]
fn several_files_are_as_one_and_errors_name_the_file() {
    let Some(env) = Env::new() else { return };
    let (one, two) = (env.word("one.yaml"), env.word("two.yaml"));
    let reads = "    command: [sleep, '1000']\n    envFrom: [{configMapRef: {name: conf}}]\n";
    fs::write(&one, pod(&env, "web", "", &[("a", reads)])).unwrap();
    fs::write(
        &two,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {A: b}\n",
    )
    .unwrap();
    env.kelp(&["kube", "play", "--network=none", &one, &two])
        .succeeds();
    env.kelp(&["kube", "down", &one, &two]).succeeds();
    let mut text = fs::read_to_string(&two).unwrap();
    text.push_str("---\nkind: x\n");
    fs::write(&two, text).unwrap();
    let line = env.kelp(&["kube", "play", &one, &two]).fails(125);
    assert!(line.contains("two.yaml, document 2 (x), line 6"), "{line}");
    let gone = down(&env, &[], "a: b: c\n").fails(125);
    assert!(gone.contains("line 1"), "{gone}");
}
