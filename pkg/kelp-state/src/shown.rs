//! Where images and containers are mounted for the user, by `kelp mount` and `kelp image mount`.
//!
//! Nothing is written down: a mount lasts as long as the mount namespace that it is in, which may end
//! without a word, and so the kernel's own tables are what is asked (proc_pid_mountinfo(5)). All there is on
//! disk is the directory that a mount is on, `mounts/images/<id>` or `mounts/containers/<id>` of the data
//! directory. Where that is missing nothing is mounted anywhere, which is all that most commands look at.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use crate::error::Error;
use crate::id::ContainerId;

const OWN_TABLE: &str = "/proc/self/mountinfo";

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image.
    Image,
    /// A container.
    Container,
}

impl Kind {
    fn directory(self, data: &Path) -> PathBuf {
        data.join("mounts").join(match self {
            Self::Image => "images",
            Self::Container => "containers",
        })
    }
}

/// Where one image or container is mounted, in every mount namespace in which it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(PathBuf);

/// Who sees a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nobody: there is none.
    Nowhere,
    /// The calling process.
    Here,
    /// This process, in another mount namespace.
    By(u32),
}

impl Place {
    /// That of an image, by its id.
    pub fn of_image(data: &Path, id: &str) -> Self {
        Self(Kind::Image.directory(data).join(id))
    }

    /// That of a container.
    pub fn of_container(data: &Path, id: &ContainerId) -> Self {
        Self(Kind::Container.directory(data).join(id.as_str()))
    }

    /// All that are mounted in the calling process's mount namespace: their ids and where they are.
    pub fn all_here(data: &Path, kind: Kind) -> Result<Vec<(String, PathBuf)>, Error> {
        let directory = kind.directory(data);
        let Ok(real) = fs::canonicalize(&directory) else {
            return Ok(Vec::new());
        };
        let table = read_table(OWN_TABLE)?;
        let mut found: Vec<_> = points(&table)
            .map(unescape)
            .filter(|point| point.parent() == Some(&real))
            .filter_map(|point| Some(point.file_name()?.to_str()?.to_owned()))
            .map(|id| (id.clone(), directory.join(id)))
            .collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Every place, of whatever kind, that there may be a mount on.
    pub fn all(data: &Path) -> Vec<Self> {
        let directories = [Kind::Image, Kind::Container].map(|kind| kind.directory(data));
        let entries = directories
            .iter()
            .filter_map(|path| fs::read_dir(path).ok());
        let entries = entries.flatten().flatten();
        entries.map(|entry| Self(entry.path())).collect()
    }

    /// [`Place::forget`], of all.
    pub fn forget_all(data: &Path) {
        for place in Self::all(data) {
            place.forget();
        }
    }

    /// Takes the directory away if nothing is mounted on it anywhere. The caller has the lock that who
    /// mounts something has.
    pub fn tidy(&self) {
        if matches!(self.seen(), Ok(Seen::Nowhere)) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    /// Whether something is mounted here where the calling process is.
    pub fn is_here(&self) -> Result<bool, Error> {
        let Some(name) = self.written() else {
            return Ok(false);
        };
        Ok(points(&read_table(OWN_TABLE)?).any(|point| point == name))
    }

    /// As a table writes it; `None` where there is no directory.
    fn written(&self) -> Option<Vec<u8>> {
        fs::canonicalize(&self.0).ok().map(|real| escape(&real))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the directory, to mount something on it. The caller has a lock that keeps others from
    /// [`Place::forget`].
    pub fn make(&self) -> Result<(), Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(Error::io(format!("create {}", self.0.display())))
    }

    /// Who sees a mount here. What others have in their mount namespaces is found by looking at every
    /// process.
    pub fn seen(&self) -> Result<Seen, Error> {
        if !self.0.exists() {
            return Ok(Seen::Nowhere);
        }
        let Some(name) = self.written() else {
            return Ok(Seen::Nowhere);
        };
        let has = |table: &[u8]| points(table).any(|point| point == name);
        if has(&read_table(OWN_TABLE)?) {
            return Ok(Seen::Here);
        }
        let processes = fs::read_dir("/proc").map_err(Error::io("read /proc"))?;
        for process in processes.flatten() {
            let number = process.file_name().to_str().and_then(|it| it.parse().ok());
            let Some(number) = number else { continue };
            // A process that has ended meanwhile, or is another user's, has none that matters.
            if fs::read(process.path().join("mountinfo")).is_ok_and(|table| has(&table)) {
                return Ok(Seen::By(number));
            }
        }
        Ok(Seen::Nowhere)
    }

    /// Takes the topmost mount away from the calling process's mount namespace; with `force` also one in
    /// which somebody has a file or a working directory.
    pub fn unmount(&self, force: bool) -> io::Result<()> {
        let mut flags = UnmountFlags::NOFOLLOW;
        flags.set(UnmountFlags::DETACH, force);
        Ok(unmount(&self.0, flags)?)
    }

    /// Takes all mounts here away from the calling process's mount namespace.
    pub fn unmount_here(&self) {
        while self.unmount(true).is_ok() {}
    }

    /// Takes the directory away, and with it what is mounted on it in other mount namespaces: the kernel
    /// detaches that where a directory goes.
    pub fn forget(&self) {
        if !self.0.is_dir() {
            return;
        }
        self.unmount_here();
        // A mount that stays keeps it (EBUSY).
        let _ = fs::remove_dir(&self.0);
    }
}

fn read_table(path: &str) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::io(format!("read {path}")))
}

/// Where things are mounted, as a table writes it.
fn points(table: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = table.split(|&byte| byte == b'\n');
    lines.filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
}

/// A path as a table writes it: with octal numbers for what is written between fields.
fn escape(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend(format!("\\{byte:03o}").bytes()),
            _ => text.push(byte),
        }
    }
    text
}

fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let number = after.get(..3).filter(|_| first == b'\\');
        let number = number.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = number.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = if byte.is_some() { &after[3..] } else { after };
        bytes.push(byte.unwrap_or(first));
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_in_a_table() {
        let path = Path::new("/a b/c\\d/\u{e4}\n");
        let text = escape(path);
        assert_eq!(text, "/a\\040b/c\\134d/\u{e4}\\012".as_bytes());
        assert_eq!(unescape(&text), path);
        assert_eq!(unescape(b"/x\\04"), Path::new("/x\\04"));
    }

    #[test]
    fn where_things_are_mounted_is_the_fifth_field() {
        let table = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n\
                      37 35 0:5 / /a\\040b rw - overlay overlay rw\n";
        let found: Vec<_> = points(table).map(unescape).collect();
        assert_eq!(found, [Path::new("/mnt2"), Path::new("/a b")]);
    }

    #[test]
    fn where_there_is_no_directory_nothing_is_mounted() {
        let data = tempfile::tempdir().unwrap();
        let place = Place::of_image(data.path(), "00");
        assert_eq!(place.seen().unwrap(), Seen::Nowhere);
        place.make().unwrap();
        assert_eq!(place.seen().unwrap(), Seen::Nowhere);
        assert_eq!(Place::all_here(data.path(), Kind::Image).unwrap(), []);
        place.forget();
        assert!(!place.path().exists());
    }
}
