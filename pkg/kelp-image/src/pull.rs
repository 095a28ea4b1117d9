//! `kelp pull`: from a name to an image that is here.
//!
//! The order is what makes a kill at any moment harmless: blobs are published one by one when they
//! are verified, layers when they are extracted, then config and manifest, and the record that makes
//! it an image last. What was finished before stays and is found by the next pull.

use std::collections::HashSet;

use crate::Error;
use crate::access::{Access, AccessOptions, runtime};
use crate::blob::BlobStore;
use crate::digest::Digest;
use crate::fetch::{Here, Resolved, fetch, resolve};
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::reference::{ImageName, Reference};
use crate::registries_conf::Endpoint;
use crate::registry::Repository;
use crate::short_name::{self, Ask, Candidates};
use crate::space;
use crate::trust::{Origin, Trust};
use crate::unpacker::Unpacker;

/// When a registry is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Every time.
    #[default]
    Always,
    /// If the image is not here.
    Missing,
    /// If the registry has another image under the name than the one that is here; one that is here
    /// will do where the registry can't be asked.
    Newer,
    /// Never.
    Never,
}

impl std::str::FromStr for PullPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "always" | "true" | "1" => Ok(Self::Always),
            "missing" | "ifmissing" | "ifnotpresent" | "" => Ok(Self::Missing),
            "newer" | "ifnewer" => Ok(Self::Newer),
            "never" | "false" | "0" => Ok(Self::Never),
            _ => Err(Error::Invalid(format!(
                "unsupported pull policy {text:?}: it is always, missing, newer or never"
            ))),
        }
    }
}

/// What a pull may be told.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// When a registry is asked.
    pub policy: PullPolicy,
    /// `--platform`, or `--os`, `--arch` and `--variant`; the host's otherwise.
    pub platform: Option<Platform>,
    /// How registries are reached.
    pub access: AccessOptions,
    /// Asks a person which of several full names a short one means.
    pub ask: Option<Ask>,
    /// The name whose rules hold, if it is another than the one that is pulled: an image of an index is
    /// pulled by its digest, and was asked for by a tag.
    pub judged_as: Option<Reference>,
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// Its id: the digest of its config.
    pub id: Digest,
    /// What it runs on.
    pub platform: Platform,
}

/// An image whose blobs and layers are complete, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// Its id: the digest of its config.
    pub id: Digest,
    /// The full name that it was pulled by: with a tag or a digest.
    pub reference: Reference,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The digest of the index that led to it.
    pub index: Option<Digest>,
}

/// The images that are here, as a pull needs them.
pub trait Images: Sync {
    /// The image with exactly this name.
    fn find(&self, reference: &Reference) -> Result<Option<LocalImage>, Error>;

    /// Refuses a name that no image can get, before anything is fetched for it.
    fn check_name(&self, reference: &Reference) -> Result<(), Error>;

