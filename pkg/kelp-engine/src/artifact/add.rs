//! `artifact add`: an artifact of files.

use std::fs;
use std::path::PathBuf;

use kelp_image::artifact::add::{ArtifactAddition, add};
use kelp_image::space::amount;

use crate::image::remove::reference;
use crate::space::explain_space;
use crate::{Engine, Error};

impl Engine {
    /// Makes an artifact of files, or adds them to one; the digest of its manifest in hex digits.
    pub fn add_artifact(
        &self,
        name: &str,
        files: &[PathBuf],
        options: &ArtifactAddition,
    ) -> Result<String, Error> {
        let store = self.store()?;
        let name = reference(name)?;
        let created = jiff::Timestamp::now().to_string();
        self.prepare_space(&store)?;
        let (lease, blobs) = store.lease()?;
        let added = add(&store, &blobs, &name, files, options, &created).map_err(|error| {
            let sizes = files.iter().filter_map(|path| fs::metadata(path).ok());
            let bytes: u64 = sizes.map(|found| found.len()).sum();
            let need = format!("what is added takes {}", amount(bytes));
            explain_space(error.into(), &self.paths.data, &need)
        });
        drop((lease, blobs));
        let (digest, trash) = added?;
        self.remove_image_trees(&trash)?;
        Ok(digest.hex().to_owned())
    }
}
