//! `pull`, and making sure that an image is here before a container is made from it.

use std::path::PathBuf;

use std::time::Duration;

use kelp_image::Digest;
use kelp_image::access::AccessOptions;
use kelp_image::config_paths::ConfigPaths;
use kelp_image::platform::Platform;
use kelp_image::progress::{Progress, Silent, Terminal};
use kelp_image::pull::{PullOptions, pull};
use kelp_image::reference::{ImageName, Reference};
use kelp_image::registry::Retries;
use kelp_image::role::ProcessUnpacker;
use kelp_image::store::{NewImage, Retag};

pub use kelp_image::pull::PullPolicy;

use crate::container::config::UserMode;
use crate::events::{Event, append};
use crate::image::{hello, ownership, start_role};
use crate::{Engine, Error, host, internal, own_terminal};

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
    /// Whether certificates must be right; `None` for what registries.conf says.
    pub tls_verify: Option<bool>,
    /// Certificates, instead of certs.d.
    pub cert_dir: Option<PathBuf>,
    /// Credentials, instead of the usual files.
    pub authfile: Option<PathBuf>,
    /// `USER:PASSWORD`, over any file.
    pub credentials: Option<String>,
    /// How often what failed is tried again, instead of three times.
    pub retries: Option<u32>,
    /// How long before, instead of a second that doubles.
    pub retry_delay: Option<Duration>,
    /// Whether nothing is shown.
    pub quiet: bool,
    /// The id map whose layers are made.
    pub user: UserMode,
}

impl PullRequest {
    fn platform(&self) -> Result<Option<Platform>, Error> {
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

    pub(crate) fn access(&self) -> Result<AccessOptions, Error> {
        let credentials = match &self.credentials {
            None => None,
            Some(text) => Some(super::registry::credential(text)?),
        };
        let retries = Retries::default();
        Ok(AccessOptions {
            paths: ConfigPaths::from_env(),
            tls_verify: self.tls_verify,
            cert_dir: self.cert_dir.clone(),
            authfile: self.authfile.clone(),
            credentials,
            retries: Retries {
                limit: self.retries.unwrap_or(retries.limit),
                delay: self.retry_delay.unwrap_or(retries.delay),
            },
        })
    }
}

impl Engine {
    /// Brings an image here as the policy says; its id.
    pub fn pull_image(&self, name: &str, request: &PullRequest) -> Result<String, Error> {
        let result = self.try_pull(name, request);
        match &result {
            Ok(id) => self.note_image("pull", id, name),
            Err(error) => append(
                &self.paths,
                &Event {
                    error: error.line(),
                    ..Event::now("image", "pull-error", "", name)
                },
            ),
        }
        result
    }

    fn try_pull(&self, name: &str, request: &PullRequest) -> Result<String, Error> {
        if let Some(id) = self.embedded(name, request)? {
            return Ok(id.hex().to_owned());
        }
        let image_name = ImageName::parse(name).map_err(kelp_image::Error::from)?;
        let map = host::id_map(&request.user)?;
        let (usual, ids) = host::translation(&map)?;
        let userns = self.user_namespace(usual)?;
        let store = self.store()?;
        // What cannot be removed is no reason not to pull.
        let _ = self.remove_trees(&store.abandoned()?);
        let (lease, blobs) = store.lease()?;
        let spawn = |role: &[String], fds: internal::Fds<'_>| start_role(role, fds, &userns);
        let unpacker = ProcessUnpacker::new(&self.paths.data, &map.key(), ownership(&map), &spawn)?
            .translated(ids)
            .leased(lease);
        let options = PullOptions {
            policy: request.policy,
            platform: request.platform()?,
            access: request.access()?,
            ask: Some(own_terminal::ask_choice),
        };
        let terminal = Terminal::default();
        let progress: &dyn Progress = if request.quiet { &Silent } else { &terminal };
        let id = pull(&store, &blobs, &image_name, &options, &unpacker, progress)?;
        Ok(id.hex().to_owned())
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

    /// The embedded image, if it is what `name` means and no other image has the name.
    fn embedded(&self, name: &str, request: &PullRequest) -> Result<Option<Digest>, Error> {
        if !hello::NAMES.contains(&name) || request.policy == PullPolicy::Never {
            return Ok(None);
        }
        let store = self.store()?;
        if let Ok(record) = store.find(name) {
            return Ok(Some(record.id));
        }
        let (lease, blobs) = store.lease()?;
        let parts = hello::write_blobs(&blobs)?;
        let full = Reference::parse(hello::NAME).map_err(kelp_image::Error::from)?;
        let record = store.add(&NewImage {
            manifest: &parts,
            index: None,
            repo_digests: Vec::new(),
            names: &[full],
            retag: Retag::Refuse,
        })?;
        drop(lease);
        Ok(Some(record.id))
    }
}
