//! Attacks that extractors fell to. A test is named after its case, and ends with an archive of the same
//! form that is fine.

use super::*;

/// The ways of writing to `outside`, which stands beside the root: by names, by links that the archive
/// made before, and by names of links.
fn attacks(tree: &Tree) -> Vec<(&'static str, Archive)> {
    let outside = tree.directory.path().join("outside");
    let beside = tree.directory.path().to_str().unwrap();
    let (absolute, a) = (outside.to_str().unwrap(), Archive::new);
    vec![
        ("up", a().file("../outside", b"x")),
        ("absolute", a().file(absolute, b"x")),
        ("link", a().symlink("l", "..").file("l/outside", b"x")),
        (
            "link-absolute",
            a().symlink("l", beside).file("l/outside", b"x"),
        ),
        (
            "link-to-link",
            a().symlink("a", "..")
                .symlink("b", "a/..")
                .file("b/outside", b"x"),
        ),
        ("link-itself", a().symlink("l", absolute).file("l", b"x")),
        (
            "link-in-place-of-directory",
            a().directory("d/e")
                .symlink("d", "..")
                .file("d/outside", b"x"),
        ),
        (
            "hard-link",
            a().hard_link("h", "../outside").file("h", b"x"),
        ),
        (
            "hard-link-absolute",
            a().hard_link("h", absolute).file("h", b"x"),
        ),
        (
            "hard-link-through-link",
            a().symlink("l", "..")
                .hard_link("h", "l/outside")
                .file("h", b"x"),
        ),
        (
            "hard-link-to-link",
            a().symlink("l", absolute)
                .hard_link("h", "l")
                .file("h", b"x"),
        ),
        (
            "hard-link-to-link-then-metadata",
            a().symlink("l", absolute)
                .hard_link("h", "l")
                .mode(0o777)
                .directory("h"),
        ),
        ("whiteout", a().file("../.wh.outside", b"")),
        (
            "whiteout-through-link",
            a().symlink("l", "..").file("l/.wh.outside", b""),
        ),
        (
            "opaque-through-link",
            a().symlink("l", "..").file("l/.wh..wh..opq", b""),
        ),
        ("pax", a().pax(&[("path", b"../outside")]).file("x", b"x")),
        (
            "pax-link",
            a().pax(&[("linkpath", b"../outside")]).hard_link("h", "x"),
        ),
        ("device", a().entry(b'3', "../outside", "", b"")),
        ("directory", a().mode(0o777).directory("..")),
    ]
}

fn nothing_gets_out(options: Options) {
    let count = attacks(&Tree::new()).len();
    for index in 0..count {
        let tree = Tree::new();
        let before = describe(tree.directory.path()).len();
        let (name, archive) = attacks(&tree).remove(index);
        // That nothing changes outside, every extraction asserts; here that nothing is read either.
        let result = tree.unpack(archive.end(), options);
        let lines = describe(tree.directory.path());
        let secret = Digest::of(SECRET.as_bytes()).to_string();
        let copies = lines.iter().filter(|line| line.contains(&secret)).count();
        assert_eq!(copies, 1, "{name}: {result:?}");
        assert!(result.is_err() || lines.len() > before, "{name}");
    }
}

/// A chain of links led out of the root, and the extraction wrote there.
#[test]
fn cve_2025_11395_links_in_a_layer_lead_nowhere() {
    nothing_gets_out(Options::layer(Ownership::Single));
    let tree = Tree::new();
    let archive = Archive::new()
        .directory("run")
        .symlink("var/run", "../run")
        .file("var/run/pid", b"1");
    tree.layer(archive.end()).unwrap();
    assert_eq!(tree.read("run/pid"), "1");
}

/// The same where the tree is there already, as for `cp`, `ADD` and the import of a volume.
#[test]
fn cve_2026_17106_links_in_an_archive_for_a_copy_lead_nowhere() {
    nothing_gets_out(Options::copy(Ownership::Single));
    // Links that were there before, and lead out.
    for target in ["..", "../.."] {
        let tree = Tree::new();
        symlink(target, tree.path("way")).unwrap();
        symlink(tree.directory.path(), tree.path("absolute")).unwrap();
        let archive = Archive::new()
            .file("way/outside", b"x")
            .file("absolute/outside", b"x");
        let _ = tree.unpack(archive.end(), Options::copy(Ownership::Single));
    }
    let tree = Tree::new();
    fs::create_dir(tree.path("real")).unwrap();
    symlink("real", tree.path("link")).unwrap();
    let archive = Archive::new().directory("link").file("link/f", b"f");
    tree.unpack(archive.end(), Options::copy(Ownership::Single))
        .unwrap();
    assert_eq!(tree.read("real/f"), "f");
}

/// A hard link's target was taken relative to the working directory, and not to the root.
#[test]
fn cve_2026_50163_a_hard_link_is_not_relative_to_the_working_directory() {
    // The test runs in the directory of its package, which has this file.
    let here = fs::metadata("Cargo.toml").unwrap();
    for target in ["Cargo.toml", "./Cargo.toml", "src/lib.rs"] {
        let tree = Tree::new();
        let archive = Archive::new().hard_link("h", target).file("h", b"x");
        let error = tree.layer(archive.end()).unwrap_err().to_string();
        assert!(error.ends_with("which is not in the archive"), "{error}");
        assert_eq!(tree.kind("h"), "nothing");
    }
    let after = fs::metadata("Cargo.toml").unwrap();
    assert_eq!((after.nlink(), after.size()), (here.nlink(), here.size()));
    let tree = Tree::new();
    let archive = Archive::new()
        .file("Cargo.toml", b"own")
        .hard_link("h", "Cargo.toml");
    tree.layer(archive.end()).unwrap();
    assert_eq!(tree.read("h"), "own");
}

/// Programs that decompress were taken from the tree that an archive is extracted to.
#[test]
fn moby_2026_41567_nothing_is_executed_to_decompress() {
    let tree = Tree::new();
    let programs = ["xz", "bzip2", "gzip", "unpigz", "zstd", "tar"];
    for name in programs {
        let text = format!("#!/bin/sh\n: >{}/ran\n", tree.root().display());
        fs::write(tree.path(name), text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(tree.path(name), mode).unwrap();
    }
    let plain = Archive::new().file("f", b"content").end();
    for archive in crate::decompress::tests::in_every_form(&plain) {
        tree.unpack(archive, Options::copy(Ownership::Single))
            .unwrap();
        assert_eq!(tree.read("f"), "content");
        fs::remove_file(tree.path("f")).unwrap();
    }
    assert_eq!(tree.kind("ran"), "nothing");
}
