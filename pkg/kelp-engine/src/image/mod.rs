//! Images: pulling, listing, removing, and what a container is made from.

mod afterwards;
pub mod draft;
pub mod from_podman;
pub mod hello;
pub mod history;
pub mod import;
mod keep;
pub mod list;
pub mod load;
pub mod make;
pub mod manifest;
pub mod mount;
pub mod pause;
pub mod pull;
mod pull_all;
pub mod push;
pub mod referrers;
pub mod registry;
pub mod remove;
pub mod save;
pub mod search;
mod sibling;
pub(crate) mod told;
pub mod tree;
pub mod trust;
pub mod usage;
pub(crate) mod workshop;

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use kelp_args::mount::Source;
use kelp_image::merged::is_opaque_at;
use kelp_image::role::ProcessUnpacker;
use kelp_image::store::{ImageRecord, Store, StoreLock};
use kelp_image::unpack::Ownership;
use kelp_runtime::plan::Rootfs;
use kelp_runtime::rootfd::Root;
use kelp_sys::clone::Child;
use kelp_userns::{IdMap, UserNamespace};
use oci_spec::image::Config as ImageConfig;
use rustix::fs::{FileType, OFlags, fstat};

use crate::container::config::CreateOptions;
use crate::container::create::directory_base;
use crate::container::health::{HealthConfig, ImageCheck};
use crate::storage::Storage;
use crate::{Engine, Error, Kind, host, internal};

/// What a container is made from: an image's layers for its id map, or a directory.
#[derive(Debug)]
pub struct Base {
    /// The full name.
    pub name: String,
    /// The image's id; empty for a directory.
    pub id: String,
    /// The image's defaults.
    pub config: ImageConfig,
    /// How the image says that it is found out whether it works.
    pub health: Option<HealthConfig>,
    /// The files.
    pub root: BaseRoot,
    /// Keeps images and volumes from being removed until the container's record refers to them.
    pub(crate) held: Held,
}

/// What a container that is being made needs to stay: its images, and any volume.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// For as long as nothing that takes long is done.
    lock: Option<StoreLock>,
    /// The images.
    images: Vec<ImageRecord>,
}

impl Held {
    fn new(lock: StoreLock) -> Self {
        Self {
            lock: Some(lock),
            images: Vec::new(),
        }
    }
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
    pub fn rootfs(&self, record: &Path, storage: Storage, volatile: bool) -> Rootfs {
        match (&self.root, storage) {
            (BaseRoot::Directory(path), _) => Rootfs::Directory(path.clone()),
            (BaseRoot::Layers(layers), Storage::Vfs) => Rootfs::Copied {
                root: record.join("upper"),
                layers: layers.clone(),
            },
            (BaseRoot::Layers(layers), Storage::Overlay) => Rootfs::Overlay {
                lower: layers.clone(),
                upper: record.join("upper"),
                work: record.join("work"),
                volatile,
            },
        }
    }
}

impl Base {
    /// A text of the root; empty where there is none.
    pub(crate) fn text(&self, path: &str) -> Result<String, Error> {
        let roots = match &self.root {
            BaseRoot::Directory(path) => std::slice::from_ref(path),
            BaseRoot::Layers(layers) => layers.as_slice(),
        };
        let what = || format!("read the image's {path}");
        let marker = kelp_image::merged::marker(Path::new(path));
        for root in roots {
            // Beneath the layer, so that no link leads to a file of the host's.
            let root = Root::open_host(root).map_err(Error::io(what()))?;
            match root.read_file(Path::new(path), 1 << 20) {
                Ok(content) => return Ok(String::from_utf8_lossy(&content).into_owned()),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    // What stands for a whiteout where the file system has none.
                    if root.open(&marker, OFlags::PATH | OFlags::NOFOLLOW).is_ok() {
                        break;
                    }
                }
                // A whiteout is a device that no driver has.
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) =>
                {
                    break;
                }
                Err(error) => return Err(Error::io(what())(error)),
            }
        }
        Ok(String::new())
    }
}

