//! Keeping simple signatures beside a registry: in a directory of this machine, which may be what a
//! web server shows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::Url;

use super::cosign::attachment::LIMIT;
use super::registries_d::{For, RegistriesD, signature_url};
use super::source::Signature;
use crate::Error;
use crate::config_paths::ConfigPaths;
use crate::digest::Digest;
use crate::reference::Reference;
use crate::temporary::Output;

/// Keeps a signature of a manifest in a repository: beneath `directory`, else where registries.d has
/// signatures written. Its file; one that is there already is left.
pub fn keep(
    paths: &ConfigPaths,
    directory: Option<&Path>,
    image: &Reference,
    manifest: &Digest,
    signature: &Signature,
) -> Result<PathBuf, Error> {
    let repository = place(paths, directory, image)?;
    let content = signature.to_file()?;
    let numbered = |number| path(&signature_url(&repository, manifest, number));
    let first = numbered(1)?;
    let what = |file: &Path| format!("write signature {}", file.display());
    let beside = first
        .parent()
        .ok_or_else(|| Error::Invalid(format!("{} is no file", first.display())))?;
    fs::create_dir_all(beside).map_err(Error::io(what(&first)))?;
    let mut new = Output::create(beside)?;
    new.fill(&content).map_err(Error::io(what(&first)))?;
    for number in 1..=LIMIT {
        let file = numbered(number)?;
        // A rename would take the place of another's.
        match new.link(&file) {
            Ok(()) => return Ok(file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read(&file).is_ok_and(|there| there == content) {
                    return Ok(file);
                }
            }
            Err(error) => return Err(Error::io(what(&file))(error)),
        }
    }
    Err(Error::Conflict(format!(
        "{repository} has {LIMIT} signatures of {manifest} already: remove some"
    )))
}

fn place(paths: &ConfigPaths, directory: Option<&Path>, image: &Reference) -> Result<Url, Error> {
    let Some(directory) = directory else {
        let url = RegistriesD::load(paths)?.lookaside(image, For::Writing)?;
        if url.scheme() != "file" {
            return Err(Error::Invalid(format!(
                "signatures are kept at {url}, where kelp can't write: give a --directory, or a \
                 lookaside-staging: file:///… in registries.d"
            )));
        }
        return Ok(url);
    };
    let what = || format!("open {}", directory.display());
    let absolute = std::path::absolute(directory).map_err(Error::io(what()))?;
    Url::from_file_path(absolute.join(image.repository()))
        .map_err(|()| Error::Invalid(format!("{} is no directory", directory.display())))
}

fn path(url: &Url) -> Result<PathBuf, Error> {
    url.to_file_path()
        .map_err(|()| Error::Invalid(format!("{url} is no path")))
}
