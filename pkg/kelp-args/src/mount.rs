//! Mounts: `--volume`, `--mount` and `--tmpfs`.

mod keyed;
mod option;
mod tmpfs;
mod volume;

pub use keyed::mount;
pub use tmpfs::tmpfs;
pub use volume::volume;

use option::Options;

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A path of the host.
    Bind(String),
    /// A named volume; without a name, one made for this container.
    Volume(Option<String>),
    /// A new tmpfs.
    Tmpfs,
    /// A new devpts.
    Devpts,
    /// The files of an image.
    Image(ImageMount),
    /// The files of an artifact.
    Artifact(ArtifactMount),
}

/// The files of an image as a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageMount {
    /// The image, as the user named it.
    pub source: String,
    /// Whether it can be written; what is written goes with the container.
    pub read_write: bool,
    /// A place in the image, instead of the whole.
    pub subpath: Option<String>,
}

/// The files of an artifact as a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactMount {
    /// The artifact, as the user named it.
    pub source: String,
    /// The title of the one file that is meant.
    pub title: Option<String>,
    /// The digest of the one file that is meant.
    pub digest: Option<String>,
    /// What files are called in a directory, instead of their titles.
    pub name: Option<String>,
}

/// A mount that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What.
    pub source: Source,
    /// Where; absolute.
    pub target: String,
    /// Options of the mount, as runtime-spec has them.
    pub options: Vec<String>,
    /// Whether the source is given to the container's user.
    pub chown: bool,
    /// Whether an empty volume is filled from the image; `None` for the usual.
    pub copy: Option<bool>,
    /// Whether what the container writes stays off the source, in a layer that goes with the
    /// container; of a bind mount or a volume.
    pub overlay: bool,
    /// The directories of that layer where it stays: for what is written, and for overlayfs itself.
    pub layer: Option<(String, String)>,
    /// A place in the volume, instead of the whole.
    pub subpath: Option<String>,
}

impl Mount {
    /// A mount with no option.
    pub fn new(source: Source, target: impl Into<String>) -> Self {
        Self {
            source,
            target: target.into(),
            options: Vec::new(),
            chown: false,
            copy: None,
            overlay: false,
            layer: None,
            subpath: None,
        }
    }
}

/// A directory or file of the host, relative to `directory`, which is empty where there is none any more.
fn relative(path: &str, directory: &str) -> Result<Source, String> {
    if directory.is_empty() {
        return Err(format!(
            "invalid source {path:?}: it is relative, and the working directory is gone"
        ));
    }
    Ok(Source::Bind(format!("{directory}/{path}")))
}

/// The volume or directory that the source of a `--volume` means.
fn place(source: &str, directory: &str) -> Result<Source, String> {
    if source.starts_with('/') {
        return Ok(Source::Bind(source.to_owned()));
    }
    if source == "." || source.starts_with("./") || source.starts_with("..") {
        return relative(source, directory);
    }
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if source.starts_with(|first: char| first.is_ascii_alphanumeric())
        && source.bytes().all(letters)
    {
        return Ok(Source::Volume(Some(source.to_owned())));
    }
    Err(format!(
        "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid volume name {source:?}; a directory \
         begins with / or ./"
    ))
}

fn absolute(target: &str, text: &str) -> Result<String, String> {
    if target.starts_with('/') {
        return Ok(target.to_owned());
    }
    Err(format!(
        "invalid mount {text:?}: the place in the container is not an absolute path"
    ))
}