    /// Whether an image is here whole, and is what a registry has under a digest for a platform.
    fn is_current(
        &self,
        image: &LocalImage,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<bool, Error>;

    /// The layers of all images that are here: the blob of each, and its diff id.
    fn layers(&self) -> Result<HashSet<(Digest, Digest)>, Error>;

    /// Writes an image's record and its name: the last step.
    fn record(&self, image: &PulledImage) -> Result<(), Error>;
}

/// Lets something be brought here. What that needs is made when it is needed: a pull that finds nothing
/// new writes nothing.
pub trait Bring {
    /// Does work with blobs that are kept as long as it lasts, and somebody who extracts layers.
    fn bring(&self, work: &mut Work<'_>) -> Result<(), Error>;
}

/// What is done with blobs and an unpacker.
pub type Work<'a> = dyn FnMut(&BlobStore, &dyn Unpacker) -> Result<(), Error> + 'a;

/// What a pull has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// The image is here now.
    New(Digest),
    /// It was here before.
    Here(Digest),
}

/// Brings an image here, if the policy asks for it.
pub fn pull(
    images: &dyn Images,
    name: &ImageName,
    options: &PullOptions,
    bring: &dyn Bring,
    progress: &dyn Progress,
) -> Result<Pulled, Error> {
    let access = Access::new(&options.access)?;
    let mut candidates = short_name::candidates(name, &access.registries)?;
    let local = find_local(images, name, &candidates, options.platform.as_ref())?;
    match (options.policy, &local) {
        (PullPolicy::Missing | PullPolicy::Never, Some((_, local))) => {
            return Ok(Pulled::Here(local.id.clone()));
        }
        (PullPolicy::Never, None) => return Err(Error::NotFound(name.to_string())),
        _ => {}
    }
    let chosen = short_name::choose(
        name,
        &mut candidates,
        &access.registries,
        &options.access,
        options.ask,
        progress,
    )?;
    let pull = Pull {
        access: &access,
        trust: Trust::load(
            &options.access.paths,
            options.access.signature_policy.as_deref(),
        )?,
        runtime: runtime()?,
        platform: options.platform.clone().unwrap_or_else(Platform::host),
        images,
        bring,
        progress,
        local: local.as_ref(),
        judged_as: options.judged_as.as_ref(),
    };
    let pulled = match (pull.any_of(&candidates), local) {
        (Ok(pulled), _) => pulled,
        // A registry that is down does not take away what is here.
        (
            Err(error @ (Error::Registry(_) | Error::NotInRegistry(_) | Error::Denied(_))),
            Some((_, local)),
        ) if options.policy == PullPolicy::Newer => {
            progress.event(Event::Warning(&format!("{error}; using the image here")));
            return Ok(Pulled::Here(local.id));
        }
        (Err(error), _) => return Err(error),
    };
    if chosen {
        short_name::keep_choice(name, &candidates, &options.access.paths);
    }
    Ok(pulled)
}

/// The image here that a pull would replace. An image of another platform than the one that was
/// asked for is none.
fn find_local(
    images: &dyn Images,
    name: &ImageName,
    candidates: &Candidates,
    platform: Option<&Platform>,
) -> Result<Option<(Reference, LocalImage)>, Error> {
    // What was built here under a short name comes before what a registry has under it.
    let built = match name {
        ImageName::Short(short) => Some(short.in_registry("localhost")),
        ImageName::Full(_) => None,
    };
    for reference in built.iter().chain(&candidates.references) {
        let reference = reference.clone().or_latest();
        if let Some(image) = images.find(&reference)?
            && platform.is_none_or(|platform| platform.is_met_by(&image.platform))
        {
            return Ok(Some((reference, image)));
        }
    }
    Ok(None)
}

struct Pull<'a> {
    access: &'a Access,
    trust: Trust,
    runtime: tokio::runtime::Runtime,
    platform: Platform,
    images: &'a dyn Images,
    bring: &'a dyn Bring,
    progress: &'a dyn Progress,
    local: Option<&'a (Reference, LocalImage)>,
    judged_as: Option<&'a Reference>,
}

impl Pull<'_> {
    /// Tries the names in order; a name that works ends it.
    fn any_of(&self, candidates: &Candidates) -> Result<Pulled, Error> {
        from_any(
            self.access,
            candidates,
            self.progress,
            &|reference, endpoint| self.try_endpoint(reference, endpoint),
        )
    }

    fn try_endpoint(&self, reference: &Reference, endpoint: &Endpoint) -> Result<Pulled, Error> {
        let repository = self.access.repository(endpoint, reference.registry());
        let name = endpoint.reference.manifest_name();
        let local = self.local.filter(|(here, _)| here == reference);
        let judged_as = self.judged_as.unwrap_or(reference);
        // One that is here is looked at again where its rule asks for more than its name.
        if let Some((_, local)) = local
            && self.trust.accepts_all_of(judged_as)
            && let Some(digest) = self.runtime.block_on(repository.manifest_digest(&name))?
            && self.images.is_current(local, &digest, &self.platform)?
        {
            return Ok(Pulled::Here(local.id.clone()));
        }
        let resolved = self
            .runtime
            .block_on(resolve(&repository, &name, &self.platform))?;
        // Before anything of the image is written, and also for one that is here under another name.
        let origin = Origin {
            access: self.access,
            reference: judged_as,
            endpoint,
            repository: &repository,
        };
        self.runtime.block_on(self.trust.check_pulled(
            &origin,
            &resolved.digest,
            &resolved.bytes,
        ))?;
        let image = PulledImage {
            id: resolved.config()?,
            reference: reference.clone().digest_over_tag(),
            manifest: resolved.digest.clone(),
            index: resolved.index.as_ref().map(|(digest, _)| digest.clone()),
        };
        self.images.check_name(&image.reference)?;
        self.bring.bring(&mut |blobs, unpacker| {
            self.fetch(&repository, &resolved, blobs, unpacker)
                .map_err(|error| explain_space(error, blobs, resolved.missing(blobs)))?;
            self.progress.event(Event::Writing);
            self.images
                .record(&image)
                .map_err(|error| explain_space(error, blobs, 0))
        })?;
        Ok(Pulled::New(image.id))
    }

    fn fetch(
        &self,
        repository: &Repository,
        resolved: &Resolved,
        blobs: &BlobStore,
        unpacker: &dyn Unpacker,
    ) -> Result<(), Error> {
        fetch(
            &self.runtime,
            repository,
            resolved,
            &self.platform,
            &Here::new(self.images, blobs, unpacker),
            self.progress,
        )
    }
}

