//! What volumes get from images, and who else has them meanwhile.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, mkdirat, openat};
use rustix::process::{Pid, Signal, getgid, getuid, kill_process};
use serde_json::json;

use crate::archive::Layer;
use crate::env::Env;
use crate::image::{Image, busybox_root};
use crate::kelp::{Done, wait};

const FILES: usize = 3000;
const COUNT: &str = "ls /data | wc -l";

/// busybox with a directory of many files.
fn full(env: &Env) -> String {
    env.image("volumes-full", &|| {
        let mut layer = Layer::default().owned_directory("data", 0o751, (7, 8));
        for number in 0..FILES {
            layer = layer.file(&format!("data/{number}"), 0o644, b"of the image\n");
        }
        Image::busybox().layer(layer)
    })
}

fn volume_names(env: &Env) -> String {
    env.kelp(&["volume", "ls", "-q"]).succeeds()
}

/// Kills the monitors of this world; the containers go with them.
fn kill_monitors(env: &Env) {
    let own = env.path("d");
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| {
            let text = fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&text).into_owned()
        };
        let is_monitor = read("cmdline").contains("internal\0monitor")
            && read("environ").contains(own.to_str().unwrap());
        let pid = entry.file_name().to_string_lossy().parse::<i32>();
        if let Some(pid) = pid.ok().filter(|_| is_monitor).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[test]
fn all_who_start_with_a_new_volume_find_all_of_it() {
    let Some(env) = Env::new() else { return };
    let image = full(&env);
    let all = format!("{FILES}\n");
    for round in 0..4 {
        let volume = format!("new{round}:/data");
        let words = ["run", "--rm", "-v", &volume, &image, "sh", "-c", COUNT];
        let started: Vec<_> = (0..3).map(|_| env.kelp(&words).start()).collect();
        for mut child in started {
            assert_eq!(wait(&mut child, "kelp run"), 0);
            let said = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
            assert_eq!(said, all, "{round}");
        }
        env.kelp(&["volume", "rm", &format!("new{round}")])
            .succeeds();
    }
}

#[test]
fn half_a_copy_is_none() {
    let Some(env) = Env::new() else { return };
    let image = full(&env);
    let data = env.path("d/kelp/volumes/new/_data");
    let mark = env.path("d/kelp/volumes/new/filling");
    let run = [
        "run",
        "--name=one",
        "-v",
        "new:/data",
        &image,
        "sh",
        "-c",
        COUNT,
    ];
    let mut cut = false;
    for _ in 0..20 {
        let mut child = env.kelp(&run).start();
        let begun = || fs::read_dir(&data).is_ok_and(|mut entries| entries.next().is_some());
        while !begun() && child.try_wait().unwrap().is_none() {}
        kill_monitors(&env);
        let _ = child.wait().unwrap();
        env.kelp(&["rm", "-f", "one"]).done();
        cut = fs::metadata(&mark).is_ok_and(|mark| mark.len() > 0);
        if cut {
            break;
        }
        env.kelp(&["volume", "rm", "new"]).succeeds();
    }
    assert!(cut, "no copy could be cut");
    assert!(fs::read_dir(&data).unwrap().count() < FILES);
    let again = ["run", "--rm", "-v", "new:/data", &image, "sh", "-c", COUNT];
    assert_eq!(env.kelp(&again).succeeds(), format!("{FILES}\n"));
    // Also for those who don't want the image's files.
    fs::write(&mark, "1").unwrap();
    let nocopy = ["run", "--rm", "-v", "new:/data:nocopy", &image];
    let said = env.kelp(&[&nocopy[..], &["sh", "-c", COUNT]].concat());
    assert_eq!(said.succeeds(), "0\n");
    fs::write(&mark, "1").unwrap();
    let overlay = ["run", "--rm", "-v", "new:/data:O", &image];
    let said = env.kelp(&[&overlay[..], &["sh", "-c", COUNT]].concat());
    assert_eq!(said.succeeds(), format!("{FILES}\n"));
    assert_eq!(fs::metadata(&mark).unwrap().len(), 0);
}

