//! What images take of the disk, alone and together.
//!
//! All sizes are those of du(1): blocks on the disk, a file with several names once, and directories too.
//! An image has its record, its names, its blobs, and its layers for every map that they were made for. To
//! walk a layer takes a while, and it never changes: what was counted is written down beside it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use kelp_image::store::{Part, Store};

use crate::container::config::UserMode;
use crate::image::list::Image;
use crate::{Engine, Error, host, internal};

/// How many paths one role gets: its arguments must fit (execve(2)).
const PATHS: usize = 1000;

/// What one image takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// The bytes of blobs and layers that another image has too.
    pub shared: u64,
    /// The bytes of what no other image has.
    pub unique: u64,
    /// How many containers are made from it or have it mounted.
    pub containers: usize,
}

/// What all images take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagesUsage {
    /// Each, the newest first.
    pub images: Vec<ImageUsage>,
    /// The bytes of all that is kept for images, each part counted once: also what no image needs.
    pub size: u64,
    /// Those that are gone once the images are that no container uses, and what no image needs.
    pub reclaimable: u64,
    /// Those of what artifacts alone have: no removal of images frees them.
    pub artifacts: u64,
}

impl ImagesUsage {
    /// The bytes that removals of images, and of what no image needs, could free.
    pub fn without_artifacts(&self) -> u64 {
        self.size.saturating_sub(self.artifacts)
    }
}

impl Engine {
    /// What images take of the disk.
    pub fn images_usage(&self) -> Result<ImagesUsage, Error> {
        let store = self.store()?;
        let mut users: HashMap<String, usize> = HashMap::new();
        for listed in self.list_containers(true) {
            let mut used = listed.summary.options.mounted_images;
            used.push(listed.summary.image_id);
            used.sort_unstable();
            used.dedup();
            for image in used {
                *users.entry(image).or_default() += 1;
            }
        }
        let everything = store.everything()?;
        let files = everything.paths.into_iter().map(Part::File);
        let all: Vec<_> = everything.layers.into_iter().chain(files).collect();
        let sizes = self.part_sizes(&store, all)?;
        let mut made_up = Vec::new();
        for image in store.images()? {
            let containers = users.get(image.record.id.hex()).copied().unwrap_or(0);
            made_up.push((store.parts(&image)?, containers, image));
        }
        let directories = everything.directories.iter();
        let overhead = directories.filter_map(|path| std::fs::symlink_metadata(path).ok());
        let overhead = overhead.map(|found| std::os::unix::fs::MetadataExt::blocks(&found) * 512);
        let mut usage = add_up(&made_up, &store.artifact_parts()?, &sizes);
        usage.size += overhead.sum::<u64>();
        Ok(usage)
    }

    /// What each part takes; of a layer, what was counted before if it was.
    fn part_sizes(&self, store: &Store, parts: Vec<Part>) -> Result<BTreeMap<Part, u64>, Error> {
        let mut sizes = BTreeMap::new();
        let mut unknown = Vec::new();
        for part in parts {
            let known = match &part {
                Part::Layer { key, diff_id } => {
                    let info = store.layers(key)?.info(diff_id).ok().flatten();
                    info.and_then(|info| info.disk)
                }
                Part::File(_) => None,
            };
            match known {
                Some(size) => drop(sizes.insert(part, size)),
                None => unknown.push(part),
            }
        }
        let places: Result<Vec<_>, _> = unknown.iter().map(|part| store.place(part)).collect();
        for (part, size) in unknown.into_iter().zip(self.disk_usage(&places?)?) {
            if let (Part::Layer { key, diff_id }, Some(size)) = (&part, size) {
                // What can't be written down is counted again.
                let _ = store.layers(key)?.note_disk(diff_id, size);
            }
            sizes.insert(part, size.unwrap_or(0));
        }
        Ok(sizes)
    }

