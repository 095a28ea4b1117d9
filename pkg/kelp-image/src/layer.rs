//! Extracted layers: a cache, made from blobs, for one id map each.
//!
//! ```text
//! layers/<map key>/<diff hex>/        the files, as overlayfs takes them
//! layers/<map key>/<diff hex>.json    their number and size
//! layers/<map key>/map                the map, where that is not the usual one
//! tmp/layer-…/root                    one that is being extracted; its parent is locked
//! ```
//!
//! A layer appears by one rename after one syncfs(2), so whatever has the name is complete, also after
//! a power cut.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use kelp_userns::IdMap;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::digest::Digest;
use crate::remove::remove_tree;
use crate::store::StoreLock;
use crate::tar::Entry;
use crate::temporary::{self, TemporaryFile};
use crate::unpack::translate::Translation;
use crate::unpack::{Options, Ownership, Summary, unpack};

/// What the name of a layer that is to be removed begins with.
const TRASH: &str = "trash";

/// The file that tells the map whose key the directory is named by.
pub(crate) const MAP: &str = "map";

/// The layers of one id map.
#[derive(Clone, Debug)]
pub struct LayerStore {
    data: PathBuf,
    directory: PathBuf,
}

/// What is known of a layer without walking it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// Bytes of content.
    pub size: u64,
    /// How many entries it has.
    pub files: u64,
    /// Bytes that it takes of the disk, once that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
}

impl LayerInfo {
    /// What an extraction tells.
    pub fn new(size: u64, files: u64) -> Self {
        Self {
            size,
            files,
            disk: None,
        }
    }
}

impl LayerStore {
    /// Opens the layers beneath a data directory for a map; `map_key` is `IdMap::key`.
    pub fn open(data: &Path, map_key: &str) -> Result<Self, Error> {
        let layers = Self::beneath(data, map_key)?;
        temporary::make_directory(&layers.directory)?;
        temporary::make_tmp(data)?;
        Ok(layers)
    }

    /// The same without making any directory.
    pub(crate) fn beneath(data: &Path, map_key: &str) -> Result<Self, Error> {
        let safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if map_key.is_empty() || !map_key.bytes().all(safe) {
            return Err(Error::Invalid(format!(
                "{map_key:?} is no key of an id map"
            )));
        }
        Ok(Self {
            data: data.to_owned(),
            directory: data.join("layers").join(map_key),
        })
    }

