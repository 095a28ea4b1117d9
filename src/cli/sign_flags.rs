//! Flags about who signs, which several commands share.

use std::path::PathBuf;

use kelp_engine::image::trust::SignerOptions;

/// Who signs what is pushed.
#[derive(clap::Args)]
pub struct PushSignFlags {
    #[command(flatten)]
    sign: SignFlags,
    /// Sign with this sigstore private key, and keep the signature in the repository
    #[arg(long, value_name = "FILE")]
    sign_by_sigstore_private_key: Option<PathBuf>,
    /// For podman's scripts: what is here may always leave
    #[arg(long, value_name = "FILE", hide = true)]
    signature_policy: Option<PathBuf>,
}

impl PushSignFlags {
    /// Who signs.
    pub fn signer(&self) -> SignerOptions {
        SignerOptions {
            sigstore_key: self.sign_by_sigstore_private_key.clone(),
            ..self.sign.signer()
        }
    }
}

/// The OpenPGP key that makes a simple signature.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct SignFlags {
    /// Sign with this OpenPGP key: a file with a secret key, or a fingerprint or an address of the
    /// one that is meant in --sign-by-key
    #[arg(long = "sign-by", value_name = "KEY")]
    key: Option<String>,
    /// The file with OpenPGP secret keys, as gpg --export-secret-keys writes it
    #[arg(long = "sign-by-key", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The file whose first line is the key's passphrase
    #[arg(long = "sign-passphrase-file", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl SignFlags {
    /// Who signs.
    pub fn signer(&self) -> SignerOptions {
        SignerOptions {
            sign_by: self.key.clone(),
            key_file: self.key_file.clone(),
            sigstore_key: None,
            passphrase_file: self.passphrase_file.clone(),
        }
    }
}
