//! `kelp push`: an image to a registry.
//!
//! Blobs go side by side, the manifest last: what a registry has under a name is whole at any moment.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::Error;
use crate::access::{Access, AccessOptions, runtime};
use crate::blob::BlobStore;
use crate::blob_place::BlobPlace;
use crate::digest::Digest;
use crate::parcel::{Parcel, ParcelBlob};
use crate::progress::{Event, Progress};
use crate::reference::Reference;
use crate::registry::Repository;
use crate::store::{ImageRecord, Store};
use crate::upload::{Sent, Upload, rotten};

/// How many blobs are sent at the same time, as podman does.
const PARALLEL_BLOBS: usize = 6;

/// How often it is shown how far a blob has got.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

/// The most repositories that a blob is asked for in, before it is sent.
const SOURCE_LIMIT: usize = 4;

/// Sends an image to a registry under a name, and returns the digest of its manifest there.
pub fn push(
    store: &Store,
    blobs: &BlobStore,
    parcel: &Parcel,
    to: &Reference,
    access: &AccessOptions,
    progress: &dyn Progress,
) -> Result<Digest, Error> {
    let access = Access::new(access)?;
    let to = to.clone().or_latest();
    let endpoint = access.registries.own_endpoint(&to)?;
    let sources = sources(store, parcel, &access, &endpoint.reference)?;
    let repository = access.to_push(&endpoint, &sources);
    let name = endpoint.reference.manifest_name();
    if let Some(wanted) = to.digest() {
        wanted.is("pushing by digest", parcel.digest.clone())?;
    }
    runtime()?.block_on(async {
        send_blobs(&repository, parcel.blobs(), blobs, &sources, progress).await?;
        progress.event(Event::Writing);
        repository
            .put_manifest(&name, &parcel.media_type, &parcel.manifest, &parcel.digest)
            .await
    })?;
    Ok(parcel.digest.clone())
}

/// Sends what a manifest needs, and not the manifest.
pub(crate) async fn send_blobs(
    repository: &Repository,
    needed: Vec<&ParcelBlob>,
    blobs: &BlobStore,
    sources: &[String],
    progress: &dyn Progress,
) -> Result<(), Error> {
    stream::iter(needed.into_iter().filter(|blob| !blob.foreign))
        .map(|blob| send_blob(repository, blob, blobs, sources, progress))
        .buffer_unordered(PARALLEL_BLOBS)
        .try_collect::<()>()
        .await
}

async fn send_blob(
    repository: &Repository,
    blob: &ParcelBlob,
    blobs: &BlobStore,
    sources: &[String],
    progress: &dyn Progress,
) -> Result<(), Error> {
    let digest = &blob.digest;
    let file = match blobs.reader(digest) {
        Err(Error::NotFound(_)) => return Err(rotten(digest)),
        file => file?,
    };
    let found = file
        .metadata()
        .map_err(Error::io(format!("look at blob {digest}")))?;
    if found.len() != blob.size {
        return Err(rotten(digest));
    }
    let sent = Arc::new(AtomicU64::new(0));
    let upload = Upload {
        place: BlobPlace { repository, digest },
        size: blob.size,
        file: Arc::new(file),
        sent: Arc::clone(&sent),
    };
    progress.event(Event::BlobStarted {
        digest,
        size: blob.size,
        from: 0,
    });
    let shown = async {
        let mut last = 0;
        loop {
            tokio::time::sleep(SHOWN_EVERY).await;
            let position = sent.load(Ordering::Relaxed);
            if position != last {
                progress.event(Event::BlobAdvanced { digest, position });
                last = position;
            }
        }
    };
    let run: Result<Sent, Error> = match select(pin!(upload.run(sources)), pin!(shown)).await {
        Either::Left((result, _)) => result,
        Either::Right((never, _)) => {
            let never: Infallible = never;
            match never {}
        }
    };
    match run? {
        Sent::Had => progress.event(Event::BlobSkipped { digest }),
        Sent::Uploaded => progress.event(Event::BlobDone { digest }),
    }
    Ok(())
}

/// Repositories of the same registry that are known to have a layer of the image.
fn sources(
    store: &Store,
    parcel: &Parcel,
    access: &Access,
    to: &Reference,
) -> Result<Vec<String>, Error> {
    let needed: BTreeSet<&Digest> = parcel.layers.iter().map(|layer| &layer.digest).collect();
    let records = store.records()?;
    let has = |record: &&ImageRecord| {
        let mut layers = record.layers.iter();
        layers.any(|layer| needed.contains(&layer.digest))
    };
    let known = records.iter().filter(has);
    Ok(mountable(
        known.flat_map(|record| &record.repo_digests),
        access,
        to,
    ))
}

/// The repositories of the registry that something goes to, among those that are known to have some of it.
pub(crate) fn mountable<'a>(
    known: impl Iterator<Item = &'a String>,
    access: &Access,
    to: &Reference,
) -> Vec<String> {
    let mut sources = BTreeSet::new();
    for known in known {
        // As registries.conf has it, like the place itself.
        if let Ok(known) = Reference::parse(known)
            && let Ok(known) = access.registries.own_endpoint(&known)
            && let known = known.reference
            && known.registry() == to.registry()
            && known.repository() != to.repository()
        {
            sources.insert(known.repository().to_owned());
        }
    }
    sources.into_iter().take(SOURCE_LIMIT).collect()
}
