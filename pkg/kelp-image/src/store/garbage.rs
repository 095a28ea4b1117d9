//! Collecting what nothing refers to: left by a kill, or by an addition that failed.

use std::path::PathBuf;

use super::{Store, StoreLock};
use crate::Error;
use crate::temporary;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Bytes of the blobs and cut downloads that were removed.
    pub freed: u64,
    /// Trees to be removed from disk; see [`crate::store::Removal::trash`].
    pub trash: Vec<PathBuf>,
}

impl Store {
    /// What killed commands have left half-made. Cheap: an addition takes it along.
    pub fn abandoned(&self) -> Result<Vec<PathBuf>, Error> {
        temporary::abandoned(&self.data.join("tmp"))
    }

    /// Removes blobs that nothing refers to, and tells the trees that nothing refers to.
    ///
    /// What others are adding meanwhile is left alone, as are cut downloads unless `partial`: the next
    /// pull goes on with them.
    pub fn collect_garbage(&self, partial: bool) -> Result<Garbage, Error> {
        let mut garbage = Garbage {
            trash: self.abandoned()?,
            ..Garbage::default()
        };
        {
            let _lock = StoreLock::exclusive(&self.data)?;
            self.forget_nameless_artifacts()?;
            let kept = self.referenced()?;
            for (digest, size) in self.blobs.list()? {
                if !kept.contains(&digest) {
                    garbage.trash.extend(self.blobs.discard(&digest)?);
                    garbage.freed += size;
                }
            }
            for layers in self.maps()? {
                for diff_id in layers.list()? {
                    if !kept.contains(&diff_id) {
                        garbage.trash.extend(layers.discard(&diff_id)?);
                    }
                }
                layers.forget_missing(&kept)?;
                garbage.trash.extend(layers.discarded()?);
            }
        }
        if partial {
            garbage.freed += self.blobs.remove_partial()?;
            self.blobs.forget_notes()?;
        }
        garbage.trash.sort_unstable();
        garbage.trash.dedup();
        Ok(garbage)
    }
}
