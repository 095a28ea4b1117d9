//! Quadlet under a real systemd: units that are installed become services of the user's manager, and what happens
//! to a container is what happens to its service.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use super::systemd::systemctl;
use crate::archive::Layer;
use crate::artifacts::Artifact;
use crate::env::Env;
use crate::http;
use crate::image::Image;
use crate::kelp::{Kelp, wait_until};

/// Units of the user's, in the directories of a test.
struct Units<'a> {
    env: &'a Env,
    installed: Vec<&'a str>,
}

impl<'a> Units<'a> {
    /// Installs these files, each a name and a text; systemd knows the services when this returns.
    fn install(env: &'a Env, files: &[(&'a str, String)]) -> Self {
        let place = env.path("units");
        fs::create_dir_all(&place).unwrap();
        let mut installed = Vec::new();
        for (name, text) in files {
            let path = place.join(name);
            fs::write(&path, format!("{text}\n{}", environment(env))).unwrap();
            quadlet(env, &["install", path.to_str().unwrap()]).succeeds();
            installed.push(*name);
        }
        Self { env, installed }
    }

    fn service(name: &str) -> String {
        let (stem, kind) = name.rsplit_once('.').unwrap();
        match kind {
            "container" | "kube" => format!("{stem}.service"),
            kind => format!("{stem}-{kind}.service"),
        }
    }
}

impl Drop for Units<'_> {
    fn drop(&mut self) {
        for name in &self.installed {
            systemctl(&["stop", &Self::service(name)]);
            systemctl(&["reset-failed", &Self::service(name)]);
            let _ = quadlet(self.env, &["rm", "--force", name]).done();
        }
    }
}

/// The same command in the user's own configuration, which is systemd's.
fn quadlet(env: &Env, words: &[&str]) -> Kelp {
    let mut command = env.kelp(&[&["quadlet"], words].concat()).into_command();
    command.env_remove("XDG_CONFIG_HOME");
    command.env("HOME", std::env::var_os("HOME").unwrap());
    Kelp::new(command)
}

/// The directories of the test, for kelp in a service.
fn environment(env: &Env) -> String {
    let command = env.kelp(&[]).into_command();
    let mut text = "[Service]\n".to_owned();
    for (name, value) in command.get_envs() {
        let name = name.to_str().unwrap();
        if let Some(value) = value.filter(|_| name.starts_with("XDG_") && name != "XDG_RUNTIME_DIR")
        {
            text.push_str(&["Environment=", name, "=", value.to_str().unwrap(), "\n"].concat());
        }
    }
    text
}

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", &format!("--property={name}"), unit])
}

fn wait_for(unit: &str, name: &str, value: &str) {
    wait_until(&format!("{unit}: {name} is {value}"), || {
        property(unit, name) == value
    });
}

fn inspect(env: &Env, format: &str, name: &str) -> String {
    let shown = env.kelp(&["inspect", "-f", format, name]);
    shown.succeeds().trim().to_owned()
}

