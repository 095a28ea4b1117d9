//! Pods: what their containers share, and how they are started, stopped and removed together.

mod crowd;
mod ends;
mod kill;
mod shapes;
mod systemd;

use std::fs;

use serde_json::Value;

use crate::env::Env;
use crate::network::{free_port, get};
use crate::skip::{no_pasta, skip};

const SLEEP: &[&str] = &["sleep", "1000"];

/// Makes a pod that has a loopback interface and no other; its id.
fn create(env: &Env, name: &str, flags: &[&str]) -> String {
    let words = [&["pod", "create", "--network=none", "--name", name], flags];
    let id = env.kelp(&words.concat()).succeeds();
    id.trim_end().to_owned()
}

/// Makes a container in a pod, or runs one in the background.
fn member(env: &Env, verb: &[&str], pod: &str, name: &str, command: &[&str]) {
    let image = env.busybox();
    let flags = ["--stop-timeout=0", "--pod", pod, "--name", name, &image];
    env.kelp(&[verb, &flags, command].concat()).succeeds();
}

/// What `pod ps` says of a pod's status.
fn status(env: &Env, name: &str) -> String {
    let filter = format!("--filter=name=^{name}$");
    let list = env.kelp(&["pod", "ps", &filter, "--format={{.Status}}"]);
    list.succeeds().trim_end().to_owned()
}

/// A field of a pod's inspection.
fn inspect(env: &Env, format: &str, name: &str) -> String {
    let shown = env.kelp(&["pod", "inspect", "-f", format, name]);
    shown.succeeds().trim_end().to_owned()
}

fn infra(env: &Env, name: &str) -> String {
    inspect(env, "{{.InfraContainerID}}", name)
}

fn exec(env: &Env, name: &str, script: &str) -> String {
    env.kelp(&["exec", name, "sh", "-c", script]).succeeds()
}

/// The state of containers, by name.
fn states(env: &Env) -> String {
    let format = "--format={{.Names}} {{.State}}";
    let filter = "--filter=name=^[a-z]+$";
    let list = env.kelp(&["ps", "-a", "--sort=names", filter, format]);
    list.succeeds().lines().collect::<Vec<_>>().join(", ")
}

#[test]
fn a_pod_is_started_stopped_and_removed_with_its_containers() {
    let Some(env) = Env::new() else { return };
    let id = create(&env, "crew", &[]);
    assert_eq!(status(&env, "crew"), "Created");
    member(&env, &["create"], "crew", "one", SLEEP);
    member(&env, &["create"], &id[..12], "two", SLEEP);
    let said = |words: &[&str]| env.kelp(words).succeeds();
    assert_eq!(said(&["pod", "start", "crew"]), format!("{id}\n"));
    assert_eq!(states(&env), "one running, two running");
    assert_eq!(status(&env, "crew"), "Running");
    // What runs is fine.
    said(&["pod", "start", "crew"]);
    said(&["stop", "one"]);
    assert_eq!(status(&env, "crew"), "Degraded");
    let line = env.kelp(&["pod", "rm", "crew"]).fails(125);
    assert!(line.contains("kelp pod stop"), "{line}");
    said(&["pod", "restart", "crew"]);
    assert_eq!(states(&env), "one running, two running");
    said(&["pod", "kill", "crew"]);
    assert_eq!(states(&env), "one exited, two exited");
    assert_eq!(status(&env, "crew"), "Exited");
    said(&["pod", "start", "crew"]);
    assert_eq!(said(&["pod", "stop", "-t0", "crew"]), format!("{id}\n"));
    assert_eq!(status(&env, "crew"), "Exited");
    assert_eq!(said(&["pod", "rm", "crew"]), format!("{id}\n"));
    assert_eq!(said(&["ps", "-aq"]), "");
    assert_eq!(said(&["pod", "ps", "-q"]), "");
}

