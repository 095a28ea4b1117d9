//! The files of an artifact: which are meant, and what they are called where they are put.
//!
//! A title is whatever somebody has written. It is a file's name only if it can be nothing else: it names no other
//! directory, and nothing in it changes what a list or a terminal shows.

use std::collections::BTreeSet;

use oci_spec::image::ImageManifest;

use super::TITLE;
use crate::Error;
use crate::digest::Digest;

/// The longest name that file systems take, in bytes.
const NAME_LIMIT: usize = 255;

/// A file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactFile {
    /// The digest of its content.
    pub digest: Digest,
    /// Its size in bytes, as the manifest says.
    pub size: u64,
    /// What the manifest calls it; anything may be in it.
    pub title: Option<String>,
}

/// Which files of an artifact are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The one with this digest.
    pub digest: Option<&'a str>,
    /// The one with this title.
    pub title: Option<&'a str>,
}

impl ArtifactFile {
    /// The files of a manifest, in its order.
    pub fn all(manifest: &ImageManifest) -> Result<Vec<Self>, Error> {
        let files = manifest.layers().iter().map(|descriptor| {
            let annotations = descriptor.annotations().as_ref();
            let title = annotations.and_then(|annotations| annotations.get(TITLE));
            Ok(Self {
                digest: descriptor.digest().try_into()?,
                size: descriptor.size(),
                title: title.filter(|title| !title.is_empty()).cloned(),
            })
        });
        files.collect()
    }

    /// What it is called in a directory: its title, or else, and if it was chosen by it, its digest.
    pub fn name(&self, choice: Choice<'_>) -> Result<String, Error> {
        match &self.title {
            Some(title) if choice.digest.is_none() => {
                check_name(title)?;
                Ok(title.clone())
            }
            _ => Ok(self.digest.to_string().replace(':', "-")),
        }
    }
}

impl Choice<'_> {
    /// The files that are meant, at least one.
    pub fn of(self, files: Vec<ArtifactFile>) -> Result<Vec<ArtifactFile>, Error> {
        let (what, text) = match (self.digest, self.title) {
            (Some(_), Some(_)) => {
                return Err(Error::Invalid(
                    "a digest and a title exclude each other".to_owned(),
                ));
            }
            (None, None) if files.is_empty() => {
                return Err(Error::Invalid("the artifact has no blobs".to_owned()));
            }
            (None, None) => return Ok(files),
            (Some(digest), None) => ("digest", digest),
            (None, Some(title)) => ("title", title),
        };
        let is_meant = |file: &ArtifactFile| match self.title {
            Some(title) => file.title.as_deref() == Some(title),
            None => file.digest.to_string() == text || file.digest.hex() == text,
        };
        let mut meant: Vec<_> = files.into_iter().filter(is_meant).collect();
        // The same content twice is one file.
        meant.dedup_by(|one, other| one.digest == other.digest);
        match meant.len() {
            0 => Err(Error::Invalid(format!("no blob with the {what} {text:?}"))),
            1 => Ok(meant),
            _ => Err(Error::Invalid(format!(
                "more than one blob has the {what} {text:?}: choose by the digest"
            ))),
        }
    }

    /// Names for files that are put into one directory: no two are the same.
    pub fn names(self, files: &[ArtifactFile]) -> Result<Vec<String>, Error> {
        let mut seen = BTreeSet::new();
        let mut names = Vec::with_capacity(files.len());
        for file in files {
            let name = file.name(self)?;
            if !seen.insert(name.clone()) {
                return Err(Error::Invalid(format!(
                    "several blobs of the artifact have the name {name:?}: choose one by its digest"
                )));
            }
            names.push(name);
        }
        Ok(names)
    }
}

/// Refuses a title that is no name of a file in a directory.
fn check_name(name: &str) -> Result<(), Error> {
    match fault(name) {
        None => Ok(()),
        Some(why) => Err(Error::Invalid(format!(
            "invalid name {name:?}: it {why}; choose the blob by its digest"
        ))),
    }
}

