//! Tests of the extractor.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};

use super::*;
use crate::tar::build::Archive;

mod kept;
mod odd;
mod outside;

/// A root beside which stands a file that no archive may change.
struct Tree {
    directory: tempfile::TempDir,
}

const SECRET: &str = "secret";

impl Drop for Tree {
    /// An ordinary user can remove only directories that it may read.
    fn drop(&mut self) {
        open_up(&self.root());
    }
}

fn open_up(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

impl Tree {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::write(directory.path().join("outside"), SECRET).unwrap();
        Self { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Each is a directory, and hides what is below or does not.
    fn assert_directories(&self, expected: &[(&str, bool)]) {
        for &(path, opaque) in expected {
            let found = (self.kind(path), self.opaque(path));
            assert_eq!(found, ("directory", opaque), "{path}");
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn unpack(&self, archive: Vec<u8>, options: Options) -> Result<Summary, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.root(), flags, Mode::empty()).unwrap();
        let result = unpack(Cursor::new(archive), root, options, None);
        self.assert_contained();
        result
    }

    fn layer(&self, archive: Vec<u8>) -> Result<Summary, Error> {
        self.unpack(archive, Options::layer(Ownership::Single))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn kind(&self, path: &str) -> &'static str {
        let Ok(metadata) = fs::symlink_metadata(self.path(path)) else {
            return "nothing";
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            "directory"
        } else if kind.is_symlink() {
            "symlink"
        } else if kind.is_fifo() {
            "fifo"
        } else if kind.is_char_device() {
            if metadata.rdev() == 0 {
                "whiteout"
            } else {
                "device"
            }
        } else {
            "file"
        }
    }

    fn xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 1000];
        let length = rustix::fs::lgetxattr(self.path(path), name, &mut value[..]).ok()?;
        value.truncate(length);
        Some(value)
    }

    fn opaque(&self, path: &str) -> bool {
        self.xattr(path, "user.overlay.opaque").as_deref() == Some(b"y")
    }

    fn assert_contained(&self) {
        let outside = self.directory.path();
        assert_eq!(fs::read_to_string(outside.join("outside")).unwrap(), SECRET);
        assert_eq!(fs::metadata(outside.join("outside")).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(outside).unwrap().count(), 2);
    }
}

