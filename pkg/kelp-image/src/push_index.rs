//! An index to a registry, with its images: blobs, then manifests by digest, the index last.
//!
//! An image that is not here is copied from a repository that is known to have it: what the registry
//! itself has is mounted, the rest comes by here and is gone afterwards.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::Error;
use crate::access::{Access, AccessOptions, runtime};
use crate::blob::BlobStore;
use crate::blob_place::BlobPlace;
use crate::compose::ManifestForm;
use crate::digest::Digest;
use crate::manifest::{DOCKER_LIST, Document, OCI_INDEX};
use crate::parcel::{Parcel, ParcelBlob, Wanted};
use crate::progress::{Event, Progress};
use crate::pull::is_remote;
use crate::push::{mountable, send_blobs};
use crate::reference::Reference;
use crate::registry::Repository;

/// An index on its way.
pub struct IndexPush<'a> {
    /// Its bytes.
    pub index: Vec<u8>,
    /// The blobs that are here, under a lease; what is brought goes there as well.
    pub blobs: &'a BlobStore,
    /// The repositories that have an image, as `registry/repository`, by its manifest's digest.
    pub sources: &'a BTreeMap<Digest, Vec<String>>,
    /// Where it goes.
    pub to: &'a Reference,
    /// How registries are reached; credentials are for the one that it goes to.
    pub access: &'a AccessOptions,
    /// What the images are to become; nothing keeps all digests.
    pub wanted: Wanted,
    /// Whether its images go along.
    pub all: bool,
    /// Who is told.
    pub progress: &'a dyn Progress,
}

/// What a push has come to.
#[derive(Clone, Debug)]
pub struct PushedIndex {
    /// The digest of the index in the registry.
    pub digest: Digest,
    /// Blobs that were brought here for it, and that nobody may need.
    pub brought: Vec<Digest>,
}

impl IndexPush<'_> {
    /// Sends it.
    pub fn run(self) -> Result<PushedIndex, Error> {
        let access = Access::new(self.access)?;
        let to = self.to.clone().or_latest();
        let endpoint = access.registries.own_endpoint(&to)?;
        let known = self.sources.values().flatten();
        let mounts = mountable(known, &access, &endpoint.reference);
        let repository = access.to_push(&endpoint, &mounts);
        let mut sending = Sending {
            runtime: runtime()?,
            elsewhere: Access::new(&AccessOptions {
                credentials: None,
                ..self.access.clone()
            })?,
            repository: &repository,
            mounts: &mounts,
            brought: Vec::new(),
            push: &self,
        };
        let (bytes, media_type) = sending.images()?;
        let digest = Digest::of(&bytes);
        if let Some(wanted) = to.digest() {
            wanted.is("pushing by digest", digest.clone())?;
        }
        self.progress.event(Event::Writing);
        let name = endpoint.reference.manifest_name();
        let put = repository.put_manifest(&name, &media_type, &bytes, &digest);
        sending.runtime.block_on(put)?;
        Ok(PushedIndex {
            digest,
            brought: sending.brought,
        })
    }
}

struct Sending<'a> {
    runtime: Runtime,
    /// For registries that images come from.
    elsewhere: Access,
    repository: &'a Repository,
    mounts: &'a [String],
    brought: Vec<Digest>,
    push: &'a IndexPush<'a>,
}

