//! registries.d: where the signatures of a registry's images are (containers-registries.d(5)).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reqwest::Url;
use saphyr::{LoadableYamlNode, Yaml};

use super::subject::Subject;
use crate::Error;
use crate::config_paths::{ConfigPaths, config_error, drop_ins, read_if_there};
use crate::digest::Digest;
use crate::reference::Reference;

/// All files of the directory.
#[derive(Debug, Clone, Default)]
pub struct RegistriesD {
    default: Option<Place>,
    docker: BTreeMap<String, Place>,
    /// Where signatures are if nothing is said.
    usual: PathBuf,
    /// The directory that was read, to be named where something is missing in it.
    directory: PathBuf,
}

/// What is said about a registry or a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    lookaside: Option<String>,
    staging: Option<String>,
    attachments: Option<bool>,
    file: PathBuf,
}

/// Where signatures are read, or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// `lookaside`.
    Reading,
    /// `lookaside-staging`, else `lookaside`.
    Writing,
}

impl RegistriesD {
    /// Reads the user's directory, or the machine's where the user has none.
    pub fn load(paths: &ConfigPaths) -> Result<Self, Error> {
        let user = paths.user_containers("registries.d");
        let directory = user
            .filter(|directory| directory.exists())
            .unwrap_or_else(|| paths.system_containers("registries.d"));
        let home = paths.home.clone().unwrap_or_default();
        let usual = if kelp_userns::own::ids().0 == 0 {
            PathBuf::from("/var/lib/containers/sigstore")
        } else {
            home.join(".local/share/containers/sigstore")
        };
        let mut found = Self {
            usual,
            ..Self::default()
        };
        for file in drop_ins(&directory, "yaml")? {
            if let Some(text) = read_if_there(&file)? {
                found
                    .merge(&text, &file)
                    .map_err(|reason| config_error(&file, &reason))?;
            }
        }
        found.directory = directory;
        Ok(found)
    }

    fn merge(&mut self, text: &str, file: &Path) -> Result<(), String> {
        let documents = Yaml::load_from_str(text).map_err(|error| error.to_string())?;
        let Some(document) = documents.first().filter(|document| !document.is_null()) else {
            return Ok(());
        };
        if document.as_mapping().is_none() {
            return Err("it is no mapping".to_owned());
        }
        if let Some(default) = member(document, "default-docker") {
            let place = Place::parse("default-docker", default, file)?;
            if let Some(before) = self.default.replace(place) {
                return Err(format!(
                    "default-docker is in {} too",
                    before.file.display()
                ));
            }
        }
        let Some(docker) = member(document, "docker") else {
            return Ok(());
        };
        let places = docker.as_mapping().ok_or("docker is no mapping")?;
        for (scope, place) in places {
            let scope = scope.as_str().ok_or("docker has a key that is no text")?;
            let place = Place::parse(scope, place, file)?;
            if let Some(before) = self.docker.insert(scope.to_owned(), place) {
                return Err(format!("{scope} is in {} too", before.file.display()));
            }
        }
        Ok(())
    }

    /// What is said about an image, the most specific first.
    fn places<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = &'a Place> {
        let scopes = subject.scopes.iter();
        scopes
            .filter_map(|scope| self.docker.get(scope))
            .chain(&self.default)
    }

    /// Where the signatures of a repository are: a URL without what is about a manifest.
    pub fn lookaside(&self, image: &Reference, purpose: For) -> Result<Url, Error> {
        let subject = Subject::docker(image);
        let top = self.places(&subject).find_map(|place| match purpose {
            For::Reading => place.lookaside.as_deref(),
            For::Writing => place.staging.as_deref().or(place.lookaside.as_deref()),
        });
        let mut url = match top {
            Some(text) => Url::parse(text).map_err(|error| {
                Error::Invalid(format!("registries.d: the lookaside {text:?}: {error}"))
            })?,
            None => Url::from_file_path(&self.usual).map_err(|()| {
                Error::Invalid(format!(
                    "{} is no absolute path: set $HOME, or a lookaside in {}",
                    self.usual.display(),
                    self.directory.display()
                ))
            })?,
        };
        if !matches!(url.scheme(), "file" | "http" | "https") {
            return Err(Error::Invalid(format!(
                "registries.d: the lookaside {url} is neither file://, http:// nor https://"
            )));
        }
        let path = format!(
            "{}/{}",
            url.path().trim_end_matches('/'),
            image.repository()
        );
        url.set_path(&path);
        Ok(url)
    }

    /// Where the signatures of a scope are, as `trust show` shows it: as is said of it, of what is around it,
    /// or by default.
    pub fn lookaside_of_scope(&self, scope: &str) -> Option<&str> {
        let parents = scope.rmatch_indices('/').map(|(slash, _)| &scope[..slash]);
        std::iter::once(scope)
            .chain(parents)
            .filter_map(|scope| self.docker.get(scope))
            .chain(&self.default)
            .find_map(|place| place.lookaside.as_deref())
    }

    /// Whether sigstore signatures are looked for in the image's own repository.
    pub fn has_attachments(&self, image: &Reference) -> bool {
        let subject = Subject::docker(image);
        let said = self.places(&subject).find_map(|place| place.attachments);
        said.unwrap_or(false)
    }

    /// The directory that was read.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// The signature of this number, from 1, in a repository's lookaside.
pub(super) fn signature_url(repository: &Url, manifest: &Digest, number: usize) -> Url {
    let mut url = repository.clone();
    url.set_path(&format!(
        "{}@{}={}/signature-{number}",
        repository.path(),
        manifest.algorithm().name(),
        manifest.hex()
    ));
    url
}

impl Place {
    fn parse(name: &str, place: &Yaml<'_>, file: &Path) -> Result<Self, String> {
        if !place.is_null() && place.as_mapping().is_none() {
            return Err(format!("{name} is no mapping"));
        }
        let text = |key: &str| match member(place, key) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some("") => Ok(None),
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(format!("{name}: {key} is no text")),
            },
        };
        let attachments = match member(place, "use-sigstore-attachments") {
            None => None,
            Some(value) => Some(value.as_bool().ok_or_else(|| {
                format!("{name}: use-sigstore-attachments is neither true nor false")
            })?),
        };
        Ok(Self {
            // The older names of the same.
            lookaside: text("lookaside")?.or(text("sigstore")?),
            staging: text("lookaside-staging")?.or(text("sigstore-staging")?),
            attachments,
            file: file.to_owned(),
        })
    }
}

fn member<'a, 'input>(node: &'a Yaml<'input>, key: &str) -> Option<&'a Yaml<'input>> {
    node.as_mapping_get(key).filter(|value| !value.is_null())
}
