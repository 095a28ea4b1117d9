//! Everything about a container, for `inspect`.

use std::fs;
use std::path::{Path, PathBuf};

use kelp_monitor::Launch;
use kelp_monitor::attach::Connection;
use kelp_runtime::plan::Rootfs;
use kelp_state::{ContainerId, ExitRecord, HealthRecord, Record, RunRecord, Status, file};

use crate::container::Config;
use crate::container::list::Summary;
use crate::{Engine, Error};

/// What a container is, does and did.
#[derive(Debug)]
pub struct Inspection {
    /// What it was asked to be.
    pub config: Config,
    /// What it is started from.
    pub launch: Option<Launch>,
    /// What it does.
    pub status: Status,
    /// What runs, of one that does.
    pub run: Option<RunRecord>,
    /// How it ended last, of one that does not run.
    pub exit: Option<ExitRecord>,
    /// What its health checks have found, if it has any.
    pub health: Option<HealthRecord>,
    /// Its directory.
    pub directory: PathBuf,
}

/// The bytes of a container's own files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Of what it wrote.
    pub written: u64,
    /// Of that and its image.
    pub total: u64,
}

impl Engine {
    /// Everything about a container. One whose monitor was killed is settled first.
    pub fn inspect_container(&self, id: &ContainerId) -> Result<Inspection, Error> {
        let record = Record::new(&self.paths, id.clone());
        let status = self.status(id)?;
        let config = self.config(id)?;
        let run = record.run()?;
        let exit = if run.is_some() { None } else { record.exit()? };
        if config.health.is_some()
            && run.is_some()
            && let Ok(monitor) = Connection::open(&record.runtime)
        {
            monitor.write_health();
        }
        let health = config.health.as_ref().map(|_| record.health());
        Ok(Inspection {
            health: health.transpose()?.map(Option::unwrap_or_default),
            launch: file::read_json(&record.data.join("launch.json"))?,
            config,
            status,
            run,
            exit,
            directory: record.data,
        })
    }

    /// How large a container is; what its users keep from others does not count.
    pub fn container_sizes(&self, inspection: &Inspection) -> Sizes {
        self.sizes(&inspection.directory, &inspection.config.image_id)
    }

    /// The same for one in a list.
    pub fn listed_sizes(&self, summary: &Summary) -> Sizes {
        let record = Record::new(&self.paths, summary.id.clone());
        self.sizes(&record.data, &summary.image_id)
    }

    fn sizes(&self, directory: &Path, image_id: &str) -> Sizes {
        let written = tree_size(&directory.join("upper"));
        let image = match image_id {
            "" => 0,
            id => self.image(id).map_or(0, |image| image.record.size),
        };
        let launch: Option<Launch> = file::read_json(&directory.join("launch.json"))
            .ok()
            .flatten();
        let is_copy = launch.is_some_and(|launch| matches!(launch.rootfs, Rootfs::Copied { .. }));
        let written = if is_copy {
            // The image's files are in it.
            written.saturating_sub(image)
        } else {
            written
        };
        Sizes {
            written,
            total: written + image,
        }
    }
}

/// The bytes of the regular files beneath a directory that can be read.
fn tree_size(path: &Path) -> u64 {
    let mut total = 0;
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.is_file() {
                total += metadata.len();
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed_when_sizes_are_added_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir(path.join("a")).unwrap();
        fs::write(path.join("a/b"), [0; 10]).unwrap();
        fs::write(path.join("c"), [0; 5]).unwrap();
        std::os::unix::fs::symlink("/", path.join("root")).unwrap();
        assert_eq!(tree_size(path), 15);
        assert_eq!(tree_size(&path.join("none")), 0);
    }
}
