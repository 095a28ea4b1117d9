//! Artifacts: their records, what those need, and what is done where something lacks.

use std::collections::{BTreeMap, BTreeSet};

use kelp_image::Digest;
use kelp_image::artifact::file::ArtifactFile;
use kelp_image::store::{ArtifactRecord, Lease, Store};

use super::{Damage, Say};
use crate::{Engine, Error};

/// Looks at every record, and has a lease keep what they need; those that can be read, and whether there are
/// others.
pub(super) fn find_artifacts(
    store: &Store,
    lease: &Lease,
    damages: &mut Vec<Damage>,
) -> Result<(Vec<ArtifactRecord>, bool), Error> {
    let mut records = Vec::new();
    let mut unreadable = false;
    let _lock = store.lock()?;
    for manifest in store.artifact_manifests()? {
        let what = match store.artifact(&manifest) {
            // One that went meanwhile is not there.
            Ok(None) => continue,
            Ok(Some(record)) if record.manifest == manifest => {
                for digest in record.references() {
                    lease.keep(digest)?;
                }
                let document = store.manifest(&manifest);
                // A manifest that can't be read is damage of its own.
                let fresh = document.and_then(|document| ArtifactRecord::of(&manifest, &document));
                match fresh {
                    Ok(fresh) if fresh != record => {
                        // What it needs is what a record that is written again says.
                        for digest in fresh.references() {
                            lease.keep(digest)?;
                        }
                        records.push(fresh);
                    }
                    _ => {
                        records.push(record);
                        continue;
                    }
                }
                "its record is not what its manifest says".to_owned()
            }
            Ok(Some(_)) => {
                unreadable = true;
                "its record is of another artifact".to_owned()
            }
            Err(error) => {
                unreadable = true;
                format!("its record can't be read: {}", Error::from(error).line())
            }
        };
        damages.push(Damage::Artifact { manifest, what });
    }
    Ok((records, unreadable))
}

/// Looks at each blob that no image has; what is damaged is told once, and is among `bad` then.
pub(super) fn find_artifact_blobs(
    store: &Store,
    records: &[ArtifactRecord],
    quick: bool,
    bad: &mut BTreeMap<Digest, String>,
    damages: &mut Vec<Damage>,
) -> Result<(), Error> {
    let mut looked_at = BTreeSet::new();
    for record in records {
        let files = store
            .manifest(&record.manifest)
            .and_then(|manifest| ArtifactFile::all(&manifest));
        let files = files.unwrap_or_default();
        for digest in record.references() {
            if bad.contains_key(digest) || !looked_at.insert(digest.clone()) {
                continue;
            }
            let size = files.iter().find(|file| file.digest == *digest);
            let deep = !quick || *digest == record.manifest;
            if let Some(what) = store.check_blob(digest, size.map(|file| file.size), deep)? {
                bad.insert(digest.clone(), what.clone());
                damages.push(Damage::Blob {
                    digest: digest.clone(),
                    what,
                    image: shown(store, &record.manifest)?,
                });
            }
        }
    }
    Ok(())
}

impl Engine {
    /// An artifact that lacks something; whether it is gone now.
    pub(super) fn mend_artifact(
        &self,
        store: &Store,
        manifest: &Digest,
        force: bool,
        say: Say<'_>,
    ) -> Result<bool, Error> {
        let names = names(store, manifest)?;
        if !force {
            let text = match names.iter().find(|name| !name.starts_with("localhost/")) {
                Some(name) => format!("must be pulled again: kelp artifact pull {name}"),
                None => "is from no registry: it must be added again".to_owned(),
            };
            say(&format!("{} {text}", shown(store, manifest)?));
            return Ok(false);
        }
        let what = format!("Artifact {}", manifest.short());
        if !self.free_of(&what, self.users_of_artifact(manifest)?, say)? {
            return Ok(false);
        }
        let trash = store.drop_artifact(manifest)?;
        self.remove_trees(&trash)?;
        say(&format!("Deleted damaged artifact: {}", manifest.hex()));
        Ok(true)
    }
}

/// What to call an artifact: its first name, or its digest.
fn shown(store: &Store, manifest: &Digest) -> Result<String, Error> {
    let name = names(store, manifest)?.into_iter().next();
    Ok(name.unwrap_or_else(|| format!("artifact {}", manifest.short())))
}

fn names(store: &Store, manifest: &Digest) -> Result<Vec<String>, Error> {
    Ok(store.names_of_artifact(manifest)?)
}
