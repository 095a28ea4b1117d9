//! Where a copy goes: what `cp` means by its arguments, decided from text and from what is there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;

/// One side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A path in a container, by the container's name or id.
    Container(String, String),
    /// A path of the host.
    Host(PathBuf),
    /// An archive on standard input or output.
    Stream,
}

impl End {
    /// From an argument: `-`, `CONTAINER:PATH` or a path. What begins with `/` or `.` is a path, so
    /// that one with a colon can be written as `./a:b`.
    pub fn parse(text: &OsStr) -> Self {
        if text == "-" {
            return Self::Stream;
        }
        if let Some(text) = text.to_str()
            && !text.starts_with(['/', '.'])
            && let Some((container, path)) = text.split_once(':')
            && !container.is_empty()
        {
            return Self::Container(container.to_owned(), path.to_owned());
        }
        Self::Host(PathBuf::from(text))
    }

    /// Whether nothing is said of where in the container or on the host.
    pub fn lacks_path(&self) -> bool {
        match self {
            Self::Container(_, path) => path.is_empty(),
            Self::Host(path) => path.as_os_str().is_empty(),
            Self::Stream => false,
        }
    }
}

/// What is copied, as far as it matters for where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Source {
    /// Whether it is a directory.
    pub(super) directory: bool,
    /// Whether only its content is meant: the path ends in `/.`.
    pub(super) contents: bool,
    /// The last component of its path; empty where that is none, as in `/tmp/..`.
    pub(super) name: String,
}

impl Source {
    /// Whether what it holds is copied, and not it.
    fn is_content(&self) -> bool {
        // Without a name it can't get one in a directory either.
        self.contents || self.name.is_empty()
    }
}

/// What is at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// Where the source itself goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It gets a name in the destination, a directory.
    Under(OsString),
    /// What it holds goes into the destination, a directory.
    Into,
    /// It becomes the destination.
    As,
}

/// Whether a path says that it names a directory, and whether that one's content.
pub(super) fn ending(path: &Path) -> (bool, bool) {
    let bytes = path.as_os_str().as_bytes();
    let contents = matches!(bytes, b"." | b"/" | b"./") || bytes.ends_with(b"/.");
    (contents || bytes.ends_with(b"/"), contents)
}

/// Decides; `as_directory` is whether the destination's path says that it is a directory.
pub(super) fn place(
    source: &Source,
    there: There,
    as_directory: bool,
    overwrite: bool,
) -> Result<Place, Error> {
    match (source.directory, there) {
        (true, There::Directory) if source.is_content() => Ok(Place::Into),
        (_, There::Directory) => Ok(Place::Under(OsString::from(&source.name))),
        (true, There::Other) if !overwrite || as_directory => Err(Error::invalid(
            "destination must be a directory when copying a directory",
        )),
        (false, There::Nothing | There::Other) if as_directory => Err(Error::invalid(
            "the destination path ends with a slash, and is no directory",
        )),
        (_, There::Nothing | There::Other) => Ok(Place::As),
    }
}

/// A path's text without `.`, `..` and double slashes, from the root and without its slash; `..`
/// stops at the root.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => cleaned.push(name),
            std::path::Component::ParentDir => drop(cleaned.pop()),
            _ => {}
        }
    }
    cleaned
}

/// The name of an entry, moved beneath `prefix`; `None` if it leads out of the archive's own root.
/// What is left of the name itself may be empty: the archive's root.
pub(super) fn beneath(prefix: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut depth = 0_usize;
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => depth = depth.checked_sub(1)?,
            _ => depth += 1,
        }
    }
    Some([prefix, b"/", name].concat())
}

/// Whether a name is the archive's own root.
pub(super) fn is_top(name: &[u8]) -> bool {
    name.split(|&byte| byte == b'/')
        .all(|component| matches!(component, b"" | b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_containers_paths_and_streams() {
        let container = |name: &str, path: &str| End::Container(name.into(), path.into());
        for (text, expected) in [
            ("-", End::Stream),
            ("web:/etc", container("web", "/etc")),
            ("web:", container("web", "")),
            ("web:a:b", container("web", "a:b")),
            ("./a:b", End::Host("./a:b".into())),
            ("/a:b", End::Host("/a:b".into())),
            ("../a:b", End::Host("../a:b".into())),
            (":a", End::Host(":a".into())),
            ("a", End::Host("a".into())),
            ("./-", End::Host("./-".into())),
        ] {
            assert_eq!(End::parse(OsStr::new(text)), expected, "{text}");
        }
    }

    #[test]
    fn endings_say_what_is_meant() {
        for (path, expected) in [
            ("a", (false, false)),
            ("a/", (true, false)),
            ("a/.", (true, true)),
            (".", (true, true)),
            ("/", (true, true)),
            ("a.", (false, false)),
            ("..", (false, false)),
        ] {
            assert_eq!(ending(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn the_place_depends_on_what_is_there() {
        let source = |directory, contents| Source {
            directory,
            contents,
            name: "x".to_owned(),
        };
        let under = || Some(Place::Under("x".into()));
        for (directory, contents, there, slash, expected) in [
            (false, false, There::Nothing, false, Some(Place::As)),
            (false, false, There::Nothing, true, None),
            (false, false, There::Other, false, Some(Place::As)),
            (false, false, There::Other, true, None),
            (false, false, There::Directory, false, under()),
            (false, false, There::Directory, true, under()),
            (true, false, There::Nothing, false, Some(Place::As)),
            (true, false, There::Nothing, true, Some(Place::As)),
            (true, true, There::Nothing, false, Some(Place::As)),
            (true, false, There::Other, false, None),
            (true, false, There::Directory, false, under()),
            (true, true, There::Directory, false, Some(Place::Into)),
        ] {
            let found = place(&source(directory, contents), there, slash, false).ok();
            assert_eq!(found, expected, "{directory} {contents} {there:?} {slash}");
        }
        let found = place(&source(true, false), There::Other, false, true).ok();
        assert_eq!(found, Some(Place::As));
        let nameless = Source {
            name: String::new(),
            ..source(true, false)
        };
        let found = place(&nameless, There::Directory, false, false).ok();
        assert_eq!(found, Some(Place::Into));
    }

    #[test]
    fn names_of_an_archive_stay_beneath_its_root() {
        for (name, expected) in [
            ("a", Some("p/a")),
            ("./a/../b", Some("p/./a/../b")),
            ("/a", Some("p//a")),
            ("..", None),
            ("a/../../b", None),
            ("/../a", None),
        ] {
            let found = beneath(b"p", name.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{name}");
        }
        assert_eq!(clean(Path::new("/../a/./b//../c/")), Path::new("a/c"));
        assert_eq!(clean(Path::new("/")), Path::new(""));
    }
}
