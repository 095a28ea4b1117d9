//! Tests of paths beneath a root.

use super::*;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, mknodat, renameat_with};

/// A root with something outside that must never be reached.
struct Tree {
    _keep: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
}

fn tree() -> Tree {
    let keep = tempfile::tempdir().unwrap();
    let root = keep.path().join("root");
    let outside = keep.path().join("outside");
    for dir in ["root/etc", "root/run", "root/usr/bin", "outside/etc"] {
        fs::create_dir_all(keep.path().join(dir)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "inside").unwrap();
    fs::write(outside.join("etc/passwd"), "outside").unwrap();
    Tree {
        _keep: keep,
        root,
        outside,
    }
}

/// The root as the kernel resolves it, and as the walk does.
fn both(tree: &Tree) -> [Root; 2] {
    [true, false].map(|kernel| Root {
        kernel,
        ..Root::open_host(&tree.root).unwrap()
    })
}

fn read(root: &Root, path: &str) -> Result<String, io::ErrorKind> {
    root.read_file(Path::new(path), 1000)
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .map_err(|error| error.kind())
}

fn errno(result: io::Result<OwnedFd>) -> Errno {
    Errno::from_io_error(&result.unwrap_err()).unwrap()
}

#[test]
fn links_and_dots_stay_in_the_root() {
    let tree = tree();
    let outside = tree.outside.to_str().unwrap();
    for (link, target) in [
        ("var", "/"),
        ("abs", "/etc/passwd"),
        ("up", "../../../../../../etc/passwd"),
        ("chain", "var/up"),
        ("usr/etc", "../etc"),
        ("usr/bin/abs", "/etc/passwd"),
        ("self", "self"),
        ("dir", "etc/"),
        ("file-as-dir", "etc/passwd/"),
    ] {
        symlink(target, tree.root.join(link)).unwrap();
    }
    symlink(format!("{outside}/etc/passwd"), tree.root.join("out")).unwrap();
    symlink(format!("{outside}/etc"), tree.root.join("outdir")).unwrap();
    for root in both(&tree) {
        for path in [
            "etc/passwd",
            "/etc/passwd",
            "//etc/./passwd",
            "../../etc/passwd",
            "usr/bin/../../../etc/passwd",
            "abs",
            "usr/bin/abs",
            "up",
            "chain",
            "var/var/var/etc/passwd",
            "usr/etc/passwd",
            "dir/passwd",
        ] {
            assert_eq!(read(&root, path).as_deref(), Ok("inside"), "{path}");
        }
        for path in ["out", "outdir/passwd", "var/out", "nothing", "nothing/.."] {
            assert_eq!(read(&root, path), Err(io::ErrorKind::NotFound), "{path}");
        }
        for path in [
            "etc/passwd/",
            "etc/passwd/.",
            "etc/passwd/..",
            "file-as-dir",
        ] {
            assert_eq!(
                read(&root, path),
                Err(io::ErrorKind::NotADirectory),
                "{path}"
            );
        }
        assert_eq!(
            errno(root.open(Path::new("self"), OFlags::RDONLY)),
            Errno::LOOP
        );
        // The root itself, by every name it has.
        let inode = fs::metadata(&tree.root).unwrap().ino();
        for path in ["", "/", ".", "..", "usr/..", "var"] {
            for flags in [OFlags::PATH, OFlags::RDONLY | OFlags::DIRECTORY] {
                let fd = root.open(Path::new(path), flags).unwrap();
                assert_eq!(fstat(fd).unwrap().st_ino, inode, "{path}");
            }
        }
    }
}

#[test]
fn nofollow_stops_at_the_last_link_only() {
    let tree = tree();
    symlink("passwd", tree.root.join("etc/link")).unwrap();
    symlink("etc", tree.root.join("conf")).unwrap();
    let link = Path::new("conf/link");
    for root in both(&tree) {
        let flags = OFlags::NOFOLLOW | OFlags::RDONLY;
        assert_eq!(errno(root.open(link, flags)), Errno::LOOP);
        let fd = root.open(link, OFlags::PATH | OFlags::NOFOLLOW).unwrap();
        let kind = FileType::from_raw_mode(fstat(&fd).unwrap().st_mode);
        assert_eq!(kind, FileType::Symlink);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY;
        assert_eq!(errno(root.open(link, flags)), Errno::NOTDIR);
        assert!(
            root.open(Path::new("conf/passwd"), OFlags::NOFOLLOW)
                .is_ok()
        );
    }
}

#[test]
fn as_many_links_are_followed_as_the_kernel_follows() {
    let tree = tree();
    symlink("etc/passwd", tree.root.join("0")).unwrap();
    for i in 1..=40 {
        symlink((i - 1).to_string(), tree.root.join(i.to_string())).unwrap();
    }
    for root in both(&tree) {
        assert_eq!(read(&root, "39").as_deref(), Ok("inside"));
        let result = root.open(Path::new("40"), OFlags::RDONLY);
        assert_eq!(errno(result), Errno::LOOP);
    }
}

#[test]
fn descriptors_are_close_on_exec_and_creation_has_its_own_calls() {
    let tree = tree();
    for root in both(&tree) {
        let fd = root.open(Path::new("etc"), OFlags::PATH).unwrap();
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        for flags in [
            OFlags::CREATE | OFlags::WRONLY,
            OFlags::TMPFILE | OFlags::RDWR,
        ] {
            assert_eq!(errno(root.open(Path::new("etc/new"), flags)), Errno::INVAL);
        }
    }
}

#[test]
fn links_of_proc_that_are_not_text_are_refused() {
    let real = Path::new("/proc");
    for kernel in [true, false] {
        let root = Root {
            kernel,
            ..Root::open_host(real).unwrap()
        };
        // Text: fine.
        assert!(root.open(Path::new("self/status"), OFlags::RDONLY).is_ok());
        assert!(root.open(Path::new("mounts"), OFlags::RDONLY).is_ok());
        for path in ["self/root", "self/exe", "self/cwd/x", "self/ns/mnt"] {
            let result = root.open(Path::new(path), OFlags::PATH);
            assert_eq!(errno(result), Errno::LOOP, "{path}");
        }
    }
}

#[test]
fn directories_are_made_inside_the_root() {
    for kernel in [0, 1] {
        let tree = tree();
        let root = &both(&tree)[kernel];
        symlink("/run", tree.root.join("var")).unwrap();
        symlink("../../gone/deep", tree.root.join("usr/lost")).unwrap();
        symlink(&tree.outside, tree.root.join("out")).unwrap();
        for (path, real) in [
            ("a/b/c", "a/b/c"),
            ("/a/b", "a/b"),
            ("var/lock/sub", "run/lock/sub"),
            ("usr/lost/x", "gone/deep/x"),
            ("../../y", "y"),
            ("z/../w", "w"),
            ("", ""),
        ] {
            let fd = root.mkdir_all(Path::new(path), 0o755).unwrap();
            let inode = fs::metadata(tree.root.join(real)).unwrap().ino();
            assert_eq!(fstat(fd).unwrap().st_ino, inode, "{path}");
        }
        assert_eq!(
            errno(root.mkdir_all(Path::new("etc/passwd/x"), 0o755)),
            Errno::NOTDIR
        );
        assert_eq!(
            errno(root.mkdir_all(Path::new("etc/passwd"), 0o755)),
            Errno::NOTDIR
        );
        // An absolute link to the host makes the same path in the root, and nothing outside.
        root.mkdir_all(Path::new("out/made"), 0o755).unwrap();
        assert!(!tree.outside.join("made").exists());
        let inside = tree.outside.strip_prefix("/").unwrap().join("made");
        assert!(tree.root.join(inside).is_dir());
    }
}

#[test]
fn files_are_made_where_links_point_to() {
    for kernel in [0, 1] {
        let tree = tree();
        let root = &both(&tree)[kernel];
        symlink(
            "../run/systemd/stub.conf",
            tree.root.join("etc/resolv.conf"),
        )
        .unwrap();
        symlink(
            tree.outside.join("etc/shadow"),
            tree.root.join("etc/shadow"),
        )
        .unwrap();
        root.create_file(Path::new("/etc/resolv.conf"), 0o644)
            .unwrap();
        assert!(tree.root.join("run/systemd/stub.conf").is_file());
        root.create_file(Path::new("opt/app/file"), 0o600).unwrap();
        let meta = fs::metadata(tree.root.join("opt/app/file")).unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o777), (0, 0o600));
        root.create_file(Path::new("etc/shadow"), 0o644).unwrap();
        assert!(!tree.outside.join("etc/shadow").exists());
        // What is there stays as it is.
        root.create_file(Path::new("etc/passwd"), 0o644).unwrap();
        assert_eq!(read(root, "etc/passwd").as_deref(), Ok("inside"));
    }
}

