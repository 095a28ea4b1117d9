//! Tests of copies.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lgetxattr, lsetxattr, mknodat};

use super::*;

const NEW: OFlags = OFlags::WRONLY.union(OFlags::CREATE);

fn copy(from: &Path, to: &Path) {
    let (from, to) = (File::open(from).unwrap(), File::open(to).unwrap());
    let mut copier = Copier::new(to.as_fd()).unwrap();
    copier.tree(from.as_fd()).unwrap();
}

/// A directory to copy from, and one to copy to.
fn trees() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    (directory, from, to)
}

#[test]
fn a_tree_is_copied_with_all_that_its_files_are() {
    let (_directory, from, to) = trees();
    fs::create_dir(from.join("d")).unwrap();
    fs::write(from.join("d/file"), "content").unwrap();
    fs::set_permissions(from.join("d/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(from.join("d"), fs::Permissions::from_mode(0o3710)).unwrap();
    symlink("/nowhere", from.join("link")).unwrap();
    mknodat(CWD, from.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    lsetxattr(
        from.join("d/file"),
        "user.note",
        b"kept",
        XattrFlags::empty(),
    )
    .unwrap();
    lsetxattr(from.join("d"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    lsetxattr(
        from.join("d"),
        "user.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )
    .unwrap();
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000, 7);
    for name in ["d/file", "d"] {
        File::open(from.join(name))
            .unwrap()
            .set_modified(past)
            .unwrap();
    }
    copy(&from, &to);
    assert_eq!(fs::read(to.join("d/file")).unwrap(), b"content");
    let mode = |path: &str| fs::symlink_metadata(to.join(path)).unwrap().mode() & 0o7777;
    assert_eq!(
        (mode("d/file"), mode("d"), mode("pipe")),
        (0o4751, 0o3710, 0o400)
    );
    assert_eq!(
        fs::read_link(to.join("link")).unwrap(),
        Path::new("/nowhere")
    );
    for name in ["d/file", "d"] {
        assert_eq!(
            fs::metadata(to.join(name)).unwrap().modified().unwrap(),
            past
        );
        let mut value = [0; 8];
        let length = lgetxattr(to.join(name), "user.note", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"kept");
    }
    let mut value = [0; 8];
    assert!(lgetxattr(to.join("d"), "user.overlay.opaque", &mut value[..]).is_err());
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    let (_directory, from, to) = trees();
    fs::create_dir(from.join("a")).unwrap();
    fs::write(from.join("a/first"), "x").unwrap();
    fs::hard_link(from.join("a/first"), from.join("second")).unwrap();
    symlink("target", from.join("a/link")).unwrap();
    fs::hard_link(from.join("a/link"), from.join("link")).unwrap();
    copy(&from, &to);
    let inode = |path: &str| fs::symlink_metadata(to.join(path)).unwrap().ino();
    assert_eq!(inode("a/first"), inode("second"));
    assert_eq!(inode("a/link"), inode("link"));
    assert_eq!(fs::metadata(to.join("second")).unwrap().nlink(), 2);
}

#[test]
fn holes_are_no_blocks_in_the_copy_either() {
    const END: u64 = 3 << 30;
    let (_directory, from, to) = trees();
    let file = File::create(from.join("sparse")).unwrap();
    file.write_all_at(b"start", 0).unwrap();
    file.write_all_at(b"middle", 1 << 30).unwrap();
    file.set_len(END).unwrap();
    File::create(from.join("hole"))
        .unwrap()
        .set_len(END)
        .unwrap();
    copy(&from, &to);
    let copied = File::open(to.join("sparse")).unwrap();
    let metadata = copied.metadata().unwrap();
    assert_eq!(metadata.len(), END);
    assert!(
        metadata.blocks() * 512 < 1 << 20,
        "{} blocks",
        metadata.blocks()
    );
    let mut bytes = [0; 6];
    copied.read_exact_at(&mut bytes, 1 << 30).unwrap();
    assert_eq!(&bytes, b"middle");
    copied.read_exact_at(&mut bytes, END - 6).unwrap();
    assert_eq!(bytes, [0; 6]);
    let hole = fs::metadata(to.join("hole")).unwrap();
    assert_eq!((hole.len(), hole.blocks()), (END, 0));
}

#[test]
fn content_that_the_kernel_does_not_copy_by_itself_is_copied() {
    let (_directory, _, to) = trees();
    let target = File::create(to.join("file")).unwrap();
    let source = File::open(to.parent().unwrap().join("from")).unwrap();
    let mut copier = Copier::new(source.as_fd()).unwrap();
    let path = to.parent().unwrap().join("big");
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    fs::write(&path, &bytes).unwrap();
    let source = File::open(&path).unwrap();
    copier
        .by_hand(source.as_fd(), target.as_fd(), 0, 300_000)
        .unwrap();
    assert_eq!(fs::read(to.join("file")).unwrap(), bytes);
}

#[test]
fn a_link_that_was_put_in_the_way_is_not_followed() {
    let (directory, from, to) = trees();
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(from.join("d")).unwrap();
    fs::write(from.join("d/file"), "x").unwrap();
    symlink(&outside, to.join("d")).unwrap();
    let (from, to) = (File::open(&from).unwrap(), File::open(&to).unwrap());
    let mut copier = Copier::new(to.as_fd()).unwrap();
    assert!(copier.tree(from.as_fd()).is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

/// A tree that is too deep for a path, and for a descriptor a directory; its last directory.
fn deepen(top: &Path, depth: usize) -> OwnedFd {
    let mut here: OwnedFd = File::open(top).unwrap().into();
    for _ in 0..depth {
        mkdirat(&here, "directory", Mode::RWXU).unwrap();
        here = openat(&here, "directory", DIRECTORY, Mode::empty()).unwrap();
    }
    here
}

#[test]
fn a_deep_tree_takes_few_descriptors() {
    let (_directory, from, to) = trees();
    let last = deepen(&from, 1500);
    let file = File::from(openat(&last, "file", NEW, Mode::RUSR).unwrap());
    linkat(&last, "file", &last, "other", AtFlags::empty()).unwrap();
    let (most, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let open = fs::read_dir("/proc/self/fd").unwrap().count();
                most.fetch_max(open, Ordering::Relaxed);
            }
        });
        copy(&from, &to);
        done.store(true, Ordering::Relaxed);
    });
    let most = most.into_inner();
    assert!(most < 300, "{most}");
    let mut here: OwnedFd = File::open(&to).unwrap().into();
    for _ in 0..1500 {
        here = openat(&here, "directory", DIRECTORY, Mode::empty()).unwrap();
    }
    let stat = statat(&here, "other", AtFlags::empty()).unwrap();
    assert_eq!(stat.st_nlink, 2);
    assert_ne!(stat.st_ino, file.metadata().unwrap().ino());
    for top in [&from, &to] {
        empty(File::open(top).unwrap().as_fd()).unwrap();
        assert_eq!(fs::read_dir(top).unwrap().count(), 0);
    }
}

#[test]
fn nobody_is_led_out_of_a_tree_by_a_rename() {
    let (directory, from, _) = trees();
    deepen(&from, 50);
    let mut trail = Trail::new(File::open(&from).unwrap().into()).unwrap();
    let mut moved = from.clone();
    for depth in 0..50 {
        let next = openat(trail.here(), "directory", DIRECTORY, Mode::empty()).unwrap();
        trail.enter(next).unwrap();
        if depth < 10 {
            moved.push("directory");
        }
    }
    fs::rename(&moved, directory.path().join("moved")).unwrap();
    let said = (0..50).find_map(|_| trail.leave().err()).unwrap();
    assert_eq!(said.to_string(), "a directory was moved meanwhile");
}
