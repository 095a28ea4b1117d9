//! `artifact pull`.

use std::io;

use kelp_image::artifact::pull::{ArtifactPull, pull};
use kelp_image::blob::BlobStore;
use kelp_image::progress::{Progress, Silent, Terminal};
use kelp_image::reference::ImageName;

use crate::image::registry::AccessRequest;
use crate::image::told::Told;
use crate::{Engine, Error, own_terminal};

/// How an artifact is pulled.
#[derive(Clone, Debug, Default)]
pub struct ArtifactPullRequest {
    /// How registries are reached.
    pub access: AccessRequest,
    /// Whether nothing is shown.
    pub quiet: bool,
}

impl Engine {
    /// Brings an artifact here; the digest of its manifest in hex digits.
    pub fn pull_artifact(
        &self,
        name: &str,
        request: &ArtifactPullRequest,
    ) -> Result<String, Error> {
        let image_name = ImageName::parse(name).map_err(kelp_image::Error::from)?;
        let store = self.store()?;
        let options = ArtifactPull {
            access: request.access.options()?,
            ask: Some(own_terminal::ask_choice),
        };
        let terminal = Terminal::default();
        let progress: &dyn Progress = if request.quiet { &Silent } else { &terminal };
        let told = Told::new(name, progress);
        let begin = || -> Result<_, Error> {
            self.prepare_space(&store)?;
            Ok(store.lease()?)
        };
        let with_blobs = |work: &mut dyn FnMut(&BlobStore) -> Result<(), kelp_image::Error>| {
            let what = "prepare to bring an artifact";
            let begun = begin();
            let (_lease, blobs) =
                begun.map_err(|error| kelp_image::Error::io(what)(io::Error::other(error)))?;
            work(&blobs)
        };
        let pulled = pull(&store, &image_name, &options, &with_blobs, &told)?;
        self.remove_image_trees(&pulled.trash)?;
        Ok(pulled.manifest.hex().to_owned())
    }
}
