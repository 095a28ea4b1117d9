//! `artifact push`: to where an artifact's name says.

use kelp_image::artifact::missing;
use kelp_image::parcel::Parcel;
use kelp_image::progress::{Progress, Silent, Terminal};
use kelp_image::push::push;
use kelp_image::reference::Reference;
use kelp_image::trust::publish::Signers;

use crate::image::push::PushRequest;
use crate::{Engine, Error};

impl Engine {
    /// Sends an artifact to the registry of its name; the digest of its manifest there. Of the request only how
    /// the registry is reached, what is shown and who signs is about artifacts: they leave as they are.
    pub fn push_artifact(&self, name: &str, request: &PushRequest) -> Result<String, Error> {
        let store = self.store()?;
        // The lease comes first, so that what is found stays.
        let (lease, blobs) = store.lease_to_read()?;
        let (artifact, meant) = self.hold_artifact(&store, &lease, name)?;
        let target = meant.or_else(|| artifact.names.first().cloned());
        let target =
            Reference::parse(&target.unwrap_or_default()).map_err(kelp_image::Error::from)?;
        if target.registry() == "localhost" {
            return Err(Error::invalid(format!(
                "{target} is a name for what is made here, and no registry's: add the artifact by a name in a \
                 registry"
            )));
        }
        let signers = Signers::load(&request.signer)?;
        let parcel = Parcel::of_manifest(&blobs, &artifact.record.manifest);
        let parcel = parcel.map_err(missing)?;
        let terminal = Terminal::default();
        let progress: &dyn Progress = if request.quiet { &Silent } else { &terminal };
        let access = request.access.options()?;
        let digest = push(&store, &blobs, &parcel, &target, &access, progress)?;
        signers.publish(&access, &target, &parcel.manifest, &blobs)?;
        Ok(digest.to_string())
    }
}