    /// Where a layer is or would be.
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        self.directory.join(diff_id.hex())
    }

    /// Whether a layer is extracted.
    pub fn contains(&self, diff_id: &Digest) -> bool {
        rustix::fs::access(self.path(diff_id), rustix::fs::Access::EXISTS).is_ok()
    }

    /// A layer's size; `None` if the layer is not here.
    pub fn info(&self, diff_id: &Digest) -> Result<Option<LayerInfo>, Error> {
        let path = self.info_path(diff_id);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("read {}", path.display()))(error)),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(Error::json(format!("read {}", path.display())))
    }

    /// Every layer that is here.
    pub fn list(&self) -> Result<Vec<Digest>, Error> {
        Ok(self
            .names()?
            .iter()
            .filter_map(|hex| Digest::from_hex(hex))
            .collect())
    }

    /// Takes a layer's name away; returns what is to be removed, if the layer is here.
    ///
    /// It stays in its directory: to move a directory elsewhere the kernel wants the right to write
    /// in it, which the user does not have if a subordinate id owns it. Where there is no space for another
    /// name it keeps its own, whole, until the next prune.
    pub(crate) fn discard(&self, diff_id: &Digest) -> Result<Option<PathBuf>, Error> {
        let trash = temporary::unused_path(&self.directory, TRASH);
        let path = self.path(diff_id);
        match rustix::fs::rename(&path, &trash) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::NOSPC | Errno::DQUOT) => return Ok(None),
            Err(error) => return Err(Error::io(format!("rename {}", path.display()))(error)),
        }
        let info = self.info_path(diff_id);
        match fs::remove_file(&info) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("remove {}", info.display()))(error))
            }
            _ => Ok(Some(trash)),
        }
    }

    /// What was discarded and not removed yet.
    pub(crate) fn discarded(&self) -> Result<Vec<PathBuf>, Error> {
        let mut names = self.names()?;
        names.retain(|name| name.starts_with(TRASH));
        Ok(names.iter().map(|name| self.directory.join(name)).collect())
    }

    /// Removes what is known of layers that are not here, unless they are wanted: a kill came between
    /// the two. The caller holds the exclusive lock.
    pub(crate) fn forget_missing(&self, wanted: &HashSet<Digest>) -> Result<(), Error> {
        for name in self.names()? {
            let Some(diff_id) = name.strip_suffix(".json").and_then(Digest::from_hex) else {
                continue;
            };
            if !self.contains(&diff_id) && !wanted.contains(&diff_id) {
                let path = self.directory.join(name);
                fs::remove_file(&path).map_err(Error::io(format!("remove {}", path.display())))?;
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let failed = |error| Error::io(format!("read {}", self.directory.display()))(error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        Ok(names)
    }

    /// Which map the layers are for, if that was noted.
    pub fn map(&self) -> Option<IdMap> {
        let text = fs::read_to_string(self.directory.join(MAP)).ok()?;
        IdMap::from_word(text.trim_end())
    }

    /// Notes which map the layers are for: its key does not tell.
    pub fn note_map(&self, map: &IdMap) -> Result<(), Error> {
        let path = self.directory.join(MAP);
        if path.exists() {
            return Ok(());
        }
        let text = format!("{}\n", map.to_word());
        TemporaryFile::create(&self.data.join("tmp"), "map")?.finish(text.as_bytes(), &path)
    }

    /// The key of the map.
    pub fn key(&self) -> &str {
        let key = self.directory.file_name().and_then(|name| name.to_str());
        key.unwrap_or_default()
    }

    /// Writes down what a layer takes of the disk, for the next time that somebody asks: it never changes.
    pub fn note_disk(&self, diff_id: &Digest, disk: u64) -> Result<(), Error> {
        let _lock = StoreLock::shared(&self.data)?;
        match self.info(diff_id)? {
            Some(info) if self.contains(diff_id) => {
                let disk = Some(disk);
                self.write_info(diff_id, &LayerInfo { disk, ..info })
            }
            _ => Ok(()),
        }
    }

    /// Writes down what is to be known of a layer.
    pub fn write_info(&self, diff_id: &Digest, info: &LayerInfo) -> Result<(), Error> {
        let path = self.info_path(diff_id);
        let text = serde_json::to_vec(info).map_err(Error::json("describe a layer"))?;
        TemporaryFile::create_readable(&self.data.join("tmp"), "info")?.finish(&text, &path)
    }

    pub(crate) fn info_path(&self, diff_id: &Digest) -> PathBuf {
        self.directory.join(format!("{}.json", diff_id.hex()))
    }

    /// Begins a layer: an empty root in a directory of its own.
    pub(crate) fn begin(&self) -> Result<ExtractedLayer, Error> {
        let (path, lock) = temporary::create_directory(&self.data.join("tmp"), "layer")?;
        // From here on it is removed whatever happens.
        let layer = ExtractedLayer {
            store: self.clone(),
            path,
            _lock: lock,
            summary: None,
            info: None,
        };
        let root_path = layer.root();
        rustix::fs::mkdir(&root_path, Mode::from_raw_mode(0o755))
            .map_err(Error::io(format!("make {}", root_path.display())))?;
        Ok(layer)
    }

    /// Extracts a layer from its blob's bytes, compressed or not. What comes of it is not a layer yet:
    /// see [`ExtractedLayer::publish`].
    pub fn extract<R: Read + Send + 'static>(
        &self,
        source: R,
        ownership: Ownership,
    ) -> Result<ExtractedLayer, Error> {
        self.extract_as(source, ownership, None)
    }

    /// The same, for a map that is not that of the process: `map` says which of the process's ids
    /// each of the archive's is.
    pub fn extract_as<R: Read + Send + 'static>(
        &self,
        source: R,
        ownership: Ownership,
        map: Option<&IdMap>,
    ) -> Result<ExtractedLayer, Error> {
        let mut layer = self.begin()?;
        let root_path = layer.root();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&root_path, flags, Mode::empty())
            .map_err(Error::io(format!("open {}", root_path.display())))?;
        let options = Options {
            flush: true,
            ..Options::layer(ownership)
        };
        layer.summary = Some(match map {
            None => unpack(source, root, options, None)?,
            Some(map) => {
                let translation = Translation::new(map)?;
                let _acting = translation.act_on(root.as_fd())?;
                let mut filter = |entry: &mut Entry| translation.apply(entry).map(|()| true);
                unpack(source, root, options, Some(&mut filter))?
            }
        });
        Ok(layer)
    }
}

