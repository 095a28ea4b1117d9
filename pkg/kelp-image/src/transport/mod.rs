//! Images in files and directories instead of registries (containers-transports(5)).
//!
//! ```text
//! oci:DIR[:NAME]              an OCI image layout
//! oci-archive:FILE[:NAME]     one in a tar archive
//! docker-archive:FILE[:NAME|:@INDEX]   what `docker save` writes
//! dir:DIR                     a manifest and its blobs, side by side
//! containers-storage:NAME     podman's own store: read, and never written ([`podman`])
//! ```
//!
//! All but the last differ in their reader alone: [`files`] finds parts of a directory or of an archive, the
//! reader of each form ([`layout`], [`docker`], [`dir`]) turns them into [`offer::Offer`]s, and
//! [`crate::load`] brings those into the store. What names a file in there is text of whoever made
//! the archive: it is looked up beneath its directory, or among the archive's own entries.

pub(crate) mod dir;
pub(crate) mod docker;
pub(crate) mod files;
pub(crate) mod layout;
pub(crate) mod offer;
pub mod podman;
pub(crate) mod sink;
pub mod write;

use std::path::{Path, PathBuf};

use crate::Error;
use crate::platform::Platform;

/// A form of images in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An OCI image layout.
    Oci,
    /// One in a tar archive.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
    /// A manifest and its blobs in one directory.
    Dir,
}

impl Form {
    /// The transport's name, without the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
            Self::Dir => "dir",
        }
    }
}

/// An image, or several, at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How it is written.
    pub form: Form,
    /// Where.
    pub path: PathBuf,
    /// Which image of several.
    pub selector: Option<Selector>,
}

/// Which image of several is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// That of a name.
    Name(String),
    /// The one at a position, from 0.
    Index(usize),
}

/// Takes `TRANSPORT:…` apart; `None` for what is no such transport: the name of an image in a registry,
/// `docker://` before it or not.
pub fn parse(text: &str) -> Result<Option<Place>, Error> {
    let Some((transport, rest)) = text.split_once(':') else {
        return Ok(None);
    };
    let form = match transport {
        "oci" => Form::Oci,
        "oci-archive" => Form::OciArchive,
        "docker-archive" => Form::DockerArchive,
        "dir" => Form::Dir,
        // `kelp pull` has taken what it reads; everything else comes here.
        "containers-storage" => {
            return Err(Error::Invalid(format!(
                "{text}: podman's store is only read, and by a plain kelp pull: to write, push to \
                 oci-archive: and use podman load"
            )));
        }
        "docker-daemon" | "ostree" | "sif" | "tarball" => {
            return Err(Error::Invalid(format!(
                "{text}: kelp has no transport {transport}; there are docker://, oci:, oci-archive:, \
                 docker-archive:, dir: and, to pull from, containers-storage:"
            )));
        }
        _ => return Ok(None),
    };
    let (path, selector) = match form {
        Form::Dir => (rest, None),
        _ => match rest.split_once(':') {
            Some((path, selector)) => (path, Some(selector)),
            None => (rest, None),
        },
    };
    // `oci:5` is as good a directory as any, but there must be one.
    if path.is_empty() {
        return Err(Error::Invalid(format!("{text}: it names no path")));
    }
    let selector = match selector {
        None | Some("") => None,
        Some(selector) => Some(match selector.strip_prefix('@') {
            Some(index) => Selector::Index(index.parse().map_err(|_| {
                Error::Invalid(format!("{text}: @ is followed by a position, from 0"))
            })?),
            None => Selector::Name(selector.to_owned()),
        }),
    };
    Ok(Some(Place {
        form,
        path: path.into(),
        selector,
    }))
}

/// The platforms of the images that an index at a place leads to; none where there is no index, or no
/// choice. `data` is where an archive is kept that can't be read in place.
pub fn platforms(place: &Place, data: &Path) -> Result<Vec<Platform>, Error> {
    match place.form {
        Form::Oci | Form::OciArchive => {
            layout::platforms(&files::Files::open(&place.path, data)?, place)
        }
        Form::DockerArchive | Form::Dir => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_told_from_names() {
        let place = |form, path: &str, selector| {
            Some(Place {
                form,
                path: path.into(),
                selector,
            })
        };
        let name = |name: &str| Some(Selector::Name(name.to_owned()));
        for (text, expected) in [
            ("oci:/a/b", place(Form::Oci, "/a/b", None)),
            ("oci:a:1.0", place(Form::Oci, "a", name("1.0"))),
            (
                "oci-archive:a.tar:host:5000/x:1",
                place(Form::OciArchive, "a.tar", name("host:5000/x:1")),
            ),
            (
                "docker-archive:a.tar:@3",
                place(Form::DockerArchive, "a.tar", Some(Selector::Index(3))),
            ),
            ("docker-archive:a:", place(Form::DockerArchive, "a", None)),
            ("dir:/with:colon", place(Form::Dir, "/with:colon", None)),
            ("alpine", None),
            ("alpine:3", None),
            ("docker://alpine", None),
            ("localhost:5000/a", None),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in ["oci:", "docker-archive:a:@x", "docker-daemon:a:1", "oci::x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
