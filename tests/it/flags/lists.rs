//! Flags of the commands about what is there: filters, sorting, sizes.

use serde_json::json;

use crate::env::Env;
use crate::image::Image;

fn create(env: &Env, name: &str, flags: &[&str]) {
    let image = env.busybox();
    let name = format!("--name={name}");
    env.kelp(&[&["create", &name], flags, &[&image, "sleep", "1000"]].concat())
        .succeeds();
}

#[test]
fn commands_act_on_containers_that_fit() {
    let Some(env) = Env::new() else { return };
    create(&env, "one", &["-l", "team=a", "--restart=always"]);
    create(&env, "two", &["-l", "team=b", "--restart=unless-stopped"]);
    let names = |filter: &str| {
        let words = ["ps", "-a", "--format={{.Names}}", "--filter", filter];
        env.kelp(&words).succeeds()
    };
    assert_eq!(names("restart-policy=always"), "one\n");
    assert_eq!(names("label!=team=a"), "two\n");
    assert_eq!(names("should-start-on-boot=true"), "one\ntwo\n");
    create(&env, "three", &["--restart=on-failure:3"]);
    assert_eq!(names("restart-policy=on-failure"), "three\n");
    assert_eq!(names("should-start-on-boot=false"), "three\n");
    env.kelp(&["rm", "three"]).succeeds();
    let ids = |command: &[&str]| env.kelp(command).succeeds().lines().count();
    assert_eq!(ids(&["start", "--filter", "should-start-on-boot=true"]), 2);
    assert_eq!(ids(&["pause", "--filter", "label=team=a"]), 1);
    assert_eq!(names("status=paused"), "one\n");
    assert_eq!(ids(&["unpause", "--filter", "label=team"]), 1);
    assert_eq!(ids(&["restart", "-t", "0", "--filter", "name=tw"]), 1);
    assert_eq!(ids(&["stop", "-t", "0", "--filter", "name=two"]), 1);
    assert_eq!(names("status=exited"), "two\n");
    assert_eq!(names("should-start-on-boot=true"), "one\n");
    assert_eq!(
        env.kelp(&["stop", "--filter", "name=one", "two"])
            .fails(125),
        "Error: --filter leaves no room for names or --latest"
    );
    let line = env.kelp(&["stop", "--filter", "nosuch=1"]).fails(125);
    assert!(
        line.starts_with("Error: nosuch is an invalid filter: use id, "),
        "{line}"
    );
    assert_eq!(ids(&["rm", "-f", "-t", "0", "--filter", "label=team"]), 2);
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
}

#[test]
fn the_first_container_to_end_ends_the_wait() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["run", "-d", "--name=long", &image, "sleep", "1000"])
        .succeeds();
    env.kelp(&["run", "-d", "--name=short", &image, "sh", "-c", "exit 7"])
        .succeeds();
    let words = ["wait", "--exit-first-match", "long", "short"];
    assert_eq!(env.kelp(&words).succeeds(), "7\n");
    env.kelp(&["rm", "-f", "-t", "0", "long", "short"])
        .succeeds();
}

#[test]
fn a_list_shows_sizes() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "head -c 12000 /dev/zero >/x";
    env.kelp(&["run", "--name=web", &image, "sh", "-c", script])
        .succeeds();
    let size = env.kelp(&["ps", "-as", "--format={{.Size}}"]).succeeds();
    assert!(size.starts_with("12kB (virtual "), "{size}");
    let listed: Vec<serde_json::Value> =
        serde_json::from_str(&env.kelp(&["ps", "-as", "--format=json"]).succeeds()).unwrap();
    assert_eq!(listed[0]["Size"]["rwSize"], 12000);
    let heading = env.kelp(&["ps", "-as"]).succeeds();
    assert!(
        heading.lines().next().unwrap().ends_with("SIZE"),
        "{heading}"
    );
    create(&env, "small", &[]);
    let sorted = |key: &str| {
        let words = ["ps", "-a", "--format={{.Names}}", "--sort", key];
        env.kelp(&words).succeeds()
    };
    assert_eq!(sorted("created"), "web\nsmall\n");
    assert_eq!(sorted("size"), "small\nweb\n");
    env.kelp(&["rm", "web", "small"]).succeeds();
}