/// A layer that is extracted, but has no name yet. Dropping it removes it.
#[derive(Debug)]
pub struct ExtractedLayer {
    store: LayerStore,
    path: PathBuf,
    _lock: File,
    summary: Option<Summary>,
    /// What is to be known of it, once it is on the disk with all the rest.
    info: Option<TemporaryFile>,
}

impl ExtractedLayer {
    /// What was extracted.
    ///
    /// # Panics
    /// Never: [`LayerStore::extract`] returns it only with a summary.
    pub fn summary(&self) -> &Summary {
        self.summary.as_ref().expect("extraction has ended")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Syncs the layer and gives it its name. If it has been published by somebody else meanwhile,
    /// this one is dropped.
    ///
    /// The digest is compared again with the one that is expected, if there is one.
    pub fn publish(mut self, expected: Option<&Digest>) -> Result<Digest, Error> {
        let summary = self.summary();
        let diff_id = summary.diff_id.clone();
        if let Some(expected) = expected {
            expected.is("layer", diff_id.clone())?;
        }
        self.settle()?;
        self.name(diff_id)
    }

    /// The same for a layer that was copied from one for another map.
    pub(crate) fn publish_copy(mut self, diff_id: &Digest, info: &LayerInfo) -> Result<(), Error> {
        self.settle_with(&LayerInfo::new(info.size, info.files))?;
        self.name(diff_id.clone()).map(drop)
    }

    fn name(&mut self, diff_id: Digest) -> Result<Digest, Error> {
        self.name_info(&diff_id)?;
        let (from, to) = (self.root(), self.store.path(&diff_id));
        match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => Ok(diff_id),
            // A file system that can't: a plain rename does not replace a directory with files
            // either, and an empty layer is like any other.
            Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::rename(&from, &to) {
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(diff_id),
                Err(error) => Err(Error::io(format!("publish {}", to.display()))(error)),
            },
            Err(error) => Err(Error::io(format!("publish {}", to.display()))(error)),
        }
    }

    /// Gives the layer its name in the place of one that is damaged, in one step where the file system
    /// can do that; the other goes with this one's temporary directory.
    pub fn replace(mut self) -> Result<Digest, Error> {
        self.settle()?;
        let diff_id = self.summary().diff_id.clone();
        self.name_info(&diff_id)?;
        let (from, to) = (self.root(), self.store.path(&diff_id));
        let failed = |error| Error::io(format!("replace {}", to.display()))(error);
        match renameat_with(CWD, &from, CWD, &to, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(diff_id),
            Err(Errno::NOENT) => {}
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::rename(&to, self.path.join("old")).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        rustix::fs::rename(&from, &to).map_err(failed)?;
        Ok(diff_id)
    }

    /// Brings all of it to the disk, before its name can exist: one sync for all of its files, and for
    /// what is to be known of it.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        if self.info.is_some() {
            return Ok(());
        }
        let summary = self.summary();
        self.settle_with(&LayerInfo::new(summary.size, summary.files))
    }

    fn settle_with(&mut self, info: &LayerInfo) -> Result<(), Error> {
        use std::io::Write;
        let text = serde_json::to_vec(info).map_err(Error::json("describe a layer"))?;
        let mut file = TemporaryFile::create_readable(&self.store.data.join("tmp"), "info")?;
        file.file_mut()
            .write_all(&text)
            .map_err(Error::io("write what is to be known of a layer"))?;
        let data = File::open(&self.path).map_err(Error::io("open a layer's directory"))?;
        rustix::fs::syncfs(&data).map_err(Error::io("sync a layer"))?;
        self.info = Some(file);
        Ok(())
    }

    fn name_info(&mut self, diff_id: &Digest) -> Result<(), Error> {
        match self.info.take() {
            Some(file) => file.persist(&self.store.info_path(diff_id)),
            None => Ok(()),
        }
    }
}

