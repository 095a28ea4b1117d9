//! podman's store: which images it has, and of which layers (containers-storage.conf(5)).
//!
//! ```text
//! overlay-images/images.json        ids, names, the topmost layer
//! overlay-images/ID/=BASE64         documents; the config is named by the image's id
//! overlay-layers/layers.json        ids, parents, diff ids
//! overlay-layers/ID.tar-split.gz    a layer's archive without the content of files
//! overlay/ID/diff, vfs/dir/ID       a layer's files
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_spec::image::ImageManifest;
use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::blob::DOCUMENT_LIMIT;
use crate::config_paths::{ConfigPaths, config_error, read_if_there};
use crate::digest::Digest;
use crate::fetch::Config;
use crate::manifest::Document;

/// The most bytes of a list of images or layers.
const LIST_LIMIT: u64 = 256 << 20;

/// How long a podman that changes its lists is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How podman keeps the files of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Driver {
    /// A directory for each layer's own files.
    Overlay,
    /// A directory with the files of a layer and all below it.
    Vfs,
}

impl Driver {
    const ALL: [Self; 2] = [Self::Overlay, Self::Vfs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|driver| driver.name() == name)
    }

    /// Where a layer's files are, beneath the store's root.
    pub(super) fn files(self, layer: &str) -> String {
        match self {
            Self::Overlay => format!("overlay/{layer}/diff"),
            Self::Vfs => format!("vfs/dir/{layer}"),
        }
    }
}

/// podman's store.
#[derive(Debug)]
pub struct PodmanStore {
    /// Where it is.
    pub root: PathBuf,
    directory: OwnedFd,
    /// The images.
    pub images: Vec<PodmanImage>,
    layers: HashMap<(Driver, String), RawLayer>,
}

/// An image of podman's.
#[derive(Clone, Debug)]
pub struct PodmanImage {
    /// Its id: the digest of its config.
    pub id: Digest,
    /// Its names.
    pub names: Vec<String>,
    /// The digest of the manifest that it came by.
    pub digest: Option<Digest>,
    pub(super) driver: Driver,
    top: String,
}

/// A layer of an image.
#[derive(Clone, Debug)]
pub(super) struct FoundLayer {
    pub(super) driver: Driver,
    pub(super) id: String,
    pub(super) diff_id: Digest,
    /// Bytes of its archive; 0 where podman has not noted that.
    pub(super) size: u64,
}

#[derive(Deserialize)]
struct RawImage {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    layer: String,
    #[serde(default)]
    digest: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawLayer {
    id: String,
    #[serde(default)]
    parent: String,
    #[serde(default)]
    diff_digest: String,
    #[serde(default)]
    diff_size: i64,
}

impl PodmanStore {
    /// Reads the lists of a store; of the user's, unless another place is given.
    pub fn open(root: Option<&Path>, paths: &ConfigPaths) -> Result<Self, Error> {
        let root = match root {
            Some(root) => root.to_owned(),
            None => usual_root(paths)?,
        };
        // As policies name it.
        let root = root.canonicalize().unwrap_or(root);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match rustix::fs::open(&root, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Err(no_store(&root)),
            Err(error) => return Err(Error::io(format!("open {}", root.display()))(error)),
        };
        let mut store = Self {
            root,
            directory,
            images: Vec::new(),
            layers: HashMap::new(),
        };
        let mut found = false;
        for driver in Driver::ALL {
            found |= store.read(driver)?;
        }
        if !found {
            return Err(no_store(&store.root));
        }
        Ok(store)
    }

