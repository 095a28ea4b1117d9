//! `--userns`, `--uidmap`: each map makes a container that works like any other.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;

/// An image with files of root's and of a user's, in directories that only they may enter.
fn owned() -> Image {
    Image::busybox().layer(
        Layer::default()
            .owned_directory("srv", 0o700, (1000, 1000))
            .owned_file("srv/user", 0o600, (1000, 1000), b"of the user\n")
            .file("no-entry/root", 0o644, b"of root\n")
            .directory("implied", 0o700)
            .file("implied/root", 0o600, b"of root\n"),
    )
}

/// Runs a container of the image through its whole life; `inside` is the id of the program, and
/// `own` what a file of the host's user is in the container.
fn lives(flags: &[&str], inside: &str, own: &str) {
    for env in Env::each() {
        lives_in(&env, flags, inside, own);
    }
}

fn lives_in(env: &Env, flags: &[&str], inside: &str, own: &str) {
    // Pulled for the usual map, so that the layers of this one are made when it is created.
    let image = env.image("owned", &owned);
    let shared = env.path("h/shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("host"), "of the host\n").unwrap();
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(shared.join("host"), readable.clone()).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let mut create = vec!["create", "--name", "mapped", "-v", &volume];
    create.extend(flags);
    create.extend([&image, "sh", "-c", "id -u; sleep 1000"]);
    env.kelp(&create).succeeds();
    let host = env.path("h/copied");
    fs::write(&host, "copied\n").unwrap();
    fs::set_permissions(&host, readable).unwrap();
    let host = host.to_str().unwrap();
    env.kelp(&["cp", host, "mapped:/tmp/before"]).succeeds();
    env.kelp(&["start", "mapped"]).succeeds();
    let exec = |script: &str| {
        env.kelp(&["exec", "-u", "0", "mapped", "sh", "-c", script])
            .succeeds()
    };
    let owners = "stat -c '%n %u:%g %a' / /bin/busybox /srv /srv/user /implied /implied/root \
                  /no-entry /no-entry/root /tmp/before /shared/host | sort";
    let mut expected = vec![
        "/ 0:0 755".to_owned(),
        "/bin/busybox 0:0 755".to_owned(),
        "/implied 0:0 700".to_owned(),
        "/implied/root 0:0 600".to_owned(),
        "/no-entry 0:0 755".to_owned(),
        "/no-entry/root 0:0 644".to_owned(),
        format!("/shared/host {own} 644"),
        "/srv 1000:1000 700".to_owned(),
        "/srv/user 1000:1000 600".to_owned(),
    ];
    // What comes in belongs to the container's user.
    let copied = if inside == "0" { "0:0" } else { own };
    expected.push(format!("/tmp/before {copied} 644"));
    expected.sort();
    assert_eq!(exec(owners).lines().collect::<Vec<_>>(), expected);
    let written = exec("cat /srv/user /implied/root; rm -r /implied; echo new > /etc/new; id -u");
    assert_eq!(written, "of the user\nof root\n0\n");
    env.kelp(&["cp", host, "mapped:/tmp/while"]).succeeds();
    let back = env.path("h/back");
    let from = ["cp", "mapped:/srv/user", back.to_str().unwrap()];
    env.kelp(&from).succeeds();
    assert_eq!(fs::read_to_string(&back).unwrap(), "of the user\n");
    assert_eq!(
        fs::metadata(&back).unwrap().uid(),
        rustix::process::getuid().as_raw()
    );
    let changes = env.kelp(&["diff", "mapped"]).succeeds();
    for change in ["A /etc/new", "C /etc", "D /implied", "A /tmp/while"] {
        assert!(changes.lines().any(|line| line == change), "{changes}");
    }
    env.kelp(&["stop", "-t", "0", "mapped"]).succeeds();
    assert_eq!(
        env.kelp(&["logs", "mapped"]).succeeds(),
        format!("{inside}\n")
    );
    env.kelp(&["cp", "mapped:/srv/user", "-"]).done().exits(0);
    env.kelp(&["start", "mapped"]).succeeds();
    assert_eq!(exec("cat /etc/new"), "new\n");
    env.kelp(&["rm", "-f", "-t0", "mapped"]).succeeds();
    env.kelp(&["rmi", &image]).succeeds();
    let layers = fs::read_dir(env.path("d/kelp/layers")).unwrap();
    for map in layers.flatten() {
        // What stays says which map the layers were for.
        let left = fs::read_dir(map.path()).unwrap().flatten();
        let left = left.filter(|entry| entry.file_name() != "map").count();
        assert_eq!(left, 0, "{}", map.path().display());
    }
}

/// The user's own ids, as the container shows them.
fn own_ids() -> (u32, u32) {
    (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    )
}

#[test]
fn keep_id_keeps_the_users_ids() {
    let (uid, gid) = own_ids();
    lives(
        &["--userns", "keep-id"],
        &uid.to_string(),
        &format!("{uid}:{gid}"),
    );
}

#[test]
fn keep_id_takes_other_ids() {
    lives(&["--userns", "keep-id:uid=7,gid=8"], "7", "7:8");
}

#[test]
fn nomap_leaves_the_user_out() {
    lives(&["--userns", "nomap"], "0", "65534:65534");
}

#[test]
fn explicit_maps_are_taken() {
    let flags = ["--uidmap", "0:1:2000", "--gidmap", "0:1:2000"];
    lives(&flags, "0", "65534:65534");
    let flags = ["--uidmap", "0:5000:1500", "--uidmap", "5000:0:1"];
    lives(&flags, "0", "5000:5000");
}

#[test]
fn maps_can_name_the_hosts_ids() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let mine = format!("5000:@{}:1", rustix::process::getuid().as_raw());
    let flags = ["--uidmap", "0:1:3000", "--uidmap", &mine];
    let script = "touch /mine; chown 5000:7 /mine; ls -n /mine | awk '{print $3, $4}'";
    assert_eq!(env.shell(&flags, script), "5000 7\n");
    let shared = env.path("h").display().to_string();
    let mount = format!("{shared}:/h");
    let script = "stat -c '%u %g' /h";
    let flags = [&flags[..], &["-v", &mount]].concat();
    assert_eq!(env.shell(&flags, script), "5000 5000\n");
    let others = env.kelp(&["create", "--uidmap", "0:@0:1", &image, "true"]);
    assert_eq!(
        others.fails(125),
        "Error: the map 0:@0:1 names id 0, which is neither this user's nor in its range in \
         /etc/subuid"
    );
}

