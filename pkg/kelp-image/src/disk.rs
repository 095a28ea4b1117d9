//! What trees take of the disk, as du(1) counts it: blocks, not bytes of content, and a file with several
//! names once.

use std::collections::HashSet;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use kelp_copy::DIRECTORY;
use kelp_copy::{Trail, names};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Stat, openat, statat};
use rustix::io::Errno;

/// The unit of `st_blocks` (stat(3type)).
const BLOCK: u64 = 512;

/// The bytes that a file, or a tree with its directories, takes: `du -s -B1`. What is not there takes
/// none; a link is not followed.
pub fn used(path: &Path) -> io::Result<u64> {
    let mut usage = Usage::default();
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(0),
        stat => usage.add(&stat?),
    }
    match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
        Ok(directory) => usage.tree(directory)?,
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(usage.bytes)
}

#[derive(Default)]
struct Usage {
    bytes: u64,
    /// Files with several names that were counted.
    counted: HashSet<(u64, u64)>,
}

impl Usage {
    fn add(&mut self, stat: &Stat) {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let several = stat.st_nlink > 1 && !is_directory;
        if !several || self.counted.insert((stat.st_dev, stat.st_ino)) {
            self.bytes += stat.st_blocks.cast_unsigned() * BLOCK;
        }
    }

    fn tree(&mut self, directory: OwnedFd) -> io::Result<()> {
        let mut left = vec![names(&directory)?];
        let mut trail = Trail::new(directory)?;
        while let Some(names_left) = left.last_mut() {
            let Some(name) = names_left.pop() else {
                left.pop();
                trail.leave()?;
                continue;
            };
            let stat = match statat(trail.here(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                // It is a tree at work.
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            self.add(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                match openat(trail.here(), &name, DIRECTORY, Mode::empty()) {
                    Err(Errno::NOENT | Errno::NOTDIR) => {}
                    entered => {
                        let entered = entered?;
                        left.push(names(&entered)?);
                        trail.enter(entered)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Runs `kelp internal usage PATH…`: what each takes, a line each; `-` for one that can't be read.
pub fn main(arguments: &[String]) -> i32 {
    let mut answer = String::new();
    for path in arguments {
        let line = match used(&PathBuf::from(path)) {
            Ok(bytes) => bytes.to_string(),
            Err(_) => "-".to_owned(),
        };
        answer.push_str(&line);
        answer.push('\n');
    }
    match io::stdout().write_all(answer.as_bytes()) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn it_counts_as_du_does() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("a/b/c")).unwrap();
        fs::write(path("a/large"), vec![1; 300_000]).unwrap();
        fs::write(path("a/b/small"), "x").unwrap();
        fs::hard_link(path("a/large"), path("a/b/again")).unwrap();
        fs::File::create(path("a/hole"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        symlink("/usr", path("a/link")).unwrap();
        for name in ["a", "a/large", "a/link", "a/b/c"] {
            let du = Command::new("du")
                .args(["-s", "-B1"])
                .arg(path(name))
                .output();
            let said = String::from_utf8(du.unwrap().stdout).unwrap();
            let expected: u64 = said.split('\t').next().unwrap().parse().unwrap();
            assert_eq!(used(&path(name)).unwrap(), expected, "{name}");
        }
        assert_eq!(used(&path("none")).unwrap(), 0);
    }
}
