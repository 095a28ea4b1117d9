//! Mending what can be made again.

use std::collections::BTreeSet;

use kelp_image::Digest;
use kelp_image::layer::LayerInfo;
use kelp_image::store::{ImageRecord, LayerRecord, Store, StoreLock};
use kelp_image::unpacker::Unpacker;
use kelp_state::Record;

use super::find::shown;
use super::{Damage, Findings, Say};
use crate::container::config::Config;
use crate::container::remove::RemoveOptions;
use crate::{ContainerId, Engine, Error};

impl Engine {
    /// Mends what was found, and tells what was done and what is left to do.
    pub(super) fn mend(
        &self,
        mut findings: Findings,
        force: bool,
        say: Say<'_>,
    ) -> Result<(), Error> {
        let store = findings.store.clone();
        let mut bad = BTreeSet::new();
        let mut lost = Vec::new();
        let mut lost_artifacts = Vec::new();
        for damage in &findings.damages {
            match damage {
                Damage::Blob { digest, .. } => {
                    bad.insert(digest.clone());
                    if let Some(trash) = store.drop_blob(digest)? {
                        self.remove_trees(&[trash])?;
                        say(&format!("Removed blob {digest}"));
                    }
                }
                Damage::Image { id, .. } => {
                    if store.rebuild_record(id)? {
                        say(&format!("Rebuilt the record of image {}", id.short()));
                    } else {
                        lost.push(id.clone());
                    }
                }
                Damage::Artifact { manifest, .. } => {
                    if store.rebuild_artifact(manifest)? {
                        say(&format!(
                            "Rebuilt the record of artifact {}",
                            manifest.short()
                        ));
                    } else {
                        lost_artifacts.push(manifest.clone());
                    }
                }
                Damage::Secret { name, .. } => say(&format!(
                    "Secret {name:?} can't be repaired: make it anew with kelp secret create --replace, or \
                     remove it: kelp secret rm"
                )),
                Damage::Name(name) => {
                    store.forget_name(name)?;
                    say(&format!("Removed name {}", name.name));
                }
                _ => {}
            }
        }
        for damage in &findings.damages {
            if let Damage::Layer {
                key, layer, info, ..
            } = damage
                && !bad.contains(&layer.digest)
            {
                let mended = self.mend_layer(&store, key, layer, info.as_ref(), say);
                if let Err(error) = mended {
                    // The others can be mended all the same.
                    let reason = error.line();
                    say(&format!(
                        "Layer {} can't be rebuilt: {reason}",
                        layer.diff_id
                    ));
                }
            }
        }
        let damages = std::mem::take(&mut findings.damages);
        for damage in damages {
            if let Damage::Container { id, .. } = damage {
                self.mend_container(&id, force, say)?;
            }
        }
        let mut stays = false;
        for id in lost {
            stays |= !self.mend_lost(&store, &id, force, say)?;
        }
        let lacking = findings.artifacts.iter();
        let lacking =
            lacking.filter(|record| record.references().any(|digest| bad.contains(digest)));
        lost_artifacts.extend(lacking.map(|record| record.manifest.clone()));
        for manifest in lost_artifacts {
            let is_gone = self.mend_artifact(&store, &manifest, force, say)?;
            stays |= !is_gone && store.artifact(&manifest).is_err();
        }
        let unreadable = findings.unreadable && stays;
        for image in &findings.images {
            if image.references().any(|digest| bad.contains(digest)) {
                self.mend_image(&store, image, force, say)?;
            }
        }
        drop(findings);
        if unreadable {
            say("Nothing that no image needs was removed: not every image is known");
            return Ok(());
        }
        let mut trees = self.container_garbage();
        trees.extend(store.collect_garbage(false)?.trash);
        self.remove_trees(&trees)
    }

    /// Makes a layer again from its blob, in the place of the damaged one.
    fn mend_layer(
        &self,
        store: &Store,
        key: &str,
        layer: &LayerRecord,
        info: Option<&LayerInfo>,
        say: Say<'_>,
    ) -> Result<(), Error> {
        let diff_id = &layer.diff_id;
        let layers = store.layers(key)?;
        if let Some(info) = info {
            layers.write_info(diff_id, info)?;
            say(&format!("Wrote down the size of layer {diff_id} ({key})"));
            return Ok(());
        }
        let Some(map) = self.map_of_layers(&layers) else {
            let text = format!(
                "Layer {diff_id} ({key}) can't be rebuilt: kelp does not know that id map any more; \
                 remove the containers that use it"
            );
            say(&text);
            return Ok(());
        };
        let mut job = self.with_unpacker(store, &map, |unpacker, _| {
            let blob = store.blobs().reader(&layer.digest)?;
            Ok(unpacker.replacing().start(diff_id, blob.into())?)
        })?;
        job.finish()?;
        let path = layers.path(diff_id);
        // No container comes to be meanwhile.
        let lock = StoreLock::exclusive(&self.paths.data)?;
        if let Some(user) = self.user_of_layer(&path)? {
            drop(lock);
            say(&format!(
                "Layer {diff_id} ({key}) is in use by {user}, and check again"
            ));
            return Ok(());
        }
        job.publish()?;
        drop(lock);
        say(&format!("Rebuilt layer {diff_id} ({key})"));
        Ok(())
    }

