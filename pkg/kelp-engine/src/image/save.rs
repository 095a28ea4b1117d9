//! `save`: images into files.

use std::fs::File;
use std::path::PathBuf;

use kelp_image::compose::ManifestForm;
use kelp_image::parcel::{Parcel, Wanted};
use kelp_image::progress::{Progress, Silent, Terminal};
use kelp_image::store::{ImageRecord, Store};
pub use kelp_image::transport::Form;
use kelp_image::transport::write::{self, Named};

use crate::image::remove::reference;
use crate::space::explain_output;
use crate::{Engine, Error};

/// How images are written.
#[derive(Debug)]
pub struct SaveRequest {
    /// The form.
    pub form: Form,
    /// Where to; `None` for standard output.
    pub output: Option<PathBuf>,
    /// Whether each name is an image of its own, and not further names of the first.
    pub several: bool,
    /// Whether all layers are to be gzip.
    pub compress: bool,
    /// Whether nothing is shown.
    pub quiet: bool,
}

impl Engine {
    /// Writes images to a file, a directory or standard output.
    pub fn save_images(&self, names: &[String], request: &SaveRequest) -> Result<(), Error> {
        let store = self.store()?;
        let (lease, blobs) = store.lease_to_read()?;
        let mut images: Vec<Named> = Vec::new();
        for (number, name) in names.iter().enumerate() {
            if number > 0 && !request.several {
                // docker and podman: further names are what the image is to be called as well.
                images[0]
                    .names
                    .push(reference(name)?.or_latest().to_string());
                continue;
            }
            let record = store.find(name)?;
            for digest in record.references() {
                lease.keep(digest)?;
            }
            let parcel = self.parcel(&store, &record, &blobs, request)?;
            // By an id it is saved without a name, as docker and podman do.
            let meant = store.meant_name(name)?;
            match images
                .iter_mut()
                .find(|other| other.parcel.digest == parcel.digest)
            {
                Some(other) => other.names.extend(meant),
                None => images.push(Named {
                    parcel,
                    names: meant.into_iter().collect(),
                }),
            }
        }
        let terminal = Terminal::default();
        let progress: &dyn Progress = if request.quiet { &Silent } else { &terminal };
        let layers = images.iter().flat_map(|image| &image.parcel.layers);
        let bytes = layers.map(|layer| layer.size).sum();
        if let Some(path) = &request.output {
            let written = write::to_path(path, request.form, &images, &blobs, progress);
            written.map_err(|error| explain_output(error.into(), path, bytes))?;
        } else {
            let stdout = rustix::io::dup(rustix::stdio::stdout());
            let stdout = File::from(stdout.map_err(Error::io("take standard output"))?);
            write::refuse_terminal(&stdout)?;
            let written = write::to_writer(stdout, request.form, &images, &blobs, progress);
            let place = std::fs::read_link("/proc/self/fd/1").unwrap_or_default();
            written.map_err(|error| explain_output(error.into(), &place, bytes))?;
        }
        for image in &images {
            let id = image.parcel.config.digest.hex();
            let name = image.names.first().map_or(id, String::as_str);
            self.note_image("save", id, name);
        }
        Ok(())
    }

    fn parcel(
        &self,
        store: &Store,
        record: &ImageRecord,
        blobs: &kelp_image::blob::BlobStore,
        request: &SaveRequest,
    ) -> Result<Parcel, Error> {
        let parcel = Parcel::of(store, record)?;
        // podman's docker-dir has a manifest of docker's form.
        let docker = request.form == Form::Dir;
        let wanted = Wanted {
            form: docker.then_some(ManifestForm::Docker),
            compression: request
                .compress
                .then_some(kelp_image::compress::Format::Gzip),
            level: None,
        };
        if !docker && !request.compress {
            return Ok(parcel);
        }
        Ok(parcel.converted(record, blobs, &wanted)?)
    }
}
