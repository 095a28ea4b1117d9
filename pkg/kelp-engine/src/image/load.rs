//! `load`, and `pull` of what is in files.

use std::fs::File;
use std::path::PathBuf;
use std::sync::OnceLock;

use kelp_image::Digest;
use kelp_image::load::{Load, Loaded};
use kelp_image::platform::Platform;
use kelp_image::progress::{Progress, Silent, Terminal};
use kelp_image::pull::Bring;
use kelp_image::reference::Reference;
use kelp_image::remote::{Remote, is_url};
pub use kelp_image::store::Displaced;
use kelp_image::store::{NewImage, Retag, Store};
use kelp_image::transport::{self, Form, Place};
use kelp_image::trust::Trust;

use crate::image::pull::PullRequest;
use crate::image::workshop::Workshop;
use crate::{Engine, Error};

/// Where images come from.
#[derive(Debug)]
pub enum Input {
    /// A file or a directory.
    Path(PathBuf),
    /// An open file or pipe.
    Stream(File),
    /// An archive at an http or https URL.
    Url(String),
}

impl Input {
    /// As a command line names it.
    pub fn parse(text: PathBuf) -> Self {
        match text.to_str() {
            Some(url) if is_url(url) => Self::Url(url.to_owned()),
            _ => Self::Path(text),
        }
    }
}

/// What a load has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedImage {
    /// The image's id.
    pub id: String,
    /// The names that it has got.
    pub names: Vec<String>,
}

/// What was brought, and which images have lost a name by it.
#[derive(Debug, Default)]
pub struct Brought {
    /// Each image.
    pub images: Vec<LoadedImage>,
    /// Names that were taken from other images.
    pub displaced: Vec<Displaced>,
}

/// What a pull has brought.
#[derive(Debug, Default)]
pub struct PulledImages {
    /// The images' ids.
    pub ids: Vec<String>,
    /// Names that were taken from other images, by what is in files.
    pub displaced: Vec<Displaced>,
}

/// Where images are brought from.
pub(crate) enum Origin {
    Input(Input),
    Place(Place),
    /// What is there gets none of its names here.
    Nameless(Place),
}

impl Engine {
    /// Brings all images that a file, a directory or an archive at a URL has.
    pub fn load_images(
        &self,
        input: Input,
        quiet: bool,
        platform: Option<String>,
        signature_policy: Option<PathBuf>,
    ) -> Result<Brought, Error> {
        let mut request = PullRequest {
            platform,
            quiet,
            ..PullRequest::default()
        };
        request.access.signature_policy = signature_policy;
        let found = match &input {
            Input::Path(path) => path.metadata(),
            Input::Stream(file) => file.metadata(),
            Input::Url(_) => Err(std::io::ErrorKind::Unsupported.into()),
        };
        // A pipe, a directory or a server does not tell.
        let size = found.ok().filter(std::fs::Metadata::is_file);
        let brought = self.bring(Origin::Input(input), &request);
        brought.map_err(|error| match size {
            Some(file) => self.explain_size(error, file.len()),
            None => error,
        })
    }

    /// Brings an image from a registry, or what `TRANSPORT:…` names.
    pub fn pull_any(&self, name: &str, request: &PullRequest) -> Result<PulledImages, Error> {
        let brought = if let Some(name) = name.strip_prefix("containers-storage:") {
            self.pull_from_podman(name, request)?
        } else if let Some(place) = transport::parse(name)? {
            self.bring(Origin::Place(place), request)?
        } else {
            return Ok(PulledImages {
                ids: vec![self.pull_image(name, request)?],
                displaced: Vec::new(),
            });
        };
        if let Some(image) = brought.images.last() {
            self.keep_within(request.keep_storage, &image.id);
        }
        Ok(PulledImages {
            ids: brought.images.into_iter().map(|image| image.id).collect(),
            displaced: brought.displaced,
        })
    }

    /// Brings what is in files without a name, for a platform; the ids.
    pub(crate) fn bring_nameless(
        &self,
        place: Place,
        platform: &Platform,
    ) -> Result<Vec<Digest>, Error> {
        let request = PullRequest {
            quiet: true,
            platform: Some(platform.to_string()),
            ..PullRequest::default()
        };
        let brought = self.bring(Origin::Nameless(place), &request)?;
        let ids = brought.images.iter();
        Ok(ids
            .filter_map(|image| Digest::from_sha256_hex(&image.id))
            .collect())
    }

    pub(crate) fn bring(&self, from: Origin, request: &PullRequest) -> Result<Brought, Error> {
        let store = self.store()?;
        let terminal = Terminal::default();
        let progress: &dyn Progress = if request.quiet { &Silent } else { &terminal };
        let platform = request.platform()?.unwrap_or_else(Platform::host);
        let access = request.access.options()?;
        let trust = Trust::load(&access.paths, access.signature_policy.as_deref())?;
        let workshop = Workshop {
            engine: self,
            store: &store,
            user: &request.user,
        };
        let mut from = Some(from);
        let mut brought = Brought::default();
        workshop.bring(&mut |blobs, unpacker| {
            let load = Load {
                store: &store,
                blobs,
                unpacker,
                progress,
                platform: platform.clone(),
                known: OnceLock::new(),
                data: &self.paths.data,
                trust: &trust,
            };
            let loaded = match from.take() {
                Some(Origin::Input(Input::Path(path))) => load.path(&path)?,
                Some(Origin::Input(Input::Stream(file))) => load.file(file)?,
                Some(Origin::Input(Input::Url(url))) => {
                    load.reader(Remote::open(&url, &access)?)?
                }
                Some(Origin::Place(place)) => named(load.place(&place)?, &place),
                Some(Origin::Nameless(place)) => {
                    let mut loaded = load.place(&place)?;
                    for image in &mut loaded {
                        image.names.clear();
                    }
                    loaded
                }
                None => Vec::new(),
            };
            for image in &loaded {
                record(&store, image, &mut brought)?;
            }
            Ok(())
        })?;
        for image in &brought.images {
            let name = image
                .names
                .first()
                .map_or(image.id.as_str(), String::as_str);
            self.note_image("loadfromarchive", &image.id, name);
        }
        Ok(brought)
    }
}

/// What has no name in a directory gets the directory's, as podman has it.
fn named(mut loaded: Vec<Loaded>, place: &Place) -> Vec<Loaded> {
    if let (Form::Dir | Form::Oci, [image]) = (place.form, loaded.as_mut_slice())
        && image.names.is_empty()
    {
        let path = place.path.to_string_lossy();
        let name = format!("localhost/{}", path.trim_matches('/'));
        // A path that can't be a name leaves the image without one.
        let name = Reference::parse(&name);
        image.names.extend(name.map(Reference::or_latest));
    }
    loaded
}

pub(super) fn record(
    store: &Store,
    image: &Loaded,
    brought: &mut Brought,
) -> Result<(), kelp_image::Error> {
    let (record, displaced) = store.add_and_tell(&NewImage {
        manifest: &image.manifest,
        index: image.index.as_ref(),
        repo_digests: image.repo_digests.clone(),
        made_here: image.made_here,
        names: &image.names,
        retag: Retag::Move,
    })?;
    brought.images.push(LoadedImage {
        id: record.id.hex().to_owned(),
        names: image.names.iter().map(ToString::to_string).collect(),
    });
    brought.displaced.extend(displaced);
    Ok(())
}