impl Drop for ExtractedLayer {
    fn drop(&mut self) {
        // After publication only the empty parent is left. What can't be removed is garbage.
        let _ = remove_tree(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::tar::build::Archive;

    fn archive() -> Vec<u8> {
        Archive::new()
            .directory("etc")
            .file("etc/a", b"hello")
            .end()
    }

    fn store() -> (tempfile::TempDir, LayerStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = LayerStore::open(directory.path(), "single").unwrap();
        (directory, store)
    }

    fn in_tmp(directory: &tempfile::TempDir) -> usize {
        fs::read_dir(directory.path().join("tmp")).unwrap().count()
    }

    #[test]
    fn a_published_layer_has_its_files_and_its_size() {
        let (directory, store) = store();
        let bytes = archive();
        let diff_id = Digest::of(&bytes);
        let layer = store
            .extract(io::Cursor::new(bytes), Ownership::Single)
            .unwrap();
        assert_eq!(layer.summary().diff_id, diff_id);
        assert!(!store.contains(&diff_id));
        assert_eq!(in_tmp(&directory), 1);
        layer.publish(Some(&diff_id)).unwrap();
        assert!(store.contains(&diff_id));
        assert_eq!(
            fs::read(store.path(&diff_id).join("etc/a")).unwrap(),
            b"hello"
        );
        let info = store.info(&diff_id).unwrap().unwrap();
        assert_eq!((info.size, info.files), (5, 2));
        assert_eq!(in_tmp(&directory), 0);
    }

    #[test]
    fn a_damaged_layer_is_replaced_and_a_missing_one_made() {
        let (directory, store) = store();
        let extract = || store.extract(io::Cursor::new(archive()), Ownership::Single);
        for prepare in [
            |path: &Path| fs::write(path.join("etc/a"), "damaged").unwrap(),
            |path: &Path| fs::remove_dir_all(path).unwrap(),
        ] {
            let diff_id = extract().unwrap().publish(None).unwrap();
            let path = store.path(&diff_id);
            prepare(&path);
            assert_eq!(extract().unwrap().replace().unwrap(), diff_id);
            assert_eq!(fs::read(path.join("etc/a")).unwrap(), b"hello");
            assert_eq!(in_tmp(&directory), 0);
        }
    }

    #[test]
    fn nothing_is_left_of_what_is_not_published() {
        let (directory, store) = store();
        let extract = |bytes| store.extract(io::Cursor::new(bytes), Ownership::Single);
        drop(extract(archive()).unwrap());
        let other = Digest::of(b"other");
        assert!(extract(archive()).unwrap().publish(Some(&other)).is_err());
        let escaping = Archive::new().file("good", b"").file("../bad", b"").end();
        assert!(extract(escaping).is_err());
        assert_eq!(in_tmp(&directory), 0);
        assert_eq!(
            fs::read_dir(directory.path().join("layers/single"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn the_first_publisher_wins() {
        let (directory, store) = store();
        let extract = || store.extract(io::Cursor::new(archive()), Ownership::Single);
        let (first, second) = (extract().unwrap(), extract().unwrap());
        let diff_id = first.publish(None).unwrap();
        let inode = || fs::metadata(store.path(&diff_id)).unwrap().ino();
        let before = inode();
        assert_eq!(second.publish(None).unwrap(), diff_id);
        assert_eq!(inode(), before);
        assert_eq!(in_tmp(&directory), 0);
    }

    #[test]
    fn a_map_key_is_no_path() {
        let directory = tempfile::tempdir().unwrap();
        for bad in ["", "..", "a/b", "A", "a.b"] {
            assert!(LayerStore::open(directory.path(), bad).is_err(), "{bad}");
        }
    }
}
