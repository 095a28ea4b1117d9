//! `import`: an image from an archive of a root file system.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use kelp_args::Change;
use kelp_image::access::AccessOptions;
use kelp_image::config_paths::ConfigPaths;
use kelp_image::ingest::store_layer;
use kelp_image::platform::Platform;
use kelp_image::remote::{Remote, is_url};
use kelp_image::trust::{Subject, Trust};
use serde_json::json;

use crate::image::draft::Draft;
use crate::image::make::ManifestForm;
use crate::image::remove::reference;
use crate::{Engine, Error};

/// Where an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportSource {
    /// On standard input.
    Stdin,
    /// In a file.
    File(PathBuf),
    /// At an http or https URL.
    Url(String),
}

impl ImportSource {
    /// As a command line names it; `-` is standard input.
    pub fn parse(text: &str) -> Self {
        match text {
            "-" => Self::Stdin,
            url if is_url(url) => Self::Url(url.to_owned()),
            path => Self::File(path.into()),
        }
    }

    /// How large the archive is, where that can be known.
    fn size(&self) -> Option<u64> {
        let found = match self {
            Self::Stdin => File::from(rustix::io::dup(rustix::stdio::stdin()).ok()?).metadata(),
            Self::File(path) => path.metadata(),
            Self::Url(_) => return None,
        };
        let found = found.ok()?;
        found.is_file().then_some(found.len())
    }

    fn open(&self) -> Result<Box<dyn Read>, Error> {
        Ok(match self {
            Self::Stdin => Box::new(std::io::stdin().lock()),
            Self::File(path) => {
                Box::new(File::open(path).map_err(Error::io(format!("open {}", path.display())))?)
            }
            Self::Url(url) => {
                let access = AccessOptions {
                    paths: ConfigPaths::from_env(),
                    ..AccessOptions::default()
                };
                Box::new(Remote::open(url, &access)?)
            }
        })
    }
}

/// How an image is made from an archive.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The image's name; it is taken from any other image.
    pub name: Option<String>,
    /// Its configuration.
    pub changes: Vec<Change>,
    /// A remark.
    pub message: Option<String>,
    /// Another operating system than the host's.
    pub os: Option<String>,
    /// Another architecture than the host's.
    pub arch: Option<String>,
    /// A variant of the architecture.
    pub variant: Option<String>,
    /// Which images are accepted, instead of the user's policy or the machine's.
    pub signature_policy: Option<PathBuf>,
}

impl Engine {
    /// Makes an image from an archive; its id. The archive is extracted before anything is recorded.
    pub fn import_image(
        &self,
        source: &ImportSource,
        options: &ImportOptions,
    ) -> Result<String, Error> {
        let imported = self.import(source, options);
        imported.map_err(|error| match source.size() {
            Some(bytes) => self.explain_size(error, bytes),
            None => error,
        })
    }

    fn import(&self, source: &ImportSource, options: &ImportOptions) -> Result<String, Error> {
        let name = options.name.as_deref().map(reference).transpose()?;
        let platform = Platform::new(
            options.os.as_deref(),
            options.arch.as_deref(),
            options.variant.as_deref(),
        );
        let trust = Trust::load(
            &ConfigPaths::from_env(),
            options.signature_policy.as_deref(),
        )?;
        // What podman calls an image that is an archive of files.
        trust.check(&Subject::stream("tarball"), b"", &[])?;
        let archive = source.open()?;
        let making = self.make_image()?;
        let layer = store_layer(&making.blobs, archive, None)?;
        self.extract_new(&making, &layer)?;
        let now = jiff::Timestamp::now().to_string();
        let mut draft = Draft::new(
            &platform.os,
            &platform.architecture,
            platform.variant.as_deref(),
        );
        draft.describe("created", &now);
        draft.apply(&options.changes);
        let message = options
            .message
            .as_deref()
            .unwrap_or("imported from tarball");
        draft.add_step(json!({
            "created": now,
            "created_by": format!("/bin/sh -c #(nop) ADD file:{} in /", layer.diff_id.hex()),
            "comment": message,
        }));
        let record = making.finish(draft, &[layer], ManifestForm::Oci, name.as_ref())?;
        let shown = name.map(|name| name.or_latest().to_string());
        self.note_image("import", record.id.hex(), &shown.unwrap_or_default());
        Ok(record.id.hex().to_owned())
    }
}