    /// Reads the lists of one driver; false if there are none.
    fn read(&mut self, driver: Driver) -> Result<bool, Error> {
        let name = driver.name();
        let _images = self.lock(&format!("{name}-images/images.lock"))?;
        let _layers = self.lock(&format!("{name}-layers/layers.lock"))?;
        let images: Option<Vec<RawImage>> = self.list(&format!("{name}-images/images.json"))?;
        let Some(images) = images else {
            return Ok(false);
        };
        let layers: Option<Vec<RawLayer>> = self.list(&format!("{name}-layers/layers.json"))?;
        for layer in layers.unwrap_or_default() {
            check_id(&layer.id)?;
            self.layers.insert((driver, layer.id.clone()), layer);
        }
        for image in images {
            check_id(&image.id)?;
            self.images.push(PodmanImage {
                id: format!("sha256:{}", image.id).parse()?,
                names: image.names.unwrap_or_default(),
                digest: image.digest.parse().ok(),
                driver,
                top: image.layer,
            });
        }
        Ok(true)
    }

    /// The image's config, verified.
    pub(super) fn config(&self, image: &PodmanImage) -> Result<Vec<u8>, Error> {
        let bytes = self.config_file(image)?.ok_or_else(|| {
            Error::Archive(format!("{} has no config in podman's store", image.id))
        })?;
        image
            .id
            .check("an image's config in podman's store", &bytes)?;
        Ok(bytes)
    }

    /// Whether a document that leads to the image is here under a digest: what the lists say of digests
    /// anybody may have written who can write there.
    pub(super) fn is_known_by(&self, image: &PodmanImage, digest: &Digest) -> Result<bool, Error> {
        let is_its = |manifest: &ImageManifest| {
            let id = Digest::try_from(manifest.config().digest());
            id.is_ok_and(|id| id == image.id)
        };
        let index = match self.manifest(image, digest)? {
            None => return Ok(false),
            Some(Document::Manifest(manifest)) => return Ok(is_its(&manifest)),
            Some(Document::Index(index)) => index,
        };
        for entry in index.manifests() {
            if let Ok(entry) = Digest::try_from(entry.digest())
                && let Some(Document::Manifest(manifest)) = self.manifest(image, &entry)?
                && is_its(&manifest)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What an image has under a digest; nothing of what has another digest or is no manifest.
    fn manifest(&self, image: &PodmanImage, digest: &Digest) -> Result<Option<Document>, Error> {
        let Some(bytes) = self.big(image, &format!("manifest-{digest}"))? else {
            return Ok(None);
        };
        if digest.check("a manifest", &bytes).is_err() {
            return Ok(None);
        }
        Ok(Document::parse(&bytes, None).ok())
    }

    /// Whether it is a manifest list: it has neither layers nor a config.
    pub fn is_list(&self, image: &PodmanImage) -> Result<bool, Error> {
        Ok(image.top.is_empty() && self.config_file(image)?.is_none())
    }

    fn config_file(&self, image: &PodmanImage) -> Result<Option<Vec<u8>>, Error> {
        self.big(image, &image.id.to_string())
    }

    /// A document that is kept with an image, by its name.
    fn big(&self, image: &PodmanImage, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let key = STANDARD.encode(name);
        let path = format!("{}-images/{}/={key}", image.driver.name(), image.id.hex());
        self.document(&path, DOCUMENT_LIMIT)
    }

    /// The image's layers, the lowest first, as its config and the list of layers agree.
    pub(super) fn layers(
        &self,
        image: &PodmanImage,
        config: &[u8],
    ) -> Result<Vec<FoundLayer>, Error> {
        let diff_ids = Config::parse(config)?.rootfs.diff_ids;
        let mut next = image.top.as_str();
        let mut layers = Vec::new();
        let disagree = || {
            let id = image.id.short();
            Error::Archive(format!(
                "image {id} in podman's store has other layers than its config says"
            ))
        };
        for diff_id in diff_ids.iter().rev() {
            let key = (image.driver, next.to_owned());
            let layer = self.layers.get(&key).ok_or_else(disagree)?;
            if layer.diff_digest != diff_id.to_string() {
                return Err(disagree());
            }
            layers.push(FoundLayer {
                driver: image.driver,
                id: layer.id.clone(),
                diff_id: diff_id.clone(),
                size: u64::try_from(layer.diff_size).unwrap_or_default(),
            });
            next = &layer.parent;
        }
        if !next.is_empty() {
            return Err(disagree());
        }
        layers.reverse();
        Ok(layers)
    }

    fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        let Some(bytes) = self.document(path, LIST_LIMIT)? else {
            return Ok(None);
        };
        let what = format!("read {}", self.root.join(path).display());
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(Error::json(what))
    }

    fn document(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = open_beneath(&self.directory, path)? else {
            return Ok(None);
        };
        let what = || format!("read {}", self.root.join(path).display());
        let mut bytes = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io(what()))?;
        if bytes.len() as u64 > limit {
            return Err(Error::Archive(format!("{}: it is too large", what())));
        }
        Ok(Some(bytes))
    }

