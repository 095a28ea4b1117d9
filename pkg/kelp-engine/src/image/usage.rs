//! What images take of the disk, alone and together.

use std::collections::HashMap;

use kelp_image::Digest;

use crate::image::list::Image;
use crate::{Engine, Error};

/// What one image takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// The bytes of layers that another image has too.
    pub shared: u64,
    /// The bytes of layers that no other image has.
    pub unique: u64,
    /// How many containers are made from it or have it mounted.
    pub containers: usize,
}

/// What all images take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagesUsage {
    /// Each, the newest first.
    pub images: Vec<ImageUsage>,
    /// The bytes of all layers, each counted once.
    pub size: u64,
    /// Those that are gone once the images are that no container uses.
    pub reclaimable: u64,
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
        let images = store.images()?.into_iter().map(|image| {
            let ids = image.record.layers.iter().map(|layer| &layer.diff_id);
            let sizes = store.layer_sizes(&image.record);
            let layers = ids.cloned().zip(sizes).collect();
            let containers = users.get(image.record.id.hex()).copied().unwrap_or(0);
            (image, layers, containers)
        });
        Ok(add_up(images.collect()))
    }
}

/// Each image with its layers, their sizes, and the number of its users.
type Layered = (Image, HashMap<Digest, u64>, usize);

fn add_up(images: Vec<Layered>) -> ImagesUsage {
    // How many images have a layer, and whether one of them is used.
    let mut layers: HashMap<Digest, (u64, usize, bool)> = HashMap::new();
    for (_, own, containers) in &images {
        for (id, &size) in own {
            let (_, count, used) = layers.entry(id.clone()).or_insert((size, 0, false));
            *count += 1;
            *used |= *containers > 0;
        }
    }
    let mut usage = ImagesUsage {
        size: layers.values().map(|(size, ..)| size).sum(),
        ..ImagesUsage::default()
    };
    let free = layers.values().filter(|(_, _, used)| !used);
    usage.reclaimable = free.map(|(size, ..)| size).sum();
    for (image, own, containers) in images {
        let is_shared = |id: &Digest| layers.get(id).is_some_and(|(_, count, _)| *count > 1);
        let (mut shared, mut unique) = (0, 0);
        for (id, size) in own {
            if is_shared(&id) {
                shared += size;
            } else {
                unique += size;
            }
        }
        usage.images.push(ImageUsage {
            image,
            shared,
            unique,
            containers,
        });
    }
    usage
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(number: u8) -> Digest {
        format!("sha256:{}", format!("{number:02x}").repeat(32))
            .parse()
            .unwrap()
    }

    fn layered(number: u8, layers: &[(u8, u64)], containers: usize) -> Layered {
        let id = digest(number);
        let record = serde_json::from_value(json!({
            "id": id, "manifest": id, "media_type": "", "os": "linux",
            "architecture": "amd64", "size": 0, "layers": [],
        }))
        .unwrap();
        let names = Vec::new();
        let layers = layers.iter().map(|&(layer, size)| (digest(layer), size));
        (Image { record, names }, layers.collect(), containers)
    }

    #[test]
    fn a_layer_counts_once_and_is_free_when_no_user_needs_it() {
        let usage = add_up(vec![
            layered(1, &[(10, 100), (11, 7)], 2),
            layered(2, &[(10, 100), (12, 30)], 0),
            layered(3, &[(13, 4)], 0),
        ]);
        assert_eq!((usage.size, usage.reclaimable), (141, 34));
        let each: Vec<_> = usage
            .images
            .iter()
            .map(|usage| (usage.shared, usage.unique, usage.containers))
            .collect();
        assert_eq!(each, [(100, 7, 2), (100, 30, 0), (0, 4, 0)]);
        assert_eq!(add_up(Vec::new()), ImagesUsage::default());
    }
}
