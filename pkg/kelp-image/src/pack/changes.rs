//! A layer from what an overlay has written: its upper directory.
//!
//! overlayfs writes a character device 0:0 where it hides what is below, and an attribute where a
//! directory hides it all; an archive has names for both (OCI image specification, layer.md,
//! "Whiteouts"). By other attributes a file or directory is only half there (overlayfs, "redirect_dir"
//! and "metacopy"): kelp mounts without those features, and such a tree is refused rather than packed
//! in part.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_copy::{is_directory, names};
use rustix::fs::{AtFlags, Stat, fstat, statat};

use super::entries::{Entries, Style};
use super::{below, check_depth, gone_is_nothing, open_directory};
use crate::tar::write::TarWriter;
use crate::unpack::whiteout::{OPAQUE_MARKER, PREFIX, is_opaque_at, is_whiteout};

/// Writes an upper directory as a layer; of the root itself only what differs from `root`, that of the
/// image.
pub fn pack_changes<W: Write>(
    upper: &OwnedFd,
    root: &Stat,
    writer: &mut TarWriter<W>,
    style: Style,
) -> io::Result<()> {
    let mut keep = |_: &mut _| {};
    let mut changes = Changes {
        entries: Entries::new(writer, style, &mut keep),
    };
    let stat = fstat(upper)?;
    let differs =
        (stat.st_mode, stat.st_uid, stat.st_gid) != (root.st_mode, root.st_uid, root.st_gid);
    if differs {
        changes.entries.directory(upper.as_fd(), &stat, b".")?;
    }
    changes.content(upper.as_fd(), b"", 0)
}

struct Changes<'a, W> {
    entries: Entries<'a, W>,
}

impl<W: Write> Changes<'_, W> {
    fn content(&mut self, directory: BorrowedFd<'_>, path: &[u8], depth: usize) -> io::Result<()> {
        check_depth(depth)?;
        if is_opaque_at(directory) {
            self.entries.marker(&below(path, OPAQUE_MARKER))?;
        }
        let mut names = names(directory)?;
        names.sort();
        for name in names {
            let path = below(path, name.to_bytes());
            gone_is_nothing(self.item(directory, &name, &path, depth))?;
        }
        Ok(())
    }

    fn item(
        &mut self,
        at: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        path: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if is_whiteout(&stat) {
            let parent = &path[..path.len() - name.to_bytes().len()];
            return self
                .entries
                .marker(&[parent, PREFIX, name.to_bytes()].concat());
        }
        check_name(name.to_bytes(), path)?;
        if !is_directory(&stat) {
            return self.entries.item(at, name, &stat, path);
        }
        let directory = open_directory(at, name, path)?;
        let stat = fstat(&directory)?;
        self.entries.directory(directory.as_fd(), &stat, path)?;
        self.content(directory.as_fd(), path, depth + 1)
    }
}

/// Refuses a file whose name would hide another one when the layer is extracted.
pub(super) fn check_name(name: &[u8], path: &[u8]) -> io::Result<()> {
    if !name.starts_with(PREFIX) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{}: a layer can't have a file whose name begins with .wh., which stands there for one that is \
         gone: rename or remove it first",
        String::from_utf8_lossy(path)
    )))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::{CWD, FileType, Mode, XattrFlags, fsetxattr, mknodat};

    use super::*;
    use crate::tar::{Entry, Kind, TarReader};
    use crate::unpack::Ownership;
    use crate::unpack::whiteout::OPAQUE;

    fn packed(upper: &Path) -> io::Result<Vec<u8>> {
        let upper = OwnedFd::from(File::open(upper).unwrap());
        let root = fstat(&upper).unwrap();
        let mut writer = TarWriter::new(Vec::new());
        let style = Style {
            sparse: true,
            recorded: Some(Ownership::Mapped),
            ..Style::default()
        };
        pack_changes(&upper, &root, &mut writer, style)?;
        writer.finish()
    }

    fn entries(archive: &[u8]) -> Vec<Entry> {
        let mut reader = TarReader::new(archive);
        let (mut entries, mut entry) = (Vec::new(), Entry::default());
        while reader.next(&mut entry).unwrap() {
            entries.push(entry.clone());
        }
        entries
    }

    fn set(path: &Path, name: &str) {
        let directory = File::open(path).unwrap();
        fsetxattr(&directory, name, b"y", XattrFlags::empty()).unwrap();
    }

    #[test]
    fn an_upper_directory_is_a_layer_with_names_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let upper = directory.path();
        fs::create_dir_all(upper.join("z/again")).unwrap();
        fs::write(upper.join("z/again/x"), "x").unwrap();
        fs::hard_link(upper.join("z/again/x"), upper.join("a")).unwrap();
        symlink("/etc", upper.join("link")).unwrap();
        mknodat(
            CWD,
            upper.join("z/gone"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
        .unwrap();
        set(&upper.join("z/again"), OPAQUE);
        let file = File::create(upper.join("sparse")).unwrap();
        file.set_len(1 << 30).unwrap();
        let archive = packed(upper).unwrap();
        assert!(archive.len() < 1 << 20);
        let found: Vec<_> = entries(&archive)
            .into_iter()
            .map(|entry| {
                let path = String::from_utf8(entry.path).unwrap();
                (path, entry.kind, entry.size)
            })
            .collect();
        let expected = [
            ("a", Kind::File, 1),
            ("link", Kind::Symlink, 0),
            ("sparse", Kind::File, 1 << 30),
            ("z/", Kind::Directory, 0),
            ("z/again/", Kind::Directory, 0),
            ("z/again/.wh..wh..opq", Kind::File, 0),
            ("z/again/x", Kind::HardLink, 0),
            ("z/.wh.gone", Kind::File, 0),
        ];
        let expected = expected.map(|(path, kind, size)| (path.to_owned(), kind, size));
        assert_eq!(found, expected);
        assert_eq!(packed(upper).unwrap(), archive);
    }

    #[test]
    fn what_a_layer_cannot_say_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let upper = directory.path();
        fs::create_dir(upper.join("d")).unwrap();
        set(&upper.join("d"), "user.overlay.redirect");
        let error = packed(upper).unwrap_err().to_string();
        assert!(
            error.starts_with("d: its content is in another layer"),
            "{error}"
        );
        fs::remove_dir(upper.join("d")).unwrap();
        fs::write(upper.join(".wh.etc"), "").unwrap();
        let error = packed(upper).unwrap_err().to_string();
        assert!(
            error.starts_with(".wh.etc: a layer can't have a file"),
            "{error}"
        );
    }
}
