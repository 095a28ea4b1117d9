//! Collecting what killed commands have left. Nothing of it is in anybody's way: this frees the disk.

use std::fs;
use std::path::{Path, PathBuf};

use kelp_image::space::is_full;
use kelp_state::{Record, liveness, name, record, trash};

use crate::container::config::UserMode;
use crate::container::find::kill_remains;
use crate::container::hang::KILL_TIME;
use crate::{Engine, Error, host, internal};

impl Engine {
    /// Removes what belongs to no container and no image: half-made records, names without an owner,
    /// parts of the runtime directory, trash, blobs, layers and downloads that were cut.
    pub fn collect_garbage(&self) -> Result<(), Error> {
        self.await_removers();
        let mut trees = self.container_garbage();
        self.forget_unused_places();
        let garbage = self.store()?.collect_garbage(true)?;
        trees.extend(garbage.trash);
        self.remove_trees(&trees)
    }

    /// Forgets what is left of containers, in one step each; the trees that are to be deleted.
    pub(crate) fn container_garbage(&self) -> Vec<PathBuf> {
        for name in names_in(&self.paths.containers()) {
            let directory = self.paths.containers().join(&name);
            if !record::is_finished(&directory) {
                self.forget_half_made(&directory, &name);
            }
        }
        self.forget_half_made_pods();
        self.forget_half_made_secrets();
        name::forget_stale(&self.paths);
        for id in names_in(&self.paths.runtime.join("c")) {
            let Ok(id) = id.parse() else { continue };
            let record = Record::new(&self.paths, id);
            if !record.data.exists()
                && let Ok(Some(_offline)) = liveness::offline(&record.runtime)
            {
                kill_remains(&record, None, KILL_TIME);
                let _ = fs::remove_dir_all(&record.runtime);
            }
        }
        kelp_userns::shared::forget_dead(&self.paths.runtime);
        let volumes = self.paths.volumes();
        for name in names_in(&volumes) {
            // A volume that is being made has a dot before its name.
            if name.starts_with('.') {
                self.put_half_made(&volumes.join(&name), &format!("volume{name}"));
            } else if trash::is_closed(&volumes.join(&name)) {
                let _ = self.finish_closed(&name);
            }
        }
        let discarded = self.paths.data.join("trash");
        let names = names_in(&discarded).into_iter();
        names.map(|name| discarded.join(name)).collect()
    }

    /// Moves a record that was never finished to the trash.
    fn forget_half_made(&self, directory: &Path, name: &str) {
        // Held while it is renamed, so that nobody finishes it meanwhile.
        let Ok(Some(_lock)) = record::making(directory) else {
            return;
        };
        if !record::is_finished(directory) {
            self.throw_away(directory, name.trim_start_matches('.'));
        }
    }

    /// Moves a volume that was never finished to the trash.
    fn put_half_made(&self, directory: &Path, name: &str) {
        if let Ok(Some(_lock)) = record::making(directory) {
            self.throw_away(directory, name);
        }
    }

    /// Moves a directory to the trash, or deletes it where there is no space for that. The caller keeps
    /// others from it.
    fn throw_away(&self, directory: &Path, name: &str) {
        let trash = self.paths.data.join("trash");
        let rename = || fs::rename(directory, trash.join(name));
        let moved = fs::create_dir_all(&trash).and_then(|()| rename());
        if moved.is_err_and(|error| is_full(&error)) {
            // There is no space for another name: it goes from where it is. What can't be renamed for
            // another reason, as a mount point, stays.
            let _ = self.remove_trees(&[directory.to_owned()]);
        }
    }

    /// Deletes trees of any owner that the user's ids can be, from inside a user namespace.
    pub(crate) fn remove_trees(&self, trees: &[PathBuf]) -> Result<(), Error> {
        let mut trees = trees.to_vec();
        trees.retain(|path| !delete(path));
        self.remove_as("remove", &trees)
    }

    /// Deletes what is in directories of any owner, and not the directories.
    pub(crate) fn empty_trees(&self, directories: &[PathBuf]) -> Result<(), Error> {
        self.remove_as("empty", directories)
    }

    fn remove_as(&self, role: &str, trees: &[PathBuf]) -> Result<(), Error> {
        if trees.is_empty() {
            return Ok(());
        }
        let userns = self.user_namespace(host::id_map(&UserMode::Host)?)?;
        let paths: Vec<_> = trees.iter().map(|path| path.to_string_lossy()).collect();
        let mut words = vec![role];
        words.extend(paths.iter().map(AsRef::as_ref));
        let exit = internal::run_role(&words, &userns)?;
        if exit.code() == 0 {
            return Ok(());
        }
        Err(Error::new(
            crate::Kind::Failed,
            "some files could not be removed; `kelp image prune` tries again",
        ))
    }
}

/// Runs `kelp internal empty DIRECTORY…`.
pub(crate) fn empty_role(directories: &[&str]) -> i32 {
    let mut failed = false;
    for directory in directories {
        match fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries.flatten() {
                    failed |= kelp_image::remove::remove_tree(&entry.path()).is_err();
                }
            }
            Err(_) => failed = true,
        }
    }
    i32::from(failed)
}

/// Deletes a file, or an empty directory; whether it is gone.
fn delete(path: &Path) -> bool {
    fs::remove_file(path).is_ok() || fs::remove_dir(path).is_ok() || !path.exists()
}

fn names_in(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
