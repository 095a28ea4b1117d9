//! `kelp artifact pull`: from a name to an artifact that is here.
//!
//! Registries are reached as for an image: mirrors, credentials, certificates, policy.json and what is tried again
//! are the same. Blobs come side by side, verified, and go on where a download was cut; the record is written last.

use std::path::PathBuf;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::check;
use crate::Error;
use crate::access::{Access, AccessOptions, runtime};
use crate::blob::BlobStore;
use crate::digest::Digest;
use crate::download::Layer;
use crate::fetch::{Here, Resolved, bring, resolve_by};
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::pull::from_any;
use crate::reference::{ImageName, Reference};
use crate::registries_conf::Endpoint;
use crate::registry::Repository;
use crate::short_name::{self, Ask};
use crate::space;
use crate::store::{ArtifactRecord, Store, Taking};
use crate::trust::{Origin, Trust};

/// The config of an artifact that has none.
const EMPTY: &[u8] = b"{}";

/// What a pull may be told.
#[derive(Debug, Clone, Default)]
pub struct ArtifactPull {
    /// How registries are reached.
    pub access: AccessOptions,
    /// Asks a person which of several full names a short one means.
    pub ask: Option<Ask>,
}

/// Does work with blobs that are kept as long as it lasts. What that needs is made when it is needed: a pull that
/// finds nothing new writes nothing.
pub type WithBlobs<'a> =
    dyn Fn(&mut dyn FnMut(&BlobStore) -> Result<(), Error>) -> Result<(), Error> + 'a;

/// What a pull has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledArtifact {
    /// The digest of the manifest.
    pub manifest: Digest,
    /// Files that are to be deleted, of an artifact that had the name before.
    pub trash: Vec<PathBuf>,
}

/// Brings an artifact here.
pub fn pull(
    store: &Store,
    name: &ImageName,
    options: &ArtifactPull,
    with_blobs: &WithBlobs<'_>,
    progress: &dyn Progress,
) -> Result<PulledArtifact, Error> {
    let access = Access::new(&options.access)?;
    let mut candidates = short_name::candidates(name, &access.registries)?;
    let chosen = short_name::choose(
        name,
        &mut candidates,
        &access.registries,
        &options.access,
        options.ask,
        progress,
    )?;
    let pull = Pull {
        store,
        access: &access,
        trust: Trust::load(
            &options.access.paths,
            options.access.signature_policy.as_deref(),
        )?,
        runtime: runtime()?,
        with_blobs,
        progress,
    };
    let pulled = from_any(&access, &candidates, progress, &|reference, endpoint| {
        pull.try_endpoint(reference, endpoint)
    })?;
    if chosen {
        short_name::keep_choice(name, &candidates, &options.access.paths);
    }
    Ok(pulled)
}

struct Pull<'a> {
    store: &'a Store,
    access: &'a Access,
    trust: Trust,
    runtime: tokio::runtime::Runtime,
    with_blobs: &'a WithBlobs<'a>,
    progress: &'a dyn Progress,
}

impl Pull<'_> {
    fn try_endpoint(
        &self,
        reference: &Reference,
        endpoint: &Endpoint,
    ) -> Result<PulledArtifact, Error> {
        let repository = self.access.repository(endpoint, reference.registry());
        let name = endpoint.reference.manifest_name();
        let here = self.here(reference)?;
        let as_it_is = |manifest| PulledArtifact {
            manifest,
            trash: Vec::new(),
        };
        // One that is here is looked at again where its rule asks for more than its name.
        if let Some(here) = &here
            && self.trust.accepts_all_of(reference)
            && let Some(digest) = self.runtime.block_on(repository.manifest_digest(&name))?
            && digest == here.manifest
        {
            return Ok(as_it_is(digest));
        }
        let choice = |index: &ImageIndex| choose(index, &repository.name());
        let found = self
            .runtime
            .block_on(resolve_by(&repository, &name, choice))?;
        check(&reference.to_string(), &found.manifest)?;
        let files = files(&found.manifest)?;
        // Before anything of it is written, and also for one that is here under another name.
        let origin = Origin {
            access: self.access,
            reference,
            endpoint,
            repository: &repository,
        };
        self.runtime.block_on(
            self.trust
                .check_pulled(&origin, &found.digest, &found.bytes),
        )?;
        if here.is_some_and(|here| here.manifest == found.digest) {
            return Ok(as_it_is(found.digest));
        }
        let mut trash = Vec::new();
        (self.with_blobs)(&mut |blobs| {
            self.fetch(&repository, &found, &files, blobs)
                .map_err(|error| explain_space(error, blobs, &files))?;
            self.progress.event(Event::Writing);
            trash = self
                .store
                .add_artifact(&found.digest, reference, Taking::Any)
                .map_err(|error| explain_space(error, blobs, &files))?;
            Ok(())
        })?;
        Ok(PulledArtifact {
            manifest: found.digest,
            trash,
        })
    }

    /// The artifact with this name, if it is here whole.
    fn here(&self, reference: &Reference) -> Result<Option<ArtifactRecord>, Error> {
        let here = self.store.artifact_named(reference)?;
        let blobs = self.store.blobs();
        let is_whole = |record: &ArtifactRecord| {
            let mut references = record.references();
            references.all(|digest| blobs.path(digest).exists())
        };
        Ok(here.filter(is_whole))
    }

    fn fetch(
        &self,
        repository: &Repository,
        found: &Resolved,
        files: &[Layer],
        blobs: &BlobStore,
    ) -> Result<(), Error> {
        self.progress.event(Event::Found);
        let here = Here::without_layers(self.store, blobs);
        bring(&self.runtime, repository, files, &here, self.progress)?;
        let config = Digest::try_from(found.manifest.config().digest())?;
        if is_empty(found.manifest.config()) {
            blobs.put(EMPTY, Some(&config))?;
        }
        self.progress.event(Event::Config { digest: &config });
        blobs.put(&found.bytes, Some(&found.digest))?;
        Ok(())
    }
}