impl Sending<'_> {
    /// Sends the images; the index as it is to be put, and its media type.
    fn images(&mut self) -> Result<(Vec<u8>, String), Error> {
        let push = self.push;
        Document::parse(&push.index, None)?;
        let mut index: Value =
            serde_json::from_slice(&push.index).map_err(Error::json("read an index"))?;
        let before = index.clone();
        let entries = index["manifests"].as_array().into_iter().flatten();
        let entries = entries
            .map(|entry| entry["digest"].as_str().unwrap_or_default().parse())
            .collect::<Result<Vec<Digest>, Error>>()?;
        let wanted = &push.wanted;
        let changes = wanted.form.is_some() || wanted.compression.is_some();
        if changes && !push.all {
            return Err(Error::Invalid(
                "another format or compression makes other images: it needs --all".to_owned(),
            ));
        }
        for (position, digest) in entries.iter().enumerate().filter(|_| push.all) {
            let parcel = self.image(digest, changes)?;
            if parcel.digest != *digest {
                let entry = &mut index["manifests"][position];
                entry["digest"] = json!(parcel.digest);
                entry["size"] = json!(parcel.manifest.len());
                entry["mediaType"] = json!(parcel.media_type);
            }
        }
        match wanted.form {
            Some(ManifestForm::Docker) => {
                index["mediaType"] = json!(DOCKER_LIST);
                if let Some(index) = index.as_object_mut() {
                    index.remove("annotations");
                }
            }
            Some(ManifestForm::Oci) => index["mediaType"] = json!(OCI_INDEX),
            None => {}
        }
        let media_type = index["mediaType"].as_str().unwrap_or(OCI_INDEX).to_owned();
        let bytes = if index == before {
            push.index.clone()
        } else {
            index.to_string().into_bytes()
        };
        Ok((bytes, media_type))
    }

    /// Sends one image, with its manifest under its digest.
    fn image(&mut self, digest: &Digest, changes: bool) -> Result<Parcel, Error> {
        let push = self.push;
        let sources = push.sources.get(digest).map_or(&[][..], Vec::as_slice);
        if !push.blobs.is_readable(digest)? {
            let bytes = self.ask(digest, sources, &|repository, runtime| {
                Ok(runtime
                    .block_on(repository.manifest(&digest.to_string()))?
                    .bytes)
            })?;
            push.blobs.put(&bytes, Some(digest))?;
            self.brought.push(digest.clone());
        }
        let mut parcel = Parcel::of_manifest(push.blobs, digest)?;
        let mut there = Vec::new();
        for blob in parcel.blobs().into_iter().filter(|blob| !blob.foreign) {
            if push.blobs.is_readable(&blob.digest)? {
                continue;
            }
            let place = BlobPlace {
                repository: self.repository,
                digest: &blob.digest,
            };
            if !changes && self.runtime.block_on(place.fill(self.mounts))? {
                push.progress.event(Event::BlobSkipped {
                    digest: &blob.digest,
                });
                there.push(blob.digest.clone());
            } else {
                self.bring(blob, sources)?;
            }
        }
        if changes {
            parcel = parcel.changed(None, push.blobs, &push.wanted)?;
        }
        let mut left = parcel.blobs();
        left.retain(|blob| !there.contains(&blob.digest));
        let name = parcel.digest.to_string();
        self.runtime.block_on(async {
            send_blobs(
                self.repository,
                left,
                push.blobs,
                self.mounts,
                push.progress,
            )
            .await?;
            self.repository
                .put_manifest(&name, &parcel.media_type, &parcel.manifest, &parcel.digest)
                .await
        })?;
        Ok(parcel)
    }

    /// Brings a blob here from where it is.
    fn bring(&mut self, blob: &ParcelBlob, sources: &[String]) -> Result<(), Error> {
        let blobs = self.push.blobs;
        self.ask(&blob.digest, sources, &|repository, runtime| {
            runtime.block_on(download(repository, &blob.digest, blob.size, blobs))
        })?;
        self.brought.push(blob.digest.clone());
        Ok(())
    }

    /// Asks the repositories that have an image, one after the other.
    fn ask<T>(
        &self,
        digest: &Digest,
        sources: &[String],
        what: &dyn Fn(&Repository, &Runtime) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut failed = None;
        for source in sources {
            let reference = Reference::parse(source)?;
            for endpoint in self.elsewhere.registries.endpoints(&reference)? {
                let repository = self.elsewhere.repository(&endpoint, reference.registry());
                match what(&repository, &self.runtime) {
                    Ok(done) => return Ok(done),
                    Err(error) if is_remote(&error) => failed = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
        Err(failed.unwrap_or_else(|| {
            Error::NotFound(format!(
                "{digest} is not here, and no registry is known that has it"
            ))
        }))
    }
}

/// Downloads a blob, and goes on where it was cut.
async fn download(
    repository: &Repository,
    digest: &Digest,
    size: u64,
    blobs: &BlobStore,
) -> Result<(), Error> {
    let Some(mut writer) = blobs.resume(digest)? else {
        return Ok(());
    };
    if writer.len() > size {
        writer.restart()?;
    }
    let mut attempt = 0;
    while writer.len() < size {
        let before = writer.len();
        let mut stream = repository.blob(digest, before, None).await?;
        if stream.start == 0 && before > 0 {
            writer.restart()?;
        } else if stream.start != before {
            return Err(Error::Registry(format!(
                "blob {digest}: the registry sends it from another place than was asked for"
            )));
        }
        let failure = loop {
            match stream.chunk().await {
                Ok(Some(bytes)) => writer.write(&bytes)?,
                Ok(None) => {
                    break Error::Registry(format!("blob {digest}: the download ended too early"));
                }
                Err(failure) => break Error::from(failure),
            }
            if writer.len() > size {
                return Err(Error::Invalid(format!(
                    "blob {digest} is larger than the {size} bytes of its manifest"
                )));
            }
        };
        if writer.len() == size {
            break;
        }
        if writer.len() > before {
            attempt = 0;
        }
        let pause = repository.retry_pause(attempt).ok_or(failure)?;
        attempt += 1;
        tokio::time::sleep(pause).await;
    }
    writer.commit(digest)
}