#[test]
fn the_parent_and_the_name() {
    let tree = tree();
    symlink("etc", tree.root.join("conf")).unwrap();
    for root in both(&tree) {
        let inode = |path: &str| fs::metadata(tree.root.join(path)).unwrap().ino();
        for (path, parent, name) in [
            ("conf/new", "etc", "new"),
            ("/new", "", "new"),
            ("new", "", "new"),
            ("usr/../conf/new/", "etc", "new"),
        ] {
            let (fd, found) = root.parent(Path::new(path)).unwrap();
            assert_eq!(fstat(fd).unwrap().st_ino, inode(parent), "{path}");
            assert_eq!(found, name);
        }
        for path in ["", "/", "..", "etc/..", "etc/.", "."] {
            assert!(root.parent(Path::new(path)).is_err(), "{path}");
        }
    }
}

#[test]
fn only_regular_files_of_bounded_size_are_read() {
    let tree = tree();
    mknodat(
        CWD,
        tree.root.join("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    fs::write(tree.root.join("big"), vec![b'x'; 1001]).unwrap();
    fs::write(tree.root.join("full"), vec![b'x'; 1000]).unwrap();
    symlink("../fifo", tree.root.join("etc/group")).unwrap();
    for root in both(&tree) {
        for path in ["fifo", "etc/group", "etc", "big"] {
            assert_eq!(read(&root, path), Err(io::ErrorKind::InvalidData), "{path}");
        }
        assert_eq!(read(&root, "full").unwrap().len(), 1000);
    }
    // Endless, whatever size it claims.
    let dev = Root::open_host(Path::new("/dev")).unwrap();
    assert_eq!(read(&dev, "zero"), Err(io::ErrorKind::InvalidData));
}

#[test]
fn deep_and_long_paths_are_errors() {
    let tree = tree();
    for root in both(&tree) {
        assert!(
            root.open(Path::new(&"a/".repeat(3000)), OFlags::PATH)
                .is_err()
        );
        assert!(root.mkdir_all(Path::new(&"a/".repeat(300)), 0o755).is_err());
        assert!(root.open(Path::new("a\0b"), OFlags::PATH).is_err());
        assert!(root.mkdir_all(Path::new("a\0b"), 0o755).is_err());
    }
}

/// Exchanges two names for as long as `during` runs, also if that panics.
fn swapping(one: &Path, other: &Path, during: impl FnOnce()) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _stop = Stop(&stop);
        during();
    });
}