#[test]
fn a_single_subordinate_id_is_refused() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let refused = env.kelp(&["create", "--uidmap", "0:1:1", &image, "true"]);
    let said = "an id map of one subordinate id is not supported: map the user's own (0:0:1), or more \
                than one";
    assert_eq!(refused.fails(125), format!("Error: {said}"));
}

#[test]
fn a_map_that_can_not_be_is_one_line() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let flags = "the flags +, u and g are not supported by kelp yet";
    for (map, said) in [
        (
            "5:0:1",
            "the id map has no id 0, which a container's root needs".to_owned(),
        ),
        (
            "+5:@1004:1",
            format!("invalid id mapping \"+5:@1004:1\": {flags}"),
        ),
        (
            "u0:@1004",
            format!("invalid id mapping \"u0:@1004\": {flags}"),
        ),
    ] {
        let refused = env.kelp(&["create", "--uidmap", map, &image, "true"]);
        assert_eq!(refused.fails(125), format!("Error: {said}"));
    }
}

#[test]
fn auto_gives_ids_of_its_own() {
    lives(&["--userns", "auto"], "0", "65534:65534");
    let flags = ["--userns=auto:size=3000,uidmapping=1500:0:1,gidmapping=1500:0:1"];
    lives(&flags, "0", "1500:1500");
}

/// The map of the container's init, as the host has it.
fn map_of(env: &Env, name: &str) -> Vec<Vec<u32>> {
    let pid = env.kelp(&["inspect", "-f", "{{.State.Pid}}", name]);
    let map = fs::read_to_string(format!("/proc/{}/uid_map", pid.succeeds().trim())).unwrap();
    let line = |line: &str| {
        line.split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect()
    };
    map.lines().map(line).collect()
}

