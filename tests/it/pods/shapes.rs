//! What is printed of pods: podman's columns, keys, words and codes.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use super::{SLEEP, create, exec, infra, inspect, member, states, status};
use crate::env::Env;

/// The cells of a table's lines.
fn table(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let cells = line.split("  ").map(str::trim);
        cells
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    text.lines().map(cells).collect()
}

#[test]
fn the_list_has_podmans_columns() {
    let Some(env) = Env::new() else { return };
    let id = create(&env, "crew", &["--label=a=b", "--infra-name=first"]);
    create(&env, "other", &[]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    let infra = infra(&env, "crew");
    let list = table(&env.kelp(&["pod", "ps", "--filter=label=a"]).succeeds());
    let heading = [
        "POD ID",
        "NAME",
        "STATUS",
        "CREATED",
        "INFRA ID",
        "# OF CONTAINERS",
    ];
    assert_eq!(list[0], heading);
    assert_eq!(list.len(), 2);
    assert_eq!(
        [&list[1][0], &list[1][1], &list[1][2]],
        [&id[..12], "crew", "Running"]
    );
    assert_eq!([&list[1][4], &list[1][5]], [&infra[..12], "2"]);
    let words = [
        "pod",
        "ls",
        "--ctr-names",
        "--ctr-status",
        "--noheading",
        "--filter=name=crew",
    ];
    let list = table(&env.kelp(&words).succeeds());
    assert_eq!(list[0][5..], ["first,one", "running,running"]);
    let list = env.kelp(&["pod", "list", "-q", "--no-trunc", "--filter=ctr-names=one"]);
    assert_eq!(list.succeeds(), format!("{id}\n"));
    for (filter, count) in [
        ("ctr-number=2", 1),
        ("ctr-number=1", 1),
        ("ctr-status=running", 1),
        ("ctr-status=created", 1),
        ("status=running", 1),
        ("status=created", 1),
        ("name=e", 2),
        ("label!=a", 1),
        ("until=1h", 0),
    ] {
        let words = ["pod", "ps", "-q", "--filter", filter];
        assert_eq!(
            env.kelp(&words).succeeds().lines().count(),
            count,
            "{filter}"
        );
    }
    // The newest comes first.
    let names = env.kelp(&["pod", "ps", "--format={{.Name}}"]).succeeds();
    assert_eq!(names, "other\ncrew\n");
    let shown = env
        .kelp(&["pod", "ps", "--format=json", "--filter=label=a"])
        .succeeds();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let keys: Vec<_> = shown[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "Cgroup",
        "Containers",
        "Created",
        "Id",
        "InfraId",
        "Labels",
        "Name",
        "Namespace",
        "Networks",
        "Status",
    ];
    assert_eq!(keys, expected);
    assert_eq!(
        shown[0]["Containers"][0],
        json!({"Id": infra, "Names": "first", "Status": "running", "RestartCount": 0})
    );
    env.kelp(&["pod", "rm", "-f", "-a"]).succeeds();
}

#[test]
fn containers_tell_of_their_pod() {
    let Some(env) = Env::new() else { return };
    let id = create(&env, "crew", &["--infra-name=first"]);
    member(&env, &["create"], "crew", "one", SLEEP);
    let image = env.busybox();
    env.kelp(&["create", "--name=alone", &image]).succeeds();
    let list = table(&env.kelp(&["ps", "-a", "--pod", "--sort=names"]).succeeds());
    assert_eq!(list[0][list[0].len() - 2..], ["POD ID", "PODNAME"]);
    assert_eq!(list[2][list[2].len() - 3..], ["first", &id[..12], "crew"]);
    for filter in ["pod=crew".to_owned(), format!("pod={}", &id[..12])] {
        let words = [
            "ps",
            "-a",
            "--sort=names",
            "--format={{.Names}} {{.IsInfra}}",
            "--filter",
            &filter,
        ];
        assert_eq!(env.kelp(&words).succeeds(), "first true\none false\n");
    }
    let format = "{{.Pod}} {{.IsInfra}} {{.HostConfig.NetworkMode}} {{.HostConfig.IpcMode}}";
    let shown = env.kelp(&["inspect", "-f", format, "one"]).succeeds();
    let infra = infra(&env, "crew");
    assert_eq!(
        shown,
        format!("{id} false container:{infra} container:{infra}\n")
    );
    let shown = env.kelp(&["inspect", "--type=pod", "-f", "{{.Name}}", "crew"]);
    assert_eq!(shown.succeeds(), "crew\n");
    env.kelp(&["rm", "alone"]).succeeds();
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn an_inspection_has_podmans_keys() {
    let Some(env) = Env::new() else { return };
    let flags = [
        "--label=a=b",
        "--exit-policy=stop",
        "--infra-name=first",
        "--hostname=deck",
        "--dns=10.9.9.9",
    ];
    let id = create(&env, "crew", &flags);
    let shown = env.kelp(&["pod", "inspect", "crew"]).succeeds();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let pod = &shown[0];
    let infra = infra(&env, "crew");
    for (key, value) in [
        ("Id", json!(id)),
        ("Name", json!("crew")),
        ("State", json!("Created")),
        ("Hostname", json!("deck")),
        ("ExitPolicy", json!("stop")),
        ("Labels", json!({"a": "b"})),
        ("CreateInfra", json!(true)),
        ("InfraContainerID", json!(infra)),
        ("SharedNamespaces", json!(["ipc", "net", "uts"])),
        ("NumContainers", json!(1)),
        (
            "Containers",
            json!([{"Id": infra, "Name": "first", "State": "created"}]),
        ),
    ] {
        assert_eq!(pod[key], value, "{key}");
    }
    assert_eq!(pod["InfraConfig"]["DNSServer"], json!(["10.9.9.9"]));
    assert_eq!(pod["InfraConfig"]["HostNetwork"], json!(false));
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn pods_that_are_missing_have_podmans_codes() {
    let Some(env) = Env::new() else { return };
    let missing = "Error: no pod with name or ID nosuch found: no such pod";
    for (words, code) in [
        (&["start", "nosuch"][..], 125),
        (&["stop", "nosuch"], 125),
        (&["kill", "nosuch"], 125),
        (&["pause", "nosuch"], 125),
        (&["restart", "nosuch"], 125),
        (&["top", "nosuch"], 125),
        (&["stats", "--no-stream", "nosuch"], 125),
        (&["logs", "nosuch"], 125),
        (&["rm", "nosuch"], 1),
    ] {
        let line = env.kelp(&[&["pod"], words].concat()).fails(code);
        assert_eq!(line, missing, "{words:?}");
    }
    let done = env.kelp(&["pod", "inspect", "nosuch"]).done();
    assert_eq!((done.code, done.stdout.as_str()), (125, "[]\n"));
    for words in [
        &["rm", "-f", "nosuch"][..],
        &["rm", "-i", "nosuch"],
        &["stop", "-i", "nosuch"],
        &["rm", "-a"],
        &["stop", "-a"],
    ] {
        assert_eq!(env.kelp(&[&["pod"], words].concat()).succeeds(), "");
    }
    for (name, code) in [("nosuch", 1), ("crew", 0)] {
        if code == 0 {
            create(&env, name, &[]);
        }
        assert_eq!(env.kelp(&["pod", "exists", name]).done().code, code);
    }
    let line = env.kelp(&["pod", "stop"]).fails(125);
    assert_eq!(line, "Error: you must provide at least one name or id");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
}

#[test]
fn what_happens_to_a_pod_is_an_event() {
    let Some(env) = Env::new() else { return };
    let id = create(&env, "crew", &["--label=a=b"]);
    member(&env, &["create"], "crew", "one", SLEEP);
    for verb in ["start", "pause", "unpause", "restart", "kill", "stop", "rm"] {
        env.kelp(&["pod", verb, "crew"]).succeeds();
    }
    let words = [
        "events",
        "--stream=false",
        "--filter=pod=crew",
        "--format={{.Status}}",
    ];
    let told = env.kelp(&words).succeeds();
    let told: Vec<_> = told.lines().collect();
    let expected = [
        "create", "start", "pause", "unpause", "restart", "kill", "stop", "remove",
    ];
    assert_eq!(told, expected);
    let words = [
        "events",
        "--stream=false",
        "--filter=type=pod",
        "--filter=event=create",
    ];
    let line = env.kelp(&words).succeeds();
    let end = format!(" pod create {id} (image=, name=crew, a=b)\n");
    assert!(line.ends_with(&end), "{line}");
    // Containers say which pod it was.
    let words = [
        "events",
        "--stream=false",
        "--filter=container=one",
        "--format={{.Status}} {{.PodID}}",
    ];
    let told = env.kelp(&words).succeeds();
    assert!(
        told.lines().all(|line| line.ends_with(&format!(" {id}"))),
        "{told}"
    );
}

#[test]
fn processes_output_and_use_of_all_containers_are_shown() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &["--infra-name=first"]);
    let script = |text: &str| format!("echo {text}; exec sleep 1000");
    for name in ["one", "two"] {
        member(
            &env,
            &["run", "-d"],
            "crew",
            name,
            &["sh", "-c", &script(name)],
        );
    }
    let top = table(&env.kelp(&["pod", "top", "crew", "pid", "args"]).succeeds());
    assert_eq!(top[0], ["PID", "COMMAND"]);
    let sleeps = top
        .iter()
        .filter(|row| row.ends_with(&["sleep 1000".to_owned()]));
    assert_eq!((top.len(), sleeps.count()), (4, 2));
    let logs = env.kelp(&["pod", "logs", "-n", "crew"]).succeeds();
    assert_eq!(logs, "one one\ntwo two\n");
    let logs = env.kelp(&["pod", "logs", "-c", "two", "crew"]).succeeds();
    assert_eq!(logs, "two\n");
    let line = env.kelp(&["pod", "logs", "-c", "three", "crew"]).fails(125);
    assert_eq!(
        line,
        "Error: container three is not in pod crew: no such container"
    );
    let stats = table(
        &env.kelp(&["pod", "stats", "--no-stream", "crew"])
            .succeeds(),
    );
    let heading = [
        "POD",
        "CID",
        "NAME",
        "CPU %",
        "MEM USAGE/ LIMIT",
        "MEM %",
        "NET IO",
        "BLOCK IO",
        "PIDS",
    ];
    assert_eq!(stats[0], heading);
    assert_eq!((stats.len(), stats[1][2].as_str()), (4, "first"));
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}

#[test]
fn a_stream_of_what_pods_use_ends_with_the_last_of_them() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &["--infra-name=base"]);
    env.kelp(&["pod", "start", "crew"]).succeeds();
    let words = ["pod", "stats", "--format={{.Name}} {{.PIDS}}", "crew"];
    let mut child = env.kelp(&words).start();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.starts_with("base "), "{line:?}");
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
    assert_eq!(crate::kelp::wait(&mut child, "kelp pod stats"), 0);
}

