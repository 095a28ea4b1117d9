//! Paths that lead to a file that a process has open, such as /dev/stdout and /dev/fd/3.
//!
//! What such a path shows as its name is only where the file is: who put another file there would lose what was
//! written before, and whoever has the file open would go on writing to one that has no name. And who opens the
//! path anew writes from the beginning of the file. So what is open is taken as it is, with its offset.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{PROC_SUPER_MAGIC, statfs};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// How many links are followed, as the kernel has it (path_resolution(7)).
const LINKS: usize = 40;

/// What a path leads to, if that is something that a process has open; nothing for any other path.
pub(crate) fn open_at(path: &Path) -> io::Result<Option<File>> {
    let Some(place) = place(path) else {
        return Ok(None);
    };
    let own = Path::new("/proc").join(getpid().to_string()).join("fd");
    let number = place.file_name().and_then(|name| name.to_str());
    let number = number.filter(|_| place.parent() == Some(&own));
    if let Some(number) = number.and_then(|number| number.parse().ok()) {
        let taken = pidfd_open(getpid(), PidfdFlags::empty())
            .and_then(|process| pidfd_getfd(process, number, PidfdGetfdFlags::empty()));
        if let Ok(taken) = taken {
            return Ok(Some(taken.into()));
        }
    }
    // Another process's, or where such calls are not allowed: then at least nothing is overwritten.
    File::options().append(true).open(path).map(Some)
}

/// Where in /proc a path leads, as far as it does.
fn place(path: &Path) -> Option<PathBuf> {
    let mut path = std::path::absolute(path).ok()?;
    for _ in 0..LINKS {
        let parent = fs::canonicalize(path.parent()?).ok()?;
        let place = parent.join(path.file_name()?);
        let target = fs::read_link(&place).ok()?;
        if statfs(&parent).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC)
            && parent.file_name().is_some_and(|name| name == "fd")
        {
            return Some(place);
        }
        path = parent.join(target);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_open_is_written_on_from_where_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"before ").unwrap();
        let link = directory.path().join("link");
        symlink(format!("/proc/self/fd/{}", file.as_raw_fd()), &link).unwrap();
        for way in [
            format!("/dev/fd/{}", file.as_raw_fd()).as_str(),
            link.to_str().unwrap(),
        ] {
            let mut open = open_at(Path::new(way)).unwrap().unwrap();
            open.write_all(b"more ").unwrap();
        }
        file.write_all(b"after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before more more after");
    }

    #[test]
    fn other_paths_are_nothing_that_is_open() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("fd"), directory.path().join("l"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        symlink("round", directory.path().join("round")).unwrap();
        for path in [
            &file,
            &link,
            &directory.path().join("round"),
            &directory.path().join("no/where"),
        ] {
            assert!(open_at(path).unwrap().is_none(), "{}", path.display());
        }
        for path in ["/dev/null", "/proc/self/status", "/"] {
            assert!(open_at(Path::new(path)).unwrap().is_none(), "{path}");
        }
        assert!(open_at(Path::new("/dev/fd/987654")).unwrap().is_none());
    }
}
