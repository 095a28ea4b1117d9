//! Where images are brought together: blobs under a lease, and an unpacker in a user namespace.

use std::io;

use kelp_image::pull::{Bring, Work};
use kelp_image::store::Store;

use crate::container::config::UserMode;
use crate::{Engine, Error, host};

/// What bringing an image needs, made when it is needed.
pub(crate) struct Workshop<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) store: &'a Store,
    /// The id map whose layers are made.
    pub(crate) user: &'a UserMode,
}

impl Workshop<'_> {
    fn set_up(&self, work: &mut Work<'_>) -> Result<(), Error> {
        let map = host::id_map(self.user)?;
        self.engine.prepare_space(self.store)?;
        let (lease, blobs) = self.store.lease()?;
        self.engine.with_unpacker(self.store, &map, |unpacker, _| {
            Ok(work(&blobs, &unpacker.leased(lease))?)
        })
    }
}

impl Bring for Workshop<'_> {
    fn bring(&self, work: &mut Work<'_>) -> Result<(), kelp_image::Error> {
        let mut result = Ok(());
        let set_up = self.set_up(&mut |blobs, unpacker| {
            result = work(blobs, unpacker);
            Ok(())
        });
        // The work's own errors are in the result.
        let what = "prepare to bring an image";
        set_up.map_err(|error| kelp_image::Error::io(what)(io::Error::other(error)))?;
        result
    }
}
