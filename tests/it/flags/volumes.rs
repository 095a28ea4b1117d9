//! Flags that bring other containers' and images' files, and those that take files away.

use serde_json::json;

use crate::env::Env;
use crate::image::Image;

#[test]
fn volumes_come_from_another_container() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let bound = env.path("h/bound");
    std::fs::create_dir(&bound).unwrap();
    let bind = format!("{}:/bound:ro", bound.display());
    let words = [
        "create",
        "--name=one",
        "-v",
        "/data",
        "-v",
        &bind,
        "--tmpfs=/t",
        &image,
    ];
    env.kelp(&words).succeeds();
    let script = "grep -c ' /t ' /proc/self/mounts; echo x >/data/x; ls /data; \
                  touch /bound/y 2>/dev/null || echo read-only";
    assert_eq!(
        env.shell(&["--volumes-from", "one"], script),
        "0\nx\nread-only\n"
    );
    let script = "cat /data/x; touch /data/y 2>/dev/null || echo read-only";
    assert_eq!(
        env.shell(&["--volumes-from=one:ro"], script),
        "x\nread-only\n"
    );
    // What is asked for by itself is what is there.
    assert_eq!(
        env.shell(&["--volumes-from=one", "--tmpfs=/data"], "ls /data"),
        ""
    );
    assert_eq!(
        env.kelp(&["run", "--rm", "--volumes-from=two", &image])
            .fails(125),
        "Error: no container with name or ID \"two\" found: no such container"
    );
    env.kelp(&["rm", "-v", "one"]).succeeds();
}

#[test]
fn a_volume_outlives_its_container_where_another_one_has_it() {
    let Some(env) = Env::new() else { return };
    let image = env.image("with-volume", &|| {
        Image::busybox().set("Volumes", json!({ "/data": {} }))
    });
    let words = ["run", "-d", "--rm", "--name=one", &image, "sleep", "1000"];
    env.kelp(&words).succeeds();
    env.kelp(&["exec", "one", "touch", "/data/kept"]).succeeds();
    let words = [
        "create",
        "--name=two",
        "--volumes-from=one",
        &image,
        "ls",
        "/data",
    ];
    env.kelp(&words).succeeds();
    env.kelp(&["rm", "-f", "-t", "0", "one"]).succeeds();
    assert_eq!(env.kelp(&["start", "-a", "two"]).succeeds(), "kept\n");
    env.kelp(&["rm", "-v", "two"]).succeeds();
    env.kelp(&["volume", "prune", "-f"]).succeeds();
    assert_eq!(env.kelp(&["volume", "ls", "-q"]).succeeds(), "");
}

#[test]
fn the_image_goes_with_its_last_container() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["create", "--name=other", &image]).succeeds();
    let run = ["run", "--rmi", &image, "echo", "x"];
    assert_eq!(env.kelp(&run).succeeds(), "x\n");
    env.kelp(&["image", "exists", &image]).succeeds();
    env.kelp(&["rm", "other"]).succeeds();
    assert_eq!(env.kelp(&run).succeeds(), "x\n");
    assert_eq!(env.kelp(&["image", "exists", &image]).done().code, 1);
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
    assert_eq!(
        env.kelp(&["run", "--rmi", "-d", &image]).fails(125),
        "Error: --rmi and --detach exclude each other: nobody waits to remove the image"
    );
}