    /// What each path takes of the disk, if it can be read; those of other ids are read in a namespace.
    pub fn disk_usage(&self, paths: &[PathBuf]) -> Result<Vec<Option<u64>>, Error> {
        let mut sizes: Vec<_> = paths
            .iter()
            .map(|path| kelp_image::disk::used(path).ok())
            .collect();
        let closed: Vec<_> = (0..paths.len())
            .filter(|&index| sizes[index].is_none())
            .collect();
        if closed.is_empty() {
            return Ok(sizes);
        }
        let userns = self.user_namespace(host::id_map(&UserMode::Host)?)?;
        for some in closed.chunks(PATHS) {
            let words: Vec<_> = some
                .iter()
                .map(|&index| paths[index].to_string_lossy())
                .collect();
            let mut role = vec!["usage"];
            role.extend(words.iter().map(AsRef::as_ref));
            let (_, said) = internal::run_role_said(&role, &userns)?;
            let said = String::from_utf8_lossy(&said);
            for (&index, line) in some.iter().zip(said.lines()) {
                sizes[index] = line.parse().ok();
            }
        }
        Ok(sizes)
    }
}

/// An image with its parts and the number of its users.
type MadeUp = (Vec<Part>, usize, Image);

/// Adds up what images take, each part once; what no image has counts as well, and can go unless an artifact has it.
fn add_up(images: &[MadeUp], artifacts: &[Part], sizes: &BTreeMap<Part, u64>) -> ImagesUsage {
    // How many images have a part, and whether one of them is used.
    let mut shares: HashMap<&Part, (usize, bool)> = HashMap::new();
    for (parts, containers, _) in images {
        for part in parts {
            let (count, used) = shares.entry(part).or_default();
            *count += 1;
            *used |= *containers > 0;
        }
    }
    let own = artifacts.iter().filter(|part| !shares.contains_key(part));
    let own = own.filter_map(|part| sizes.get(part)).sum();
    for part in artifacts {
        let (_, used) = shares.entry(part).or_default();
        *used = true;
    }
    let is_used = |part: &Part| shares.get(part).is_some_and(|(_, used)| *used);
    let free = sizes.iter().filter(|(part, _)| !is_used(part));
    let mut usage = ImagesUsage {
        images: Vec::with_capacity(images.len()),
        size: sizes.values().sum(),
        reclaimable: free.map(|(_, size)| size).sum(),
        artifacts: own,
    };
    for (parts, containers, image) in images {
        let (mut shared, mut unique) = (0, 0);
        for part in parts {
            let size = sizes.get(part).copied().unwrap_or(0);
            match shares.get(part) {
                Some((count, _)) if *count > 1 => shared += size,
                _ => unique += size,
            }
        }
        usage.images.push(ImageUsage {
            image: image.clone(),
            shared,
            unique,
            containers: *containers,
        });
    }
    usage
}

#[cfg(test)]
mod tests {
    use kelp_image::Digest;
    use serde_json::json;

    use super::*;

    fn digest(number: u8) -> Digest {
        format!("sha256:{}", format!("{number:02x}").repeat(32))
            .parse()
            .unwrap()
    }

    fn part(number: u8) -> Part {
        Part::Layer {
            key: "single".to_owned(),
            diff_id: digest(number),
        }
    }

    fn made_up(number: u8, parts: &[u8], containers: usize) -> MadeUp {
        let id = digest(number);
        let record = serde_json::from_value(json!({
            "id": id, "manifest": id, "media_type": "", "os": "linux",
            "architecture": "amd64", "size": 0, "layers": [],
        }))
        .unwrap();
        let names = Vec::new();
        let parts = parts.iter().map(|&number| part(number)).collect();
        (parts, containers, Image { record, names })
    }

    #[test]
    fn a_part_counts_once_and_is_free_when_no_user_needs_it() {
        let sizes = [(10, 100), (11, 7), (12, 30), (13, 4), (14, 1000)];
        let sizes = sizes.map(|(number, size)| (part(number), size)).into();
        let images = vec![
            made_up(1, &[10, 11], 2),
            made_up(2, &[10, 12], 0),
            made_up(3, &[13], 0),
        ];
        let usage = add_up(&images, &[], &sizes);
        assert_eq!((usage.size, usage.reclaimable), (1141, 1034));
        // What an artifact has can't go, and it may have the same as an image.
        let artifacts = add_up(&images, &[part(13), part(14)], &sizes);
        assert_eq!((artifacts.size, artifacts.reclaimable), (1141, 30));
        assert_eq!((artifacts.artifacts, usage.artifacts), (1000, 0));
        let each: Vec<_> = usage
            .images
            .iter()
            .map(|usage| (usage.shared, usage.unique, usage.containers))
            .collect();
        assert_eq!(each, [(100, 7, 2), (100, 30, 0), (0, 4, 0)]);
        assert_eq!(add_up(&[], &[], &BTreeMap::new()), ImagesUsage::default());
    }
}