    /// Keeps podman from changing a list while it is read.
    fn lock(&self, path: &str) -> Result<Option<File>, Error> {
        let Some(file) = open_beneath(&self.directory, path)? else {
            return Ok(None);
        };
        let (sender, receiver) = mpsc::channel();
        // A lock can be waited for, but not for a while only; the thread waits.
        std::thread::spawn(move || {
            let locked = rustix::fs::fcntl_lock(&file, FlockOperation::LockShared);
            let _ = sender.send(locked.map(|()| file));
        });
        let what = format!("lock {}", self.root.join(path).display());
        match receiver.recv_timeout(LOCK_PATIENCE) {
            Ok(locked) => locked.map(Some).map_err(Error::io(what)),
            Err(_) => Err(Error::Conflict(format!(
                "{what}: podman is changing its store: try again when it is done"
            ))),
        }
    }
}

/// Opens a regular file beneath a directory, through no link; `None` if there is none.
pub(super) fn open_beneath(directory: &OwnedFd, path: &str) -> Result<Option<File>, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = match rustix::fs::openat2(directory, path, flags, Mode::empty(), within) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(Error::io(format!("open {path} in podman's store"))(error)),
    };
    let metadata = file
        .metadata()
        .map_err(Error::io(format!("look at {path} in podman's store")))?;
    if !metadata.is_file() {
        return Err(Error::Archive(format!(
            "{path} in podman's store is no regular file"
        )));
    }
    Ok(Some(file))
}

/// An id of podman's is 64 hex digits, or it is no part of a path.
pub(super) fn check_id(id: &str) -> Result<(), Error> {
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if id.len() == 64 && id.bytes().all(hex) {
        return Ok(());
    }
    Err(Error::Archive(format!(
        "podman's store has something with the id {id:?}, which is none"
    )))
}

fn no_store(root: &Path) -> Error {
    Error::Invalid(format!(
        "{} has no images of podman's: another place can be given with --root DIR",
        root.display()
    ))
}

