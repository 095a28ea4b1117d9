//! Images out of files: from a directory or an archive into the store.
//!
//! A layer is read twice at the same time, out of the page cache: one thread makes its blob and hashes
//! it, another moves the same bytes into the unpacker's pipe. What is in a file counts no more than what
//! a registry says: every digest is compared before anything gets a name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use crate::Error;
use crate::blob::BlobStore;
use crate::compose::{ManifestForm, manifest_of};
use crate::digest::Digest;
use crate::feed::{Level, feed_from, pipe};
use crate::ingest::{LayerBlob, check_pair, store_layer};
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::reference::{ImageName, Reference};
use crate::store::{LayerRecord, Store};
use crate::transport::files::{Files, Region};
use crate::transport::offer::{Offer, OfferedLayer};
use crate::transport::{Form, Place, dir, docker, layout};
use crate::trust::{Subject, Trust};
use crate::unpacker::{UnpackJob, Unpacker};

/// How many layers are brought at the same time.
const PARALLEL_LAYERS: usize = 4;

/// What a load needs.
pub struct Load<'a> {
    /// The images that are here: a layer that one of them has is not stored again.
    pub store: &'a Store,
    /// Where blobs go, under a lease.
    pub blobs: &'a BlobStore,
    /// Who extracts layers.
    pub unpacker: &'a dyn Unpacker,
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// Which image of an index is meant.
    pub platform: Platform,
    /// The layers of all images that are here, once they were looked at: empty in the beginning.
    pub known: OnceLock<Vec<LayerRecord>>,
    /// Where an archive is kept that can't be read in place.
    pub data: &'a Path,
    /// Which images are accepted.
    pub trust: &'a Trust,
}

/// An image whose blobs and layers are here, to be recorded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its id: the digest of its config.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The index that led to it.
    pub index: Option<Digest>,
    /// The names that it came with; short ones are of `localhost`.
    pub names: Vec<Reference>,
    /// What registries know it by, as `name@digest`.
    pub repo_digests: Vec<String>,
    /// Whether its manifest was made here, because it came without one.
    pub made_here: bool,
}

