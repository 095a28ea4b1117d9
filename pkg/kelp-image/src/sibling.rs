//! A layer for one id map, made from the same layer for another: every file shares its blocks with its
//! sibling, and only owners differ.
//!
//! That pays where the file system can share blocks (ioctl_ficlone(2): btrfs, XFS, bcachefs): nothing is
//! decompressed and no content is written. Elsewhere, and wherever anything is unusual, the layer is
//! extracted from its blob, which is the truth. The sibling is only read: no layer ever changes its owners in
//! place.
//!
//! It happens in the hidden role `kelp internal sibling`, in the namespace of the usual map, where both
//! maps have ids.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kelp_copy::DIRECTORY;
use kelp_copy::{Trail, names};
use kelp_userns::IdMap;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat,
    fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, ioctl_ficlone, linkat,
    mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};

use crate::Error;
use crate::digest::Digest;
use crate::layer::LayerStore;
use crate::temporary::TemporaryFile;
use crate::unpack::translate::{access_control_list, capability};
use crate::unpack::whiteout::is_whiteout;

/// The most bytes of a list of attributes, or of the value of one (xattr(7)).
const LIMIT: usize = 64 << 10;

/// Whether two files of the data directory's file system can share their blocks.
pub fn can_share(data: &Path) -> bool {
    let share = || -> Result<bool, Error> {
        let tmp = data.join("tmp");
        let mut from = TemporaryFile::create(&tmp, "share")?;
        let to = TemporaryFile::create(&tmp, "share")?;
        from.file_mut()
            .write_all(&[1; 4096])
            .map_err(Error::io("write a file"))?;
        Ok(ioctl_ficlone(to.file(), from.file()).is_ok())
    };
    share().unwrap_or(false)
}

/// The role's arguments, after `kelp internal`. The maps say which ids of the process each id of an
/// archive is; none is that of the process itself.
pub fn arguments(
    data: &Path,
    (from_key, from): (&str, Option<&IdMap>),
    (to_key, to): (&str, Option<&IdMap>),
    diff_id: &Digest,
) -> Vec<String> {
    let word = |map: Option<&IdMap>| map.map_or_else(|| "-".to_owned(), IdMap::to_word);
    vec![
        "sibling".to_owned(),
        data.to_string_lossy().into_owned(),
        from_key.to_owned(),
        word(from),
        to_key.to_owned(),
        word(to),
        diff_id.to_string(),
    ]
}

/// Runs `kelp internal sibling DATA FROM-KEY MAP|- TO-KEY MAP|- DIFF-ID`; 0 if the layer is there now.
pub fn main(arguments: &[String]) -> i32 {
    match try_main(arguments) {
        Ok(()) => 0,
        // Nobody reads why: the blob is what it is made from then.
        Err(_) => 1,
    }
}

fn try_main(arguments: &[String]) -> Result<(), Error> {
    let [data, from_key, from, to_key, to, diff_id] = arguments else {
        return Err(Error::Invalid("sibling: arguments are missing".to_owned()));
    };
    let owners = Owners {
        from: crate::role::parse_ids(from)?,
        to: crate::role::parse_ids(to)?,
    };
    let diff_id: Digest = diff_id.parse()?;
    rustix::process::umask(Mode::empty());
    let from = LayerStore::beneath(Path::new(data), from_key)?;
    let to = LayerStore::open(Path::new(data), to_key)?;
    copy(&from, &to, &diff_id, owners, share)
}

/// How a file gets its content from another.
type Fill = fn(BorrowedFd<'_>, BorrowedFd<'_>) -> io::Result<()>;

fn share(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    Ok(ioctl_ficlone(to, from)?)
}

/// Makes a layer for one map from that for another.
fn copy(
    from: &LayerStore,
    to: &LayerStore,
    diff_id: &Digest,
    owners: Owners,
    fill: Fill,
) -> Result<(), Error> {
    let info = from
        .info(diff_id)?
        .ok_or_else(|| Error::NotFound(format!("layer {diff_id}")))?;
    let made = to.begin()?;
    let open = |path: &Path| {
        rustix::fs::open(path, DIRECTORY, Mode::empty())
            .map_err(Error::io(format!("open {}", path.display())))
    };
    let (source, target) = (open(&from.path(diff_id))?, open(&made.root())?);
    let copied = Copy {
        root: openat(&target, ".", DIRECTORY, Mode::empty()).map_err(Error::io("open a layer"))?,
        links: HashMap::new(),
        owners,
        fill,
        buffer: vec![0; 2 * LIMIT],
    }
    .tree(source, target);
    copied.map_err(Error::io(format!("copy layer {diff_id}")))?;
    made.publish_copy(diff_id, &info)
}

