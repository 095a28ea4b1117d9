//! What a policy decides about: an image, by where it comes from.

use std::fs;
use std::path::Path;

use crate::Error;
use crate::reference::Reference;

/// An image as policies know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The transport, without its colon.
    pub(super) transport: &'static str,
    /// Its own scope, then ever wider ones.
    pub(super) scopes: Vec<String>,
    /// The name that signatures are about, where the transport has names.
    pub(super) identity: Option<Reference>,
    /// As a person wrote it, for messages.
    pub(super) text: String,
}

impl Subject {
    /// An image of a registry, by its own name (and not by that of a mirror).
    pub fn docker(reference: &Reference) -> Self {
        let reference = reference.clone().or_latest().digest_over_tag();
        let mut scopes = vec![reference.to_string()];
        widen(&reference, &mut scopes);
        let host = reference.registry();
        let host = host.split_once(':').map_or(host, |(host, _)| host);
        let domains = host.match_indices('.').map(|(dot, _)| &host[dot..]);
        scopes.extend(domains.map(|domain| format!("*{domain}")));
        Self {
            transport: "docker",
            text: reference.to_string(),
            identity: Some(reference),
            scopes,
        }
    }

    /// An image in a directory or file: `dir`, `oci` or `oci-archive`. The path must be there.
    pub fn path(transport: &'static str, path: &Path) -> Result<Self, Error> {
        let text = format!("{transport}:{}", path.display());
        let real = fs::canonicalize(path).map_err(Error::io(format!("open {}", path.display())))?;
        let scopes = real
            .ancestors()
            .filter(|path| path.parent().is_some())
            .map(|path| path.display().to_string())
            .collect();
        Ok(Self {
            transport,
            scopes,
            identity: None,
            text,
        })
    }

    /// An image that is read from a stream, of which only the form is known.
    pub fn stream(transport: &'static str) -> Self {
        Self {
            transport,
            scopes: Vec::new(),
            identity: None,
            text: format!("{transport}:-"),
        }
    }

    /// An image in docker's archive, with the name that it has there.
    pub fn docker_archive(path: &Path, name: Option<&Reference>) -> Self {
        Self {
            transport: "docker-archive",
            scopes: Vec::new(),
            identity: name.cloned(),
            text: format!("docker-archive:{}", path.display()),
        }
    }

    /// An image of podman's store: the storage driver, the store's directory, the name and the id.
    pub fn storage(driver: &str, root: &Path, name: Option<&Reference>, id: Option<&str>) -> Self {
        let store = format!("[{driver}@{}]", root.display());
        let mut names = Vec::new();
        if let Some(name) = name {
            names.push(name.to_string());
            if let (Some(tag), Some(_)) = (name.tag(), name.digest()) {
                names.push(format!("{}:{tag}", name.name()));
            }
            widen(name, &mut names);
        }
        let own = name.map(ToString::to_string).unwrap_or_default();
        let own = id.map(|id| format!("{own}@{id}")).unwrap_or(own);
        let mut scopes: Vec<String> = own_first(own, names)
            .map(|name| format!("{store}{name}"))
            .collect();
        scopes.extend([store, format!("[{}]", root.display())]);
        let text = name.map_or_else(|| id.unwrap_or_default().to_owned(), ToString::to_string);
        Self {
            transport: "containers-storage",
            scopes,
            identity: name.cloned(),
            text: format!("containers-storage:{text}"),
        }
    }

    /// Where it comes from, as policies call it.
    pub fn transport(&self) -> &'static str {
        self.transport
    }
}

fn own_first(own: String, names: Vec<String>) -> impl Iterator<Item = String> {
    let has_own = !own.is_empty();
    let others: Vec<String> = names.into_iter().filter(|name| *name != own).collect();
    has_own.then_some(own).into_iter().chain(others)
}

/// Adds the repository, its parents and the registry.
fn widen(reference: &Reference, scopes: &mut Vec<String>) {
    let name = reference.name();
    scopes.push(name.clone());
    let parents = name.rmatch_indices('/').map(|(slash, _)| &name[..slash]);
    scopes.extend(parents.map(str::to_owned));
}
