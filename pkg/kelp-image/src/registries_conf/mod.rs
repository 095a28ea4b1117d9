//! registries.conf, version 2: which registries are asked for a name, in what order and how.
//!
//! The format is containers-registries.conf(5). The main file comes first, then every
//! `registries.conf.d/*.conf` of the machine and of the user in the order of their names; a later
//! file replaces single settings, whole `[[registry]]` tables of the same prefix, and single
//! aliases.

mod raw;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Error;
use crate::config_paths::{ConfigPaths, config_error, drop_ins, read_if_there};
use crate::reference::{DOCKER_HUB, Reference};
use raw::RawConf;

/// What to do with a name that has no registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShortNameMode {
    /// More than one possible registry is a question, and an error where nobody can answer.
    Enforcing,
    /// More than one possible registry is a question, and where nobody can answer all are tried.
    #[default]
    Permissive,
    /// All registries of the list are tried; aliases mean nothing.
    Disabled,
}

/// All of registries.conf and its drop-ins.
#[derive(Debug, Clone, Default)]
pub struct RegistriesConf {
    /// `unqualified-search-registries`; `None` where no file says anything.
    pub search: Option<Vec<String>>,
    /// `short-name-mode`.
    pub short_name_mode: ShortNameMode,
    /// `credential-helpers`.
    pub credential_helpers: Vec<String>,
    aliases: BTreeMap<String, Alias>,
    registries: Vec<Registry>,
}

/// What a short name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The repository.
    pub target: Reference,
    /// The file that says so.
    pub file: PathBuf,
}

/// A `[[registry]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// The names that the table is about begin with this.
    pub prefix: String,
    /// What the prefix is replaced by; empty leaves the name as it is.
    pub location: String,
    /// Plain HTTP and unknown certificates are allowed.
    pub insecure: bool,
    /// Nothing may be pulled.
    pub blocked: bool,
    /// What is tried before the registry itself.
    pub mirrors: Vec<Mirror>,
}

/// A `[[registry.mirror]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// What the prefix is replaced by.
    pub location: String,
    /// Plain HTTP and unknown certificates are allowed.
    pub insecure: bool,
    /// Which names it is asked for.
    pub pull: PullFromMirror,
}

/// Which names a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullFromMirror {
    /// All.
    #[default]
    All,
    /// Names with a digest.
    DigestOnly,
    /// Names without a digest.
    TagOnly,
}

/// One place that a name can be fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The name there.
    pub reference: Reference,
    /// Plain HTTP and unknown certificates are allowed.
    pub insecure: bool,
}

impl RegistriesConf {
    /// Reads the files. That one is missing is no error, unless
    /// `$CONTAINERS_REGISTRIES_CONF` names it.
    pub fn load(paths: &ConfigPaths) -> Result<Self, Error> {
        let mut conf = Self::default();
        if let Some(file) = &paths.registries_conf {
            let text = fs::read_to_string(file)
                .map_err(|source| config_error(file, &source.to_string()))?;
            conf.merge(&text, file)?;
        } else {
            let user = paths.user_containers("registries.conf");
            let system = paths.system_containers("registries.conf");
            for file in user.into_iter().chain([system]) {
                if conf.merge_file(&file)? {
                    break;
                }
            }
        }
        let directories = [
            Some(paths.system_containers("registries.conf.d")),
            paths.user_containers("registries.conf.d"),
        ];
        for directory in directories.into_iter().flatten() {
            for file in drop_ins(&directory, "conf")? {
                conf.merge_file(&file)?;
            }
        }
        // What users answered to kelp's question, and to podman's.
        if let Some(file) = paths.short_name_aliases()
            && let Some(text) = read_if_there(&file)?
        {
            conf.merge_aliases(&text, &file)?;
        }
        Ok(conf)
    }

