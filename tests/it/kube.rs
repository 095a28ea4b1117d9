//! Kubernetes YAML: what a play makes of documents, and how it is taken away.

mod fails;
mod service;
mod volumes;

use std::fs;
use std::os::unix::fs::symlink;

use crate::env::Env;
use crate::kelp::{Kelp, wait_until};
use crate::network::{free_port, get};
use crate::skip::{no_pasta, skip};

/// A pod that does not start again and takes no time to end, with these lines of its `spec` and these containers, each
/// a name and what follows.
fn pod(env: &Env, name: &str, spec: &str, containers: &[(&str, &str)]) -> String {
    let image = env.busybox();
    let mut text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 0\n{spec}  containers:\n"
    );
    for (name, fields) in containers {
        let middle = [
            "\n    image: ",
            &image,
            "\n    imagePullPolicy: IfNotPresent\n",
        ];
        text.push_str(&["  - name: ", name, &middle.concat(), fields].concat());
    }
    text
}

const SLEEPS: &str = "    command: [sleep, '1000']\n";

/// Plays a text with a loopback interface and no other.
fn play(env: &Env, flags: &[&str], text: &str) -> Kelp {
    let words = [&["kube", "play", "--network=none"], flags, &["-"]].concat();
    env.kelp(&words).input(text.as_bytes())
}

fn down(env: &Env, flags: &[&str], text: &str) -> Kelp {
    let words = [&["kube", "down"], flags, &["-"]].concat();
    env.kelp(&words).input(text.as_bytes())
}

fn exec(env: &Env, name: &str, script: &str) -> String {
    env.kelp(&["exec", name, "sh", "-c", script]).succeeds()
}

/// Waits until a container has said this, and nothing else.
fn logs(env: &Env, name: &str, said: &str) {
    wait_until(&format!("{name} says {said:?}"), || {
        env.kelp(&["logs", name]).succeeds() == said
    });
}

/// What there is: containers, pods and volumes.
fn all(env: &Env) -> String {
    let lists = [
        &["ps", "-aq"][..],
        &["pod", "ps", "-q"],
        &["volume", "ls", "-q"],
    ];
    lists.map(|words| env.kelp(words).succeeds()).concat()
}

#[test]
fn a_pod_is_played_replaced_and_taken_down() {
    let Some(env) = Env::new() else { return };
    let text = pod(&env, "web", "", &[("one", SLEEPS), ("two", SLEEPS)]);
    let said = play(&env, &[], &text).succeeds();
    let lines: Vec<_> = said.lines().collect();
    let ["Pod:", id, "Containers:", one, two, ""] = *lines else {
        panic!("{said}");
    };
    let names = env.kelp(&[
        "ps",
        "--no-trunc",
        "--sort=names",
        "--format={{.ID}} {{.Names}} {{.PodName}}",
    ]);
    let names = names.succeeds();
    assert!(
        names.contains(&format!("{one} web-one web\n{two} web-two web\n")),
        "{names}"
    );
    // A second one is refused, and takes nothing of the first.
    let line = play(&env, &[], &text).fails(125);
    assert!(line.contains("web"), "{line}");
    assert_eq!(exec(&env, "web-one", "echo lives"), "lives\n");
    let again = play(&env, &["--replace"], &text).succeeds();
    assert!(!again.contains(id), "{again}");
    let id = again.lines().nth(1).unwrap();
    let removed =
        format!("Pods stopped:\n{id}\nPods removed:\n{id}\nSecrets removed:\nVolumes removed:\n");
    assert_eq!(down(&env, &[], &text).succeeds(), removed);
    let nothing = "Pods stopped:\nPods removed:\nSecrets removed:\nVolumes removed:\n";
    assert_eq!(down(&env, &[], &text).succeeds(), nothing);
    assert_eq!(all(&env), "");
}