/// Whose a file is, and whose its copy becomes.
#[derive(Debug)]
struct Owners {
    from: Option<IdMap>,
    to: Option<IdMap>,
}

impl Owners {
    fn of(&self, stat: &Stat) -> io::Result<(Uid, Gid)> {
        let uid = translate(
            stat.st_uid,
            self.from.as_ref(),
            self.to.as_ref(),
            IdMap::container_uid,
            IdMap::host_uid,
        );
        let gid = translate(
            stat.st_gid,
            self.from.as_ref(),
            self.to.as_ref(),
            IdMap::container_gid,
            IdMap::host_gid,
        );
        match (uid, gid) {
            (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
            _ => Err(io::Error::other("an owner is in one of the maps only")),
        }
    }
}

fn translate(
    id: u32,
    from: Option<&IdMap>,
    to: Option<&IdMap>,
    back: fn(&IdMap, u32) -> Option<u32>,
    forth: fn(&IdMap, u32) -> Option<u32>,
) -> Option<u32> {
    let inside = from.map_or(Some(id), |map| back(map, id))?;
    to.map_or(Some(inside), |map| forth(map, inside))
}

struct Copy {
    root: OwnedFd,
    /// Where the first copy of a file with several names is.
    links: HashMap<(u64, u64), PathBuf>,
    owners: Owners,
    fill: Fill,
    buffer: Vec<u8>,
}

impl Copy {
    fn tree(&mut self, source: OwnedFd, target: OwnedFd) -> io::Result<()> {
        let mut left: Vec<Vec<CString>> = vec![names(&source)?];
        let (mut sources, mut targets) = (Trail::new(source)?, Trail::new(target)?);
        let mut path = PathBuf::new();
        while let Some(names_left) = left.last_mut() {
            let Some(name) = names_left.pop() else {
                left.pop();
                path.pop();
                let (source, target) = (sources.leave()?, targets.leave()?);
                self.metadata(source.as_fd(), target.as_fd())?;
                continue;
            };
            let (from, to) = (sources.here(), targets.here());
            let stat = statat(from, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            path.push(OsStr::from_bytes(name.to_bytes()));
            if kelp_copy::is_directory(&stat) {
                let source = openat(from, &name, DIRECTORY, Mode::empty())?;
                let target = kelp_copy::make_directory(to, &name)?;
                left.push(names(&source)?);
                sources.enter(source)?;
                targets.enter(target)?;
            } else {
                self.other(from, to, &name, &stat, &path)?;
                path.pop();
            }
        }
        Ok(())
    }

    fn other(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        path: &Path,
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            let place = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&place) {
                return Ok(linkat(&self.root, first, to, name, AtFlags::empty())?);
            }
            self.links.insert(place, path.to_owned());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.regular(from, to, name, stat),
            FileType::Symlink => symlinkat(&*readlinkat(from, name, Vec::new())?, to, name)?,
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                mknodat(to, name, FileType::Fifo, mode, 0)?;
            }
            // Nobody's, as the extractor makes it.
            FileType::CharacterDevice if is_whiteout(stat) => {
                return Ok(mknodat(
                    to,
                    name,
                    FileType::CharacterDevice,
                    Mode::empty(),
                    0,
                )?);
            }
            _ => return Err(io::Error::other("a kind that no layer has")),
        }
        let (uid, gid) = self.owners.of(stat)?;
        chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(utimensat(
            to,
            name,
            &times(stat),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    fn regular(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
    ) -> io::Result<()> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
        let target = openat(
            to,
            name,
            flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
            Mode::RUSR | Mode::WUSR,
        )?;
        if stat.st_size > 0 {
            (self.fill)(source.as_fd(), target.as_fd())?;
        }
        self.metadata(source.as_fd(), target.as_fd())
    }

    /// Owner first, which takes set-id bits and capabilities away; then attributes, which need the right
    /// to write; then the mode, and the times.
    fn metadata(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        let stat = fstat(from)?;
        let (uid, gid) = self.owners.of(&stat)?;
        fchown(to, Some(uid), Some(gid))?;
        self.attributes(from, to)?;
        fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        Ok(futimens(to, &times(&stat))?)
    }

    fn attributes(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        let (list, buffer) = self.buffer.split_at_mut(LIMIT);
        let length = match flistxattr(from, &mut *list) {
            Err(rustix::io::Errno::OPNOTSUPP) => 0,
            length => length?,
        };
        for name in list[..length].split_inclusive(|&byte| byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            let bytes = name.to_bytes();
            let is_own = bytes.starts_with(b"user.");
            let is_capability = bytes == b"security.capability";
            let is_list = bytes.starts_with(b"system.posix_acl_");
            if !(is_own || is_capability || is_list) {
                // The host's.
                continue;
            }
            let length = fgetxattr(from, name, &mut *buffer)?;
            let mut value = buffer[..length].to_vec();
            if is_capability {
                // Without the root that it was for.
                value.truncate(20);
                if let Some(revision) = value.get_mut(3) {
                    *revision = 2;
                }
                if let Some(to) = &self.owners.to {
                    let root = to.host_uid(0).ok_or_else(|| io::Error::other("no root"))?;
                    capability(&mut value, root);
                }
            }
            if is_list {
                self.owners.translate_list(&mut value)?;
            }
            fsetxattr(to, name, &value, XattrFlags::empty())?;
        }
        Ok(())
    }
}

impl Owners {
    fn translate_list(&self, value: &mut [u8]) -> io::Result<()> {
        if self.from.is_some() {
            // Rare enough to be left to the extractor.
            return Err(io::Error::other("an access control list of another map"));
        }
        if let Some(to) = &self.to {
            access_control_list(value, to);
        }
        Ok(())
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.st_mtime as _,
        tv_nsec: stat.st_mtime_nsec as _,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::File;

    use super::*;
    use crate::tar::build::Archive;
    use crate::unpack::Ownership;
    use crate::verify::{Differences, Extracted, verify};

    #[test]
    fn a_copy_is_what_the_archive_says_and_its_sibling_stays() {
        let data = tempfile::tempdir().unwrap();
        let archive = Archive::new()
            .directory("etc")
            .mode(0o4755)
            .file("etc/suid", b"hello")
            .mode(0o444)
            .file("etc/a", &vec![7; 100_000])
            .hard_link("again", "etc/a")
            .symlink("etc/link", "a")
            .pax(&[("SCHILY.xattr.user.x", b"y")])
            .file("etc/attributed", b"z")
            .entry(b'6', "pipe", "", b"")
            .file("etc/.wh.gone", b"")
            .mode(0o750)
            .directory("var")
            .file("var/.wh..wh..opq", b"")
            .file("var/x", b"")
            .end();
        let [one, other] = ["0000000000000001", "0000000000000002"]
            .map(|key| LayerStore::open(data.path(), key).unwrap());
        let umask = rustix::process::umask(Mode::empty());
        let layer = one
            .extract(io::Cursor::new(archive.clone()), Ownership::Single)
            .unwrap();
        let diff_id = layer.publish(None).unwrap();
        let owners = || Owners {
            from: None,
            to: None,
        };
        let by_hand: Fill = |from, to| {
            let (mut from, mut to) = (
                File::from(from.try_clone_to_owned()?),
                File::from(to.try_clone_to_owned()?),
            );
            io::copy(&mut from, &mut to).map(drop)
        };
        let copied = copy(&one, &other, &diff_id, owners(), by_hand);
        rustix::process::umask(umask);
        copied.unwrap();
        for layers in [&one, &other] {
            let extracted = Extracted {
                directory: &layers.path(&diff_id),
                tmp: &data.path().join("tmp"),
                ownership: Ownership::Single,
                ids: None,
            };
            let verdict = verify(&extracted, io::Cursor::new(archive.clone())).unwrap();
            assert_eq!(verdict.differences, Differences::default());
            assert_eq!(layers.info(&diff_id).unwrap(), Some(verdict.info));
        }
        // What can't be shared leaves nothing.
        let third = LayerStore::open(data.path(), "0000000000000003").unwrap();
        let refused: Fill = |_, _| Err(io::ErrorKind::Unsupported.into());
        copy(&one, &third, &diff_id, owners(), refused).unwrap_err();
        assert!(!third.contains(&diff_id));
        assert_eq!(fs::read_dir(data.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn owners_go_through_both_maps() {
        let map = |word: &str| IdMap::from_word(word);
        let owner = |from: Option<IdMap>, to: Option<IdMap>, id: u32| {
            translate(
                id,
                from.as_ref(),
                to.as_ref(),
                IdMap::container_uid,
                IdMap::host_uid,
            )
        };
        let keep_id = || map("0:1:1000,1000:0:1,1001:1001:64000/0:0:1");
        assert_eq!(owner(None, keep_id(), 0), Some(1));
        assert_eq!(owner(None, keep_id(), 1000), Some(0));
        assert_eq!(owner(keep_id(), None, 0), Some(1000));
        assert_eq!(owner(keep_id(), map("0:5:10/0:0:1"), 3), Some(7));
        assert_eq!(owner(keep_id(), map("0:5:10/0:0:1"), 0), None);
    }
}
