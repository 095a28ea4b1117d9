//! `pull`, and making sure that an image is here before a container is made from it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use kelp_image::Digest;
use kelp_image::platform::Platform;
use kelp_image::progress::{Progress, Silent, Terminal};
use kelp_image::pull::{PullOptions, Pulled, pull};
use kelp_image::reference::{ImageName, Reference};
use kelp_image::store::{NewImage, Retag, Store};

pub use kelp_image::pull::PullPolicy;

use crate::container::config::UserMode;
use crate::events::{Event, append};
use crate::image::registry::AccessRequest;
use crate::image::told::Told;
use crate::image::workshop::Workshop;
use crate::image::{hello, pause};
use crate::{Engine, Error, own_terminal};

/// How an image is pulled.
#[derive(Clone, Debug, Default)]
pub struct PullRequest {
    /// When a registry is asked.
    pub policy: PullPolicy,
    /// Another operating system than the host's.
    pub os: Option<String>,
    /// Another architecture than the host's.
    pub arch: Option<String>,
    /// A variant of the architecture.
    pub variant: Option<String>,
    /// `os/arch[/variant]`, over the three above.
    pub platform: Option<String>,
    /// How registries are reached.
    pub access: AccessRequest,
    /// How many bytes of the disk all images may take once this one is here.
    pub keep_storage: Option<u64>,
    /// Whether nothing is shown.
    pub quiet: bool,
    /// Whether a service manager that started this process is told nothing.
    pub untold: bool,
    /// The id map whose layers are made.
    pub user: UserMode,
    /// The name whose policy holds, if it is another than the one that is pulled.
    pub judged_as: Option<Reference>,
}

impl PullRequest {
    /// Refuses what can't be, before anybody is asked.
    pub fn check(&self) -> Result<(), Error> {
        self.platform()?;
        self.access.check()
    }

    pub(crate) fn platform(&self) -> Result<Option<Platform>, Error> {
        if let Some(text) = &self.platform {
            return Ok(Some(text.parse()?));
        }
        if self.os.is_none() && self.arch.is_none() && self.variant.is_none() {
            return Ok(None);
        }
        Ok(Some(Platform::new(
            self.os.as_deref(),
            self.arch.as_deref(),
            self.variant.as_deref(),
        )))
    }
}

impl Engine {
    /// Brings an image here as the policy says; its id.
    pub fn pull_image(&self, name: &str, request: &PullRequest) -> Result<String, Error> {
        let result = self.try_pull(name, request);
        match &result {
            Ok(Pulled::New(id)) => {
                self.note_image("pull", id.hex(), name);
                self.keep_within(request.keep_storage, id.hex());
            }
            // Nothing has happened.
            Ok(Pulled::Here(_)) => {}
            Err(error) => append(
                &self.paths,
                &Event {
                    error: error.line(),
                    ..Event::now("image", "pull-error", "", name)
                },
            ),
        }
        let (Pulled::New(id) | Pulled::Here(id)) = result?;
        Ok(id.hex().to_owned())
    }

    /// Makes room after a pull, which has succeeded whatever comes of that.
    pub(super) fn keep_within(&self, limit: Option<u64>, latest: &str) {
        let Some(limit) = limit else { return };
        let made = self.make_room(limit, Some(latest), &|_| true);
        if let (Err(error), Some(tell)) = (made, self.tell) {
            tell(&format!("images could not make room: {}", error.line()));
        }
    }

    fn try_pull(&self, name: &str, request: &PullRequest) -> Result<Pulled, Error> {
        if let Some(pulled) = self.embedded(name, request)? {
            return Ok(pulled);
        }
        let image_name = ImageName::parse(name).map_err(kelp_image::Error::from)?;
        let store = self.store()?;
        let options = PullOptions {
            policy: request.policy,
            platform: request.platform()?,
            access: request.access.options()?,
            ask: Some(own_terminal::ask_choice),
            judged_as: request.judged_as.clone(),
        };
        let terminal = Terminal::default();
        let progress: &dyn Progress = if request.quiet { &Silent } else { &terminal };
        let told = Told::new(name, progress);
        let progress = if request.untold { progress } else { &told };
        let workshop = Workshop {
            engine: self,
            store: &store,
            user: &request.user,
        };
        Ok(pull(&store, &image_name, &options, &workshop, progress)?)
    }

    /// Makes sure that the image of a container is here. The usual policy asks a registry only for an
    /// image that is not here, and then nothing but a look at the store is done.
    pub fn ensure_image(&self, name: &str, request: &PullRequest) -> Result<(), Error> {
        let local = request.policy == PullPolicy::Missing || request.policy == PullPolicy::Never;
        let any_platform = request.platform()?.is_none();
        if local && any_platform && self.store()?.find(name).is_ok() {
            return Ok(());
        }
        self.pull_image(name, request).map(drop)
    }

    /// Makes sure that the image of infra and service containers is what this kelp is, whatever has its name: that of
    /// another build of the same version, or anybody's who has given it away.
    pub(crate) fn ensure_pause_image(&self) -> Result<(), Error> {
        let store = self.store()?;
        // Of which file it was made, and what came of that: to find that out anew takes reading all of this program.
        let known = self.paths.runtime.join("pause");
        let program = pause::program()?;
        let is = |manifest: &Digest| format!("{program} {manifest}");
        let there = store.find(pause::NAME).ok().map(|record| record.manifest);
        if let (Ok(target), Some(there)) = (fs::read_link(&known), &there)
            && target == Path::new(&is(there))
        {
            return Ok(());
        }
        let (lease, blobs) = store.lease()?;
        let manifest = pause::write_blobs(&blobs)?;
        if there.as_ref() != Some(&manifest) {
            add_embedded(&store, &manifest, pause::NAME, Retag::Move)?;
        }
        drop(lease);
        let _ = fs::remove_file(&known);
        let _ = symlink(is(&manifest), &known);
        Ok(())
    }

    /// The embedded image, if it is what `name` means and no other image has the name.
    fn embedded(&self, name: &str, request: &PullRequest) -> Result<Option<Pulled>, Error> {
        if !hello::NAMES.contains(&name) || request.policy == PullPolicy::Never {
            return Ok(None);
        }
        let store = self.store()?;
        if let Ok(record) = store.find(name) {
            return Ok(Some(Pulled::Here(record.id)));
        }
        let (lease, blobs) = store.lease()?;
        let manifest = hello::write_blobs(&blobs)?;
        let id = add_embedded(&store, &manifest, hello::NAME, Retag::Refuse)?;
        drop(lease);
        Ok(Some(Pulled::New(id)))
    }
}

/// Keeps an image whose blobs were written here.
fn add_embedded(
    store: &Store,
    manifest: &Digest,
    name: &str,
    retag: Retag,
) -> Result<Digest, Error> {
    let name = Reference::parse(name).map_err(kelp_image::Error::from)?;
    let record = store.add(&NewImage {
        manifest,
        index: None,
        repo_digests: Vec::new(),
        made_here: true,
        names: &[name],
        retag,
    })?;
    Ok(record.id)
}
