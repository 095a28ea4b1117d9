//! `push`: an image to a registry, or into files.

use kelp_image::compose::ManifestForm;
use kelp_image::compress::Format;
use kelp_image::parcel::{Parcel, Wanted};
use kelp_image::progress::{Progress, Silent, Terminal};
use kelp_image::push::push;
use kelp_image::reference::{ImageName, Reference};
use kelp_image::space::is_full;
use kelp_image::store::Store;
use kelp_image::transport::write::{self, Named};
use kelp_image::transport::{self, Form, Place};
use kelp_image::trust::publish::{SignerOptions, Signers};

use crate::image::registry::AccessRequest;
use crate::space::explain_output;
use crate::{Engine, Error};

/// How an image is pushed.
#[derive(Clone, Debug, Default)]
pub struct PushRequest {
    /// How the registry is reached.
    pub access: AccessRequest,
    /// `oci` or `v2s2`, instead of the form that the image has.
    pub format: Option<String>,
    /// `gzip` or `zstd`, instead of what its layers have.
    pub compression: Option<String>,
    /// The level of that.
    pub level: Option<i32>,
    /// Whether nothing is shown.
    pub quiet: bool,
    /// Who signs.
    pub signer: SignerOptions,
}

impl PushRequest {
    pub(crate) fn wanted(&self) -> Result<Wanted, Error> {
        let parse = |text: &Option<String>| -> Result<Option<ManifestForm>, Error> {
            let form = text.as_deref().map(str::parse).transpose();
            form.map_err(Error::invalid)
        };
        let compression = self.compression.as_deref().map(str::parse::<Format>);
        Ok(Wanted {
            form: parse(&self.format)?,
            compression: compression.transpose().map_err(Error::invalid)?,
            level: self.level,
        })
    }
}

impl Engine {
    /// Sends an image to where its name says, or to a destination; the digest of its manifest there.
    pub fn push_image(
        &self,
        name: &str,
        destination: Option<&str>,
        request: &PushRequest,
    ) -> Result<String, Error> {
        let store = self.store()?;
        if self.list_exists(name)? {
            return self.push_list(name, destination, true, request);
        }
        let record = store.find(name)?;
        let (lease, blobs) = store.lease_to_read()?;
        for digest in record.references() {
            lease.keep(digest)?;
        }
        let wanted = request.wanted()?;
        let signers = Signers::load(&request.signer)?;
        let place = destination.map_or(Ok(None), transport::parse)?;
        let parcel = Parcel::of(&store, &record)?;
        let terminal = Terminal::default();
        let progress: &dyn Progress = if request.quiet { &Silent } else { &terminal };
        let id = record.id.hex();
        if let Some(place) = place {
            if !signers.is_empty() {
                return Err(Error::invalid(
                    "an image is signed in its registry: push into files without --sign-by",
                ));
            }
            let asked = wanted.form.is_some() || wanted.compression.is_some();
            // In files it is kept as it is here, unless another way is asked for.
            let parcel = if asked {
                parcel.converted(&record, &blobs, &wanted)?
            } else {
                parcel
            };
            let digest = parcel.digest.to_string();
            let names = name_in_file(&place)?.into_iter().collect();
            let bytes = parcel.layers.iter().map(|layer| layer.size).sum();
            let written = write::to_place(&place, &Named { parcel, names }, &blobs, progress);
            written.map_err(|error| explain_output(error.into(), &place.path, bytes))?;
            self.note_image("push", id, destination.unwrap_or(name));
            return Ok(digest);
        }
        let target = target(&store, name, destination)?;
        let parcel = parcel.converted(&record, &blobs, &wanted)?;
        let access = request.access.options()?;
        let digest = push(&store, &blobs, &parcel, &target, &access, progress)?;
        signers.publish(&access, &target, &parcel.manifest, &blobs)?;
        drop((lease, blobs));
        if parcel.digest == record.manifest {
            let known = target.with_digest(digest.clone()).to_string();
            match store.known_by(&record.id, known) {
                // The registry has it all the same.
                Err(error) if is_full(&error) => {}
                noted => noted?,
            }
        }
        self.note_image("push", id, &target.to_string());
        Ok(digest.to_string())
    }
}

/// Where in a registry an image goes: as its own name says, unless another is given.
pub(crate) fn target(
    store: &Store,
    name: &str,
    destination: Option<&str>,
) -> Result<Reference, Error> {
    let text = match destination {
        Some(destination) => destination.to_owned(),
        None => meant(store, name)?.ok_or_else(|| {
            Error::invalid(format!(
                "{name} is no name that says where to push to: give a destination"
            ))
        })?,
    };
    let reference = ImageName::parse(&text)
        .map_err(kelp_image::Error::from)?
        .on_docker_hub()
        .or_latest();
    if reference.registry() == "localhost" {
        return Err(Error::invalid(format!(
            "{reference} is a name for what is made here, and no registry's: give a destination"
        )));
    }
    Ok(reference)
}

/// Which name of an image or a list a text means.
fn meant(store: &Store, name: &str) -> Result<Option<String>, Error> {
    match store.find_list(name)? {
        Some((_, meant)) => Ok(meant),
        None => Ok(store.meant_name(name)?),
    }
}

/// The name that an image gets in a file.
fn name_in_file(place: &Place) -> Result<Option<String>, Error> {
    let Some(name) = write::name_of(place) else {
        return Ok(None);
    };
    Ok(Some(match place.form {
        // What docker calls it.
        Form::DockerArchive => ImageName::parse(name)
            .map_err(kelp_image::Error::from)?
            .on_docker_hub()
            .or_latest()
            .to_string(),
        Form::Oci | Form::OciArchive | Form::Dir => name.to_owned(),
    }))
}
