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
    env.kelp(&["rm", "-f", "mapped"]).succeeds();
    env.kelp(&["rmi", &image]).succeeds();
    let layers = fs::read_dir(env.path("d/kelp/layers")).unwrap();
    for map in layers.flatten() {
        let left = fs::read_dir(map.path()).unwrap().count();
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
