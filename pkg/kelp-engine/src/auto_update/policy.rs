//! Labels that ask for updates: how a new image is found, and of which name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use kelp_image::reference::{ImageName, Reference};

use crate::Error;

/// The label whose value is a policy.
const LABEL: &str = "io.containers.autoupdate";

/// The label with a file of credentials.
const AUTHFILE: &str = "io.containers.autoupdate.authfile";

/// The label with the unit of systemd's that the container runs in, and the variable that it comes from.
pub const UNIT: &str = "PODMAN_SYSTEMD_UNIT";

/// How a new image is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Its registry is asked.
    Registry,
    /// Its name stands for another image here.
    Local,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registry => "registry",
            Self::Local => "local",
        })
    }
}

impl Policy {
    /// What labels ask for; `None` for no updates.
    ///
    /// # Errors
    /// Where the label has another value.
    pub(super) fn of(labels: &BTreeMap<String, String>) -> Result<Option<Self>, Error> {
        match labels.get(LABEL).map(String::as_str) {
            None | Some("" | "disabled") => Ok(None),
            // The second is what it was called at first.
            Some("registry" | "image") => Ok(Some(Self::Registry)),
            Some("local") => Ok(Some(Self::Local)),
            Some(other) => Err(Error::invalid(format!(
                "invalid auto-update policy {other:?}: label {LABEL} is registry, local or disabled"
            ))),
        }
    }
}

/// Where labels say that credentials are.
pub(super) fn authfile(labels: &BTreeMap<String, String>) -> Option<PathBuf> {
    let path = labels.get(AUTHFILE).filter(|path| !path.is_empty());
    path.map(PathBuf::from)
}

/// The name that a registry can be asked for: a full one that can come to stand for another image.
pub(super) fn reference(image: &str) -> Result<Reference, Error> {
    let refused = |why: &str| {
        Err(Error::invalid(format!(
            "{image}: {why}: with {LABEL}=registry the image's name has a registry and a tag, as \
             quay.io/app/web:1"
        )))
    };
    // An id may be written so as well.
    match ImageName::parse(image.strip_prefix("sha256:").unwrap_or(image)) {
        Ok(ImageName::Full(reference)) if reference.digest().is_some() => {
            refused("what a digest means never changes")
        }
        Ok(ImageName::Full(reference)) => Ok(reference.or_latest()),
        Ok(ImageName::Short(_)) => refused("no registry is named"),
        Err(_) if image.is_empty() => refused("there is no image"),
        Err(error) => refused(error.reason),
    }
}

/// Refuses a label that is no policy.
pub(crate) fn check_label(labels: &BTreeMap<String, String>) -> Result<(), Error> {
    Policy::of(labels).map(drop)
}

/// Refuses labels of a new container that no update could follow.
pub(crate) fn check(labels: &BTreeMap<String, String>, image: &str) -> Result<(), Error> {
    match Policy::of(labels)? {
        Some(Policy::Registry) => reference(image).map(drop),
        Some(Policy::Local) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(LABEL.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_label_says_how() {
        for (value, policy) in [
            ("registry", Some(Policy::Registry)),
            ("image", Some(Policy::Registry)),
            ("local", Some(Policy::Local)),
            ("disabled", None),
            ("", None),
        ] {
            assert_eq!(Policy::of(&labels(value)).unwrap(), policy, "{value}");
        }
        assert_eq!(Policy::of(&BTreeMap::new()).unwrap(), None);
        let error = Policy::of(&labels("daily")).unwrap_err().to_string();
        assert!(error.contains("registry, local or disabled"), "{error}");
    }

    #[test]
    fn a_registry_is_asked_for_a_full_name_without_a_digest() {
        for (image, meant) in [
            ("quay.io/app/web:1", "quay.io/app/web:1"),
            ("quay.io/app/web", "quay.io/app/web:latest"),
            ("docker://localhost:5000/x:y", "localhost:5000/x:y"),
        ] {
            assert_eq!(reference(image).unwrap().to_string(), meant);
        }
        let digest = format!("quay.io/app/web@sha256:{}", "a".repeat(64));
        let id = "b".repeat(64);
        for (image, why) in [
            ("busybox", "no registry"),
            (digest.as_str(), "never changes"),
            (id.as_str(), "image's id"),
            (&format!("sha256:{id}"), "image's id"),
            ("", "no image"),
        ] {
            let error = reference(image).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(check(&labels("registry"), image).is_err());
            check(&labels("local"), image).unwrap();
        }
    }
}
