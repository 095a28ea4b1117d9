//! Layers that are damaged on purpose, and archives that are odd.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{CWD, FileType, XattrFlags, lsetxattr, mknodat};

use super::*;
use crate::tar::build::Archive;
use crate::unpack::{Options, unpack};

struct Fixture {
    directory: tempfile::TempDir,
    archive: Vec<u8>,
}

impl Fixture {
    fn new(archive: Archive) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["root", "tmp"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let fixture = Self {
            directory,
            archive: archive.end(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = rustix::fs::open(fixture.root(), flags, Mode::empty()).unwrap();
        let umask = rustix::process::umask(Mode::empty());
        fs::set_permissions(fixture.root(), PermissionsExt::from_mode(0o755)).unwrap();
        let source = io::Cursor::new(fixture.archive.clone());
        let unpacked = unpack(source, root, Options::layer(Ownership::Single), None);
        rustix::process::umask(umask);
        let summary = unpacked.unwrap();
        let verdict = fixture.verify();
        assert_eq!(verdict.differences, Differences::default());
        assert_eq!(verdict.diff_id, summary.diff_id);
        assert_eq!(
            (verdict.info.size, verdict.info.files),
            (summary.size, summary.files)
        );
        fixture
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn verify(&self) -> Verdict {
        let (directory, tmp) = (self.root(), self.directory.path().join("tmp"));
        let layer = Extracted {
            directory: &directory,
            tmp: &tmp,
            ownership: Ownership::Single,
            ids: None,
        };
        verify(&layer, io::Cursor::new(self.archive.clone())).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        let differences = self.verify().differences;
        let lines = differences.first.iter();
        lines
            .map(|one| format!("{} {}", one.path, one.what))
            .collect()
    }
}

fn usual() -> Archive {
    Archive::new()
        .directory("etc")
        .mode(0o644)
        .file("etc/a", b"hello")
        .owner(5, 6)
        .file("etc/b", b"world")
        .owner(0, 0)
        .hard_link("etc/again", "etc/a")
        .symlink("etc/link", "a")
        .file("etc/.wh.gone", b"")
        .entry(b'6', "pipe", "", b"")
        .file("var/implied/file", b"")
}

#[test]
fn every_kind_of_damage_is_named() {
    type Damage = (&'static str, fn(&Path), &'static [&'static str]);
    let damages: &[Damage] = &[
        (
            "content",
            |root| fs::write(root.join("etc/b"), "wOrld").unwrap(),
            &["etc/b has other content"],
        ),
        (
            "size",
            |root| fs::write(root.join("etc/b"), "").unwrap(),
            &["etc/b has 0 bytes instead of 5"],
        ),
        (
            "missing",
            |root| fs::remove_dir_all(root.join("var/implied")).unwrap(),
            &["var/implied is missing"],
        ),
        (
            "extra",
            |root| fs::write(root.join("more"), "").unwrap(),
            &["more is not in the archive"],
        ),
        (
            "mode",
            |root| {
                let mode = PermissionsExt::from_mode(0o4644);
                fs::set_permissions(root.join("etc/b"), mode).unwrap();
            },
            &["etc/b has mode 4644 instead of 0644"],
        ),
        (
            "kind",
            |root| {
                fs::remove_file(root.join("pipe")).unwrap();
                fs::create_dir(root.join("pipe")).unwrap();
            },
            &["pipe is a directory instead of a pipe"],
        ),
        (
            "link",
            |root| {
                fs::remove_file(root.join("etc/link")).unwrap();
                symlink("/etc/passwd", root.join("etc/link")).unwrap();
            },
            &["etc/link leads to /etc/passwd instead of a"],
        ),
        (
            "hard link",
            |root| {
                fs::remove_file(root.join("etc/again")).unwrap();
                fs::write(root.join("etc/again"), "hello").unwrap();
                let mode = PermissionsExt::from_mode(0o644);
                fs::set_permissions(root.join("etc/again"), mode).unwrap();
            },
            &["etc/again is no longer one file with etc/a"],
        ),
        (
            "whiteout",
            |root| fs::remove_file(root.join("etc/gone")).unwrap(),
            &["etc/gone is missing"],
        ),
        (
            "another whiteout",
            |root| {
                let path = root.join("var/implied/gone");
                mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            },
            &["var/implied/gone is not in the archive"],
        ),
        (
            "owner",
            |root| {
                let set = |value: &[u8]| {
                    let name = crate::unpack::OWNER_XATTR;
                    lsetxattr(root.join("etc/b"), name, value, XattrFlags::empty()).unwrap();
                };
                set(b"0:0");
            },
            &["etc/b has another value of user.kelp.owner"],
        ),
        (
            "opaque",
            |root| {
                let name = crate::unpack::whiteout::OPAQUE;
                lsetxattr(root.join("etc"), name, b"y", XattrFlags::empty()).unwrap();
            },
            &["etc hides what is below, and should not"],
        ),
    ];
    for (name, damage, expected) in damages {
        let fixture = Fixture::new(usual());
        damage(&fixture.root());
        assert_eq!(fixture.lines(), *expected, "{name}");
    }
}

#[test]
fn odd_archives_are_followed_as_the_extractor_does() {
    for archive in [
        // Through a link, replaced by a directory, and back to a file.
        Archive::new()
            .directory("usr/lib")
            .symlink("lib", "usr/lib")
            .file("lib/x", b"1")
            .directory("lib/sub")
            .file("usr/lib/x", b"2")
            .directory("lib")
            .file("lib/y", b"3")
            .file("lib", b"4"),
        // Whiteouts before and after what they name.
        Archive::new()
            .file(".wh.a", b"")
            .directory("a")
            .directory("b")
            .file("b/c", b"")
            .file(".wh.b", b"")
            .file("b/.wh.c", b"")
            .file("c/.wh..wh..opq", b"")
            .file("c/.wh..wh.plnk", b"")
            .file("c/.wh..wh.orph/12.34", b"x")
            .file("d", b"x")
            .file(".wh.d", b"")
            .file(".wh.e", b"")
            .file("e/f", b"")
            .symlink("l", "e")
            .file("e/.wh.g", b"")
            .file("l/g/h", b""),
        // One after another by one name.
        Archive::new()
            .directory("a")
            .file("a/b", b"")
            .file("a", b"")
            .directory("a")
            .symlink("b", "a")
            .directory("b")
            .file("b/c", b""),
        // The root itself, twice the same, and links that are replaced.
        Archive::new()
            .mode(0o700)
            .directory("./")
            .mode(0o600)
            .file("f", b"old")
            .hard_link("g", "f")
            .mode(0o640)
            .file("./f", b"new")
            .hard_link("f", "g")
            .hard_link("g", "f")
            .mode(0o4755)
            .file("suid", b"")
            .symlink("loop/../s", "../../f")
            .hard_link("t", "s"),
        // Devices, and an attribute.
        Archive::new()
            .entry(b'3', "null", "", b"")
            .pax(&[("SCHILY.xattr.user.x", b"y")])
            .file("attributed", b"z"),
        Archive::new(),
    ] {
        Fixture::new(archive);
    }
}

#[test]
fn many_differences_are_counted() {
    let fixture = Fixture::new(usual());
    for number in 0..30 {
        fs::write(fixture.root().join(format!("more{number}")), "").unwrap();
    }
    let differences = fixture.verify().differences;
    assert_eq!((differences.first.len(), differences.more), (20, 10));
}
