//! `artifact rm`.

use kelp_image::Digest;

use super::absent;
use crate::container::config::Config;
use crate::image::remove::container_names;
use crate::{Engine, Error};

impl Engine {
    /// Removes an artifact, or one of its names where it has others; the digest of its manifest in hex digits. One
    /// that a container has mounted stays.
    pub fn remove_artifact(&self, text: &str) -> Result<String, Error> {
        let store = self.store()?;
        let removed = store.remove_artifact(text, &|digest| {
            container_names(self.users_of_artifact(digest))
        })?;
        let removal = removed.ok_or_else(|| absent(text))?;
        self.remove_image_trees(&removal.trash)?;
        Ok(removal.manifest.hex().to_owned())
    }

    /// The containers that mount an artifact.
    pub(crate) fn users_of_artifact(&self, digest: &Digest) -> Result<Vec<Config>, Error> {
        let digest = digest.to_string();
        self.containers_that(&|config| config.options.mounted_artifacts.contains(&digest))
    }
}
