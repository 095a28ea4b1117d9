//! Mounts that are overlays: `--volume SOURCE:TARGET:O` and `--mount type=image`.
//!
//! What a container writes there goes to a layer in its record, which the monitor empties before each
//! start: it is gone when the container has ended.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kelp_args::mount::ImageMount;
use kelp_userns::IdMap;
use oci_spec::runtime::Mount;

use crate::storage::Storage;
use crate::{ContainerId, Engine, Error};

/// The mounts of a container that is being made.
pub(crate) struct Mounting<'a> {
    /// The container.
    pub id: &'a ContainerId,
    /// Its record's directory.
    pub record: &'a Path,
    /// Its map.
    pub map: &'a IdMap,
    /// The directories of volumes without a name.
    pub anonymous: Vec<PathBuf>,
    /// The ids of images that are mounted.
    pub images: Vec<String>,
}

/// Where changes of an overlay go.
pub(crate) enum Layer {
    /// Nowhere.
    None,
    /// To a layer that goes with the container.
    Fresh,
    /// To directories of the user's: what is written, and overlayfs's own.
    Kept(PathBuf, PathBuf),
}

impl Engine {
    /// An overlay of directories, topmost first.
    pub(crate) fn overlay_mount(
        &self,
        target: &str,
        lower: &[PathBuf],
        layer: Layer,
        mut options: Vec<String>,
        of: &Mounting<'_>,
    ) -> Result<Mount, Error> {
        if self.storage()? == Storage::Vfs {
            return Err(Error::invalid(format!(
                "mount on {target}: it needs an overlay, and none can be mounted here: run `kelp \
                 doctor` to see why"
            )));
        }
        options.push(format!("lowerdir={}", text(lower)?));
        let directories = match layer {
            Layer::None => None,
            Layer::Fresh => {
                options.push("volatile".to_owned());
                Some(self.fresh_layer(of)?)
            }
            Layer::Kept(upper, work) => {
                for directory in [&upper, &work] {
                    if !directory.is_dir() {
                        return Err(Error::invalid(format!(
                            "mount on {target}: {} is no directory: make it first",
                            directory.display()
                        )));
                    }
                }
                Some((upper, work))
            }
        };
        if let Some((upper, work)) = directories {
            options.push(format!("upperdir={}", plain(&upper)?));
            options.push(format!("workdir={}", plain(&work)?));
        }
        let mut mount = Mount::default();
        mount
            .set_destination(PathBuf::from(target))
            .set_typ(Some("overlay".to_owned()))
            .set_source(lower.first().cloned())
            .set_options(Some(options));
        Ok(mount)
    }

    /// Directories for one overlay's changes, in the container's record.
    fn fresh_layer(&self, of: &Mounting<'_>) -> Result<(PathBuf, PathBuf), Error> {
        let overlays = of.record.join(kelp_monitor::OVERLAYS);
        let mut number = 0;
        let directory = loop {
            let directory = overlays.join(number.to_string());
            if !directory.exists() {
                break directory;
            }
            number += 1;
        };
        let [upper, work] = ["upper", "work"].map(|name| directory.join(name));
        for path in [&upper, &work] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(Error::io(format!("create {}", path.display())))?;
        }
        self.give_to_root(of.map, &[&upper, &work])?;
        Ok((upper, work))
    }

    /// An image's files as a mount.
    pub(crate) fn image_mount(
        &self,
        asked: &ImageMount,
        target: &str,
        mut options: Vec<String>,
        of: &mut Mounting<'_>,
    ) -> Result<Mount, Error> {
        if asked.subpath.is_some() {
            return Err(Error::invalid(format!(
                "mount on {target}: the option subpath of an image is not supported by kelp yet"
            )));
        }
        let (id, layers) = self.image_layers(&asked.source, of.map)?;
        of.images.push(id);
        if asked.read_write {
            return self.overlay_mount(target, &layers, Layer::Fresh, options, of);
        }
        options.push("ro".to_owned());
        // The kernel makes no overlay of one layer without an upper directory.
        if let [only] = layers.as_slice() {
            options.push("rbind".to_owned());
            let mut mount = Mount::default();
            mount
                .set_destination(PathBuf::from(target))
                .set_typ(Some("bind".to_owned()))
                .set_source(Some(only.clone()))
                .set_options(Some(options));
            return Ok(mount);
        }
        self.overlay_mount(target, &layers, Layer::None, options, of)
    }
}

/// The layers as overlayfs writes them: colons between, and a backslash before one in a path.
fn text(layers: &[PathBuf]) -> Result<String, Error> {
    let mut bytes = Vec::new();
    for layer in layers {
        if !bytes.is_empty() {
            bytes.push(b':');
        }
        for &byte in layer.as_os_str().as_bytes() {
            if matches!(byte, b':' | b'\\') {
                bytes.push(b'\\');
            }
            bytes.push(byte);
        }
    }
    plain(Path::new(&std::ffi::OsString::from_vec(bytes))).map(str::to_owned)
}

/// A path as the specification, which is JSON, can have it.
fn plain(path: &Path) -> Result<&str, Error> {
    path.to_str()
        .ok_or_else(|| Error::invalid(format!("{} is not UTF-8", path.display())))
}