/// What `journalctl --user -u` has of a unit, without times.
fn journal_of(unit: &str) -> String {
    let words = ["--user", "--output=cat", "--unit", unit];
    let mut command = Command::new("journalctl");
    let output = command.args(words).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Starts a unit, which has to go well.
fn start(unit: &str) {
    systemctl(&["start", unit]);
    let status = systemctl(&["status", "--no-pager", "--full", unit]);
    assert_eq!(property(unit, "ActiveState"), "active", "{status}");
}

const SERVES: &str = r#"sh -c "trap 'exit 0' TERM; echo serving; while :; do sleep 0.1; done""#;

#[test]
fn an_image_a_volume_and_a_container_become_a_service() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    fs::write(env.path("value"), "of a secret").unwrap();
    let value = env.path("value");
    let secret = ["secret", "create", "kelptest", value.to_str().unwrap()];
    env.kelp(&secret).succeeds();
    let units = Units::install(
        &env,
        &[
            (
                "kelptest.image",
                format!("[Image]\nImage={image}\nTLSVerify=false\n"),
            ),
            ("kelptest.volume", "[Volume]\nLabel=of=test\n".to_owned()),
            (
                "kelpweb.container",
                format!(
                    "[Container]\nImage=kelptest.image\nContainerName=kelpweb\nNetwork=none\n\
                     Volume=kelptest.volume:/data\nNotify=healthy\nHealthCmd=[ -e /data ]\nHealthInterval=1s\n\
                     Secret=kelptest\nSecret=kelptest,type=env,target=KEY\n\
                     Exec={SERVES}\n[Service]\nMemoryMax=64M\nTasksMax=30\n"
                ),
            ),
        ],
    );
    start("kelpweb.service");
    // It was ready when it was healthy, and not before.
    assert_eq!(
        inspect(&env, "{{.State.Health.Status}}", "kelpweb"),
        "healthy"
    );
    assert_eq!(
        property("kelpweb.service", "StatusText"),
        "container kelpweb is healthy"
    );
    let monitor = inspect(&env, "{{.State.ConmonPid}}", "kelpweb");
    assert_eq!(property("kelpweb.service", "MainPID"), monitor);
    // What it says is the unit's in the journal, and the container's.
    wait_until("its output is in its journal", || {
        journal_of("kelpweb.service")
            .lines()
            .any(|line| line == "serving")
    });
    assert_eq!(env.kelp(&["logs", "kelpweb"]).succeeds(), "serving\n");
    let secrets = [
        "exec",
        "kelpweb",
        "sh",
        "-c",
        "cat /run/secrets/kelptest; echo \" $KEY\"",
    ];
    let secrets = env.kelp(&secrets).succeeds();
    assert_eq!(secrets, "of a secret of a secret\n");
    // From a login's session only systemd brings a process there.
    let inside = env.kelp(&["exec", "kelpweb", "cat", "/proc/self/cgroup"]);
    let inside = inside.succeeds();
    // The container is below its unit, and so within what that may use.
    let cgroup = inspect(&env, "{{.State.CgroupPath}}", "kelpweb");
    let unit = property("kelpweb.service", "ControlGroup");
    assert!(cgroup.starts_with(&format!("{unit}/")), "{cgroup} {unit}");
    assert_eq!(inside, "0::/\n", "a process of its cgroup");
    let limit = fs::read_to_string(format!("/sys/fs/cgroup{unit}/memory.max")).unwrap();
    assert_eq!(limit, "67108864\n");
    let volume = env.kelp(&["volume", "ls", "-q", "--filter", "label=of=test"]);
    assert_eq!(volume.succeeds(), "systemd-kelptest\n");
    // A stop is a clean one, and leaves no process.
    systemctl(&["stop", "kelpweb.service"]);
    let status = systemctl(&["status", "--no-pager", "--full", "kelpweb.service"]);
    assert_eq!(
        property("kelpweb.service", "ActiveState"),
        "inactive",
        "{status}"
    );
    assert_eq!(property("kelpweb.service", "Result"), "success");
    assert!(!PathBuf::from(format!("/sys/fs/cgroup{unit}")).exists());
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
    drop(units);
    assert_eq!(property("kelpweb.service", "LoadState"), "not-found");
    env.kelp(&["volume", "rm", "systemd-kelptest"]).succeeds();
    env.kelp(&["secret", "rm", "kelptest"]).succeeds();
}

#[test]
fn an_artifact_and_a_container_that_mounts_it_become_services() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    env.kelp(&["pull", "-q", "--tls-verify=false", &image])
        .succeeds();
    let address = env.registry().address.clone();
    let artifact = Artifact::new().file("settings", "of an artifact\n");
    artifact.push(&address, "kelpsettings");
    let units = Units::install(
        &env,
        &[
            (
                "kelptest.artifact",
                format!(
                    "[Artifact]\nArtifact={address}/kelpsettings:latest\nTLSVerify=false\nRetry=1\nQuiet=true\n"
                ),
            ),
            (
                "kelpreads.container",
                format!(
                    "[Container]\nImage={image}\nPull=never\nContainerName=kelpreads\nNetwork=none\n\
                     Mount=type=artifact,source=kelptest.artifact,destination=/etc/app,title=settings\n\
                     Exec={SERVES}\n"
                ),
            ),
        ],
    );
    // The container's service has the artifact's pulled.
    start("kelpreads.service");
    assert_eq!(property("kelptest-artifact.service", "Result"), "success");
    let read = env.kelp(&["exec", "kelpreads", "cat", "/etc/app"]);
    assert_eq!(read.succeeds(), "of an artifact\n");
    let name = format!("{address}/kelpsettings:latest");
    let line = env.kelp(&["artifact", "rm", &name]).fails(125);
    assert!(line.contains("is in use by container"), "{line}");
    systemctl(&["stop", "kelpreads.service"]);
    drop(units);
    env.kelp(&["artifact", "rm", &name]).succeeds();
}

