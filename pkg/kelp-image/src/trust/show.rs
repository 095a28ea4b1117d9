//! Showing policy.json: `image trust show`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::policy::{KeySource, Policy, Requirement, SigstoreSigner};
use super::registries_d::RegistriesD;
use super::simple::Keys;
use crate::Error;
use crate::config_paths::ConfigPaths;
use crate::registries_conf::matched_length;
use crate::role::one_line;

/// One requirement, as podman shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// `all`, `repository` for registries, or the transport.
    pub transport: String,
    /// The scope.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The scope, or `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repo_name: String,
    /// Where signatures are.
    #[serde(rename = "sigstore", skip_serializing_if = "String::is_empty")]
    pub store: String,
    /// `accept`, `reject`, `signed` or `sigstoreSigned`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whose keys.
    #[serde(rename = "gpg_id", skip_serializing_if = "String::is_empty")]
    pub ids: String,
}

/// The file's text as it is.
pub fn raw(paths: &ConfigPaths, named: Option<&Path>) -> Result<Vec<u8>, Error> {
    let file = file(paths, named)?;
    fs::read(&file).map_err(Error::io(format!("read {}", file.display())))
}

fn file(paths: &ConfigPaths, named: Option<&Path>) -> Result<PathBuf, Error> {
    Policy::find(paths, named)?.ok_or_else(|| {
        Error::NotFound(
            "there is no policy.json, so every image is accepted; make one with kelp image trust set"
                .to_owned(),
        )
    })
}

/// All requirements, or those that have to do with a registry or a part of it.
pub fn show(
    paths: &ConfigPaths,
    named: Option<&Path>,
    about: Option<&str>,
) -> Result<Vec<Shown>, Error> {
    let policy = Policy::read(&file(paths, named)?)?;
    let registries = RegistriesD::load(paths)?;
    let mut shown = Vec::new();
    let default = ("all", "* (default)", "default");
    shown.extend(rows(default, &policy.default, &registries, ""));
    for (transport, scopes) in &policy.transports {
        let transport = match transport.as_str() {
            "docker" => "repository",
            other => other,
        };
        for (scope, requirements) in scopes {
            if about.is_none_or(|about| is_about(scope, about)) {
                let name = (transport, scope.as_str(), scope.as_str());
                shown.extend(rows(name, requirements, &registries, scope));
            }
        }
    }
    Ok(shown)
}

/// Whether a scope is a place, in it or around it.
fn is_about(scope: &str, place: &str) -> bool {
    scope.is_empty()
        || matched_length(scope, place).is_some()
        || matched_length(place, scope).is_some()
}

fn rows(
    (transport, name, repo_name): (&str, &str, &str),
    requirements: &[Requirement],
    registries: &RegistriesD,
    scope: &str,
) -> Vec<Shown> {
    let store = registries.lookaside_of_scope(scope).unwrap_or_default();
    requirements
        .iter()
        .map(|requirement| Shown {
            transport: transport.to_owned(),
            name: name.to_owned(),
            repo_name: repo_name.to_owned(),
            store: store.to_owned(),
            kind: kind(requirement),
            ids: ids(requirement),
        })
        .collect()
}

fn kind(requirement: &Requirement) -> &'static str {
    match requirement {
        Requirement::InsecureAcceptAnything => "accept",
        Requirement::SignedBy(_) => "signed",
        other => other.name(),
    }
}

fn ids(requirement: &Requirement) -> String {
    match requirement {
        Requirement::SignedBy(rule) => owners(&rule.keys),
        Requirement::SigstoreSigned(rule) => match &rule.signer {
            SigstoreSigner::Fulcio { email, .. } => email.clone(),
            SigstoreSigner::Keys(_) | SigstoreSigner::Pki => "N/A".to_owned(),
        },
        _ => String::new(),
    }
}

/// Whose keys they are; what can't be read is said in its place, for the others are shown.
fn owners(keys: &KeySource) -> String {
    let owners = keys
        .load()
        .map_err(|error| one_line(&error))
        .and_then(|sources| Keys::parse(&sources))
        .map(|keys| keys.owners().join(", "));
    owners.unwrap_or_else(|error| format!("({error})"))
}
