//! Writing images to files.
//!
//! An archive of docker's form is an OCI image layout as well, as that of newer versions of docker is:
//! blobs stand in it as they are here, so that nothing is compressed or decompressed, and whoever reads
//! the layout finds the digests that a registry knows. `manifest.json` refers to the same blobs, and
//! docker and podman decompress what they read by it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::layout::{self, FULL_NAME, INDEX, MARK, REF_NAME};
use super::sink::{DirectorySink, Sink, TarSink, Verified};
use super::{Form, Place, Selector, dir, docker};
use crate::Error;
use crate::blob::BlobStore;
use crate::descriptor;
use crate::digest::Digest;
use crate::manifest::OCI_INDEX;
use crate::parcel::{Parcel, ParcelBlob};
use crate::progress::{Event, Progress};
use crate::reference::ImageName;
use crate::temporary::Output;

/// An image with the names that it is written with.
#[derive(Clone, Debug)]
pub struct Named {
    /// The image.
    pub parcel: Parcel,
    /// Its names: full ones, or tags for an OCI image layout.
    pub names: Vec<String>,
}

/// Writes archives to any writer: standard output.
pub fn to_writer(
    writer: impl Write,
    form: Form,
    images: &[Named],
    blobs: &BlobStore,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut sink = TarSink::new(BufWriter::with_capacity(1 << 20, writer));
    all(&mut sink, form, images, blobs, progress)?;
    let mut writer = sink.finish()?;
    writer.flush().map_err(Error::io("write the archive"))
}

/// Writes to a path: a file appears when it is whole, in place of what was there.
pub fn to_path(
    path: &Path,
    form: Form,
    images: &[Named],
    blobs: &BlobStore,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let failed = |error| Error::io(format!("write {}", path.display()))(error);
    match form {
        Form::Oci => {
            let mut sink = DirectorySink::new(path)?;
            return layout_directory(&mut sink, path, images, blobs, progress);
        }
        Form::Dir => {
            let [image] = images else {
                return Err(Error::Invalid("dir: holds one image".to_owned()));
            };
            let mut sink = DirectorySink::new(path)?;
            return directory(&mut sink, image, blobs, progress);
        }
        Form::OciArchive | Form::DockerArchive => {}
    }
    // What somebody has open, a device or a pipe is written as it is.
    if let Some(file) = descriptor::open_at(path).map_err(failed)? {
        return to_writer(file, form, images, blobs, progress);
    }
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(failed)?;
        return to_writer(file, form, images, blobs, progress);
    }
    // What a link leads to is replaced, and not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let parent = target
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = Output::create(parent)?;
    to_writer(file.file_mut(), form, images, blobs, progress)?;
    file.persist(&target)
}

/// Writes one image to a place, under the name that the place says.
pub fn to_place(
    place: &Place,
    image: &Named,
    blobs: &BlobStore,
    progress: &dyn Progress,
) -> Result<(), Error> {
    to_path(
        &place.path,
        place.form,
        std::slice::from_ref(image),
        blobs,
        progress,
    )
}

/// The name that a place gives to what is written there.
pub fn name_of(place: &Place) -> Option<&str> {
    match &place.selector {
        Some(Selector::Name(name)) => Some(name),
        _ => None,
    }
}

fn all(
    sink: &mut dyn Sink,
    form: Form,
    images: &[Named],
    blobs: &BlobStore,
    progress: &dyn Progress,
) -> Result<(), Error> {
    sink.document(MARK, layout_mark().as_bytes())?;
    for image in images {
        in_layout(sink, &image.parcel, blobs, progress)?;
    }
    let descriptors: Vec<Value> = images
        .iter()
        .flat_map(|image| descriptors(image, form))
        .collect();
    sink.document(INDEX, index(&descriptors).as_bytes())?;
    if form == Form::DockerArchive {
        let items: Vec<Value> = images.iter().map(docker_item).collect();
        sink.document(docker::MANIFEST, json!(items).to_string().as_bytes())?;
    }
    Ok(())
}

fn docker_item(image: &Named) -> Value {
    let path = |blob: &ParcelBlob| layout::path(&blob.digest);
    let layers: Vec<String> = image.parcel.layers.iter().map(path).collect();
    json!({"Config": path(&image.parcel.config), "RepoTags": image.names, "Layers": layers})
}