#[test]
fn pods_of_which_all_has_ended_are_not_told_of_by_an_unpause() {
    let Some(env) = Env::new() else { return };
    let id = create(&env, "crew", &[]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    let unpaused = || env.kelp(&["pod", "unpause", "crew"]).succeeds();
    assert_eq!(unpaused(), "");
    // As with podman, one that runs in part may have been paused in part.
    env.kelp(&["kill", "one"]).succeeds();
    env.kelp(&["wait", "one"]).succeeds();
    assert_eq!(status(&env, "crew"), "Degraded");
    assert_eq!(unpaused(), format!("{id}\n"));
    member(&env, &["create"], "crew", "two", SLEEP);
    env.kelp(&["pod", "kill", "crew"]).succeeds();
    env.kelp(&["wait", &infra(&env, "crew")]).succeeds();
    assert_eq!(status(&env, "crew"), "Stopped");
    assert_eq!(unpaused(), "");
    // What is paused next to what has ended goes on.
    env.kelp(&["start", "two"]).succeeds();
    env.kelp(&["pod", "pause", "crew"]).succeeds();
    assert_eq!(status(&env, "crew"), "Stopped");
    assert_eq!(unpaused(), format!("{id}\n"));
    assert_eq!(states(&env), "one exited, two running");
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}

#[test]
fn a_replacement_that_can_not_be_made_leaves_the_pod() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let id = create(&env, "crew", &["--infra-name=base"]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    env.kelp(&["create", "--name=taken", &image]).succeeds();
    let replace = ["pod", "create", "--replace", "--name=crew"];
    for flag in [
        "--network=container:nope",
        "--infra-name=taken",
        "--volumes-from=nope",
        "--volume=/nonexistent:/x",
        "--userns=container:nope",
    ] {
        env.kelp(&[&replace[..], &[flag]].concat()).fails(125);
        assert_eq!(inspect(&env, "{{.Id}}", "crew"), id, "{flag}");
        assert_eq!(
            states(&env),
            "base running, one running, taken created",
            "{flag}"
        );
    }
    // A name that the old one's infra container has is free by then.
    let flags = ["--network=none", "--infra-name=base"];
    env.kelp(&[&replace[..], &flags].concat()).succeeds();
    assert_ne!(inspect(&env, "{{.Id}}", "crew"), id);
    assert_eq!(states(&env), "base created, taken created");
    env.kelp(&["pod", "rm", "crew"]).succeeds();
    env.kelp(&["rm", "taken"]).succeeds();
}

#[test]
fn a_pod_that_others_need_is_not_removed_by_half() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let id = create(&env, "crew", &[]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    let infra = infra(&env, "crew");
    for needed in ["one", &infra] {
        let network = format!("--network=container:{needed}");
        let words = ["create", "--name=guest", &network, &image, "true"];
        env.kelp(&words).succeeds();
        let replace = [
            "pod",
            "create",
            "--network=none",
            "--replace",
            "--name=crew",
        ];
        for words in [&["pod", "rm", "-f", "crew"][..], &replace] {
            let line = env.kelp(words).fails(125);
            assert!(line.contains("kelp rm -f guest"), "{line}");
            assert_eq!(inspect(&env, "{{.Id}}", "crew"), id);
            assert_eq!(states(&env), "guest created, one running");
        }
        env.kelp(&["rm", "guest"]).succeeds();
    }
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}

#[test]
fn a_member_can_not_give_the_infra_container_another_program() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &["--share=+pid"]);
    let verb = ["run", "-d", "--cap-add=DAC_OVERRIDE,SYS_PTRACE"];
    member(&env, &verb, "crew", "one", SLEEP);
    let script = "cd /proc/1/root && ls kelp && ! rm -f kelp 2>&1 && ! touch new 2>&1";
    exec(&env, "one", script);
    env.kelp(&["pod", "restart", "crew"]).succeeds();
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}

