//! Mounts, masks and the files of /proc, /dev and /sys.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::run;
use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;

/// A directory in which `dir` and a link out of the root change places all the time.
pub(super) fn with_swapper(env: &Env, during: impl FnOnce(&str)) -> u32 {
    let shared = env.path("h/shared");
    fs::create_dir_all(shared.join("dir")).unwrap();
    symlink("../../../../../../../../etc", shared.join("link")).unwrap();
    let (stop, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (shared.join("dir"), shared.join("link"));
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        during(&format!("{}:/shared", shared.display()));
        stop.store(true, Ordering::Relaxed);
    });
    rounds.into_inner()
}

/// A mount's target is a link by the time it is mounted (CVE-2021-30465).
#[test]
fn cve_2021_30465_a_mount_stays_in_the_root_while_its_target_is_swapped() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let source = env.path("h/source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("mine"), "").unwrap();
    let mount = format!("{}:/shared/dir/in", source.display());
    let rounds = with_swapper(&env, |shared| {
        for _ in 0..40 {
            let flags = ["--network", "none", "-v", shared, "-v", &mount];
            // Either it fails, or what was mounted is somewhere inside.
            let script = "ls /shared/dir/in/mine /shared/link/in/mine /etc/in/mine 2>/dev/null \
                          | head -n 1";
            let (code, text) = run(&env, &flags, &image, script);
            // A swap after the mount may hide the path; the mount table does not.
            assert!(
                text.ends_with("mine\n") || code != 0 || text.is_empty(),
                "{code} {text}"
            );
            assert!(!std::path::Path::new("/etc/in").exists());
        }
    });
    assert!(rounds >= 10_000, "only {rounds} rounds");
    // What it is for: a mount inside a mount, and through a link that stays as it is.
    let inner = format!("{}:/shared/real/in", source.display());
    let shared = format!("{}:/shared", env.path("h/stable").display());
    fs::create_dir_all(env.path("h/stable/real")).unwrap();
    let script = "ls /shared/real/in";
    assert_eq!(env.shell(&["-v", &shared, "-v", &inner], script), "mine\n");
}

/// The image, or a mount over /dev, has something else in the place of what masks (CVE-2025-31133).
#[test]
fn cve_2025_31133_what_masks_is_the_null_device() {
    let Some(env) = Env::new() else { return };
    let images = [
        (
            "null-link",
            Layer::default().symlink("dev/null", "/proc/1/environ"),
        ),
        (
            "null-file",
            Layer::default().file("dev/null", 0o666, b"not masked"),
        ),
        ("null-none", Layer::default().whiteout("dev/null")),
    ];
    let script = "stat -c '%F %t:%T' /dev/null; cat /proc/kcore /proc/timer_list 2>/dev/null; \
                  ls /proc/scsi /sys/firmware 2>/dev/null | grep -v :$";
    for (name, layer) in images {
        let image = env.image(name, &|| Image::busybox().layer(layer.clone()));
        let (_, text) = run(&env, &["--network", "none"], &image, script);
        assert_eq!(text.trim_end(), "character special file 1:3", "{name}");
    }
    let dev = env.path("h/dev");
    fs::create_dir(&dev).unwrap();
    fs::write(dev.join("null"), "not masked").unwrap();
    let over = format!("{}:/dev", dev.display());
    let image = env.busybox();
    let script = "cd /proc; cat kcore keys timer_list latency_stats sched_debug 2>&1 | \
                  grep 'not masked'";
    let (_, text) = run(&env, &["-v", &over], &image, script);
    assert_eq!(text, "", "the mask is the host's null device, or an error");
}

/// /dev/console is a link in the image (CVE-2025-52565).
#[test]
fn cve_2025_52565_the_console_is_mounted_on_itself() {
    let Some(env) = Env::new() else { return };
    for (name, target) in [
        ("host", "../../../../etc/hostname"),
        ("proc", "/proc/sys/kernel/hostname"),
    ] {
        let image = env.image(&format!("console-{name}"), &|| {
            Image::busybox().layer(Layer::default().symlink("dev/console", target))
        });
        let script = "stat -c %F /dev/console; test -c /etc/hostname && echo bad; tty";
        let (code, text) = run(&env, &["-t"], &image, script);
        assert_eq!(
            (code, text.as_str()),
            (0, "character special file\r\n/dev/pts/0\r\n"),
            "{name}"
        );
    }
}

/// A sysctl is written to a file of the user's that lies over /proc (CVE-2025-52881).
#[test]
fn cve_2025_52881_what_is_written_to_proc_goes_to_proc() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (number, target) in ["/proc", "/proc/sys", "/proc/sys/kernel"]
        .into_iter()
        .enumerate()
    {
        let fake = env.path(&format!("h/fake-{number}"));
        for directory in ["", "sys/kernel", "kernel", "self/attr"] {
            fs::create_dir_all(fake.join(directory)).unwrap();
        }
        for file in ["sys/kernel/msgmax", "kernel/msgmax", "msgmax"] {
            fs::write(fake.join(file), "untouched").unwrap();
        }
        let mount = format!("{}:{target}", fake.display());
        let flags = ["--sysctl", "kernel.msgmax=4096", "-v", &mount];
        let (code, text) = run(&env, &flags, &image, "true");
        assert_eq!((code, text.as_str()), (125, ""), "{target}");
        for file in ["sys/kernel/msgmax", "kernel/msgmax", "msgmax"] {
            let text = fs::read_to_string(fake.join(file)).unwrap();
            assert_eq!(text, "untouched", "{target} {file}");
        }
    }
    let flags = ["--sysctl", "kernel.msgmax=4096"];
    let script = "cat /proc/sys/kernel/msgmax";
    assert_eq!(env.shell(&flags, script), "4096\n");
}

/// With the host's view of cgroups they can't be changed (CVE-2023-25809).
#[test]
fn cve_2023_25809_the_hosts_cgroups_are_read_only() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "for dir in $(find /sys/fs/cgroup -type d 2>/dev/null); do \
                      mkdir $dir/mine 2>/dev/null && echo made $dir && rmdir $dir/mine; \
                      echo 0 2>/dev/null >$dir/cgroup.procs && echo moved $dir; \
                  done; ls /sys/fs/cgroup | head -n 1";
    let (_, text) = run(
        &env,
        &["--cgroupns", "host", "--network", "none"],
        &image,
        script,
    );
    assert!(!text.contains("made") && !text.contains("moved"), "{text}");
    let own = "grep ^0: /proc/self/cgroup";
    assert_eq!(env.shell(&["--cgroupns", "private"], own), "0::/\n");
}