    /// Reads one file; whether it exists.
    fn merge_file(&mut self, file: &Path) -> Result<bool, Error> {
        match read_if_there(file)? {
            Some(text) => {
                self.merge(&text, file)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Takes in the text of `file` over what is there already.
    pub fn merge(&mut self, text: &str, file: &Path) -> Result<(), Error> {
        let raw = RawConf::parse(text, file)?;
        if raw.registries.is_some() {
            return Err(config_error(
                file,
                "this is version 1 of the format; write unqualified-search-registries = [...] and \
                 [[registry]] tables instead (containers-registries.conf(5))",
            ));
        }
        if let Some(search) = raw.unqualified_search_registries {
            self.search = Some(search);
        }
        if let Some(mode) = raw.short_name_mode {
            self.short_name_mode = mode;
        }
        if let Some(helpers) = raw.credential_helpers {
            self.credential_helpers = helpers;
        }
        for registry in raw.registry {
            let registry = registry.check(file)?;
            self.registries.retain(|old| old.prefix != registry.prefix);
            self.registries.push(registry);
        }
        self.add_aliases(raw.aliases, file)
    }

    fn merge_aliases(&mut self, text: &str, file: &Path) -> Result<(), Error> {
        let raw = RawConf::parse(text, file)?;
        self.add_aliases(raw.aliases, file)
    }

    fn add_aliases(&mut self, aliases: BTreeMap<String, String>, file: &Path) -> Result<(), Error> {
        for (name, target) in aliases {
            // An empty value takes back what an earlier file said.
            if target.is_empty() {
                self.aliases.remove(&name);
                continue;
            }
            let target = Reference::parse(&target)
                .map_err(|source| config_error(file, &format!("alias {name:?}: {source}")))?;
            if target.tag().is_some() || target.digest().is_some() {
                let reason = format!("alias {name:?}: {target} has a tag or a digest");
                return Err(config_error(file, &reason));
            }
            let file = file.to_owned();
            self.aliases.insert(name, Alias { target, file });
        }
        Ok(())
    }

    /// What the short name with this path stands for.
    pub fn alias(&self, path: &str) -> Option<&Alias> {
        self.aliases.get(path)
    }

    /// The registries that short names are looked for in: docker's where nothing is configured.
    pub fn search(&self) -> Vec<String> {
        match &self.search {
            Some(search) => search.clone(),
            None => vec![DOCKER_HUB.to_owned()],
        }
    }

    /// The table with the longest prefix that fits.
    pub fn registry_for(&self, reference: &Reference) -> Option<&Registry> {
        let name = reference.to_string();
        self.registries
            .iter()
            .filter(|registry| matched_length(&registry.prefix, &name).is_some())
            .max_by_key(|registry| registry.prefix.len())
    }

    /// The table for a registry's host alone, as `login` needs it.
    pub fn registry_for_host(&self, host: &str) -> Option<&Registry> {
        self.registries
            .iter()
            .filter(|registry| matched_length(&registry.prefix, host).is_some())
            .max_by_key(|registry| registry.prefix.len())
    }

    /// The places to fetch a name from, in order: mirrors, then the registry itself.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, Error> {
        let Some(registry) = self.registry_for(reference) else {
            return Ok(vec![Endpoint {
                reference: reference.clone(),
                insecure: false,
            }]);
        };
        if registry.blocked {
            return Err(Error::Denied(format!(
                "registry {} is blocked: registries.conf has blocked = true for the prefix {}",
                reference.registry(),
                registry.prefix
            )));
        }
        let by_digest = reference.digest().is_some();
        let mirrors = registry.mirrors.iter().filter(|mirror| match mirror.pull {
            PullFromMirror::All => true,
            PullFromMirror::DigestOnly => by_digest,
            PullFromMirror::TagOnly => !by_digest,
        });
        let mut endpoints = Vec::new();
        for mirror in mirrors {
            endpoints.push(Endpoint {
                reference: rewrite(reference, &registry.prefix, &mirror.location)?,
                insecure: mirror.insecure,
            });
        }
        endpoints.push(Endpoint {
            reference: rewrite(reference, &registry.prefix, &registry.location)?,
            insecure: registry.insecure,
        });
        Ok(endpoints)
    }

    /// The registry itself, to which a name is pushed.
    pub fn own_endpoint(&self, reference: &Reference) -> Result<Endpoint, Error> {
        let last = self.endpoints(reference)?.pop();
        Ok(last.expect("the registry itself is always the last"))
    }
}

fn rewrite(reference: &Reference, prefix: &str, location: &str) -> Result<Reference, Error> {
    let name = reference.to_string();
    match matched_length(prefix, &name) {
        Some(length) if !location.is_empty() => {
            Ok(Reference::parse(&format!("{location}{}", &name[length..]))?)
        }
        _ => Ok(reference.clone()),
    }
}

/// How much of `name` the prefix stands for, if it fits: whole path components only, and
/// `*.example.com` for every host beneath example.com.
pub(crate) fn matched_length(prefix: &str, name: &str) -> Option<usize> {
    let length = if let Some(domain) = prefix.strip_prefix('*') {
        let (domain, path) = match domain.split_once('/') {
            Some((domain, _)) => (domain, &domain_path(prefix)[..]),
            None => (domain, ""),
        };
        let authority = name.split('/').next().unwrap_or(name);
        // A port in the prefix must be there; without one, any port fits.
        let host_end = if domain.contains(':') {
            authority.len()
        } else {
            authority
                .rfind(':')
                .filter(|colon| !authority[*colon..].contains(']'))
                .unwrap_or(authority.len())
        };
        let host = &authority[..host_end];
        if !(domain.starts_with('.') && host.len() > domain.len() && host.ends_with(domain)) {
            return None;
        }
        if !path.is_empty() && !name[host_end..].starts_with(path) {
            return None;
        }
        host_end + path.len()
    } else {
        if !name.starts_with(prefix) {
            return None;
        }
        prefix.len()
    };
    match name.as_bytes().get(length) {
        None | Some(b'/' | b'@') => Some(length),
        // In a host, what follows a colon is a port: another registry. Behind a path it is a tag.
        Some(b':') if prefix.contains('/') || prefix.starts_with('*') => Some(length),
        Some(_) => None,
    }
}

/// What follows the host in a wildcard prefix, with its slash.
fn domain_path(prefix: &str) -> String {
    prefix
        .split_once('/')
        .map(|(_, path)| format!("/{path}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
