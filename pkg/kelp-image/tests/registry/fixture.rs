//! What stands around a pull in these tests: a store, an unpacker, and what was shown.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kelp_image::access::AccessOptions;
use kelp_image::blob::BlobStore;
use kelp_image::config_paths::ConfigPaths;
use kelp_image::platform::Platform;
use kelp_image::progress::{Event, Progress};
use kelp_image::pull::{Bring, Images, LocalImage, PullOptions, Pulled, PulledImage, Work, pull};
use kelp_image::reference::{ImageName, Reference};
use kelp_image::registry::Retries;
use kelp_image::unpack::Summary;
use kelp_image::unpacker::{UnpackJob, Unpacker};
use kelp_image::{Digest, Error};
use tempfile::TempDir;

/// A user's directories, images and layers.
pub(crate) struct Fixture {
    pub(crate) root: TempDir,
    pub(crate) blobs: BlobStore,
    pub(crate) layers: Layers,
    pub(crate) images: Records,
    pub(crate) shown: Shown,
    pub(crate) options: PullOptions,
}

impl Fixture {
    /// Everything empty, and no registry verified.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let paths = ConfigPaths {
            etc: root.path().join("etc"),
            config_home: Some(root.path().join("config")),
            runtime_dir: Some(root.path().join("run")),
            ..ConfigPaths::default()
        };
        let access = AccessOptions {
            paths,
            tls_verify: Some(false),
            retries: Retries {
                limit: 3,
                delay: Duration::from_millis(1),
            },
            ..AccessOptions::default()
        };
        Self {
            blobs: BlobStore::open(&root.path().join("data")).unwrap(),
            layers: Layers::default(),
            images: Records::default(),
            shown: Shown::default(),
            options: PullOptions {
                platform: Some("linux/amd64".parse().unwrap()),
                access,
                ..PullOptions::default()
            },
            root,
        }
    }

    pub(crate) fn pull(&self, name: &str) -> Result<Digest, Error> {
        let name = ImageName::parse(name).unwrap();
        let (options, shown) = (&self.options, &self.shown);
        match pull(&self.images, &name, options, self, shown)? {
            Pulled::New(id) | Pulled::Here(id) => Ok(id),
        }
    }

    /// Writes a file of the containers projects' configuration.
    pub(crate) fn configure(&self, name: &str, text: &str) {
        let file = self.root.path().join("config/containers").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    pub(crate) fn partial_files(&self) -> usize {
        let path = self.root.path().join("data/blobs/partial");
        fs::read_dir(path).unwrap().count()
    }
}

/// Layers "extracted" into memory.
#[derive(Default)]
pub(crate) struct Layers {
    published: Arc<Mutex<HashSet<Digest>>>,
}

impl Layers {
    pub(crate) fn published(&self) -> HashSet<Digest> {
        self.published.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.published.lock().unwrap().clear();
    }
}

impl Unpacker for Layers {
    fn has_layer(&self, diff_id: &Digest) -> Result<bool, Error> {
        Ok(self.published.lock().unwrap().contains(diff_id))
    }

    fn start(&self, _diff_id: &Digest, input: OwnedFd) -> Result<Box<dyn UnpackJob>, Error> {
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            File::from(input).read_to_end(&mut bytes).unwrap();
            bytes
        });
        Ok(Box::new(Job {
            reader: Some(reader),
            diff_id: None,
            published: Arc::clone(&self.published),
        }))
    }
}

struct Job {
    reader: Option<JoinHandle<Vec<u8>>>,
    diff_id: Option<Digest>,
    published: Arc<Mutex<HashSet<Digest>>>,
}

impl UnpackJob for Job {
    fn finish(&mut self) -> Result<Summary, Error> {
        let bytes = self.reader.take().unwrap().join().unwrap();
        let diff_id = Digest::of(&bytes);
        self.diff_id = Some(diff_id.clone());
        Ok(Summary {
            diff_id,
            archive_size: bytes.len() as u64,
            size: bytes.len() as u64,
            files: 1,
            skipped_xattrs: 0,
        })
    }

    fn publish(self: Box<Self>) -> Result<(), Error> {
        self.published.lock().unwrap().insert(self.diff_id.unwrap());
        Ok(())
    }
}

/// Records in memory.
#[derive(Default)]
pub(crate) struct Records {
    images: Mutex<HashMap<String, PulledImage>>,
    layers: Mutex<HashSet<(Digest, Digest)>>,
    layers_are_spoilt: Mutex<bool>,
}

impl Records {
    pub(crate) fn get(&self, name: &str) -> Option<PulledImage> {
        self.images.lock().unwrap().get(name).cloned()
    }

    /// Has the records be such as can't be read.
    pub(crate) fn spoil_layers(&self) {
        *self.layers_are_spoilt.lock().unwrap() = true;
    }

    /// Has a layer be one of an image that is here, as it is by the records of a store.
    pub(crate) fn add_layer(&self, blob: &[u8]) {
        let digest = Digest::of(blob);
        let mut layers = self.layers.lock().unwrap();
        layers.insert((digest.clone(), digest));
    }
}

impl Bring for Fixture {
    fn bring(&self, work: &mut Work<'_>) -> Result<(), Error> {
        work(&self.blobs, &self.layers)
    }
}

impl Images for Records {
    fn find(&self, reference: &Reference) -> Result<Option<LocalImage>, Error> {
        Ok(self.get(&reference.to_string()).map(|image| LocalImage {
            id: image.id,
            platform: "linux/amd64".parse::<Platform>().unwrap(),
        }))
    }

    fn check_name(&self, _reference: &Reference) -> Result<(), Error> {
        Ok(())
    }

    fn is_current(
        &self,
        image: &LocalImage,
        digest: &Digest,
        _platform: &Platform,
    ) -> Result<bool, Error> {
        let images = self.images.lock().unwrap();
        let mut images = images.values().filter(|known| known.id == image.id);
        Ok(images.any(|known| known.manifest == *digest || known.index.as_ref() == Some(digest)))
    }

    fn layers(&self) -> Result<HashSet<(Digest, Digest)>, Error> {
        if *self.layers_are_spoilt.lock().unwrap() {
            return Err(Error::Invalid("a record that can't be read".to_owned()));
        }
        Ok(self.layers.lock().unwrap().clone())
    }

    fn record(&self, image: &PulledImage) -> Result<(), Error> {
        let name = image.reference.to_string();
        self.images.lock().unwrap().insert(name, image.clone());
        Ok(())
    }
}

/// What a pull has shown, a line an event; advances are left out.
#[derive(Default)]
pub(crate) struct Shown {
    lines: Mutex<Vec<String>>,
}

impl Shown {
    /// The lines since the last call, sorted where layers run side by side.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }
}

impl Progress for Shown {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::Resolved { name, .. } => format!("resolved {name}"),
            Event::Trying(reference) => format!("trying {reference}"),
            Event::Warning(text) => format!("warning {text}"),
            Event::BlobStarted { digest, from, .. } => format!("started {digest} {from}"),
            Event::BlobShared { here, .. } => format!("shared {here}"),
            Event::BlobDone { digest } => format!("done {digest}"),
            Event::BlobSkipped { digest } => format!("skipped {digest}"),
            Event::Config { digest } => format!("config {digest}"),
            Event::Writing => "writing".to_owned(),
            _ => return,
        };
        self.lines.lock().unwrap().push(line);
    }
}