#[test]
fn ids_of_auto_are_nobody_elses_until_the_container_is_gone() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let start = |name: &str, how: &str| {
        let run = [
            "run",
            "-d",
            "--network=none",
            "--name",
            name,
            "--userns",
            how,
        ];
        env.kelp(&[&run[..], &[&image, "sleep", "1000"]].concat())
    };
    // Its passwd names the user 2000.
    start("one", "auto").succeeds();
    start("two", "auto:size=2500").succeeds();
    let (one, two) = (map_of(&env, "one"), map_of(&env, "two"));
    assert_eq!((one[0][0], one[0][2], one.len()), (0, 2001, 1));
    assert_eq!((two[0][0], two[0][2], two.len()), (0, 2500, 1));
    assert!(one[0][1] + 2001 <= two[0][1], "{one:?} {two:?}");
    // Those of another container, which keep them from others as well.
    start("joined", "container:one").succeeds();
    assert_eq!(map_of(&env, "joined"), one);
    let own = env.kelp(&["exec", "joined", "readlink", "/proc/self/ns/user"]);
    let other = env.kelp(&["exec", "one", "readlink", "/proc/self/ns/user"]);
    assert_eq!(own.succeeds(), other.succeeds());
    let mode = env.kelp(&["inspect", "-f", "{{.HostConfig.UsernsMode}}", "joined"]);
    let id = env.kelp(&["inspect", "-f", "{{.Id}}", "one"]).succeeds();
    assert_eq!(mode.succeeds(), format!("container:{id}"));
    env.kelp(&["rm", "-f", "-t0", "--depend", "one"]).succeeds();
    start("four", "auto").succeeds();
    assert_eq!(map_of(&env, "four"), one);
    // Stopped and started, it has the same ids.
    env.kelp(&["restart", "-t0", "four"]).succeeds();
    assert_eq!(map_of(&env, "four"), one);
    assert_eq!(
        start("five", "auto:size=4000000").fails(125),
        "Error: no 4000000 ids are free for --userns=auto: 2 containers have ids of the 65536 in \
         /etc/subuid and /etc/subgid; remove one, give this user a larger range, or ask for fewer \
         with --userns=auto:size=N"
    );
    env.kelp(&["rm", "-f", "-t0", "-a"]).succeeds();
}

#[test]
fn a_user_namespace_can_be_a_files() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = [
        "run",
        "-d",
        "--network=none",
        "--name",
        "one",
        "--userns=auto",
    ];
    env.kelp(&[&run[..], &[&image, "sleep", "1000"]].concat())
        .succeeds();
    let pid = env.kelp(&["inspect", "-f", "{{.State.Pid}}", "one"]);
    let mode = format!("--userns=ns:/proc/{}/ns/user", pid.succeeds().trim());
    let inside = ["run", "--rm", "--network=none", &mode, &image, "sh", "-c"];
    let script =
        "readlink /proc/self/ns/user; stat -c %u /bin/busybox; chown 7 /tmp && stat -c %u /tmp";
    let said = env.kelp(&[&inside[..], &[script]].concat()).succeeds();
    let own = env.kelp(&["exec", "one", "readlink", "/proc/self/ns/user"]);
    assert_eq!(said, format!("{}0\n7\n", own.succeeds()));
    env.kelp(&["rm", "-f", "-t0", "one"]).succeeds();
    for (path, said) in [
        (
            "/proc/self/ns/user",
            "is not a user namespace that this user made from its own",
        ),
        ("/proc/self/ns/net", "is no user namespace"),
        ("/proc/self/cmdline", "is no user namespace"),
        ("/nowhere", "open user namespace /nowhere"),
    ] {
        let mode = format!("--userns=ns:{path}");
        let done = env.kelp(&["run", "--rm", &mode, &image, "true"]).done();
        assert!(done.stderr.contains(said), "{}", done.stderr);
        done.exits(125);
    }
}

#[test]
fn namespaces_of_containers_are_found_when_it_is_started() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let create = ["create", "--network=none", "--name"];
    let sleeps = [image.as_str(), "sleep", "1000"];
    env.kelp(&[&create[..], &["one"], &sleeps].concat())
        .succeeds();
    let joins = [
        "--pid=container:one",
        "--ipc=container:one",
        "--uts=container:one",
    ];
    let program = [image.as_str(), "sh", "-c", "hostname; sleep 1000"];
    env.kelp(&[&create[..], &["two"], &joins, &program].concat())
        .succeeds();
    // Whose namespaces it joins is started first.
    env.kelp(&["start", "two"]).succeeds();
    env.kelp(&["stop", "-t0", "two", "one"]).succeeds();
    for _ in 0..2 {
        env.kelp(&["start", "one", "two"]).succeeds();
        let name = env.kelp(&["exec", "one", "hostname"]).succeeds();
        let seen = env.kelp(&["exec", "two", "hostname"]).succeeds();
        assert_eq!(name, seen);
        env.kelp(&["stop", "-t0", "two", "one"]).succeeds();
    }
    env.kelp(&["start", "one"]).succeeds();
    let other = ["--userns=auto", "--pid=container:one"];
    let refused = env.kelp(
        &[
            &["run", "--rm", "--network=none"][..],
            &other,
            &[&image, "true"],
        ]
        .concat(),
    );
    let id = env.kelp(&["inspect", "-f", "{{.Id}}", "one"]).succeeds();
    let id = &id[..12];
    assert_eq!(
        refused.fails(125),
        format!(
            "Error: container {id} has other user ids: join its user namespace too, with \
             --userns=container:{id}"
        )
    );
    env.kelp(&["rm", "-f", "-t0", "one", "two"]).succeeds();
}
