//! `artifact extract`: an artifact's files as files of the user's.

use std::path::Path;

use kelp_image::artifact::extract::extract;
use kelp_image::artifact::file::{ArtifactFile, Choice};

use crate::space::explain_output;
use crate::umask::mode_of_file;
use crate::{Engine, Error};

impl Engine {
    /// Writes the files of an artifact that are meant into a directory, or one to a path.
    pub fn extract_artifact(
        &self,
        name: &str,
        choice: Choice<'_>,
        target: &Path,
    ) -> Result<(), Error> {
        let store = self.store()?;
        let (lease, blobs) = store.lease_to_read()?;
        let (artifact, _) = self.hold_artifact(&store, &lease, name)?;
        let manifest = store.artifact_document(&artifact.record.manifest)?;
        let files = choice.of(ArtifactFile::all(&manifest)?)?;
        let bytes = files.iter().map(|file| file.size).sum();
        let extracted = extract(&blobs, &files, choice, target, mode_of_file());
        extracted.map_err(|error| explain_output(error.into(), target, bytes))
    }
}
