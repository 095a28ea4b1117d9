//! `system reset`: all that kelp keeps for a user goes, and all that runs ends, whatever state it is in.
//!
//! Nothing here relies on a record that can be read: containers are known by the names of directories,
//! and a step that fails is no reason to leave out the next one. What counts is that nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kelp_image::remove::remove_tree;
use kelp_state::shown::Place;
use kelp_state::{ContainerId, Record, liveness};

use crate::container::find::kill_remains;
use crate::container::hang::{KILL_TIME, hangs};
use crate::container::remove::{RemoveOptions, kill_monitor};
use crate::container::signal::MONITORS_TIME;
use crate::{Engine, Error, Kind};

/// How many containers are ended at the same time.
const AT_ONCE: usize = 32;

impl Engine {
    /// Ends every container and removes all that is beneath the data directory and the runtime directory.
    ///
    /// # Errors
    /// Also if a program hangs in the kernel, once all is removed that can be.
    pub fn reset(&self) -> Result<(), Error> {
        let directories = [&self.paths.data, &self.paths.runtime];
        let containers = self.paths.containers();
        for directory in directories.into_iter().chain([&containers]) {
            give_rights(directory);
        }
        let ids: Vec<_> = self.ids_of_all().into_iter().collect();
        let mut hanging = None;
        for some in ids.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                let ends: Vec<_> = some
                    .iter()
                    .map(|id| scope.spawn(|| self.end_whatever(id)))
                    .collect();
                for end in ends {
                    hanging = end.join().ok().flatten().or(hanging.take());
                }
            });
        }
        // What is mounted there is not to be emptied: it may be any directory of the user's.
        Place::forget_all(&self.paths.data);
        for place in Place::all(&self.paths.data) {
            if place.is_here()? {
                return Err(Error::conflict(format!(
                    "{} is mounted and can't be unmounted here: reset outside of this namespace",
                    place.path().display()
                )));
            }
        }
        for directory in directories {
            self.empty_whatever(directory)?;
        }
        hanging.map_or(Ok(()), Err)
    }

    /// Every container that there is a trace of.
    fn ids_of_all(&self) -> BTreeSet<ContainerId> {
        let places = [self.paths.containers(), self.paths.runtime.join("c")];
        let entries = places.iter().filter_map(|place| fs::read_dir(place).ok());
        entries
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Ends a container as one that is sound is ended; else its monitor and all that is left of it are
    /// killed. The error of one whose program can't be.
    fn end_whatever(&self, id: &ContainerId) -> Option<Error> {
        let record = Record::new(&self.paths, id.clone());
        give_rights(&record.data);
        let run = record.run().unwrap_or_default();
        if self.remove_container(id, &RemoveOptions::KILL).is_err() {
            let _ = kill_monitor(&record);
            let _ = liveness::gone_within(&record.runtime, MONITORS_TIME);
        }
        // Its cgroup goes with its record, and that may be gone.
        let ended = record.is_alive() || kill_remains(&record, run.as_ref(), KILL_TIME);
        run.filter(|_| !ended).map(|run| hangs(id, &run))
    }

    /// Removes all that a directory has, whoever of the user's ids it belongs to.
    fn empty_whatever(&self, directory: &Path) -> Result<(), Error> {
        let _ = self.empty_trees(&[directory.to_owned()]);
        // Where there can be no user namespace, or it has none of these ids.
        for path in entries(directory)? {
            let _ = remove_tree(&path);
        }
        let left = entries(directory)?;
        if left.is_empty() {
            return Ok(());
        }
        let left: Vec<_> = left.iter().map(|path| path.display().to_string()).collect();
        Err(Error::new(
            Kind::Failed,
            format!(
                "{} could not be removed: there are files of ids that this user does not have, and \
                 only root can remove those",
                left.join(", ")
            ),
        ))
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error| Error::io(format!("read {}", directory.display()))(error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    Ok(paths)
}

/// Gives the user the rights that somebody has taken from a directory of the user's.
fn give_rights(directory: &Path) {
    if let Ok(found) = fs::symlink_metadata(directory)
        && found.is_dir()
        && found.permissions().mode() & 0o700 != 0o700
    {
        let mode = found.permissions().mode() | 0o700;
        let _ = fs::set_permissions(directory, fs::Permissions::from_mode(mode));
    }
}