#[test]
fn only_a_new_volume_gets_what_the_image_has() {
    for env in Env::each() {
        let image = env.image("volumes-few", &|| {
            let layer = Layer::default().owned_directory("data", 0o751, (7, 8));
            Image::busybox().layer(layer.file("data/file", 0o640, b"of the image\n"))
        });
        for (number, userns) in ["host", "keep-id"].iter().enumerate() {
            let volume = format!("v{number}:/data");
            let run = |script: &str| {
                let flags = ["run", "--rm", "-u0", "--userns", userns, "-v", &volume];
                env.kelp(&[&flags[..], &[&image, "sh", "-c", script]].concat())
                    .succeeds()
            };
            assert_eq!(
                run("cd /data; stat -c '%u:%g %a' .; rm *; touch x"),
                "7:8 751\n"
            );
            assert_eq!(run("ls /data"), "x\n", "{userns}");
            // Empty is as good as new, as elsewhere.
            assert_eq!(run("rm /data/x"), "");
            assert_eq!(run("ls /data"), "file\n", "{userns}");
        }
        // A volume in a volume gets what the image has in its place.
        let image = env.image("volumes-nested", &|| {
            Image::busybox().layer(Layer::default().file("data/sub/file", 0o644, b"x"))
        });
        let words = ["run", "--rm", "-v", "a:/data", "-v", "b:/data/sub", &image];
        let said = env.kelp(&[&words[..], &["ls", "/data/sub"]].concat());
        assert_eq!(said.succeeds(), "file\n");
    }
}

/// Whoever filled it has ids that another container has not: to that one it is nobody's, and stays what it is.
#[test]
fn a_volume_of_others_ids_is_mounted_as_it_is() {
    // The user's own, whom a container with --userns=auto has not.
    let own = format!("{}:{}", getuid().as_raw(), getgid().as_raw());
    for env in Env::each() {
        // Everybody may read the volume, only enter it, neither, or write it as well.
        for (number, mode) in [0o755, 0o751, 0o700, 0o777].into_iter().enumerate() {
            let image = env.image(&format!("volumes-of-{number}"), &|| {
                let layer = Layer::default().owned_directory("data", mode, (7, 8));
                Image::busybox().layer(layer.file("data/file", 0o644, b"of the image\n"))
            });
            for (script, left) in [("", "file\n"), ("rm /data/file", "")] {
                let volume = format!("v{number}{}:/data", left.len());
                let run = |userns: &str, script: &str| {
                    let flags = ["run", "--rm", "-u0", "--userns", userns, "-v", &volume];
                    env.kelp(&[&flags[..], &[&image, "sh", "-c", script]].concat())
                        .succeeds()
                };
                run("keep-id", &format!("chown -R {own} /data; {script}"));
                let script = "stat -c '%u:%g %a' /data; touch /data/x 2>/dev/null || echo refused; \
                              rm -f /data/x 2>/dev/null; ls /data 2>/dev/null";
                let seen = if mode & 0o4 == 0 { "" } else { left };
                let refused = if mode & 0o2 == 0 { "refused\n" } else { "" };
                let expected = format!("65534:65534 {mode:o}\n{refused}{seen}");
                let seen = run("auto", &format!("{script}; true"));
                assert_eq!(seen, expected, "{script:?}");
                // Nothing of it was changed.
                let data = env.path(&format!("d/kelp/volumes/v{number}{}/_data", left.len()));
                assert_eq!(fs::metadata(&data).unwrap().uid(), getuid().as_raw());
                assert_eq!(fs::read_dir(&data).unwrap().count(), left.lines().count());
            }
        }
    }
}

/// Also where the container's root is not the user who has made the volume.
#[test]
fn a_new_volume_is_the_containers_that_has_it_first() {
    for env in Env::each() {
        let image = env.image("volumes-new", &|| {
            let layer = Layer::default().owned_directory("data", 0o751, (7, 8));
            Image::busybox().layer(layer.file("data/file", 0o640, b"of the image\n"))
        });
        for userns in ["auto", "nomap", "host"] {
            env.kelp(&["volume", "create", "made"]).succeeds();
            let script = "stat -c '%u:%g %a' /data /data/file /empty /empty2; touch /empty/x";
            let flags = ["run", "--rm", "-u0", "--userns", userns, "-v", "made:/data"];
            let volumes = ["-v", "new:/empty", "-v", "/empty2"];
            let program = [image.as_str(), "sh", "-c", script];
            let said = env.kelp(&[&flags[..], &volumes, &program].concat());
            let expected = "7:8 751\n0:0 640\n0:0 755\n0:0 755\n";
            assert_eq!(said.succeeds(), expected, "{userns}");
            env.kelp(&["volume", "rm", "made", "new"]).succeeds();
        }
    }
}

