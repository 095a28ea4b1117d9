//! Attacks that need a moment between a look and a use: two names change places all the time, by whoever
//! shares a directory with the container.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::run;
use crate::env::Env;

/// At least so many changes of place, or the attack was none.
pub(super) const ROUNDS: u32 = 10_000;

/// Two names change places as long as this takes, and often.
pub(super) fn swapping(one: &Path, other: &Path, during: impl FnOnce()) {
    let (stop, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) || rounds.load(Ordering::Relaxed) < ROUNDS {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Also where an assertion fails, or nobody would end the other.
        let _stop = Stop(&stop);
        let before = rounds.load(Ordering::Relaxed);
        during();
        let rounds = rounds.load(Ordering::Relaxed) - before;
        assert!(rounds >= ROUNDS, "only {rounds} rounds");
    });
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A directory that is shared with containers: `dir` with a file, and `link` that leads out of the root
/// to a directory of the host's with a file of the same name.
struct Shared {
    directory: std::path::PathBuf,
    outside: std::path::PathBuf,
}

impl Shared {
    fn new(env: &Env) -> Self {
        let (directory, outside) = (env.path("h/shared"), env.path("h/outside"));
        for path in [&directory.join("dir"), &outside] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(directory.join("dir/file"), "inside").unwrap();
        fs::write(outside.join("file"), "of the host").unwrap();
        // On the host it leads there by its end alone; inside, by no way.
        let up = format!("../../../../../../../../../..{}", outside.display());
        symlink(up, directory.join("link")).unwrap();
        Self { directory, outside }
    }

    fn volume(&self) -> String {
        format!("{}:/shared", self.directory.display())
    }

    fn swapping(&self, during: impl FnOnce()) {
        swapping(
            &self.directory.join("dir"),
            &self.directory.join("link"),
            during,
        );
    }

    /// Asserts that nothing was written outside.
    fn is_untouched(&self) {
        let text = fs::read_to_string(self.outside.join("file")).unwrap();
        assert_eq!(text, "of the host");
        assert_eq!(fs::read_dir(&self.outside).unwrap().count(), 1);
    }
}

/// Both directions, running and at rest (moby 2026-41568 and 42306).
#[test]
fn cve_2018_15664_a_copy_stays_in_the_root_while_its_path_is_swapped() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let shared = Shared::new(&env);
    let volume = shared.volume();
    let flags = [
        "--network",
        "none",
        "-v",
        &volume,
        &image,
        "sleep",
        "100000",
    ];
    env.kelp(&[&["run", "-d", "--name", "runs"], &flags[..]].concat())
        .succeeds();
    env.kelp(&[&["create", "--name", "rests"], &flags[..]].concat())
        .succeeds();
    let new = env.path("h/new");
    fs::write(&new, "copied in").unwrap();
    let out = env.path("h/out");
    let (mut had, mut put) = (0, 0);
    shared.swapping(|| {
        for round in 0..60 {
            let name = ["runs", "rests"][round % 2];
            let from = format!("{name}:/shared/dir/file");
            let done = env.kelp(&["cp", &from, out.to_str().unwrap()]).done();
            if done.code == 0 {
                let text = fs::read_to_string(&out).unwrap();
                assert!(text == "inside" || text == "copied in", "{from}: {text}");
                fs::remove_file(&out).unwrap();
                had += 1;
            }
            let done = env.kelp(&["cp", new.to_str().unwrap(), &from]).done();
            put += u32::from(done.code == 0);
            // A tree through the name that changes, which is a link at its end, or is not.
            let tree = format!("{name}:/shared/dir");
            let _ = env.kelp(&["cp", &tree, out.to_str().unwrap()]).done();
            let text = fs::read_to_string(out.join("file")).unwrap_or_default();
            assert!(out.is_symlink() || text != "of the host", "{tree}: {text}");
            let _ = fs::remove_file(&out);
            let _ = fs::remove_dir_all(&out);
            shared.is_untouched();
        }
    });
    assert!(had > 0 && put > 0, "{had} copies out and {put} in");
    env.kelp(&["rm", "-f", "-t", "0", "runs", "rests"])
        .succeeds();
}

/// A place in a volume, whose way is swapped while it is mounted (CVE-2024-1753, CVE-2024-9675).
#[test]
fn cve_2024_1753_a_subpath_stays_in_its_volume() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["volume", "create", "data"]).succeeds();
    let root = env.path("d/kelp/volumes/data/_data");
    let shared = Shared::new(&env);
    for name in ["dir", "link"] {
        fs::rename(shared.directory.join(name), root.join(name)).unwrap();
    }
    fs::create_dir(root.join("dir/below")).unwrap();
    fs::create_dir(shared.outside.join("below")).unwrap();
    fs::write(root.join("dir/below/mine"), "").unwrap();
    fs::write(shared.outside.join("below/of-the-host"), "").unwrap();
    let mount = "--mount=type=volume,source=data,destination=/m,subpath=dir/below";
    let mut had = 0;
    swapping(&root.join("dir"), &root.join("link"), || {
        for _ in 0..40 {
            let (code, text) = run(&env, &["--network", "none", mount], &image, "ls /m");
            assert!(
                text == "mine\n" || (code == 125 && text.is_empty()),
                "{code} {text}"
            );
            had += u32::from(code == 0);
        }
    });
    assert!(had > 0, "it was never mounted");
    if root.join("dir").is_symlink() {
        renameat_with(
            CWD,
            root.join("dir"),
            CWD,
            root.join("link"),
            RenameFlags::EXCHANGE,
        )
        .unwrap();
    }
    assert_eq!(env.shell(&["--network", "none", mount], "ls /m"), "mine\n");
    env.kelp(&["volume", "rm", "data"]).succeeds();
}

/// What lies in a /dev that is shared: a file, and a link, in the place of the null device that masks
/// (CVE-2025-31133), and of the console (CVE-2025-52565).
#[test]
fn cve_2025_31133_what_masks_is_the_null_device_while_it_is_swapped() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let dev = env.path("h/dev");
    fs::create_dir(&dev).unwrap();
    let victim = env.path("h/victim");
    fs::write(&victim, "untouched").unwrap();
    let volume = format!("{}:/dev", dev.display());
    let script = "cat /proc/keys /proc/timer_list /proc/kcore 2>/dev/null | head -c 100
                  test -c /etc/group && echo bad
                  grep ' /etc/group ' /proc/self/mountinfo; echo done";
    for name in ["null", "console"] {
        let (place, link) = (dev.join(name), dev.join("link"));
        fs::write(&place, "not masked").unwrap();
        symlink("/etc/group", &link).unwrap();
        let terminal = if name == "console" { "-t" } else { "-i" };
        let flags = ["--network", "none", terminal, "-v", &volume];
        swapping(&place, &link, || {
            for _ in 0..25 {
                let (code, text) = run(&env, &flags, &image, script);
                let text = text.replace('\r', "");
                assert!(
                    text == "done\n" || (code == 125 && text.is_empty()),
                    "{code} {text}"
                );
                assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
            }
        });
        for entry in fs::read_dir(&dev).unwrap() {
            let path = entry.unwrap().path();
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
    let script = "stat -c %F:%t:%T /dev/null; cat /proc/keys";
    assert_eq!(env.shell(&[], script), "character special file:1:3\n");
}