#[test]
fn whatever_has_the_name_of_its_image_the_infra_container_is_kelps_own() {
    let Some(env) = Env::new() else { return };
    create(&env, "first", &[]);
    let image = inspect_image(&env, "first");
    let name = format!("localhost/kelp-pause:{}", env!("CARGO_PKG_VERSION"));
    env.kelp(&["tag", &env.busybox(), &name]).succeeds();
    create(&env, "crew", &[]);
    assert_eq!(inspect_image(&env, "crew"), image);
    env.kelp(&["pod", "rm", "-a"]).succeeds();
}

/// The id of the image of a pod's infra container.
fn inspect_image(env: &Env, name: &str) -> String {
    let words = ["inspect", "-f", "{{.Image}}", &infra(env, name)];
    env.kelp(&words).succeeds()
}

#[test]
fn files_that_a_pod_does_not_want_its_members_do_not_have() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &["--no-hosts", "--no-hostname"]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    let mounted = "grep -cE ' /etc/host(s|name) ' /proc/mounts || true";
    assert_eq!(exec(&env, "one", mounted), "0\n");
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}

#[test]
fn a_new_pod_goes_again_if_its_container_can_not_be_made() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for verb in ["create", "run"] {
        let words = [verb, "--pod=new:crew", "-v/nonexistent:/x", &image, "true"];
        env.kelp(&words).fails(125);
        assert_eq!(env.kelp(&["pod", "ps", "-q"]).succeeds(), "", "{verb}");
        assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "", "{verb}");
    }
}

