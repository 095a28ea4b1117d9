//! `artifact rm`.

use kelp_image::Digest;
use kelp_state::Record;

use super::absent;
use crate::container::config::Config;
use crate::{Engine, Error};

impl Engine {
    /// Removes an artifact, or one of its names where it has others; the digest of its manifest in hex digits. One
    /// that a container has mounted stays.
    pub fn remove_artifact(&self, text: &str) -> Result<String, Error> {
        let store = self.store()?;
        let removed = store.remove_artifact(text, &|digest| self.artifact_users(digest))?;
        let removal = removed.ok_or_else(|| absent(text))?;
        self.remove_image_trees(&removal.trash)?;
        let manifest = removal.manifest.ok_or_else(|| absent(text))?;
        Ok(manifest.hex().to_owned())
    }

    /// What to call the containers that mount an artifact.
    fn artifact_users(&self, digest: &Digest) -> Result<Vec<String>, kelp_image::Error> {
        let users = self.users_of_artifact(digest);
        let users = users.map_err(|error| kelp_image::Error::Conflict(error.line()))?;
        let names = users.iter();
        Ok(names
            .map(|config| format!("container {}", config.id.short()))
            .collect())
    }

    /// The containers that mount an artifact.
    pub(crate) fn users_of_artifact(&self, digest: &Digest) -> Result<Vec<Config>, Error> {
        let digest = digest.to_string();
        let mut users = Vec::new();
        for record in Record::all(&self.paths) {
            if let Some(config) = Config::read(&self.paths, &record.id)?
                && config.options.mounted_artifacts.contains(&digest)
            {
                users.push(config);
            }
        }
        Ok(users)
    }
}
