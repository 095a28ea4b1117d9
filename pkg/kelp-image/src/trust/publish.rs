//! Signing what is in a registry: beside it (simple signing), or in its repository (sigstore).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cosign::attachment::{attach, tag};
use super::cosign::{self, SigningKey as SigstoreKey};
use super::keep::keep;
use super::simple::{self, SigningKey};
use super::source::Signature;
use crate::Error;
use crate::access::{Access, AccessOptions, runtime};
use crate::blob::BlobStore;
use crate::blob_place::BlobPlace;
use crate::digest::Digest;
use crate::manifest::{Document, OCI_MANIFEST};
use crate::reference::Reference;
use crate::registry::Repository;
use crate::upload::Upload;

/// What a command line says about who signs.
#[derive(Debug, Clone, Default)]
pub struct SignerOptions {
    /// `--sign-by`: a key of `key_file`, or a file itself.
    pub sign_by: Option<String>,
    /// `--sign-by-key`: a file with OpenPGP secret keys.
    pub key_file: Option<PathBuf>,
    /// `--sign-by-sigstore-private-key`.
    pub sigstore_key: Option<PathBuf>,
    /// `--sign-passphrase-file`.
    pub passphrase_file: Option<PathBuf>,
}

/// Who signs; nobody where nothing was asked for.
#[derive(Default)]
pub struct Signers {
    simple: Option<SigningKey>,
    sigstore: Option<SigstoreKey>,
}

impl Signers {
    /// Reads the keys, before anything is sent that they are to sign.
    pub fn load(options: &SignerOptions) -> Result<Self, Error> {
        let passphrase = match &options.passphrase_file {
            Some(file) => Some(first_line(file)?),
            None => None,
        };
        let passphrase = passphrase.as_deref();
        let sigstore = match &options.sigstore_key {
            Some(file) => Some(
                SigstoreKey::from_pem(&read(file)?, passphrase)
                    .map_err(|error| Error::Invalid(format!("{}: {error}", file.display())))?,
            ),
            None => None,
        };
        Ok(Self {
            simple: simple_key(options, passphrase)?,
            sigstore,
        })
    }

    /// Whether nobody signs.
    pub fn is_empty(&self) -> bool {
        self.simple.is_none() && self.sigstore.is_none()
    }

    /// The OpenPGP key.
    pub fn simple(&self) -> Option<&SigningKey> {
        self.simple.as_ref()
    }

    /// Signs a manifest that is in a registry under a name.
    pub fn publish(
        &self,
        options: &AccessOptions,
        name: &Reference,
        manifest: &[u8],
        blobs: &BlobStore,
    ) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let name = name.clone().or_latest();
        let access = Access::new(options)?;
        let endpoint = access.registries.own_endpoint(&name)?;
        if let Some(key) = &self.simple {
            let signature = Signature::Simple(simple::sign(key, manifest, &name)?);
            let digest = Digest::of(manifest);
            // Where a pull looks: at the place that registries.conf has for the name.
            let place = &endpoint.reference;
            keep(&options.paths, None, place, &digest, &signature)?;
        }
        if let Some(key) = &self.sigstore {
            let repository = access.to_push(&endpoint, &[]);
            attach_in_registry(key, &repository, &name, manifest, blobs)?;
        }
        Ok(())
    }
}

fn simple_key(
    options: &SignerOptions,
    passphrase: Option<&str>,
) -> Result<Option<SigningKey>, Error> {
    let (file, wanted) = match (&options.key_file, options.sign_by.as_deref()) {
        (Some(file), wanted) => (file.clone(), wanted),
        (None, None) => return Ok(None),
        (None, Some(name)) if Path::new(name).is_file() => (PathBuf::from(name), None),
        (None, Some(name)) => {
            return Err(Error::Invalid(format!(
                "kelp does not ask gpg for the key {name}: export it (gpg --armor \
                 --export-secret-keys {name} >FILE) and give --sign-by-key FILE"
            )));
        }
    };
    SigningKey::parse(&read(&file)?, wanted, passphrase)
        .map(Some)
        .map_err(|error| Error::Invalid(format!("{}: {error}", file.display())))
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(Error::io(format!("read the key {}", file.display())))
}

/// A passphrase as podman and skopeo read it.
pub fn first_line(file: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(file)
        .map_err(Error::io(format!("read the passphrase {}", file.display())))?;
    Ok(text.split('\n').next().unwrap_or_default().to_owned())
}

/// Adds a signature to those that a manifest has in its repository.
fn attach_in_registry(
    key: &SigstoreKey,
    repository: &Repository,
    name: &Reference,
    manifest: &[u8],
    blobs: &BlobStore,
) -> Result<(), Error> {
    let signature = cosign::sign(key, manifest, name)?;
    let tag = tag(&Digest::of(manifest));
    runtime()?.block_on(async {
        let before = match repository.manifest(&tag).await {
            Ok(fetched) => Some(fetched.bytes),
            Err(Error::NotInRegistry(_)) => None,
            Err(error) => return Err(error),
        };
        let attached = attach(before.as_deref(), &[signature])?;
        for (digest, bytes) in &attached.blobs {
            send(repository, digest, bytes, blobs).await?;
        }
        let digest = Digest::of(&attached.manifest);
        repository
            .put_manifest(&tag, OCI_MANIFEST, &attached.manifest, &digest)
            .await
    })
}

async fn send(
    repository: &Repository,
    digest: &Digest,
    bytes: &[u8],
    blobs: &BlobStore,
) -> Result<(), Error> {
    blobs.put(bytes, Some(digest))?;
    let upload = Upload {
        place: BlobPlace { repository, digest },
        size: bytes.len() as u64,
        file: Arc::new(blobs.reader(digest)?),
        sent: Arc::default(),
    };
    upload.run(&[]).await.map(drop)
}

/// Signs what a registry has under a name, and keeps the signatures beneath a directory, else where
/// registries.d says: that of the name's own manifest, or of all images of an index.
pub fn sign_in_registry(
    key: &SigningKey,
    options: &AccessOptions,
    name: &Reference,
    all: bool,
    directory: Option<&Path>,
) -> Result<(), Error> {
    let name = name.clone().or_latest();
    let access = Access::new(options)?;
    let endpoint = access.registries.own_endpoint(&name)?;
    let repository = access.repository(&endpoint, name.registry());
    let place = &endpoint.reference;
    for manifest in manifests(&repository, &place.manifest_name(), &name, all)? {
        let signature = Signature::Simple(simple::sign(key, &manifest, &name)?);
        let digest = Digest::of(&manifest);
        keep(&options.paths, directory, place, &digest, &signature)?;
    }
    Ok(())
}

fn manifests(
    repository: &Repository,
    top: &str,
    name: &Reference,
    all: bool,
) -> Result<Vec<Vec<u8>>, Error> {
    runtime()?.block_on(async {
        let top = repository.manifest(top).await?;
        if !all {
            return Ok(vec![top.bytes]);
        }
        let Document::Index(index) = Document::parse(&top.bytes, top.media_type.as_deref())? else {
            return Err(Error::Invalid(format!(
                "{name} is a single image: sign it without --all"
            )));
        };
        let mut manifests = Vec::new();
        for entry in index.manifests() {
            let digest = Digest::try_from(entry.digest())?;
            manifests.push(repository.manifest(&digest.to_string()).await?.bytes);
        }
        Ok(manifests)
    })
}
