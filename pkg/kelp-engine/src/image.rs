//! Images: what a container is made from.

use std::path::{Path, PathBuf};

use kelp_runtime::plan::Rootfs;
use kelp_userns::IdMap;
use oci_spec::image::Config as ImageConfig;

use crate::container::config::CreateOptions;
use crate::container::create::directory_base;
use crate::{Engine, Error, Kind};

/// What a container is made from: an image's layers for its id map, or a directory.
#[derive(Debug)]
pub struct Base {
    /// The full name.
    pub name: String,
    /// The image's id; empty for a directory.
    pub id: String,
    /// The image's defaults.
    pub config: ImageConfig,
    /// The files.
    pub root: BaseRoot,
}

/// The files of a [`Base`].
#[derive(Debug)]
pub enum BaseRoot {
    /// A directory of the host, used as it is.
    Directory(PathBuf),
    /// Extracted layers, topmost first.
    Layers(Vec<PathBuf>),
}

impl Base {
    /// The root of a container whose record is at `record`.
    pub fn rootfs(&self, record: &Path) -> Rootfs {
        match &self.root {
            BaseRoot::Directory(path) => Rootfs::Directory(path.clone()),
            BaseRoot::Layers(layers) => Rootfs::Overlay {
                lower: layers.clone(),
                upper: record.join("upper"),
                work: record.join("work"),
            },
        }
    }
}

impl Engine {
    /// What the container asked for is made from.
    pub(crate) fn base(&self, options: &CreateOptions, _map: &IdMap) -> Result<Base, Error> {
        if let Some(path) = &options.rootfs {
            return directory_base(path);
        }
        Err(Error::new(
            Kind::NotFound,
            format!("{}: image not known", options.image),
        ))
    }
}
