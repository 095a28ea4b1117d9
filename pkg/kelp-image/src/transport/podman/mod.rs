//! Images out of podman's own store: a user of podman moves over without a registry.
//!
//! podman keeps a layer as files, and beside them a note of every byte of its archive that is in no file
//! ([`assemble`]). The archive is made of both, by a process in the user namespace, and is worth nothing
//! until its digest is the one that the image's config names: who else can write to podman's store can
//! do no more here than a registry can. Nothing is ever written there.
//!
//! podman does not keep layers as they were compressed. So an image keeps its id, and the digests that it
//! was known by, but its manifest is made here.

pub mod assemble;
pub mod store;

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use kelp_sys::process::wait_pidfd;

use crate::Error;
use crate::compose::{ManifestForm, manifest_of};
use crate::feed::pipe;
use crate::ingest::LayerBlob;
use crate::load::{Load, Loaded, names};
use crate::progress::Event;
use crate::role::SpawnRole;
use crate::space;
use crate::transport::files::{Region, spool};
use crate::transport::offer::OfferedLayer;
use crate::trust::Subject;
use store::{FoundLayer, PodmanImage, PodmanStore};

/// The most bytes of what the process says that failed.
const REASON_LIMIT: u64 = 4 << 10;

/// Brings one image. `spawn` starts the process that reads layers, in podman's user namespace.
pub fn bring(
    load: &Load<'_>,
    store: &PodmanStore,
    image: &PodmanImage,
    spawn: &SpawnRole<'_>,
) -> Result<Loaded, Error> {
    let mut named = Vec::new();
    for name in names(&image.names)? {
        let digest = name.digest();
        if digest.map_or(Ok(true), |digest| store.is_known_by(image, digest))? {
            named.push(name);
        }
    }
    let mut repo_digests = Vec::new();
    if let Some(digest) = &image.digest
        && store.is_known_by(image, digest)?
    {
        let known = named.iter().map(|name| format!("{}@{digest}", name.name()));
        repo_digests.extend(known);
    }
    let (driver, id) = (image.driver.name(), Some(image.id.hex()));
    let subject = Subject::storage(driver, &store.root, named.first(), id);
    // A rule that wants signatures finds none: podman's are for what it has pulled, not for what is here.
    load.trust.check(&subject, &[], &[])?;
    let explained = |error| explain(error, image);
    let config = store.config(image).map_err(explained)?;
    let mut blobs = Vec::new();
    let layers = store.layers(image, &config).map_err(explained)?;
    let sizes = layers.iter().map(|layer| layer.size);
    let size = sizes.fold(0, u64::saturating_add);
    for layer in layers {
        let brought = bring_layer(load, store, &layer, spawn).map_err(explained);
        blobs.push(brought.map_err(|error| explain_space(error, load, size))?);
    }
    let id = image.id.clone();
    load.progress.event(Event::Config { digest: &id });
    load.blobs.put(&config, Some(&id))?;
    let manifest = manifest_of(load.blobs, &id, config.len(), &blobs, ManifestForm::Oci)?;
    Ok(Loaded {
        id,
        manifest,
        index: None,
        names: named,
        repo_digests,
        made_here: true,
    })
}

fn bring_layer(
    load: &Load<'_>,
    store: &PodmanStore,
    layer: &FoundLayer,
    spawn: &SpawnRole<'_>,
) -> Result<LayerBlob, Error> {
    let diff_id = &layer.diff_id;
    let region = match load.known_content(diff_id)? {
        // Nothing of podman's is read.
        Some(known) => Region::whole(load.blobs.reader(&known.digest)?)
            .map_err(Error::io(format!("look at blob {}", known.digest)))?,
        None => assembled(load, store, layer, spawn)?,
    };
    load.layer(&OfferedLayer {
        region,
        digest: None,
        diff_id: diff_id.clone(),
    })
}

/// A layer's archive, in a file without a name.
fn assembled(
    load: &Load<'_>,
    store: &PodmanStore,
    layer: &FoundLayer,
    spawn: &SpawnRole<'_>,
) -> Result<Region, Error> {
    let (archive, output) = pipe()?;
    let (reason, errors) = pipe()?;
    let root = store.root.to_string_lossy().into_owned();
    let role = [
        "podman-layer".to_owned(),
        root,
        layer.driver.name().to_owned(),
        layer.id.clone(),
    ];
    let fds = vec![(output.as_fd(), 1), (errors.as_fd(), 2)];
    let child = spawn(&role, fds).map_err(Error::io("start `kelp internal podman-layer`"))?;
    drop((output, errors));
    let file = spool(File::from(archive), load.data);
    let mut said = String::new();
    // What is no text says nothing.
    let _ = File::from(reason)
        .take(REASON_LIMIT)
        .read_to_string(&mut said);
    let exit = wait_pidfd(child.pidfd.as_fd())
        .map_err(Error::io("wait for `kelp internal podman-layer`"))?;
    // A disk that is full is why the process could not go on.
    let file = file?;
    if exit.code() != 0 {
        let said = said.lines().next().unwrap_or("it was killed");
        return Err(Error::Archive(said.to_owned()));
    }
    Region::whole(file).map_err(Error::io("look at a layer's archive"))
}

/// Says what to do about an image that can't be made of what podman has.
fn explain(error: Error, image: &PodmanImage) -> Error {
    let reason = match &error {
        Error::Archive(reason) => reason.clone(),
        Error::DigestMismatch { .. } => "its files are not what they were".to_owned(),
        _ => return error,
    };
    let name = display(image);
    Error::Archive(format!(
        "{name} can't be taken from podman's store ({reason}): pull it with kelp pull"
    ))
}

/// Names the file system that is full, and what an image whose layers are so large takes on it.
fn explain_space(error: Error, load: &Load<'_>, size: u64) -> Error {
    if size == 0 {
        return error;
    }
    let need = format!(
        "the image takes {} when it is extracted, and as much or more on its way",
        space::amount(size)
    );
    space::explain(error, load.data, &need)
}

/// Whether what a user wrote means a podman image: a name, the end of one, or the beginning of its id.
pub fn is_meant(image: &PodmanImage, written: &str) -> bool {
    let hex = written.strip_prefix("sha256:").unwrap_or(written);
    let is_hex = hex.len() >= 3 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && image.id.hex().starts_with(hex) {
        return true;
    }
    let ends = |whole: &str| {
        let before = whole.strip_suffix(written);
        before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
    };
    image.names.iter().any(|name| {
        let latest = name.strip_suffix(":latest");
        ends(name) || latest.is_some_and(ends)
    })
}

/// What a podman image that was looked for is called, for a message.
pub fn display(image: &PodmanImage) -> String {
    let name = image.names.first().cloned();
    name.unwrap_or_else(|| image.id.to_string())
}