#[test]
fn every_kind_is_made() {
    let tree = Tree::new();
    let archive = Archive::new()
        .mode(0o755)
        .directory("./")
        .directory("d")
        .mode(0o640)
        .file("d/file", b"content")
        .file("d/empty", b"")
        .symlink("link", "d/file")
        .hard_link("hard", "d/file")
        .hard_link("hard-to-link", "link")
        .entry(b'6', "fifo", "", b"")
        .end();
    let summary = tree.layer(archive.clone()).unwrap();
    assert_eq!(summary.diff_id, Digest::of(&archive));
    assert_eq!(summary.archive_size, archive.len() as u64);
    assert_eq!((summary.files, summary.size), (8, 7));
    assert_eq!(tree.read("d/file"), "content");
    for (path, kind) in [
        ("d", "directory"),
        ("d/file", "file"),
        ("d/empty", "file"),
        ("link", "symlink"),
        ("hard", "file"),
        ("hard-to-link", "symlink"),
        ("fifo", "fifo"),
    ] {
        assert_eq!(tree.kind(path), kind, "{path}");
        let metadata = fs::symlink_metadata(tree.path(path)).unwrap();
        assert_eq!(metadata.mtime(), 1_000_000_000, "{path}");
        if matches!(kind, "file" | "fifo") {
            assert_eq!(metadata.mode() & 0o7777, 0o640, "{path}");
        }
    }
    let inode = |path| fs::metadata(tree.path(path)).unwrap().ino();
    assert_eq!(inode("hard"), inode("d/file"));
    assert_eq!(fs::metadata(tree.root()).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn modes_and_times_are_exact() {
    let tree = Tree::new();
    let mut archive = Archive::new().directory("d");
    for mode in [0o777, 0o666, 0o000, 0o111, 0o1777, 0o755] {
        let file = format!("d/f{mode:o}");
        archive = archive.mode(mode).file(&file, b"x");
        archive = archive.directory(&format!("d/d{mode:o}"));
    }
    let records: [(&str, &[u8]); 1] = [("mtime", b"-5.25")];
    archive = archive
        .pax(&records)
        .file("d/old", b"x")
        .mtime(7)
        .directory("d");
    tree.layer(archive.end()).unwrap();
    for mode in [0o777, 0o666, 0o000, 0o111, 0o1777, 0o755] {
        for letter in ["d", "f"] {
            let path = tree.path(&format!("d/{letter}{mode:o}"));
            assert_eq!(
                fs::metadata(&path).unwrap().mode() & 0o7777,
                mode,
                "{path:?}"
            );
        }
    }
    let old = fs::metadata(tree.path("d/old")).unwrap();
    assert_eq!((old.mtime(), old.mtime_nsec()), (-6, 750_000_000));
    assert_eq!(fs::metadata(tree.path("d")).unwrap().mtime(), 7);
}

#[test]
fn what_leads_outside_is_refused() {
    for archive in [
        Archive::new().file("../outside", b"bad"),
        Archive::new().file("/../outside", b"bad"),
        Archive::new()
            .directory("a")
            .file("a/../../outside", b"bad"),
        Archive::new().directory("../new"),
        Archive::new().symlink("../new", "x"),
        Archive::new().hard_link("mine", "../outside"),
        Archive::new().hard_link("../new", "x"),
        Archive::new().entry(b'6', "../new", "", b""),
        Archive::new().file("../.wh.outside", b""),
        Archive::new().file(".wh...", b""),
        Archive::new().file(".wh..", b""),
        Archive::new().file(".wh.", b""),
        Archive::new().file(".", b"bad"),
        Archive::new().symlink("./", "x"),
        Archive::new()
            .pax(&[("path", b"../../outside")])
            .file("x", b"bad"),
        Archive::new()
            .entry(b'L', "x", "", b"../outside\0")
            .file("x", b"bad"),
    ] {
        let tree = Tree::new();
        let error = tree.layer(archive.end()).unwrap_err();
        assert!(matches!(error, Error::Archive(_)), "{error}");
        assert_eq!(
            fs::read_dir(tree.root())
                .unwrap()
                .filter(|e| { e.as_ref().unwrap().file_name() != "a" })
                .count(),
            0
        );
    }
}

#[test]
fn links_in_an_archive_do_not_lead_outside() {
    for target in ["..", "../", "../../..", "/..", "../root/.."] {
        let tree = Tree::new();
        // Followed beneath the root, the link is the root.
        let archive = Archive::new()
            .symlink("up", target)
            .file("up/outside", b"inside")
            .directory("up/sub")
            .hard_link("up/hard", "up/outside")
            .end();
        let result = tree.layer(archive);
        if target == "../root/.." {
            // There is no "root" in the root.
            assert!(result.is_err());
        } else {
            result.unwrap();
            assert_eq!(tree.read("outside"), "inside");
            assert_eq!(tree.read("hard"), "inside");
            assert_eq!(tree.kind("sub"), "directory");
        }
    }
    let tree = Tree::new();
    let outside = tree.directory.path().join("outside");
    let archive = Archive::new()
        .symlink("link", outside.to_str().unwrap())
        .hard_link("hard", "link")
        .file("link", b"replaced")
        .file("hard", b"replaced")
        .end();
    tree.layer(archive).unwrap();
    assert_eq!(tree.read("link"), "replaced");
}

#[test]
fn a_link_in_the_middle_works_as_in_a_container() {
    let tree = Tree::new();
    let archive = Archive::new()
        .directory("run")
        .directory("var")
        .symlink("var/run", "/run")
        .file("var/run/pid", b"1")
        .file("var/run/deep/er/pid", b"2")
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .hard_link("lib/pid", "var/run/pid")
        .mtime(5)
        .directory("var/run/deep")
        .end();
    tree.layer(archive).unwrap();
    assert_eq!(tree.read("run/pid"), "1");
    assert_eq!(tree.read("run/deep/er/pid"), "2");
    assert_eq!(tree.read("usr/lib/pid"), "1");
    assert_eq!(tree.kind("var/run"), "symlink");
    assert_eq!(fs::metadata(tree.path("run/deep")).unwrap().mtime(), 5);
}

#[test]
fn parents_that_are_no_directories_are_an_error() {
    for archive in [
        Archive::new().symlink("a", "a").file("a/b", b""),
        Archive::new().symlink("a", "nowhere").file("a/b", b""),
        Archive::new().file("a", b"").file("a/b", b""),
        Archive::new().entry(b'6', "a", "", b"").file("a/b", b""),
        Archive::new().hard_link("a", "b"),
        Archive::new().hard_link("a", ""),
        Archive::new().directory("d").hard_link("a", "d"),
    ] {
        let error = Tree::new().layer(archive.end()).unwrap_err().to_string();
        assert!(error.contains('a'), "{error}");
    }
}

#[test]
fn later_entries_replace_earlier_ones() {
    let tree = Tree::new();
    let archive = Archive::new()
        .file("a", b"first")
        .hard_link("other", "a")
        .file("a", b"second")
        .file("file-to-directory", b"")
        .file("file-to-directory.x", b"x")
        .directory("directory-to-file/sub")
        .file("directory-to-file/sub/f", b"gone")
        .mode(0o700)
        .directory("file-to-directory")
        .file("file-to-directory/f", b"new")
        .file("directory-to-file", b"now a file")
        .symlink("link-to-directory", "a")
        .directory("link-to-directory")
        .file("link-to-directory/f", b"f")
        .directory("and-back")
        .file("and-back/old", b"")
        .file("and-back", b"")
        .directory("and-back")
        .file("and-back/new", b"")
        .hard_link("a", "a")
        .end();
    tree.layer(archive).unwrap();
    assert_eq!(tree.read("a"), "second");
    assert_eq!(tree.read("other"), "first");
    assert_eq!(tree.read("file-to-directory/f"), "new");
    assert_eq!(tree.read("file-to-directory.x"), "x");
    assert_eq!(tree.read("directory-to-file"), "now a file");
    assert_eq!(tree.read("link-to-directory/f"), "f");
    assert_eq!(tree.kind("and-back/old"), "nothing");
    assert_eq!(tree.kind("and-back/new"), "file");
}

#[test]
fn a_directory_that_became_a_link_is_left_alone_at_the_end() {
    let tree = Tree::new();
    fs::create_dir(tree.path("kept")).unwrap();
    let before = fs::metadata(tree.path("kept")).unwrap().mtime();
    let archive = Archive::new()
        .mode(0o777)
        .directory("d/e")
        .symlink("d", "kept")
        .end();
    tree.layer(archive).unwrap();
    assert_eq!(tree.kind("d"), "symlink");
    assert_eq!(fs::metadata(tree.path("kept")).unwrap().mtime(), before);
}

#[test]
fn whiteouts_hide_what_is_below_and_only_that() {
    let tree = Tree::new();
    let archive = Archive::new()
        .file(".wh.gone", b"")
        .directory("d")
        .file("d/kept", b"")
        .file("d/.wh..wh..opq", b"")
        .file("d/.wh.gone", b"")
        .file("x/.wh.y", b"")
        .directory("same")
        .file("same/kept", b"")
        .file(".wh.same", b"")
        .file("file", b"kept")
        .file(".wh.file", b"")
        .file(".wh.first", b"")
        .directory("first")
        .file("first/kept", b"")
        .file(".wh.second", b"")
        .file("second", b"kept")
        .file(".wh..wh.plnk", b"")
        .header(b'3', b"native", b"", 0, |block| {
            block[329..345].copy_from_slice(b"0000000\x000000000\0");
        })
        .end();
    tree.layer(archive).unwrap();
    for (path, kind) in [
        ("gone", "whiteout"),
        ("d/gone", "whiteout"),
        ("d/kept", "file"),
        ("x/y", "whiteout"),
        ("same/kept", "file"),
        ("first/kept", "file"),
        ("native", "whiteout"),
        (".wh..wh.plnk", "nothing"),
        (".wh.gone", "nothing"),
    ] {
        assert_eq!(tree.kind(path), kind, "{path}");
    }
    tree.assert_directories(&[("d", true), ("same", true), ("first", true), ("x", false)]);
    assert_eq!(tree.read("file"), "kept");
    assert_eq!(tree.read("second"), "kept");
}

#[test]
fn outside_of_layers_whiteouts_are_plain_files() {
    let tree = Tree::new();
    let archive = Archive::new()
        .file(".wh.a", b"text")
        .file("d/.wh..wh..opq", b"")
        .end();
    tree.unpack(archive, Options::copy(Ownership::Single))
        .unwrap();
    assert_eq!(tree.read(".wh.a"), "text");
    assert_eq!(tree.kind("d/.wh..wh..opq"), "file");
    assert!(!tree.opaque("d"));
}

#[test]
fn a_copy_goes_through_links_and_keeps_kinds() {
    let tree = Tree::new();
    fs::create_dir(tree.path("real")).unwrap();
    fs::create_dir(tree.path("directory")).unwrap();
    fs::write(tree.path("file"), "old").unwrap();
    symlink("real", tree.path("link")).unwrap();
    let options = Options::copy(Ownership::Single);
    let archive = Archive::new()
        .directory("link")
        .file("link/f", b"f")
        .file("file", b"new");
    tree.unpack(archive.end(), options).unwrap();
    assert_eq!(tree.kind("link"), "symlink");
    assert_eq!(tree.read("real/f"), "f");
    assert_eq!(tree.read("file"), "new");
    for archive in [
        Archive::new().file("directory", b""),
        Archive::new().symlink("directory", "x"),
        Archive::new().directory("file"),
    ] {
        let error = tree.unpack(archive.end(), options).unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error}");
    }
}

#[test]
fn a_single_id_keeps_the_rest_in_attributes() {
    let tree = Tree::new();
    let archive = Archive::new()
        .mode(0o4755)
        .owner(1000, 50)
        .file("suid", b"x")
        .pax(&[
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02cap"),
            ("SCHILY.xattr.user.mine", b"value"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.kelp.owner", b"5:5"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"label"),
        ])
        .mode(0o600)
        .owner(0, 0)
        .file("attributes", b"")
        .pax(&[("uid", b"4000000000"), ("gid", b"3")])
        .directory("d")
        .header(b'3', b"null", b"", 0, |block| {
            block[329..345].copy_from_slice(b"0000001\x000000003\0");
        })
        .end();
    let summary = tree.layer(archive).unwrap();
    let text = |path: &str, name: &str| {
        tree.xattr(path, name)
            .map(|value| String::from_utf8(value).unwrap())
    };
    assert_eq!(text("suid", OWNER_XATTR).as_deref(), Some("1000:50"));
    assert_eq!(text("suid", MODE_XATTR).as_deref(), Some("4755"));
    assert_eq!(
        fs::metadata(tree.path("suid")).unwrap().mode() & 0o7777,
        0o755
    );
    assert_eq!(text("attributes", "user.mine").as_deref(), Some("value"));
    assert_eq!(text("attributes", "user.overlay.redirect"), None);
    assert_eq!(text("attributes", OWNER_XATTR), None);
    assert_eq!(
        tree.xattr("attributes", CAPABILITY_XATTR).as_deref(),
        Some(&b"\x01\0\0\x02cap"[..])
    );
    assert_eq!(summary.skipped_xattrs, 4);
    assert_eq!(text("d", OWNER_XATTR).as_deref(), Some("4000000000:3"));
    assert_eq!(tree.kind("null"), "file");
    assert_eq!(text("null", DEVICE_XATTR).as_deref(), Some("c:1:3"));
    let owner = fs::metadata(tree.path("suid")).unwrap().uid();
    assert_eq!(owner, rustix::process::geteuid().as_raw());
}

#[test]
fn mapped_owners_are_set_and_others_named() {
    let tree = Tree::new();
    let mapped = Options::layer(Ownership::Mapped);
    let archive = Archive::new()
        .mode(0o6755)
        .owner(123, 456)
        .file("file", b"x")
        .directory("d")
        .symlink("link", "x")
        .entry(b'6', "fifo", "", b"")
        .owner(0, 0)
        .file("roots", b"x")
        .end();
    if !rustix::process::geteuid().is_root() {
        let error = tree.unpack(archive, mapped).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        return;
    }
    tree.unpack(archive, mapped).unwrap();
    for path in ["file", "d", "link", "fifo"] {
        let metadata = fs::symlink_metadata(tree.path(path)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (123, 456), "{path}");
        if path != "link" {
            assert_eq!(metadata.mode() & 0o7777, 0o6755, "{path}");
        }
    }
    assert_eq!(
        fs::metadata(tree.path("roots")).unwrap().mode() & 0o7777,
        0o6755
    );
    for uid in [&b"4294967295"[..], b"99999999999"] {
        for kind in [b'0', b'5', b'2'] {
            let archive = Archive::new()
                .pax(&[("uid", uid)])
                .entry(kind, "name", "x", b"")
                .end();
            let error = Tree::new().unpack(archive, mapped).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("name") && text.contains("/etc/subuid"),
                "{text}"
            );
        }
    }
}

#[test]
fn sparse_files_keep_their_holes() {
    let tree = Tree::new();
    let size = (8_u64 << 30).to_string();
    let archive = Archive::new()
        .pax(&[
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.map", b"4096,4,8589934591,1"),
        ])
        .file("sparse", b"abcde")
        .end();
    tree.layer(archive).unwrap();
    let metadata = fs::metadata(tree.path("sparse")).unwrap();
    assert_eq!(metadata.size(), 8 << 30);
    assert!(metadata.blocks() < 64);
    let file = fs::File::open(tree.path("sparse")).unwrap();
    let mut bytes = [0; 6];
    file.read_exact_at(&mut bytes, 4095).unwrap();
    assert_eq!(&bytes, b"\0abcd\0");
    file.read_exact_at(&mut bytes[..1], (8 << 30) - 1).unwrap();
    assert_eq!(bytes[0], b'e');
}

#[test]
fn large_files_cross_buffers() {
    let tree = Tree::new();
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let archive = Archive::new()
        .file("a", b"1")
        .file("large", &content)
        .file("b", b"2");
    tree.layer(archive.end()).unwrap();
    assert!(fs::read(tree.path("large")).unwrap() == content);
    assert_eq!(tree.read("b"), "2");
}

#[test]
fn an_archive_cut_anywhere_is_an_error_and_contained() {
    let archive = Archive::new()
        .directory("d")
        .file("d/f", b"some content")
        .symlink("l", "d")
        .file("l/.wh.x", b"")
        .end();
    let tree = Tree::new();
    for end in (0..archive.len()).step_by(37) {
        let _ = tree.layer(archive[..end].to_vec());
    }
    let mut deep = Vec::new();
    assert!(path::clean("a/".repeat(2000).as_bytes(), &mut deep).is_some());
}

#[test]
fn a_filter_renames_and_drops() {
    let tree = Tree::new();
    let archive = Archive::new()
        .file("a", b"1")
        .file("drop", b"2")
        .file("c", b"3");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(tree.root(), flags, Mode::empty()).unwrap();
    let mut filter = |entry: &mut Entry| {
        entry.path = [b"in/", entry.path.as_slice()].concat();
        Ok(entry.path != b"in/drop")
    };
    let options = Options::copy(Ownership::Single);
    unpack(Cursor::new(archive.end()), root, options, Some(&mut filter)).unwrap();
    assert_eq!(tree.read("in/a"), "1");
    assert_eq!(tree.read("in/c"), "3");
    assert_eq!(tree.kind("in/drop"), "nothing");
}

/// What ls(1) would show of a tree, content and attributes included.
fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else if kind.is_file() {
            Digest::of(&fs::read(&path).unwrap()).to_string()
        } else {
            String::new()
        };
        if kind.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        let links = if kind.is_dir() { 0 } else { metadata.nlink() };
        let size = if kind.is_dir() { 0 } else { metadata.size() };
        lines.push(format!(
            "{:?} {:o} {}:{} {} {}.{:09} {} {content}",
            path.strip_prefix(root).unwrap(),
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            links,
            metadata.mtime(),
            metadata.mtime_nsec(),
            size
        ));
    }
    lines.sort();
    lines
}

