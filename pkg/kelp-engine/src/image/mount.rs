//! `image mount`: an image's files where the user can read them.
//!
//! A mount needs a mount namespace in which the user is root, and lasts as long as that one: `kelp unshare`
//! makes one. Who holds the store's lock finds every mount of an image in the kernel's tables, so nothing
//! that is mounted is removed.

use std::path::PathBuf;

use kelp_image::store::StoreLock;
use kelp_state::shown::{Kind as Shown, Place, Seen};
use kelp_userns::{IdMap, own};

use super::Held;
use crate::container::config::UserMode;
use crate::storage::Storage;
use crate::{Engine, Error, Kind, host};

impl Engine {
    /// Mounts an image so that it can be read, if it is not mounted yet; where.
    pub fn mount_image(&self, name: &str) -> Result<PathBuf, Error> {
        let map = self.check_mounting()?;
        let store = self.store()?;
        let mut held = Held::new(store.lock()?);
        let record = store.find(name)?;
        store.note_use(&record);
        self.hold_image(&store, &mut held, &record, &map)?;
        let place = Place::of_image(&self.paths.data, record.id.hex());
        if !place.is_here()? {
            if self.storage()? == Storage::Vfs {
                return Err(Error::invalid(format!(
                    "mount image {}: it needs an overlay, and none can be mounted here: run `kelp \
                     doctor` to see why",
                    record.id.short()
                )));
            }
            place.make()?;
            let layers = store.layer_paths(&record, &map.key())?;
            kelp_runtime::shown::layers(&layers, place.path())?;
            self.note_image("mount", record.id.hex(), name);
        }
        Ok(place.path().to_owned())
    }

    /// Unmounts an image where the caller is, and with `force` wherever it is; whether it was mounted.
    pub fn unmount_image(&self, name: &str, force: bool) -> Result<bool, Error> {
        let record = self.store()?.find(name)?;
        let place = Place::of_image(&self.paths.data, record.id.hex());
        let shown = format!("image {}", record.id.short());
        let was_mounted = unmount(&place, &shown, force)?;
        let _lock = StoreLock::exclusive(&self.paths.data)?;
        place.tidy();
        if was_mounted {
            self.note_image("unmount", record.id.hex(), name);
        }
        Ok(was_mounted)
    }

    /// The images that are mounted where the caller is: their ids, and where.
    pub fn mounted_images(&self) -> Result<Vec<(String, PathBuf)>, Error> {
        self.check_mounting()?;
        Ok(Place::all_here(&self.paths.data, Shown::Image)?)
    }

    /// Takes away every mount of an image.
    pub(crate) fn forget_image_mount(&self, id: &str) -> Result<(), Error> {
        let _lock = StoreLock::exclusive(&self.paths.data)?;
        Place::of_image(&self.paths.data, id).forget();
        Ok(())
    }

    /// What to call whoever has an image mounted. The caller has the store's lock.
    pub(crate) fn image_mounts(&self, id: &str) -> Option<String> {
        match Place::of_image(&self.paths.data, id).seen() {
            Ok(Seen::Nowhere) => None,
            Ok(Seen::Here) => Some("a mount (kelp image unmount takes it away)".to_owned()),
            Ok(Seen::By(process)) => Some(format!(
                "a mount where process {process} is (kelp image unmount takes it away there)"
            )),
            // Nobody knows, and what is mounted stays.
            Err(error) => Some(format!("a mount, perhaps: {error}")),
        }
    }

    /// The usual map; refuses where nothing can be mounted, or would be shown with other owners than
    /// containers see.
    pub(crate) fn check_mounting(&self) -> Result<IdMap, Error> {
        let usual = host::id_map(&UserMode::Host)?;
        if own::is_capable() && own::inner(&usual)?.is_itself() {
            return Ok(usual);
        }
        Err(Error::new(
            Kind::Failed,
            "cannot mount in rootless mode, must execute `kelp unshare` first: a mount lasts as long as \
             the command or the shell that it runs",
        ))
    }

    /// Takes away directories for mounts that have none.
    pub(crate) fn forget_unused_places(&self) {
        let places = Place::all(&self.paths.data);
        if places.is_empty() {
            return;
        }
        // Who mounts something has it too.
        if let Ok(_lock) = StoreLock::exclusive(&self.paths.data) {
            places.iter().for_each(Place::tidy);
        }
    }
}

/// Unmounts what is here, or with `force` all there is; whether anything was.
pub(crate) fn unmount(place: &Place, shown: &str, force: bool) -> Result<bool, Error> {
    match place.seen()? {
        Seen::Nowhere => Ok(false),
        _ if force => {
            place.forget();
            Ok(true)
        }
        Seen::Here => {
            place.unmount(false).map_err(|error| match error.kind() {
                std::io::ErrorKind::ResourceBusy => Error::conflict(format!(
                    "unmount {shown}: somebody has a file in it open, or it is somebody's working \
                     directory: end that, or use --force"
                )),
                _ => Error::io(format!("unmount {shown}"))(error),
            })?;
            Ok(true)
        }
        Seen::By(process) => Err(Error::conflict(format!(
            "{shown} is mounted where process {process} is, which is not here: unmount it there, or use \
             --force"
        ))),
    }
}
