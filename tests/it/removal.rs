//! Removing containers: their volumes, their time to stop, and who works on them meanwhile.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::archive::{Layer, noise};
use crate::env::{Env, names};

fn volumes(env: &Env, filter: &[&str]) -> usize {
    let list = [&["volume", "ls", "-q"], filter].concat();
    env.kelp(&list).succeeds().lines().count()
}

#[test]
fn anonymous_volumes_go_with_their_container_if_asked() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let create = |name| {
        let flags = ["create", "--name", name, "-v", "/a", "-v", "named:/b"];
        env.kelp(&[&flags[..], &[&image, "true"]].concat())
            .succeeds();
    };
    create("one");
    assert_eq!(volumes(&env, &["--filter", "anonymous=true"]), 1);
    assert_eq!(volumes(&env, &[]), 2);
    env.kelp(&["rm", "one"]).succeeds();
    assert_eq!(volumes(&env, &[]), 2, "it may be wanted");
    create("two");
    env.kelp(&["rm", "-v", "two"]).succeeds();
    assert_eq!(volumes(&env, &[]), 2);
    env.shell(
        &["-v", "/a", "-v", "named:/b"],
        "echo x >/a/x; echo y >/b/y",
    );
    assert_eq!(volumes(&env, &["--filter", "anonymous=true"]), 1);
    assert_eq!(env.shell(&["-v", "named:/b"], "cat /b/y"), "y\n");
    env.kelp(&["volume", "prune", "-f"]).done().exits(0);
    assert_eq!(volumes(&env, &[]), 0);
}

#[test]
fn a_volume_that_another_container_uses_stays() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let flags = ["create", "--name", "maker", "-v", "/a", &image, "true"];
    env.kelp(&flags).succeeds();
    let name = env.kelp(&["volume", "ls", "-q"]).succeeds();
    let mount = format!("{}:/b", name.trim());
    env.kelp(&["create", "--name", "user", "-v", &mount, &image, "true"])
        .succeeds();
    env.kelp(&["rm", "-v", "maker"]).succeeds();
    assert_eq!(env.kelp(&["volume", "ls", "-q"]).succeeds(), name);
    env.kelp(&["rm", "user"]).succeeds();
    env.kelp(&["volume", "rm", name.trim()]).succeeds();
}

#[test]
fn a_forced_removal_asks_the_program_first() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script =
        "trap 'echo asked >/out/said; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let out = env.path("h/out");
    fs::create_dir(&out).unwrap();
    let mount = format!("{}:/out", out.display());
    for (flags, asked) in [(&["rm", "-f"][..], true), (&["rm", "-f", "-t", "0"], false)] {
        let _ = fs::remove_file(out.join("said"));
        let run = [
            "run", "--name", "asked", "-v", &mount, &image, "sh", "-c", script,
        ];
        let mut child = env
            .kelp(&run)
            .into_command()
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        env.kelp(&[flags, &["asked"]].concat()).succeeds();
        // One that is killed at once may have been quicker.
        assert!(!asked || out.join("said").exists());
        let code = child.wait().unwrap().code();
        assert!(code == Some(137) || code == Some(0), "{code:?}");
        assert!(!asked || code == Some(0));
    }
}

#[test]
fn a_start_waits_for_a_copy() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let create = ["create", "--name", "both", &image, "cat", "/copied"];
    env.kelp(&create).succeeds();
    // An archive that comes slowly: the copy has the container's root until it is whole.
    let mut copy = env
        .kelp(&["cp", "-", "both:/"])
        .into_command()
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let layer = Layer::default().file("copied", 0o644, b"by a slow copy\n");
    let archive = layer.finish();
    let mut stdin = copy.stdin.take().unwrap();
    stdin.write_all(&archive[..512]).unwrap();
    // Nothing tells when it has begun; a start that came first would be right as well, but for
    // what it prints.
    let lock = env.path("r/kelp/c");
    while fs::read_dir(&lock).map_or(0, Iterator::count) == 0 {
        std::thread::yield_now();
    }
    let mut start = env
        .kelp(&["start", "-a", "both"])
        .into_command()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(
        env.kelp(&["ps", "-a", "--format", "{{.Names}}"]).succeeds(),
        "both\n"
    );
    assert!(start.try_wait().unwrap().is_none());
    stdin.write_all(&archive[512..]).unwrap();
    drop(stdin);
    assert!(copy.wait().unwrap().success());
    let mut said = String::new();
    std::io::Read::read_to_string(start.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert!(start.wait().unwrap().success());
    assert_eq!(said, "by a slow copy\n");
    env.kelp(&["rm", "both"]).succeeds();
}

