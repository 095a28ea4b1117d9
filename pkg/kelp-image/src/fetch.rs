//! One image from one endpoint: manifest, config, then the layers side by side.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::thread;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;

use crate::Error;
use crate::blob::{BlobStore, DOCUMENT_LIMIT};
use crate::chunked::{self, Source, TablePosition};
use crate::digest::Digest;
use crate::download::{Layer, LayerPull};
use crate::manifest::{Document, check_config_type, check_layer_type};
use crate::platform::{Platform, of_descriptor};
use crate::progress::{Event, Progress};
use crate::pull::Images;
use crate::registry::{Fetched, Repository};
use crate::unpacker::Unpacker;

/// How many layers are brought at the same time, as podman does.
const PARALLEL_LAYERS: usize = 6;

/// The most layers that an image may have: more than overlayfs can stack anyway.
pub(crate) const LAYER_LIMIT: usize = 500;

/// What a registry has under a name, before its layers are fetched.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The index that led to the manifest, if one did.
    pub(crate) index: Option<(Digest, Vec<u8>)>,
    /// The manifest's digest.
    pub(crate) digest: Digest,
    /// The manifest as it came.
    pub(crate) bytes: Vec<u8>,
    /// The same, read.
    pub(crate) manifest: Box<ImageManifest>,
}

/// What of a config matters here.
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    pub(crate) rootfs: RootFs,
}

/// The layers of a config.
#[derive(Deserialize)]
pub(crate) struct RootFs {
    /// The digests of their archives, the lowest first.
    #[serde(default)]
    pub(crate) diff_ids: Vec<Digest>,
}

impl Config {
    /// Reads a config's bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(Error::json("read the image's config"))
    }

    /// What the image runs on.
    pub(crate) fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
        }
    }
}

impl Resolved {
    /// Bytes of the layers' blobs that are not here yet.
    pub(crate) fn missing(&self, blobs: &BlobStore) -> u64 {
        let is_missing = |layer: &&Descriptor| {
            Digest::try_from(layer.digest())
                .is_ok_and(|digest| !blobs.contains(&digest).unwrap_or(false))
        };
        let layers = self.manifest.layers().iter().filter(is_missing);
        layers.map(Descriptor::size).fold(0, u64::saturating_add)
    }

    /// The image's id: its config's digest.
    pub(crate) fn config(&self) -> Result<Digest, Error> {
        Digest::try_from(self.manifest.config().digest())
    }
}

/// Fetches an image's manifest of a name, for a platform where there is a choice.
pub(crate) async fn resolve(
    repository: &Repository,
    name: &str,
    platform: &Platform,
) -> Result<Resolved, Error> {
    let choice = |index: &ImageIndex| choose(index, platform, &repository.name()).cloned();
    let resolved = resolve_by(repository, name, choice).await?;
    check(&resolved.manifest)?;
    Ok(resolved)
}

/// Fetches the manifest of a name, whatever it is of; `choice` says which one of an index is meant.
pub(crate) async fn resolve_by(
    repository: &Repository,
    name: &str,
    choice: impl Fn(&ImageIndex) -> Result<Descriptor, Error>,
) -> Result<Resolved, Error> {
    let resolved = |index, fetched: Fetched, manifest| Resolved {
        index,
        digest: fetched.digest,
        bytes: fetched.bytes,
        manifest,
    };
    let top = repository.manifest(name).await?;
    let index = match Document::parse(&top.bytes, top.media_type.as_deref())? {
        Document::Manifest(manifest) => return Ok(resolved(None, top, manifest)),
        Document::Index(index) => index,
    };
    let chosen = choice(&index)?;
    let digest = Digest::try_from(chosen.digest())?;
    let fetched = repository.manifest(&digest.to_string()).await?;
    if fetched.bytes.len() as u64 != chosen.size() {
        return Err(Error::Invalid(format!(
            "manifest {digest} has {} bytes, but its index says {}",
            fetched.bytes.len(),
            chosen.size()
        )));
    }
    match Document::parse(&fetched.bytes, fetched.media_type.as_deref())? {
        Document::Manifest(manifest) => {
            Ok(resolved(Some((top.digest, top.bytes)), fetched, manifest))
        }
        Document::Index(_) => Err(Error::Invalid(format!(
            "{}: an index leads to another index",
            repository.name()
        ))),
    }
}