#[test]
fn containers_of_a_pod_share_network_queues_and_names() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &["--add-host=db:10.1.2.3", "--dns=10.9.9.9"]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    member(&env, &["run", "-d"], "crew", "two", SLEEP);
    for namespace in ["net", "ipc", "uts"] {
        let link = format!("readlink /proc/self/ns/{namespace}");
        assert_eq!(exec(&env, "one", &link), exec(&env, "two", &link));
    }
    let link = "readlink /proc/1/ns/pid";
    assert_ne!(exec(&env, "one", link), exec(&env, "two", link));
    let serve = "mkdir /www && echo served > /www/index.html && httpd -p 8080 -h /www";
    exec(&env, "one", serve);
    let served = exec(&env, "two", "wget -q -O - http://localhost:8080/");
    assert_eq!(served, "served\n");
    exec(&env, "one", "echo here > /dev/shm/note");
    assert_eq!(exec(&env, "two", "cat /dev/shm/note"), "here\n");
    // The pod's name is the host's, also for what only knows the variable.
    let names = "hostname; cat /etc/hostname; echo $HOSTNAME";
    assert_eq!(exec(&env, "two", names), "crew\ncrew\ncrew\n");
    let hosts = exec(&env, "one", "grep db /etc/hosts; cat /etc/resolv.conf");
    assert!(hosts.contains("10.1.2.3\tdb"), "{hosts}");
    assert!(hosts.contains("10.9.9.9"), "{hosts}");
    exec(&env, "one", "echo 10.1.2.4 other >> /etc/hosts");
    assert_eq!(exec(&env, "two", "grep -c other /etc/hosts"), "1\n");
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}

#[test]
fn a_shared_process_namespace_has_the_infra_container_as_its_first_and_as_its_reaper() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &["--share=+pid"]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    assert_eq!(
        inspect(&env, "{{.SharedNamespaces}}", "crew"),
        "[ipc net pid uts]"
    );
    let first = exec(&env, "one", "tr '\\0' ' ' < /proc/1/cmdline");
    assert!(first.ends_with("internal pause "), "{first}");
    // Its parent ends at once, and it does soon after.
    exec(&env, "one", "(sleep 0 &)");
    let zombies = "for s in /proc/[0-9]*/stat; do cut -d' ' -f3 $s; done 2>/dev/null | grep -c Z";
    crate::kelp::wait_until("a zombie is left", || {
        let done = env.kelp(&["exec", "one", "sh", "-c", zombies]).done();
        done.stdout == "0\n"
    });
    // Without the first process there is no other.
    env.kelp(&["kill", &infra(&env, "crew")]).succeeds();
    env.kelp(&["wait", "one"]).succeeds();
    assert_eq!(status(&env, "crew"), "Exited");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn what_a_pod_has_of_the_host_its_containers_have() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let flags = ["--network=host", "--uts=host", "--pid=host", "--share=+pid"];
    env.kelp(
        &[
            &["pod", "create", "--name=crew", "--add-host=db:10.1.2.3"],
            &flags[..],
        ]
        .concat(),
    )
    .succeeds();
    let script =
        "for n in net uts pid; do readlink /proc/self/ns/$n; done; grep -c 10.1.2.3 /etc/hosts";
    let words = ["run", "--rm", "--pod=crew", &image, "sh", "-c", script];
    let own = |name: &str| {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        link.into_os_string().into_string().unwrap()
    };
    let expected = format!("{}\n{}\n{}\n1\n", own("net"), own("uts"), own("pid"));
    assert_eq!(env.kelp(&words).succeeds(), expected);
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn ports_are_the_infra_containers() {
    let Some(env) = Env::new() else { return };
    if let Some(missing) = no_pasta() {
        return skip(missing);
    }
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:8080");
    let words = ["pod", "create", "--name=crew", "--publish", &publish];
    env.kelp(&words).succeeds();
    let serve = "mkdir /www && echo served > /www/index.html && exec httpd -f -p 8080 -h /www";
    member(&env, &["run", "-d"], "crew", "web", &["sh", "-c", serve]);
    assert_eq!(get(port), "served\n");
    let ports = env.kelp(&["port", "web"]);
    assert_eq!(ports.succeeds(), format!("8080/tcp -> 127.0.0.1:{port}\n"));
    let ports = env.kelp(&["ps", "--format={{.Names}} {{.Ports}}", "--filter=name=web"]);
    assert_eq!(
        ports.succeeds(),
        format!("web 127.0.0.1:{port}->8080/tcp\n")
    );
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}