    /// A container can't be mended; with force it goes.
    fn mend_container(&self, id: &ContainerId, force: bool, say: Say<'_>) -> Result<(), Error> {
        let record = Record::new(&self.paths, id.clone());
        if !record.data.exists() {
            // Damaged twice.
            return Ok(());
        }
        if force && !record.is_alive() {
            self.remove_container(id, &RemoveOptions::FORCE)?;
            say(&format!("Deleted damaged container: {id}"));
            return Ok(());
        }
        say(&format!(
            "Container {} can't be repaired: pull its image again, or remove it: kelp rm {}{}",
            id.short(),
            if record.is_alive() { "-f " } else { "" },
            id.short()
        ));
        Ok(())
    }

    /// An image whose record is lost for good; whether it is gone now.
    fn mend_lost(
        &self,
        store: &Store,
        id: &Digest,
        force: bool,
        say: Say<'_>,
    ) -> Result<bool, Error> {
        let names = store.names(id).unwrap_or_default();
        if !force {
            say(&must_pull(&format!("image {}", id.short()), &names, &[]));
            return Ok(false);
        }
        if !self.free(id, say)? {
            return Ok(false);
        }
        for name in &names {
            let name = kelp_image::reference::Reference::parse(name);
            store.untag(&name.map_err(kelp_image::Error::from)?)?;
        }
        store.remove_record(id)?;
        say(&format!("Deleted damaged image: {}", id.hex()));
        Ok(true)
    }

    /// An image that lacks blobs.
    fn mend_image(
        &self,
        store: &Store,
        image: &ImageRecord,
        force: bool,
        say: Say<'_>,
    ) -> Result<(), Error> {
        if store.record(&image.id)?.is_none() {
            return Ok(());
        }
        if !force {
            let names = store.names(&image.id)?;
            let text = must_pull(&shown(store, image)?, &names, &image.repo_digests);
            say(&text);
            return Ok(());
        }
        if self.free(&image.id, say)? {
            self.remove_image(image.id.hex(), true, false)?;
            say(&format!("Deleted damaged image: {}", image.id.hex()));
        }
        Ok(())
    }

    /// Removes the containers that use an image; not if one of them runs.
    fn free(&self, image: &Digest, say: Say<'_>) -> Result<bool, Error> {
        let what = format!("Image {}", image.short());
        self.free_of(&what, self.users_of(image.hex())?, say)
    }

    /// Removes containers that use something; not if one of them runs.
    pub(super) fn free_of(
        &self,
        what: &str,
        users: Vec<Config>,
        say: Say<'_>,
    ) -> Result<bool, Error> {
        for config in &users {
            if Record::new(&self.paths, config.id.clone()).is_alive() {
                let text = format!(
                    "{what} is in use by container {}, which runs: stop it, and check again",
                    config.id.short()
                );
                say(&text);
                return Ok(false);
            }
        }
        for config in users {
            self.remove_container(&config.id, &RemoveOptions::FORCE)?;
            say(&format!("Deleted damaged container: {}", config.id));
        }
        Ok(true)
    }
}

/// How an image is had again.
fn must_pull(image: &str, names: &[String], repo_digests: &[String]) -> String {
    let from_registry = |name: &&String| !name.starts_with("localhost/");
    match names.iter().chain(repo_digests).find(from_registry) {
        Some(name) => format!("{image} must be pulled again: kelp pull {name}"),
        None => format!("{image} is from no registry: it must be built or loaded again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pulled_by_a_name_of_a_registry() {
        let say = |names: &[&str], digests: &[&str]| {
            let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
            must_pull("X", &owned(names), &owned(digests))
        };
        assert_eq!(
            say(&["localhost/a:b", "h.example/a:b"], &[]),
            "X must be pulled again: kelp pull h.example/a:b"
        );
        assert_eq!(
            say(&[], &["h.example/a@sha256:0"]),
            "X must be pulled again: kelp pull h.example/a@sha256:0"
        );
        assert_eq!(
            say(&["localhost/a:b"], &[]),
            "X is from no registry: it must be built or loaded again"
        );
    }
}