#[test]
fn config_maps_and_secrets_are_variables_and_files() {
    let Some(env) = Env::new() else { return };
    let data = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata:\n  COLOUR: green\n  motd: hello\n---\n\
                apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {word: sesame}\n---\n";
    let spec = "  volumes:\n  - {name: conf, configMap: {name: conf, items: [{key: motd, path: etc/motd, mode: 0640}]}}\n  - \
                {name: keys, secret: {secretName: keys, defaultMode: 0400}}\n  - {name: shared, emptyDir: {}}\n";
    let one = "    command: [sh, -c, 'echo $(COLOUR) $WORD; sleep 1000']\n    envFrom: [{configMapRef: {name: conf}}]\n    env:\n    \
               - name: WORD\n      valueFrom: {secretKeyRef: {name: keys, key: word}}\n    volumeMounts:\n    - {name: conf, \
               mountPath: /conf, readOnly: true}\n    - {name: keys, mountPath: /keys}\n    - {name: shared, mountPath: /shared}\n";
    let two =
        "    command: [sleep, '1000']\n    volumeMounts: [{name: shared, mountPath: /other}]\n";
    let text = format!(
        "{data}{}",
        pod(&env, "web", spec, &[("one", one), ("two", two)])
    );
    play(&env, &[], &text).succeeds();
    logs(&env, "web-one", "green sesame\n");
    let look = "cat /conf/etc/motd; echo; stat -c %a /conf/etc/motd; ls /conf; cat /keys/word; echo; stat -c %a /keys/word; \
                touch /conf/x 2>/dev/null || echo kept";
    assert_eq!(
        exec(&env, "web-one", look),
        "hello\n640\netc\nsesame\n400\nkept\n"
    );
    exec(&env, "web-one", "echo here > /shared/note");
    assert_eq!(exec(&env, "web-two", "cat /other/note"), "here\n");
    assert_eq!(
        env.kelp(&["volume", "ls", "-q"]).succeeds(),
        "web-conf\nweb-keys\nweb-shared\n"
    );
    // They go with the pod, whoever takes it away.
    env.kelp(&["pod", "rm", "-f", "web"]).succeeds();
    assert_eq!(all(&env), "");
}

#[test]
fn a_config_map_may_be_in_a_file_of_its_own() {
    let Some(env) = Env::new() else { return };
    let file = env.word("conf.yaml");
    fs::write(
        &file,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {A: b}\n",
    )
    .unwrap();
    let prints = "    command: [sh, -c, 'echo $A; sleep 1000']\n    envFrom: [{configMapRef: {name: conf}}]\n";
    let text = pod(&env, "web", "", &[("one", prints)]);
    let line = play(&env, &[], &text).fails(125);
    assert!(line.contains("there is no config map conf"), "{line}");
    play(&env, &["--configmap", &file], &text).succeeds();
    logs(&env, "web-one", "b\n");
    // What is taken down needs no config maps.
    down(&env, &[], &text).succeeds();
    assert_eq!(all(&env), "");
}

#[test]
fn containers_of_a_pod_reach_each_other_after_its_init_container() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let spec = format!(
        "  hostAliases: [{{ip: 10.1.2.3, hostnames: [db]}}]\n  volumes: [{{name: www, emptyDir: {{}}}}]\n  initContainers:\n  - \
         {{name: make, image: '{image}', imagePullPolicy: IfNotPresent, command: [sh, -c, 'echo served > /www/index.html'], volumeMounts: [{{name: www, \
         mountPath: /www}}]}}\n"
    );
    let serves = "    command: [httpd, -f, -p, '8080', -h, /www]\n    volumeMounts: [{name: www, mountPath: /www, readOnly: true}]\n";
    let text = pod(&env, "web", &spec, &[("one", serves), ("two", SLEEPS)]);
    play(&env, &[], &text).succeeds();
    let asks = "until wget -q -O - http://localhost:8080/; do :; done 2>/dev/null; grep -c 10.1.2.3 /etc/hosts; hostname";
    assert_eq!(exec(&env, "web-two", asks), "served\n1\nweb\n");
    // It ran once.
    let names = env.kelp(&["ps", "-a", "--filter=name=web-make", "-q"]);
    assert_eq!(names.succeeds(), "");
    down(&env, &[], &text).succeeds();
    assert_eq!(all(&env), "");
}

#[test]
fn a_host_port_is_published() {
    let Some(env) = Env::new() else { return };
    if let Some(missing) = no_pasta() {
        return skip(missing);
    }
    let port = free_port();
    let serves = format!(
        "    command: [sh, -c, 'mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www']\n    ports: \
         [{{containerPort: 8080, hostPort: {port}, hostIP: 127.0.0.1}}]\n"
    );
    let text = pod(&env, "web", "", &[("one", &serves)]);
    env.kelp(&["play", "kube", "-"])
        .input(text.as_bytes())
        .succeeds();
    assert_eq!(get(port), "served\n");
    let down = env.kelp(&["kube", "play", "--down", "-"]);
    down.input(text.as_bytes()).succeeds();
    assert_eq!(all(&env), "");
}

#[test]
fn claims_are_volumes_that_stay_unless_force_is_said() {
    let Some(env) = Env::new() else { return };
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], \
                 resources: {requests: {storage: 1Gi}}}\n---\n";
    let spec = "  volumes: [{name: d, persistentVolumeClaim: {claimName: data}}]\n";
    let writes = "    command: [sh, -c, 'echo kept >> /d/x; sleep 1000']\n    volumeMounts: [{name: d, mountPath: /d}]\n";
    let text = format!("{claim}{}", pod(&env, "web", spec, &[("one", writes)]));
    let said = play(&env, &[], &text).succeeds();
    assert!(said.starts_with("Volumes:\ndata\nPod:\n"), "{said}");
    down(&env, &[], &text).succeeds();
    assert_eq!(all(&env), "data\n");
    let said = down(&env, &["--force"], &text).succeeds();
    assert!(said.ends_with("Volumes removed:\ndata\n"), "{said}");
    assert_eq!(all(&env), "");
}