#[test]
fn what_is_the_pods_a_member_can_not_say() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    create(&env, "crew", &[]);
    for (flags, said) in [
        (
            &["-p", "80:80"][..],
            "must be defined when the pod is created",
        ),
        (&["--expose=80"], "must be defined when the pod is created"),
        (&["--add-host=a:10.0.0.1"], "must be specified on the pod"),
        (&["--dns=10.0.0.1"], "must be specified on the pod"),
        (&["--hostname=x"], "kelp pod create --hostname"),
        (&["--shm-size=1m"], "kelp pod create --shm-size"),
        (&["--userns=keep-id"], "kelp pod create --userns"),
    ] {
        let words = [&["create", "--pod=crew"], flags, &[&image, "true"]].concat();
        let line = env.kelp(&words).fails(125);
        assert!(line.contains(said), "{line}");
    }
    // A namespace of its own is one, and so is what is in that.
    let own = ["--uts=private", "--hostname=own", &image, "hostname"];
    let words = [&["run", "--rm", "--pod=crew"], &own[..]].concat();
    assert_eq!(env.kelp(&words).succeeds(), "own\n");
    let words = ["create", "--pod=nosuch", &image, "true"];
    let line = env.kelp(&words).fails(125);
    assert_eq!(
        line,
        "Error: no pod with name or ID nosuch found: no such pod"
    );
    assert_eq!(inspect(&env, "{{.NumContainers}}", "crew"), "1");
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}

#[test]
fn names_of_pods_and_containers_are_one_space() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    create(&env, "crew", &[]);
    let line = env.kelp(&["create", "--name=crew", &image]).fails(125);
    assert!(line.contains("kelp pod rm"), "{line}");
    env.kelp(&["create", "--name=web", &image]).succeeds();
    let line = env.kelp(&["pod", "create", "--name=web"]).fails(125);
    assert!(line.contains("name \"web\" is in use: container"), "{line}");
    let line = env.kelp(&["pod", "create", "--replace", "web"]).fails(125);
    assert!(line.contains("name \"web\" is in use: container"), "{line}");
    let line = env.kelp(&["pod", "create", "crew"]).fails(125);
    assert!(line.contains("name \"crew\" is in use: pod"), "{line}");
    let line = env.kelp(&["rename", "web", "crew"]).fails(125);
    assert!(line.contains("name \"crew\" is in use: pod"), "{line}");
    env.kelp(&["rm", "crew"]).fails(1);
    // A pod that is replaced takes its containers along, and its infra container's name is free again.
    let named = [
        "pod",
        "create",
        "--infra-name=crewinfra",
        "--replace",
        "crew",
    ];
    env.kelp(&named).succeeds();
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    env.kelp(&named).succeeds();
    assert_eq!(states(&env), "crewinfra created, web created");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
    env.kelp(&["rm", "web"]).succeeds();
    let words = ["pod", "create", "--replace"];
    let line = env.kelp(&words).fails(125);
    assert_eq!(line, "Error: cannot replace pod without --name being set");
}

#[test]
fn an_infra_container_goes_with_its_pod_alone() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &[]);
    let infra = infra(&env, "crew");
    for words in [&["rm", &infra][..], &["rm", "-f", &infra]] {
        let line = env.kelp(words).fails(125);
        assert!(
            line.contains("cannot be removed without removing the pod"),
            "{line}"
        );
    }
    env.kelp(&["container", "prune", "-f"]).succeeds();
    assert_eq!(inspect(&env, "{{.NumContainers}}", "crew"), "1");
    // Nothing was started: a prune leaves it.
    assert_eq!(env.kelp(&["pod", "prune", "-f"]).succeeds(), "");
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    env.kelp(&["pod", "kill", "crew"]).succeeds();
    let pod = inspect(&env, "{{.Id}}", "crew");
    assert_eq!(
        env.kelp(&["pod", "prune", "-f"]).succeeds(),
        format!("{pod}\n")
    );
    // With all others gone it is the pod that goes.
    create(&env, "crew", &[]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    env.kelp(&["rm", "-f", "-a"]).succeeds();
    assert_eq!(env.kelp(&["pod", "ps", "-q"]).succeeds(), "");
    create(&env, "crew", &[]);
    member(&env, &["run", "-d"], "crew", "one", &["true"]);
    env.kelp(&["wait", "one"]).succeeds();
    env.kelp(&["pod", "stop", "crew"]).succeeds();
    let gone = env.kelp(&["system", "prune", "-f"]).succeeds();
    assert!(gone.starts_with("Deleted Pods\n"), "{gone}");
    assert_eq!(states(&env), "");
}

