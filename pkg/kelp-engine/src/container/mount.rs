//! `mount`: a container's files where the user can work with them.
//!
//! Of a container that runs it is the container's own root that is shown, and of one that does not run a
//! root is mounted, which a start or a copy then takes for theirs: a container's upper directory is never
//! in two overlays.

use std::path::PathBuf;
use std::time::Duration;

use kelp_image::store::StoreLock;
use kelp_monitor::Launch;
use kelp_state::shown::{Kind as Shown, Place};
use kelp_state::{ContainerId, Paths, Record, Status, file, liveness};

use super::signal::ends_within;
use crate::image::mount::unmount;
use crate::{Engine, Error, host};

impl Engine {
    /// Mounts a container's root, if it is not mounted yet; where.
    pub fn mount_container(&self, id: &ContainerId) -> Result<PathBuf, Error> {
        self.check_mounting()?;
        let status = self.status(id)?;
        let record = Record::new(&self.paths, id.clone());
        let place = Place::of_container(&self.paths.data, id);
        let _changing = liveness::changing(&record.runtime)?;
        // Who takes unused places away has this one.
        let _lock = StoreLock::shared(&self.paths.data)?;
        if !place.is_here()? {
            match status {
                Status::Running | Status::Paused => self.show_running(id, &place)?,
                Status::Created | Status::Exited => show_resting(&self.paths, &record, &place)?,
                Status::Stopping => return Err(changes(id)),
            }
            self.note_id("mount", id, None);
        }
        Ok(place.path().to_owned())
    }

    /// Shows the root that a container has.
    fn show_running(&self, id: &ContainerId, place: &Place) -> Result<(), Error> {
        let (run, pidfd) = self.init_of(id)?;
        host::check_reach(id, run.pid)?;
        place.make()?;
        kelp_runtime::shown::root_of(run.pid, place.path())?;
        if ends_within(&pidfd, Duration::ZERO)? {
            // The next run's root is another.
            let _ = place.unmount(true);
            return Err(changes(id));
        }
        Ok(())
    }

    /// Unmounts a container's root where the caller is, and with `force` wherever it is; whether it was
    /// mounted.
    pub fn unmount_container(&self, id: &ContainerId, force: bool) -> Result<bool, Error> {
        let record = Record::new(&self.paths, id.clone());
        let place = Place::of_container(&self.paths.data, id);
        if !place.path().exists() {
            return Ok(false);
        }
        let _changing = liveness::changing(&record.runtime)?;
        let was_mounted = unmount(&place, &format!("container {}", id.short()), force)?;
        place.tidy();
        if was_mounted {
            self.note_id("unmount", id, None);
        }
        Ok(was_mounted)
    }

    /// The containers that are mounted where the caller is, and where.
    pub fn mounted_containers(&self) -> Result<Vec<(ContainerId, PathBuf)>, Error> {
        self.check_mounting()?;
        let all = Place::all_here(&self.paths.data, Shown::Container)?;
        let known = |(id, path): (String, PathBuf)| Some((id.parse().ok()?, path));
        Ok(all.into_iter().filter_map(known).collect())
    }
}

/// Mounts the root of a container that does not run, which nobody starts meanwhile.
fn show_resting(paths: &Paths, record: &Record, place: &Place) -> Result<(), Error> {
    let Some(_offline) = liveness::offline(&record.runtime)? else {
        return Err(changes(&record.id));
    };
    let launch: Launch = file::read_json(&record.data.join("launch.json"))?
        .ok_or_else(|| kelp_state::Error::NotFound(record.id.to_string()))?;
    kelp_monitor::shown::check(paths, record)?;
    place.make()?;
    Ok(kelp_runtime::shown::root(&launch.rootfs, place.path())?)
}

pub(super) fn changes(id: &ContainerId) -> Error {
    Error::conflict(format!(
        "container {} is starting or stopping: try again",
        id.short()
    ))
}