#[test]
fn what_ends_a_container_ends_its_service_in_the_same_way() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    env.kelp(&["pull", "-q", "--tls-verify=false", &image])
        .succeeds();
    let container = |rest: &str| {
        format!(
            "[Container]\nImage={image}\nPull=never\nNetwork=none\nContainerName=kelpends\n{rest}"
        )
    };
    for (text, result, code) in [
        // The code of the program is the service's.
        (container("Exec=sh -c \"exit 3\"\n"), "exit-code", "3"),
        (container("Exec=true\n"), "success", "0"),
    ] {
        let _units = Units::install(&env, &[("kelpends.container", text)]);
        systemctl(&["start", "kelpends.service"]);
        wait_until("the service has ended", || {
            ["failed", "inactive"].contains(&property("kelpends.service", "ActiveState").as_str())
        });
        assert_eq!(property("kelpends.service", "Result"), result);
        assert_eq!(property("kelpends.service", "ExecMainStatus"), code);
    }
    // A monitor that is killed is a service that failed, and takes the container along.
    let text = container(&format!("Exec={SERVES}\n"));
    let units = Units::install(&env, &[("kelpends.container", text)]);
    start("kelpends.service");
    let pid = inspect(&env, "{{.State.Pid}}", "kelpends");
    systemctl(&[
        "kill",
        "--kill-whom=main",
        "--signal=KILL",
        "kelpends.service",
    ]);
    wait_for("kelpends.service", "ActiveState", "failed");
    assert_eq!(property("kelpends.service", "Result"), "signal");
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
    drop(units);
    // And systemd starts one again that it is told to.
    let text = container(&format!(
        "Exec={SERVES}\n[Service]\nRestart=on-failure\nRestartSec=100ms\n"
    ));
    let units = Units::install(&env, &[("kelpends.container", text)]);
    start("kelpends.service");
    let before = inspect(&env, "{{.State.ConmonPid}}", "kelpends");
    env.kelp(&["kill", "kelpends"]).succeeds();
    wait_for("kelpends.service", "NRestarts", "1");
    wait_for("kelpends.service", "ActiveState", "active");
    assert_ne!(inspect(&env, "{{.State.ConmonPid}}", "kelpends"), before);
    // What somebody stops has not failed.
    env.kelp(&["stop", "kelpends"]).succeeds();
    wait_for("kelpends.service", "ActiveState", "inactive");
    assert_eq!(property("kelpends.service", "Result"), "success");
    drop(units);
}

#[test]
fn a_pod_is_a_service_that_lives_and_ends_with_its_containers() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    env.kelp(&["pull", "-q", "--tls-verify=false", &image])
        .succeeds();
    let container = |name: &str| {
        format!(
            "[Container]\nImage={image}\nPull=never\nContainerName={name}\nPod=kelpcrew.pod\nExec={SERVES}\n"
        )
    };
    let units = Units::install(
        &env,
        &[
            (
                "kelpcrew.pod",
                "[Pod]\nPodName=kelpcrew\nNetwork=none\n".to_owned(),
            ),
            ("kelpone.container", container("kelpone")),
            ("kelptwo.container", container("kelptwo")),
        ],
    );
    let services = ["kelpcrew-pod.service", "kelpone.service", "kelptwo.service"];
    let all = |state: &str| {
        for service in services {
            wait_for(service, "ActiveState", state);
        }
    };
    let status = || {
        let list = env.kelp(&["pod", "ps", "--format={{.Name}} {{.Status}}"]);
        list.succeeds()
    };
    start("kelpcrew-pod.service");
    all("active");
    assert_eq!(status(), "kelpcrew Running\n");
    // systemd has taken the infra container's monitor for the main process, which is within the unit.
    let main = property("kelpcrew-pod.service", "MainPID");
    assert_eq!(
        inspect(&env, "{{.State.ConmonPid}}", "kelpcrew-infra"),
        main
    );
    let unit = property("kelpcrew-pod.service", "ControlGroup");
    let cgroup = inspect(&env, "{{.State.CgroupPath}}", "kelpcrew-infra");
    assert!(cgroup.starts_with(&format!("{unit}/")), "{cgroup} {unit}");
    // A stop takes all along, and is no failure.
    systemctl(&["stop", "kelpcrew-pod.service"]);
    all("inactive");
    assert_eq!(property("kelpcrew-pod.service", "Result"), "success");
    assert_eq!(status(), "");
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
    assert!(!PathBuf::from(format!("/sys/fs/cgroup{unit}")).exists());
    // Where the last container has ended, the pod has, and there is nothing to start again.
    start("kelpcrew-pod.service");
    all("active");
    env.kelp(&["stop", "kelpone", "kelptwo"]).succeeds();
    all("inactive");
    assert_eq!(property("kelpcrew-pod.service", "Result"), "success");
    assert_eq!(status(), "");
    // One whose main process is killed is made anew.
    start("kelpcrew-pod.service");
    all("active");
    systemctl(&[
        "kill",
        "--kill-whom=main",
        "--signal=KILL",
        "kelpcrew-pod.service",
    ]);
    wait_for("kelpcrew-pod.service", "NRestarts", "1");
    all("active");
    assert_eq!(status(), "kelpcrew Running\n");
    systemctl(&["stop", "kelpcrew-pod.service"]);
    all("inactive");
    drop(units);
    env.kelp(&["system", "prune", "-f"]).succeeds();
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
}

