//! Names of images: `tags/<escaped reference>`, each a small file that says which image it means. Those of
//! artifacts are such files in a directory of their own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{sync_removal, write_document};
use crate::Error;
use crate::digest::Digest;

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The full reference, with a tag or a digest.
    pub reference: String,
    /// The image's id.
    pub image: Digest,
    /// The digest of the manifest that the name led to.
    pub manifest: Digest,
    /// The index all of whose images were asked for: they stay as long as this name does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
}

/// The directory of names.
#[derive(Clone, Debug)]
pub(super) struct Tags {
    directory: PathBuf,
}

/// The longest escaped name that is a file's name; file systems allow 255 bytes.
const NAME_LIMIT: usize = 240;

impl Tags {
    pub(super) fn new(data: &Path) -> Self {
        Self::at(&data.join("tags"))
    }

    /// Those that are kept in a directory, which need not be there yet.
    pub(super) fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    pub(super) fn path(&self, reference: &str) -> PathBuf {
        self.directory.join(escape(reference))
    }

    /// What a name stands for, if it is one.
    pub(super) fn get(&self, reference: &str) -> Result<Option<Tag>, Error> {
        let path = self.path(reference);
        match fs::read(&path) {
            Ok(text) => Ok(parse(&text).filter(|tag| tag.reference == reference)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("read {}", path.display()))(error)),
        }
    }

    /// Makes a name stand for an image, whatever it stood for before.
    pub(super) fn set(&self, data: &Path, tag: &Tag) -> Result<(), Error> {
        write_document(data, &self.path(&tag.reference), tag)
    }

    /// Takes a name away; the caller is to [`Tags::sync`].
    pub(super) fn remove(&self, reference: &str) -> Result<(), Error> {
        let path = self.path(reference);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("remove {}", path.display()))(error))
            }
            _ => Ok(()),
        }
    }

    /// Makes removals outlive a power cut.
    pub(super) fn sync(&self) -> Result<(), Error> {
        sync_removal(&self.directory)
    }

    /// Every name, in order.
    pub(super) fn list(&self) -> Result<Vec<Tag>, Error> {
        self.read().map(|(tags, _)| tags)
    }

    /// The same, and how many files are no names.
    pub(super) fn read(&self) -> Result<(Vec<Tag>, usize), Error> {
        let failed = |error| Error::io(format!("read {}", self.directory.display()))(error);
        let (mut tags, mut others) = (Vec::new(), 0);
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((tags, others)),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            // One that went meanwhile, or that is none of ours, is not there.
            let text = fs::read(entry.map_err(failed)?.path()).ok();
            match text.and_then(|text| parse(&text)) {
                Some(tag) => tags.push(tag),
                None => others += 1,
            }
        }
        tags.sort_unstable_by(|one, other| one.reference.cmp(&other.reference));
        Ok((tags, others))
    }
}

fn parse(text: &[u8]) -> Option<Tag> {
    serde_json::from_slice(text).ok()
}

/// A file name for a reference: what is neither letter, digit, `.`, `_` nor `-` becomes `%` and two
/// hex digits; one that would be too long is a digest instead.
fn escape(reference: &str) -> String {
    use std::fmt::Write;
    let mut escaped = String::new();
    for byte in reference.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    if escaped.len() > NAME_LIMIT || escaped.starts_with('.') {
        return format!("%{}", Digest::of(reference.as_bytes()).hex());
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_one_to_one() {
        let long = format!("registry/{}:tag", "a/".repeat(120));
        for (reference, expected) in [
            ("docker.io/library/a:b", "docker.io%2Flibrary%2Fa%3Ab"),
            ("localhost:5000/x_y-z:1.0", "localhost%3A5000%2Fx_y-z%3A1.0"),
            ("a%2Fb", "a%252Fb"),
        ] {
            assert_eq!(escape(reference), expected);
        }
        for odd in [long.as_str(), "..", ".", "../../etc"] {
            let escaped = escape(odd);
            assert!(
                escaped.len() == 65 && !escaped.contains(['/', '.']),
                "{escaped}"
            );
        }
    }
}
