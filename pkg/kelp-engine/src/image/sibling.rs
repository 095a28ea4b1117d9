//! Layers for a map from those for another, where files can share their blocks.

use kelp_image::store::{ImageRecord, Store};
use kelp_image::{Digest, sibling};
use kelp_userns::{IdMap, UserNamespace};

use crate::{Engine, Error, host, internal};

impl Engine {
    /// Makes an image's missing layers from siblings for other maps. What could not be made so is left
    /// to be extracted.
    pub(super) fn share_layers(
        &self,
        store: &Store,
        record: &ImageRecord,
        map: &IdMap,
        userns: &UserNamespace,
    ) -> Result<(), Error> {
        let missing = store.missing_layers(record, &map.key())?;
        // With one id files have other attributes, and the same owner.
        if map.is_single() || missing.is_empty() {
            return Ok(());
        }
        let from: Vec<_> = store
            .maps()?
            .into_iter()
            .filter(|layers| layers.key() != map.key())
            .filter(|layers| missing.iter().any(|layer| layers.contains(&layer.diff_id)))
            .filter_map(|layers| Some((self.map_of_layers(&layers)?, layers)))
            .filter(|(map, _)| !map.is_single())
            .collect();
        if from.is_empty() || !sibling::can_share(&self.paths.data) {
            return Ok(());
        }
        for layer in missing {
            let having = from
                .iter()
                .filter(|(_, layers)| layers.contains(&layer.diff_id));
            for (other, _) in having {
                if self.share_layer(other, map, &layer.diff_id, userns)? {
                    break;
                }
            }
        }
        Ok(())
    }

    fn share_layer(
        &self,
        from: &IdMap,
        to: &IdMap,
        diff_id: &Digest,
        userns: &UserNamespace,
    ) -> Result<bool, Error> {
        let ((_, from_ids), (_, to_ids)) = (host::translation(from)?, host::translation(to)?);
        let (from_key, to_key) = (from.key(), to.key());
        let words = sibling::arguments(
            &self.paths.data,
            (&from_key, from_ids.as_ref()),
            (&to_key, to_ids.as_ref()),
            diff_id,
        );
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        Ok(internal::run_role(&words, userns)?.code() == 0)
    }
}