#[test]
fn cve_2021_30465_a_swapped_link_never_leads_out() {
    for kernel in [0, 1] {
        let tree = tree();
        let root = &both(&tree)[kernel];
        fs::create_dir(tree.root.join("race")).unwrap();
        fs::create_dir(tree.root.join("race/etc")).unwrap();
        fs::write(tree.root.join("race/etc/passwd"), "inside").unwrap();
        symlink(tree.outside.join("etc"), tree.root.join("race/link")).unwrap();
        // The use that must go on working: a stable link beside the swapped one.
        symlink("/run", tree.root.join("race/run")).unwrap();
        fs::write(tree.root.join("run/pid"), "inside").unwrap();
        let (one, other) = (tree.root.join("race/etc"), tree.root.join("race/link"));
        swapping(&one, &other, || {
            let mut reached = 0;
            for _ in 0..10_000 {
                match read(root, "race/etc/../etc/passwd") {
                    Ok(text) => {
                        assert_eq!(text, "inside");
                        reached += 1;
                    }
                    Err(kind) => assert_eq!(kind, io::ErrorKind::NotFound),
                }
                assert_eq!(read(root, "race/run/pid").as_deref(), Ok("inside"));
            }
            assert!(reached > 0, "the directory was never seen in its place");
        });
    }
}

#[test]
fn a_swapped_link_at_the_end_never_leads_out() {
    for kernel in [0, 1] {
        let tree = tree();
        let root = &both(&tree)[kernel];
        let (one, other) = (tree.root.join("file"), tree.root.join("link"));
        fs::write(&one, "inside").unwrap();
        symlink(tree.outside.join("etc/passwd"), &other).unwrap();
        swapping(&one, &other, || {
            for _ in 0..10_000 {
                match read(root, "file") {
                    Ok(text) => assert_eq!(text, "inside"),
                    Err(kind) => assert_eq!(kind, io::ErrorKind::NotFound),
                }
            }
        });
    }
}

#[test]
fn a_swapped_link_never_leads_creation_out() {
    let tree = tree();
    for root in both(&tree) {
        let race = tree.root.join("race");
        fs::create_dir_all(race.join("dir")).unwrap();
        let _ = symlink(&tree.outside, race.join("link"));
        swapping(&race.join("dir"), &race.join("link"), || {
            for i in 0..2_000 {
                let name = format!("race/dir/{}", i % 7);
                let _ = root.mkdir_all(Path::new(&name), 0o755);
                let _ = root.create_file(Path::new(&format!("{name}/f")), 0o644);
            }
        });
        let names: Vec<_> = fs::read_dir(&tree.outside).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}

#[test]
fn a_directory_that_moves_away_does_not_take_dots_with_it() {
    for kernel in [0, 1] {
        let tree = tree();
        let root = &both(&tree)[kernel];
        // `a/b` changes places with a directory at another depth, so that `..` of what was opened
        // leads elsewhere; three levels up from there would be outside.
        fs::create_dir_all(tree.root.join("a/b/c")).unwrap();
        fs::create_dir_all(tree.root.join("flat/c")).unwrap();
        fs::write(tree.root.join("marker"), "inside").unwrap();
        fs::write(tree.outside.parent().unwrap().join("marker"), "outside").unwrap();
        swapping(&tree.root.join("a/b"), &tree.root.join("flat"), || {
            for _ in 0..10_000 {
                if let Ok(text) = read(root, "a/b/c/../../../marker") {
                    assert_eq!(text, "inside");
                }
            }
        });
    }
}