/// What is being made is not garbage, at no moment of its making.
#[test]
fn a_prune_takes_nothing_that_is_being_made() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let other = env.push("beside-a-prune", &|| {
        let layer = Layer::default().file("marker", 0o644, b"whole\n");
        crate::image::Image::busybox().layer(layer)
    });
    // Each works in threads of its own; the environment itself stays in this one.
    let commands = |arguments: &[&[&str]], times: usize| {
        let mut list = Vec::new();
        for _ in 0..times {
            list.extend(arguments.iter().map(|arguments| env.kelp(arguments)));
        }
        list
    };
    let none = ["--network", "none"];
    let run = [
        &["run", "--rm", "-v", "/data", "-v", "named:/named"],
        &none[..],
        &[&image, "cat", "/etc/group"],
    ]
    .concat();
    let create = [&["create", "--name", "made"], &none[..], &[&image, "true"]].concat();
    let runs = [commands(&[&run], 25), commands(&[&run], 25)];
    let creates = commands(&[&create, &["start", "-a", "made"], &["rm", "made"]], 12);
    let pulls = commands(&[&["pull", "-q", &other], &["rmi", &other]], 6);
    let prune = |kind| [kind, "prune", "-f"];
    let prunes = [prune("image"), prune("container"), prune("volume")];
    let mut prunes: Vec<_> = prunes.iter().map(|prune| &prune[..]).collect();
    // Who only counts does so as well.
    prunes.push(&["system", "df"]);
    let prunes = commands(&prunes, 100);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for list in runs.into_iter().chain([pulls]) {
            workers.push(scope.spawn(move || {
                for kelp in list {
                    let done = kelp.done();
                    assert_eq!(done.code, 0, "{done:#?}");
                }
            }));
        }
        // A container that does not run is pruned, and then it is not there.
        workers.push(scope.spawn(move || {
            for kelp in creates {
                let done = kelp.done();
                let pruned = done.stderr.contains("no such container")
                    || done.stderr.contains("already in use");
                assert!(done.code == 0 || pruned, "{done:#?}");
            }
        }));
        let pruner = scope.spawn(|| {
            for kelp in prunes {
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let done = kelp.done();
                assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:#?}");
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        pruner.join().unwrap();
    });
    env.kelp(&["rm", "-f", "-i", "made"]).done().exits(0);
}

#[test]
fn a_volume_that_another_has_by_its_name_stays() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let none = "--network=none";
    let run = [
        "run",
        "-d",
        "--rm",
        "--name=first",
        none,
        "-v",
        "/data",
        &image,
    ];
    env.kelp(&[&run[..], &["sleep", "1000"]].concat())
        .succeeds();
    let name = env.kelp(&["volume", "ls", "-q"]).succeeds();
    let volume = format!("{}:/shared", name.trim());
    let run = ["run", "-d", "--name=second", none, "-v", &volume, &image];
    env.kelp(&[&run[..], &["sleep", "1000"]].concat())
        .succeeds();
    env.kelp(&["exec", "second", "touch", "/shared/file"])
        .succeeds();
    env.kelp(&["stop", "-t0", "first"]).succeeds();
    assert_eq!(
        env.kelp(&["exec", "second", "ls", "/shared"]).succeeds(),
        "file\n"
    );
    assert_eq!(env.kelp(&["volume", "ls", "-q"]).succeeds(), name);
    env.kelp(&["rm", "-f", "-t0", "second"]).succeeds();
}