#[test]
fn a_socket_starts_a_service_that_gets_it() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    env.kelp(&["pull", "-q", "--tls-verify=false", &image])
        .succeeds();
    let script = "dd bs=100 count=1 <&3 >/out/said; echo $LISTEN_FDS $LISTEN_FDNAMES >/out/heard";
    let (out, ear) = (env.path("out"), env.path("ear"));
    fs::create_dir(&out).unwrap();
    let text = format!(
        "[Container]\nImage={image}\nPull=never\nNetwork=none\nVolume={}:/out\nListenDatagram={}\n\
         Exec=sh -c \"{script}\"\n",
        out.display(),
        ear.display()
    );
    let units = Units::install(&env, &[("kelpheard.container", text)]);
    systemctl(&["start", "kelpheard.socket"]);
    assert_eq!(property("kelpheard.service", "ActiveState"), "inactive");
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(b"hello\n", &ear).unwrap();
    let read = |name| fs::read_to_string(out.join(name)).unwrap_or_default();
    wait_until("the program has heard", || read("heard").ends_with('\n'));
    assert_eq!(read("heard"), "1 kelpheard.socket\n");
    assert_eq!(read("said"), "hello\n");
    systemctl(&["stop", "kelpheard.socket"]);
    drop(units);
}

#[test]
fn a_service_gets_new_images_and_keeps_the_old_one_where_it_does_not_work_with_them() {
    let Some(env) = Env::of_session() else { return };
    let address = env.registry().address.clone();
    let push = |version: &str, file: Option<&str>| {
        let mut image = Image::busybox().set("Labels", json!({ "version": version }));
        if let Some(file) = file {
            image = image.layer(Layer::default().file(file, 0o644, b""));
        }
        image.push(&http::Registry(&address), "kelpupdated", "1");
    };
    push("one", None);
    let script = r#"sh -c "[ ! -e /dies ] && trap 'exit 0' TERM && while :; do sleep 0.1; done""#;
    let unit = |rest: &str| {
        format!(
            "[Container]\nImage={address}/kelpupdated:1\nContainerName=kelpupdated\nAutoUpdate=registry\n\
             Network=none\nExec={script}\n{rest}"
        )
    };
    let update = || {
        let words = ["auto-update", "--format={{.Unit}} {{.Updated}}"];
        let done = env.kelp(&words).done();
        let said = done.stderr.lines().last().unwrap_or_default().to_owned();
        (done.exits(0), said)
    };
    let updated = |result: &str| format!("kelpupdated.service {result}\n");
    let version = || inspect(&env, "{{.Config.Labels.version}}", "kelpupdated");
    // The first check may come before the program has ended.
    let health = "HealthCmd=[ ! -e /ill -a ! -e /dies ]\nHealthInterval=1s\nHealthRetries=2\n";
    for (rest, file, why) in [
        (
            health.to_owned(),
            "ill",
            "container kelpupdated is unhealthy",
        ),
        (
            // systemd itself is not told that it is there.
            format!("{health}Notify=healthy\n[Service]\nTimeoutStartSec=30\n"),
            "dies",
            "the restart of kelpupdated.service has come to \"failed\"",
        ),
        // It is started again and again.
        (
            "[Service]\nRestart=always\nRestartSec=1s\n".to_owned(),
            "dies",
            "",
        ),
    ] {
        push("one", None);
        let _units = Units::install(&env, &[("kelpupdated.container", unit(&rest))]);
        env.kelp(&["pull", "-q", &format!("{address}/kelpupdated:1")])
            .succeeds();
        start("kelpupdated.service");
        assert_eq!(update().0, updated("false"));
        push("two", None);
        let before = property("kelpupdated.service", "MainPID");
        assert_eq!(update().0, updated("true"));
        assert_ne!(property("kelpupdated.service", "MainPID"), before);
        assert_eq!(version(), "two");
        push("three", Some(file));
        let (result, said) = update();
        assert_eq!(result, updated("rolled back"), "{said}");
        assert!(
            said.contains(why) && said.contains("has its old image again"),
            "{said}"
        );
        assert_eq!(property("kelpupdated.service", "ActiveState"), "active");
        assert_eq!(version(), "two");
        let before = property("kelpupdated.service", "MainPID");
        let (result, said) = update();
        assert_eq!(result, updated("false"));
        assert!(said.contains("is not updated to sha256:"), "{said}");
        assert_eq!(property("kelpupdated.service", "MainPID"), before);
    }
}