#[test]
fn volumes_and_ids_of_the_pod_are_its_containers() {
    let Some(env) = Env::new() else { return };
    let data = env.path("data");
    fs::create_dir(&data).unwrap();
    let volume = format!("{}:/data", data.display());
    let flags = ["--volume", &volume, "--userns=keep-id", "--shm-size=1m"];
    create(&env, "crew", &flags);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    exec(&env, "one", "echo one > /data/file");
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "one\n");
    let id = exec(&env, "one", "id -u");
    assert_eq!(id.trim(), rustix::process::getuid().as_raw().to_string());
    assert_eq!(exec(&env, "one", "df -k /dev/shm | grep -c 1024"), "1\n");
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}

#[test]
fn containers_are_where_the_pod_has_its_cgroup() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &["--cgroup-parent=kelpcrew"]);
    create(
        &env,
        "apart",
        &["--cgroup-parent=kelpcrew", "--share-parent=false"],
    );
    member(&env, &["create"], "crew", "one", SLEEP);
    member(&env, &["create"], "apart", "two", SLEEP);
    let words = [
        "inspect",
        "-f",
        "{{.HostConfig.CgroupParent}}",
        "one",
        "two",
    ];
    assert_eq!(env.kelp(&words).succeeds(), "kelpcrew\n\n");
    env.kelp(&["pod", "rm", "-a"]).succeeds();
}

#[test]
fn a_pod_without_an_infra_container_groups_and_shares_nothing() {
    let Some(env) = Env::new() else { return };
    let words = ["pod", "create", "--share=none", "--name=crew"];
    env.kelp(&words).succeeds();
    assert_eq!(
        inspect(&env, "{{.CreateInfra}} {{.NumContainers}}", "crew"),
        "false 0"
    );
    let image = env.busybox();
    for name in ["one", "two"] {
        let flags = [
            "--network=none",
            "--stop-timeout=0",
            "--pod=crew",
            "--name",
            name,
            &image,
        ];
        env.kelp(&[&["create"], &flags[..], SLEEP].concat())
            .succeeds();
    }
    env.kelp(&["pod", "start", "crew"]).succeeds();
    assert_eq!(status(&env, "crew"), "Running");
    let link = "readlink /proc/self/ns/net";
    assert_ne!(exec(&env, "one", link), exec(&env, "two", link));
    env.kelp(&["pod", "pause", "crew"]).succeeds();
    assert_eq!(status(&env, "crew"), "Paused");
    env.kelp(&["pod", "unpause", "crew"]).succeeds();
    assert_eq!(status(&env, "crew"), "Running");
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
    for (flags, said) in [
        (
            &["--infra=false", "--publish=80"][..],
            "you must have an infra container",
        ),
        (
            &["--infra=false", "--share=net"],
            "without an infra container",
        ),
        (
            &["--infra=false", "--infra-name=x"],
            "without an infra container",
        ),
        (
            &["--infra=false", "--dns=10.0.0.1"],
            "--dns is for the infra container",
        ),
        (&["--share=cgroup"], "--share-parent=false"),
        (&["--share=user"], "--userns"),
        (&["--exit-policy=never"], "use continue or stop"),
        (&["--memory=1g"], "a pod has no cgroup of its own"),
    ] {
        let line = env.kelp(&[&["pod", "create"], flags].concat()).fails(125);
        assert!(line.contains(said), "{line}");
    }
}

#[test]
fn init_containers_come_first_and_have_to_end_well() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &[]);
    let count = "echo x >> /dev/shm/count";
    let script = ["sh", "-c", count];
    member(
        &env,
        &["create", "--init-ctr=always"],
        "crew",
        "always",
        &script,
    );
    member(
        &env,
        &["create", "--init-ctr=once"],
        "crew",
        "once",
        &script,
    );
    let main = "cat /dev/shm/count > /seen; exec sleep 1000";
    member(&env, &["create"], "crew", "main", &["sh", "-c", main]);
    env.kelp(&["pod", "start", "crew"]).succeeds();
    crate::kelp::wait_until("the container has seen both", || {
        let seen = env.kelp(&["exec", "main", "wc", "-l", "/seen"]).done();
        seen.stdout.starts_with("2 ")
    });
    assert_eq!(states(&env), "always exited, main running");
    member(
        &env,
        &["create", "--init-ctr=always"],
        "crew",
        "fails",
        &["false"],
    );
    env.kelp(&["pod", "stop", "crew"]).succeeds();
    let line = env.kelp(&["pod", "start", "crew"]).fails(125);
    assert!(
        line.contains("init container fails exited with code 1"),
        "{line}"
    );
    assert!(states(&env).contains("main exited"));
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
    let image = env.busybox();
    let line = env.kelp(&["create", "--init-ctr=once", &image]).fails(125);
    assert!(line.contains("add --pod"), "{line}");
}