/// The image of an index for a platform; `name` is for the error that says what there is.
pub(crate) fn choose<'a>(
    index: &'a ImageIndex,
    platform: &Platform,
    name: &str,
) -> Result<&'a Descriptor, Error> {
    match (platform.choose(index), index.manifests().as_slice()) {
        (Some(chosen), _) => Ok(chosen),
        // An index around a single image need not say what it is for.
        (None, [only]) if only.platform().is_none() => Ok(only),
        (None, entries) => {
            let mut offered: Vec<String> = entries
                .iter()
                .filter_map(of_descriptor)
                .map(|offer| offer.to_string())
                .collect();
            offered.dedup();
            Err(Error::NotInRegistry(format!(
                "{name}: no image for {platform}; there are: {} (choose with --platform)",
                offered.join(", ")
            )))
        }
    }
}

/// Whether a manifest is an image's.
pub(crate) fn check(manifest: &ImageManifest) -> Result<(), Error> {
    check_config_type(manifest.config().media_type().as_ref())?;
    for layer in manifest.layers() {
        check_layer_type(layer.media_type().as_ref())?;
    }
    if manifest.layers().len() > LAYER_LIMIT {
        return Err(Error::Invalid(format!(
            "the image has {} layers; more than {LAYER_LIMIT} can't be used",
            manifest.layers().len()
        )));
    }
    Ok(())
}

/// What is here already, and what brings more.
pub(crate) struct Here<'a> {
    /// The images.
    pub(crate) images: &'a dyn Images,
    /// Their blobs.
    pub(crate) blobs: &'a BlobStore,
    /// Who extracts layers; nobody does where blobs are kept as they are.
    pub(crate) unpacker: Option<&'a dyn Unpacker>,
    layers: OnceLock<HashSet<(Digest, Digest)>>,
    sources: OnceLock<Vec<Source>>,
}

impl<'a> Here<'a> {
    /// What is here, with nothing looked at yet.
    pub(crate) fn new(
        images: &'a dyn Images,
        blobs: &'a BlobStore,
        unpacker: &'a dyn Unpacker,
    ) -> Self {
        Self {
            unpacker: Some(unpacker),
            ..Self::without_layers(images, blobs)
        }
    }

    /// The same where no blob is a layer.
    pub(crate) fn without_layers(images: &'a dyn Images, blobs: &'a BlobStore) -> Self {
        Self {
            images,
            blobs,
            unpacker: None,
            layers: OnceLock::new(),
            sources: OnceLock::new(),
        }
    }

    /// Whether an image that is here has a layer in this blob.
    pub(crate) fn knows_layer(&self, digest: &Digest, diff_id: &Digest) -> Result<bool, Error> {
        let pair = (digest.clone(), diff_id.clone());
        Ok(self.layers()?.contains(&pair))
    }

    /// The layers' blobs that a zstd:chunked one may be put together from.
    pub(crate) fn sources(&self) -> &[Source] {
        self.sources.get_or_init(|| match self.layers() {
            Ok(layers) => chunked::sources(self.blobs, layers.iter().map(|(blob, _)| blob)),
            // All that they do is save something.
            Err(_) => Vec::new(),
        })
    }

    /// The layers of all images, looked at once.
    fn layers(&self) -> Result<&HashSet<(Digest, Digest)>, Error> {
        if let Some(layers) = self.layers.get() {
            return Ok(layers);
        }
        let layers = self.images.layers()?;
        Ok(self.layers.get_or_init(|| layers))
    }
}