#[test]
fn gnu_tar_extracts_the_same() {
    if Command::new("tar").arg("--version").output().is_err() {
        eprintln!("skipped: there is no tar here");
        return;
    }
    let source = tempfile::tempdir().unwrap();
    let script = r#"
        mkdir -p dir/sub dir/empty
        echo text > dir/file; ln dir/file dir/hard; ln -s ../x dir/link; ln -s dir to-dir
        mkfifo dir/fifo; : > dir/empty-file; chmod 4711 dir/file; chmod 1777 dir/empty
        long=dir/$(printf 'n%.0s' $(seq 1 180)); echo long > "$long"
        deep=dir; for i in $(seq 1 30); do deep=$deep/directory-$i; done; mkdir -p $deep
        echo deep > $deep/file; ln -s $deep/file dir/long-link
        printf 'caf\351' > "$(printf 'dir/caf\351')"
        truncate -s 2M dir/sparse; echo start | dd of=dir/sparse conv=notrunc status=none
        echo middle | dd of=dir/sparse bs=1M seek=1 conv=notrunc status=none
        head -c 300000 /dev/urandom > dir/random
        touch -d '2001-02-03 04:05:06.789012345' dir/file dir/sub; touch -h -d '1970-01-02' dir/link
        chmod 500 dir/sub
    "#;
    let made = Command::new("sh")
        .args(["-ec", script])
        .current_dir(source.path())
        .status();
    assert!(made.unwrap().success());
    let root = rustix::process::geteuid().is_root();
    for format in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=posix"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &[
            "--format=posix",
            "--sparse",
            "--sparse-version=1.0",
            "--gzip",
        ],
        &["--format=oldgnu", "--sparse"],
    ] {
        let archive = Command::new("tar")
            .args(format)
            .args(["-C"])
            .arg(source.path())
            .args(["-c", "."])
            .output();
        let archive = archive.unwrap().stdout;
        let (ours, theirs) = (Tree::new(), Tree::new());
        let ownership = if root {
            Ownership::Mapped
        } else {
            Ownership::Single
        };
        ours.unpack(archive.clone(), Options::layer(ownership))
            .unwrap();
        let file = theirs.directory.path().join("archive");
        fs::write(&file, &archive).unwrap();
        let extracted = Command::new("tar")
            .args(["--numeric-owner", "-xpf"])
            .arg(&file)
            .arg("-C")
            .arg(theirs.root())
            .status();
        assert!(extracted.unwrap().success());
        let mut expected = describe(&theirs.root());
        if !root {
            // Set-id bits are kept in an attribute.
            for line in &mut expected {
                *line = line.replace("104711", "100711");
            }
        }
        assert_eq!(describe(&ours.root()), expected, "{format:?}");
        let blocks = fs::metadata(ours.path("dir/sparse")).unwrap().blocks();
        if format.contains(&"--sparse") {
            assert!(blocks < 1000, "{format:?}: {blocks} blocks");
        }
    }
}
