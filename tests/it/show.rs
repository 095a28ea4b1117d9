//! What shows containers and volumes: inspect, templates, volumes and who uses them.

use serde_json::Value;

use crate::env::Env;

#[test]
fn inspect_tells_what_was_asked_for() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let create = [
        "create", "--name", "shown", "--label", "a=b", &image, "true",
    ];
    let id = env.kelp(&create).succeeds();
    let json = env.kelp(&["inspect", "shown"]).succeeds();
    let list: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(list[0]["Id"], id.trim());
    assert_eq!(list[0]["State"]["Status"], "created");
    assert_eq!(list[0]["Config"]["Labels"]["a"], "b");
    assert_eq!(list[0]["Config"]["StopSignal"], "SIGTERM");
    let template = "{{.Path}} {{.Config.Labels.a}} {{index .Config.Labels \"none\"}}";
    let line = env
        .kelp(&["container", "inspect", "-f", template, "shown"])
        .succeeds();
    assert_eq!(line, "true b \n");
    env.kelp(&["inspect", "-f", "{{.Nothing}}", "shown"])
        .done()
        .exits(125);
    let nothing = env.kelp(&["inspect", "nothing"]).done();
    assert_eq!(nothing.stdout, "[]\n");
    nothing.exits(125);
    env.kelp(&["rm", "shown"]).succeeds();
}

#[test]
fn a_volume_in_use_stays() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    assert_eq!(env.kelp(&["volume", "create", "kept"]).succeeds(), "kept\n");
    env.kelp(&["volume", "create", "kept"]).done().exits(125);
    let create = [
        "create",
        "--name",
        "user",
        "-v",
        "kept:/data",
        &image,
        "true",
    ];
    env.kelp(&create).succeeds();
    env.kelp(&["volume", "rm", "kept"]).done().exits(2);
    let dangling = ["volume", "ls", "-q", "--filter", "dangling=true"];
    assert_eq!(env.kelp(&dangling).succeeds(), "");
    let used = [
        "ps",
        "-a",
        "--filter",
        "volume=kept",
        "--format",
        "{{.Names}}",
    ];
    assert_eq!(env.kelp(&used).succeeds(), "user\n");
    env.kelp(&["rm", "user"]).succeeds();
    assert_eq!(env.kelp(&["volume", "rm", "kept"]).succeeds(), "kept\n");
    env.kelp(&["volume", "rm", "kept"]).done().exits(1);
    env.kelp(&["volume", "exists", "kept"]).done().exits(1);
}

#[test]
fn unshare_is_root_and_keeps_the_exit_code() {
    let Some(env) = Env::new() else { return };
    let script = "id -u; exit 7";
    let unshared = env.kelp(&["unshare", "sh", "-c", script]).done();
    assert_eq!(unshared.stdout, "0\n");
    unshared.exits(7);
    env.kelp(&["unshare", "no-such-program"]).done().exits(127);
}
