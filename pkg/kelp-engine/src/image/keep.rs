//! Images that make room: the least recently used ones go until all that is kept for images fits.

use std::collections::BTreeSet;

use crate::image::list::Image;
use crate::{Engine, Error};

impl Engine {
    /// Removes what no image needs, and then images that no container uses, those first whose last use is
    /// longest ago, until what is kept for images takes at most `limit` bytes of the disk; the ids of the
    /// images. What is not `meant` stays, and so does `latest`, which was just pulled.
    pub fn make_room(
        &self,
        limit: u64,
        latest: Option<&str>,
        meant: &dyn Fn(&Image) -> bool,
    ) -> Result<Vec<String>, Error> {
        let store = self.store()?;
        let mut removed = Vec::new();
        let mut usage = self.images_usage()?;
        if usage.without_artifacts() <= limit {
            return Ok(removed);
        }
        self.collect_garbage()?;
        usage = self.images_usage()?;
        let mut tried = BTreeSet::new();
        while usage.without_artifacts() > limit {
            let candidates = usage.images.iter().filter(|usage| {
                let id = usage.image.record.id.hex();
                let is_latest = latest == Some(id);
                let goes = usage.containers == 0 && !is_latest && !tried.contains(id);
                goes && store.read_only(&usage.image.record.id).is_none() && meant(&usage.image)
            });
            let oldest = candidates.min_by_key(|usage| store.last_use(&usage.image.record));
            let Some(oldest) = oldest else {
                break;
            };
            let id = oldest.image.record.id.clone();
            tried.insert(id.hex().to_owned());
            if let Some(removal) = store.prune(&id, true, &|id| self.user_names(id))? {
                self.note_removal(id.hex(), &removal);
                self.remove_trees(&removal.trash)?;
                removed.push(id.hex().to_owned());
                usage = self.images_usage()?;
            }
        }
        Ok(removed)
    }
}