impl Load<'_> {
    /// Brings all images of a file, of whatever form it is.
    pub fn file(&self, file: File) -> Result<Vec<Loaded>, Error> {
        self.any(&Files::of_stream(file, self.data)?, None)
    }

    /// Brings all images of an archive that is read once, of whatever form it is.
    pub fn reader(&self, source: impl Read) -> Result<Vec<Loaded>, Error> {
        self.any(&Files::of_reader(source, self.data)?, None)
    }

    /// Brings all images of a file or a directory, of whatever form it is.
    pub fn path(&self, path: &Path) -> Result<Vec<Loaded>, Error> {
        self.any(&Files::open(path, self.data)?, Some(path))
    }

    /// Brings the images at a place: all, unless one is selected.
    pub fn place(&self, place: &Place) -> Result<Vec<Loaded>, Error> {
        let path = &place.path;
        let found = fs::metadata(path).map_err(Error::io(format!("open {}", path.display())))?;
        let is_directory = found.is_dir();
        if is_directory != matches!(place.form, Form::Oci | Form::Dir) {
            return Err(Error::Invalid(format!(
                "{} is {}, and {}: is for {}",
                place.path.display(),
                if is_directory {
                    "a directory"
                } else {
                    "a file"
                },
                place.form.name(),
                if is_directory { "files" } else { "directories" },
            )));
        }
        let files = Files::open(&place.path, self.data)?;
        let offers = match place.form {
            Form::Oci | Form::OciArchive => layout::offers(&files, Some(place), &self.platform)?,
            Form::DockerArchive => docker::offers(&files, Some(place), &self.platform)?,
            Form::Dir => vec![dir::offer(&files, &self.platform)?],
        };
        self.all(&files, place.form, Some(&place.path), &offers)
    }

    fn any(&self, files: &Files, path: Option<&Path>) -> Result<Vec<Loaded>, Error> {
        let is_directory = matches!(files, Files::Directory(_));
        let (form, offers) = if docker::is_one(files)? {
            let offers = docker::offers(files, None, &self.platform)?;
            (Form::DockerArchive, offers)
        } else if layout::is_one(files)? {
            let form = if is_directory {
                Form::Oci
            } else {
                Form::OciArchive
            };
            (form, layout::offers(files, None, &self.platform)?)
        } else if dir::is_one(files)? {
            (Form::Dir, vec![dir::offer(files, &self.platform)?])
        } else {
            return Err(Error::Archive(
                "this holds no image: neither of docker's form, nor an OCI image layout, nor a \
                 manifest with its blobs (a file system's archive is for kelp import)"
                    .to_owned(),
            ));
        };
        self.all(files, form, path, &offers)
    }

    /// Brings images once all of them were found to be accepted.
    fn all(
        &self,
        files: &Files,
        form: Form,
        path: Option<&Path>,
        offers: &[Offer],
    ) -> Result<Vec<Loaded>, Error> {
        for offer in offers {
            self.check(files, form, path, offer)?;
        }
        offers.iter().map(|offer| self.one(offer)).collect()
    }

    fn check(
        &self,
        files: &Files,
        form: Form,
        path: Option<&Path>,
        offer: &Offer,
    ) -> Result<(), Error> {
        let subject = match (form, path) {
            (Form::DockerArchive, path) => {
                let name = names(&offer.names)?.into_iter().next();
                Subject::docker_archive(path.unwrap_or(Path::new("-")), name.as_ref())
            }
            (form, Some(path)) => Subject::path(form.name(), path)?,
            (form, None) => Subject::stream(form.name()),
        };
        if self.trust.accepts_all(&subject) {
            return Ok(());
        }
        let signatures = match form {
            Form::Dir => dir::signatures(files, offer)?,
            Form::Oci | Form::OciArchive | Form::DockerArchive => Vec::new(),
        };
        let manifest = offer.manifest.as_ref().map(|(_, bytes)| bytes.as_slice());
        self.trust
            .check(&subject, manifest.unwrap_or_default(), &signatures)
    }

    /// Brings one image: layers, then config, then manifest.
    fn one(&self, offer: &Offer) -> Result<Loaded, Error> {
        let names = names(&offer.names)?;
        let layers = self.layers(&offer.layers)?;
        let (id, config) = &offer.config;
        self.progress.event(Event::Config { digest: id });
        self.blobs.put(config, Some(id))?;
        let manifest = if let Some((digest, bytes)) = &offer.manifest {
            self.blobs.put(bytes, Some(digest))?
        } else {
            manifest_of(self.blobs, id, config.len(), &layers, ManifestForm::Oci)?
        };
        let index = match &offer.index {
            Some((digest, bytes)) => Some(self.blobs.put(bytes, Some(digest))?),
            None => None,
        };
        Ok(Loaded {
            id: id.clone(),
            manifest,
            index,
            names,
            repo_digests: Vec::new(),
            made_here: offer.manifest.is_none(),
        })
    }

    fn layers(&self, layers: &[OfferedLayer]) -> Result<Vec<LayerBlob>, Error> {
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Result<LayerBlob, Error>>>> =
            layers.iter().map(|_| Mutex::new(None)).collect();
        thread::scope(|scope| {
            for _ in 0..PARALLEL_LAYERS.min(layers.len()) {
                scope.spawn(|| {
                    while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed))
                        && let Some(layer) = layers.get(number)
                    {
                        let result = self.layer(layer);
                        if result.is_err() {
                            next.store(layers.len(), Ordering::Relaxed);
                        }
                        *results[number]
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner) = Some(result);
                    }
                });
            }
        });
        // The first that failed; those that were given up after it have no result.
        let results = results
            .into_iter()
            .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner));
        results.collect()
    }

    pub(crate) fn layer(&self, layer: &OfferedLayer) -> Result<LayerBlob, Error> {
        let digest = layer.digest.as_ref().unwrap_or(&layer.diff_id);
        let extracted = self.unpacker.has_layer(&layer.diff_id)?;
        let known = self.known(layer)?;
        if known.is_some() && extracted {
            self.progress.event(Event::BlobSkipped { digest });
        } else {
            self.progress.event(Event::BlobStarted {
                digest,
                size: layer.region.length,
                from: 0,
            });
        }
        // What is extracted is what the image's blob holds: the one that is here, or else the file's.
        let region = match &known {
            Some(known) if !extracted => Region::whole(self.blobs.reader(&known.digest)?)
                .map_err(Error::io(format!("look at blob {}", known.digest)))?,
            _ => layer.region.clone(),
        };
        let (blob, job) = thread::scope(|scope| {
            let unpack = || self.unpack(&region, &layer.diff_id);
            let unpacking = (!extracted).then(|| scope.spawn(unpack));
            let blob = match known {
                Some(known) => Ok(known),
                None => self.store(layer),
            };
            let job = unpacking.map(|thread| {
                let ended = || Err(Error::Archive("the unpacker's thread has ended".to_owned()));
                thread.join().unwrap_or_else(|_| ended())
            });
            (blob, job.transpose())
        });
        // If both failed, that the bytes are wrong says more than what the unpacker made of them.
        let blob = blob?;
        match job? {
            Some(job) => job.publish()?,
            // What is extracted already says nothing of these bytes.
            None if !self.is_paired(&blob, &layer.diff_id)? => {
                check_pair(self.blobs, &blob.digest, &layer.diff_id)?;
            }
            None => {}
        }
        self.progress.event(Event::BlobDone { digest });
        Ok(blob)
    }

    /// The layer's blob, if it is here.
    fn known(&self, layer: &OfferedLayer) -> Result<Option<LayerBlob>, Error> {
        if let Some(digest) = &layer.digest {
            let Some(size) = self.blobs.size(digest)? else {
                return Ok(None);
            };
            if size != layer.region.length {
                return Err(Error::Invalid(format!(
                    "blob {digest} does not have the {} bytes that it has here",
                    layer.region.length
                )));
            }
            return Ok(Some(of_digest(layer, digest)));
        }
        self.known_content(&layer.diff_id)
    }

    /// A blob of an image that is here, of the archive of this digest.
    pub(crate) fn known_content(&self, diff_id: &Digest) -> Result<Option<LayerBlob>, Error> {
        for known in self.layers_here()? {
            if known.diff_id == *diff_id && self.blobs.contains(&known.digest)? {
                return Ok(Some(known.into()));
            }
        }
        Ok(None)
    }

    /// Whether an image here has a layer in this blob.
    fn is_paired(&self, blob: &LayerBlob, diff_id: &Digest) -> Result<bool, Error> {
        let has = |layer: &LayerRecord| layer.digest == blob.digest && layer.diff_id == *diff_id;
        Ok(self.layers_here()?.iter().any(has))
    }

    /// The layers of all images that were here, read when they are needed.
    fn layers_here(&self) -> Result<&[LayerRecord], Error> {
        if self.known.get().is_none() {
            let records = self.store.records()?.into_iter();
            let _ = self
                .known
                .set(records.flat_map(|record| record.layers).collect());
        }
        Ok(self.known.get().map_or(&[], Vec::as_slice))
    }

    fn store(&self, layer: &OfferedLayer) -> Result<LayerBlob, Error> {
        let Some(digest) = &layer.digest else {
            return store_layer(self.blobs, layer.region.reader(), Some(&layer.diff_id));
        };
        let mut writer = self.blobs.writer_of(digest)?;
        let mut reader = layer.region.reader();
        let mut buffer = vec![0; 1 << 20];
        let mut position = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    writer.write(&buffer[..count])?;
                    position += count as u64;
                    self.progress
                        .event(Event::BlobAdvanced { digest, position });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(format!("read layer {digest}"))(error)),
            }
        }
        writer.commit(digest)?;
        Ok(of_digest(layer, digest))
    }

    /// Extracts a layer; the job that is returned is ready to be published.
    fn unpack(&self, region: &Region, diff_id: &Digest) -> Result<Box<dyn UnpackJob>, Error> {
        let (reader, writer) = pipe()?;
        let mut job = self.unpacker.start(diff_id, reader)?;
        let level = Level::new(region.start + region.length);
        level.complete();
        let fed = feed_from(&region.file, region.start, &level, &writer, &mut |_| ());
        // The unpacker waits for the end.
        drop(writer);
        fed?;
        let summary = job.finish()?;
        diff_id.is("the content of a layer", summary.diff_id)?;
        Ok(job)
    }
}

/// The blob of a layer whose manifest tells its digest, and will tell the media type.
fn of_digest(layer: &OfferedLayer, digest: &Digest) -> LayerBlob {
    LayerBlob {
        digest: digest.clone(),
        size: layer.region.length,
        media_type: String::new(),
        diff_id: layer.diff_id.clone(),
    }
}

pub(crate) fn names(written: &[String]) -> Result<Vec<Reference>, Error> {
    let names = written.iter().map(|name| {
        Ok(match ImageName::parse(name)? {
            ImageName::Full(reference) => reference.or_latest(),
            ImageName::Short(short) => short.in_registry("localhost").or_latest(),
        })
    });
    names.collect()
}
