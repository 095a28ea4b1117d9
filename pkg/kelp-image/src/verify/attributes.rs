//! Comparing extended attributes.
//!
//! Not every file system takes every attribute, and the extractor goes on without those that it does
//! not. So what is missing is tried on a scratch file: only what could be set is damage.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, XattrFlags, fgetxattr, flistxattr, fsetxattr, openat};
use rustix::io::Errno;

use crate::temporary;
use crate::unpack::path::show;
use crate::unpack::whiteout::OPAQUE;

/// The most bytes of a list of names, and of a value (xattr(7)).
const LIMIT: usize = 64 << 10;

const CAPABILITY: &[u8] = b"security.capability";
const ACL: &[u8] = b"system.posix_acl_";

/// Compares attributes of files on one file system.
#[derive(Debug)]
pub(super) struct Attributes {
    tmp: PathBuf,
    /// A directory to try things in, held while it is used.
    scratch: Option<(PathBuf, File)>,
    buffer: Vec<u8>,
}

impl Attributes {
    /// Tries in a directory for temporary things on the layers' file system.
    pub(super) fn new(tmp: PathBuf) -> Self {
        Self {
            tmp,
            scratch: None,
            buffer: vec![0; LIMIT],
        }
    }

    /// What is wrong with an open file's attributes.
    pub(super) fn compare(
        &mut self,
        file: BorrowedFd<'_>,
        expected: &BTreeMap<Vec<u8>, Vec<u8>>,
        is_directory: bool,
    ) -> rustix::io::Result<Vec<String>> {
        let found = self.names(file)?;
        let mut differences = Vec::new();
        for (name, value) in expected {
            let (wanted, is_there) = (normal(name, value), found.contains(name));
            if is_there && normal(name, &self.value(file, name)?) == wanted {
                continue;
            }
            if is_there {
                differences.push(format!("has another value of {}", show(name)));
            } else if !(name.starts_with(ACL) && wanted.is_empty())
                && self.can_be_set(name, value, is_directory)
            {
                differences.push(format!("lacks {}", show(name)));
            }
        }
        for name in found.iter().filter(|name| is_compared(name)) {
            if !expected.contains_key(name) {
                differences.push(format!("has {}, which is not in the archive", show(name)));
            }
        }
        Ok(differences)
    }

    fn names(&mut self, file: BorrowedFd<'_>) -> rustix::io::Result<BTreeSet<Vec<u8>>> {
        let length = match flistxattr(file, &mut self.buffer[..]) {
            Err(Errno::OPNOTSUPP) => 0,
            length => length?,
        };
        let names = self.buffer[..length].split(|&byte| byte == 0);
        Ok(names
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect())
    }

    fn value(&mut self, file: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Vec<u8>> {
        let length = fgetxattr(file, name, &mut self.buffer[..])?;
        Ok(self.buffer[..length].to_vec())
    }

    /// Whether the file system and the kernel take an attribute.
    fn can_be_set(&mut self, name: &[u8], value: &[u8], is_directory: bool) -> bool {
        let scratch = match &self.scratch {
            Some(scratch) => scratch,
            None => match temporary::create_directory(&self.tmp, "attributes") {
                Ok(made) => self.scratch.insert(made),
                Err(_) => return true,
            },
        };
        let set = |file: BorrowedFd<'_>| fsetxattr(file, name, value, XattrFlags::empty()).is_ok();
        if is_directory {
            return set(scratch.1.as_fd());
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        openat(&scratch.1, "file", flags, Mode::RUSR | Mode::WUSR)
            .map_or(true, |file| set(file.as_fd()))
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        if let Some((path, _lock)) = self.scratch.take() {
            let _ = crate::remove::remove_tree(&path);
        }
    }
}

/// Whether a file gets an access control list.
pub(super) fn has_acl(attributes: &BTreeMap<Vec<u8>, Vec<u8>>) -> bool {
    attributes.contains_key(&b"system.posix_acl_access"[..])
}

/// Whether an attribute that the archive lacks is one too many: the rest is the host's.
fn is_compared(name: &[u8]) -> bool {
    name != OPAQUE.as_bytes()
        && (name.starts_with(b"user.") || name == CAPABILITY || name.starts_with(ACL))
}

/// A value as it can be compared: the kernel writes capabilities down with the root that they are for, and
/// keeps of an access control list what the mode does not say in the mode (acl(5)).
fn normal(name: &[u8], value: &[u8]) -> Vec<u8> {
    if name == CAPABILITY && value.len() >= 20 {
        let root = value.get(20..24).unwrap_or(&[0; 4]);
        // The revision is in the highest byte.
        return [&value[..3], &value[4..20], root].concat();
    }
    if name.starts_with(ACL) {
        let entries = value.get(4..).unwrap_or_default().chunks_exact(8);
        // Of a user and of a group that has a name.
        let mut named: Vec<_> = entries.filter(|entry| matches!(entry[0], 2 | 8)).collect();
        named.sort_unstable();
        return named.concat();
    }
    value.to_vec()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_differs_is_named_and_what_can_not_be_is_not() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("tmp")).unwrap();
        let file = File::create(directory.path().join("file")).unwrap();
        let set = |name: &str| fsetxattr(&file, name, b"1", XattrFlags::empty());
        if set("user.same").is_err() {
            // A file system without any.
            return;
        }
        set("user.other").unwrap();
        set("user.more").unwrap();
        let value = |text: &str| text.as_bytes().to_vec();
        let expected = [
            ("user.same", "1"),
            ("user.other", "2"),
            ("user.gone", "1"),
            // Nobody may set it so.
            ("security.capability", "x"),
        ]
        .map(|(name, text)| (value(name), value(text)));
        let mut attributes = Attributes::new(directory.path().join("tmp"));
        let found = attributes.compare(file.as_fd(), &expected.into(), false);
        assert_eq!(
            found.unwrap(),
            [
                "lacks user.gone",
                "has another value of user.other",
                "has user.more, which is not in the archive",
            ]
        );
        drop(attributes);
        assert_eq!(
            fs::read_dir(directory.path().join("tmp")).unwrap().count(),
            0
        );
    }

    #[test]
    fn capabilities_are_compared_without_their_revision() {
        let of = |revision: u8, root: &[u8]| [&[1, 0, 0, revision][..], &[7; 16], root].concat();
        let normal = |value: Vec<u8>| normal(CAPABILITY, &value);
        assert_eq!(normal(of(2, &[])), normal(of(3, &[0; 4])));
        assert_ne!(normal(of(2, &[])), normal(of(3, &[1, 0, 0, 0])));
    }
}