#[test]
fn a_list_shows_what_podmans_shows() {
    let Some(env) = Env::new() else { return };
    let image = env.image("exposing", &|| {
        Image::busybox().set("ExposedPorts", json!({ "80/tcp": {}, "443/tcp": {} }))
    });
    let create = ["create", "--name=web", "-p=127.0.0.1:8093:80"];
    let program = ["--expose=53-54/udp", "--expose=443", &image, "true"];
    env.kelp(&[&create[..], &program].concat()).succeeds();
    let shown = |format: &str| {
        let words = ["ps", "-a", "--format", format];
        env.kelp(&words).succeeds()
    };
    let ports = "127.0.0.1:8093->80/tcp, 443/tcp, 53-54/udp\n";
    assert_eq!(shown("{{.Ports}}"), ports);
    let listed: serde_json::Value = serde_json::from_str(&shown("json")).unwrap();
    let exposed = json!({ "53": ["udp"], "54": ["udp"], "80": ["tcp"], "443": ["tcp"] });
    assert_eq!(listed[0]["ExposedPorts"], exposed);
    let found = ["ps", "-a", "--format={{.Names}}", "-f", "expose=54/udp"];
    assert_eq!(env.kelp(&found).succeeds(), "web\n");
    let inspected = ["inspect", "-f", "{{json .Config.ExposedPorts}}", "web"];
    let inspected = env.kelp(&inspected).succeeds();
    assert_eq!(inspected.matches("{}").count(), 4, "{inspected}");
    assert_eq!(shown("{{.Created}}"), shown("{{.CreatedAt}}"));
    assert!(shown("{{.CreatedHuman}}").ends_with(" ago\n"));
    let table = env.kelp(&["ps", "-a"]).succeeds();
    assert!(
        table.contains("CREATED ") && table.contains(" ago "),
        "{table}"
    );
    let quiet = ["ps", "-aq", "--format={{.Names}}"];
    assert_eq!(env.kelp(&quiet).succeeds(), "web\n");
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn images_are_filtered_and_sorted() {
    let Some(env) = Env::new() else { return };
    let small = env.busybox();
    let labelled = env.image("labelled", &|| {
        Image::busybox().set("Labels", json!({ "team": "a" }))
    });
    env.kelp(&["create", "--name=web", &small]).succeeds();
    let names = |flags: &[&str]| {
        let words = [
            &[
                "images",
                "--format={{.Repository}}:{{.Tag}}",
                "--sort=repository",
            ],
            flags,
        ];
        env.kelp(&words.concat()).succeeds()
    };
    for (filter, seen) in [
        ("label=team", format!("{labelled}\n")),
        ("label!=team", format!("{small}\n")),
        ("reference=busy*", format!("{small}\n")),
        ("containers=true", format!("{small}\n")),
        ("dangling=false", format!("{small}\n{labelled}\n")),
        ("intermediate=true", String::new()),
        ("until=1960-01-01", String::new()),
    ] {
        assert_eq!(names(&["--filter", filter]), seen, "{filter}");
    }
    let listed: serde_json::Value =
        serde_json::from_str(&env.kelp(&["images", "--format=json", &small]).succeeds()).unwrap();
    assert_eq!(listed[0]["Names"], json!([small]));
    assert_eq!(listed[0]["Containers"], 1);
    assert!(
        listed[0]["Size"].is_u64() && listed[0]["Created"].is_u64(),
        "{listed}"
    );
    // Whose question nobody answers does nothing.
    let asked = env.kelp(&["image", "prune", "-a"]).succeeds();
    let question = "WARNING! This command removes all images without a container.\n\
                    Are you sure you want to continue? [y/N] ";
    assert_eq!(asked, question);
    let asked = env.kelp(&["image", "prune", "-a"]).input(b"n\n").succeeds();
    assert_eq!(asked, question);
    assert_eq!(names(&["--filter", "label=team"]), format!("{labelled}\n"));
    let pruned = ["image", "prune", "-af", "--filter", "label!=team"];
    assert_eq!(env.kelp(&pruned).succeeds(), "");
    let pruned = ["image", "prune", "-a", "--filter", "label=team"];
    let said = env.kelp(&pruned).input(b"y\n").succeeds();
    assert_eq!(said.lines().count(), 2, "{said}");
    assert_eq!(names(&[]), format!("{small}\n"));
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn a_failed_pull_is_tried_again_as_often_as_was_asked_for() {
    let Some(env) = Env::new() else { return };
    // Nobody listens on the port of tcpmux.
    let words = [
        "pull",
        "--retry=2",
        "--retry-delay=1ms",
        "--tls-verify=false",
        "127.0.0.1:1/a",
    ];
    let done = env.kelp(&words).done();
    assert_eq!(done.code, 125, "{done:?}");
    let words = ["pull", "--retry-delay=soon", "a"];
    assert_eq!(
        env.kelp(&words).fails(125),
        "Error: invalid span \"soon\": use 500ms, 2s or 1m30s"
    );
}

#[test]
fn what_other_commands_lack_is_named() {
    let Some(env) = Env::new() else { return };
    for (words, said) in [
        (
            &["pull", "--decryption-key=k", "a"][..],
            "--decryption-key is not supported by kelp yet: encrypted images can't be read",
        ),
        (
            &["artifact", "pull", "--decryption-key=k", "a"],
            "--decryption-key is not supported by kelp yet: encrypted images can't be read",
        ),
        (
            &["image", "ls", "--history"],
            "--history is not supported by kelp yet: names that an image had are not remembered",
        ),
        (
            &["unshare", "--rootless-netns", "true"],
            "--rootless-netns is not supported by kelp yet: no network is shared by containers",
        ),
        (
            &["volume", "create", "--uid=1"],
            "--uid is not supported by kelp yet: use --volume with the option U",
        ),
    ] {
        assert_eq!(env.kelp(words).fails(125), format!("Error: {said}"));
    }
}

#[test]
fn names_before_lines_have_colors() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["run", "--name=web", &image, "echo", "x"])
        .succeeds();
    assert_eq!(
        env.kelp(&["logs", "--color", "-n", "web"]).succeeds(),
        "\x1b[31mweb \x1b[0mx\n"
    );
    env.kelp(&["rm", "web"]).succeeds();
}

#[test]
fn a_prune_of_everything_keeps_to_its_filter() {
    let Some(env) = Env::new() else { return };
    create(&env, "kept", &["-l", "team=a"]);
    create(&env, "gone", &["-l", "team=b"]);
    env.kelp(&["volume", "create", "-l", "team=b", "data"])
        .succeeds();
    env.kelp(&["volume", "create", "other"]).succeeds();
    let words = [
        "system",
        "prune",
        "-f",
        "--volumes",
        "--filter",
        "label=team=b",
    ];
    let said = env.kelp(&words).succeeds();
    assert!(said.contains("Deleted Volumes\ndata\n"), "{said}");
    assert_eq!(
        env.kelp(&["ps", "-a", "--format={{.Names}}"]).succeeds(),
        "kept\n"
    );
    assert_eq!(env.kelp(&["volume", "ls", "-q"]).succeeds(), "other\n");
    env.kelp(&["rm", "kept"]).succeeds();
}
