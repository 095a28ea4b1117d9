//! Trust: policy.json shown and changed, and images signed.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kelp_image::config_paths::ConfigPaths;
use kelp_image::reference::ImageName;
pub use kelp_image::trust::publish::SignerOptions;
use kelp_image::trust::publish::{Signers, first_line, sign_in_registry};
pub use kelp_image::trust::show::Shown;
use kelp_image::trust::{cosign, edit, show};

use crate::image::registry::AccessRequest;
use crate::space::explain_output;
use crate::{Engine, Error};

/// What is to be signed, and where signatures are kept.
#[derive(Clone, Debug, Default)]
pub struct SignRequest {
    /// How the registry is reached.
    pub access: AccessRequest,
    /// Who signs.
    pub signer: SignerOptions,
    /// Every image of an index, instead of the index.
    pub all: bool,
    /// Where signatures are kept, instead of where registries.d says.
    pub directory: Option<PathBuf>,
}

impl Engine {
    /// The text of policy.json.
    pub fn trust_policy(&self, named: Option<&Path>) -> Result<Vec<u8>, Error> {
        Ok(show::raw(&ConfigPaths::from_env(), named)?)
    }

    /// What policy.json asks for, of all images or of those of a registry or a part of it.
    pub fn trust(&self, named: Option<&Path>, about: Option<&str>) -> Result<Vec<Shown>, Error> {
        Ok(show::show(&ConfigPaths::from_env(), named, about)?)
    }

    /// Gives a registry, a part of it, or `default`, a rule of a type with keys.
    pub fn set_trust(
        &self,
        named: Option<&Path>,
        scope: &str,
        kind: &str,
        keys: &[PathBuf],
    ) -> Result<(), Error> {
        let rule = edit::NewRule::parse(kind, keys)?;
        edit::set(&ConfigPaths::from_env(), named, scope, &rule)?;
        Ok(())
    }

    /// Signs what a registry has under a name.
    pub fn sign_image(&self, name: &str, request: &SignRequest) -> Result<(), Error> {
        let signers = Signers::load(&request.signer)?;
        let key = signers
            .simple()
            .ok_or_else(|| Error::invalid("who signs? give --sign-by KEY"))?;
        let name = ImageName::parse(name)
            .map_err(kelp_image::Error::from)?
            .on_docker_hub();
        Ok(sign_in_registry(
            key,
            &request.access.options()?,
            &name,
            request.all,
            request.directory.as_deref(),
        )?)
    }

    /// Makes a key pair for sigstore signatures: `PREFIX.private`, under the passphrase of a file's first
    /// line, and `PREFIX.pub`.
    pub fn generate_sigstore_key(&self, prefix: &str, passphrase: &Path) -> Result<(), Error> {
        for suffix in ["private", "pub"] {
            let file = format!("{prefix}.{suffix}");
            if Path::new(&file).symlink_metadata().is_ok() {
                return Err(Error::invalid(format!(
                    "{file} is there already: give another --output-prefix"
                )));
            }
        }
        let (private, public) = cosign::generate(&first_line(passphrase)?)?;
        for (suffix, mode, text) in [("private", 0o600, private), ("pub", 0o644, public)] {
            let file = format!("{prefix}.{suffix}");
            // A key that is there may be the only one of its kind.
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&file)
                .and_then(|mut new| new.write_all(text.as_bytes()))
                .map_err(|error| {
                    let size = text.len() as u64;
                    explain_output(
                        Error::io(format!("write {file}"))(error),
                        Path::new(&file),
                        size,
                    )
                })?;
        }
        Ok(())
    }
}
