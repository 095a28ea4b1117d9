//! A container's root where the user has it mounted, by `kelp mount`.

use kelp_runtime::plan::Rootfs;
use kelp_state::shown::{Place, Seen};
use kelp_state::{Paths, Record};

use crate::error::Error;
use crate::protocol::FailureKind;

/// What a container's root is made of, for who is about to mount it and keeps others from doing so: that
/// mount itself where the caller sees one, because no directory may be the upper one of two overlays.
///
/// # Errors
/// [`Error::Failed`] if it is mounted where the caller can't get at it.
pub fn root(paths: &Paths, record: &Record, rootfs: &Rootfs) -> Result<Rootfs, Error> {
    let place = Place::of_container(&paths.data, &record.id);
    if !place.path().exists() {
        return Ok(rootfs.clone());
    }
    if is_here(&place, record)? {
        return Ok(Rootfs::Directory(place.path().to_owned()));
    }
    // A session that has ended leaves it.
    let _ = std::fs::remove_dir(place.path());
    Ok(rootfs.clone())
}

/// Refuses what needs the root, as [`root`] does.
pub fn check(paths: &Paths, record: &Record) -> Result<(), Error> {
    is_here(&Place::of_container(&paths.data, &record.id), record).map(drop)
}

fn is_here(place: &Place, record: &Record) -> Result<bool, Error> {
    match place.seen()? {
        Seen::Here => Ok(true),
        Seen::Nowhere => Ok(false),
        Seen::By(process) => Err(Error::Failed {
            kind: FailureKind::Setup,
            text: format!(
                "container {} is mounted by `kelp mount` where process {process} is: unmount it there \
                 (kelp umount), or do this there",
                record.id.short()
            ),
        }),
    }
}

/// Takes away what shows the root of a run that has ended, in other mount namespaces than the caller's.
pub(crate) fn hide(paths: &Paths, record: &Record) {
    let place = Place::of_container(&paths.data, &record.id);
    if matches!(place.seen(), Ok(Seen::By(_))) {
        place.forget();
    }
}
