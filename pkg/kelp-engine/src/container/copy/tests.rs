//! Tests of copying in and out.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use kelp_image::unpack::{Options, Ownership};
use kelp_runtime::rootfd::Root;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

struct Trees {
    _directory: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
}

fn trees() -> Trees {
    let directory = tempfile::tempdir().unwrap();
    let (root, outside) = (
        directory.path().join("root"),
        directory.path().join("outside"),
    );
    for path in [&root, &outside] {
        fs::create_dir_all(path).unwrap();
    }
    Trees {
        root,
        outside,
        _directory: directory,
    }
}

/// Copies a path of the host to a path of the root.
fn copy_in(source: &Path, root: &Root, path: &str) -> Result<(), Error> {
    let (fd, source) = outside::open_source(source)?;
    let archive = archive(|file| outside::send(&fd, file));
    let target = inside::Target::find(root, Path::new(path), Some(&source), false)?;
    let own = |entry: &mut kelp_image::tar::Entry| (entry.uid, entry.gid) = (0, 0);
    inside::receive(
        archive,
        root,
        &target,
        Options::copy(Ownership::Single),
        own,
    )
}

/// Copies a path of the root to a path of the host.
fn copy_out(root: &Root, path: &str, target: &Path) -> Result<(), Error> {
    let fd = inside::open_source(root, Path::new(path))?;
    let source = Source {
        directory: inside::is_directory(&fd),
        contents: place::ending(Path::new(path)).1,
        name: Path::new(path)
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned(),
    };
    let archive = archive(|file| inside::send(&fd, ".", file));
    outside::Target::find(target, &source, false)?.receive(archive)
}

fn archive(send: impl FnOnce(&File) -> io::Result<()>) -> File {
    let mut file = tempfile::tempfile().unwrap();
    send(&file).unwrap();
    io::Seek::rewind(&mut file).unwrap();
    file
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_file_goes_where_cp_says() {
    let trees = trees();
    let root = Root::open_host(&trees.root).unwrap();
    let source = trees.outside.join("f");
    fs::write(&source, "1").unwrap();
    fs::create_dir_all(trees.root.join("dir/sub")).unwrap();
    fs::write(trees.root.join("old"), "old").unwrap();
    symlink("/dir/sub", trees.root.join("link")).unwrap();
    symlink("../old2", trees.root.join("dir/to-file")).unwrap();
    fs::write(trees.root.join("old2"), "old").unwrap();
    for (target, result) in [
        ("/", "f"),
        ("/dir", "dir/f"),
        ("/dir/", "dir/f"),
        ("/new", "new"),
        ("/old", "old"),
        ("/link", "dir/sub/f"),
        ("/link/named", "dir/sub/named"),
        ("/dir/to-file", "old2"),
        ("/../../up", "up"),
    ] {
        copy_in(&source, &root, target).unwrap();
        assert_eq!(read(trees.root.join(result)), "1", "{target}");
    }
    assert!(trees.root.join("dir/to-file").is_symlink());
    for target in ["/new/", "/none/x", "/old/x", "/none/"] {
        assert!(copy_in(&source, &root, target).is_err(), "{target}");
    }
    assert_eq!(fs::read_dir(&trees.outside).unwrap().count(), 1);
}

#[test]
fn a_directory_goes_where_cp_says() {
    let trees = trees();
    let root = Root::open_host(&trees.root).unwrap();
    let source = trees.outside.join("d");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("sub/f"), "1").unwrap();
    symlink("/etc/passwd", source.join("link")).unwrap();
    for directory in ["a", "b"] {
        fs::create_dir(trees.root.join(directory)).unwrap();
    }
    fs::write(trees.root.join("file"), "").unwrap();
    for (source, target, result) in [
        ("d", "/a", "a/d"),
        ("d/.", "/b", "b"),
        ("d", "/c", "c"),
        ("d/.", "/e", "e"),
        ("d/", "/g/", "g"),
    ] {
        copy_in(&trees.outside.join(source), &root, target).unwrap();
        let result = trees.root.join(result);
        assert_eq!(read(result.join("sub/f")), "1", "{source} {target}");
        assert!(result.join("link").is_symlink());
    }
    assert!(copy_in(&source, &root, "/file").is_err());
    // And out again.
    let out = trees.outside.join("out");
    copy_out(&root, "/a/d", &out).unwrap();
    assert_eq!(read(out.join("sub/f")), "1");
    copy_out(&root, "/a/d", &out).unwrap();
    assert_eq!(read(out.join("d/sub/f")), "1");
    copy_out(&root, "/a/d/sub/f", &out.join("one")).unwrap();
    assert_eq!(read(out.join("one")), "1");
    // A link to a file is followed at the top, in the root.
    symlink("/a/d/sub/f", trees.root.join("top")).unwrap();
    copy_out(&root, "/top", &out.join("two")).unwrap();
    assert_eq!(read(out.join("two")), "1");
    assert!(copy_out(&root, "/none", &out).is_err());
}

