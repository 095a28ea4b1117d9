//! Mounts that are overlays: `--volume SOURCE:TARGET:O` and `--mount type=image`.
//!
//! What a container writes there goes to a layer in its record, which the monitor empties before each
//! start: it is gone when the container has ended.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use kelp_args::mount::ImageMount;
use kelp_userns::IdMap;
use oci_spec::runtime::Mount;

use crate::image::Base;
use crate::storage::Storage;
use crate::{ContainerId, Engine, Error};

/// What a place in a mount has before it among the options (mount(8)).
pub const SUBDIRECTORY: &str = "X-mount.subdir=";

/// The mounts of a container that is being made.
pub(crate) struct Mounting<'a> {
    /// The container.
    pub id: &'a ContainerId,
    /// Its record's directory.
    pub record: &'a Path,
    /// Its map.
    pub map: &'a IdMap,
    /// Whether the container goes when it has run.
    pub volatile: bool,
    /// The directories of volumes without a name.
    pub anonymous: &'a mut Vec<PathBuf>,
    /// The ids of images that are mounted.
    pub images: Vec<String>,
    /// The digests of the manifests of artifacts that are mounted, one for each mount that was asked for.
    pub artifacts: Vec<String>,
    /// What it is made from.
    pub base: &'a Base,
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
        if let Some(file) = lower.iter().find(|path| !path.is_dir()) {
            return Err(Error::invalid(format!(
                "mount on {target}: {} is no directory, and only those can be overlaid",
                file.display()
            )));
        }
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
                let kept = kept_layer(&upper, &work);
                Some(kept.map_err(|why| Error::invalid(format!("mount on {target}: {why}")))?)
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
        let overlays = of.record.join(kelp_monitor::overlays::OVERLAYS);
        let mut number = 0;
        let directory = loop {
            let directory = overlays.join(number.to_string());
            if !directory.exists() {
                break directory;
            }
            number += 1;
        };
        let own = ["upper", "work"].map(|name| directory.join(name));
        for path in &own {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(Error::io(format!("create {}", path.display())))?;
        }
        self.give_to_root(of.map, &own)?;
        let [upper, work] = own;
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
        let (id, layers) = self.image_layers(&asked.source, of.map)?;
        of.images.push(id);
        if let Some(place) = &asked.subpath {
            options.push(format!("{SUBDIRECTORY}{place}"));
        }
        // The kernel makes no overlay of one layer without an upper directory; and bound by itself, the
        // layer could be made writable by a container that may mount, for every other one as well.
        let layer = match layers.as_slice() {
            _ if asked.read_write => Layer::Fresh,
            [_] => Layer::Fresh,
            _ => Layer::None,
        };
        if !asked.read_write {
            options.push("ro".to_owned());
        }
        let mut mount = self.overlay_mount(target, &layers, layer, options, of)?;
        mount.set_source(Some(PathBuf::from(&asked.source)));
        Ok(mount)
    }
}

/// The directories of the user's choice, if overlayfs can take them.
fn kept_layer(upper: &Path, work: &Path) -> Result<(PathBuf, PathBuf), String> {
    let find =
        |path: &Path| match fs::canonicalize(path).and_then(|path| Ok((path.metadata()?, path))) {
            Ok((metadata, path)) if metadata.is_dir() => Ok((metadata.dev(), path)),
            _ => Err(format!("{} is no directory: make it first", path.display())),
        };
    let (upper_device, upper) = find(upper)?;
    let (work_device, work) = find(work)?;
    if upper_device != work_device {
        return Err("upperdir and workdir must be on one file system".to_owned());
    }
    if upper.starts_with(&work) || work.starts_with(&upper) {
        return Err("upperdir and workdir must not be one in the other".to_owned());
    }
    Ok((upper, work))
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
pub(crate) fn plain(path: &Path) -> Result<&str, Error> {
    path.to_str()
        .ok_or_else(|| Error::invalid(format!("{} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_layer_is_two_directories_apart_on_one_file_system() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        for name in ["upper/in", "work"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("file"), "").unwrap();
        let check = |upper: &str, work: &str| kept_layer(&root.join(upper), &root.join(work));
        assert_eq!(
            check("upper/../upper", "work"),
            Ok((root.join("upper"), root.join("work")))
        );
        let nested = "upperdir and workdir must not be one in the other";
        assert_eq!(check("upper", "upper/in").unwrap_err(), nested);
        assert_eq!(check("upper", "upper").unwrap_err(), nested);
        for name in ["file", "none"] {
            let said = format!("{}/{name} is no directory: make it first", root.display());
            assert_eq!(check(name, "work").unwrap_err(), said);
        }
        assert_eq!(
            kept_layer(Path::new("/proc"), &root.join("work")).unwrap_err(),
            "upperdir and workdir must be on one file system"
        );
    }
}