#[test]
fn a_container_can_have_its_pod_made() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let words = [
        "run",
        "--rm",
        "--network=none",
        "--add-host=db:10.1.2.3",
        "--pod=new:crew",
        "--hostname=deck",
        &image,
        "sh",
        "-c",
        "hostname; grep -c 10.1.2.3 /etc/hosts",
    ];
    assert_eq!(env.kelp(&words).succeeds(), "deck\n1\n");
    assert_eq!(
        inspect(&env, "{{.NumContainers}} {{.Hostname}}", "crew"),
        "1 deck"
    );
    let line = env.kelp(&words).fails(125);
    assert!(line.contains("name \"crew\" is in use"), "{line}");
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}

#[test]
fn ids_in_files_name_pods() {
    let Some(env) = Env::new() else { return };
    let file = env.word("id");
    let id = create(&env, "crew", &["--pod-id-file", &file]);
    assert_eq!(fs::read_to_string(&file).unwrap(), id);
    let image = env.busybox();
    let flags = [
        "--pod-id-file",
        &file,
        "--stop-timeout=0",
        "--name=one",
        &image,
    ];
    env.kelp(&[&["create"], &flags[..], SLEEP].concat())
        .succeeds();
    for verb in ["start", "stop"] {
        let said = env.kelp(&["pod", verb, "--pod-id-file", &file]);
        assert_eq!(said.succeeds(), format!("{id}\n"));
    }
    env.kelp(&["pod", "rm", "--pod-id-file", &file]).succeeds();
    assert!(!fs::exists(&file).unwrap());
    for verb in ["stop", "rm"] {
        let words = ["pod", verb, "--ignore", "--pod-id-file", &file];
        assert_eq!(env.kelp(&words).succeeds(), "");
    }
}

#[test]
fn a_restart_policy_of_the_pod_is_that_of_its_containers() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &["--restart=on-failure:3"]);
    member(&env, &["create"], "crew", "one", &["true"]);
    member(&env, &["create", "--restart=no"], "crew", "two", &["true"]);
    let shown = env.kelp(&["inspect", "one", "two"]).succeeds();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let policy = |at: usize| &shown[at]["HostConfig"]["RestartPolicy"]["Name"];
    assert_eq!(
        (policy(0).as_str(), policy(1).as_str()),
        (Some("on-failure"), Some("no"))
    );
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn what_containers_conf_says_of_pods_counts() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let conf = format!(
        "[engine]\npod_exit_policy = \"stop\"\ninfra_image = \"{image}\"\ninfra_command = \"/bin/cat\"\n"
    );
    fs::write(env.path("c/containers/containers.conf"), conf).unwrap();
    create(&env, "crew", &[]);
    assert_eq!(inspect(&env, "{{.ExitPolicy}}", "crew"), "stop");
    let format = "{{.ImageName}} {{.Path}}";
    let shown = env.kelp(&["inspect", "-f", format, &infra(&env, "crew")]);
    assert_eq!(shown.succeeds(), format!("{image} /bin/cat\n"));
    create(&env, "other", &["--exit-policy=continue"]);
    assert_eq!(inspect(&env, "{{.ExitPolicy}}", "other"), "continue");
    env.kelp(&["pod", "rm", "-a"]).succeeds();
    // The infra container is the same however the pod is made.
    let new = ["create", "--network=none", "--pod=new:crew", &image, "true"];
    env.kelp(&new).succeeds();
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: played}}\nspec:\n  containers: [{{name: a, image: '{image}', imagePullPolicy: IfNotPresent}}]\n"
    );
    let play = ["kube", "play", "--network=none", "--start=false", "-"];
    env.kelp(&play).input(text.as_bytes()).succeeds();
    for name in ["crew", "played"] {
        let shown = env.kelp(&["inspect", "-f", format, &infra(&env, name)]);
        assert_eq!(shown.succeeds(), format!("{image} /bin/cat\n"), "{name}");
    }
    env.kelp(&["pod", "rm", "-a"]).succeeds();
}
