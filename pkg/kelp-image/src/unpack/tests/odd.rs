//! Archives that are odd and valid, or nearly: names, times, ends, and what older engines left in them.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, statat};

use super::*;
use crate::unpack::walker::Walker;

#[test]
fn names_are_bytes_and_none_is_another() {
    let tree = Tree::new();
    let names: [&[u8]; 9] = [
        b"a",
        b"A",
        b"caf\xc3\xa9",
        b"cafe\xcc\x81",
        b"caf\xe9",
        b"\xff\xfe",
        b"new\nline",
        b" ",
        b"-r\\*?'\"",
    ];
    let mut archive = Archive::new();
    for name in names {
        archive = archive
            .pax(&[("hdrcharset", b"BINARY"), ("path", name)])
            .file("x", name);
    }
    tree.layer(archive.end()).unwrap();
    let mut found: Vec<_> = fs::read_dir(tree.root())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| entry.file_name().into_encoded_bytes())
        .collect();
    found.sort();
    let mut expected = names.map(<[u8]>::to_vec).to_vec();
    expected.sort();
    assert_eq!(found, expected);
    for entry in fs::read_dir(tree.root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_encoded_bytes();
        assert_eq!(fs::read(entry.path()).unwrap(), name);
    }
}

#[test]
fn a_path_may_be_longer_than_the_kernel_takes() {
    let tree = Tree::new();
    let directory = vec!["d".repeat(200); 40].join("/");
    let below = |name: &str| format!("{directory}/{name}");
    let mut archive = Archive::new();
    for (path, link, flag) in [
        (below("file"), String::new(), b'0'),
        (below("hard"), below("file"), b'1'),
        (below("link"), below("file"), b'2'),
        (below("sub"), String::new(), b'5'),
        (below(".wh.gone"), String::new(), b'0'),
    ] {
        // A link's target has its limit: symlink(2) takes no more than a path.
        let link = if flag == b'2' { &link[..4000] } else { &link };
        archive = archive
            .pax(&[("path", path.as_bytes()), ("linkpath", link.as_bytes())])
            .entry(flag, "x", "", b"");
    }
    tree.layer(archive.end()).unwrap();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(tree.root(), flags, Mode::empty()).unwrap();
    let mut walker = Walker::new(root);
    let at = walker.directory(directory.as_bytes(), None).unwrap();
    let stat = |name| statat(at.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    assert_eq!((stat("file").st_nlink, stat("link").st_size), (2, 4000));
    assert_eq!(stat("hard").st_ino, stat("file").st_ino);
    assert_eq!(stat("gone").st_rdev, 0);
    assert_eq!(stat("sub").st_mtime, 1_000_000_000);
    drop(walker);
    // What removes a test's directory goes by paths.
    let top = tree.path(&"d".repeat(200));
    crate::remove::remove_tree(&top).unwrap();
}

#[test]
fn a_name_has_a_limit() {
    let name = "d".repeat(99);
    for (levels, fits) in [(163, true), (164, false)] {
        let tree = Tree::new();
        let directory = vec![&*name; levels].join("/");
        let archive = Archive::new()
            .pax(&[("path", directory.as_bytes())])
            .directory("x");
        let result = tree.layer(archive.end());
        let error = result.err().map(|error| error.to_string());
        let told = error.filter(|text| text.ends_with(": the name has more than 16384 bytes"));
        assert_eq!(told.is_none(), fits, "{levels}");
        assert_eq!(tree.kind(&name) == "directory", fits, "{levels}");
        if fits {
            // What removes a test's directory goes by paths.
            crate::remove::remove_tree(&tree.path(&name)).unwrap();
        }
    }
}

#[test]
fn a_directory_may_have_100_000_files() {
    let tree = Tree::new();
    let mut archive = Archive::new().directory("d");
    for number in 0..100_000 {
        archive = archive.file(&format!("d/{number}"), b"");
    }
    let summary = tree.layer(archive.end()).unwrap();
    assert_eq!(summary.files, 100_001);
    let count = fs::read_dir(tree.path("d")).unwrap().count();
    assert_eq!(count, 100_000);
    assert_eq!(fs::metadata(tree.path("d")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn times_before_1970_and_after_2106_are_kept() {
    let tree = Tree::new();
    let archive = Archive::new()
        .pax(&[("mtime", b"-2000000000.000000001")])
        .file("old", b"x")
        .pax(&[("mtime", b"4294967301.25")])
        .file("new", b"x")
        .pax(&[("mtime", b"-1.5")])
        .symlink("link", "x")
        .pax(&[("mtime", b"4294967301")])
        .directory("directory")
        .end();
    tree.layer(archive).unwrap();
    for (path, seconds, nanoseconds) in [
        ("old", -2_000_000_001, 999_999_999),
        ("new", 4_294_967_301, 250_000_000),
        ("link", -2, 500_000_000),
        ("directory", 4_294_967_301, 0),
    ] {
        let metadata = fs::symlink_metadata(tree.path(path)).unwrap();
        let time = (metadata.mtime(), metadata.mtime_nsec());
        assert_eq!(time, (seconds, nanoseconds), "{path}");
    }
}

#[test]
fn an_archive_ends_where_its_entries_end() {
    let one = || Archive::new().file("a", b"a");
    let other = Archive::new().file("b", b"b").end();
    let half = [one().bytes(), vec![0; 512]].concat();
    for archive in [
        one().bytes(),
        half,
        one().end(),
        [one().end(), vec![0; 10_240]].concat(),
        [one().end(), b"garbage, and no block".to_vec()].concat(),
        // As tar does without --ignore-zeros.
        [one().end(), other].concat(),
    ] {
        let tree = Tree::new();
        let summary = tree.layer(archive.clone()).unwrap();
        assert_eq!(summary.files, 1);
        assert_eq!(tree.read("a"), "a");
        assert_eq!(tree.kind("b"), "nothing");
        // What stands behind belongs to the layer's digest.
        assert_eq!(summary.diff_id, Digest::of(&archive));
    }
}

#[test]
fn a_size_that_lies_is_an_error() {
    for size in [600, 1 << 33, 1 << 40, i64::MAX as u64] {
        let bytes = size.to_be_bytes();
        let archive = Archive::new().header(b'0', b"lies", b"", 0, |block| {
            block[124..128].copy_from_slice(&[0x80, 0, 0, 0]);
            block[128..136].copy_from_slice(&bytes);
        });
        let error = Tree::new().layer(archive.content(b"short").bytes());
        let text = error.unwrap_err().to_string();
        assert_eq!(text, "the archive ends in the middle of a file's content");
    }
}

#[test]
fn the_root_gets_its_mode_time_and_owner() {
    for name in ["./", ".", "/", ""] {
        let tree = Tree::new();
        let archive = Archive::new()
            .mode(0o1711)
            .owner(7, 8)
            .mtime(5)
            .directory(name)
            .mode(0o644)
            .file("f", b"");
        tree.layer(archive.end()).unwrap();
        let metadata = fs::metadata(tree.root()).unwrap();
        let mode = metadata.mode() & 0o7777;
        assert_eq!((mode, metadata.mtime()), (0o1711, 5), "{name}");
        let owner = rustix::fs::lgetxattr(tree.root(), OWNER_XATTR, &mut [0; 9][..]);
        assert_eq!(owner, Ok(3), "{name}");
    }
    for archive in [
        Archive::new().file("", b"x"),
        Archive::new().symlink(".", "x"),
        Archive::new().hard_link("./", "x"),
    ] {
        let error = Tree::new().layer(archive.end()).unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("only a directory can be the root"), "{text}");
    }
}

#[test]
fn the_mode_of_a_link_and_of_a_name_of_one_says_nothing() {
    let tree = Tree::new();
    let archive = Archive::new()
        .mode(0o640)
        .file("file", b"x")
        .mode(0o000)
        .symlink("link", "file")
        .mode(0o4777)
        .owner(9, 9)
        .hard_link("hard", "file")
        .hard_link("hard-link-to-link", "link")
        .end();
    tree.layer(archive).unwrap();
    let mode = |path: &str| fs::symlink_metadata(tree.path(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("file"), mode("hard")), (0o640, 0o640));
    assert_eq!((mode("link"), mode("hard-link-to-link")), (0o777, 0o777));
    assert_eq!(tree.xattr("hard", OWNER_XATTR), None);
}

/// Changes are applied in their order: with the file, what is below by this name was gone already (OCI
/// image specification, layer.md, "Changeset over existing files").
#[test]
fn a_directory_in_the_place_of_a_file_hides_what_is_below() {
    let tree = Tree::new();
    let archive = Archive::new()
        .file("file", b"")
        .directory("file")
        .symlink("link", "nowhere")
        .directory("link")
        .directory("and-back")
        .file("and-back/old", b"")
        .file("and-back", b"")
        .directory("and-back")
        .file("and-back/new", b"")
        .directory("opaque")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque", b"")
        .directory("twice")
        .directory("twice")
        .end();
    tree.layer(archive).unwrap();
    tree.assert_directories(&[
        ("file", true),
        ("link", true),
        ("and-back", true),
        ("twice", false),
    ]);
    assert_eq!(tree.kind("and-back/old"), "nothing");
    assert_eq!(
        (tree.kind("opaque"), tree.opaque("opaque")),
        ("file", false)
    );
    // A copy is no layer, and nothing is below it.
    let tree = Tree::new();
    let archive = Archive::new().file("file", b"").directory("file").end();
    let options = Options {
        replace_kinds: true,
        ..Options::copy(Ownership::Single)
    };
    tree.unpack(archive, options).unwrap();
    assert!(!tree.opaque("file"));
}

#[test]
fn a_whiteout_may_come_before_what_is_in_a_directory_of_its_name() {
    let tree = Tree::new();
    let archive = Archive::new()
        .file(".wh.a", b"")
        .file("a/kept", b"")
        .file("b/.wh.c", b"")
        .file("b/c/d/kept", b"")
        .file("b/c/.wh.gone", b"")
        .symlink("l", "b")
        .file("b/.wh.e", b"")
        .file("l/e/kept", b"")
        .end();
    tree.layer(archive).unwrap();
    tree.assert_directories(&[
        ("a", true),
        ("b", false),
        ("b/c", true),
        ("b/c/d", false),
        ("b/e", true),
    ]);
    for path in ["a/kept", "b/c/d/kept", "b/e/kept"] {
        assert_eq!(tree.kind(path), "file", "{path}");
    }
    assert_eq!(tree.kind("b/c/gone"), "whiteout");
    assert_eq!(tree.kind("l"), "symlink");
    // Elsewhere it is a device like others.
    let tree = Tree::new();
    let layer = Archive::new().file(".wh.a", b"").end();
    tree.layer(layer).unwrap();
    let archive = Archive::new().file("a/b", b"").end();
    let error = tree.unpack(archive, Options::copy(Ownership::Single));
    assert!(error.is_err());
    assert_eq!(tree.kind("a"), "whiteout");
}

/// The directory would hide what has the rest of its name, where layers are read without an overlay.
#[test]
fn nothing_is_in_a_whiteout() {
    for archive in [
        Archive::new().file(".wh.a/b", b""),
        Archive::new().directory("d").directory("d/.wh.a/b/c"),
        Archive::new()
            .file(".wh.a", b"")
            .hard_link(".wh.a/.wh.b", "a"),
    ] {
        let tree = Tree::new();
        let error = tree.layer(archive.clone().end()).unwrap_err().to_string();
        assert!(error.ends_with(": a whiteout has nothing in it"), "{error}");
        let copy = Archive::new().file(".wh.a/b", b"x").end();
        tree.unpack(copy, Options::copy(Ownership::Single)).unwrap();
        assert_eq!(tree.read(".wh.a/b"), "x");
    }
}

/// aufs kept its own directories in the layers that it made; nobody wants them now.
#[test]
fn what_aufs_kept_for_itself_is_left_out() {
    let tree = Tree::new();
    let archive = Archive::new()
        .file(".wh..wh.aufs", b"")
        .directory(".wh..wh.plnk")
        .file(".wh..wh.plnk/12.34", b"x")
        .directory(".wh..wh.orph/deep")
        .file("d/.wh..wh.unknown/x", b"x")
        .file("d/.wh..wh..opq", b"")
        .file("d/f", b"x")
        .end();
    tree.layer(archive).unwrap();
    let names = fs::read_dir(tree.root()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["d"]);
    assert_eq!(fs::read_dir(tree.path("d")).unwrap().count(), 1);
    assert!(tree.opaque("d"));
}

/// A layer is extracted by itself, and is the same whatever lies beneath it.
#[test]
fn a_hard_link_to_a_file_of_another_layer_is_refused_by_name() {
    let archive = Archive::new().hard_link("usr/bin/new", "usr/bin/old").end();
    let error = Tree::new().layer(archive).unwrap_err();
    assert_eq!(
        error.to_string(),
        "extract usr/bin/new as a hard link to usr/bin/old, which is not in the archive"
    );
}
