//! Where the parts of images are on disk, for `system df`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use super::{Image, ImageRecord, Store};
use crate::Error;
use crate::digest::Digest;
use crate::layer::{LayerStore, MAP};

/// A part of one image or several.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A file.
    File(PathBuf),
    /// An extracted layer.
    Layer {
        /// The key of its map.
        key: String,
        /// The digest of its uncompressed archive.
        diff_id: Digest,
    },
}

impl Store {
    /// All that an image has on disk: its record, names, blobs, and layers for whatever map.
    pub fn parts(&self, image: &Image) -> Result<Vec<Part>, Error> {
        let record = &image.record;
        let names = image.names.iter().map(|name| self.tags.path(name));
        let documents = [&record.id, &record.manifest];
        let blobs = documents
            .into_iter()
            .chain(&record.indexes)
            .chain(record.layers.iter().map(|layer| &layer.digest))
            .map(|digest| self.blobs.path(digest));
        let mut parts: Vec<_> = names
            .chain(blobs)
            .chain([self.record_path(&record.id), self.list_path(&record.id)])
            .map(Part::File)
            .collect();
        for layers in self.maps()? {
            for layer in &record.layers {
                if layers.contains(&layer.diff_id) {
                    parts.push(Part::Layer {
                        key: layers.key().to_owned(),
                        diff_id: layer.diff_id.clone(),
                    });
                    parts.push(Part::File(layers.info_path(&layer.diff_id)));
                }
            }
        }
        parts.sort();
        parts.dedup();
        Ok(parts)
    }

    /// When an image was used last: when a container was made from it, or else when it was recorded.
    pub fn last_use(&self, record: &ImageRecord) -> Option<SystemTime> {
        let found = fs::symlink_metadata(self.record_path(&record.id)).ok()?;
        found.modified().ok()
    }

    /// Notes that an image is used, as the time of its record's file. The minute will do, so that what
    /// is used all the time is not written all the time; what can't be written is not noted.
    pub fn note_use(&self, record: &ImageRecord) {
        const MINUTE: Duration = Duration::from_mins(1);
        let now = SystemTime::now();
        let last = self.last_use(record);
        if last.is_some_and(|last| now.duration_since(last).is_ok_and(|since| since < MINUTE)) {
            return;
        }
        let time = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        let path = self.record_path(&record.id);
        let _ = utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW);
    }

    /// Where a part is.
    pub fn place(&self, part: &Part) -> Result<PathBuf, Error> {
        Ok(match part {
            Part::File(path) => path.clone(),
            Part::Layer { key, diff_id } => LayerStore::beneath(&self.data, key)?.path(diff_id),
        })
    }

    /// All that the directories of images have, whether an image needs it or not: layers apart, and the
    /// rest as paths that are to be walked, among them the directories themselves without what they have.
    pub fn everything(&self) -> Result<Everything, Error> {
        let mut everything = Everything::default();
        for name in ["images", "lists", "tags"] {
            everything.add_directory(&self.data.join(name), |_| None)?;
        }
        let names = self.artifact_names_directory();
        if names.is_dir() {
            everything.add_directory(&self.data.join("artifacts"), |_| None)?;
            everything.add_directory(&names, |_| None)?;
            // It is one of the directories, and no record.
            everything.paths.retain(|path| *path != names);
        }
        let blobs = self.data.join("blobs");
        everything.directories.push(blobs.clone());
        for directory in read(&blobs)? {
            everything.add_directory(&directory, |_| None)?;
        }
        let layers = self.data.join("layers");
        everything.directories.push(layers.clone());
        for entry in read(&layers)? {
            let Some(map) = entry
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|key| LayerStore::beneath(&self.data, key).ok())
                .filter(|_| entry.is_dir())
            else {
                everything.paths.push(entry);
                continue;
            };
            let known: BTreeMap<PathBuf, Digest> = map
                .list()?
                .into_iter()
                .map(|diff_id| (map.path(&diff_id), diff_id))
                .collect();
            everything.add_directory(&entry, |path| {
                let diff_id = known.get(path)?.clone();
                Some((map.key().to_owned(), diff_id))
            })?;
        }
        Ok(everything)
    }
}

/// What is in the directories of images.
#[derive(Clone, Debug, Default)]
pub struct Everything {
    /// Extracted layers.
    pub layers: Vec<Part>,
    /// Files, and trees that are no layers.
    pub paths: Vec<PathBuf>,
    /// What stays whatever goes: directories without what they have, and the notes of maps.
    pub directories: Vec<PathBuf>,
}

impl Everything {
    fn add_directory(
        &mut self,
        directory: &Path,
        layer: impl Fn(&Path) -> Option<(String, Digest)>,
    ) -> Result<(), Error> {
        self.directories.push(directory.to_owned());
        for path in read(directory)? {
            match layer(&path) {
                Some((key, diff_id)) => self.layers.push(Part::Layer { key, diff_id }),
                None if path.ends_with(MAP) => self.directories.push(path),
                None => self.paths.push(path),
            }
        }
        Ok(())
    }
}

fn read(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error| Error::io(format!("read {}", directory.display()))(error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    Ok(paths)
}
