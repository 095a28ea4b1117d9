//! `image tree`: the layers of an image, and what is made from them.
//!
//! A layer is named as podman does it, by its chain: the same changes on top of other layers are another
//! one (OCI image specification, config.md, "Layer ChainID").

use std::collections::BTreeMap;

use kelp_image::Digest;

use crate::image::list::Image;
use crate::{Engine, Error};

/// A layer in the place that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeLayer {
    /// The chain of layers that it is the last of, as hexadecimal digits.
    pub id: String,
    /// Its bytes.
    pub size: u64,
    /// The names of images that it is the topmost layer of.
    pub names: Vec<String>,
    /// Layers on top of it.
    pub above: Vec<TreeLayer>,
}

/// Layers by their chain, and what is on top of each.
#[derive(Default)]
struct Layers {
    known: BTreeMap<String, TreeLayer>,
    above: BTreeMap<String, Vec<String>>,
}

impl Engine {
    /// The layers of an image, the lowest first, each with the names of images that end there.
    pub fn image_tree(&self, image: &Image) -> Result<Vec<TreeLayer>, Error> {
        let layers = self.layers()?;
        let chain = chain(image);
        Ok(chain
            .iter()
            .filter_map(|id| layers.known.get(id).cloned())
            .collect())
    }

    /// The topmost layer of an image, with all that other images have on top of it; `None` for an image
    /// without layers.
    pub fn image_offspring(&self, image: &Image) -> Result<Option<TreeLayer>, Error> {
        let layers = self.layers()?;
        Ok(chain(image).last().and_then(|top| layers.with_above(top)))
    }

    fn layers(&self) -> Result<Layers, Error> {
        let store = self.store()?;
        let mut layers = Layers::default();
        for image in store.images()? {
            let sizes = store.layer_sizes(&image.record);
            let chain = chain(&image);
            for (index, (id, size)) in chain.iter().zip(sizes).enumerate() {
                let layer = layers.known.entry(id.clone()).or_default();
                layer.id.clone_from(id);
                layer.size = size;
                if index + 1 == chain.len() {
                    layer.names.extend(image.names.iter().cloned());
                }
                if index > 0 {
                    let above = layers.above.entry(chain[index - 1].clone()).or_default();
                    if !above.contains(id) {
                        above.push(id.clone());
                    }
                }
            }
        }
        Ok(layers)
    }
}

impl Layers {
    /// A layer with all that is on top of it. A chain never comes back to itself, and an image has few
    /// layers.
    fn with_above(&self, id: &str) -> Option<TreeLayer> {
        let mut layer = self.known.get(id)?.clone();
        let above = self.above.get(id).into_iter().flatten();
        layer.above = above.filter_map(|id| self.with_above(id)).collect();
        Some(layer)
    }
}

/// The chains of an image's layers, the lowest first.
fn chain(image: &Image) -> Vec<String> {
    let mut chain: Vec<Digest> = Vec::new();
    for layer in &image.record.layers {
        chain.push(match chain.last() {
            None => layer.diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {}", layer.diff_id).as_bytes()),
        });
    }
    chain.iter().map(|digest| digest.hex().to_owned()).collect()
}