#[test]
fn users_rights_and_paths_of_the_host_are_as_said() {
    let Some(env) = Env::new() else { return };
    let place = env.path("made");
    fs::create_dir_all(place.join("inner")).unwrap();
    let spec = format!(
        "  shareProcessNamespace: true\n  securityContext: {{runAsUser: 7, runAsGroup: 8}}\n  volumes: [{{name: h, hostPath: {{path: \
         '{}', type: DirectoryOrCreate}}}}]\n",
        place.display()
    );
    let fields = "    command: [sleep]\n    args: ['1000']\n    workingDir: /tmp\n    securityContext: {capabilities: {drop: [ALL]}, \
                  allowPrivilegeEscalation: false, readOnlyRootFilesystem: true}\n    volumeMounts: [{name: h, mountPath: /h, \
                  subPath: inner}]\n";
    let text = pod(&env, "web", &spec, &[("one", fields)]);
    play(&env, &["--no-pod-prefix", "--log-driver=k8s-file"], &text).succeeds();
    let look = "id -u; id -g; pwd; grep -E 'CapEff|NoNewPrivs' /proc/self/status | cut -f2; touch /x 2>/dev/null || echo kept; ls -d /h";
    assert_eq!(
        exec(&env, "one", look),
        "7\n8\n/tmp\n0000000000000000\n1\nkept\n/h\n"
    );
    down(&env, &[], &text).succeeds();
    assert_eq!(all(&env), "");
    // Whoever writes there may have put a link in its place, which leads out of what the pod is given.
    fs::remove_dir(place.join("inner")).unwrap();
    symlink("/etc", place.join("inner")).unwrap();
    let done = play(&env, &[], &text).done();
    assert_eq!(done.code, 125, "{done:?}");
    assert!(done.stderr.contains(": find inner in "), "{done:?}");
    assert_eq!(all(&env), "");
}

#[test]
fn resources_are_limits() {
    let Some(env) = Env::new() else { return };
    let fields = "    command: [sleep, '1000']\n    resources: {limits: {memory: 64Mi, cpu: 500m}, requests: {cpu: 250m}}\n";
    let text = pod(&env, "web", "", &[("one", fields)]);
    // Not every machine lets its users have them.
    play(&env, &["--start=false"], &text).succeeds();
    let format = "{{.HostConfig.Memory}} {{.HostConfig.CpuQuota}} {{.HostConfig.CpuShares}}";
    let limits = env.kelp(&["inspect", "-f", format, "web-one"]).succeeds();
    assert_eq!(limits, "67108864 50000 256\n");
    down(&env, &[], &text).succeeds();
    assert_eq!(all(&env), "");
}

#[test]
fn a_probe_is_a_health_check() {
    let Some(env) = Env::new() else { return };
    let fields = "    command: [sh, -c, 'touch /ok; exec sleep 1000']\n    livenessProbe: {exec: {command: [test, -e, /ok]}, \
                  periodSeconds: 1}\n";
    let text = pod(&env, "web", "", &[("one", fields)]);
    play(&env, &[], &text).succeeds();
    env.kelp(&["wait", "--condition=healthy", "web-one"])
        .succeeds();
    down(&env, &[], &text).succeeds();
}

#[test]
fn a_play_that_is_not_started_can_be_later() {
    let Some(env) = Env::new() else { return };
    let text = pod(&env, "web", "", &[("one", SLEEPS)]);
    play(&env, &["--start=false"], &text).succeeds();
    let states = ["ps", "-a", "--filter=name=web-one", "--format={{.State}}"];
    assert_eq!(env.kelp(&states).succeeds(), "created\n");
    env.kelp(&["pod", "start", "web"]).succeeds();
    assert_eq!(env.kelp(&states).succeeds(), "running\n");
    down(&env, &[], &text).succeeds();
}

#[test]
fn a_play_that_is_waited_for_is_taken_away() {
    let Some(env) = Env::new() else { return };
    let spec = "  volumes: [{name: e, emptyDir: {}}]\n";
    let fields = "    command: [sh, -c, 'exit 3']\n    volumeMounts: [{name: e, mountPath: /e}]\n";
    let text = pod(&env, "web", spec, &[("one", fields)]);
    for (when, code) in [("none", 0), ("any", 1)] {
        let flag = format!("--service-exit-code-propagation={when}");
        let done = play(&env, &["--wait", &flag], &text).done();
        assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{done:#?}");
        assert!(done.stdout.contains("Pods removed:\n"), "{done:#?}");
        assert_eq!(all(&env), "");
    }
}