#[test]
fn a_timer_updates_containers_every_day() {
    let Some(env) = Env::of_session() else { return };
    let units = env.runtime().join("systemd/user");
    fs::create_dir_all(&units).unwrap();
    let files = [
        (
            "kelp-auto-update.service",
            include_str!("../../../contrib/systemd/user/kelp-auto-update.service"),
        ),
        (
            "kelp-auto-update.timer",
            include_str!("../../../contrib/systemd/user/kelp-auto-update.timer"),
        ),
    ];
    // With this kelp and directories of its own: a prune takes what is left of containers in the runtime directory,
    // where those of other tests' stores are strangers.
    let runtime = env.path("runtime");
    fs::DirBuilder::new().mode(0o700).create(&runtime).unwrap();
    let kelp = env.kelp(&[]).into_command();
    let kelp = kelp.get_program().to_str().unwrap();
    for (name, text) in files {
        let mut text = text.replace("/usr/bin/kelp", kelp);
        if name.ends_with("service") {
            text.push_str(&environment(&env));
            let runtime = runtime.display();
            text.push_str(&["Environment=XDG_RUNTIME_DIR=", &runtime.to_string(), "\n"].concat());
        }
        fs::write(units.join(name), text).unwrap();
    }
    systemctl(&["daemon-reload"]);
    for (name, _) in files {
        assert_eq!(property(name, "LoadState"), "loaded");
        let said = systemctl(&["status", "--no-pager", "--full", name]);
        assert!(!said.contains("ignoring"), "{said}");
    }
    systemctl(&["start", "kelp-auto-update.timer"]);
    assert_eq!(property("kelp-auto-update.timer", "ActiveState"), "active");
    assert_eq!(property("kelp-auto-update.timer", "Persistent"), "yes");
    systemctl(&["start", "kelp-auto-update.service"]);
    assert_eq!(property("kelp-auto-update.service", "Result"), "success");
    assert_eq!(property("kelp-auto-update.service", "ExecMainStatus"), "0");
    systemctl(&["stop", "kelp-auto-update.timer"]);
    for (name, _) in files {
        fs::remove_file(units.join(name)).unwrap();
    }
    systemctl(&["daemon-reload"]);
}

#[test]
fn kubernetes_yaml_becomes_a_service_that_ends_with_its_pods() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    let yaml = env.path("kelpkube.yaml");
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: kelpkube}}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: main, image: '{image}', imagePullPolicy: \
         IfNotPresent, command: [sh, -c, 'until test -e /end; do sleep 0.1; done; exit 3']}}\n"
    );
    fs::write(&yaml, text).unwrap();
    let unit = format!("[Kube]\nYaml={}\nExitCodePropagation=any\n", yaml.display());
    let _units = Units::install(&env, &[("kelpkube.kube", unit)]);
    for _ in 0..2 {
        start("kelpkube.service");
        let main = property("kelpkube.service", "MainPID");
        let monitor = inspect(&env, "{{.State.ConmonPid}}", "kelpkube-service");
        assert_eq!(main, monitor);
        assert_eq!(
            inspect(&env, "{{.State.Status}}", "kelpkube-main"),
            "running"
        );
        systemctl(&["stop", "kelpkube.service"]);
        assert_eq!(property("kelpkube.service", "ActiveState"), "inactive");
        assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
        assert_eq!(env.kelp(&["pod", "ps", "-q"]).succeeds(), "");
    }
    // A container that fails is the unit's failure.
    start("kelpkube.service");
    env.kelp(&["exec", "kelpkube-main", "touch", "/end"])
        .succeeds();
    wait_for("kelpkube.service", "ActiveState", "failed");
    assert_eq!(property("kelpkube.service", "ExecMainStatus"), "1");
    assert_eq!(env.kelp(&["pod", "ps", "-q"]).succeeds(), "");
}