/// The manifest of an index for this host, or the only one; `name` is for the error that says what there is.
fn choose(index: &ImageIndex, name: &str) -> Result<Descriptor, Error> {
    match (Platform::host().choose(index), index.manifests().as_slice()) {
        (Some(chosen), _) => Ok(chosen.clone()),
        (None, [only]) => Ok(only.clone()),
        (None, several) => {
            let digests = several.iter().map(|entry| entry.digest().to_string());
            Err(Error::NotInRegistry(format!(
                "{name}: it is an index, and none of its manifests is for this host: pull one by its digest: {}",
                digests.collect::<Vec<_>>().join(", ")
            )))
        }
    }
}

/// Whether it is the config of an artifact that has none, which a registry need not be asked for.
fn is_empty(config: &Descriptor) -> bool {
    Digest::try_from(config.digest()).is_ok_and(|digest| digest.check("config", EMPTY).is_ok())
}

/// The blobs that are to be fetched, each once.
fn files(manifest: &ImageManifest) -> Result<Vec<Layer>, Error> {
    let config = Some(manifest.config()).filter(|config| !is_empty(config));
    let mut files: Vec<Layer> = Vec::new();
    for descriptor in config.into_iter().chain(manifest.layers()) {
        let digest = Digest::try_from(descriptor.digest())?;
        match files.iter().find(|file| file.digest == digest) {
            Some(same) if same.size == descriptor.size() => {}
            Some(_) => {
                return Err(Error::Invalid(format!(
                    "blob {digest} occurs twice with different sizes"
                )));
            }
            None => files.push(Layer {
                diff_id: digest.clone(),
                digest,
                size: descriptor.size(),
                urls: descriptor.urls().clone().unwrap_or_default(),
                table: None,
            }),
        }
    }
    Ok(files)
}

/// Names the file system that is full, and what of the files it lacks.
fn explain_space(error: Error, blobs: &BlobStore, files: &[Layer]) -> Error {
    let missing = files
        .iter()
        .filter(|file| !blobs.contains(&file.digest).unwrap_or(false));
    let need = match missing.map(|file| file.size).fold(0, u64::saturating_add) {
        0 => "the artifact's files are here, and the little that names them does not fit; another pull goes on from \
              here"
            .to_owned(),
        missing => format!(
            "the artifact takes {} more; another pull goes on from here",
            space::amount(missing)
        ),
    };
    space::explain(error, &blobs.path(&Digest::of(b"")), &need)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_full_disk_says_what_is_lacking() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(directory.path()).unwrap();
        let file = |content: &[u8], size| Layer {
            digest: Digest::of(content),
            diff_id: Digest::of(content),
            size,
            urls: Vec::new(),
            table: None,
        };
        let (here, gone) = (file(b"here", 4), file(b"gone", 2_500_000));
        blobs.put(b"here", None).unwrap();
        for (files, said) in [
            (
                vec![here.clone(), gone],
                "the artifact takes 2.5 MB more; another pull",
            ),
            (
                vec![here],
                "the artifact's files are here, and the little that names them does not fit; another pull",
            ),
        ] {
            let full = Error::Io {
                what: "write".to_owned(),
                source: io::Error::from(io::ErrorKind::StorageFull),
            };
            let told = explain_space(full, &blobs, &files).to_string();
            assert!(told.contains(said), "{told}");
        }
    }
}