/// Writes into a layout that may have images already: those of the same names make room.
fn layout_directory(
    sink: &mut DirectorySink,
    path: &Path,
    images: &[Named],
    blobs: &BlobStore,
    progress: &dyn Progress,
) -> Result<(), Error> {
    for image in images {
        in_layout(sink, &image.parcel, blobs, progress)?;
    }
    sink.document(MARK, layout_mark().as_bytes())?;
    let added: Vec<Value> = images
        .iter()
        .flat_map(|image| descriptors(image, Form::Oci))
        .collect();
    let name = |descriptor: &Value| descriptor["annotations"][REF_NAME].clone();
    let mut kept: Vec<Value> = match fs::read(path.join(INDEX)) {
        Ok(text) => {
            let index: Value = serde_json::from_slice(&text)
                .map_err(Error::json(format!("read {}", path.join(INDEX).display())))?;
            let manifests = index["manifests"].as_array().cloned();
            manifests.unwrap_or_default()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io(format!("read {}", path.display()))(error)),
    };
    kept.retain(|old| {
        !added.iter().any(|new| {
            name(new) == name(old) && (!name(new).is_null() || new["digest"] == old["digest"])
        })
    });
    kept.extend(added);
    sink.document(INDEX, index(&kept).as_bytes())
}

fn directory(
    sink: &mut DirectorySink,
    image: &Named,
    blobs: &BlobStore,
    progress: &dyn Progress,
) -> Result<(), Error> {
    sink.document("version", b"Directory Transport Version: 1.1\n")?;
    let name = |digest: &Digest| digest.hex().to_owned();
    blobs_of(sink, &image.parcel, blobs, progress, &name)?;
    sink.document(dir::MANIFEST, &image.parcel.manifest)
}

/// Writes an image's blobs.
fn blobs_of(
    sink: &mut dyn Sink,
    parcel: &Parcel,
    blobs: &BlobStore,
    progress: &dyn Progress,
    name: &dyn Fn(&Digest) -> String,
) -> Result<(), Error> {
    for blob in parcel.blobs() {
        let digest = &blob.digest;
        let name = name(digest);
        // Foreign layers are kept where they are here: an archive is for where there is no network.
        if sink.has(&name, blob.size) {
            progress.event(Event::BlobSkipped { digest });
            continue;
        }
        progress.event(Event::BlobStarted {
            digest,
            size: blob.size,
            from: 0,
        });
        let mut content = Verified::new(blobs.reader(digest)?, digest);
        sink.file(&name, blob.size, &mut content)?;
        progress.event(Event::BlobDone { digest });
    }
    progress.event(Event::Writing);
    Ok(())
}

/// Writes an image's blobs and manifest into a layout.
fn in_layout(
    sink: &mut dyn Sink,
    parcel: &Parcel,
    blobs: &BlobStore,
    progress: &dyn Progress,
) -> Result<(), Error> {
    blobs_of(sink, parcel, blobs, progress, &layout::path)?;
    let manifest = layout::path(&parcel.digest);
    if sink.has(&manifest, parcel.manifest.len() as u64) {
        return Ok(());
    }
    sink.document(&manifest, &parcel.manifest)
}

fn layout_mark() -> String {
    json!({"imageLayoutVersion": "1.0.0"}).to_string()
}

fn index(descriptors: &[Value]) -> String {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": descriptors,
    })
    .to_string()
}

/// What an index says of an image: once for each name.
fn descriptors(image: &Named, form: Form) -> Vec<Value> {
    let plain = json!({
        "mediaType": image.parcel.media_type,
        "digest": image.parcel.digest,
        "size": image.parcel.manifest.len(),
    });
    if image.names.is_empty() {
        return vec![plain];
    }
    let named = image.names.iter().map(|full| {
        let full = full.clone();
        let annotations: BTreeMap<&str, String> = match form {
            // As docker writes it.
            Form::DockerArchive => {
                let tag = ImageName::parse(&full).ok();
                let tag = tag.and_then(|name| name.on_docker_hub().tag().map(str::to_owned));
                BTreeMap::from([(FULL_NAME, full), (REF_NAME, tag.unwrap_or_default())])
            }
            _ => BTreeMap::from([(REF_NAME, full)]),
        };
        let mut descriptor = plain.clone();
        descriptor["annotations"] = json!(annotations);
        descriptor
    });
    named.collect()
}

/// Refuses to write an archive to a terminal.
pub fn refuse_terminal(file: &File) -> Result<(), Error> {
    if rustix::termios::isatty(file) {
        return Err(Error::Invalid(
            "an archive is not written to a terminal: use --output FILE, or redirect it".to_owned(),
        ));
    }
    Ok(())
}