/// Tries what a name may mean, in order, and for each its mirrors and then its own registry.
pub(crate) fn from_any<T>(
    access: &Access,
    candidates: &Candidates,
    progress: &dyn Progress,
    attempt: &dyn Fn(&Reference, &Endpoint) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut failures: Vec<Error> = Vec::new();
    for reference in &candidates.references {
        let reference = reference.clone().or_latest();
        progress.event(Event::Trying(&reference));
        match from_one(access, &reference, progress, attempt) {
            Err(error) if candidates.references.len() > 1 && is_remote(&error) => {
                failures.push(error);
            }
            other => return other,
        }
    }
    let all: Vec<String> = failures.iter().map(Error::to_string).collect();
    let all = format!("no registry has it: {}", all.join("; "));
    Err(match failures.pop() {
        Some(Error::Denied(_)) => Error::Denied(all),
        Some(Error::NotInRegistry(_)) => Error::NotInRegistry(all),
        _ => Error::Registry(all),
    })
}

/// Tries the mirrors of one name, then its own registry.
fn from_one<T>(
    access: &Access,
    reference: &Reference,
    progress: &dyn Progress,
    attempt: &dyn Fn(&Reference, &Endpoint) -> Result<T, Error>,
) -> Result<T, Error> {
    let endpoints = access.registries.endpoints(reference)?;
    let last = endpoints.len().saturating_sub(1);
    for (number, endpoint) in endpoints.iter().enumerate() {
        match attempt(reference, endpoint) {
            Err(error) if number < last && is_remote(&error) => {
                progress.event(Event::Warning(&format!(
                    "mirror {}: {error}; trying the next",
                    endpoint.reference.registry()
                )));
            }
            other => return other,
        }
    }
    Err(Error::Invalid(format!(
        "{reference}: registries.conf leaves no place to pull it from"
    )))
}

/// Whether another registry may do better: not where this machine is at fault.
pub(crate) fn is_remote(error: &Error) -> bool {
    matches!(
        error,
        Error::Registry(_)
            | Error::NotInRegistry(_)
            | Error::Denied(_)
            | Error::DigestMismatch { .. }
    )
}

/// Names the file system that is full, and what it lacks: the bytes of the blobs that are `missing`.
fn explain_space(error: Error, blobs: &BlobStore, missing: u64) -> Error {
    let need = match missing {
        0 => {
            "the image does not fit when it is extracted; another pull goes on from here".to_owned()
        }
        _ => format!(
            "the image takes {} more to download, and as much or more to extract; another pull goes on from here",
            space::amount(missing)
        ),
    };
    space::explain(error, &blobs.path(&Digest::of(b"")), &need)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_podmans_and_dockers_words() {
        for (text, policy) in [
            ("always", PullPolicy::Always),
            ("true", PullPolicy::Always),
            ("missing", PullPolicy::Missing),
            ("IfNotPresent", PullPolicy::Missing),
            ("newer", PullPolicy::Newer),
            ("never", PullPolicy::Never),
            ("false", PullPolicy::Never),
        ] {
            assert_eq!(text.parse::<PullPolicy>().unwrap(), policy);
        }
        assert!("sometimes".parse::<PullPolicy>().is_err());
    }
}
