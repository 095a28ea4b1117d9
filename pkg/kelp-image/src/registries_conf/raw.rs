//! The file as it is written, and what is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Mirror, PullFromMirror, Registry, ShortNameMode, config_error};
use crate::Error;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RawConf {
    pub(super) unqualified_search_registries: Option<Vec<String>>,
    pub(super) short_name_mode: Option<ShortNameMode>,
    pub(super) credential_helpers: Option<Vec<String>>,
    #[serde(default)]
    pub(super) registry: Vec<RawRegistry>,
    #[serde(default)]
    pub(super) aliases: BTreeMap<String, String>,
    /// Version 1's table.
    pub(super) registries: Option<toml::Table>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RawRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
    #[serde(default)]
    mirror_by_digest_only: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<PullFromMirror>,
}

impl RawConf {
    pub(super) fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map(|span| text[..span.start].matches('\n').count() + 1);
            let message = error.message().replace('\n', " ");
            let reason = match line {
                Some(line) => format!("line {line}: {message}"),
                None => message,
            };
            config_error(file, &reason)
        })
    }
}

impl RawRegistry {
    pub(super) fn check(self, file: &Path) -> Result<Registry, Error> {
        let tidy = |text: &str| -> Result<String, Error> {
            if text.contains("://") {
                let reason = format!("{text:?}: a registry is a host and a path, not a URL");
                return Err(config_error(file, &reason));
            }
            Ok(text.trim_end_matches('/').to_owned())
        };
        let location = tidy(&self.location)?;
        let mut prefix = tidy(&self.prefix)?;
        if prefix.is_empty() {
            if location.is_empty() {
                let reason = "a [[registry]] needs a prefix or a location";
                return Err(config_error(file, reason));
            }
            prefix.clone_from(&location);
        }
        if prefix.contains('*')
            && !(prefix.starts_with("*.") && prefix.matches('*').count() == 1 && prefix.len() > 2)
        {
            let reason =
                format!("prefix {prefix:?}: a wildcard can only be `*.` in front of a host");
            return Err(config_error(file, &reason));
        }
        let mut mirrors = Vec::new();
        for mirror in self.mirror {
            let pull = match (self.mirror_by_digest_only, mirror.pull_from_mirror) {
                (true, None) => PullFromMirror::DigestOnly,
                (true, Some(_)) => {
                    let reason = format!(
                        "registry {prefix:?}: mirror-by-digest-only and pull-from-mirror exclude \
                         each other"
                    );
                    return Err(config_error(file, &reason));
                }
                (false, pull) => pull.unwrap_or_default(),
            };
            mirrors.push(Mirror {
                location: tidy(&mirror.location)?,
                insecure: mirror.insecure,
                pull,
            });
        }
        Ok(Registry {
            prefix,
            location,
            insecure: self.insecure,
            blocked: self.blocked,
            mirrors,
        })
    }
}