#[test]
fn a_file_with_the_id_of_a_pod_is_not_anothers() {
    let Some(env) = Env::new() else { return };
    let path = env.path("id");
    let flag = format!("--pod-id-file={}", path.display());
    let read = || std::fs::read_to_string(&path).unwrap();
    let id = create(&env, "crew", &[&flag]);
    assert_eq!(read(), id);
    let make = |name: &str, flags: &[&str]| {
        let words = ["pod", "create", "--network=none", "--name", name, &flag];
        env.kelp(&[&words[..], flags].concat())
    };
    let line = make("other", &[]).fails(125);
    assert!(line.contains("exists"), "{line}");
    assert_eq!(read(), id);
    assert_eq!(env.kelp(&["pod", "exists", "other"]).done().code, 1);
    // A replacement takes it, and so does who finds one of a pod that is gone.
    make("crew", &["--replace"]).succeeds();
    assert_ne!(read(), id);
    env.kelp(&["pod", "rm", "crew"]).succeeds();
    make("other", &[]).succeeds();
    assert_eq!(read(), inspect(&env, "{{.Id}}", "other"));
    env.kelp(&["pod", "rm", "other"]).succeeds();
    // What can't be written is known before there is a pod.
    let flag = format!("--pod-id-file={}/x", path.display());
    env.kelp(&["pod", "create", "--name=crew", &flag])
        .fails(125);
    assert_eq!(env.kelp(&["pod", "ps", "-q"]).succeeds(), "");
    // One that can't be made leaves none.
    std::fs::remove_file(&path).unwrap();
    make("crew", &["-v/nonexistent:/x"]).fails(125);
    assert!(!path.exists());
}

#[test]
fn a_start_tells_of_members_that_have_other_namespaces_than_the_pod() {
    let Some(env) = Env::new() else { return };
    create(&env, "crew", &[]);
    member(&env, &["run", "-d"], "crew", "one", SLEEP);
    env.kelp(&["pod", "start", "crew"]).succeeds();
    env.kelp(&["kill", &infra(&env, "crew")]).succeeds();
    let line = env.kelp(&["pod", "start", "crew"]).fails(125);
    assert!(line.contains("kelp pod restart crew"), "{line}");
    env.kelp(&["pod", "restart", "crew"]).succeeds();
    env.kelp(&["pod", "start", "crew"]).succeeds();
    env.kelp(&["pod", "rm", "-f", "crew"]).succeeds();
}