/// Fetches everything that a manifest names, and keeps the manifest last: after this, the blobs of
/// the image are complete and its layers extracted.
pub(crate) fn fetch(
    runtime: &tokio::runtime::Runtime,
    repository: &Repository,
    resolved: &Resolved,
    platform: &Platform,
    here: &Here<'_>,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let blobs = here.blobs;
    progress.event(Event::Found);
    let config_digest = resolved.config()?;
    let config = runtime.block_on(config(
        repository,
        resolved.manifest.config(),
        &config_digest,
        blobs,
    ))?;
    let parsed = Config::parse(&config)?;
    warn_about_platform(&parsed, platform, progress);
    let layers = layers(&resolved.manifest, &parsed.rootfs.diff_ids)?;
    bring(runtime, repository, &layers, here, progress)?;
    progress.event(Event::Config {
        digest: &config_digest,
    });
    blobs.put(&config, Some(&config_digest))?;
    blobs.put(&resolved.bytes, Some(&resolved.digest))?;
    if let Some((digest, bytes)) = &resolved.index {
        blobs.put(bytes, Some(digest))?;
    }
    Ok(())
}

/// Brings blobs side by side, and extracts them where they are layers.
pub(crate) fn bring(
    runtime: &tokio::runtime::Runtime,
    repository: &Repository,
    layers: &[Layer],
    here: &Here<'_>,
    progress: &dyn Progress,
) -> Result<(), Error> {
    // Threads may borrow what this function has borrowed, and none of them outlives it.
    thread::scope(|scope| {
        let pull = LayerPull {
            scope,
            repository,
            here,
            progress,
        };
        runtime.block_on(
            stream::iter(layers)
                .map(|layer| pull.bring(layer))
                .buffer_unordered(PARALLEL_LAYERS)
                .try_collect::<()>(),
        )
    })
}

async fn config(
    repository: &Repository,
    descriptor: &Descriptor,
    digest: &Digest,
    blobs: &BlobStore,
) -> Result<Vec<u8>, Error> {
    if descriptor.size() > DOCUMENT_LIMIT {
        return Err(Error::Invalid(format!(
            "the image's config is larger than {} MiB",
            DOCUMENT_LIMIT >> 20
        )));
    }
    if blobs.contains(digest)? {
        return blobs.read(digest, DOCUMENT_LIMIT);
    }
    repository.document(digest, DOCUMENT_LIMIT as usize).await
}

/// Pairs the manifest's layers with the config's diff ids; what occurs twice is brought once.
pub(crate) fn layers(manifest: &ImageManifest, diff_ids: &[Digest]) -> Result<Vec<Layer>, Error> {
    if manifest.layers().len() != diff_ids.len() {
        return Err(Error::Invalid(format!(
            "the manifest has {} layers, but the config {}",
            manifest.layers().len(),
            diff_ids.len()
        )));
    }
    let mut layers: Vec<Layer> = Vec::new();
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
        let digest = Digest::try_from(descriptor.digest())?;
        match layers.iter().find(|layer| layer.digest == digest) {
            Some(same) if same.diff_id == *diff_id && same.size == descriptor.size() => {}
            Some(_) => {
                return Err(Error::Invalid(format!(
                    "layer {digest} occurs twice with different sizes or contents"
                )));
            }
            None => layers.push(Layer {
                digest,
                size: descriptor.size(),
                diff_id: diff_id.clone(),
                urls: descriptor.urls().clone().unwrap_or_default(),
                table: TablePosition::of(descriptor),
            }),
        }
    }
    Ok(layers)
}

fn warn_about_platform(config: &Config, platform: &Platform, progress: &dyn Progress) {
    if config.os.is_empty() || config.architecture.is_empty() {
        return;
    }
    let image = Platform::new(
        Some(&config.os),
        Some(&config.architecture),
        config.variant.as_deref(),
    );
    if !platform.fits(&image) {
        progress.event(Event::Warning(&format!(
            "image platform ({image}) does not match the expected platform ({platform})"
        )));
    }
}