/// An image's volume is a link to what the kernel tells of the container's maker (CVE-2019-16884 and
/// CVE-2019-19921 for other places of mounts in /proc).
#[test]
fn an_image_puts_no_volume_over_proc() {
    let Some(env) = Env::new() else { return };
    for (number, target) in [
        "/proc/self",
        "/proc/1",
        "/proc/sys/kernel",
        "/sys/kernel",
        "../proc/./1",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("volumes-to-{number}");
        let image = env.image(&name, &|| {
            Image::busybox()
                .layer(Layer::default().symlink("data", target))
                .set("Volumes", json!({ "/data": {} }))
        });
        let refused = "Error: mount /data: a link in the image leads into /proc or /sys: refusing to \
                       mount there";
        for flags in [
            &[][..],
            &["-v", "named:/data"],
            &["-v", "named:/data:O"],
            &["--tmpfs=/data"],
            &["-v", "/etc:/data"],
        ] {
            let words = [&["run", "--rm"], flags, &[&image, "ls", "-l", "/proc/1"]].concat();
            assert_eq!(env.kelp(&words).fails(125), refused, "{target} {flags:?}");
        }
        let words = [
            "run",
            "--rm",
            "--image-volume=ignore",
            &image,
            "readlink",
            "/data",
        ];
        assert_eq!(env.kelp(&words).succeeds(), format!("{target}\n"));
    }
    let targets = ["/proc", "/proc/1", "/sys/kernel/", "//proc/self/attr"];
    for (number, target) in targets.into_iter().enumerate() {
        let name = format!("volumes-at-{number}");
        let image = env.image(&name, &|| {
            Image::busybox().set("Volumes", json!({ target: {} }))
        });
        let said = env.kelp(&["run", "--rm", &image, "true"]).fails(125);
        assert!(
            said.ends_with("leave it out with --image-volume=ignore"),
            "{said}"
        );
        let words = ["run", "--rm", "--image-volume=ignore", &image, "true"];
        env.kelp(&words).succeeds();
    }
    assert_eq!(volume_names(&env), "named\n");
    // Who runs the container may.
    let file = env.path("h/version");
    fs::write(&file, "mine\n").unwrap();
    let mount = format!("{}:/proc/version", file.display());
    assert_eq!(env.shell(&["-v", &mount], "cat /proc/version"), "mine\n");
    assert_eq!(env.shell(&["--tmpfs=/sys/kernel"], "ls /sys/kernel"), "");
}

#[test]
fn a_kept_layer_stays_what_the_container_made_of_it() {
    let Some(env) = Env::new() else { return };
    let [source, upper, work] = ["h/source", "h/upper", "h/work"].map(|name| env.path(name));
    for directory in [&source, &upper, &work] {
        fs::create_dir(directory).unwrap();
    }
    let volume = format!(
        "{}:/data:O,upperdir={},workdir={}",
        source.display(),
        upper.display(),
        work.display()
    );
    let script = "chown 5:5 /data; chmod 0700 /data";
    assert_eq!(env.shell(&["-v", &volume], script), "");
    let script = "stat -c '%u:%g %a' /data";
    for _ in 0..2 {
        assert_eq!(env.shell(&["-v", &volume], script), "5:5 700\n");
    }
}

#[test]
fn a_deep_tree_is_copied_and_given_away_with_few_descriptors() {
    let Some(env) = Env::new() else { return };
    let root = env.path("h/root");
    busybox_root(&root, &["proc", "sys", "dev", "etc", "data"], &["sh"]);
    let open = |at: &OwnedFd, name: &str| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        openat(at, name, flags, Mode::empty()).unwrap()
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut here = openat(CWD, root.join("data"), flags, Mode::empty()).unwrap();
    for _ in 0..400 {
        mkdirat(&here, "d", Mode::from_raw_mode(0o755)).unwrap();
        here = open(&here, "d");
    }
    let script = "cd /data; depth=0; while cd d 2>/dev/null; do depth=$((depth + 1)); done; \
                  busybox stat -c %u .; echo $depth";
    let words = [
        "run",
        "--rm",
        "-u",
        "9:9",
        "-v",
        "new:/data:U",
        "--rootfs",
        root.to_str().unwrap(),
        "/bin/sh",
        "-c",
        script,
    ];
    let done = limited(&env, "ulimit -Sn 256", &words);
    assert_eq!(
        (done.stderr.as_str(), done.stdout.as_str()),
        ("", "9\n400\n")
    );
    env.kelp(&["volume", "rm", "new"]).succeeds();
}