/// Where the user's store is: as storage.conf says, else where podman has it.
fn usual_root(paths: &ConfigPaths) -> Result<PathBuf, Error> {
    #[derive(Deserialize)]
    struct Conf {
        #[serde(default)]
        storage: Table,
    }
    #[derive(Default, Deserialize)]
    struct Table {
        graphroot: Option<String>,
        rootless_storage_path: Option<String>,
    }
    let read = |file: PathBuf| -> Result<Table, Error> {
        let Some(text) = read_if_there(&file)? else {
            return Ok(Table::default());
        };
        let conf: Conf =
            toml::from_str(&text).map_err(|error| config_error(&file, error.message()))?;
        Ok(conf.storage)
    };
    let own = paths.user_containers("storage.conf").map(read);
    let own = own.transpose()?.unwrap_or_default();
    let system = read(paths.system_containers("storage.conf"))?;
    let chosen = own
        .graphroot
        .or(own.rootless_storage_path)
        .or(system.rootless_storage_path);
    if let Some(path) = chosen.filter(|path| !path.is_empty()) {
        let home = paths.home.as_deref().unwrap_or(Path::new("/"));
        let uid = kelp_userns::own::ids().0.to_string();
        return Ok(path
            .replace("$HOME", &home.to_string_lossy())
            .replace("$UID", &uid)
            .into());
    }
    let data = paths.data_home.as_ref().ok_or_else(|| {
        Error::Invalid("$HOME is not set: give podman's store with --root DIR".to_owned())
    })?;
    Ok(data.join("containers/storage"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn store(images: &Value, layers: &Value) -> (tempfile::TempDir, Result<PodmanStore, Error>) {
        let root = tempfile::tempdir().unwrap();
        for (name, value) in [("images", images), ("layers", layers)] {
            let directory = root.path().join(format!("overlay-{name}"));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(format!("{name}.json")), value.to_string()).unwrap();
        }
        let opened = PodmanStore::open(Some(root.path()), &ConfigPaths::default());
        (root, opened)
    }

    #[test]
    fn ids_that_are_paths_are_refused() {
        for id in ["", "..", "../../etc", &"A".repeat(64), &"a".repeat(63)] {
            let (_root, opened) = store(&json!([{"id": id, "layer": ""}]), &json!([]));
            assert!(opened.is_err(), "{id}");
            let (_root, opened) = store(&json!([]), &json!([{"id": id}]));
            assert!(opened.is_err(), "{id}");
        }
    }

    #[test]
    fn what_disagrees_with_the_config_or_leads_elsewhere_is_refused() {
        let diff_id = Digest::of(b"layer");
        let config = json!({"rootfs": {"type": "layers", "diff_ids": [diff_id]}}).to_string();
        let id = Digest::of(config.as_bytes());
        let layer = "b".repeat(64);
        let images = json!([{"id": id.hex(), "names": ["localhost/a:latest"], "layer": layer}]);
        for (diff_digest, parent, fits) in [
            (diff_id.to_string(), "", true),
            (Digest::of(b"other").to_string(), "", false),
            // An endless chain.
            (diff_id.to_string(), layer.as_str(), false),
        ] {
            let layers = json!([{"id": layer, "parent": parent, "diff-digest": diff_digest}]);
            let (root, opened) = store(&images, &layers);
            let opened = opened.unwrap();
            let image = &opened.images[0];
            assert!(opened.config(image).is_err(), "there is none");
            let directory = root.path().join("overlay-images").join(id.hex());
            std::fs::create_dir(&directory).unwrap();
            let file = directory.join(format!("={}", STANDARD.encode(id.to_string())));
            let outside = root.path().join("outside");
            std::fs::write(&outside, &config).unwrap();
            std::os::unix::fs::symlink(&outside, &file).unwrap();
            assert!(opened.config(image).is_err(), "a link");
            std::fs::remove_file(&file).unwrap();
            std::fs::write(&file, "{}").unwrap();
            assert!(opened.config(image).is_err(), "another digest");
            std::fs::write(&file, &config).unwrap();
            let bytes = opened.config(image).unwrap();
            assert_eq!(opened.layers(image, &bytes).is_ok(), fits);
        }
    }

    #[test]
    fn storage_conf_says_where_it_is() {
        let home = tempfile::tempdir().unwrap();
        let paths = ConfigPaths {
            etc: home.path().join("etc"),
            home: Some(home.path().to_owned()),
            config_home: Some(home.path().join("config")),
            ..ConfigPaths::default()
        };
        let directory = home.path().join("config/containers");
        std::fs::create_dir_all(&directory).unwrap();
        let text = "[storage]\ndriver = \"vfs\"\ngraphroot = \"$HOME/elsewhere\"\n";
        std::fs::write(directory.join("storage.conf"), text).unwrap();
        assert_eq!(usual_root(&paths).unwrap(), home.path().join("elsewhere"));
    }
}
