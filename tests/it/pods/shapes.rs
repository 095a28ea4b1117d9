//! What is printed of pods: podman's columns, keys, words and codes.

use serde_json::{Value, json};

use super::{SLEEP, create, infra, member};
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