/// Runs kelp by a shell that does something first.
fn limited(env: &Env, first: &str, words: &[&str]) -> Done {
    env.kelp_after(first, words).done()
}

#[test]
fn a_container_that_is_not_made_leaves_no_volume() {
    let Some(env) = Env::new() else { return };
    let image = env.image("volumes-two", &|| {
        Image::busybox().set("Volumes", json!({ "/a": {}, "/b": {} }))
    });
    env.kelp(&["create", "--name=one", &image, "true"])
        .succeeds();
    let before = volume_names(&env);
    assert_eq!(before.lines().count(), 2);
    for words in [
        &["create", "--name=one", &image, "true"][..],
        &["create", "-v", "/none:/c", &image, "true"],
        &["create", "-v", "/c", "--volumes-from=none", &image, "true"],
        &["create", "--net=container:none", &image, "true"],
        &[
            "create",
            "--mount=type=image,src=none,dst=/c",
            &image,
            "true",
        ],
    ] {
        env.kelp(words).fails(125);
        assert_eq!(volume_names(&env), before, "{words:?}");
    }
    env.kelp(&["rm", "-v", "one"]).succeeds();
    assert_eq!(volume_names(&env), "");
    assert_eq!(fs::read_dir(env.path("d/kelp/trash")).unwrap().count(), 0);
}

#[test]
fn what_nobody_makes_any_more_is_collected() {
    let Some(env) = Env::new() else { return };
    assert_eq!(volume_names(&env), "");
    let volumes = env.path("d/kelp/volumes");
    // The first process lives, and has made neither.
    let [left, made] = [".left.1", ".made"].map(|name| volumes.join(name));
    for volume in [&left, &made] {
        fs::create_dir_all(volume.join("_data")).unwrap();
    }
    let lock = fs::File::open(&made).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    env.kelp(&["system", "prune", "-f"]).done().exits(0);
    assert!(!left.exists());
    assert!(made.exists());
    drop(lock);
    env.kelp(&["system", "prune", "-f"]).done().exits(0);
    assert!(!made.exists());
}

#[test]
fn a_copy_of_what_a_directory_has_leaves_the_target_as_it_is() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["create", "--name=one", &image]).succeeds();
    let target = env.path("h/target");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
    for path in ["one:/home/user/..", "one:/home/."] {
        env.kelp(&["cp", path, target.to_str().unwrap()]).succeeds();
        assert_eq!(
            fs::metadata(&target).unwrap().mode() & 0o7777,
            0o700,
            "{path}"
        );
        assert!(target.join("user").is_dir());
        fs::remove_dir(target.join("user")).unwrap();
    }
    env.kelp(&["rm", "one"]).succeeds();
}

#[test]
fn the_users_umask_is_not_the_containers() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let source = env.path("h/source");
    fs::create_dir(&source).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).unwrap();
    let overlay = format!("{}:/o:O", source.display());
    let flags = [
        "run", "--rm", "--user", "1000", "-v", "new:/v/w", "-v", &overlay, "-w", "/x/y",
    ];
    let script = "umask; stat -c %a / /v /v/w /o /x /x/y";
    let words = [&flags[..], &[&image, "sh", "-c", script]].concat();
    let said = "0022\n755\n755\n755\n755\n755\n755\n";
    assert_eq!(limited(&env, "umask 077", &words).exits(0), said);
    let words = [&flags[..], &["--umask=0077", &image, "sh", "-c", script]].concat();
    let said = said.replace("0022", "0077");
    assert_eq!(limited(&env, "umask 077", &words).exits(0), said);
    let create = [
        "run",
        "-d",
        "--name=one",
        "--user=1000",
        &image,
        "sleep",
        "1000",
    ];
    limited(&env, "umask 077", &create).exits(0);
    let exec = ["exec", "one", "sh", "-c", "umask; ls -d /bin"];
    assert_eq!(limited(&env, "umask 077", &exec).exits(0), "0022\n/bin\n");
    env.kelp(&["rm", "-f", "-t", "0", "one"]).succeeds();
    // A command of the user's own keeps it.
    let words = ["unshare", "sh", "-c", "umask"];
    assert_eq!(limited(&env, "umask 077", &words).exits(0), "0077\n");
}
