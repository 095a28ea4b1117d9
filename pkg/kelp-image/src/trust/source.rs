//! Where signatures are had from: beside the registry (lookaside), or in the image's repository.
//! Nothing here is called unless a rule asks for signatures.

use std::fs;
use std::io;

use reqwest::{StatusCode, Url};

use super::cosign::attachment::{LIMIT, SIZE_LIMIT, tag};
use super::cosign::{Attachment, MEDIA_TYPE};
use super::registries_d::{For, RegistriesD, signature_url};
use crate::Error;
use crate::access::Access;
use crate::digest::Digest;
use crate::http::Request;
use crate::manifest::Document;
use crate::reference::Reference;
use crate::registry::{Repository, read_limited};

/// What precedes a sigstore signature in a file.
const SIGSTORE_MARK: &[u8] = b"\0sigstore-json\n";

/// What precedes a simple signature that says so.
const SIMPLE_MARK: &[u8] = b"\0simple-signing\n";

/// A signature, not looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// An OpenPGP message.
    Simple(Vec<u8>),
    /// cosign's.
    Sigstore(Attachment),
}

impl Signature {
    /// Takes a file apart, as the transports `dir` and lookaside have it.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        if let Some(json) = file.strip_prefix(SIGSTORE_MARK) {
            let attachment =
                serde_json::from_slice(json).map_err(Error::json("read a signature"))?;
            return Ok(Self::Sigstore(attachment));
        }
        if let Some(message) = file.strip_prefix(SIMPLE_MARK) {
            return Ok(Self::Simple(message.to_owned()));
        }
        // OpenPGP's packets have their first bit set.
        match file.first() {
            Some(byte) if byte & 0x80 != 0 => Ok(Self::Simple(file.to_owned())),
            Some(_) => Err(Error::Invalid("it is no signature".to_owned())),
            None => Err(Error::Invalid("the signature is empty".to_owned())),
        }
    }

    /// As [`Signature::parse`] takes it.
    pub fn to_file(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Simple(message) => Ok(message.clone()),
            Self::Sigstore(attachment) => {
                let mut file = SIGSTORE_MARK.to_owned();
                serde_json::to_writer(&mut file, attachment)
                    .map_err(Error::json("write a signature"))?;
                Ok(file)
            }
        }
    }
}

/// The signatures of a manifest beside its registry.
pub(super) async fn lookaside(
    registries: &RegistriesD,
    access: &Access,
    image: &Reference,
    manifest: &Digest,
) -> Result<Vec<Signature>, Error> {
    let repository = registries.lookaside(image, For::Reading)?;
    let mut found = Vec::new();
    loop {
        let url = signature_url(&repository, manifest, found.len() + 1);
        let file = match url.scheme() {
            "file" => read(&url)?,
            _ => download(access, &url).await?,
        };
        let Some(file) = file else {
            return Ok(found);
        };
        if found.len() == LIMIT {
            return Err(Error::Invalid(format!(
                "{repository} has more than {LIMIT} signatures for one manifest"
            )));
        }
        let signature = Signature::parse(&file)
            .map_err(|error| Error::Invalid(format!("signature {url}: {error}")))?;
        found.push(signature);
    }
}

fn read(url: &Url) -> Result<Option<Vec<u8>>, Error> {
    let path = url
        .to_file_path()
        .map_err(|()| Error::Invalid(format!("{url} is no path")))?;
    let failed = |error| Error::io(format!("read signature {}", path.display()))(error);
    match fs::metadata(&path) {
        Ok(found) if !found.is_file() || found.len() > SIZE_LIMIT as u64 => Err(Error::Invalid(
            format!("signature {} is no small file", path.display()),
        )),
        Ok(_) => fs::read(&path).map(Some).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

async fn download(access: &Access, url: &Url) -> Result<Option<Vec<u8>>, Error> {
    let request = Request {
        insecure: access.is_insecure(&crate::http::authority(url)),
        ..Request::get(url.clone())
    };
    let (response, _) = access.transport().send(&request).await?;
    match response.status() {
        StatusCode::NOT_FOUND => Ok(None),
        StatusCode::OK => {
            let bytes = read_limited(response, SIZE_LIMIT).await.map_err(|error| {
                Error::Registry(format!(
                    "signature {url}: {}",
                    crate::http::explain(&error, url).message
                ))
            })?;
            if bytes.len() > SIZE_LIMIT {
                return Err(Error::Invalid(format!("signature {url} is too large")));
            }
            Ok(Some(bytes))
        }
        status => Err(Error::Registry(format!(
            "signature {url}: the server answered {status}"
        ))),
    }
}

/// The signatures of a manifest in its own repository.
pub(super) async fn attachments(
    repository: &Repository,
    manifest: &Digest,
) -> Result<Vec<Signature>, Error> {
    let fetched = match repository.manifest(&tag(manifest)).await {
        Ok(fetched) => fetched,
        Err(Error::NotInRegistry(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let Document::Manifest(attached) =
        Document::parse(&fetched.bytes, fetched.media_type.as_deref())?
    else {
        return Err(Error::Invalid(format!(
            "{}:{} is no image of signatures, but an index",
            repository.name(),
            tag(manifest)
        )));
    };
    let layers = attached.layers();
    let signatures = layers
        .iter()
        .filter(|layer| layer.media_type().as_ref() == MEDIA_TYPE)
        .take(LIMIT);
    let mut found = Vec::new();
    for layer in signatures {
        let digest = Digest::try_from(layer.digest())?;
        let annotations = layer.annotations().clone().unwrap_or_default();
        found.push(Signature::Sigstore(Attachment {
            media_type: MEDIA_TYPE.to_owned(),
            payload: repository.document(&digest, SIZE_LIMIT).await?,
            annotations: annotations.into_iter().collect(),
        }));
    }
    Ok(found)
}
