//! `system check`: whether all that the store has is whole, and mending what can be.
//!
//! First everything is looked at (`find`, `layers`), and each damage is told in a line; then, if that is
//! asked for, it is mended (`mend`), and looked at again. What could be made again is; what could not is
//! named with the way out, and stays unless that is forced. Others may work on the store meanwhile: a
//! lease keeps what is looked at.

mod artifacts;
mod find;
mod layers;
mod mend;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kelp_image::Digest;
use kelp_image::layer::LayerInfo;
use kelp_image::store::{
    ArtifactRecord, BadName, ImageRecord, LayerRecord, Lease, Store, Unreferenced,
};

use crate::{ContainerId, Engine, Error};

/// How the store is checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckOptions {
    /// Whether the content of layers is left out: neither their blobs nor their trees are read.
    pub quick: bool,
    /// Whether damage is mended.
    pub repair: bool,
    /// Whether images and artifacts that can't be mended go, and the containers that use them and do not run.
    pub force: bool,
    /// How old something that no image and no artifact refers to must be to be damage; it never is by default.
    pub max: Option<Duration>,
}

/// What has come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is whole, or is now.
    Whole,
    /// Something is damaged.
    Damaged,
    /// Something is still damaged after all that could be done.
    StillDamaged,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug)]
enum Damage {
    Blob {
        digest: Digest,
        what: String,
        /// A name of an image or an artifact that needs it.
        image: String,
    },
    Image {
        id: Digest,
        what: String,
    },
    Artifact {
        manifest: Digest,
        what: String,
    },
    Name(BadName),
    Layer {
        key: String,
        /// The record by which it can be made again.
        layer: LayerRecord,
        what: Vec<String>,
        /// What is to be written down of it, if only that is wrong.
        info: Option<LayerInfo>,
    },
    Container {
        id: ContainerId,
        what: String,
    },
    Secret {
        /// Its name, or where it is if that is not known.
        name: String,
        what: String,
    },
    Unreferenced(Unreferenced),
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob {
                digest,
                what,
                image,
            } => write!(formatter, "Damaged blob {digest} of {image}: {what}"),
            Self::Image { id, what } => write!(formatter, "Damaged image {}: {what}", id.short()),
            Self::Artifact { manifest, what } => {
                write!(formatter, "Damaged artifact {}: {what}", manifest.short())
            }
            Self::Name(bad) => write!(formatter, "Damaged name {}: {}", bad.name, bad.what),
            Self::Layer {
                key, layer, what, ..
            } => {
                for (index, what) in what.iter().enumerate() {
                    let line = if index == 0 { "" } else { "\n" };
                    let diff_id = &layer.diff_id;
                    write!(formatter, "{line}Damaged layer {diff_id} ({key}): {what}")?;
                }
                Ok(())
            }
            Self::Container { id, what } => {
                write!(formatter, "Damaged container {}: {what}", id.short())
            }
            Self::Secret { name, what } => write!(formatter, "Damaged secret {name:?}: {what}"),
            Self::Unreferenced(Unreferenced::Blob(digest)) => {
                write!(formatter, "Unreferenced blob {digest}")
            }
            Self::Unreferenced(Unreferenced::Layer(key, diff_id)) => {
                write!(formatter, "Unreferenced layer {diff_id} ({key})")
            }
        }
    }
}

/// Who hears of damage, and of what is done about it, a line each.
pub type Say<'a> = &'a mut dyn FnMut(&str);

/// What was found.
struct Findings {
    store: Store,
    damages: Vec<Damage>,
    /// Images whose record can be read.
    images: Vec<ImageRecord>,
    /// The manifests of artifacts whose record can be read, and what each needs.
    artifacts: Vec<ArtifactRecord>,
    /// Whether there are others.
    unreadable: bool,
    /// Keeps what was looked at for who mends.
    _lease: Option<Arc<Lease>>,
}

impl Engine {
    /// Checks the store; damage, and what is done about it, is told in lines.
    pub fn check_storage(&self, options: &CheckOptions, say: Say<'_>) -> Result<Outcome, Error> {
        let findings = self.find_damage(options)?;
        for damage in &findings.damages {
            say(&damage.to_string());
        }
        let repair = options.repair || options.force;
        if !repair {
            return Ok(if findings.damages.is_empty() {
                Outcome::Whole
            } else {
                Outcome::Damaged
            });
        }
        let was_whole = findings.damages.is_empty();
        self.mend(findings, options.force, say)?;
        if was_whole || self.find_damage(options)?.damages.is_empty() {
            Ok(Outcome::Whole)
        } else {
            Ok(Outcome::StillDamaged)
        }
    }
}
