//! What is kept beside content and mode: attributes, access control lists, capabilities, devices.

use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fsetxattr};

use super::*;

/// An access control list as the kernel has it: of the owner, one more user and the rest (acl(5)).
fn list(user: u32) -> Vec<u8> {
    let entry = |kind: u16, permission: u16, id: u32| {
        let ids = [kind.to_le_bytes(), permission.to_le_bytes()].concat();
        [&ids[..], &id.to_le_bytes()].concat()
    };
    [
        2_u32.to_le_bytes().to_vec(),
        entry(0x01, 6, u32::MAX),
        entry(0x02, 4, user),
        entry(0x04, 4, u32::MAX),
        entry(0x10, 4, u32::MAX),
        entry(0x20, 0, u32::MAX),
    ]
    .concat()
}

fn attributes(records: &[(&str, Vec<u8>)]) -> Archive {
    let names: Vec<_> = records
        .iter()
        .map(|(name, _)| format!("SCHILY.xattr.{name}"))
        .collect();
    let values = records.iter().map(|(_, value)| value.as_slice());
    let records: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
    Archive::new().pax(&records)
}

/// Whether the file system of a tree takes such an attribute from whoever runs the test.
fn takes(tree: &Tree, name: &str, value: &[u8]) -> bool {
    let file = fs::File::create(tree.directory.path().join("probe")).unwrap();
    let taken = fsetxattr(file.as_fd(), name, value, XattrFlags::empty()).is_ok();
    fs::remove_file(tree.directory.path().join("probe")).unwrap();
    taken
}

#[test]
fn access_control_lists_are_set_and_change_no_other_mode() {
    let tree = Tree::new();
    let own = rustix::process::geteuid().as_raw();
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    if !takes(&tree, access, &list(own)) {
        eprintln!("SKIP: access_control_lists_are_set_and_change_no_other_mode: no lists");
        return;
    }
    let archive = [
        attributes(&[(access, list(own))])
            .mode(0o640)
            .file("file", b"content")
            .bytes(),
        attributes(&[(access, list(own)), (default, list(own))])
            .mode(0o640)
            .directory("directory")
            .bytes(),
        // Made while the directory is still open to everything.
        Archive::new().mode(0o604).file("directory/file", b"").end(),
    ]
    .concat();
    let summary = tree.layer(archive).unwrap();
    assert_eq!(summary.skipped_xattrs, 0);
    assert_eq!(tree.xattr("file", access), Some(list(own)));
    assert_eq!(tree.xattr("directory", access), Some(list(own)));
    assert_eq!(tree.xattr("directory", default), Some(list(own)));
    let mode = |path: &str| fs::metadata(tree.path(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("file"), mode("directory")), (0o640, 0o640));
    open_up(&tree.root());
    assert_eq!(mode("directory/file"), 0o604);
    assert_eq!(tree.xattr("directory/file", access), None);
    // One that the kernel does not take is left out, and counted.
    let archive = attributes(&[(access, b"\x02\0\0\0garbage!".to_vec())]);
    let summary = Tree::new().layer(archive.file("file", b"").end()).unwrap();
    assert_eq!(summary.skipped_xattrs, 1);
}

/// Where the files are of one id, a program's capabilities are kept aside; where owners are the files' own,
/// so are they, which takes a user namespace with several (a commit's test has one).
#[test]
fn capabilities_are_kept_aside_where_all_is_of_one_id() {
    let tree = Tree::new();
    // cap_net_raw, permitted and effective.
    let value = [&[1, 0, 0, 2, 0, 0x20, 0, 0][..], &[0; 12]].concat();
    let name = "security.capability";
    let archive = attributes(&[(name, value.clone())])
        .mode(0o755)
        .file("ping", b"content")
        .end();
    assert_eq!(tree.layer(archive).unwrap().skipped_xattrs, 0);
    assert_eq!(tree.xattr("ping", CAPABILITY_XATTR), Some(value));
    assert_eq!(tree.xattr("ping", name), None);
}

/// The kernel lets no user namespace make a device: an empty file says which one it would be.
#[test]
fn devices_are_files_that_say_which() {
    let device = |archive: Archive, flag, path: &[u8], numbers: &[u8; 16]| {
        archive.header(flag, path, b"", 0, |block| {
            block[329..345].copy_from_slice(numbers);
        })
    };
    let archive = Archive::new().mode(0o666);
    let archive = device(archive, b'3', b"null", b"0000001\x000000003\0").mode(0o460);
    let archive = device(archive, b'4', b"disk", b"0000010\x003777777\0").owner(0, 6);
    // As a character device it would be a whiteout.
    let archive = device(archive, b'4', b"zero", b"0000000\x000000000\0");
    // In base 256.
    let archive = device(
        archive,
        b'3',
        b"large",
        b"\x80\0\0\0\0\0\x0f\xff\x80\0\0\0\0\x0f\xff\xff",
    );
    let tree = Tree::new();
    let summary = tree
        .layer(archive.hard_link("again", "null").end())
        .unwrap();
    assert_eq!(summary.skipped_xattrs, 0);
    for (path, number, mode) in [
        ("null", "c:1:3", 0o666),
        ("again", "c:1:3", 0o666),
        ("disk", "b:8:1048575", 0o460),
        ("zero", "b:0:0", 0o460),
        ("large", "c:4095:1048575", 0o460),
    ] {
        assert_eq!(tree.kind(path), "file", "{path}");
        let metadata = fs::metadata(tree.path(path)).unwrap();
        assert_eq!((metadata.size(), metadata.mode() & 0o7777), (0, mode));
        let kept = tree.xattr(path, DEVICE_XATTR);
        assert_eq!(kept.as_deref(), Some(number.as_bytes()), "{path}");
    }
}

/// Duplicates say everything anew: nothing of the first one sticks.
#[test]
fn of_two_entries_by_one_name_the_last_one_counts() {
    let tree = Tree::new();
    let first = |path: &str, flag: u8, content: &[u8]| {
        attributes(&[("user.first", b"1".to_vec())])
            .mode(0o4711)
            .owner(5, 6)
            .mtime(1)
            .entry(flag, path, "", content)
            .bytes()
    };
    let last = |path: &str, flag: u8, content: &[u8]| {
        attributes(&[("user.last", b"2".to_vec())])
            .mode(0o640)
            .mtime(2)
            .entry(flag, path, "", content)
            .bytes()
    };
    let archive = [
        first("file", b'0', b"long content"),
        first("directory", b'5', b""),
        last("./file", b'0', b"short"),
        last("directory/", b'5', b""),
        Archive::new().file("directory/file", b"").end(),
    ]
    .concat();
    tree.layer(archive).unwrap();
    for path in ["file", "directory"] {
        assert_eq!(tree.xattr(path, "user.first"), None, "{path}");
        assert_eq!(tree.xattr(path, "user.last").as_deref(), Some(&b"2"[..]));
        assert_eq!(tree.xattr(path, OWNER_XATTR), None, "{path}");
        assert_eq!(tree.xattr(path, MODE_XATTR), None, "{path}");
        let metadata = fs::metadata(tree.path(path)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o640, "{path}");
        assert_eq!(metadata.mtime(), 2, "{path}");
    }
    assert_eq!(tree.read("file"), "short");
}
