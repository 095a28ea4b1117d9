//! Lists of what was installed together: `.NAME.app` and `.UNIT.asset`, a file's name a line.
//!
//! What is in a list is deleted with it. So a list is no more than its lines are worth: it may come from an archive
//! or a clone of somebody's files, and only names beneath its own directory are taken from it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::find::read_regular;

/// The largest list that is read; bytes. One has some hundred.
const LARGEST: u64 = 1 << 20;

/// A list, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct List {
    /// Its name without the dot before it: `shop.app`, `web.container.asset`.
    pub name: String,
    /// The files, beneath the directory of the list.
    pub files: Vec<String>,
}

impl List {
    /// The application that it is of; nothing of a list of one unit.
    pub fn application(&self) -> Option<&str> {
        self.name.strip_suffix(".app")
    }

    /// Where it is, in its directory.
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(format!(".{}", self.name))
    }
}

/// The lists in a directory, in the order of their names.
pub(crate) fn lists(directory: &Path) -> Vec<List> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || !is_list(&name) {
            continue;
        }
        let text = read_regular(&entry.path(), LARGEST).ok();
        if let Some(text) = text.and_then(|bytes| String::from_utf8(bytes).ok()) {
            found.push(List {
                name: name[1..].to_owned(),
                files: text
                    .lines()
                    .filter(|line| is_beneath(line))
                    .map(str::to_owned)
                    .collect(),
            });
        }
    }
    found.sort();
    found
}

/// Whether a file is a list by its name.
fn is_list(name: &str) -> bool {
    let Some(rest) = name.strip_prefix('.') else {
        return false;
    };
    let of = rest
        .strip_suffix(".app")
        .or_else(|| rest.strip_suffix(".asset"));
    of.is_some_and(|of| !of.is_empty())
}

/// Whether something names a file beneath a directory, one that is no list itself and that a list can name.
pub(crate) fn is_beneath(name: &str) -> bool {
    let plain = |part| match part {
        Component::Normal(part) => part.to_str().is_some_and(|part| !is_list(part)),
        _ => false,
    };
    !name.is_empty()
        && !name.contains(|char: char| char.is_ascii_control())
        && Path::new(name).components().all(plain)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_names_beneath_are_taken_from_a_list() {
        let home = tempfile::TempDir::new().unwrap();
        let text = "web.container\n/etc/passwd\n../x\nsub/../../x\n./x\n\nsub/seed.sql\n.a.app\n.b.asset\na/.b.app/c\na\tb\n";
        fs::write(home.path().join(".shop.app"), text).unwrap();
        let expected = List {
            name: "shop.app".into(),
            files: vec!["web.container".into(), "sub/seed.sql".into()],
        };
        assert_eq!(expected.application(), Some("shop"));
        assert_eq!(lists(home.path()), [expected]);
    }

    #[test]
    fn what_is_no_small_regular_file_is_no_list() {
        let home = tempfile::TempDir::new().unwrap();
        let path = |name: &str| home.path().join(name);
        fs::write(path("elsewhere"), "web.container\n").unwrap();
        symlink("elsewhere", path(".link.app")).unwrap();
        fs::create_dir(path(".directory.app")).unwrap();
        // Nobody writes to it: whoever reads it waits.
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path(".fifo.app"), fifo, mode, 0).unwrap();
        let large = fs::File::create(path(".large.app")).unwrap();
        large.set_len(LARGEST + 1).unwrap();
        fs::write(path(".bytes.app"), b"\xff\n").unwrap();
        for name in ["shop.app", "..app", ".asset", ".shop.appx"] {
            fs::write(path(name), "web.container\n").unwrap();
        }
        assert_eq!(lists(home.path()), []);
    }
}