impl Base {
    /// Whether something of the root is a directory, as far as its layers tell; nothing where it is not there.
    pub(crate) fn is_directory(&self, path: &str) -> Result<Option<bool>, Error> {
        let (layers, path) = match &self.root {
            BaseRoot::Directory(root) => (std::slice::from_ref(root), Path::new(path)),
            BaseRoot::Layers(layers) => (layers.as_slice(), Path::new(path)),
        };
        let what = || format!("look at the image's {}", path.display());
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        for layer in layers {
            // Beneath the layer, so that no link leads to a file of the host's.
            let root = Root::open_host(layer).map_err(Error::io(what()))?;
            match root.open(path, flags) {
                Ok(found) => {
                    let kind = fstat(&found).map_err(Error::io(what()))?;
                    let kind = FileType::from_raw_mode(kind.st_mode);
                    // A whiteout is a device.
                    let is_there = kind != FileType::CharacterDevice;
                    return Ok(is_there.then_some(kind == FileType::Directory));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // What is above it is a file here, or a whiteout.
                Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(None),
                Err(error) => return Err(Error::io(what())(error)),
            }
            let hides = |path: &Path| {
                let marker = kelp_image::merged::marker(path);
                let is_marked = root.open(&marker, flags | OFlags::NOFOLLOW).is_ok();
                let is_opaque = || {
                    let directory = root.open(path, OFlags::RDONLY | OFlags::CLOEXEC);
                    directory.is_ok_and(|directory| is_opaque_at(directory.as_fd()))
                };
                is_marked || is_opaque()
            };
            if path.ancestors().any(hides) {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

impl Engine {
    /// The images.
    pub(crate) fn store(&self) -> Result<Store, Error> {
        let store = Store::open(&self.paths.data)?;
        Ok(match self.additional_stores {
            None => store,
            Some(roots) => store.over(roots()?),
        })
    }

    /// What the container asked for is made from. Its image is here; layers that are missing for its
    /// id map are made from their blobs.
    pub(crate) fn base(&self, options: &CreateOptions, map: &IdMap) -> Result<Base, Error> {
        if let Some(path) = &options.rootfs {
            let base = directory_base(path, options.rootfs_overlay)?;
            return Ok(Base {
                held: Held::new(StoreLock::shared(&self.paths.data)?),
                ..base
            });
        }
        let store = self.store()?;
        let mut held = Held::new(store.lock()?);
        let record = store.find(&options.image)?;
        store.note_use(&record);
        self.hold_image(&store, &mut held, &record, map)?;
        let (config, document) = store.config_and_text(&record)?;
        let check = ImageCheck::of(&document);
        Ok(Base {
            health: check.and_then(|check| check.config()),
            name: full_name(&store, &options.image, &record)?,
            id: record.id.hex().to_owned(),
            config: config.config().clone().unwrap_or_default(),
            root: BaseRoot::Layers(store.layer_paths(&record, &map.key())?),
            held,
        })
    }

    /// Holds the images that a container mounts as well.
    pub(crate) fn hold_mounted_images(
        &self,
        held: &mut Held,
        options: &CreateOptions,
        map: &IdMap,
    ) -> Result<(), Error> {
        for mount in &options.volumes {
            if let Source::Image(image) = &mount.source {
                let store = self.store()?;
                let record = store.find(&image.source)?;
                store.note_use(&record);
                self.hold_image(&store, held, &record, map)?;
            }
        }
        Ok(())
    }

    /// Holds an image, with layers for this map; made if they are missing.
    fn hold_image(
        &self,
        store: &Store,
        held: &mut Held,
        record: &ImageRecord,
        map: &IdMap,
    ) -> Result<(), Error> {
        held.images.push(record.clone());
        if store.missing_layers(record, &map.key())?.is_empty() {
            return Ok(());
        }
        self.unlocked(held, || self.extract(store, record, map))
    }

    /// Does what takes long, while nobody has to wait for the images' lock. A lease keeps the blobs and
    /// layers meanwhile; an image that somebody has removed is looked for after.
    pub(crate) fn unlocked(
        &self,
        held: &mut Held,
        work: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let store = self.store()?;
        let (lease, _) = store.lease()?;
        for digest in held.images.iter().flat_map(ImageRecord::references) {
            lease.keep(digest)?;
        }
        held.lock = None;
        work()?;
        held.lock = Some(store.lock()?);
        for image in &held.images {
            if store.record(&image.id)?.is_none() {
                return Err(Error::new(
                    Kind::NotFound,
                    format!(
                        "image {} was removed while the container was being made",
                        image.id.short()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The id of an image that is held, and its layers for a map, topmost first.
    pub(crate) fn image_layers(
        &self,
        name: &str,
        map: &IdMap,
    ) -> Result<(String, Vec<PathBuf>), Error> {
        let store = self.store()?;
        let record = store.find(name)?;
        let layers = store.layer_paths(&record, &map.key())?;
        Ok((record.id.hex().to_owned(), layers))
    }

    /// Makes an image's missing layers for a map from their blobs.
    fn extract(&self, store: &Store, record: &ImageRecord, map: &IdMap) -> Result<(), Error> {
        self.with_unpacker(store, map, |unpacker, userns| {
            self.share_layers(store, record, map, userns)?;
            Ok(store.extract_missing(record, &map.key(), &unpacker)?)
        })
    }

    /// Does something with who extracts layers for a map, and the user namespace in which that happens.
    pub(crate) fn with_unpacker<T>(
        &self,
        store: &Store,
        map: &IdMap,
        work: impl FnOnce(ProcessUnpacker<'_>, &UserNamespace) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (usual, ids) = host::translation(map)?;
        let userns = self.user_namespace(usual)?;
        if ids.is_some() {
            store.layers(&map.key())?.note_map(map)?;
        }
        let spawn = |role: &[String], fds: internal::Fds<'_>| start_role(role, fds, &userns);
        let unpacker = ProcessUnpacker::new(&self.paths.data, &map.key(), ownership(map), &spawn)?;
        work(unpacker.translated(ids), &userns)
    }
}

/// How owners are kept for a map.
pub(crate) fn ownership(map: &IdMap) -> Ownership {
    if map.is_single() {
        Ownership::Single
    } else {
        Ownership::Mapped
    }
}

pub(crate) fn start_role(
    role: &[String],
    fds: internal::Fds<'_>,
    userns: &UserNamespace,
) -> std::io::Result<Child> {
    let words: Vec<_> = role.iter().map(String::as_str).collect();
    internal::spawn(&words, userns, fds).map_err(std::io::Error::other)
}

/// The name to show for what a user wrote: the image's own name that fits, else what was written.
fn full_name(store: &Store, written: &str, record: &ImageRecord) -> Result<String, Error> {
    let names = store.names(&record.id)?;
    let fits = |name: &&String| {
        let bare = name
            .rsplit_once(':')
            .map_or(name.as_str(), |(bare, _)| bare);
        let ends = |whole: &str| {
            whole == written
                || whole
                    .strip_suffix(written)
                    .is_some_and(|before| before.ends_with('/'))
        };
        ends(name) || ends(bare)
    };
    Ok(names
        .iter()
        .find(fits)
        .or(names.first())
        .cloned()
        .unwrap_or_else(|| record.id.hex().to_owned()))
}