/// The same of a name that a user gives, who can give another one.
pub fn check_given_name(name: &str) -> Result<(), Error> {
    match fault(name) {
        None => Ok(()),
        Some(why) => Err(Error::Invalid(format!(
            "invalid name {name:?}: it {why}; give the name of a file"
        ))),
    }
}

/// Why something is no name of a file in a directory.
fn fault(name: &str) -> Option<&'static str> {
    if name.contains('/') {
        Some("has a slash")
    } else if matches!(name, "" | "." | "..") {
        Some("is no file's name")
    } else if name.chars().any(char::is_control) {
        Some("has a control character")
    } else if name.chars().any(is_unseen) {
        Some("has a character that is not seen, or changes how others are shown")
    } else if name.len() > NAME_LIMIT {
        Some("is too long")
    } else {
        None
    }
}

/// Whether a character has no width, breaks a line or turns the direction of what is beside it (Unicode, general
/// categories Cf, Zl and Zp, and fillers that show nothing).
fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str, title: Option<&str>) -> ArtifactFile {
        ArtifactFile {
            digest: Digest::of(content.as_bytes()),
            size: content.len() as u64,
            title: title.map(str::to_owned),
        }
    }

    #[test]
    fn a_title_that_is_no_name_of_a_file_is_refused() {
        let long = "x".repeat(256);
        for (name, why) in [
            ("../../x", "has a slash"),
            ("/etc/passwd", "has a slash"),
            ("a/b", "has a slash"),
            ("..", "is no file's name"),
            (".", "is no file's name"),
            ("a\0b", "has a control character"),
            ("a\nb", "has a control character"),
            ("\u{1b}[2J", "has a control character"),
            ("a\u{202e}fdp.exe", "has a character that is not seen"),
            ("pass\u{200b}wd", "has a character that is not seen"),
            ("\u{2066}a", "has a character that is not seen"),
            ("a\u{2028}b", "has a character that is not seen"),
            ("\u{feff}a", "has a character that is not seen"),
            (long.as_str(), "is too long"),
        ] {
            let odd = file("a", Some(name));
            let error = odd.name(Choice::default()).unwrap_err().to_string();
            assert!(error.contains(why), "{name:?}: {error}");
            let digest = odd.digest.to_string();
            let by_digest = Choice {
                digest: Some(&digest),
                title: None,
            };
            assert_eq!(
                odd.name(by_digest).unwrap(),
                format!("sha256-{}", odd.digest.hex())
            );
        }
        for name in [
            "a", ".hidden", "…", "é", "e\u{301}", "名", "א", "a b", "-rf", "a\\b",
        ] {
            assert_eq!(file("a", Some(name)).name(Choice::default()).unwrap(), name);
        }
        let untitled = file("a", None).name(Choice::default()).unwrap();
        assert!(untitled.starts_with("sha256-"), "{untitled}");
    }

    #[test]
    fn a_choice_means_one_file() {
        let files = vec![
            file("1", Some("one")),
            file("2", Some("two")),
            file("3", Some("two")),
            file("4", None),
        ];
        let digest = Digest::of(b"4").to_string();
        let of = |digest, title| {
            let meant = Choice { digest, title }.of(files.clone());
            meant
                .map(|meant| meant.len())
                .map_err(|error| error.to_string())
        };
        assert_eq!(of(None, None), Ok(4));
        assert_eq!(of(None, Some("one")), Ok(1));
        assert_eq!(of(Some(&digest), None), Ok(1));
        for (wrong, said) in [
            (of(None, Some("three")), "no blob with the title \"three\""),
            (of(Some("blah"), None), "no blob with the digest \"blah\""),
            (of(None, Some("two")), "more than one blob has the title"),
            (of(Some(&digest), Some("one")), "exclude each other"),
        ] {
            assert!(wrong.clone().unwrap_err().contains(said), "{wrong:?}");
        }
        let error = Choice::default().names(&files).unwrap_err().to_string();
        assert!(
            error.contains("several blobs of the artifact have the name \"two\""),
            "{error}"
        );
        assert!(Choice::default().of(Vec::new()).is_err());
    }
}