#[test]
fn what_was_killed_can_be_removed_at_once() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for _ in 0..5 {
        env.kelp(&["run", "-d", "--name=box", &image, "sleep", "1000"])
            .succeeds();
        env.kelp(&["kill", "box"]).succeeds();
        env.kelp(&["rm", "box"]).succeeds();
        env.kelp(&["run", "-d", "--name=box", &image, "true"])
            .succeeds();
        env.kelp(&["stop", "box"]).succeeds();
        env.kelp(&["rm", "box"]).succeeds();
    }
}

#[test]
fn a_system_prune_takes_what_nobody_uses() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let id = |name: &str| {
        let flags = [
            "run",
            "-d",
            "--network",
            "none",
            "-v",
            "kept:/v",
            "--name",
            name,
        ];
        let sleep = [image.as_str(), "sleep", "100000"];
        let id = env.kelp(&[&flags[..], &sleep].concat()).succeeds();
        id.trim().to_owned()
    };
    let _runs = id("runs");
    let create = ["create", "-v", "/anonymous", &image, "true"];
    let rests = env.kelp(&create).succeeds();
    let df = ["system", "df", "--format={{.Type}} {{.RawReclaimable}}"];
    let said = env.kelp(&df).succeeds();
    let free = said
        .lines()
        .find_map(|line| line.strip_prefix("Containers "));
    let free: f64 = free.unwrap().parse().unwrap();
    let text = env.kelp(&["system", "prune", "-f"]).succeeds();
    // What its record took of the disk.
    let (deleted, space) = text.split_once("Total reclaimed space: ").unwrap();
    assert_eq!(deleted, format!("Deleted Containers\n{rests}"));
    let kilobytes: f64 = space.strip_suffix("kB\n").unwrap().parse().unwrap();
    // To four digits.
    assert!(
        (kilobytes * 1000.0 - free).abs() < free / 1000.0,
        "{space}: {free}"
    );
    // Nobody answers.
    let asked = env.kelp(&["system", "prune", "--all"]).done().exits(0);
    assert!(
        asked.starts_with("WARNING! This command removes:\n"),
        "{asked}"
    );
    assert_eq!(
        env.kelp(&["volume", "ls", "-q"]).succeeds().lines().count(),
        2
    );
    let text = env
        .kelp(&["system", "prune", "-a", "-f", "--volumes"])
        .succeeds();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines[0], lines.len()), ("Deleted Volumes", 3), "{text}");
    assert_eq!(env.kelp(&["volume", "ls", "-q"]).succeeds(), "kept\n");
    env.kelp(&["rm", "-f", "-t", "0", "runs"]).succeeds();
    let text = env
        .kelp(&["system", "prune", "-a", "-f", "--volumes"])
        .succeeds();
    assert!(text.starts_with("Deleted Images\n"), "{text}");
    assert_eq!(env.kelp(&["images", "-q"]).succeeds(), "");
    assert_eq!(
        fs::read_dir(env.path("d/kelp/blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
    env.kelp(&["system", "prune", "--external"]).succeeds();
}

#[test]
fn a_large_image_is_gone_at_once_and_its_files_before_a_prune_ends() {
    let Some(env) = Env::new() else { return };
    // What does not shrink: its blob is as large.
    let file = noise(1, 140 << 20);
    let archive = env.path("h/large.tar");
    fs::write(&archive, Layer::default().file("f", 0o644, &file).finish()).unwrap();
    env.kelp(&["import", archive.to_str().unwrap(), "large"])
        .succeeds();
    env.kelp(&["rmi", "large"]).succeeds();
    assert_eq!(env.kelp(&["images", "-q"]).succeeds(), "");
    env.kelp(&["image", "prune", "-f"]).succeeds();
    let data = env.path("d/kelp");
    for directory in ["tmp", "blobs/sha256", "images", "tags"] {
        assert_eq!(names(&data.join(directory)), [""; 0], "{directory}");
    }
    for map in names(&data.join("layers")) {
        let mut left = names(&data.join("layers").join(map));
        left.retain(|name| name != "map");
        assert_eq!(left, [""; 0]);
    }
}
