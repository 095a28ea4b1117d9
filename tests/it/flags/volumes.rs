//! Flags that bring other containers' and images' files, and those that take files away.

use serde_json::json;

use crate::env::Env;
use crate::image::Image;

#[test]
fn who_was_given_a_volume_keeps_it() {
    let Some(env) = Env::new() else { return };
    let of_user = |user: &str, script: &str| env.shell(&["-u", user, "-v", "given:/new"], script);
    let look = "stat -c '%u:%g' /new";
    assert_eq!(of_user("1000", look), "1000:1000\n");
    // It is empty still.
    assert_eq!(of_user("7", look), "1000:1000\n");
    // A place that is made in a directory of the host's is the host's.
    let host = env.path("h/host");
    std::fs::create_dir(&host).unwrap();
    let bind = format!("{}:/app", host.display());
    let flags = ["-u", "1000", "-v", &bind, "-v", "modules:/app/modules"];
    assert_eq!(
        env.shell(&flags, "stat -c '%u:%g' /app/modules"),
        "1000:1000\n"
    );
    let made = std::fs::metadata(host.join("modules")).unwrap();
    let own = rustix::process::getuid().as_raw();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), own);
}

#[test]
fn a_new_volume_is_the_users_where_the_image_has_nothing() {
    let Some(env) = Env::new() else { return };
    let script = "stat -c '%u:%g %n' /new/place /etc; touch /new/place/mine && ls -n /new/place | awk 'END {print $3}'";
    let flags = ["-u", "1000:1001", "-v", "given:/new/place"];
    let seen = "1000:1001 /new/place\n0:0 /etc\n1000\n";
    assert_eq!(env.shell(&flags, script), seen);
    // What has something in it stays as it is, and what the image has at the place is the image's.
    let other = ["-u", "7:7", "-v", "given:/new/place", "-v", "others:/etc"];
    let script = "stat -c '%u:%g %n' /new/place /etc";
    assert_eq!(
        env.shell(&other, script),
        "1000:1001 /new/place\n0:0 /etc\n"
    );
    // As it was when it starts again, and nothing is written to what can't be.
    let image = env.busybox();
    let create = ["create", "--name=again", "--network=none", "-u", "5"];
    let mounts = ["-v", "empty:/new", "-v", "unwritten:/other:ro"];
    let command = [&image, "stat", "-c", "%u:%g", "/new", "/other"];
    env.kelp(&[&create[..], &mounts, &command].concat())
        .succeeds();
    for _ in 0..2 {
        assert_eq!(env.kelp(&["start", "-a", "again"]).succeeds(), "5:0\n0:0\n");
    }
    env.kelp(&["rm", "again"]).succeeds();
}

#[test]
fn a_tmpfs_belongs_to_whom_was_said() {
    let Some(env) = Env::new() else { return };
    let script = "stat -c '%u:%g %a %n' /new /etc /tmp /etc/passwd";
    let flags = [
        "--tmpfs=/new:uid=5,gid=6",
        "--tmpfs=/etc:uid=5,mode=700",
        "--tmpfs=/tmp:gid=6",
    ];
    assert_eq!(
        env.shell(&flags, script),
        "5:6 1777 /new\n5:0 700 /etc\n0:6 1777 /tmp\n0:0 644 /etc/passwd\n"
    );
}

#[test]
fn volumes_come_from_another_container() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    // Which looks like a volume and is none.
    let bound = env.path("h/volumes/bound/_data");
    std::fs::create_dir_all(&bound).unwrap();
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
    let kinds = "{{range .Mounts}}{{.Type}} {{.Destination}} {{end}}";
    assert_eq!(
        env.kelp(&["inspect", "-f", kinds, "one"]).succeeds(),
        "volume /data bind /bound \n"
    );
    let name = env.kelp(&["volume", "ls", "-q"]).succeeds();
    for (volume, found) in [(name.trim(), "one\n"), ("bound", "")] {
        let filter = format!("volume={volume}");
        let words = ["ps", "-a", "--format={{.Names}}", "-f", &filter];
        assert_eq!(env.kelp(&words).succeeds(), found, "{volume}");
    }
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
fn a_volumes_users_have_as_long_as_was_said() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    // As process 1 it does not hear SIGTERM.
    let run = ["run", "-d", "--stop-timeout=1000", "-v", "data:/d"];
    env.kelp(&[&run[..], &[&image, "sleep", "1000"]].concat())
        .succeeds();
    env.kelp(&["volume", "rm", "data"]).fails(2);
    let words = ["volume", "rm", "-f", "-t", "0", "data"];
    assert_eq!(env.kelp(&words).succeeds(), "data\n");
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
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