/// A container that says that a name is a link and then that it is a directory.
#[test]
fn an_archive_of_a_container_stays_in_the_destination() {
    use kelp_image::tar::write::TarWriter;
    use kelp_image::tar::{Entry, Kind as EntryKind};

    let trees = trees();
    let destination = trees.root.join("destination");
    fs::create_dir(&destination).unwrap();
    let link = |target: &Path| Entry {
        path: b"./a".to_vec(),
        kind: EntryKind::Symlink,
        link: target.as_os_str().as_encoded_bytes().to_vec(),
        ..Entry::default()
    };
    let file = |path: &str| Entry {
        path: path.as_bytes().to_vec(),
        mode: 0o6755,
        ..Entry::default()
    };
    for (entries, is_error) in [
        (vec![link(&trees.outside), file("./a/x")], true),
        (vec![link(Path::new("../../outside")), file("./a/x")], true),
        (vec![file("../x")], true),
        (vec![file("./b/../../x")], true),
        (vec![file("/x")], false),
    ] {
        let archive = archive(|file| {
            let mut writer = TarWriter::new(file);
            for entry in &entries {
                writer.entry(entry)?;
            }
            writer.finish().map(drop)
        });
        let source = Source {
            directory: true,
            contents: true,
            name: "x".to_owned(),
        };
        let target = outside::Target::find(&destination, &source, false).unwrap();
        assert_eq!(target.receive(archive).is_err(), is_error, "{entries:?}");
        assert_eq!(fs::read_dir(&trees.outside).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&trees.root).unwrap().count(), 1);
    }
    let mode = fs::metadata(destination.join("x"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
}

/// CVE-2018-15664: a directory of the path becomes a link while the path is resolved.
#[test]
fn a_racing_link_never_leads_out() {
    const ROUNDS: usize = 10_000;
    let trees = trees();
    let path = |name: &str| trees.root.join(name);
    fs::create_dir(path("dir")).unwrap();
    fs::write(path("dir/f"), "inside").unwrap();
    fs::write(trees.outside.join("f"), "outside").unwrap();
    symlink(&trees.outside, path("swap")).unwrap();
    let source = trees.root.parent().unwrap().join("source");
    fs::write(&source, "copied").unwrap();
    let root = Root::open_host(&trees.root).unwrap();
    let stop = AtomicBool::new(false);
    let mut copied = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, path("dir"), CWD, path("swap"), RenameFlags::EXCHANGE).unwrap();
            }
        });
        let target = trees.root.parent().unwrap().join("target");
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                if copy_out(&root, "/dir/f", &target).is_ok() {
                    assert_ne!(read(target.clone()), "outside");
                    copied += 1;
                }
            } else if copy_in(&source, &root, "/dir/g").is_ok() {
                copied += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(copied > 0);
    assert_eq!(read(trees.outside.join("f")), "outside");
    assert_eq!(fs::read_dir(&trees.outside).unwrap().count(), 1);
}
